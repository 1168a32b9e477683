"""Columns of a table as the arrays of a spec: numbers, words with their vocabulary, sequences in a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc.arrays.axes import Axes
from gridc.arrays.dataset import Array, Dataset
from gridc.data.text import ids, symbols, vocabulary
from gridc.errors import DataError, listed, nearest
from gridc.language.shapes import input_axes, output_axes

if TYPE_CHECKING:
    from gridc.data.reading import Reading

Columns = Mapping[str, Sequence[Any]]


def from_columns(columns: Columns, path: Path, how: Reading) -> Dataset:
    """Make a data set of a table with one example a row.

    An input or output takes the column of its name, the columns NAME_0, NAME_1..., or those that ``how`` names; a single
    input takes all that nothing else does.  Words become ids of a vocabulary that is kept; a cell of text or a list is a
    sequence of its own length.
    """
    table = _Table(columns, path, how)
    lengths = {symbol: table.numbers(how.lengths.get(symbol, symbol), "iu")
               for symbol in how.spec.symbols if how.lengths.get(symbol, symbol) in columns or symbol in how.lengths}  # fmt: skip
    used = {how.lengths.get(symbol, symbol) for symbol in lengths}
    chosen = {name: table.chosen("output", name, how.outputs.get(name)) for name in how.spec.outputs}
    missing = [name for name, found in chosen.items() if not found]
    if missing and how.targets:
        raise DataError(f"{path} has no column for the output '{missing[0]}'; it has {listed(columns, 'and')}"
                        f"{nearest(missing[0], columns) or _naming('outputs', missing[0], columns)}")  # fmt: skip
    used |= {column for found in chosen.values() for column in found}
    inputs: dict[str, Array] = {}
    for name, axes in input_axes(how.spec).items():
        found = table.chosen("input", name, how.inputs.get(name))
        if not found and len(how.spec.inputs) == 1:
            found = [column for column in columns if column not in used]
        if not found:
            raise DataError(f"{path} has no column for the input '{name}'; it has {listed(columns, 'and')}"
                            f"{nearest(name, columns) or _naming('inputs', name, columns)}")  # fmt: skip
        inputs[name] = table.array(f"input '{name}'", name, found, axes)
    targets = {} if missing or not how.targets else {name: table.array(f"output '{name}'", name, chosen[name], axes)
                                  for name, axes in output_axes(how.spec).items()}  # fmt: skip
    for symbol, found in table.lengths.items():
        lengths.setdefault(symbol, found)
    return Dataset(inputs, targets, lengths, table.vocabularies)


class _Table:
    """A table being read, with the vocabularies and lengths that come to light on the way."""

    def __init__(self, columns: Columns, path: Path, how: Reading):
        self.columns, self.path, self.how = columns, path, how
        self.vocabularies = dict(how.vocabularies)
        self.lengths: dict[str, Array] = {}

    def chosen(self, what: str, name: str, given: str | list[str] | None) -> list[str]:
        """List the columns of an input or output, in order; none where there is none of its name."""
        if given is not None:
            names = [given] if isinstance(given, str) else given
            for column in names:
                if column not in self.columns:
                    raise DataError(f"{self.path} has no column '{column}' for the {what} '{name}'; it has "
                                    f"{listed(self.columns, 'and')}{nearest(column, self.columns)}")  # fmt: skip
            return names
        if name in self.columns:
            return [name]
        numbered: list[str] = []
        while f"{name}_{len(numbered)}" in self.columns:
            numbered.append(f"{name}_{len(numbered)}")
        return numbered

    def array(self, what: str, name: str, found: list[str], axes: Axes) -> Array:
        """Make the array of an input or output, ``[rows, ...]``."""
        first = self.columns[found[0]]
        if len(found) == 1 and first and _sequence(first[0], axes):
            return self._sequences(what, name, found[0], axes)
        if axes.real:
            array = np.stack([self.numbers(column, "f") for column in found], axis=1)
        elif axes.below is not None and any(not _number(value) for value in first):
            array = np.stack([self._words(name, column, axes.below) for column in found], axis=1)
        else:
            array = np.stack([self.numbers(column, "iu") for column in found], axis=1)
        if not axes.axes:
            return array[:, 0]
        free = sum(not isinstance(axis, int) for axis in axes.axes)
        sizes = [axis if isinstance(axis, int) else -1 for axis in axes.axes]
        try:
            return array.reshape(len(array), *sizes) if free <= 1 else array
        except ValueError:
            expected = " × ".join(map(str, axes.axes))
            raise DataError(f"{self.path}: {what} takes {len(found)} columns ({listed(found[:4], 'and')}"
                            f"{'…' if len(found) > 4 else ''}), expected {expected}.") from None  # fmt: skip

    def numbers(self, column: str, kind: str) -> Array:
        """Read a column as numbers; DataError names the row of the first cell that is none."""
        if column not in self.columns:
            raise DataError(f"{self.path} has no column '{column}'{nearest(column, self.columns)}")
        values = self.columns[column]
        try:
            array = np.array(values, np.float64)
        except (TypeError, ValueError):
            row = next(i for i, value in enumerate(values) if not _number(value))
            raise DataError(f"{self.path}, row {row + 2}, column '{column}': {values[row]!r}, expected a number.") from None
        if kind == "f":
            if not np.isfinite(array).all():
                row = int(np.flatnonzero(~np.isfinite(array))[0])
                raise DataError(f"{self.path}, row {row + 2}, column '{column}': {values[row]!r}, expected a finite number.")
            return array
        if not np.all(np.isfinite(array) & (array == np.floor(array))):
            row = int(np.flatnonzero(~(np.isfinite(array) & (array == np.floor(array))))[0])
            raise DataError(f"{self.path}, row {row + 2}, column '{column}': {values[row]!r}, expected a whole number.")
        return array.astype(np.int64)

    def _words(self, name: str, column: str, size: int) -> Array:
        """Read a column of words as ids: their places in the alphabet, or in the model's vocabulary."""
        values = ["" if value is None else str(value).strip() for value in self.columns[column]]
        if "" in values:
            raise DataError(f"{self.path}, row {values.index('') + 2}, column '{column}' is empty, expected a word.")
        words = self.vocabularies.get(name) or tuple(sorted(set(values)))
        if len(words) > size:
            raise DataError(f"{self.path}: column '{column}' has {len(words)} different words, expected at most {size}.")
        self.vocabularies[name] = words
        table = {word: number for number, word in enumerate(words)}
        for row, value in enumerate(values):
            if value not in table:
                raise DataError(f"{self.path}, row {row + 2}, column '{column}': {value!r}, expected "
                                f"{listed(words[:12])}{nearest(value, words)}")  # fmt: skip
        return np.array([table[value] for value in values], np.int64)

    def _split(self, value: str, row: int, column: str, axes: Axes) -> Array:
        """Numbers with spaces between them, as steps of as many features as the spec has."""
        try:
            return np.array(value.split(), np.float64).reshape(-1, int(axes.axes[-1] or 1))
        except ValueError:
            raise DataError(f"{self.path}, row {row + 2}, column '{column}': {value[:40]!r}, expected numbers with spaces "
                            f"between them, {axes.axes[-1]} for each step.") from None  # fmt: skip

    def _sequences(self, what: str, name: str, column: str, axes: Axes) -> Array:
        """Read a column of texts or lists as one array, filled up with zeros, and the lengths under the axis's symbol."""
        values = self.columns[column]
        where = f"{self.path}, column '{column}'"
        if isinstance(values[0], str) and axes.real:
            items = [self._split(value, row, column, axes) for row, value in enumerate(values)]
        elif isinstance(values[0], str):
            cut = [symbols(value, self.how.by) for value in values]
            size = axes.below or 0
            words = self.vocabularies.get(name) or vocabulary(cut, size, self.how.by, where)
            self.vocabularies[name] = words
            items = [ids(one, words, where) for one in cut]
        else:
            items = [np.asarray(value) for value in values]
        lengths = np.array([len(item) for item in items], np.int64)
        if not lengths.all():
            raise DataError(f"{where}: row {int(np.argmin(lengths)) + 2} is empty, expected a sequence for {what}.")
        symbol = axes.axes[0]
        if isinstance(symbol, str):
            held = self.lengths.setdefault(symbol, lengths)
            if (odd := np.flatnonzero(held != lengths)).size:
                raise DataError(f"{where}: row {odd[0] + 2} has {lengths[odd[0]]} steps, expected the {held[odd[0]]} "
                                "of the sequence beside it.")  # fmt: skip
        elif len(set(lengths.tolist())) > 1:
            raise DataError(f"{where} holds sequences of different lengths, expected {symbol} steps for {what}.")
        shape = (len(items), int(lengths.max()), *items[0].shape[1:])
        whole = np.zeros(shape, np.float64 if axes.real else np.int64)
        for row, item in enumerate(items):
            whole[row, : len(item)] = item
        return whole


def _naming(part: str, name: str, columns: Columns) -> str:
    """How a spec says which columns are meant."""
    return f". Name the columns in the spec: 'data: {{file: …, {part}: {{{name}: [{', '.join(list(columns)[:2])}, …]}}}}'."


def _number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _sequence(value: Any, axes: Axes) -> bool:
    """Whether a cell holds a sequence: a list, or text where the spec has a length or the text is no number."""
    if not isinstance(value, str):
        return np.ndim(value) > 0
    return bool(axes.axes) and (isinstance(axes.axes[0], str) or (not axes.real and not _number(value)))
