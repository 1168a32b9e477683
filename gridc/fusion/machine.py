"""The compiled code that runs a program's steps, forward and backward; the whole sweep is one call.

Everything is an address: of arrays in a transform's record (``gridc.fusion.native``), of BLAS's product, of the cells' kernels.
So this is compiled once a type, whatever the grid.

Nothing is allocated here: Numba frees an array after its last use in the code, and knows nothing of an address that is used
later.  What is worked in comes from Python, which holds it during the call.  ``unit`` is an array that gives the type, and room
to work in: the adjoint's for one product, that of the weights' gradients (``gemm.panel_room``) for one panel.
"""

# pyright: basic

from __future__ import annotations  # noqa: I001 - the words of a record stay on one line

import functools
from typing import Any

import numba

from gridc.fusion import blas, kernels
from gridc.fusion.gemm import BYTES, DEPTH, accumulate, multiply, multiply_once, panel_pack, panel_product
from gridc.fusion.native import (
    ADJOINT, COLUMNS, DH, DM, DW, ENDS, FORWARD, HELD, HIDDEN, INPUTS, MOVED, PACKED, SLOTS, TURNS, WEIGHTS, G, H, M, W, Z,
)  # fmt: skip
from gridc.fusion.native import copy, gemm, give_way, invoke, keep_word, observe, peek, poke, publish, word
from gridc.fusion.workspace import COLUMN, GRADIENT, INDEX, MASK, MASKED, SOURCE, WIDTH
from gridc.scheduling.program import ATTEND, CELL, COPY, PRODUCT, WRAP, Array


PATIENCE = 1000
"""Looks at the other thread's progress before giving way."""


@functools.cache
def compiled() -> tuple[Any, Any, Any, Any]:
    """Give ``forward``, ``backward``, ``weights`` and ``follow``, built at their first call and kept in the cache folder."""
    with kernels.cached():
        build = numba.njit(nogil=True, cache=True, error_model="numpy")
        return build(forward), build(backward), build(weights), build(follow)


@functools.cache
def products(dtype: str) -> tuple[int, int, int]:
    """Give the addresses of BLAS's product, of that with one packed panel, and of what packs panels."""
    with kernels.cached():
        return blas.gemm_address(dtype), panel_product(dtype).address, panel_pack(dtype).address


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
        _hide(unit, block, z + (first * inputs + block[COLUMN]) * size, inputs, first, end)


@numba.njit(error_model="numpy")
def _hide(unit: Array, block: Array, at: int, lead: int, first: int, end: int) -> None:
    """Multiply rows of one block, the first of them ``at`` this address and ``lead`` numbers apart, by their masks."""
    size, width, masked = unit.itemsize, block[WIDTH], block[MASKED]
    for r in range(first, end):
        row, target = word(masked, r), at + (r - first) * lead * size
        if row >= 0:
            for j in range(width):
                poke(unit, target, j, peek(unit, target, j, 0) * peek(unit, block[MASK] + row * width * size, j, 1), 0)


@numba.njit(error_model="numpy")
def _scatter(unit: Array, block: Array, source: int, lead: int, first: int, end: int) -> None:
    """Add the gradients of rows of one block, ``lead`` numbers apart, to those of what was read."""
    size, width, target, index = unit.itemsize, block[WIDTH], block[GRADIENT], block[INDEX]
    if block[MASK]:
        _hide(unit, block, source, lead, first, end)
    for r in range(first, end):
        row = word(index, r)
        if row >= 0:
            _add(unit, target + row * width * size, source + (r - first) * lead * size, width)


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
def _panels(unit: Array, packer: int, record: Array, weight: int, transposed: int) -> int:
    """Give where one of the weights, or its transposed, lies packed; pack it unless it already is."""
    rows, columns = record[INPUTS], record[COLUMNS]
    if transposed:
        rows, columns = columns, rows
    width = 2 * BYTES // unit.itemsize
    panels = (columns + width - 1) // width
    slot = weight if record[SLOTS] > 1 else 0
    at = record[PACKED] + slot * panels * rows * 2 * BYTES
    if word(record[HELD], slot) != weight:
        w = record[W] + weight * rows * columns * unit.itemsize
        invoke(packer, (w, rows, columns, transposed, at, 0, panels))
        keep_word(record[HELD], slot, weight)
    return at


