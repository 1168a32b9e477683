"""A spec's experiment: its training block with what the command line changes, its data, and the training itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from gridc.arrays.dataset import Dataset
from gridc.arrays.signature import Signature
from gridc.data.describing import described
from gridc.data.files import read as read_data
from gridc.data.fitting import for_spec
from gridc.data.reading import Reading, Series
from gridc.errors import SpecError, UsageError
from gridc.language.rewriting import in_training, rewritten
from gridc.language.spec import GridSpec
from gridc.resources import located
from gridc.scheduling.check import parse
from gridc.scheduling.tiles import Cut, named
from gridc.tables import tasks
from gridc.tables.training_block import Data, Training
from gridc.training import checkpoint
from gridc.training.board import Board
from gridc.training.progress import Style
from gridc.training.ranks import ALONE, Ranks
from gridc.training.world import joined

if TYPE_CHECKING:
    from gridc.grid import Grid
    from gridc.training.history import History
    from gridc.training.loop import Callback
    from gridc.training.shards import Shards
    from gridc.training.world import World


@dataclass(frozen=True)
class Trained:
    """What ``gridc train`` leaves: the grid with its weights, the history, the folder, and the data."""

    spec: GridSpec
    grid: Grid
    history: History
    folder: Path
    train: Dataset
    held_out: Dataset | None


def run(
    spec: GridSpec,
    changes: Mapping[str, Any] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    backend: str = "auto",
    lowering: Literal["auto", "plain", "fused"] = "auto",
    dtype: Literal["float32", "float64", "bfloat16"] = "float32",
    progress: Style = "auto",
    callbacks: Iterable[Callback] = (),
    tensorboard: bool = False,
    devices: int | None = None,
    distributed: str | None = None,
    ranks: Any = "auto",
    shard: str | None = None,
    tile: Mapping[str, int] | None = None,
) -> Trained:
    """Do what the spec's ``training:`` block says, with these changes to it (see ``changed``).

    The folder is the one given, else the block's ``save``, else the first free one of ``runs/NAME``, ``runs/NAME-2``...;
    to resume, the last of these that was trained in.  With ``tensorboard`` its figures
    are written there, too.  ``devices`` is ``gridc.compile``'s; ``distributed`` is how this process joins others
    (``gridc.device.processes.join``), whose devices are all taken,
    and of which the first one writes.  ``ranks`` is what ``fit`` takes; examples that only some of them can read are sent to the
    others.  With ``shard``, the name of a dimension, each of them has a block of its cells instead of a part of the examples, and
    hands vectors on after every ``tile`` (cells by the names of other dimensions; without, the one that takes least on paper);
    the grid that comes back has this process's part of the weights, and the folder all.
    Raises what reading, compiling and ``fit`` raise.
    """
    spec = changed(spec, changes or {})
    block = block_of(spec)

    def chosen() -> Path:
        place = folder or block.save
        if place is None:
            place = checkpoint.last_folder(spec.name) if resume else checkpoint.free_folder(spec.name)
        return located(place)

    if distributed is not None:
        from gridc.device import processes

        processes.check(block)
        number, every = processes.join(distributed)
        with processes.folder_of(number, chosen()) as own:
            return _run(spec, own, resume, overwrite or number > 0, backend, lowering, dtype, progress if number == 0 else "none",
                        callbacks, tensorboard and number == 0, devices or every, ALONE)  # fmt: skip
    with (who := joined(ranks)).guard():
        if shard is not None:
            asked_cut(spec, who, shard, tile or {})
        there = who.first_does(chosen)
        with who.watched(there / checkpoint.CHECKPOINTS), who.guard():
            return _run(spec, there, resume, overwrite, backend, lowering, dtype, progress, callbacks, tensorboard, devices or 1,
                        who, shard, tile)  # fmt: skip


def _run(
    spec: GridSpec, there: Path, resume: bool, overwrite: bool, backend: str, lowering: Literal["auto", "plain", "fused"],
    dtype: Literal["float32", "float64", "bfloat16"], progress: Style, callbacks: Iterable[Callback], tensorboard: bool,
    devices: int, ranks: Ranks, shard: str | None = None, tile: Mapping[str, int] | None = None,
) -> Trained:  # fmt: skip
    block = block_of(spec)
    if not resume and not overwrite:  # said before the data are read and anything is built
        ranks.first_does(checkpoint.Folder(there).refuse_if_taken)
    train, held_out = ranks.everywhere(lambda: examples(spec))
    if block.data is not None:
        told = "; ".join(f"{name}: {line}" for name, line in described(train).items())
        train = replace(train, notes=(f"{block.data.file}: {told}.", *train.notes))
    import gridc
    from gridc.training.fit import fit

    stage = None
    if shard is not None:
        ranks = _sharded(spec, ranks, shard, tile or {}, train)
        stage = ranks.stage
        train = replace(train, notes=(f"{ranks}.", *train.notes))
    board = Board(there / "tensorboard") if tensorboard and ranks.first else None
    grid = gridc.compile(spec, backend=backend, lowering=lowering, dtype=dtype, seed=block.seed, devices=devices, stage=stage)
    with contextlib.nullcontext() if board is None else contextlib.closing(board):
        history = fit(
            grid, train, held_out, optimizer={block.optimizer.name: block.optimizer.options}, batch=block.batch,
            budget=block.budget, linear_start=block.linear_start, stop=block.stop, seed=block.seed, clip=block.clip,
            schedule=None if block.schedule is None else {block.schedule.name: block.schedule.options},
            weights=block.weights, class_weights=block.class_weights, evaluate=block.evaluate, checkpoint=block.checkpoint,
            keep=block.keep, standardize=block.standardize, folder=there, resume=resume, overwrite=overwrite,
            callbacks=[*callbacks, *([] if board is None else [board])], progress=progress, ranks=ranks,
        )  # fmt: skip
    return Trained(spec, grid, history, there, train, held_out)


def asked_cut(spec: GridSpec, ranks: Ranks, along: str, tile: Mapping[str, int]) -> Cut:
    """Give the cut that is asked for; UsageError where there are no ranks, or no such dimensions."""
    if ranks.size == 1:
        raise UsageError("--shard cuts a grid for several processes; start them with: mpiexec -n 2 gridc train …")
    return named(spec, ranks.size, along, tile)


def _sharded(spec: GridSpec, ranks: Ranks, along: str, tile: Mapping[str, int], data: Dataset) -> Shards:
    """Make the ranks that share the grid; UsageError where the dependences forbid it for the sizes of the largest example."""
    from gridc.insight.network import recalled
    from gridc.insight.sharding import shard
    from gridc.training.shards import Shards

    block, largest = block_of(spec), sizes(data)

    def chosen() -> Cut:
        whole = spec.sizes({**dict.fromkeys(spec.symbols, 1), **largest})
        made = shard(spec, whole, ranks.size, along, tile, block.batch, recalled())
        return Cut(made.dimension, ranks.size, tuple(made.tile.items()))

    return Shards(cast("World", ranks), spec, ranks.first_does(chosen))


def sizes(data: Dataset) -> dict[str, int]:
    """Find the size of every symbol in examples: the longest one's."""
    found: dict[str, int] = {}
    for name, axes in data.input_axes.items():
        shape = data.inputs[name].shape[1:]
        found |= {axis: int(size) for axis, size in zip(axes.axes, shape, strict=False) if isinstance(axis, str)}
    return found


