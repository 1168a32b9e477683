"""The whole sweep over a grid as one compiled call: gather, product, cells, batch after batch, and its adjoint.

Compiled code runs the steps of a ``Program`` forward, and backward in reverse with the adjoint of each.  The
weights' gradients are one product per weight at the end.

With two lanes the examples of a mini-batch are split in two; each lane sweeps its own half in its own thread, with
one BLAS thread each, and they meet once, when the gradients are added.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np

from gridc import blas, cells, kernels, native
from gridc.native import copy, gemm, invoke, peek, poke, word
from gridc.program import CELL, COPY, PRODUCT, WRAP, Array, Program, TransformProgram

__all__ = ["Parameters", "Program", "TransformProgram", "Workspace", "backward", "forward", "prepare"]

COLUMN, WIDTH, SOURCE, INDEX, GRADIENT = range(5)  # words of a block: one read or joined input of one transform
(HIDDEN, COLUMNS, INPUTS, H, M, Z, G, W, DH, DM, DW) = (native.HIDDEN, native.COLUMNS, native.INPUTS, native.H, native.M, native.Z,
    native.G, native.W, native.DH, native.DM, native.DW)  # fmt: skip
FORWARD, ADJOINT, WEIGHTS, ENDS = native.FORWARD, native.ADJOINT, native.WEIGHTS, native.ENDS


@dataclass
class Workspace:
    """A program and its arrays, kept between calls.

    The caller fills the boundary rows of ``h`` and ``m`` and the joined arrays (``[rows, features]``, per transform) before
    ``forward``; ``dh`` and ``dm`` (zero but for the gradients of the outputs) before ``backward``, after which their boundary
    rows hold the gradient of what entered, and ``djoined``, where given, has the joined inputs' gradients added.
    """

    program: Program
    dtype: Any
    h: list[Array] = field(init=False)
    m: list[Array | None] = field(init=False)
    z: list[Array] = field(init=False)
    g: list[Array] = field(init=False)
    joined: list[list[Array]] = field(init=False)
    dh: list[Array] = field(init=False, default_factory=list)
    dm: list[Array | None] = field(init=False, default_factory=list)
    djoined: list[list[Array | None]] = field(init=False)
    scratch: Array = field(init=False)

    def __post_init__(self) -> None:
        transforms = self.program.transforms
        self.dtype = np.dtype(self.dtype)
        self.h = [np.zeros((p.rows + p.boundary, p.hidden), self.dtype) for p in transforms]
        self.m = [np.zeros_like(h) if cells.CELLS[p.cell].memory else None for p, h in zip(transforms, self.h, strict=True)]
        self.z = [np.zeros((p.rows if p.gates else 0, sum(self.program.widths(t))), self.dtype) for t, p in enumerate(transforms)]
        self.g = [np.zeros((p.rows, p.width), self.dtype) for p in transforms]
        self.joined = [[np.zeros((0, width), self.dtype) for width in p.joined] for p in transforms]
        self.djoined = [[None] * len(p.joined) for p in transforms]
        self.scratch = np.zeros(self.program.scratch + max((p.hidden * p.dimensions for p in transforms), default=0), self.dtype)

    def clear_gradients(self) -> None:
        """Zeroes ``dh`` and ``dm``, which are made at the first call."""
        if not self.dh:
            self.dh, self.dm = [np.zeros_like(h) for h in self.h], [None if m is None else np.zeros_like(m) for m in self.m]
        for array in (*self.dh, *self.dm):
            if array is not None:
                array.fill(0)


@dataclass
class Parameters:
    """Per transform ``w [weights, rows, gates * hidden]``, ``b [weights, gates * hidden]``, ``p [weights, peepholes * hidden]``;
    also their gradients.  An absent bias or peephole is None, and so is everything of a ``pass``."""

    w: list[Array | None]
    b: list[Array | None]
    p: list[Array | None]

    def empty(self) -> Parameters:
        return Parameters(*([None if a is None else np.empty_like(a) for a in arrays] for arrays in (self.w, self.b, self.p)))

    def add(self, other: Parameters) -> None:
        for mine, theirs in zip((*self.w, *self.b, *self.p), (*other.w, *other.b, *other.p), strict=True):
            if mine is not None and theirs is not None:
                np.add(mine, theirs, out=mine)


def forward(lanes: Sequence[Workspace], parameters: Parameters) -> None:
    """Fills ``h``, ``m`` and what the adjoint needs (``z``, ``g``) of every lane."""
    _check(lanes, parameters)
    _together([functools.partial(_run_forward, lane, parameters) for lane in lanes])


def backward(lanes: Sequence[Workspace], parameters: Parameters, out: Parameters | None = None) -> Parameters:
    """The parameters' gradients, summed over lanes; after ``forward``, whose ``g`` it overwrites."""
    _check(lanes, parameters)
    gradients = [parameters.empty() if out is None or k else out for k in range(len(lanes))]
    _together([functools.partial(_run_backward, lane, parameters, g) for lane, g in zip(lanes, gradients, strict=True)])
    for other in gradients[1:]:
        gradients[0].add(other)
    return gradients[0]


