"""Runs a ``Program`` on arrays, forward and backward, in one lane or several; what is called from Python.

With two lanes the examples of a mini-batch are split in two; each lane sweeps its own half in its own thread, with
one BLAS thread each, and they meet once, when the gradients are added.  BLAS threads that have just worked spin for
milliseconds and would take a lane's core: whoever sweeps in several lanes should hold ``blas.single_threaded`` around all
else that multiplies, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from gridc.fusion import blas, gemm, kernels, machine
from gridc.fusion.buffers import lent
from gridc.fusion.threads import together, wait_for, workers
from gridc.fusion.workspace import Parameters, Tables, Workspace, address, aligned
from gridc.scheduling.program import CHUNK, INSTRUCTION, Array, Program, TransformProgram
from gridc.tables.mechanisms import Cell, Options

__all__ = ["Parameters", "Program", "TransformProgram", "Workspace", "backward", "forward", "prepare"]

SHARED = 10_000_000
"""Multiply-adds of the weights' gradients from which two threads pay: 17 million take 0.35 ms in one."""


def forward(lanes: Sequence[Workspace], parameters: Parameters, forgets: bool = False) -> None:
    """Fill ``h``, ``m`` and, unless it ``forgets``, what the adjoint needs (``z``, ``g``) of every lane."""
    _check(lanes, parameters)
    together([functools.partial(_run_forward, lane, parameters, forgets) for lane in lanes])


def backward(
    lanes: Sequence[Workspace], parameters: Parameters, out: Parameters | None = None, threads: int | None = None
) -> Parameters:
    """Make the parameters' gradients, summed over lanes; after ``forward``, whose ``g`` it overwrites.

    So many threads as are given make the weights' gradients, otherwise as many as pay.  For one lane the second follows
    the first, whose rows it can use as soon as they are done."""
    _check(lanes, parameters)
    found = parameters.empty() if out is None else out
    totals = [Parameters(found.w, *(_fresh(each, k) for each in (found.b, found.p))) for k in range(len(lanes))]
    tables = [lane.tables(parameters, total) for lane, total in zip(lanes, totals, strict=True)]
    back = [functools.partial(_run_backward, lane, table) for lane, table in zip(lanes, tables, strict=True)]
    threads = _threads(lanes) if threads is None else threads
    followed = len(lanes) == 1 and threads > 1
    count, size = 1 if followed else threads, gemm.panel_room(lanes[0].dtype)
    with lent(count * size, lanes[0].dtype) as panels:
        rooms = [aligned(panels[k * size : (k + 1) * size]) for k in range(count)]
        if followed:
            _followed(lanes[0], tables[0], back[0], rooms[0])
            return found
        together(back)
        together([functools.partial(_run_weights, tables, room, k, threads) for k, room in enumerate(rooms)])
    for total in totals[1:]:
        for mine, theirs in zip((*found.b, *found.p), (*total.b, *total.p), strict=True):
            if mine is not None and theirs is not None:
                np.add(mine, theirs, out=mine)
    return found


def _followed(lane: Workspace, tables: Tables, back: Callable[[Array], None], room: Array) -> None:
    """Run one lane backward, and the weights' gradients behind it in another thread."""
    progress = np.full(1, len(lane.program.steps), np.int64)
    followers: list[Future[None]] = []
    with blas.single_threaded():
        try:
            followers.append(workers().submit(_run_follow, tables, lane.program.chunks, room, progress))
            back(progress)
        finally:
            progress[0] = -1  # also where it was interrupted: the other thread must not wait for ever
            wait_for(followers)
    followers[0].result()


def _threads(lanes: Sequence[Workspace]) -> int:
    """Choose how many threads make the weights' gradients: those of the lanes, and two where the work outweighs their meeting."""
    return max(len(lanes), 2 if sum(lane.places.products for lane in lanes) >= SHARED and blas.default_threads() > 1 else 1)


def _fresh(arrays: list[Array | None], lane: int) -> list[Array | None]:
    """Make zeros to add to: the first lane's are the arrays themselves."""
    if lane:
        return [None if a is None else np.zeros_like(a) for a in arrays]
    for array in arrays:
        if array is not None:
            array.fill(0)
    return arrays


