"""The compiled code that runs a thread's share of a program, forward and backward; the whole sweep is one call.

Everything is an address: of arrays in a transform's record (``gridc.fusion.native``), of products, of the cells' kernels.
So this is compiled once a type, whatever the grid and however many threads share it.

Threads meet at a *gate*, an array of words: the first says that nobody need wait any more, and then each thread has a line of
the cache, on which it counts its meetings.  Whoever waits looks there, more and more slowly: it spins, lets others run, sleeps.

Nothing is allocated here: Numba frees an array after its last use in the code, and knows nothing of an address that is used
later.  What is worked in comes from Python, which holds it during the call.  ``unit`` is an array that gives the type, and a
thread's room to work in: for operands that are laid as words, and behind them the adjoint's for one product, that of the weights'
gradients (``gemm.panel_room``) for one panel.  ``calls`` are the addresses of what products call (``gemm.CALLS``).
"""

# pyright: basic

from __future__ import annotations  # noqa: I001 - the words of a record stay on one line

import functools
from typing import Any

import numba
import numpy as np

from gridc.fusion import kernels
from gridc.fusion.gemm import FEW, PACKS, WORDS, accumulate, addresses, lines, multiply, multiply_once
from gridc.fusion.native import (
    ADJOINT, CHUNK, COLUMNS, DB, DH, DM, DP, DP_ROWS, DW, ENDS, FORWARD, HIDDEN, INPUTS, MOVED, PACKED, SLOTS, TURNS, VECTORS,
    WEIGHTS, G, H, M, W, Z,
)  # fmt: skip
from gridc.fusion.native import breathe, copy, give_way, invoke, observe, peek, poke, publish, word
from gridc.fusion.registers import BYTES
from gridc.fusion.workspace import COLUMN, GRADIENT, INDEX, LINE, MASK, MASKED, SOURCE, WIDTH
from gridc.scheduling.program import ATTEND, CELL, COPY, PRODUCT, Array
from gridc.scheduling.shares import AWAIT, FORGETS, GRADIENTS, MEET, MULTIPLY, PACK, READ, SIGNAL

YIELDS, NAP = 200, 50
"""How often a thread that waits lets others run before it sleeps, and for how many millionths of a second it then does."""
BLOCK = 256
"""Rows and columns of the part of a weight's gradient that is added up over all chunks before the next: it stays in the cache."""


@functools.cache
def compiled() -> tuple[Any, Any, Any]:
    """Give ``forward``, ``backward`` and ``weights``, built at their first call and kept in the cache folder."""
    with kernels.cached(kernels.numbers_of(globals())):
        build = numba.njit(nogil=True, cache=True, error_model="numpy")
        return tuple(build(each.py_func) for each in (forward, backward, weights))  # type: ignore[return-value]


@functools.cache
def products(kind: str) -> Array:
    """Give what products of a kind call (``gemm.addresses``): of numbers of a type, or of float32 numbers in ``bfloat16``."""
    with kernels.cached():
        return addresses(kind)


@numba.njit(error_model="numpy")
def _meet(gate: int, thread: int, threads: int, patience: int, times: int) -> bool:
    """Wait until every thread has met so many ``times``; True where nobody need wait any more."""
    publish(gate + (1 + thread) * LINE, times)
    for other in range(threads):
        if _await(gate, other, patience, times):
            return True
    return observe(gate) != 0


@numba.njit(error_model="numpy")
def _await(gate: int, other: int, patience: int, times: int) -> bool:
    """Wait until another thread has come so many ``times``; True where nobody need wait any more."""
    looks = 0
    while observe(gate + (1 + other) * LINE) < times:
        looks += 1
        if looks > patience:
            if observe(gate):
                return True
            give_way(NAP if looks > patience + YIELDS else 0)
        else:
            breathe()
    return False