def prepare(program: Program, dtype: Any) -> None:
    """Builds, or takes from the disk cache, all that running this program needs."""
    dtype = np.dtype(dtype)
    for p in program.transforms:
        if p.gates:
            kernels.load(p.cell, p.options, p.dimensions, dtype.name)
    empty, unit = np.zeros((0, 8), np.int64), np.zeros(1, dtype)
    for driver in _drivers():
        driver(empty, empty, empty, unit, 0)


def _run_forward(lane: Workspace, parameters: Parameters) -> None:
    records, blocks, _ = _tables(lane, parameters, None)
    _drivers()[0](lane.program.steps, records, blocks, lane.scratch, blas.gemm_address(lane.dtype))


def _run_backward(lane: Workspace, parameters: Parameters, gradients: Parameters) -> None:
    for array in (*gradients.b, *gradients.p):
        if array is not None:
            array.fill(0)
    records, blocks, _ = _tables(lane, parameters, gradients)
    _drivers()[1](lane.program.steps, records, blocks, lane.scratch, blas.gemm_address(lane.dtype))


def _address(array: Array | None) -> int:
    return 0 if array is None else int(array.__array_interface__["data"][0])


def _tables(lane: Workspace, parameters: Parameters, gradients: Parameters | None) -> tuple[Array, Array, list[Array]]:
    """Records and blocks of addresses, and arrays that must live as long."""
    program, keep, blocks = lane.program, [], []
    records = np.zeros((len(program.transforms), len(native.RECORD)), np.int64)
    absent = [None] * len(program.transforms)
    adjoint = gradients is not None
    for t, own in enumerate(program.transforms):
        kernel = kernels.load(own.cell, own.options, own.dimensions, lane.dtype.name) if own.gates else (0, 0)
        rows = np.array([_address(index) for index in own.memory_rows], np.int64)
        w, b = parameters.w[t], parameters.b[t]
        db = gradients.b[t] if gradients is not None else None
        weights = 0 if w is None else w.shape[0]
        if own.gates and b is None:
            b, db = np.zeros((weights, own.width), lane.dtype), np.zeros((weights, own.width), lane.dtype)
        keep += [rows, b, db]
        state = (lane.h[t], lane.m[t], lane.z[t], lane.g[t], w, b, parameters.p[t])
        slopes = (lane.dh[t], lane.dm[t], gradients.w[t], db, gradients.p[t]) if gradients is not None else (None,) * 5
        end = _address(lane.scratch) + lane.program.scratch * lane.dtype.itemsize
        addresses = [_address(array) for array in (*state, *slopes, rows)]
        records[t] = (own.hidden, own.width, sum(program.widths(t)), *addresses, *kernel, end, weights, _address(own.weight_ends))
        column = 0
        reads = [(lane.h[u], lane.dh[u] if adjoint else None, index) for u, index in zip(own.sources, own.read_rows, strict=True)]
        joins = list(zip(lane.joined[t], lane.djoined[t], own.joined_rows, strict=True))
        for source, gradient, index in (*reads, *joins):
            blocks.append((column, source.shape[1], _address(source), _address(index), _address(gradient)))
            column += source.shape[1]
    return records, np.array(blocks, np.int64).reshape(-1, 5), keep


def _check(lanes: Sequence[Workspace], parameters: Parameters) -> None:
    for lane in lanes:
        arrays = (*lane.h, *lane.m, *lane.z, *lane.g, *lane.dh, *lane.dm, *(a for j in (*lane.joined, *lane.djoined) for a in j))
        for array in (*arrays, *parameters.w, *parameters.b, *parameters.p):
            if array is not None and not (array.flags.c_contiguous and array.dtype == lane.dtype):
                raise ValueError(f"the sweep takes contiguous arrays of {lane.dtype}, not {array.dtype} of shape {array.shape}")


@functools.cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="gridc")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive a fork


def _together(tasks: Sequence[Callable[[], None]]) -> None:
    """Runs the first task here and the others in threads, with one BLAS thread each where there are several."""
    if len(tasks) == 1:
        tasks[0]()
        return
    with blas.single_threaded():
        others = [_workers().submit(task) for task in tasks[1:]]
        try:
            tasks[0]()
        finally:
            errors = [other.exception() for other in others]
        for error in errors:
            if error is not None:
                raise error


