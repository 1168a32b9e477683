"""Cells that hold a sequence: a list, numbers with spaces between them, or text that is cut into symbols."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gridc.arrays.dataset import Array
from gridc.data.table import Table, is_number, shown
from gridc.errors import printable

WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?")
BETWEEN = re.compile(r"[\s,;\[\]()]+")
"""What stands around and between the numbers of a list."""


def is_sequence(value: Any) -> bool:
    """Tell whether a cell holds a list or an array, which only some kinds of file can."""
    return not isinstance(value, str | bytes) and np.ndim(_plain(value)) > 0


def _plain(value: Any) -> Any:
    """Make something that NumPy can count the axes of, also where a list's parts are not equally long."""
    return value[:1] if isinstance(value, list | tuple) else value  # pyright: ignore[reportUnknownVariableType]


def unpacked(values: Sequence[Any]) -> Sequence[Any]:
    """Read a column of lists that a table wrote as text, ``['a', 'b']``; any other column as it is."""
    if not all(isinstance(value, str) and value.strip()[:1] == "[" and value.strip()[-1:] == "]" for value in values):
        return values
    try:
        return [ast.literal_eval(value.strip()) for value in values]
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # as NumPy prints an array, without commas
        return values


def several(table: Table, value: Any) -> bool:
    """Tell whether a cell of text holds more than one number or word."""
    return isinstance(value, str) and not is_number(value) and len(split(table, value)) > 1


def all_numbers(table: Table, values: Sequence[Any]) -> bool:
    """Tell whether every cell is a list of whole numbers, and at least one of them is more than one number."""
    for value in values:
        parts = split(table, value) if isinstance(value, str) else []
        if not parts or not all(map(WHOLE.fullmatch, parts)):
            return False
    return any(several(table, value) for value in values)


def split(table: Table, value: str) -> list[str]:
    """Cut a cell at spaces and commas, and take off what goes around a list; where a comma is a point, at spaces alone."""
    parts = value.replace(",", ".").split() if table.decimal_comma else BETWEEN.split(value)
    return [part for part in parts if part]


def numbers(
    table: Table, column: str, values: Sequence[Any], whole: bool, width: int, missing: bool = False
) -> list[Array]:
    """Read cells of text as the numbers in them, ``[numbers]`` for each row; DataError where one holds anything else (but NaN
    where numbers may be ``missing``), or not ``width`` for each step."""
    found: list[Array] = []
    for row, value in enumerate(values):
        text = "" if value is None else str(value)
        try:
            array = np.array(split(table, text), np.float64)
            held = array[~np.isnan(array)] if missing else array
            if len(array) % width or not np.isfinite(held).all() or (whole and (held != np.floor(held)).any()):
                raise ValueError
        except ValueError:
            what = "whole numbers with spaces between them" if whole else "finite numbers with spaces between them"
            each = f", {width} for each step" if width > 1 or not whole else ""
            table.fail(row, column, f": {text[:40]!r}, expected {what}{each}.")
        found.append(array.astype(np.int64) if whole else array)
    return found


def lists(table: Table, column: str, values: Sequence[Any], empty: float | str | None = None) -> list[Array]:
    """Make one array of each row's list, with ``empty`` where it holds nothing; DataError where one is missing, is uneven, or
    holds nothing somewhere that nothing stands for."""
    found: list[Array] = []
    for row, value in enumerate(values):
        if value is None:
            table.fail(row, column, " is empty, expected a list.")
        try:
            array = np.asarray(value if empty is None else _filled(value, empty))
        except ValueError:
            table.fail(row, column, ": its steps are lists of different lengths, expected as many numbers in each.")
        if array.dtype.kind == "O":
            step = next((i for i, one in enumerate(array.reshape(-1).tolist()) if one is None), None)
            at = "" if step is None else f" at number {step + 1}"
            held = "nothing" if step is not None else type(array.reshape(-1)[0]).__name__
            table.fail(row, column, f" holds {held}{at}, expected numbers or words.")
        if not array.ndim:
            table.fail(row, column, f": {shown(value)}, expected a list as in the rows before.")
        if array.dtype.kind not in "biufU":
            table.fail(row, column, f" holds {printable(array.dtype)}, expected numbers or words.")
        found.append(array)
    return found


def _filled(value: Any, empty: float | str) -> Any:
    """Put what stands for nothing into a list, and the lists in it."""
    if isinstance(value, list | tuple):
        parts: list[Any] = [*value]
        words = any(isinstance(one, str) for one in parts)
        return [(str(empty) if words else empty) if one is None else _filled(one, empty) for one in parts]
    return value


def padded(
    table: Table, column: str, items: list[Array], axes: tuple[int | str | None, ...], real: bool
) -> tuple[Array, Array]:
    """Lay sequences into one array, filled up with zeros, ``[rows, longest, ...]``, and give their lengths, ``[rows]``.

    ``axes`` are those of the spec.  DataError names the row of a sequence that is empty, has other steps than the first, or
    another length than the spec's."""
    lengths = np.array([len(item) for item in items], np.int64)
    if not lengths.all():
        table.fail(int(np.argmin(lengths)), column, " is empty, expected a sequence.")
    for row, item in enumerate(items):
        if item.shape[1:] != items[0].shape[1:]:
            table.fail(row, column, f": its steps have the shape {list(item.shape[1:])}, expected the {list(items[0].shape[1:])} "
                       "of the first row.")  # fmt: skip
    if isinstance(axes[0], int) and (odd := np.flatnonzero(lengths != axes[0])).size:
        table.fail(int(odd[0]), column, f" has {lengths[odd[0]]} steps, expected {axes[0]}.")
    whole = np.zeros((len(items), int(lengths.max()), *items[0].shape[1:]), np.float64 if real else np.int64)
    for row, item in enumerate(items):
        whole[row, : len(item)] = item
    return whole, lengths


def cut(table: Table, column: str, items: list[Array], axes: tuple[int | str | None, ...]) -> list[Array]:
    """Make steps of flat lists where the spec says how many numbers each has; DataError names a row where they do not."""
    rest = [axis for axis in axes[1:] if isinstance(axis, int)]
    if not rest or len(rest) < len(axes) - 1:
        return items
    width, found = int(np.prod(rest)), list[Array]()
    for row, item in enumerate(items):
        if item.ndim == 1 and len(item) % width:
            table.fail(row, column, f": {len(item)} numbers, expected {width} for each step.")
        found.append(item.reshape(-1, *rest) if item.ndim == 1 else item)
    return found
