"""The product of a few rows with a matrix that is used many times: packed once, then multiplied by a kernel of its own.

A library's product copies the matrix into the layout that its kernel wants at every call; a sweep multiplies by the same
weights at every wavefront, by as few rows as one, and that copy costs it up to half of its time.  Here the weights lie in
*panels*: ``panel`` columns side by side, row after row, so that the kernel reads them in one stream.  The rows are read
where they lie.  The kernel holds a tile of ``TALLEST × panel`` sums in registers (Goto and van de Geijn 2008).
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
TALLEST = 8 if BYTES == 64 else 6
"""Rows of a tile: with two vectors a row, its sums leave registers for a row of the panel (32 registers, or 16)."""


GROUP = 1 << 18
"""Bytes of the panels that are packed at a time where each is used once."""
ALIGNMENT = 64
"""Bytes: packed weights start at a line of the cache."""


def panel(dtype: Any) -> int:
    """Count the columns of a panel: two vectors."""
    return 2 * BYTES // np.dtype(dtype).itemsize


def room(rows: int, columns: int, dtype: Any) -> int:
    """Count the numbers of a packed matrix."""
    return -(-columns // panel(dtype)) * rows * panel(dtype)


def panel_room(dtype: Any) -> int:
    """Count the numbers of the panel that ``accumulate`` packs, and what it takes to start at a line of the cache."""
    return room(CHUNKS[1], panel(dtype), dtype) + ALIGNMENT // np.dtype(dtype).itemsize


@intrinsic(prefer_literal=True)
def _tile(typing, like, rows, k, a, row, column, b, c, ldc, beta, low, high):  # type: ignore[no-untyped-def]
    """Set ``C[:, low:high] = A B + beta C`` for ``rows`` rows and one panel, whose first column ``c`` is; addresses and numbers.

    ``A[r, i]`` is the number ``r * row + i * column`` from ``a``."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, k, a, row, column, b, c, ldc, beta, low, high = arguments
        number, word, count = context.get_data_type(like.dtype), ir.IntType(64), rows.literal_value
        size = like.dtype.bitwidth // 8
        lanes = BYTES // size
        vector = ir.VectorType(number, lanes)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{like.dtype.bitwidth}")
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
                    before = builder.load(total)
                    after = builder.call(fma, [spread, halves[h], before]) if FUSES else builder.fadd(
                        builder.fmul(spread, halves[h]), before)  # fmt: skip
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

    return types.none(like, rows, *[types.intp] * 10), code