def prepare(mechanisms: Iterable[tuple[Cell, Options, int, bool]], dtype: Any) -> None:
    """Build, or take from the disk cache, all that running cells of these kinds (cell, options, dimensions, zoneout) needs."""
    dtype = np.dtype(dtype)
    for cell, options, dimensions, zoneout in mechanisms:
        kernels.load(cell, options, dimensions, dtype.name, zoneout)
    empty, unit, steps = np.zeros((0, 8), np.int64), np.zeros(gemm.panel_room(dtype), dtype), np.zeros(0, INSTRUCTION)
    ahead, back, weights, follow = machine.compiled()
    ahead(steps, empty, empty, unit, *machine.products(dtype.name), 0)
    back(steps, empty, empty, unit, *machine.products(dtype.name), 0)
    weights(empty.reshape(0, 0, 8), unit, 0, 0, 1)
    follow(empty, np.zeros(0, CHUNK), unit, 0, 0)


@functools.cache
def _kind(dtype: np.dtype[Any]) -> tuple[Array, int, int, int]:
    """Give what tells compiled code the type, and where its products are."""
    return np.empty(0, dtype), *machine.products(dtype.name)


def _run_forward(lane: Workspace, parameters: Parameters, forgets: bool) -> None:
    tables = lane.tables(parameters)
    machine.compiled()[0](lane.program.steps, tables.records, tables.blocks, *_kind(lane.dtype), int(forgets))


def _run_backward(lane: Workspace, tables: Tables, progress: Array | None = None) -> None:
    progress = np.empty(1, np.int64) if progress is None else progress
    steps, products = lane.program.steps, _kind(lane.dtype)[1:]
    machine.compiled()[1](steps, tables.records, tables.blocks, lane.scratch, *products, address(progress))


def _run_weights(tables: Sequence[Tables], room: Array, part: int, parts: int) -> None:
    """Make one part of the weights' gradients of all lanes."""
    records = np.stack([each.records for each in tables])
    machine.compiled()[2](records, room, _kind(room.dtype)[2], part, parts)


def _run_follow(tables: Tables, chunks: Array, room: Array, progress: Array) -> None:
    machine.compiled()[3](tables.records, chunks, room, _kind(room.dtype)[2], address(progress))


def _check(lanes: Sequence[Workspace], parameters: Parameters) -> None:
    for lane in lanes:
        given = (a for each in (*lane.joined, *lane.djoined, *lane.kept, lane.dropped, *lane.facts, *lane.dfacts) for a in each)
        for array in (lane.tape, *given, *parameters.w, *parameters.b, *parameters.p):
            if array is not None and not (array.flags.c_contiguous and array.dtype == lane.dtype):
                raise ValueError(f"the sweep takes contiguous arrays of {lane.dtype}, not {array.dtype} of shape {array.shape}")
        for t, own in enumerate(lane.program.transforms):
            weights, w, b = len(own.weight_ends) - 1, parameters.w[t], parameters.b[t]
            shape = (weights, lane.places.shapes[2][t][1], own.width)
            if own.gates and (w is None or w.shape != shape or (b is not None and b.shape != (weights, own.width))):
                raise ValueError(f"transform {t} takes weights of shape {shape}")
            for array, rows, width in zip(lane.joined[t], lane.program.joined_extents[t], own.joined, strict=True):
                if array.shape[0] < rows or array.shape[1] != width:
                    raise ValueError(f"transform {t} joins an array of {rows} rows of {width}, not {array.shape}")
            for array in (*lane.facts[t], *lane.dfacts[t]):
                sets = lane.program.fact_extents[t] + (len(lane.facts[t]) == 1)
                if array.ndim != 3 or len(array) < sets or array.shape[2] != own.hidden:
                    raise ValueError(f"transform {t} attends to {sets} sets of facts of {own.hidden}, not {array.shape}")
            for array, rows in ((lane.dropped[t], lane.program.dropout_extents[t]), *(
                    (kept, lane.program.zoneout_extents[t] * (len(kept) != 1)) for kept in lane.kept[t])):  # fmt: skip
                if array is not None and (array.shape[0] < rows or array.shape[1] != own.hidden):
                    raise ValueError(f"transform {t} is masked by an array of {rows} rows of {own.hidden}, not {array.shape}")