def block_of(spec: GridSpec) -> Training:
    """Return the spec's training block; UsageError where it has none."""
    if spec.training is None:
        raise UsageError(f"'{spec.name}' has no training block; add one, such as 'training: {{task: parity}}'.")
    return spec.training


def examples(
    spec: GridSpec, *, vocabularies: Mapping[str, tuple[str, ...]] | None = None, signature: Signature | None = None
) -> tuple[Dataset, Dataset | None]:
    """Make or read what the training block trains on and holds out, fitted to the spec.

    For a model that was trained give its ``vocabularies`` and its ``signature``, so that files are read as they were then."""
    block = block_of(spec)
    if block.task is not None:
        parts = tasks.make(block.task.name, block.task.options, held_out=block.held_out, seed=block.seed)
        return for_spec(parts[0], spec), None if parts[1] is None else for_spec(parts[1], spec)
    data = cast(Data, block.data)
    found = read_data(beside(spec, data.file), reading(spec, vocabularies=vocabularies, signature=signature))
    if data.held_out is None:
        return found.split(block.held_out, block.seed)
    return found, read_data(beside(spec, data.held_out), reading(spec, vocabularies=found.vocabularies,
                                                                      signature=found.signature))  # fmt: skip


def reading(
    spec: GridSpec, *, vocabularies: Mapping[str, tuple[str, ...]] | None = None, signature: Signature | None = None,
    targets: bool = True,
) -> Reading:
    """How a data file for this spec is read: as the ``data`` block says, where there is one.

    For a model that was trained give its ``vocabularies`` and its ``signature``, and for predictions ``targets=False``.
    """  # fmt: skip
    data: Data | None = spec.training.data if spec.training is not None else None
    given: dict[str, Any] = {}
    if data is not None:
        given = {"inputs": data.inputs, "outputs": data.outputs, "lengths": data.lengths, "words": tuple(data.words),
                 "heading": data.heading}  # fmt: skip
        if data.text is not None:
            given |= {"by": data.text.by, "window": data.text.window}
        if data.series is not None:
            given["series"] = Series(**data.series.model_dump())
        if data.images is not None:
            given |= {"size": data.images.size, "colour": data.images.colour}
    return Reading(spec, vocabularies=vocabularies or {}, signature=signature, targets=targets, **given)


def beside(spec: GridSpec, file: str) -> Path:
    """Resolve a path of the spec's: from the folder that the spec lies in, where it is there, else from where we are."""
    near = Path(spec.source.path).parent / located(file)
    return near if near.exists() else located(file)


def changed(spec: GridSpec, changes: Mapping[str, Any]) -> GridSpec:
    """Return the spec with these changes in its training block; its text is changed with it, comments and all.

    A change names a key of the block (``batch``), a limit of the budget (``epochs``), a rule of ``stop`` (``accuracy``),
    or an option of the task (``bits``) or the optimizer (``learning_rate``); ``task.samples`` says which where two have
    one of that name.  Sizes of inputs and outputs that follow from a task's option change with it.  UsageError for a name
    that nothing has.
    """
    if not changes:
        return spec
    block = block_of(spec)
    return with_text(spec, rewritten(spec.source.page, in_training(block, changes), block))


def with_text(spec: GridSpec, text: str) -> GridSpec:
    """Read the spec's page as it is after a change; SpecError says that it was changed."""
    try:
        found = parse(text)
    except SpecError as error:
        place = f"{spec.source.path} (as changed)"
        raise SpecError(error.sentence, path=place, line=error.line, column=error.column, text=error.text,
                        width=error.width) from None  # fmt: skip
    # Files that the spec names still lie beside it.
    return replace(found, source=replace(found.source, path=spec.source.path))