@intrinsic
def _transpose(typing, like, source, stride, target):  # type: ignore[no-untyped-def]
    """Turn as many rows (``stride`` numbers apart) of one vector each into columns, the rows of a panel at ``target``.

    Rows whose numbers differ in one bit exchange halves, quarters, …: no number goes through memory on its own."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, source, stride, target = arguments
        number, word, size = context.get_data_type(like.dtype), ir.IntType(64), like.dtype.bitwidth // 8
        lanes = BYTES // size
        vector, places = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(32), lanes)
        at = lambda address: builder.inttoptr(address, vector.as_pointer())  # noqa: E731
        step = builder.mul(stride, word(size))
        rows = [builder.load(at(builder.add(source, builder.mul(step, word(r)))), align=size) for r in range(lanes)]
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

    return types.none(like, *[types.intp] * 3), code


@functools.cache
def panel_product(dtype: str) -> Any:
    """Give what multiplies with one panel, tile below tile: compiled once and called by address, since the tiles are long to
    compile and several functions need them.  Kept for the life of the process, as its address is."""
    return _built(np.dtype(dtype).type, np.dtype(dtype).itemsize)


def _built(F, size) -> Any:  # type: ignore[no-untyped-def]
    @numba.cfunc(types.void(*[types.intp] * 11), cache=True, error_model="numpy")
    def product(m, k, a, row, column, b, c, ldc, beta, low, high):  # type: ignore[no-untyped-def]
        r = 0
        while m - r >= TALLEST:
            _tile(F, TALLEST, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)
            r += TALLEST
        if m - r >= 4:
            _tile(F, 4, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)
            r += 4
        if m - r >= 2:
            _tile(F, 2, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)
            r += 2
        if m - r >= 1:
            _tile(F, 1, k, a + r * row * size, row, column, b, c + r * ldc * size, ldc, beta, low, high)

    return product


@numba.njit(error_model="numpy")
def multiply(unit, function, m, k, low, high, a, lda, packed, depth, c, ldc, beta):  # type: ignore[no-untyped-def]
    """Set ``C = A B[:k, low:high] + beta C``: ``A`` is ``m × k``; ``packed`` is where B's first row lies in its first panel,
    whose panels are of ``depth`` rows; ``c`` is where the column ``low`` goes."""
    size = unit.itemsize
    width = 2 * BYTES // size
    for p in range(low // width, (high + width - 1) // width):
        b, at = packed + p * depth * 2 * BYTES, c + (p * width - low) * size
        invoke(function, (m, k, a, lda, 1, b, at, ldc, beta, max(0, low - p * width), min(width, high - p * width)))


@numba.njit(error_model="numpy")
def accumulate(unit, function, rows, m, low, high, a, lda, b, ldb, c, ldc, beta, room, sums, after):  # type: ignore[no-untyped-def]
    """Set ``C[:, low:high] = A^T B[:, low:high] + beta C``, ``A`` ``rows × m``, no more rows than a panel in ``room`` has.

    Add the rows of B up at ``sums``, an address, unless it is 0.  The order of the sums does not depend on ``m``, ``low`` and
    ``high``.  Unless ``after`` is 0, as many rows, ``after`` rows from these, are wanted next.  A is read by columns, where no
    processor guesses what comes, so those rows are fetched meanwhile, some before every tile."""
    size = unit.itemsize
    width = 2 * BYTES // size
    tall = TALLEST if after else max(1, m)
    bands, done = (m + tall - 1) // tall, 0
    parts = bands * ((high - low + width - 1) // width)
    for start in range(low, high, width):
        used = min(width, high - start)
        if sums:
            _pack_and_add(unit, b + start * size, rows, ldb, used, room, sums + start * size)
        else:
            _pack_panel(unit, b + start * size, rows, ldb, used, room)
        for band in range(bands):
            if after:
                own, other = b + (after * ldb + start) * size, a + after * lda * size
                _fetch_rows(own, ldb * size, used * size, rows * band // bands, rows * (band + 1) // bands)
                _fetch_rows(other, lda * size, m * size, rows * done // parts, rows * (done + 1) // parts)
                done += 1
            top = band * tall
            at = c + (top * ldc + start) * size
            invoke(function, (min(tall, m - top), rows, a + top * size, 1, lda, room, at, ldc, beta, 0, used))


@numba.njit(error_model="numpy")
def _fetch_rows(source, stride, width, first, end):  # type: ignore[no-untyped-def]
    """Fetch ``width`` bytes of each of some rows that lie ``stride`` bytes apart."""
    for r in range(first, end):
        for byte in range(0, width, ALIGNMENT):
            fetch(source + r * stride + byte)


@numba.njit(error_model="numpy")
def _pack_panel(unit, source, rows, stride, used, to):  # type: ignore[no-untyped-def]
    size, zero = unit.itemsize, unit.dtype.type(0)
    width = 2 * BYTES // size
    if used == width:
        for k in range(rows):
            for j in range(width):
                poke(unit, to, k * width + j, peek(unit, source, k * stride + j, 0), 1)
        return
    for k in range(rows):
        for j in range(width):
            poke(unit, to, k * width + j, peek(unit, source, k * stride + j, 0) if j < used else zero, 1)


@numba.njit(error_model="numpy")
def _pack_and_add(unit, source, rows, stride, used, to, sums):  # type: ignore[no-untyped-def]
    """``_pack_panel``, and add its rows to those at ``sums``, one after the other."""
    size = unit.itemsize
    width = 2 * BYTES // size
    _pack_panel(unit, source, rows, stride, used, to)
    for k in range(rows):
        for j in range(used):
            poke(unit, sums, j, peek(unit, sums, j, 0) + peek(unit, to, k * width + j, 1), 0)


@numba.njit(error_model="numpy")
def few(unit, m, k, low, high, a, lda, b, ldb, c, ldc, beta):  # type: ignore[no-untyped-def]
    """Set ``C = A B[:, low:high] + beta C`` for a few rows, too few to pack B for; ``c`` is where the column ``low`` goes."""
    size, zero, n = unit.itemsize, unit.dtype.type(0), high - low
    for r in range(0 if beta else m):
        for j in range(n):
            poke(unit, c + r * ldc * size, j, zero, 0)
    whole = k // 4 * 4
    for i in range(0, whole, 4):
        line = b + (i * ldb + low) * size
        for r in range(m):
            x, to = a + (r * lda + i) * size, c + r * ldc * size
            x0, x1, x2, x3 = peek(unit, x, 0, 2), peek(unit, x, 1, 2), peek(unit, x, 2, 2), peek(unit, x, 3, 2)
            for j in range(n):
                s = peek(unit, to, j, 0) + x0 * peek(unit, line, j, 1)
                s += x1 * peek(unit, line, ldb + j, 1)
                s += x2 * peek(unit, line, 2 * ldb + j, 1)
                poke(unit, to, j, s + x3 * peek(unit, line, 3 * ldb + j, 1), 0)
    for i in range(whole, k):
        for r in range(m):
            x, to = peek(unit, a + (r * lda + i) * size, 0, 2), c + r * ldc * size
            for j in range(n):
                poke(unit, to, j, peek(unit, to, j, 0) + x * peek(unit, b + (i * ldb + low) * size, j, 1), 0)


@numba.njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def few_back(unit, m, k, low, high, a, lda, b, ldb, c, ldc):  # type: ignore[no-untyped-def]
    """Set ``C = A B[low:high]^T`` for a few rows; ``A`` is ``m × k``, ``c`` where the column ``low`` goes."""
    size = unit.itemsize
    for j in range(low, high):
        for r in range(m):
            s = unit.dtype.type(0)
            for i in range(k):
                s += peek(unit, a + r * lda * size, i, 1) * peek(unit, b + j * ldb * size, i, 2)
            poke(unit, c + r * ldc * size, j - low, s, 0)


@register_jitable
def group(rows: int) -> int:
    """Choose how many panels of so many rows are packed at a time where each is used once: what stays in the cache until then."""
    return max(1, GROUP // max(1, rows * 2 * BYTES))


@numba.njit(error_model="numpy")
def pack(unit, w, rows, columns, transposed, packed, start, stop):  # type: ignore[no-untyped-def]
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
            _transpose(unit, w + (p * width * rows + k) * size, rows, to + k * 2 * BYTES)
            _transpose(unit, w + ((p * width + lanes) * rows + k) * size, rows, to + k * 2 * BYTES + BYTES)
        for j in range(width):
            source, used = w + (p * width + j) * rows * size, p * width + j < columns
            for k in range(tall if p < full else 0, rows):
                poke(unit, to, k * width + j, peek(unit, source, k, 0) if used else zero, 1)


@functools.cache
def panel_pack(dtype: str) -> Any:
    """Give ``pack`` without ``unit``, which is long to compile, too; kept as ``panel_product`` is."""
    return _built_pack(np.dtype(dtype).type)


def _built_pack(F) -> Any:  # type: ignore[no-untyped-def]
    @numba.cfunc(types.void(*[types.intp] * 7), cache=True, error_model="numpy")
    def packed(w, rows, columns, transposed, to, start, stop):  # type: ignore[no-untyped-def]
        pack(numba.carray(pointer(to), 0, F), w, rows, columns, transposed, to, start, stop)  # a view, for its type

    return packed


@numba.njit(error_model="numpy")
def multiply_once(unit, function, packer, m, k, skip, low, high, a, lda, w, rows, columns, transposed, c, ldc, beta, room):  # type: ignore[no-untyped-def]
    """Set ``C = A B[skip:skip + k, low:high] + beta C``: ``B``, ``rows × columns``, is what ``pack`` makes of ``w``, some panels
    at a time in ``room``."""
    size = unit.itemsize
    width = 2 * BYTES // size
    last, many = (high + width - 1) // width, group(rows)
    for start in range(low // width, last, many):
        stop = min(last, start + many)
        invoke(packer, (w, rows, columns, transposed, room, start, stop))
        first, end = max(low, start * width), min(high, stop * width)
        b = room + (skip - start * rows) * 2 * BYTES
        multiply(unit, function, m, k, first, end, a, lda, b, rows, c + (first - low) * size, ldc, beta)
