"""The product of a few rows with a matrix that is used many times: packed once, then multiplied by a kernel of its own.

A library's product copies the matrix into the layout that its kernel wants at every call; a sweep multiplies by the same
weights at every wavefront, by as few rows as one, and that copy costs it up to half of its time.  Here the weights lie in
*panels*: ``panel`` columns side by side, row after row, so that the kernel reads them in one stream.  The rows are read
where they lie.  The kernel holds a tile of ``TALLEST × panel`` sums in registers (Goto and van de Geijn 2008).

Products in bfloat16 go the same way, two rows of a panel to a *line* of words (``gridc.fusion.bfloat16``); the rows they multiply
are laid as words first, some at a time.
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import platform
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import register_jitable

from gridc.fusion import bfloat16
from gridc.fusion.bfloat16 import operand, pair
from gridc.fusion.native import copy, fetch, intrinsic, invoke, peek, pointer, poke
from gridc.scheduling.program import CHUNKS


def _features() -> set[str]:
    """Name what the processor can do for which Numba compiles: this one, or another that ``NUMBA_CPU_FEATURES`` describes."""
    told: str | None = numba.config.CPU_FEATURES
    if told is not None:
        return {word[1:] for word in told.split(",") if word.startswith("+")}
    return {word for word, there in llvm.get_host_cpu_features().items() if there}


FEATURES = _features()
BYTES = 64 if "avx512f" in FEATURES else 32 if "avx" in FEATURES else 16
"""Of the widest vector register."""
FUSES = "fma" in FEATURES or platform.machine().lower() in ("arm64", "aarch64")
"""Whether there is one instruction that multiplies and adds; without it LLVM's would be a call of a function for each number."""
DOTS = BYTES == 64 and "avx512bf16" in FEATURES
"""Whether there is one that multiplies pairs in bfloat16."""
TALLEST = 8 if BYTES == 64 else 6
"""Rows of a tile: with two vectors a row, its sums leave registers for a row of the panel (32 registers, or 16)."""


GROUP = 1 << 18
"""Bytes of the panels that are packed at a time where each is used once."""
OPERANDS = 1 << 16
"""Words of operands in bfloat16 that are laid at a time."""
ALIGNMENT = 64
"""Bytes: packed weights start at a line of the cache."""


CALLS = ("panel", "packs", "few", "lays", "words")
"""What products of a kind call, by address: the product with a panel, what packs panels, the product of few rows, what lays
operands as words, 0 where none are; and how many words a thread has room for, which is where its ``unit`` begins."""
PANEL, PACKS, FEW, LAYS, WORDS = range(len(CALLS))


def numbers(products: str) -> Any:
    """Give the type of the numbers that products of a kind take and make."""
    return np.dtype("float32" if products == "bfloat16" else products).type


def panel(dtype: Any) -> int:
    """Count the columns of a panel: two vectors."""
    return 2 * BYTES // np.dtype(dtype).itemsize