@functools.cache
def _drivers() -> tuple[Any, Any]:
    with kernels.cached():
        compile_ = numba.njit(nogil=True, cache=True, error_model="numpy")
        return compile_(_forward), compile_(_backward)


@numba.njit(error_model="numpy")
def _add(unit: Array, target: int, source: int, count: int) -> None:
    for j in range(count):
        poke(unit, target, j, peek(unit, target, j, 0) + peek(unit, source, j, 1), 0)


@numba.njit(error_model="numpy")
def _gather(unit: Array, block: Array, z: int, inputs: int, first: int, end: int) -> None:
    """Copies the rows of one block into ``Z``."""
    size, width, source, index = unit.itemsize, block[WIDTH], block[SOURCE], block[INDEX]
    for r in range(first, end):
        row, target = word(index, r), z + (r * inputs + block[COLUMN]) * size
        if row >= 0:
            copy(target, source + row * width * size, width * size)
        else:
            for j in range(width):
                poke(unit, target, j, unit.dtype.type(0), 0)


@numba.njit(error_model="numpy")
def _add_state(unit: Array, record: Array, h: int, m: int, target: int, source: int) -> None:
    """Adds a row of hidden vectors, and of memories where there are any, to another."""
    n = record[HIDDEN]
    _add(unit, record[h] + target * n * unit.itemsize, record[h] + source * n * unit.itemsize, n)
    if record[m]:
        _add(unit, record[m] + target * n * unit.itemsize, record[m] + source * n * unit.itemsize, n)


def _forward(steps: Array, records: Array, blocks: Array, unit: Array, product: int) -> None:
    size = unit.itemsize
    for step in range(steps.shape[0]):
        kind, t, first, end, weight, low, high, beta = steps[step]
        record = records[t]
        inputs, columns = record[INPUTS], record[COLUMNS]
        if kind == PRODUCT:
            for b in range(low, high):
                _gather(unit, blocks[b], record[Z], inputs, first, end)
            start = blocks[low, COLUMN]
            width = blocks[high - 1, COLUMN] + blocks[high - 1, WIDTH] - start
            z, w = record[Z] + (first * inputs + start) * size, record[W] + (weight * inputs + start) * columns * size
            gemm(unit, product, 0, 0, end - first, columns, width, z, inputs, w, columns, beta, record[G] + first * columns * size, columns)
        elif kind == CELL:
            invoke(record[FORWARD], record.ctypes.data, first, end, weight)
        elif kind == COPY:
            _gather(unit, blocks[low], record[H], record[HIDDEN], first, end)
        else:
            _add_state(unit, record, H, M, end, first)


def _backward(steps: Array, records: Array, blocks: Array, unit: Array, product: int) -> None:
    size, dz = unit.itemsize, unit.ctypes.data
    for step in range(steps.shape[0] - 1, -1, -1):
        kind, t, first, end, weight, low, high, beta = steps[step]
        record = records[t]
        inputs, columns = record[INPUTS], record[COLUMNS]
        if kind == CELL:
            invoke(record[ADJOINT], record.ctypes.data, first, end, weight)
        elif kind == WRAP:
            _add_state(unit, record, DH, DM, first, end)
        else:
            source, start, width = dz, blocks[low, COLUMN], blocks[low, WIDTH]
            if kind == COPY:
                source = record[DH] + first * width * size
            else:
                while high > low and blocks[high - 1, GRADIENT] == 0:
                    high -= 1
                if high > low:
                    width = blocks[high - 1, COLUMN] + blocks[high - 1, WIDTH] - start
                    g, w = record[G] + first * columns * size, record[W] + (weight * inputs + start) * columns * size
                    gemm(unit, product, 0, 1, end - first, width, columns, g, columns, w, columns, 0, dz, width)
            for b in range(low, high):
                block = blocks[b]
                target, index, n = block[GRADIENT], block[INDEX], block[WIDTH]
                if target:
                    for r in range(first, end):
                        row = word(index, r)
                        if row >= 0:
                            _add(unit, target + row * n * size, source + ((r - first) * width + block[COLUMN] - start) * size, n)
    for t in range(records.shape[0]):
        record = records[t]
        inputs, columns = record[INPUTS], record[COLUMNS]
        for weight in range(record[WEIGHTS]):
            first, end = word(record[ENDS], weight), word(record[ENDS], weight + 1)
            dw = record[DW] + weight * inputs * columns * size
            if end > first and inputs > 0:
                z, g = record[Z] + first * inputs * size, record[G] + first * columns * size
                gemm(unit, product, 1, 0, inputs, columns, end - first, z, inputs, g, columns, 0, dw, columns)
            else:
                for j in range(inputs * columns):
                    poke(unit, dw, j, unit.dtype.type(0), 0)
