"""The product of a few rows with a matrix that is used many times: packed once, then multiplied by a kernel of its own.

A library's product copies the matrix into the layout that its kernel wants at every call; a sweep multiplies by the same
weights at every wavefront, by as few rows as one, and that copy costs it up to half of its time.  Here the weights lie in
panels (``gridc.fusion.packing``), and the rows are read where they lie; in bfloat16 they are laid as words first, some at a time.
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import register_jitable

from gridc.fusion.bfloat16 import operand
from gridc.fusion.native import fetch, invoke, peek, pointer, poke
from gridc.fusion.packing import ALIGNMENT, group, lay_words, numbers, pack_panel, panel, panel_pack, room
from gridc.fusion.registers import BYTES, TALLEST, lay, sums_room, tile
from gridc.scheduling.program import CHUNKS

OPERANDS = 1 << 16
"""Words of operands in bfloat16 that are laid at a time."""
CALLS = ("panels", "packs", "few", "lays", "words")
"""What products of a kind call, by address: the product with panels, what packs panels, the product of few rows, what lays
operands as words, 0 where none are; and how many words a thread has room for, which is where its ``unit`` begins."""
PANELS, PACKS, FEW, LAYS, WORDS = range(len(CALLS))


def panel_room(dtype: Any) -> int:
    """Count the numbers of the panel that ``accumulate`` packs, and what it takes to start at a line of the cache."""
    return room(CHUNKS[1], panel(dtype), dtype) + ALIGNMENT // np.dtype(dtype).itemsize


def operand_room(longest: int, products: str) -> int:
    """Count the words that a thread lays at a time, none but of bfloat16: so many that they stay in the cache, and no fewer than
    a tile's rows of the ``longest`` product; whole lines of the cache."""
    words = max(OPERANDS, TALLEST * (longest // 2 + 1)) if products == "bfloat16" else 0
    return -(-words // ALIGNMENT) * ALIGNMENT


@functools.cache
def panel_product(products: str) -> Any:
    """Give what multiplies with panels, tile below tile: compiled once and called by address, since the tiles are long to
    compile and several functions need them.  Kept for the life of the process, as its address is."""
    return _built(numbers(products), np.dtype(numbers(products)).itemsize, products == "bfloat16")


def _built(F, size, narrow) -> Any:  # type: ignore[no-untyped-def]
    width = 2 * BYTES // size

    @numba.cfunc(types.void(*[types.intp] * 12), cache=True, error_model="numpy")
    def product(m, k, a, row, column, b, deep, c, ldc, beta, low, high):  # type: ignore[no-untyped-def]
        """Set ``C = A B[:, low:high] + beta C``: ``A[r, i]`` is the number ``r * row + i * column`` from ``a``, ``b`` where B's
        panels begin, ``deep`` bytes each, ``c`` where the column ``low`` goes."""
        edge = sums_room()
        unit = numba.carray(pointer(edge), 0, F)  # a view, for its type
        for p in range(low // width, (high + width - 1) // width):
            line, to = b + p * deep, c + (p * width - low) * size
            first, end = max(0, low - p * width), min(width, high - p * width)
            for r in range(0, m, TALLEST):
                height, at, target = min(TALLEST, m - r), a + r * row * size, to + r * ldc * size
                if end - first == width:
                    tile(F, narrow, height, k, at, row * size, column * size, line, target, ldc * size, beta)
                    continue
                tile(F, narrow, height, k, at, row * size, column * size, line, edge, 2 * BYTES, 0)
                for i in range(height):  # some columns of the panel are not wanted, or lie behind the matrix
                    for j in range(first, end):
                        before = peek(unit, target, i * ldc + j, 0) if beta else F(0)
                        poke(unit, target, i * ldc + j, peek(unit, edge, i * width + j, 1) + before, 0)

    return product


@register_jitable
def lines(calls, rows):  # type: ignore[no-untyped-def]
    """Count the lines of panels that so many rows make."""
    return (rows + 1) // 2 if calls[LAYS] else rows


@numba.njit(error_model="numpy")
def multiply(unit, calls, m, k, skip, low, high, a, lda, packed, depth, c, ldc, beta):  # type: ignore[no-untyped-def]
    """Set ``C = A B[skip:skip + k, low:high] + beta C``: ``A`` is ``m × k``; ``packed`` is where B's panels begin, of ``depth``
    rows each; ``c`` is where the column ``low`` goes."""
    size = unit.itemsize
    deep, odd, band = lines(calls, depth), 0, max(1, m)
    if calls[LAYS]:
        odd = skip % 2
        skip, k = skip // 2, k + odd
        band = calls[WORDS] // max(1, lines(calls, k)) // TALLEST * TALLEST
    for top in range(0, m, band):
        count, left, lead, long = min(band, m - top), a + top * lda * size, lda, k
        if calls[LAYS]:
            invoke(calls[LAYS], (left, count, k - odd, lda, odd, 0, np.intp(unit.ctypes.data)))
            long = lines(calls, k)
            left, lead = np.intp(unit.ctypes.data), long
        b, at = packed + skip * 2 * BYTES, c + top * ldc * size
        invoke(calls[PANELS], (count, long, left, lead, 1, b, deep * 2 * BYTES, at, ldc, beta, low, high))


@numba.njit(error_model="numpy")
def accumulate(unit, calls, rows, m, low, high, a, lda, b, ldb, c, ldc, beta, room, sums, after):  # type: ignore[no-untyped-def]
    """Set ``C[:, low:high] = A^T B[:, low:high] + beta C``, ``A`` ``rows × m``, no more rows than a panel in ``room`` has; a
    panel begins at ``low``, and ends at ``high`` or B does.

    Add the rows of B up at ``sums``, an address, unless it is 0.  The order of the sums does not depend on ``m``, ``low`` and
    ``high``.  Unless ``after`` is 0, as many rows, ``after`` rows from these, are wanted next.  A is read by columns, where no
    processor guesses what comes, so those rows are fetched meanwhile, some before every tile."""
    size = unit.itemsize
    width, long, most = 2 * BYTES // size, lines(calls, rows), max(1, m)
    if calls[LAYS]:
        most = calls[WORDS] // max(1, long)
    for top in range(0, max(1, m), most):
        count, left, lead = min(most, m - top), a + top * size, lda
        if calls[LAYS]:
            invoke(calls[LAYS], (left, rows, count, lda, 0, 1, np.intp(unit.ctypes.data)))
            left, lead = np.intp(unit.ctypes.data), count
        tall = TALLEST if after else max(1, count)
        bands, done = (count + tall - 1) // tall, 0
        parts = bands * ((high - low + width - 1) // width)
        for start in range(low, high, width):
            used, line = min(width, high - start), b + start * size
            if calls[LAYS]:
                invoke(calls[PACKS], (b, rows, ldb, 0, room, start // width, start // width + 1))
                if sums and top == 0:
                    _add_rows(unit, line, rows, ldb, used, sums + start * size)
            elif sums and used == width:
                lay(unit, line, ldb * size, rows, room, sums + start * size)
            else:
                pack_panel(unit, line, rows, ldb, used, room)
                if sums:  # from the panel, which is in the cache
                    _add_rows(unit, room, rows, width, used, sums + start * size)
            for band in range(bands):
                if after and top == 0:
                    own, other = line + after * ldb * size, a + after * lda * size
                    _fetch_rows(own, ldb * size, used * size, rows * band // bands, rows * (band + 1) // bands)
                    _fetch_rows(other, lda * size, m * size, rows * done // parts, rows * (done + 1) // parts)
                    done += 1
                first = band * tall
                height, at = min(tall, count - first), c + ((top + first) * ldc + start) * size
                invoke(calls[PANELS], (height, long, left + first * size, 1, lead, room, 0, at, ldc, beta, 0, used))


@numba.njit(error_model="numpy")
def _fetch_rows(source, stride, width, first, end):  # type: ignore[no-untyped-def]
    """Fetch ``width`` bytes of each of some rows that lie ``stride`` bytes apart."""
    for r in range(first, end):
        for byte in range(0, width, ALIGNMENT):
            fetch(source + r * stride + byte)


@numba.njit(error_model="numpy")
def _add_rows(unit, source, rows, stride, used, sums):  # type: ignore[no-untyped-def]
    """Add rows to those at ``sums``, one after the other."""
    for k in range(rows):
        for j in range(used):
            poke(unit, sums, j, peek(unit, sums, j, 0) + peek(unit, source, k * stride + j, 1), 0)


@functools.cache
def few_rows(products: str) -> Any:
    """Give the product of a few rows, too few to pack B for: ``C = A B[:, low:high] + beta C`` or, ``back``, ``A B[low:high]^T``;
    ``c`` is where the column ``low`` goes.  Kept as ``panel_product`` is."""
    return _built_few(numbers(products), True if products == "bfloat16" else None)


def _built_few(F, narrow) -> Any:  # type: ignore[no-untyped-def]
    @numba.cfunc(types.void(*[types.intp] * 12), cache=True, error_model="numpy")
    def product(back, m, k, low, high, a, lda, b, ldb, c, ldc, beta):  # type: ignore[no-untyped-def]
        unit = numba.carray(pointer(c), 0, F)  # a view, for its type
        if back:
            _few_back(unit, narrow, m, k, low, high, a, lda, b, ldb, c, ldc)
        else:
            _few(unit, narrow, m, k, low, high, a, lda, b, ldb, c, ldc, beta)

    return product


@numba.njit(error_model="numpy")
def _few(unit, narrow, m, k, low, high, a, lda, b, ldb, c, ldc, beta):  # type: ignore[no-untyped-def]
    size, zero, n = unit.itemsize, unit.dtype.type(0), high - low
    for r in range(0 if beta else m):
        for j in range(n):
            poke(unit, c + r * ldc * size, j, zero, 0)
    whole = k // 4 * 4
    for i in range(0, whole, 4):
        line = b + (i * ldb + low) * size
        for r in range(m):
            x, to = a + (r * lda + i) * size, c + r * ldc * size
            x0, x1 = operand(narrow, peek(unit, x, 0, 2)), operand(narrow, peek(unit, x, 1, 2))
            x2, x3 = operand(narrow, peek(unit, x, 2, 2)), operand(narrow, peek(unit, x, 3, 2))
            for j in range(n):
                s = peek(unit, to, j, 0) + x0 * operand(narrow, peek(unit, line, j, 1))
                s += x1 * operand(narrow, peek(unit, line, ldb + j, 1))
                s += x2 * operand(narrow, peek(unit, line, 2 * ldb + j, 1))
                poke(unit, to, j, s + x3 * operand(narrow, peek(unit, line, 3 * ldb + j, 1)), 0)
    for i in range(whole, k):
        for r in range(m):
            x, to = operand(narrow, peek(unit, a + (r * lda + i) * size, 0, 2)), c + r * ldc * size
            for j in range(n):
                line = b + (i * ldb + low) * size
                poke(unit, to, j, peek(unit, to, j, 0) + x * operand(narrow, peek(unit, line, j, 1)), 0)


@numba.njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _few_back(unit, narrow, m, k, low, high, a, lda, b, ldb, c, ldc):  # type: ignore[no-untyped-def]
    size = unit.itemsize
    for j in range(low, high):
        for r in range(m):
            s = unit.dtype.type(0)
            for i in range(k):
                x, y = peek(unit, a + r * lda * size, i, 1), peek(unit, b + j * ldb * size, i, 2)
                s += operand(narrow, x) * operand(narrow, y)
            poke(unit, c + r * ldc * size, j - low, s, 0)


@numba.njit(error_model="numpy")
def multiply_once(unit, calls, m, k, skip, low, high, a, lda, w, rows, columns, transposed, c, ldc, beta, room):  # type: ignore[no-untyped-def]
    """Set ``C = A B[skip:skip + k, low:high] + beta C``: ``B``, ``rows × columns``, is what ``panel_pack`` makes of ``w``, some
    panels at a time in ``room``."""
    size = unit.itemsize
    width = 2 * BYTES // size
    last, many = (high + width - 1) // width, group(rows)
    for start in range(low // width, last, many):
        stop = min(last, start + many)
        invoke(calls[PACKS], (w, rows, columns, transposed, room, start, stop))
        first, end = max(low, start * width), min(high, stop * width)
        b = room - start * lines(calls, rows) * 2 * BYTES
        multiply(unit, calls, m, k, skip, first, end, a, lda, b, rows, c + (first - low) * size, ldc, beta)


def addresses(products: str) -> np.ndarray[Any, Any]:
    """Give what products of a kind call, ``float32``, ``float64`` or ``bfloat16``, with room for no words."""
    lay = lay_words().address if products == "bfloat16" else 0
    return np.array([panel_product(products).address, panel_pack(products).address, few_rows(products).address, lay, 0])
