"""Windows of a series: a table whose rows are moments, as one of the stretches that predict what follows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gridc.arrays.axes import Axes
from gridc.arrays.conversion import Array
from gridc.data.reading import Reading, Series
from gridc.data.table import MISSING, Table, is_word, word
from gridc.data.vocabularies import advice
from gridc.errors import DataError, UsageError, listed
from gridc.language.shapes import input_axes, output_axes
from gridc.language.spec import GridSpec


class Windows(NamedTuple):
    """A table with a window in each row, the names of its columns for every input and output, how many windows before those that
    are held out share a moment with them, and what to say of it."""

    table: Table
    inputs: dict[str, list[str]]
    outputs: dict[str, list[str]]
    apart: int
    notes: list[str]


def windows(
    table: Table, how: Reading, series: Series, inputs: Mapping[str, list[str]], outputs: Mapping[str, list[str]]
) -> Windows:
    """Cut a table of moments into windows of ``series.window`` rows, or as many as the spec has steps, the last at its end.

    An input takes a window's rows (one that is no sequence its last row), an output those ``series.ahead`` later: of a sequence
    all of them, else the last alone.  DataError where no window fits.  Predictions take the rows to the very last."""
    spec, ahead = how.spec, series.ahead
    sequences, steps = _sequences(spec)
    window = steps if isinstance(steps, int) else series.window
    starts = _starts(table, series, window, ahead * how.targets)
    if not len(starts):
        later = f" and {ahead} after them" if ahead and how.targets else ""
        by = f", by {series.by}," if series.by else ""
        raise DataError(f"{table.path}{by} has fewer rows than a window of {window}{later}: "
                        f"{'the longest series' if series.by else 'it'} has {_longest(table, series.by)}.")  # fmt: skip
    columns: dict[str, Any] = {}

    def cut(name: str, names: list[str], axes: Axes, later: int = 0) -> list[str]:
        made: list[str] = []
        for column in names:
            key = f"{column}, {later} later" if later else column
            made.append(f"{key}, for '{name}'" if key in columns else key)
            key = made[-1]
            values = _values(table, how, name, column, axes)
            views = np.lib.stride_tricks.sliding_window_view(values[later:], window)[starts]
            columns[key] = list(views) if name in sequences else views[:, -1].tolist()
        return made

    given = {name: cut(name, inputs[name], axes) for name, axes in input_axes(spec).items()}
    wanted = {name: cut(name, outputs[name], axes, ahead) for name, axes in output_axes(spec).items() if how.targets}
    shared = -(-window // series.stride) if any(name in sequences for name in spec.outputs) else 0
    begins = (starts + table.first).tolist()
    told = [f"{table.path}: its first {starts[0]:,} rows took no part."] if starts[0] and not series.by else []
    return Windows(replace(table, columns=columns, begins=begins, label=None), given, wanted, shared, told)


def _sequences(spec: GridSpec) -> tuple[set[str], int | str]:
    """Find the inputs and outputs that a series runs along, and of how many steps: the dimension of the first input.

    UsageError where an array has other axes, too."""
    over = {**{name: x.over for name, x in spec.inputs.items()}, **{name: o.axes for name, o in spec.outputs.items()}}
    along = next((dimensions[0] for dimensions in over.values() if dimensions), None)
    for name, dimensions in over.items():
        if along is None or any(d != along for d in dimensions):
            own = "runs along none" if along is None else f"has a value at each cell of {listed(spec.names(dimensions), 'and')}"
            raise UsageError(f"'series' needs inputs that run along one dimension, and '{name}' of '{spec.name}' {own}.")
    return {name for name, dimensions in over.items() if dimensions}, spec.dimensions[along or 0].size


def _runs(table: Table, by: str | None) -> list[tuple[int, int]]:
    """List where each series begins and ends: rows of the same word, one after another."""
    rows = len(next(iter(table.columns.values())))
    if by is None:
        return [(0, rows)]
    names = [word(value) for value in table.column(by)]
    bounds = [0, *(row for row in range(1, rows) if names[row] != names[row - 1]), rows]
    return list(pairwise(bounds))


def _longest(table: Table, by: str | None) -> int:
    return max(end - begin for begin, end in _runs(table, by))


def _starts(table: Table, series: Series, window: int, later: int) -> Array:
    """List the rows that windows begin at, ``[windows]`` int64, counted back from the end of each series."""
    found = [np.arange(end - later - window, begin - 1, -series.stride)[::-1] for begin, end in _runs(table, series.by)]
    return np.concatenate(found).astype(np.int64)


def _values(table: Table, how: Reading, name: str, column: str, axes: Axes) -> Array:
    """Read a whole column, ``[rows]``: float64, int64 ids, or words."""
    if axes.real:
        return table.numbers(column)
    held = table.column(column)
    for row, value in enumerate(held):
        if value in MISSING:
            table.fail(row, column, " is empty, expected a word or a number.")
    form = how.fixed(name)
    if form == "numbers" or (form is None and column not in table.declared and not any(map(is_word, held))):
        return table.whole(column, advice(name))
    return np.array([word(value) for value in held])
