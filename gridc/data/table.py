"""A table as it came from a file, one example a row, with sentences that name the row and the column of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gridc.arrays.dataset import Array
from gridc.errors import DataError, nearest

MISSING = ("", None)
WRITTEN = re.compile(r"[+-]?\d\.\d+[eE][+-]\d{2}")
"""A number as programs write it; people who mean a word do not."""


@dataclass(frozen=True)
class Table:
    """Columns by name, all of the same length.

    ``first`` is the number of the first row, as people count it; ``decimal_comma`` says whether 1,5 may be a number;
    ``declared`` are columns of words with the words that the file says there are; ``label`` is the column that the only output
    takes where none bears its name; ``begins`` gives, of windows of a series, the number of the row that each begins at.
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    first: int = 2
    decimal_comma: bool = False
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    label: str | None = None
    begins: Sequence[int] = ()

    def at(self, row: int, column: str) -> str:
        """Name a cell's place, for a message."""
        where = f"the window from row {self.begins[row]}" if len(self.begins) else f"row {row + self.first}"
        return f"{self.path}, {where}, column '{column}'"

    def fail(self, row: int, column: str, sentence: str) -> NoReturn:
        """Raise DataError about a cell."""
        raise DataError(f"{self.at(row, column)}{sentence}")

    def column(self, name: str) -> Sequence[Any]:
        """Look up a column; DataError where there is none of that name."""
        if name not in self.columns:
            raise DataError(f"{self.path} has no column '{name}'{nearest(name, self.columns)}")
        return self.columns[name]

    def numbers(self, name: str, empty: float | None = None, advice: str = "") -> Array:
        """Read a column as finite real numbers, ``[rows]`` float64, an ``empty`` cell (and NaN, where that is NaN) as the number
        for it; DataError names the first cell that is none, and ends in advice where it is empty."""
        array, values = self._floats(name, empty, advice), self.columns[name]
        if (odd := np.flatnonzero(~np.isfinite(array) if empty is None else np.isinf(array))).size:
            what = advice if values[odd[0]] in MISSING or np.isnan(array[odd[0]]) else ""
            self.fail(odd[0], name, f": {values[odd[0]]!r}, expected a finite number{what}.")
        return array

    def whole(self, name: str, advice: str = "", empty: float | None = None, of_empty: str = "") -> Array:
        """Read a column as whole numbers, ``[rows]`` int64, an ``empty`` cell as the number for it; DataError names the first
        cell that is none, and ends in the advice for it, which is another one ``of_empty`` cells."""
        array, values = self._floats(name, empty, of_empty), self.columns[name]
        if (odd := np.flatnonzero(~(np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) < 2**63)))).size:
            what = of_empty if values[odd[0]] in MISSING else advice
            self.fail(odd[0], name, f": {values[odd[0]]!r}, expected a whole number{what}.")
        return array.astype(np.int64)

    def _floats(self, name: str, empty: float | None, advice: str) -> Array:
        values = self.column(name)
        if empty is not None:
            values = [empty if value in MISSING else value for value in values]
        try:
            return np.array(values, np.float64)
        except (TypeError, ValueError):
            pass
        if self.decimal_comma and not any(isinstance(value, str) and "." in value for value in values):
            values = [value.replace(",", ".", 1) if isinstance(value, str) else value for value in values]
        row = next((row for row, value in enumerate(values) if not is_number(value)), None)
        if row is None:
            return np.array(list(map(float, values)), np.float64)
        found = self.columns[name][row]
        point = isinstance(found, str) and found.count(",") == 1 and is_number(found.replace(",", "."))
        more = advice if found in MISSING else " with a point, not a comma" * point
        self.fail(row, name, f": {shown(found)}, expected a number{more}.")


def is_number(value: Any) -> bool:
    """Tell whether a cell holds one number."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def is_word(value: Any) -> bool:
    """Tell whether a cell holds what is no number in the usual way of writing one: 007 is a word, and so is True."""
    if isinstance(value, bool | np.bool_) or not is_number(value):
        return True
    digits = value.strip().lstrip("+-") if isinstance(value, str) else ""
    return len(digits) > 1 and digits[0] == "0" and digits.isdigit()


def word(value: Any) -> str:
    """Write a cell as the word that it is, the same from whatever kind of file: 3.0 and 3.0e+00 are 3."""
    if isinstance(value, str) and WRITTEN.fullmatch(value.strip()):
        value = float(value)
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value).strip()


def shown(value: Any) -> str:
    """Show a cell in a message, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}…{text[-1]}"


def named(columns: Collection[str]) -> str:
    """``column 'a'``, or ``columns 'a', 'b' …``."""
    some = ", ".join(f"'{name}'" for name in list(columns)[:4])
    return f"column {some}" if len(columns) == 1 else f"columns {some}{' …' * (len(columns) > 4)}"