def forward(
    steps: Array, records: Array, blocks: Array, unit: Array, product: int, panel: int, packer: int, forgets: int
) -> None:
    """Run the steps in order.

    Where it ``forgets``, what lies side by side is read where it is instead of copied into ``Z``, and weights that are used one
    after the other have ``Z`` and ``G`` in one place, which stays in the cache."""
    size = unit.itemsize
    for number in range(steps.shape[0]):
        step = steps[number]
        kind, first, end, weight, low, high = step.kind, step.first, step.end, step.weight, step.low, step.high
        record, beta = records[step.transform], step.adds
        inputs, columns = record[INPUTS], record[COLUMNS]
        if forgets and record[TURNS] and kind in (PRODUCT, CELL, ATTEND):
            start = word(record[ENDS], weight)
            record[Z] += (record[MOVED] - start) * inputs * size
            record[G] += (record[MOVED] - start) * columns * size
            record[MOVED] = start
        if kind == PRODUCT:
            start = blocks[low, COLUMN]
            width = blocks[high - 1, COLUMN] + blocks[high - 1, WIDTH] - start
            z, lead, g = record[Z] + (first * inputs + start) * size, inputs, record[G] + first * columns * size
            if forgets and high == low + 1 and blocks[low, MASK] == 0 and _neighbours(blocks[low], first, end):
                z, lead = blocks[low, SOURCE] + word(blocks[low, INDEX], first) * width * size, width
            else:
                for b in range(low, high):
                    _gather(unit, blocks[b], record[Z], inputs, first, end)
            if record[PACKED] and record[SLOTS] == 0:
                w = record[W] + weight * inputs * columns * size
                multiply_once(unit, panel, packer, end - first, width, start, 0, columns, z, lead, w, inputs, columns, 0,
                              g, columns, beta, record[PACKED])  # fmt: skip
            elif record[PACKED]:
                w = _panels(unit, packer, record, weight, 0) + start * 2 * BYTES
                multiply(unit, panel, end - first, width, 0, columns, z, lead, w, inputs, g, columns, beta)
            else:
                w = record[W] + (weight * inputs + start) * columns * size
                gemm(unit, product, 0, 0, end - first, columns, width, z, lead, w, columns, beta, g, columns)
        elif kind in (CELL, ATTEND):
            invoke(record[FORWARD], (record.ctypes.data, first, end, weight))
        elif kind == COPY:
            _gather(unit, blocks[low], record[H], record[HIDDEN], first, end)
        else:
            _add_state(unit, record, H, M, step.target, step.source)


def backward(
    steps: Array, records: Array, blocks: Array, unit: Array, product: int, panel: int, packer: int, progress: int
) -> None:
    """Run the adjoint of each step, the last first; at ``progress``, an address, it says which cells are done."""
    size, dz = unit.itemsize, unit.ctypes.data
    for number in range(steps.shape[0] - 1, -1, -1):
        step = steps[number]
        kind, first, end, weight, low, high = step.kind, step.first, step.end, step.weight, step.low, step.high
        record = records[step.transform]
        inputs, columns = record[INPUTS], record[COLUMNS]
        if kind in (CELL, ATTEND):
            invoke(record[ADJOINT], (record.ctypes.data, first, end, weight))
            publish(progress, number)
        elif kind == WRAP:
            _add_state(unit, record, DH, DM, step.source, step.target)
        else:
            source, start, width = dz, blocks[low, COLUMN], blocks[low, WIDTH]
            if kind == COPY:
                source = record[DH] + first * width * size
            else:
                while high > low and blocks[high - 1, GRADIENT] == 0:
                    high -= 1
                if high > low:
                    width = blocks[high - 1, COLUMN] + blocks[high - 1, WIDTH] - start
                    g = record[G] + first * columns * size
                    if record[PACKED] and record[SLOTS] == 0:
                        w = record[W] + weight * inputs * columns * size
                        multiply_once(unit, panel, packer, end - first, columns, 0, start, start + width, g, columns, w, columns,
                                      inputs, 1, dz, width, 0, record[PACKED])  # fmt: skip
                    elif record[PACKED]:
                        w = _panels(unit, packer, record, weight, 1)
                        multiply(unit, panel, end - first, columns, start, start + width, g, columns, w, columns, dz, width, 0)
                    else:
                        w = record[W] + (weight * inputs + start) * columns * size
                        gemm(unit, product, 0, 1, end - first, width, columns, g, columns, w, columns, 0, dz, width)
            for b in range(low, high):
                block = blocks[b]
                if block[GRADIENT]:
                    _scatter(unit, block, source + (block[COLUMN] - start) * size, width, first, end)


