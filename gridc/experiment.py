"""A spec's experiment: its training block with what the command line changes, its data, and the training itself."""

from __future__ import annotations

import contextlib
import io
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
from gridc.errors import SpecError, UsageError, listed, nearest
from gridc.language.spec import GridSpec
from gridc.options import Option
from gridc.resources import located
from gridc.scheduling.check import parse
from gridc.tables import tasks
from gridc.tables.training_block import Budget, Data, Stop, Training
from gridc.tables.update_rules import OPTIMIZERS
from gridc.training import checkpoint
from gridc.training.board import Board
from gridc.training.progress import Style
from gridc.training.ranks import ALONE, Ranks
from gridc.training.world import joined

if TYPE_CHECKING:
    from gridc.grid import Grid
    from gridc.training.history import History
    from gridc.training.loop import Callback


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
    dtype: Literal["float32", "float64"] = "float32",
    progress: Style = "auto",
    callbacks: Iterable[Callback] = (),
    tensorboard: bool = False,
    devices: int | None = None,
    distributed: str | None = None,
    ranks: Any = "auto",
) -> Trained:
    """Do what the spec's ``training:`` block says, with these changes to it (see ``changed``).

    The folder is the one given, else the block's ``save``, else the first free one of ``runs/NAME``, ``runs/NAME-2``...;
    to resume, the last of these that was trained in.  With ``tensorboard`` its figures
    are written there, too.  ``devices`` is ``gridc.compile``'s; ``distributed`` is how this process joins others
    (``gridc.device.processes.join``), whose devices are all taken,
    and of which the first one writes.  ``ranks`` is what ``fit`` takes; examples that only some of them can read are sent to the
    others.  Raises what reading, compiling and ``fit`` raise.
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
        there = who.first_does(chosen)
        return _run(spec, there, resume, overwrite, backend, lowering, dtype, progress, callbacks, tensorboard, devices or 1,
                    who)  # fmt: skip


def _run(
    spec: GridSpec, there: Path, resume: bool, overwrite: bool, backend: str, lowering: Literal["auto", "plain", "fused"],
    dtype: Literal["float32", "float64"], progress: Style, callbacks: Iterable[Callback], tensorboard: bool, devices: int,
    ranks: Ranks,
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

    board = Board(there / "tensorboard") if tensorboard and ranks.first else None
    grid = gridc.compile(spec, backend=backend, lowering=lowering, dtype=dtype, seed=block.seed, devices=devices)
    with contextlib.nullcontext() if board is None else contextlib.closing(board):
        history = fit(
            grid, train, held_out, optimizer={block.optimizer.name: block.optimizer.options}, batch=block.batch,
            budget=block.budget, stop=block.stop, seed=block.seed, clip=block.clip,
            schedule=None if block.schedule is None else {block.schedule.name: block.schedule.options},
            weights=block.weights, class_weights=block.class_weights, evaluate=block.evaluate, checkpoint=block.checkpoint,
            keep=block.keep, standardize=block.standardize, folder=there, resume=resume, overwrite=overwrite,
            callbacks=[*callbacks, *([] if board is None else [board])], progress=progress, ranks=ranks,
        )  # fmt: skip
    return Trained(spec, grid, history, there, train, held_out)


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
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096
    yaml.preserve_quotes = True
    page: Any = yaml.load(spec.source.page)  # pyright: ignore[reportUnknownMemberType]  # it has no stubs
    if "budget" not in changes and set(changes) & set(Budget.model_fields):
        page["training"]["budget"] = {}  # a limit on the command line stands for the whole budget
    for name, value in changes.items():
        path = _place(block, name)
        inner = page["training"]
        for key in path[:-1]:
            if isinstance(inner.get(key), str):
                inner[key] = {"file": inner[key]} if key == "data" else {inner[key]: {}}
            elif inner.get(key) is None:
                inner[key] = {}
            inner: Any = inner[key]
            if not hasattr(inner, "items"):
                raise UsageError(f"'{name}' names something inside '{key}', which is {inner!r} and has nothing in it.")
        inner[path[-1]] = value
    _resize(page, block)
    text = io.StringIO()
    yaml.dump(page, text)  # pyright: ignore[reportUnknownMemberType]  # it has no stubs
    try:
        found = parse(text.getvalue())
    except SpecError as error:
        place = f"{spec.source.path} (as changed)"
        raise SpecError(error.sentence, path=place, line=error.line, column=error.column, text=error.text,
                        width=error.width) from None  # fmt: skip
    # Files that the spec names still lie beside it.
    return replace(found, source=replace(found.source, path=spec.source.path))


def _place(block: Training, name: str) -> list[str]:
    """Find the keys under ``training`` that a change's name stands for."""
    first, _, rest = name.partition(".")
    options: dict[str, tuple[Option, ...] | None] = {
        "task": block.task and tasks.TASKS[block.task.name].options,
        "optimizer": OPTIMIZERS[block.optimizer.name].options,
    }
    chosen = {"task": block.task and block.task.name, "optimizer": block.optimizer.name}
    if rest and first in chosen and chosen[first] and rest in _names(options[first]):
        return [first, str(chosen[first]), rest]
    if rest:
        return name.split(".")
    if name in type(block).model_fields:
        return [name]
    for key, fields in (("budget", Budget.model_fields), ("stop", Stop.model_fields)):
        if name in fields:
            return [key, name]
    for key, found in options.items():
        if name in _names(found):
            return [key, str(chosen[key]), name]
    known = [*type(block).model_fields, *Budget.model_fields, *Stop.model_fields,
             *(option for found in options.values() for option in _names(found))]  # fmt: skip
    offer = nearest(name, known) or f"; it has {listed(known, 'and')}"
    raise UsageError(f"The training block has no '{name}'{offer}")


def _names(options: tuple[Option, ...] | None) -> list[str]:
    return [option.name for option in options or ()]


def _resize(page: Any, block: Training) -> None:
    """Give the inputs, outputs and dimensions whose size was the task's the size that it has now."""
    if block.task is None:
        return
    task = tasks.TASKS[block.task.name]
    now = page["training"]["task"]
    if not isinstance(now, Mapping) or block.task.name not in now:
        return
    before = task.sizes(block.task.options)
    try:
        after = task.sizes({**{option.name: option.default for option in task.options}, **(now[block.task.name] or {})})
    except (TypeError, ValueError, ArithmeticError):
        return  # the option does not fit, which reading the page will say at its place
    for key, size in before.items():
        holders = [page["dimensions"]] if key == "dimensions" else [*page["inputs"].values(), *page["outputs"].values()]
        for holder in holders:
            for name in holder if key == "dimensions" else (key,):
                if holder.get(name) == size:
                    holder[name] = after[key]
