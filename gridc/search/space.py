"""The pages of a sweep: what is searched, and the page of one trial, each checked before any is trained."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gridc import experiment
from gridc.errors import DataError, GridcError, SpecError, UsageError, listed
from gridc.language import search
from gridc.language.mistakes import fail
from gridc.language.page import parse
from gridc.language.rewriting import Keys, in_training, rewritten
from gridc.language.spec import GridSpec
from gridc.tables.sweep_block import Range, Sweep
from gridc.training.early_stopping import monitor as told_by

MOST_CHECKED = 64
"""Combinations that are all checked before a sweep begins; of more, every value by itself."""
ROWS = ("task", "optimizer", "schedule", "data")
"""Keys of the training that decide which others there are."""
Chosen = Mapping[str, Any]
"""A value for every key that is searched, by the word that the page has for it."""


@dataclass(frozen=True)
class Axis:
    """One key that is searched."""

    word: str
    tried: Range | tuple[Any, ...]

    @property
    def checked(self) -> tuple[Any, ...]:
        """The values that stand for all: every choice, or both ends of a range."""
        return (self.tried.low, self.tried.high) if isinstance(self.tried, Range) else self.tried

    @property
    def count(self) -> int | None:
        """How many values there are; None where there is no end of them."""
        return search.count(self.tried if isinstance(self.tried, Range) else list(self.tried))


def block_of(spec: GridSpec) -> Sweep:
    """Return the spec's sweep block; UsageError where it has none."""
    if spec.sweep is None:
        raise UsageError(f"'{spec.name}' has no sweep block; add one, such as 'sweep: {{training.learning_rate: {{low: 1e-4, "
                         "high: 1e-2, log: true}}'.")  # fmt: skip
    return spec.sweep


def axes(spec: GridSpec) -> tuple[Axis, ...]:
    """List the keys that are searched, in the page's order."""
    return tuple(Axis(word, tried if isinstance(tried, Range) else tuple(tried)) for word, tried in block_of(spec).space.items())


def seeds(spec: GridSpec) -> tuple[int, ...]:
    """List the seeds that every trial trains with."""
    told = block_of(spec).seeds
    first = experiment.block_of(spec).seed
    return tuple(dict.fromkeys(told)) if isinstance(told, list) else tuple(range(first, first + told))


def page(spec: GridSpec, chosen: Chosen, seed: int | None = None) -> GridSpec:
    """Write the page of one trial, ready to train: with these values, this seed, and without the sweep block.

    Raises SpecError or UsageError where the page cannot take a value."""
    dropped: list[Keys] = [("sweep",), ("training", "save")]
    block, text = experiment.block_of(spec), spec.source.page
    # What chooses a row of a table comes first: a learning rate is then that of the optimizer that was chosen.
    rows = {word: value for word, value in chosen.items() if word.removeprefix("training.") in ROWS or word[:9] != "training."}
    if rows:
        values = parse(text, spec.source.path)[0]
        places = {at: value for word, value in rows.items() for at in search.places(values, block, spec.source, word)}
        text = rewritten(text, places, block, dropped)
        block = experiment.block_of(experiment.with_text(spec, text))
    changes = {word.removeprefix("training."): value for word, value in chosen.items() if word not in rows}
    changes |= {} if seed is None else {"seed": seed}
    return experiment.with_text(spec, rewritten(text, in_training(block, changes), block, dropped))


def check(spec: GridSpec) -> int:
    """Look at the page of every combination where there are few, else of every value, and at both ends of ranges; the number of
    pages that were read.

    Raises SpecError, at the place in the sweep block, for the first that means nothing."""
    found = axes(spec)
    several = math.prod(len(axis.checked) for axis in found)
    combinations = list(_all(found) if several <= MOST_CHECKED else _each(found))
    for chosen in combinations:
        try:
            page(spec, chosen)
        except GridcError as error:
            _refuse(spec, found, chosen, error)
    return len(combinations)


def said(value: Any) -> str:
    """Write a value that is tried as the page does, on one line."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool | type(None)) else str(value)
    return re.sub(r'"([A-Za-z_][\w-]*)"', r"\1", text)


def _all(found: Sequence[Axis]) -> Iterator[Chosen]:
    for values in itertools.product(*(axis.checked for axis in found)):
        yield {axis.word: value for axis, value in zip(found, values, strict=True)}


def _each(found: Sequence[Axis]) -> Iterator[Chosen]:
    first = {axis.word: axis.checked[0] for axis in found}
    yield first
    for axis in found:
        yield from ({**first, axis.word: value} for value in axis.checked[1:])


def _refuse(spec: GridSpec, found: Sequence[Axis], chosen: Chosen, error: GridcError) -> None:
    """Say which value it is that the page cannot take: by itself, or only together with the others."""
    sentence = error.sentence if isinstance(error, SpecError) else str(error)
    for axis in found:
        value = chosen[axis.word]
        try:
            page(spec, {axis.word: value})
        except GridcError as alone:
            if (alone.sentence if isinstance(alone, SpecError) else str(alone)) == sentence:
                which = ("low", "high")[axis.checked.index(value)] if isinstance(axis.tried, Range) else axis.tried.index(value)
                fail(spec.source, ("sweep", axis.word, which), f"'sweep', {axis.word}: the page cannot take {said(value)}: "
                     f"{sentence}")  # fmt: skip
    told = listed((f"{word} {said(value)}" for word, value in chosen.items()), "and")
    fail(spec.source, ("sweep",), f"'sweep': the page cannot take {told} together: {sentence}", key=True)


def monitor(spec: GridSpec) -> Literal["loss", "accuracy"]:
    """Say what a sweep makes best: what its block says, else what tells the training's best weights."""
    block = experiment.block_of(spec)
    held_out = block.held_out > 0 or (block.data is not None and block.data.held_out is not None)
    return block_of(spec).monitor or told_by(spec, block.stop, held_out, bool(block.class_weights))


def files(spec: GridSpec) -> dict[Keys, Path]:
    """Give the files that the training reads, by their places in the page."""
    data = experiment.block_of(spec).data
    named = {} if data is None else {"file": data.file, "held_out": data.held_out}
    return {("training", "data", key): experiment.beside(spec, file) for key, file in named.items() if file}


def check_files(spec: GridSpec) -> None:
    """DataError where one of these files is not there, as on a machine that does not see it."""
    for file in files(spec).values():
        if not file.exists():
            raise DataError(f"There is no {file} here, which '{spec.name}' trains on.")


def movable(spec: GridSpec) -> str:
    """Write the page as it can be read from any folder: with the whole paths of its data."""
    whole = {at: str(file.resolve()) for at, file in files(spec).items()}
    return rewritten(spec.source.page, whole, None) if whole else spec.source.page
