"""Matrices as products want them: weights in *panels*, two vectors of columns side by side, row after row, so that a product
reads them in one stream; in bfloat16 two rows of a panel to a *line* of words, and the rows that they multiply as words, too
(``gridc.fusion.bfloat16``).
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import register_jitable

from gridc.fusion import bfloat16
from gridc.fusion.bfloat16 import pair
from gridc.fusion.native import copy, peek, pointer, poke
from gridc.fusion.registers import BYTES, transpose

GROUP = 1 << 18
"""Bytes of the panels that are packed at a time where each is used once."""
ALIGNMENT = 64
"""Bytes: packed weights start at a line of the cache."""


def numbers(products: str) -> Any:
    """Give the type of the numbers that products of a kind take and make."""
    return np.dtype("float32" if products == "bfloat16" else products).type


def panel(dtype: Any) -> int:
    """Count the columns of a panel: two vectors."""
    return 2 * BYTES // np.dtype(dtype).itemsize


def room(rows: int, columns: int, dtype: Any) -> int:
    """Count the numbers of a packed matrix."""
    return -(-columns // panel(dtype)) * rows * panel(dtype)


@numba.njit(error_model="numpy")
def pack_panel(unit, source, rows, stride, used, to):  # type: ignore[no-untyped-def]
    """Lay one panel at ``to``, whose rows begin at ``source``, ``stride`` numbers apart; 0 behind the columns ``used``."""
    zero, width = unit.dtype.type(0), 2 * BYTES // unit.itemsize
    if used == width:
        for k in range(rows):
            for j in range(width):
                poke(unit, to, k * width + j, peek(unit, source, k * stride + j, 0), 1)
        return
    for k in range(rows):
        for j in range(width):
            poke(unit, to, k * width + j, peek(unit, source, k * stride + j, 0) if j < used else zero, 1)


@register_jitable
def group(rows: int) -> int:
    """Choose how many panels of so many rows are packed at a time where each is used once: what stays in the cache until then."""
    return max(1, GROUP // max(1, rows * 2 * BYTES))


@numba.njit(error_model="numpy")
def _pack(unit, w, rows, columns, transposed, packed, start, stop):  # type: ignore[no-untyped-def]
    """Lay the panels ``start:stop`` of a row-major matrix at ``w`` at ``packed``; ``transposed``, it lies there
    ``columns × rows``."""
    size, zero = unit.itemsize, unit.dtype.type(0)
    lanes = BYTES // size
    width, panel = 2 * lanes, rows * 2 * BYTES
    full = min(stop, columns // width)
    if not transposed:
        for k in range(rows):  # in the order in which the matrix lies in memory
            for p in range(start, full):
                copy(packed + (p - start) * panel + k * 2 * BYTES, w + (k * columns + p * width) * size, 2 * BYTES)
        for p in range(max(full, start), stop):
            pack_panel(unit, w + p * width * size, rows, columns, columns - p * width, packed + (p - start) * panel)
        return
    tall = rows // lanes * lanes
    for p in range(start, stop):
        to = packed + (p - start) * panel
        for k in range(0, tall if p < full else 0, lanes):
            transpose(unit, False, w + (p * width * rows + k) * size, rows, to + k * 2 * BYTES)
            transpose(unit, False, w + ((p * width + lanes) * rows + k) * size, rows, to + k * 2 * BYTES + BYTES)
        for j in range(width):
            source, used = w + (p * width + j) * rows * size, p * width + j < columns
            for k in range(tall if p < full else 0, rows):
                poke(unit, to, k * width + j, peek(unit, source, k, 0) if used else zero, 1)


@numba.njit(error_model="numpy")
def _pack_words(unit, w, rows, columns, transposed, packed, start, stop):  # type: ignore[no-untyped-def]
    """Do as ``_pack`` does, with lines of words."""
    size, lanes, long = unit.itemsize, BYTES // unit.itemsize, (rows + 1) // 2
    width, panel = 2 * lanes, long * 2 * BYTES
    if not transposed:
        for q in range(long):
            for p in range(start, stop):
                upper, to = w + (2 * q * columns + p * width) * size, packed + (p - start) * panel + q * 2 * BYTES
                used = min(width, columns - p * width)
                bfloat16.one_below_another(upper, upper + columns * size if 2 * q + 1 < rows else 0, used, to)
                for j in range(used, width):
                    poke(unit, to, j, unit.dtype.type(0), 0)
        return
    full, tall = min(stop, columns // width), rows // width * lanes
    for p in range(start, stop):
        to = packed + (p - start) * panel
        for q in range(0, tall if p < full else 0, lanes):
            transpose(unit, True, w + (p * width * rows + 2 * q) * size, rows, to + q * 2 * BYTES)
            transpose(unit, True, w + ((p * width + lanes) * rows + 2 * q) * size, rows, to + q * 2 * BYTES + BYTES)
        for j in range(width):
            source, zero = w + (p * width + j) * rows * size, unit.dtype.type(0)
            for q in range(tall if p < full else 0, long):
                there = p * width + j < columns
                low = peek(unit, source, 2 * q, 0) if there else zero
                high = peek(unit, source, 2 * q + 1, 0) if there and 2 * q + 1 < rows else zero
                poke(unit, to, q * width + j, pair(low, high), 1)


@functools.cache
def panel_pack(products: str) -> Any:
    """Give what lays the panels ``start:stop`` of a row-major matrix at ``w`` at ``packed``; ``transposed``, it lies there
    ``columns × rows``.  Kept as ``panel_product`` is."""
    return _built_pack(numbers(products), _pack_words if products == "bfloat16" else _pack)


def _built_pack(F, pack) -> Any:  # type: ignore[no-untyped-def]
    @numba.cfunc(types.void(*[types.intp] * 7), cache=True, error_model="numpy")
    def packed(w, rows, columns, transposed, to, start, stop):  # type: ignore[no-untyped-def]
        pack(numba.carray(pointer(to), 0, F), w, rows, columns, transposed, to, start, stop)  # a view, for its type

    return packed


@functools.cache
def lay_words() -> Any:
    """Give what lays rows of ``A`` as words, ``k`` numbers of each of ``m`` behind a zero where there is an ``odd`` one before,
    or ``across``, two rows to a row of words.  Kept as ``panel_product`` is."""

    @numba.cfunc(types.void(*[types.intp] * 7), cache=True, error_model="numpy")
    def laid(a, m, k, lda, odd, across, to):  # type: ignore[no-untyped-def]
        if across:
            for q in range((m + 1) // 2):
                upper = a + 2 * q * lda * 4
                bfloat16.one_below_another(upper, upper + lda * 4 if 2 * q + 1 < m else 0, k, to + q * k * 4)
        else:
            for r in range(m):
                bfloat16.side_by_side(a + r * lda * 4, k, odd, to + r * ((odd + k + 1) // 2) * 4)

    return laid
