"""``compile``, ``predict``, ``score``, ``sample`` and ``inspect``: what one does with a grid and with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from gridc.arrays.signature import Signature
from gridc.commands.output import (
    as_json,
    print_json,
    say,
    settings_of,
    shortened,
    sizes_of,
    with_schedule,
    with_sizes,
    with_threads,
    write,
)  # fmt: skip
from gridc.errors import UsageError, listed, printable
from gridc.options import LARGEST
from gridc.plain_text import figure, table
from gridc.resources import located

if TYPE_CHECKING:
    from gridc.arrays.dataset import Dataset
    from gridc.language.spec import GridSpec
    from gridc.model_file import Model

MOST_CLASSES = 40
"""Classes up to which a confusion matrix is printed; beyond, only the pairs most often confused."""


def _backend(function: Any) -> Any:
    return click.option("--backend", default="auto", show_default=True, help="python, c, numba or jax.")(function)


@click.command("compile", no_args_is_help=True)
@click.argument("spec")
@with_sizes
@click.option("--batch", type=click.IntRange(1, LARGEST), default=1, show_default=True, help="Examples at once, for the figures.")
@_backend
@click.option("--lowering", type=click.Choice(["auto", "plain", "fused"]), default="auto", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "float64", "bfloat16"]), default="float32", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the weights.")
@with_schedule
@click.option("-o", "--output", metavar="FILE", help="Save the untrained model there.")
@as_json
def compile_(
    spec: str,
    sizes: tuple[str, ...],
    batch: int,
    backend: str,
    lowering: Any,
    dtype: Any,
    seed: int,
    asked: str | None,
    output: str | None,
    json_: bool,
) -> None:
    """Build a spec's functions, and say what they cost: parameters, operations, memory, time."""
    import gridc

    say(f"gridc: building {spec} …")
    grid = gridc.compile(spec, backend=backend, lowering=lowering, dtype=dtype, seed=seed, schedule=asked)
    summary = grid.summary(batch, **sizes_of(sizes))
    if output:
        grid.save(output)
        say(f"Wrote {output}.")
    if json_:
        import dataclasses

        print_json(
            {**dataclasses.asdict(summary), "parameters": summary.parameters, "seconds": sum(grid.compile_seconds.values())}
        )
        return
    click.echo(str(summary))


def _opened(path: str) -> tuple[GridSpec, Model]:
    """Read what a model file holds; the grid is built once the examples for it are there."""
    from gridc import model_file
    from gridc.scheduling import check

    model = model_file.load(path)
    return check.parse(model.spec), model


@click.command(no_args_is_help=True)
@click.argument("model")
@click.argument("file")
@click.option("-o", "--output", metavar="FILE", help="Write there: .csv, .json or .npz (default: CSV on stdout).")
@_backend
@with_threads
@as_json
def predict(model: str, file: str, output: str | None, backend: str, json_: bool) -> None:
    """Predict from a file with a trained model: for classes the class and every probability.

    In CSV a class whose name begins with = + - or @ and is no number gets an apostrophe before it, since a spreadsheet would
    otherwise run it; JSON has the names as they are.
    """
    import gridc
    from gridc import experiment
    from gridc.commands import predictions
    from gridc.data import files

    kind = predictions.kind_of(output, json_)
    spec, held = _opened(model)
    signature = Signature.from_json(held.signature)
    data = files.read(file, experiment.reading(spec, vocabularies=held.vocabularies, signature=signature, targets=False))
    for note in data.notes:
        say(f"gridc: {note}")
    grid = gridc.load(model, backend=backend)
    data = data.ready(grid.dtype)
    found = grid.predict(data.inputs, data.lengths or None)
    write(predictions.written(spec, found, data, held.vocabularies, kind), output, kind)
    if output not in (None, "-"):
        say(f"Wrote {len(data):,} predictions to {output}.")


@click.command(no_args_is_help=True)
@click.argument("model")
@click.argument("examples", required=False, metavar="[FILE|TASK]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the task; may be repeated.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of a task's examples.")
@click.option("--output", "which", metavar="NAME", help="Whose confusion matrix (default: the first output of classes).")
@_backend
@with_threads
@as_json
def score(
    model: str, examples: str | None, settings: tuple[str, ...], seed: int, which: str | None, backend: str, json_: bool
) -> None:
    """Measure a trained model on a file, on a task, or (with neither) on the examples held out of its training."""
    import gridc
    from gridc.training import metrics

    spec, held = _opened(model)
    data, what = _examples(spec, held, examples, settings, seed)
    grid = gridc.load(model, backend=backend)
    for note in data.notes:
        say(f"gridc: {note}")
    figures = metrics.evaluate(grid, data)
    able = [name for name, one in grid.spec.outputs.items() if one.kind in ("classes", "binary")]
    table = metrics.confusion(grid, data, which) if able or which else None
    if json_:
        print_json({"model": model, "examples": len(data), "of": what, "outputs": figures,
                    "confusion": table and {"output": table.output, "labels": table.labels, "counts": table.counts}})  # fmt: skip
        return
    click.echo(f"{grid.spec.name} on {what}: {len(data):,} examples")
    for name, one in figures.items():
        click.echo(f"  {name}: {figure(one)}, loss {one['loss']:.4g}")
    if table is not None:
        click.echo(f"\n{table}" if len(table.labels) <= MOST_CLASSES else f"\n{_confused(table)}")


def _confused(table: Any) -> str:
    """List the pairs of classes most often taken for each other."""
    counts = table.counts.copy()
    size = len(counts)
    counts[range(size), range(size)] = 0
    worst = [divmod(int(i), size) for i in counts.reshape(-1).argsort()[::-1][:10]]
    rows = [f"  {table.labels[a]!r} taken for {table.labels[b]!r}: {counts[a, b]:,}" for a, b in worst if counts[a, b]]
    return "\n".join([f"{table.output}, of {size} classes most often confused:", *(rows or ["  none"])])


