"""Runs a ``Program`` on arrays, forward and backward, in one thread or several; what is called from Python.

Threads share one workspace, each with the instructions that are its own (``gridc.scheduling.shares``) and with room to work in.
BLAS threads that have just worked spin for milliseconds and would take a core: whoever sweeps in several threads should hold
``blas.single_threaded`` around all else that multiplies, too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gridc.fusion import gemm, kernels, machine
from gridc.fusion.buffers import lent
from gridc.fusion.threads import Gate, meeting
from gridc.fusion.workspace import LINE, Parameters, Workspace, aligned
from gridc.scheduling.program import Array, Program, TransformProgram
from gridc.scheduling.shares import STEP, Share, share
from gridc.scheduling.threads import ALONE, Sharing
from gridc.tables.mechanisms import Cell, Options

__all__ = ["Parameters", "Program", "TransformProgram", "Workspace", "backward", "forward", "prepare"]


def forward(space: Workspace, parameters: Parameters, forgets: bool = False, sharing: Sharing = ALONE) -> None:
    """Fill ``h``, ``m`` and, unless it ``forgets``, what the adjoint needs (``z``, ``g``)."""
    _check(space, parameters)
    tables, shares = space.tables(parameters), _shares(space.program, sharing)
    with _rooms(space, shares, back=False) as rooms:

        def run(k: int, gate: Gate) -> None:
            own = tables.of_thread(space.places, *rooms[k][1:])
            machine.compiled()[0](shares[k].forward, own.records, own.blocks, rooms[k][0], *machine.products(space.dtype.name),
                                  int(forgets), *gate.of(k))  # fmt: skip

        meeting(sum(len(each.forward) > 0 for each in shares) or 1, run)


def backward(
    space: Workspace, parameters: Parameters, out: Parameters | None = None, sharing: Sharing = ALONE
) -> Parameters:
    """Make the parameters' gradients, to the last bit the same however it is shared; after ``forward``, whose ``g`` it
    overwrites."""
    _check(space, parameters)
    found = parameters.empty() if out is None else out
    tables, shares = space.tables(parameters, found), _shares(space.program, sharing)
    with _rooms(space, shares, back=True) as rooms:

        def run(k: int, gate: Gate) -> None:
            own, room = tables.of_thread(space.places, *rooms[k][1:]), rooms[k][0]
            panel, packer = machine.products(space.dtype.name)
            machine.compiled()[1](shares[k].backward, own.records, own.blocks, room, panel, packer, *gate.of(k))
            machine.compiled()[2](own.records, room, panel, k, len(shares), sharing.way == "weights")

        meeting(len(shares), run)
    return found


_known: WeakKeyDictionary[Program, dict[Sharing, tuple[Share, ...]]] = WeakKeyDictionary()


def _shares(program: Program, sharing: Sharing) -> tuple[Share, ...]:
    """Share a program, at the first call."""
    known = _known.setdefault(program, {})
    if sharing not in known:
        known[sharing] = share(program, sharing)
    return known[sharing]


@contextmanager
def _rooms(space: Workspace, shares: tuple[Share, ...], back: bool) -> Generator[list[tuple[Array, Array, Array]]]:
    """Lend every thread its room: for one product's adjoint or a panel, for weights that it packs, for a cell's row."""
    where, dtype = space.places, space.dtype
    line = LINE // dtype.itemsize
    sizes = [(_products(each, dtype) if back else 0, where.once, where.row) for each in shares]
    total = [sum(-(-size // line) * line for size in each) + line for each in sizes]
    with lent(sum(total), dtype) as whole:
        rooms: list[tuple[Array, Array, Array]] = []
        for k, each in enumerate(sizes):
            rest, parts = aligned(whole[sum(total[:k]) : sum(total[: k + 1])]), list[Array]()
            for size in each:
                parts.append(rest[:size])
                rest = rest[-(-size // line) * line :]
            rooms.append((parts[0], parts[1], parts[2]))
        yield rooms


def _products(own: Share, dtype: np.dtype[Any]) -> int:
    """Count the numbers of a thread's largest adjoint of a product, or of a panel of the weights' gradients."""
    panel = gemm.panel(dtype)
    made = [rows * (width if parts == 1 else min(width, width // parts + 2 * panel)) for rows, width, parts in own.widest]
    return max(gemm.panel_room(dtype), *made, 0)


def prepare(mechanisms: Iterable[tuple[Cell, Options, int, bool]], dtype: Any) -> None:
    """Build, or take from the disk cache, all that running cells of these kinds (cell, options, dimensions, zoneout) needs."""
    dtype = np.dtype(dtype)
    for cell, options, dimensions, zoneout in mechanisms:
        kernels.load(cell, options, dimensions, dtype.name, zoneout)
    empty, unit, steps = np.zeros((0, 8), np.int64), np.zeros(gemm.panel_room(dtype), dtype), np.zeros(0, STEP)
    ahead, back, weights = machine.compiled()
    ahead(steps, empty, empty, unit, *machine.products(dtype.name), 0, 0, 0, 1, 0)
    back(steps, empty, empty, unit, *machine.products(dtype.name), 0, 0, 1, 0)
    weights(empty, unit, 0, 0, 1, False)


def _check(space: Workspace, parameters: Parameters) -> None:
    given = (a for each in (*space.joined, *space.djoined, *space.kept, space.dropped, *space.facts, *space.dfacts) for a in each)
    for array in (space.tape, *given, *parameters.w, *parameters.b, *parameters.p):
        if array is not None and not (array.flags.c_contiguous and array.dtype == space.dtype):
            raise ValueError(f"the sweep takes contiguous arrays of {space.dtype}, not {array.dtype} of shape {array.shape}")
    for t, own in enumerate(space.program.transforms):
        weights, w, b = len(own.weight_ends) - 1, parameters.w[t], parameters.b[t]
        shape = (weights, space.places.shapes[2][t][1], own.width)
        if own.gates and (w is None or w.shape != shape or (b is not None and b.shape != (weights, own.width))):
            raise ValueError(f"transform {t} takes weights of shape {shape}")
        for array, rows, width in zip(space.joined[t], space.program.joined_extents[t], own.joined, strict=True):
            if array.shape[0] < rows or array.shape[1] != width:
                raise ValueError(f"transform {t} joins an array of {rows} rows of {width}, not {array.shape}")
        for array in (*space.facts[t], *space.dfacts[t]):
            sets = space.program.fact_extents[t] + (len(space.facts[t]) == 1)
            if array.ndim != 3 or len(array) < sets or array.shape[2] != own.hidden:
                raise ValueError(f"transform {t} attends to {sets} sets of facts of {own.hidden}, not {array.shape}")
        for array, rows in ((space.dropped[t], space.program.dropout_extents[t]), *(
                (kept, space.program.zoneout_extents[t] * (len(kept) != 1)) for kept in space.kept[t])):  # fmt: skip
            if array is not None and (array.shape[0] < rows or array.shape[1] != own.hidden):
                raise ValueError(f"transform {t} is masked by an array of {rows} rows of {own.hidden}, not {array.shape}")