@numba.njit(error_model="numpy")
def _add(unit: Array, target: int, source: int, count: int) -> None:
    for j in range(count):
        poke(unit, target, j, peek(unit, target, j, 0) + peek(unit, source, j, 1), 0)


@numba.njit(error_model="numpy")
def _gather(unit: Array, block: Array, z: int, inputs: int, first: int, end: int) -> None:
    """Copy the rows of one block into ``Z``."""
    size, width, source, index = unit.itemsize, block[WIDTH], block[SOURCE], block[INDEX]
    for r in range(first, end):
        row, target = word(index, r), z + (r * inputs + block[COLUMN]) * size
        if row >= 0:
            copy(target, source + row * width * size, width * size)
        else:
            for j in range(width):
                poke(unit, target, j, unit.dtype.type(0), 0)
    if block[MASK]:
        _hide(unit, block, z + (first * inputs + block[COLUMN]) * size, inputs, first, end, 0, width)


@numba.njit(error_model="numpy")
def _hide(unit: Array, block: Array, at: int, lead: int, first: int, end: int, low: int, high: int) -> None:
    """Multiply the columns ``low:high`` of one block's rows, the first ``at`` this address and ``lead`` numbers apart, by their
    masks."""
    size, width, masked = unit.itemsize, block[WIDTH], block[MASKED]
    for r in range(first, end):
        row, target = word(masked, r), at + (r - first) * lead * size
        if row >= 0:
            mask = block[MASK] + (row * width + low) * size
            for j in range(high - low):
                poke(unit, target, j, peek(unit, target, j, 0) * peek(unit, mask, j, 1), 0)


@numba.njit(error_model="numpy")
def _scatter(unit: Array, block: Array, source: int, lead: int, first: int, end: int, low: int, high: int) -> None:
    """Add the gradients of the columns ``low:high`` of one block's rows, ``lead`` numbers apart, to those of what was read."""
    size, width, target, index = unit.itemsize, block[WIDTH], block[GRADIENT], block[INDEX]
    if block[MASK]:
        _hide(unit, block, source, lead, first, end, low, high)
    for r in range(first, end):
        row = word(index, r)
        if row >= 0:
            _add(unit, target + (row * width + low) * size, source + (r - first) * lead * size, high - low)


@numba.njit(error_model="numpy")
def _neighbours(block: Array, first: int, end: int) -> bool:
    """Tell whether the rows that one block reads lie one after the other."""
    start = word(block[INDEX], first)
    if start < 0:
        return False
    for r in range(first + 1, end):  # noqa: SIM110 - compiled code knows no generators
        if word(block[INDEX], r) != start + r - first:
            return False
    return True


@numba.njit(error_model="numpy")
def _add_state(unit: Array, record: Array, h: int, m: int, target: int, source: int) -> None:
    """Add a row of hidden vectors, and of memories where there are any, to another."""
    n = record[HIDDEN]
    _add(unit, record[h] + target * n * unit.itemsize, record[h] + source * n * unit.itemsize, n)
    if record[m]:
        _add(unit, record[m] + target * n * unit.itemsize, record[m] + source * n * unit.itemsize, n)


@numba.njit(error_model="numpy")
def _columns(unit: Array, low: int, high: int, part: int, parts: int) -> tuple[int, int]:
    """Give those of the columns ``low:high`` that are one ``part`` of them, cut where panels end."""
    width = 2 * BYTES // unit.itemsize
    start = low // width
    count = (high + width - 1) // width - start
    begin, stop = start + part * count // parts, start + (part + 1) * count // parts
    return max(low, begin * width), min(high, stop * width)


