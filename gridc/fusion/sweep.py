"""Runs a ``Program`` on arrays, forward and backward, in one lane or several; what is called from Python.

With two lanes the examples of a mini-batch are split in two; each lane sweeps its own half in its own thread, with
one BLAS thread each, and they meet once, when the gradients are added.  BLAS threads that have just worked spin for
milliseconds and would take a lane's core: whoever sweeps in several lanes should hold ``blas.single_threaded`` around all
else that multiplies, too.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridc import cells
from gridc.fusion import blas, gemm, kernels, machine, native
from gridc.scheduling.program import Array, Program, TransformProgram

__all__ = ["Parameters", "Program", "TransformProgram", "Workspace", "backward", "forward", "prepare"]

ENOUGH_ROWS = 4  # that use one weight, from which packing it pays


class Workspace:
    """A program and the arrays that it runs on.

    The caller fills the boundary rows of ``h`` and ``m`` and the joined arrays (``[rows, features]``, per transform) before
    ``forward``; ``dh`` and ``dm`` (zero but for the gradients of the outputs) before ``backward``, after which their boundary
    rows hold the gradient of what entered, and ``djoined``, where given, has the joined inputs' gradients added.

    ``tape`` holds what lasts from forward to backward (states, inputs and activations), ``slopes`` what backward works
    with and ``packed`` the weights as ``gemm`` wants them; their ``sizes`` follow from the program.  They are made where they
    are not given.
    """

    def __init__(
        self, program: Program, dtype: Any, tape: Array | None = None, slopes: Array | None = None, packed: Array | None = None
    ) -> None:
        self.program, self.dtype = program, np.dtype(dtype)
        self._slopes, self._packed = slopes, packed
        shapes = _shapes(program)
        self.h, m, self.z, self.g = _carve(np.zeros(self.sizes(program)[0], self.dtype) if tape is None else tape, *shapes)
        self.m = _kept(program, m)
        self.joined: list[list[Array]] = [[np.zeros((0, width), self.dtype) for width in p.joined] for p in program.transforms]
        self.djoined: list[list[Array | None]] = [[None] * len(p.joined) for p in program.transforms]
        self.dh: list[Array] = []
        self.dm: list[Array | None] = []

    @staticmethod
    def sizes(program: Program) -> tuple[int, int]:
        """How many numbers the tape and the slopes hold."""
        hidden, memory, *_ = shapes = _shapes(program)
        room = program.scratch + max((p.hidden * p.dimensions for p in program.transforms), default=0)
        return _total(*shapes), _total(hidden, memory) + room

    @property
    def slopes(self) -> Array:
        if self._slopes is None:
            self._slopes = np.zeros(self.sizes(self.program)[1], self.dtype)
        return self._slopes

    @property
    def scratch(self) -> Array:
        """Room for the adjoint of one product, and after it for a row of gradients of memories."""
        return self.slopes[_total(*_shapes(self.program)[:2]) :]

    @staticmethod
    def packed_size(program: Program, dtype: Any) -> int:
        """How many numbers the packed weights take, with what their alignment may cost."""
        return sum(_packed_rooms(program, dtype)) + gemm.ALIGNMENT // np.dtype(dtype).itemsize

    @property
    def packed(self) -> list[int]:
        """Per transform the address of its packed weights, 0 where they are not."""
        if self._packed is None:
            self._packed = np.empty(self.packed_size(self.program, self.dtype), self.dtype)
        start = -(-_address(self._packed) // gemm.ALIGNMENT) * gemm.ALIGNMENT
        rooms = _packed_rooms(self.program, self.dtype)
        return [start + sum(rooms[:t]) * self.dtype.itemsize if size else 0 for t, size in enumerate(rooms)]

    def clear_gradients(self) -> None:
        """Zeroes ``dh`` and ``dm``."""
        shapes = _shapes(self.program)[:2]
        self.slopes[: _total(*shapes)] = 0
        self.dh, dm = _carve(self.slopes, *shapes)
        self.dm = _kept(self.program, dm)


Shapes = list[tuple[int, int]]


def _shapes(program: Program) -> tuple[Shapes, Shapes, Shapes, Shapes]:
    """Per transform the shapes of ``h``, ``m``, ``z`` and ``g``."""
    hidden = [(p.rows + p.boundary, p.hidden) for p in program.transforms]
    memory = [(h[0] if cells.CELLS[p.cell].memory else 0, h[1]) for p, h in zip(program.transforms, hidden, strict=True)]
    inputs = [(p.rows if p.gates else 0, sum(program.widths(t))) for t, p in enumerate(program.transforms)]
    return hidden, memory, inputs, [(p.rows, p.width) for p in program.transforms]


def _packed_rooms(program: Program, dtype: Any) -> list[int]:
    """Per transform the numbers of its packed weights, forward or backward; 0 where too few rows use each."""
    found: list[int] = []
    for t, own in enumerate(program.transforms):
        pays = own.gates and own.rows >= ENOUGH_ROWS * (len(own.weight_ends) - 1)
        shape = (sum(program.widths(t)), own.width)
        name = np.dtype(dtype).name
        found.append(program.slots[t] * max(gemm.room(*shape, name), gemm.room(*shape[::-1], name)) if pays else 0)
    return found


def _total(*shapes: Shapes) -> int:
    return sum(rows * columns for group in shapes for rows, columns in group)


def _carve(buffer: Array, *shapes: Shapes) -> list[list[Array]]:
    """Consecutive views of a buffer."""
    views: list[list[Array]] = []
    used = 0
    for group in shapes:
        views.append([])
        for rows, columns in group:
            views[-1].append(buffer[used : used + rows * columns].reshape(rows, columns))
            used += rows * columns
    return views


def _kept(program: Program, memories: list[Array]) -> list[Array | None]:
    return [m if cells.CELLS[p.cell].memory else None for p, m in zip(program.transforms, memories, strict=True)]


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
    together([functools.partial(_run_forward, lane, parameters) for lane in lanes])


def backward(lanes: Sequence[Workspace], parameters: Parameters, out: Parameters | None = None) -> Parameters:
    """The parameters' gradients, summed over lanes; after ``forward``, whose ``g`` it overwrites."""
    _check(lanes, parameters)
    found = parameters.empty() if out is None else out
    totals = [Parameters(found.w, *(_fresh(each, k) for each in (found.b, found.p))) for k in range(len(lanes))]
    tables = [_tables(lane, parameters, total) for lane, total in zip(lanes, totals, strict=True)]
    together([functools.partial(_run_backward, lane, *table[:2]) for lane, table in zip(lanes, tables, strict=True)])
    records, unit = np.stack([table[0] for table in tables]), np.empty(0, lanes[0].dtype)
    together([functools.partial(machine.compiled()[2], records, unit, k, len(lanes)) for k in range(len(lanes))])
    for total in totals[1:]:
        for mine, theirs in zip((*found.b, *found.p), (*total.b, *total.p), strict=True):
            if mine is not None and theirs is not None:
                np.add(mine, theirs, out=mine)
    return found