def _examples(spec: GridSpec, held: Model, examples: str | None, settings: tuple[str, ...], seed: int) -> tuple[Dataset, str]:
    from gridc import experiment
    from gridc.data import files
    from gridc.data.fitting import for_spec
    from gridc.tables import tasks

    options = settings_of(settings)
    if examples is None:
        if options:
            raise UsageError("--set gives the options of a task; name the task.")
        if spec.training is None:
            raise UsageError(f"'{spec.name}' has no training block to take examples from; "
                             f"name a file or a task: {listed(tasks.TASKS)}.")  # fmt: skip
        train, kept = experiment.examples(spec, vocabularies=held.vocabularies, signature=Signature.from_json(held.signature))
        return (kept, "what was held out of its training") if kept is not None else (train, "what it was trained on")
    if examples in tasks.TASKS and not located(examples).exists():
        block = spec.training
        if block is not None and block.task is not None and block.task.name == examples:
            options = {**block.task.options, **options}
        made, _ = tasks.make(examples, options, held_out=0.0, seed=seed)
        return for_spec(made, spec), f"the task {examples}"
    if options:
        raise UsageError(f"--set gives the options of a task, and '{examples}' is none; "
                         f"the tasks are {listed(tasks.TASKS, 'and')}.")  # fmt: skip
    if not located(examples).exists() and not Path(examples).suffix:
        from gridc.errors import nearest

        raise UsageError(f"There is neither a file nor a task '{examples}'; tasks are {listed(tasks.TASKS, 'and')}"
                         f"{nearest(examples, tasks.TASKS)}")  # fmt: skip
    signature = Signature.from_json(held.signature)
    return files.read(examples, experiment.reading(spec, vocabularies=held.vocabularies, signature=signature)), examples


@click.command(no_args_is_help=True)
@click.argument("model")
@click.option("-p", "--prompt", default="", help="What the text begins with.")
@click.option("-n", "--length", type=click.IntRange(1, LARGEST), default=200, show_default=True, help="Symbols to write.")
@click.option("-t", "--temperature", type=click.FloatRange(0), default=1.0, show_default=True,
              help="Below 1 likelier, 0 always the likeliest.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@_backend
@as_json
def sample(model: str, prompt: str, length: int, temperature: float, seed: int, backend: str, json_: bool) -> None:
    """Write text with a trained language model."""
    import gridc
    from gridc.commands import predictions

    grid = gridc.load(model, backend=backend)
    text = predictions.sampled(grid, grid.vocabularies, prompt, length, temperature, seed)
    if json_:
        print_json({"model": model, "prompt": prompt, "text": text})
    else:
        click.echo(text)


@click.command(no_args_is_help=True)
@click.argument("model")
@click.option("--spec", "spec_", is_flag=True, help="Print the spec's YAML alone.")
@as_json
def inspect(model: str, spec_: bool, json_: bool) -> None:
    """Show what a model file holds: spec, parameters, training record, hashes."""
    read, held = _opened(model)
    if spec_:
        click.echo(held.spec, nl=not held.spec.endswith("\n"))
        return
    arrays = {name: held.parameters[name] for name in sorted(held.parameters)}
    rows = [
        (name, " × ".join(map(str, a.shape)), str(a.dtype), f"{a.mean():.4f}", f"{a.std():.4f}", f"{abs(a).max():.4f}")
        for name, a in arrays.items()
        if a.size
    ]
    total = sum(a.size for a in arrays.values())
    if json_:
        print_json({
            "file": model, "kind": held.kind, "format": held.format, "gridc": held.gridc_version, "sha256": held.sha256,
            "digest": held.digest, "name": read.name, "spec": held.spec, "record": held.record, "count": total,
            "parameters": {n: {"shape": a.shape, "dtype": str(a.dtype), "mean": float(a.mean()), "std": float(a.std())}
                           for n, a in arrays.items() if a.size},
            "vocabularies": held.vocabularies, "signature": held.signature,
        })  # fmt: skip
        return
    size = located(model).stat().st_size
    click.echo(f"{model}: a {held.kind} of '{read.name}', written by gridc {held.gridc_version}, {size:,} bytes")
    click.echo(f"  sha256 {held.sha256} (checked)\n")
    click.echo(f"{read}\n")
    click.echo(table(("parameter", "shape", "type", "mean", "deviation", "largest"), rows))
    click.echo(f"  {total:,} numbers")
    if told := _record(held):
        click.echo(f"\n  training   {told}")
    for name, words in held.vocabularies.items():
        shown = " ".join(map(repr, words[:12])) + (" …" if len(words) > 12 else "")
        click.echo(f"  vocabulary of {printable(name)}: {len(words)} symbols, {shown}")
    for name, columns in Signature.from_json(held.signature).columns.items():
        click.echo(f"  columns of {printable(name)}: {printable(' '.join(columns[:12]))}{' …' * (len(columns) > 12)}")


def _record(held: Model) -> str:
    record = held.record.get("record") or held.record.get("best")
    if not isinstance(record, dict):
        return "" if held.record else "none: these weights are as they were drawn"
    from gridc.training.history import read_record

    one, settings = read_record(record), held.record.get("settings")
    told: dict[str, Any] = cast("dict[str, Any]", settings) if isinstance(settings, dict) else {}
    return printable(f"{told.get('optimizer') or 'unknown optimizer'}, {one.line()}, {shortened(one.seconds)}")