@numba.njit(error_model="numpy")
def _panels(unit: Array, calls: Array, record: Array, weight: int, transposed: int) -> int:
    """Give where one of the weights, or its transposed, lies packed."""
    rows, columns = record[INPUTS], record[COLUMNS]
    if transposed:
        rows, columns = columns, rows
    width = 2 * BYTES // unit.itemsize
    slot = weight if record[SLOTS] > 1 else 0
    return record[PACKED] + slot * ((columns + width - 1) // width) * lines(calls, rows) * 2 * BYTES


@numba.njit(error_model="numpy")
def _pack(unit: Array, calls: Array, record: Array, weight: int, transposed: int, part: int, parts: int) -> None:
    """Pack a part of one of the weights' panels."""
    rows, columns = record[INPUTS], record[COLUMNS]
    w = record[W] + weight * rows * columns * unit.itemsize
    if transposed:
        rows, columns = columns, rows
    width = 2 * BYTES // unit.itemsize
    panels = (columns + width - 1) // width
    start, stop = part * panels // parts, (part + 1) * panels // parts
    at = _panels(unit, calls, record, weight, transposed) + start * lines(calls, rows) * 2 * BYTES
    invoke(calls[PACKS], (w, rows, columns, transposed, at, start, stop))


@numba.njit(error_model="numpy")
def _product(unit: Array, calls: Array, record: Array, blocks: Array, step: Any, forgets: int) -> None:
    """Gather what rows read, multiply it, or both."""
    size, first, end, weight, low, high = unit.itemsize, step.first, step.end, step.weight, step.low, step.high
    inputs, columns, beta = record[INPUTS], record[COLUMNS], step.adds
    start = blocks[low, COLUMN]
    width = blocks[high - 1, COLUMN] + blocks[high - 1, WIDTH] - start
    z, lead = record[Z] + (first * inputs + start) * size, inputs
    lies = forgets and step.does != READ and high == low + 1 and blocks[low, MASK] == 0 and _neighbours(blocks[low], first, end)
    if lies:
        z, lead = blocks[low, SOURCE] + word(blocks[low, INDEX], first) * width * size, width
    elif step.does & READ:
        for b in range(low, high):
            _gather(unit, blocks[b], record[Z], inputs, first, end)
    left, right = _columns(unit, 0, columns, step.part, step.parts)
    if step.does & MULTIPLY == 0 or left >= right:
        return
    g, w = record[G] + (first * columns + left) * size, record[W] + weight * inputs * columns * size
    if record[PACKED] == 0:
        invoke(calls[FEW], (0, end - first, width, left, right, z, lead, w + start * columns * size, columns, g, columns, beta))
    elif record[SLOTS] == 0:
        multiply_once(unit, calls, end - first, width, start, left, right, z, lead, w, inputs, columns, 0,
                      g, columns, beta, record[PACKED])  # fmt: skip
    else:
        packed = _panels(unit, calls, record, weight, 0)
        multiply(unit, calls, end - first, width, start, left, right, z, lead, packed, inputs, g, columns, beta)


@numba.njit(error_model="numpy")
def forward(
    steps: Array, records: Array, blocks: Array, unit: Array, calls: Array, forgets: int,
    gate: int, thread: int, threads: int, patience: int,
) -> None:  # fmt: skip
    """Run the steps of one thread in order.

    Where it ``forgets``, what lies side by side is read where it is instead of copied into ``Z``, and weights that are used one
    after the other have ``Z`` and ``G`` in one place, which stays in the cache."""
    size, times = unit.itemsize, 0
    for number in range(steps.shape[0]):
        step = steps[number]
        kind, first, end, weight = step.kind, step.first, step.end, step.weight
        if kind == MEET:
            if forgets or step.does & FORGETS == 0:
                times += 1
                if _meet(gate, thread, threads, patience, times):
                    return
            continue
        record = records[step.transform]
        if kind == PACK:
            _pack(unit, calls, record, weight, 0, step.part, step.parts)
            continue
        if forgets and record[TURNS] and kind in (PRODUCT, CELL, ATTEND):
            start = word(record[ENDS], weight)
            record[Z] += (record[MOVED] - start) * record[INPUTS] * size
            record[G] += (record[MOVED] - start) * record[COLUMNS] * size
            record[MOVED] = start
        if kind == PRODUCT:
            _product(unit, calls, record, blocks, step, forgets)
        elif kind in (CELL, ATTEND):
            invoke(record[FORWARD], (record.ctypes.data, first, end, weight))
        elif kind == COPY:
            _gather(unit, blocks[step.low], record[H], record[HIDDEN], first, end)
        else:
            _add_state(unit, record, H, M, step.target, step.source)


@numba.njit(error_model="numpy")
def _product_back(unit: Array, calls: Array, record: Array, blocks: Array, step: Any) -> None:
    """Hand the gradients of what rows read back to where it was read."""
    size = unit.itemsize
    dz = np.intp(unit.ctypes.data) + calls[WORDS] * size
    first, end, weight, low, high = step.first, step.end, step.weight, step.low, step.high
    inputs, columns, start = record[INPUTS], record[COLUMNS], blocks[step.low, COLUMN]
    while high > low and blocks[high - 1, GRADIENT] == 0:
        high -= 1
    if high == low:
        return
    width = blocks[high - 1, COLUMN] + blocks[high - 1, WIDTH] - start
    left, right = _columns(unit, start, start + width, step.part, step.parts)
    if left >= right:
        return
    g, w = record[G] + first * columns * size, record[W] + weight * inputs * columns * size
    if record[PACKED] == 0:
        invoke(calls[FEW], (1, end - first, columns, left, right, g, columns, w, columns, dz, right - left, 0))
    elif record[SLOTS] == 0:
        multiply_once(unit, calls, end - first, columns, 0, left, right, g, columns, w, columns, inputs, 1,
                      dz, right - left, 0, record[PACKED])  # fmt: skip
    else:
        packed = _panels(unit, calls, record, weight, 1)
        multiply(unit, calls, end - first, columns, 0, left, right, g, columns, packed, columns, dz, right - left, 0)
    for b in range(low, high):
        block = blocks[b]
        begin, stop = max(left, block[COLUMN]), min(right, block[COLUMN] + block[WIDTH])
        if block[GRADIENT] and begin < stop:
            column = block[COLUMN]
            _scatter(unit, block, dz + (begin - left) * size, right - left, first, end, begin - column, stop - column)


@numba.njit(error_model="numpy")
def backward(
    steps: Array, records: Array, blocks: Array, unit: Array, calls: Array,
    gate: int, thread: int, threads: int, patience: int,
) -> None:  # fmt: skip
    """Run the adjoint of each step of one thread."""
    size, times = unit.itemsize, 0
    for number in range(steps.shape[0]):
        step = steps[number]
        kind, first, end = step.kind, step.first, step.end
        if kind == MEET:
            times += 1
            if _meet(gate, thread, threads, patience, times):
                return
            continue
        record = records[step.transform]
        if kind in (CELL, ATTEND):
            invoke(record[ADJOINT], (record.ctypes.data, first, end, step.weight))
        elif kind == PRODUCT:
            _product_back(unit, calls, record, blocks, step)
        elif kind == PACK:
            _pack(unit, calls, record, step.weight, 1, step.part, step.parts)
        elif kind == SIGNAL:
            times += 1
            publish(gate + (1 + thread) * LINE, times)
        elif kind == AWAIT:
            if _await(gate, step.source, patience, step.target):
                return
        elif kind == GRADIENTS:
            _gradient(unit, calls, record, step.weight, first, end, 0, record[INPUTS], 0, record[COLUMNS], step.adds, 0)
        elif kind == COPY:
            block = blocks[step.low]
            if block[GRADIENT]:
                width = block[WIDTH]
                _scatter(unit, block, record[DH] + first * width * size, width, first, end, 0, width)
        else:
            _add_state(unit, record, DH, DM, step.source, step.target)


@numba.njit(error_model="numpy")
def _gradient(
    unit: Array, calls: Array, record: Array, weight: int, first: int, end: int, top: int, bottom: int, low: int, high: int,
    adds: int, after: int,
) -> None:  # fmt: skip
    """Make what the rows ``first:end``, one chunk, add to a part of the gradients of a weight and its bias; ``after`` is how far
    from them those of the next chunk are, 0 where nobody knows."""
    size, inputs, columns = unit.itemsize, record[INPUTS], record[COLUMNS]
    dw, sums = record[DW] + (weight * inputs + top) * columns * size, 0
    if top == 0 and record[DB]:
        sums = record[DB] + weight * columns * size
        if not adds:
            _clear(unit, sums, 1, columns, low, high)
    if end > first:
        accumulate(unit, calls, end - first, bottom - top, low, high, record[Z] + (first * inputs + top) * size, inputs,
                   record[G] + first * columns * size, columns, dw, columns, adds,
                   np.intp(unit.ctypes.data) + calls[WORDS] * size, sums, after)  # fmt: skip
    elif not adds:
        _clear(unit, dw, bottom - top, columns, low, high)


@numba.njit(error_model="numpy")
def weights(records: Array, unit: Array, calls: Array, part: int, parts: int, made: int, adds: int) -> None:
    """Add up the weights' gradients, unless they are ``made``, and those of vectors, ``part`` of so many parts of them; where it
    ``adds``, to what is there.

    A part is some panels of columns of some rows of some weights; every sum goes over the chunks in one order, so that the parts
    change nothing."""
    width = 2 * BYTES // unit.itemsize
    for t in range(records.shape[0]):
        record = records[t]
        inputs, columns, count = record[INPUTS], record[COLUMNS], record[WEIGHTS]
        panels = (columns + width - 1) // width
        bands = max(1, (inputs + BLOCK - 1) // BLOCK)  # what reads nothing has a bias
        if 0 < count * panels * bands < 2 * parts and parts > 1:
            bands = min((2 * parts - 1) // (count * panels) + 1, max(1, inputs // 8))
        units = 0 if made else count * bands * panels
        at, stop = part * units // parts, (part + 1) * units // parts
        while at < stop:
            weight, band, p = at // (bands * panels), at // panels % bands, at % panels
            low, high = p * width, min(columns, min(panels, p + stop - at, p + max(1, BLOCK // width)) * width)
            at += (high - low + width - 1) // width
            top, bottom = band * inputs // bands, (band + 1) * inputs // bands
            first, end = word(record[ENDS], weight), word(record[ENDS], weight + 1)
            chunks, size = max(1, (end - first + record[CHUNK] - 1) // record[CHUNK]), record[CHUNK]
            for n in range(chunks - 1, -1, -1):
                begin, stop_row = first + n * size, min(end, first + (n + 1) * size)
                goes_on, after = int(adds or n < chunks - 1), -size * int(n > 0)
                _gradient(unit, calls, record, weight, begin, stop_row, top, bottom, low, high, goes_on, after)
        if record[VECTORS]:
            _vectors(unit, record, part, parts, adds)


@numba.njit(error_model="numpy")
def _vectors(unit: Array, record: Array, part: int, parts: int, adds: int) -> None:
    """Add up the rows of the learnt vectors' gradients, a part of their columns."""
    size, columns = unit.itemsize, record[VECTORS]
    low, high = _columns(unit, 0, columns, part, parts)
    for weight in range(record[WEIGHTS]):
        to = record[DP] + (weight * columns + low) * size
        if not adds:
            _clear(unit, to, 1, columns, 0, max(0, high - low))
        for r in range(word(record[ENDS], weight), word(record[ENDS], weight + 1)):
            _add(unit, to, record[DP_ROWS] + (r * columns + low) * size, high - low)


@numba.njit(error_model="numpy")
def _clear(unit: Array, c: int, rows: int, columns: int, low: int, high: int) -> None:
    for i in range(rows):
        for j in range(low, high):
            poke(unit, c, i * columns + j, unit.dtype.type(0), 0)
