"""Columns of a table as the arrays of a spec: numbers, words with their vocabulary, sequences in a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from gridc.arrays.axes import Axes, odd_number
from gridc.arrays.conversion import shown
from gridc.arrays.dataset import Array, Dataset
from gridc.arrays.signature import Form, Signature
from gridc.data import cells
from gridc.data.assignment import input_columns, output_columns
from gridc.data.reading import Reading
from gridc.data.table import MISSING, Table, is_word, named, word
from gridc.data.table import shown as shown_cell
from gridc.data.text import ids, symbols, vocabulary
from gridc.data.vocabularies import advice, known, looked_up
from gridc.data.windows import windows
from gridc.errors import DataError, listed
from gridc.language.shapes import input_axes, output_axes


def from_table(table: Table, how: Reading) -> Dataset:
    """Make a data set of a table with one example a row.

    An input or output takes the columns that a training before took; else those that ``how`` names, the column of its name, or
    NAME_0, NAME_1...; a single input takes all that nothing else does.  Words become ids of a vocabulary that is kept; a cell
    of text or a list is a sequence of its own length.  Where the rows are moments of a series, its windows are the examples.
    """
    spec = how.spec
    measured = {} if how.series else how.lengths_in(table.columns, table.path)
    lengths = {symbol: table.whole(column) for symbol, column in measured.items()}
    outputs = output_columns(table, how)
    used = {*measured.values(), *(column for columns in outputs.values() for column in columns)}
    if how.series and how.series.by:
        table.column(how.series.by)
        used.add(how.series.by)
    inputs = input_columns(table, how, used, outputs)
    used |= {column for columns in inputs.values() for column in columns}
    left = [column for column in table.columns if column not in used]
    notes = [f"{table.path}: the {named(left)} took no part."] if left and not how.inputs else []
    taken = {name: tuple(columns) for name, columns in (*inputs.items(), *outputs.items()) if columns}
    apart = None
    if how.series:
        table, inputs, outputs, apart, beyond = windows(table, how, how.series, inputs, outputs)
        notes += beyond
    found = _Arrays(table, how)
    given = {name: found.array(f"input '{name}'", name, inputs[name], axes) for name, axes in input_axes(spec).items()}
    targets = {name: found.array(f"output '{name}'", name, outputs[name], axes)
               for name, axes in output_axes(spec).items() if how.targets}  # fmt: skip
    return Dataset(given, targets, {**found.lengths, **lengths}, found.vocabularies,
                   signature=Signature(taken, found.forms, measured), notes=tuple(notes), apart=apart)  # fmt: skip


class _Arrays:
    """The arrays of a table being made, with the vocabularies, forms and lengths that come to light on the way."""

    def __init__(self, table: Table, how: Reading):
        self.table, self.how = table, how
        self.vocabularies = dict(how.vocabularies)
        self.forms: dict[str, Form] = {}
        self.lengths: dict[str, Array] = {}

    def array(self, what: str, name: str, found: list[str], axes: Axes) -> Array:
        """Make the array of an input or output, ``[rows, ...]``."""
        cells_of = [self.table.columns[column] for column in found]
        if len(found) == 1 and self._in_a_cell(cells_of[0], axes):
            return self._sequences(what, name, found[0], axes)
        if axes.real and len(axes.axes) > 1 and any(
            cells.is_sequence(value) or cells.several(self.table, value) for value in cells_of[0]
        ):
            # A column for each feature, with a step at each place of its list.
            each = Axes((*axes.axes[:-1], 1), True)
            array = np.stack([self._sequences(what, name, column, each) for column in found], axis=-1)
            return array.reshape(*array.shape[: len(axes.axes)], -1)
        if axes.real:
            array = np.stack([self.table.numbers(column, _nothing(axes), _advised(what, axes)) for column in found], axis=1)
        else:
            array = self._ids(what, name, found, axes)
        if not axes.axes:
            return array[:, 0]
        free = sum(not isinstance(axis, int) for axis in axes.axes)
        sizes = [axis if isinstance(axis, int) else -1 for axis in axes.axes]
        try:
            return array.reshape(len(array), *sizes) if free <= 1 else array
        except ValueError:
            expected = " × ".join(map(str, axes.axes))
            raise DataError(f"{self.table.path}: {what} takes {len(found)} columns ({listed(found[:4], 'and')}"
                            f"{'…' if len(found) > 4 else ''}), expected {expected}.") from None  # fmt: skip

    def _in_a_cell(self, values: Sequence[Any], axes: Axes) -> bool:
        """Tell whether each cell of a single column holds a whole sequence, by all of its cells."""
        if not axes.axes:
            return False
        if any(map(cells.is_sequence, values)):
            return True
        if not any(isinstance(value, str) for value in values):
            return False
        fixed = all(isinstance(axis, int) for axis in axes.axes)
        if fixed and int(np.prod(np.array(axes.axes, np.int64))) == 1:
            return False
        return not (fixed and axes.real) or any(cells.several(self.table, value) for value in values)

    # -- one word or number a cell -------------------------------------------------------------------------------------

    def _ids(self, what: str, name: str, found: list[str], axes: Axes) -> Array:
        """Read columns of ids, ``[rows, columns]``: whole numbers, or words of one vocabulary."""
        form = self.how.fixed(name)
        if form is None:
            words = any(column in self.table.declared for column in found) or any(
                is_word(value) for column in found for value in self.table.columns[column] if value not in MISSING)
            form = "words" if words else "numbers"
        form = self.forms[name] = "numbers" if form == "numbers" else "words"
        if form == "numbers":
            array = np.stack([self.table.whole(column, advice(name), _nothing(axes), _advised(what, axes)) for column in found],
                             axis=1)  # fmt: skip
            self._check_range(name, array, axes, lambda at: (at[0], found[at[1]]))
            return array
        entries: list[str] = []
        for column in found:
            for row, value in enumerate(self.table.columns[column]):
                if isinstance(value, dict | list | tuple | bytes):
                    self.table.fail(row, column, f": {shown_cell(value)}, expected a word.")
                entry = "" if value is None else word(value)
                if not entry and axes.ignore is None:
                    self.table.fail(row, column, f" is empty, expected a word{_advised(what, axes)}.")
                entries.append(entry or str(axes.ignore))
        rows = len(entries) // len(found)

        def fail(number: int, sentence: str) -> NoReturn:
            self.table.fail(number % rows, found[number // rows], f": {sentence}")

        also = (one for column in found for one in self.table.declared.get(column, ()))
        return self._looked_up(name, found, entries, axes, also, fail).reshape(len(found), rows).T

    def _looked_up(
        self, name: str, found: list[str], entries: list[str], axes: Axes, also: Iterable[str],
        fail: Callable[[int, str], NoReturn],
    ) -> Array:  # fmt: skip
        size, ids = axes.below or 0, np.full(len(entries), axes.ignore or 0, np.int64)
        if any(isinstance(value, bool | np.bool_) for value in self.table.columns[found[0]]) and size > 1:
            also = (*also, "False", "True")
        held = self.vocabularies.get(name)
        has = f"{self.table.path}: {named(found)} {'has' if len(found) == 1 else 'have'}"
        places = [at for at, entry in enumerate(entries) if axes.ignore is None or entry != str(axes.ignore)]
        words = [entries[at] for at in places]
        self.vocabularies[name] = known((*words, *also), held, size, has)
        ids[places] = looked_up(words, self.vocabularies[name], lambda at, sentence: fail(places[at], sentence))
        return ids

    def _check_range(self, name: str, array: Array, axes: Axes, place: Callable[[tuple[int, ...]], tuple[int, str]]) -> None:
        """DataError where an id is not one of the spec's, with what may be meant."""
        odd = odd_number(array, axes)
        if odd is not None:
            row, column = place(odd.at)
            last = (axes.below or 0) - 1
            self.table.fail(row, column, f": {shown(array[odd.at])}, expected an id from 0 to {last}{advice(name)}.")

    # -- a sequence in a cell ------------------------------------------------------------------------------------------

    def _sequences(self, what: str, name: str, column: str, axes: Axes) -> Array:
        """Read a column of texts or lists as one array, filled up with zeros, and the lengths under the axis's symbol."""
        values = self.table.columns[column]
        old = self.how.signature is not None and name in self.how.vocabularies and name not in self.how.signature.forms
        values = values if old or self.how.fixed(name) == "symbols" else cells.unpacked(values)
        items = self._real(column, values, axes) if axes.real else self._symbols(name, column, values, axes)
        whole, lengths = cells.padded(self.table, column, items, axes.axes, axes.real)
        symbol = axes.axes[0]
        if isinstance(symbol, str):
            held = self.lengths.setdefault(symbol, lengths)
            if (odd := np.flatnonzero(held != lengths)).size:
                self.table.fail(odd[0], column, f" has {lengths[odd[0]]} steps, expected the {held[odd[0]]} of the sequence "
                                "beside it.")  # fmt: skip
        elif symbol is None and len(set(lengths.tolist())) > 1:
            raise DataError(f"{self.table.path}, column '{column}' holds sequences of different lengths, expected as many "
                            f"of each for {what}.")  # fmt: skip
        return whole

    def _real(self, column: str, values: Sequence[Any], axes: Axes) -> list[Array]:
        """Read sequences of real numbers."""
        rest = [axis for axis in axes.axes[1:] if isinstance(axis, int)]
        if not any(map(cells.is_sequence, values)):
            flat = cells.numbers(self.table, column, values, False, int(np.prod(rest)) if rest else 1, axes.ignore is not None)
            return cells.cut(self.table, column, flat, axes.axes)
        items = cells.lists(self.table, column, values, _nothing(axes))
        for row, item in enumerate(items):
            if item.dtype.kind == "U":
                self.table.fail(row, column, f" holds the word {item.reshape(-1)[0].item()!r}, expected numbers.")
        # A flat list is cut into steps only where that cannot be meant otherwise.
        return cells.cut(self.table, column, items, axes.axes) if rest == [1] or isinstance(axes.axes[0], int) else items

    def _symbols(self, name: str, column: str, values: Sequence[Any], axes: Axes) -> list[Array]:
        """Read sequences of ids: numbers, words, or the symbols of a text."""
        form, size = self.how.fixed(name), axes.below or 0
        as_lists = any(map(cells.is_sequence, values))
        items = cells.lists(self.table, column, values, axes.ignore) if as_lists else []
        if form is None and as_lists:
            form = "words" if any(item.dtype.kind in "Ub" for item in items) else "numbers"
        elif form is None:
            form = "numbers" if self.how.by != "word" and cells.all_numbers(self.table, values) else "symbols"
        elif form == "words" and not as_lists and self._text(name):
            form = "symbols"
        self.forms[name] = form
        if form == "numbers":
            items = items or cells.numbers(self.table, column, values, True, 1)
            for row, item in enumerate(items):
                if item.dtype.kind == "U":
                    self.table.fail(row, column, f" holds the word {item.reshape(-1)[0].item()!r}, expected whole numbers.")
                self._check_range(name, item, axes, partial(_place, row, column))
            return cells.cut(self.table, column, items, axes.axes)
        if form == "symbols":
            return cells.cut(self.table, column, self._cut(name, column, values, size), axes.axes)
        texts = [[word(one) for one in item.reshape(-1).tolist()] for item in items] if as_lists else [
            str(value).split() for value in values]  # fmt: skip
        rows = [row for row, text in enumerate(texts) for _ in text]

        def fail(number: int, sentence: str) -> NoReturn:
            self.table.fail(rows[number], column, f" holds {sentence}")

        also = ("False", "True") if any(item.dtype.kind == "b" for item in items) and size > 1 else ()
        flat = self._looked_up(name, [column], [one for text in texts for one in text], axes, also, fail)
        parts = np.split(flat, np.cumsum([len(text) for text in texts])[:-1])
        return [part.reshape(item.shape) for part, item in zip(parts, items, strict=True)] if as_lists else list(parts)

    def _text(self, name: str) -> bool:
        """Tell whether words were said by the spec, or left by an old model, so that a cell is a text to be cut."""
        return self.how.signature is None or name not in self.how.signature.forms

    def _cut(self, name: str, column: str, values: Sequence[Any], size: int) -> list[Array]:
        where = f"{self.table.path}, column '{column}'"
        for row, value in enumerate(values):
            if not isinstance(value, str):
                self.table.fail(row, column, " is empty, expected a text." if value is None else f": {value!r}, expected a text.")
        cut = [symbols(value, self.how.by) for value in values]
        words = self.vocabularies.get(name) or vocabulary(cut, size, self.how.by, where)
        self.vocabularies[name] = words
        return [ids(one, words, f"{self.table.at(row, column)}") for row, one in enumerate(cut)]


def _nothing(axes: Axes) -> float | None:
    """Give the number for a cell that holds nothing; None where each has to hold something."""
    return None if axes.ignore is None else float(axes.ignore)


def _advised(what: str, axes: Axes) -> str:
    """Say how a spec takes a target that is missing."""
    if axes.ignore is not None or not what.startswith("output"):
        return ""
    return f"; where there is no target, 'ignore: {'nan' if axes.real else -1}' of the {what} leaves the position out"


def _place(row: int, column: str, at: tuple[int, ...]) -> tuple[int, str]:
    """Give the cell in which a number stands, wherever in its sequence it is."""
    return row, column