def _fresh(arrays: list[Array | None], lane: int) -> list[Array | None]:
    """Zeros to add to: the first lane's are the arrays themselves."""
    if lane:
        return [None if a is None else np.zeros_like(a) for a in arrays]
    for array in arrays:
        if array is not None:
            array.fill(0)
    return arrays


def prepare(mechanisms: Iterable[tuple[str, cells.Options, int]], dtype: Any) -> None:
    """Builds, or takes from the disk cache, all that running cells of these kinds (name, options, dimensions) needs."""
    dtype = np.dtype(dtype)
    for cell, options, dimensions in mechanisms:
        kernels.load(cell, options, dimensions, dtype.name)
    empty, unit = np.zeros((0, 8), np.int64), np.zeros(1, dtype)
    *sweeps, weights = machine.compiled()
    for driver in sweeps:
        driver(empty, empty, empty, unit, 0)
    weights(empty.reshape(0, 0, 8), unit, 0, 1)


def _run_forward(lane: Workspace, parameters: Parameters) -> None:
    records, blocks, _keep = _tables(lane, parameters, None)
    machine.compiled()[0](lane.program.steps, records, blocks, np.empty(0, lane.dtype), blas.gemm_address(lane.dtype))


def _run_backward(lane: Workspace, records: Array, blocks: Array) -> None:
    machine.compiled()[1](lane.program.steps, records, blocks, lane.scratch, blas.gemm_address(lane.dtype))


def _address(array: Array | None) -> int:
    return 0 if array is None else int(array.__array_interface__["data"][0])


def _tables(
    lane: Workspace, parameters: Parameters, gradients: Parameters | None
) -> tuple[Array, Array, list[Any]]:
    """Records and blocks of addresses, and arrays that must live as long."""
    program = lane.program
    keep: list[Any] = []
    blocks: list[tuple[int, ...]] = []
    records = np.zeros((len(program.transforms), len(native.RECORD)), np.int64)
    packed = lane.packed
    room = 0 if gradients is None else _address(lane.scratch) + program.scratch * lane.dtype.itemsize
    for t, own in enumerate(program.transforms):
        kernel = kernels.load(own.cell, own.options, own.dimensions, lane.dtype.name) if own.gates else (0, 0)
        rows = np.array([_address(index) for index in own.memory_rows], np.int64)
        w, b = parameters.w[t], parameters.b[t]
        db = gradients.b[t] if gradients is not None else None
        weights = 0 if w is None else w.shape[0]
        if own.gates and b is None:
            b, db = np.zeros((weights, own.width), lane.dtype), np.zeros((weights, own.width), lane.dtype)
        held = np.full(program.slots[t], -1, np.int64)
        keep += [rows, b, db, held]
        state = (lane.h[t], lane.m[t], lane.z[t], lane.g[t], w, b, parameters.p[t])
        slopes = (lane.dh[t], lane.dm[t], gradients.w[t], db, gradients.p[t]) if gradients is not None else (None,) * 5
        addresses = [_address(array) for array in (*state, *slopes, rows)]
        records[t] = (
            own.hidden,
            own.width,
            sum(program.widths(t)),
            *addresses,
            packed[t],
            program.slots[t],
            _address(held),
            *kernel,
            room,
            weights,
            _address(own.weight_ends),
        )
        column = 0
        dh = lane.dh if gradients is not None else [None] * len(lane.h)
        reads = [(lane.h[u], dh[u], index) for u, index in zip(own.sources, own.read_rows, strict=True)]
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
        for t, own in enumerate(lane.program.transforms):
            weights, w, b = len(own.weight_ends) - 1, parameters.w[t], parameters.b[t]
            shape = (weights, lane.z[t].shape[1], own.width)
            if own.gates and (w is None or w.shape != shape or (b is not None and b.shape != (weights, own.width))):
                raise ValueError(f"transform {t} takes weights of shape {shape}")
            for array, rows, width in zip(lane.joined[t], lane.program.joined_extents[t], own.joined, strict=True):
                if array.shape[0] < rows or array.shape[1] != width:
                    raise ValueError(f"transform {t} joins an array of {rows} rows of {width}, not {array.shape}")


@functools.cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="gridc")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive a fork


def together(tasks: Sequence[Callable[[], None]]) -> None:
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
