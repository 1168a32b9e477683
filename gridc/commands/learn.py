"""``train``: the experiment of a spec's training block."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridc.commands.output import as_json, extra_options, print_json, say, settings_of, shortened, with_schedule, with_threads
from gridc.commands.shards import tiles
from gridc.errors import UsageError
from gridc.plain_text import figure

if TYPE_CHECKING:
    from gridc.experiment import Trained
    from gridc.language.spec import GridSpec

DRAWN = 3_000
"""Steps beyond which a schedule is not drawn into the training's folder: the page would take minutes to open."""


@click.command(
    no_args_is_help=True, context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    options_metavar="[OPTIONS] [--KEY VALUE]...",
)  # fmt: skip
@click.argument("spec")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the training block; may be repeated.")
@click.option("--folder", "--save", metavar="FOLDER", help="Where everything goes (default: runs/NAME).")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, as if it had never stopped.")
@click.option("--overwrite", is_flag=True, help="Replace the training that the folder holds.")
@click.option("--seed", type=click.IntRange(0), help="Of the weights, the data and their order.")
@click.option("--backend", default="auto", show_default=True, help="python, c, numba or jax.")
@click.option("--lowering", type=click.Choice(["auto", "plain", "fused"]), default="auto", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32", show_default=True)
@click.option("--devices", type=click.IntRange(1), help="How many share each batch, on jax (default: 1, or all processes').")
@click.option("--distributed", metavar="N/COUNT@HOST:PORT", help="Join as process N, from 0, of so many; 0 listens there.")
@click.option("--shard", metavar="DIMENSION", help="Cut the grid: each rank of an mpiexec has a block of its cells.")
@click.option("--tile", multiple=True, metavar="DIMENSION=NUMBER", help="With --shard: hand vectors on after so many cells.")
@with_threads
@with_schedule
@click.option("--tensorboard", is_flag=True, help="Also write the figures for TensorBoard, into the folder.")
@click.option("--progress", type=click.Choice(["auto", "bar", "lines", "none"]), default="auto", show_default=True,
              help="A bar on a terminal, lines elsewhere.")  # fmt: skip
@as_json
@click.pass_context
def train(
    ctx: click.Context, spec: str, settings: tuple[str, ...], folder: str | None, resume: bool, overwrite: bool, seed: int | None,
    backend: str, lowering: Any, dtype: Any, devices: int | None, distributed: str | None,
    shard: str | None, tile: tuple[str, ...], asked: str | None, tensorboard: bool, progress: Any, json_: bool,
) -> None:  # fmt: skip
    """Do the experiment of a spec's training block.

    Every key of the block, of its budget and stopping rule, and every option of its task and optimizer can be changed:
    --bits 16, --batch 64, --epochs 5, --learning-rate 0.01, --optimizer adam, --held-out 0.1.
    """
    changes = {**settings_of(settings), **extra_options(ctx.args, ctx.command)}
    if seed is not None:
        changes["seed"] = seed
    if resume and overwrite:
        raise UsageError("--resume goes on with a training and --overwrite replaces it; give one of them.")
    if tile and shard is None:
        raise UsageError("--tile says where a grid that is cut hands vectors on, and --shard along which dimension: give both.")
    if shard is not None and (devices or distributed is not None):
        raise UsageError("--shard cuts the grid for the processes of an mpiexec, without --devices and --distributed.")
    from gridc import experiment
    from gridc.scheduling import check
    from gridc.training.ranks import one_voice
    from gridc.training.world import joined

    ranks = joined("auto" if distributed is None else "alone")
    with one_voice(ranks), ranks.guard():
        read = ranks.everywhere(lambda: check.asked(experiment.changed(check.read(spec), changes), asked))
        block = experiment.block_of(read)
        tiles_ = tiles(tile)
        if shard is not None:
            experiment.asked_cut(read, ranks, shard, tiles_)
        what = block.task.name if block.task is not None else block.data.file if block.data is not None else "data"
        shared = f" on {ranks}" if ranks.size > 1 else ""
        if ranks.first:
            say(f"gridc: '{read.name}' learns {what}{_told(changes)}{shared}; building its functions (longer the first time) …")
        import numpy as np

        # The loop itself says where a number became infinite; NumPy's warning would come first, and say less.
        with np.errstate(over="ignore", invalid="ignore"):
            done = experiment.run(read, folder=folder, resume=resume, overwrite=overwrite, backend=backend, lowering=lowering,
                              dtype=dtype, progress=progress, tensorboard=tensorboard, devices=devices,
                              distributed=distributed, ranks=ranks, shard=shard, tile=tiles_)  # fmt: skip
    if not ranks.first or not done.folder.exists():  # which was one process's of several, and the first one reports
        return
    files = _files(done)
    if json_:
        print_json({**done.history.to_json(), "seed": block.seed, "files": files, "sizes": experiment.sizes(done.train)})
        return
    click.echo(_report(done, files))


def _told(changes: Mapping[str, Any]) -> str:
    return " with " + ", ".join(f"{name} {value}" for name, value in changes.items()) if changes else ""


def _files(done: Trained) -> dict[str, str]:
    """Draw the schedule into the folder; returns what lies there, by what it is."""
    from gridc import experiment
    from gridc.commands.schedule import draw_into
    from gridc.scheduler import schedule

    sizes: dict[str, Any] = experiment.sizes(done.train)
    plan = schedule(done.spec, **sizes)
    if plan.work <= DRAWN:
        draw_into(done.folder, plan)
    kinds = {"model": "model.grid", "curve": "curve.png", "figures": "metrics.jsonl", "schedule": "schedule.svg",
             "explorer": "schedule.html", "board": "tensorboard"}  # fmt: skip
    return {kind: str(done.folder / name) for kind, name in kinds.items() if (done.folder / name).exists()}


def _report(done: Trained, files: Mapping[str, str]) -> str:
    history, spec = done.history, done.spec
    final = history.kept or history.records[-1]
    kept = ""
    if history.restored and final != history.records[-1]:
        told_by = f"{'held-out ' * bool(final.held_out)}{history.monitor}"
        kept = f" The best weights, those of step {final.step:,} by their {told_by}, were kept."
    held = final.held_out or final.outputs
    where = f"{len(done.held_out):,} held-out examples" if done.held_out is not None else "the examples that it was trained on"
    figures = ", ".join(f"{name} {figure(one)}" for name, one in held.items())
    rate = history.samples / history.seconds if history.seconds else 0.0
    lines = [
        "",
        f"{spec.name}: {figures} on {where}",
        f"  {history.reason}{kept} {history.samples:,} samples in {shortened(history.seconds)} ({rate:,.0f} a second), "
        f"after {shortened(history.compile_seconds)} of compiling.",
        "",
        *(f"  {kind:<10} {path}" for kind, path in files.items()),
        "",
        "Next:",
        *(f"  {line}" for line in next_commands(done.folder, spec)),
    ]
    return "\n".join(lines)


def next_commands(folder: Path, spec: GridSpec) -> list[str]:
    """Suggest what to try after a training."""
    from gridc.experiment import beside
    from gridc.training.checkpoint import MODEL

    model, data = folder / MODEL, None if spec.training is None else spec.training.data
    lines = [f"gridc score {model}", f"gridc curve {folder}", f"gridc inspect {model}", f"gridc show {spec.source.path}"]
    if data is not None and data.file.endswith(".txt"):
        lines.insert(1, f"gridc sample {model}")
    elif data is not None:
        lines.insert(1, f"gridc predict {model} {beside(spec, data.file)} -o predictions.csv")
    return lines
