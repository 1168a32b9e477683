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
from typing import Any

import numpy as np

from gridc import cells
from gridc.fusion import blas, kernels, machine
from gridc.fusion.workspace import Parameters, Workspace
from gridc.scheduling.program import Array, Program, TransformProgram

__all__ = ["Parameters", "Program", "TransformProgram", "Workspace", "backward", "forward", "prepare"]

SHARED = 10_000_000
"""Multiply-adds of the weights' gradients from which two threads pay: 17 million take 0.35 ms in one, 0.2 ms in two."""


def forward(lanes: Sequence[Workspace], parameters: Parameters) -> None:
    """Fills ``h``, ``m`` and what the adjoint needs (``z``, ``g``) of every lane."""
    _check(lanes, parameters)
    together([functools.partial(_run_forward, lane, parameters) for lane in lanes])


def backward(
    lanes: Sequence[Workspace], parameters: Parameters, out: Parameters | None = None, parts: int | None = None
) -> Parameters:
    """The parameters' gradients, summed over lanes; after ``forward``, whose ``g`` it overwrites.

    So many threads as there are ``parts`` share the weights' gradients, unless given as many as pay."""
    _check(lanes, parameters)
    found = parameters.empty() if out is None else out
    totals = [Parameters(found.w, *(_fresh(each, k) for each in (found.b, found.p))) for k in range(len(lanes))]
    tables = [lane.tables(parameters, total) for lane, total in zip(lanes, totals, strict=True)]
    together([functools.partial(_run_backward, lane, *table[:2]) for lane, table in zip(lanes, tables, strict=True)])
    records, unit = np.stack([table[0] for table in tables]), np.empty(0, lanes[0].dtype)
    parts, panel = _parts(lanes) if parts is None else parts, machine.products(unit.dtype.name)[1]
    together([functools.partial(machine.compiled()[2], records, unit, panel, k, parts) for k in range(parts)])
    for total in totals[1:]:
        for mine, theirs in zip((*found.b, *found.p), (*total.b, *total.p), strict=True):
            if mine is not None and theirs is not None:
                np.add(mine, theirs, out=mine)
    return found


def _parts(lanes: Sequence[Workspace]) -> int:
    """How many threads share the weights' gradients: those of the lanes, and two where the work outweighs their meeting."""
    adds = sum(rows * inputs * g[1] for lane in lanes for (rows, inputs), g in zip(*lane.places.shapes[2:], strict=True))
    return max(len(lanes), 2 if adds >= SHARED and blas.default_threads() > 1 else 1)


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
        driver(empty, empty, empty, unit, *machine.products(dtype.name))
    weights(empty.reshape(0, 0, 8), unit, 0, 0, 1)


def _run_forward(lane: Workspace, parameters: Parameters) -> None:
    records, blocks, _keep = lane.tables(parameters)
    machine.compiled()[0](lane.program.steps, records, blocks, np.empty(0, lane.dtype), *machine.products(lane.dtype.name))


def _run_backward(lane: Workspace, records: Array, blocks: Array) -> None:
    machine.compiled()[1](lane.program.steps, records, blocks, lane.scratch, *machine.products(lane.dtype.name))


def _check(lanes: Sequence[Workspace], parameters: Parameters) -> None:
    for lane in lanes:
        joined = (a for each in (*lane.joined, *lane.djoined) for a in each)
        for array in (lane.tape, *joined, *parameters.w, *parameters.b, *parameters.p):
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