def weights(records: Array, unit: Array, panel: int, part: int, parts: int) -> None:
    """Add up the weights' gradients, ``part`` of so many parts of them: what rows read times their gradients, summed over lanes.

    ``records[lane]`` are a lane's; where there are fewer weights than parts, a part is some of their columns."""
    size = unit.itemsize
    width = 2 * BYTES // size
    room = unit.ctypes.data
    for t in range(records.shape[1]):
        inputs, columns, count = records[0, t, INPUTS], records[0, t, COLUMNS], records[0, t, WEIGHTS]
        low, high = 0, columns
        if count < parts:
            low, high = part * columns // parts // width * width, (part + 1) * columns // parts // width * width
            high = columns if part == parts - 1 else high
        for weight in range(count):
            if count >= parts and weight * parts // count != part:
                continue
            dw, added, most = records[0, t, DW] + weight * inputs * columns * size, 0, 0
            for lane in range(records.shape[0]):
                most = max(most, word(records[lane, t, ENDS], weight + 1) - word(records[lane, t, ENDS], weight))
            # Where all rows are packed at once, a panel of the result stays in the cache until all lanes have added to it.
            wide = width if most * records.shape[0] <= DEPTH else max(width, high - low)
            for start in range(low, high, wide):
                added = 0
                for lane in range(records.shape[0]):
                    record = records[lane, t]
                    first, end = word(record[ENDS], weight), word(record[ENDS], weight + 1)
                    if end > first and inputs > 0:
                        z, g = record[Z] + first * inputs * size, record[G] + first * columns * size
                        accumulate(unit, panel, end - first, inputs, start, min(high, start + wide), z, inputs, g, columns,
                                   dw, columns, added, room)  # fmt: skip
                        added = 1
            if not added:
                _clear(unit, dw, inputs, columns, low, high)


def follow(records: Array, chunks: Array, unit: Array, panel: int, progress: int) -> None:
    """Make the weights' gradients of one lane, chunk by chunk behind ``backward``, which runs in another thread."""
    size = unit.itemsize
    room = unit.ctypes.data
    for chunk in range(chunks.shape[0]):
        weight, first, end = chunks[chunk].weight, chunks[chunk].first, chunks[chunk].end
        step, added, record = chunks[chunk].step, chunks[chunk].adds, records[chunks[chunk].transform]
        inputs, columns = record[INPUTS], record[COLUMNS]
        tries = 0
        while observe(progress) > step:
            tries += 1
            if tries > PATIENCE:
                give_way()
        z, g = record[Z] + first * inputs * size, record[G] + first * columns * size
        dw = record[DW] + weight * inputs * columns * size
        if end > first and inputs > 0:
            accumulate(unit, panel, end - first, inputs, 0, columns, z, inputs, g, columns, dw, columns, added, room)
        else:
            _clear(unit, dw, inputs, columns, 0, columns)


@numba.njit(error_model="numpy")
def _clear(unit: Array, c: int, rows: int, columns: int, low: int, high: int) -> None:
    for i in range(rows):
        for j in range(low, high):
            poke(unit, c, i * columns + j, unit.dtype.type(0), 0)