def room(rows: int, columns: int, dtype: Any) -> int:
    """Count the numbers of a packed matrix."""
    return -(-columns // panel(dtype)) * rows * panel(dtype)


def panel_room(dtype: Any) -> int:
    """Count the numbers of the panel that ``accumulate`` packs, and what it takes to start at a line of the cache."""
    return room(CHUNKS[1], panel(dtype), dtype) + ALIGNMENT // np.dtype(dtype).itemsize


def operand_room(longest: int, products: str) -> int:
    """Count the words that a thread lays at a time, none but of bfloat16: so many that they stay in the cache, and no fewer than
    a tile's rows of the ``longest`` product; whole lines of the cache."""
    words = max(OPERANDS, TALLEST * (longest // 2 + 1)) if products == "bfloat16" else 0
    return -(-words // ALIGNMENT) * ALIGNMENT


@intrinsic(prefer_literal=True)
def _tile(typing, like, narrow, rows, k, a, row, column, b, c, ldc, beta, low, high):  # type: ignore[no-untyped-def]
    """Set ``C[:, low:high] = A B + beta C`` for ``rows`` rows and one panel, whose first column ``c`` is; addresses and numbers.

    ``A[r, i]`` is the number ``r * row + i * column`` from ``a``; where ``narrow``, both are words."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, _, k, a, row, column, b, c, ldc, beta, low, high = arguments
        number, word, count = context.get_data_type(like.dtype), ir.IntType(64), rows.literal_value
        size = like.dtype.bitwidth // 8
        lanes = BYTES // size
        vector = ir.VectorType(number, lanes)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{like.dtype.bitwidth}")
        add = lambda x, y, z: builder.call(fma, [x, y, z]) if FUSES else builder.fadd(builder.fmul(x, y), z)  # noqa: E731
        at = lambda address, kind: builder.inttoptr(address, kind.as_pointer())  # noqa: E731
        bytes_ = lambda n: builder.mul(n, word(size))  # noqa: E731
        step_a, step_c = bytes_(row), bytes_(ldc)
        starts = [builder.add(a, builder.mul(step_a, word(r))) for r in range(count)]
        sums = [cgutils.alloca_once(builder, vector) for _ in range(2 * count)]
        for each in sums:
            builder.store(ir.Constant(vector, [0.0] * lanes), each)
        with cgutils.for_range(builder, k) as loop:
            place = builder.mul(loop.index, column)
            line = builder.add(b, builder.mul(loop.index, word(2 * BYTES)))
            halves = [builder.load(at(builder.add(line, word(BYTES * h)), vector), align=size) for h in range(2)]
            for r in range(count):
                one = builder.load(builder.gep(at(starts[r], number), [place]), align=size)
                spread = builder.shuffle_vector(builder.insert_element(ir.Constant(vector, ir.Undefined), one, ir.IntType(32)(0)),
                                                ir.Constant(vector, ir.Undefined),
                                                ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))  # fmt: skip
                for h in range(2):
                    total = sums[2 * r + h]
                    given = spread, halves[h], builder.load(total)
                    after = bfloat16.dot(builder, *given, DOTS, add) if narrow.literal_value else add(*given)
                    builder.store(after, total)
        whole = builder.and_(builder.icmp_signed("<=", low, word(0)), builder.icmp_signed(">=", high, word(2 * lanes)))
        adds = builder.icmp_signed("!=", beta, word(0))

        def put(add: bool) -> None:
            for r in range(count):
                for h in range(2):
                    target = at(builder.add(builder.add(c, builder.mul(step_c, word(r))), word(BYTES * h)), vector)
                    value = builder.load(sums[2 * r + h])
                    builder.store(builder.fadd(value, builder.load(target, align=size)) if add else value, target, align=size)

        with builder.if_else(whole) as (then, otherwise):
            with then, builder.if_else(adds) as (more, new):
                with more:
                    put(True)
                with new:
                    put(False)
            with otherwise:
                # Some columns of the panel are not wanted, or lie behind the matrix: by way of a copy, number by number.
                edge = cgutils.alloca_once(builder, ir.ArrayType(number, 2 * lanes * count))
                base = builder.ptrtoint(edge, word)
                for n, each in enumerate(sums):
                    builder.store(builder.load(each), at(builder.add(base, word(BYTES * n)), vector), align=size)
                for r in range(count):
                    target = at(builder.add(c, builder.mul(step_c, word(r))), number)
                    own = at(builder.add(base, word(2 * BYTES * r)), number)
                    with cgutils.for_range(builder, builder.sub(high, low)) as loop:
                        index = builder.add(low, loop.index)
                        old = builder.gep(target, [index])
                        value = builder.load(builder.gep(own, [index]))
                        before = builder.select(adds, builder.load(old), number(0.0))
                        builder.store(builder.fadd(value, before), old)
        return context.get_dummy_value()

    return types.none(like, narrow, rows, *[types.intp] * 10), code


@intrinsic(prefer_literal=True)
def _transpose(typing, like, narrow, source, stride, target):  # type: ignore[no-untyped-def]
    """Turn as many rows (``stride`` numbers apart) of one vector each into columns, the rows of a panel at ``target``.

    Rows whose numbers differ in one bit exchange halves, quarters, …: no number goes through memory on its own.  Where ``narrow``
    two vectors of each row become one of words."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, source, stride, target = arguments
        number, word, size = context.get_data_type(like.dtype), ir.IntType(64), like.dtype.bitwidth // 8
        lanes = BYTES // size
        vector, places = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(32), lanes)
        at = lambda address: builder.inttoptr(address, vector.as_pointer())  # noqa: E731
        step = builder.mul(stride, word(size))

        def load(r: int, half: int = 0) -> Any:
            return builder.load(at(builder.add(source, builder.add(builder.mul(step, word(r)), word(half * BYTES)))), align=size)

        def words(r: int) -> Any:
            both = load(r), load(r, 1)
            each = (builder.shuffle_vector(*both, ir.Constant(places, [*range(start, 2 * lanes, 2)])) for start in (0, 1))
            return bfloat16.pairs(builder, *each)

        rows = [words(r) if narrow.literal_value else load(r) for r in range(lanes)]
        s = 1
        while s < lanes:
            for i in range(lanes):
                if not i & s:
                    a, b = rows[i], rows[i + s]
                    low = [n if not n & s else lanes + n - s for n in range(lanes)]
                    high = [n + s if not n & s else lanes + n for n in range(lanes)]
                    rows[i] = builder.shuffle_vector(a, b, ir.Constant(places, low))
                    rows[i + s] = builder.shuffle_vector(a, b, ir.Constant(places, high))
            s *= 2
        for r, row in enumerate(rows):
            builder.store(row, at(builder.add(target, word(2 * BYTES * r))), align=size)
        return context.get_dummy_value()

    return types.none(like, narrow, *[types.intp] * 3), code


@functools.cache
def panel_product(products: str) -> Any:
    """Give what multiplies with one panel, tile below tile: compiled once and called by address, since the tiles are long to
    compile and several functions need them.  Kept for the life of the process, as its address is."""
    return _built(numbers(products), np.dtype(numbers(products)).itemsize, products == "bfloat16")


def _built(F, size, narrow) -> Any:  # type: ignore[no-untyped-def]
    @numba.cfunc(types.void(*[types.intp] * 11), cache=True, error_model="numpy")
    def product(m, k, a, row, column, b, c, ldc, beta, low, high):  # type: ignore[no-untyped-def]
        r = 0
        while m - r >= TALLEST:
            _tile(F, narrow, TALLEST, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)
            r += TALLEST
        if m - r >= 4:
            _tile(F, narrow, 4, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)
            r += 4
        if m - r >= 2:
            _tile(F, narrow, 2, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)
            r += 2
        if m - r >= 1:
            _tile(F, narrow, 1, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)

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
    width, deep, odd, band = 2 * BYTES // size, lines(calls, depth), 0, max(1, m)
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
        for p in range(low // width, (high + width - 1) // width):
            b, at = packed + (p * deep + skip) * 2 * BYTES, c + (top * ldc + p * width - low) * size
            first, end = max(0, low - p * width), min(width, high - p * width)
            invoke(calls[PANEL], (count, long, left, lead, 1, b, at, ldc, beta, first, end))


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
            else:
                _pack_panel(unit, line, rows, ldb, used, room)
                if sums:  # from the panel, which is in the cache
                    _add_rows(unit, room, rows, width, used, sums + start * size)
            for band in range(bands):
                if after and top == 0:
                    own, other = line + after * ldb * size, a + after * lda * size
                    _fetch_rows(own, ldb * size, used * size, rows * band // bands, rows * (band + 1) // bands)
                    _fetch_rows(other, lda * size, m * size, rows * done // parts, rows * (done + 1) // parts)
                    done += 1
                first = band * tall
                at = c + ((top + first) * ldc + start) * size
                invoke(calls[PANEL], (min(tall, count - first), long, left + first * size, 1, lead, room, at, ldc, beta, 0, used))


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


@numba.njit(error_model="numpy")
def _pack_panel(unit, source, rows, stride, used, to):  # type: ignore[no-untyped-def]
    zero, width = unit.dtype.type(0), 2 * BYTES // unit.itemsize
    if used == width:
        for k in range(rows):
            for j in range(width):
                poke(unit, to, k * width + j, peek(unit, source, k * stride + j, 0), 1)
        return
    for k in range(rows):
        for j in range(width):
            poke(unit, to, k * width + j, peek(unit, source, k * stride + j, 0) if j < used else zero, 1)


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
            _pack_panel(unit, w + p * width * size, rows, columns, columns - p * width, packed + (p - start) * panel)
        return
    tall = rows // lanes * lanes
    for p in range(start, stop):
        to = packed + (p - start) * panel
        for k in range(0, tall if p < full else 0, lanes):
            _transpose(unit, False, w + (p * width * rows + k) * size, rows, to + k * 2 * BYTES)
            _transpose(unit, False, w + ((p * width + lanes) * rows + k) * size, rows, to + k * 2 * BYTES + BYTES)
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
            _transpose(unit, True, w + (p * width * rows + 2 * q) * size, rows, to + q * 2 * BYTES)
            _transpose(unit, True, w + ((p * width + lanes) * rows + 2 * q) * size, rows, to + q * 2 * BYTES + BYTES)
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
