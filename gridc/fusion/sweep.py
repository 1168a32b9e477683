"""Runs a ``Program`` on arrays, forward and backward, in one thread or several; what is called from Python.

Threads share one workspace, each with the instructions that are its own (``gridc.scheduling.shares``) and with room to work in.
BLAS threads that have just worked spin for milliseconds and would take a core: whoever sweeps in several threads should hold
``blas.single_threaded`` around all else that multiplies, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from gridc.fusion import gemm, kernels, machine
from gridc.fusion.buffers import lent
from gridc.fusion.pace import Pace
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
    _paced(space, sharing, 0, lambda own: _forward(space, parameters, forgets, own))


def _forward(space: Workspace, parameters: Parameters, forgets: bool, sharing: Sharing) -> None:
    crew, tables = _crew(space, sharing), space.tables(parameters)
    with lent(crew.ahead.size, space.dtype) as whole:
        room = aligned(whole)

        def run(k: int, gate: Gate) -> None:
            product, *rest = crew.ahead.of(room, k)
            own = tables.of_thread(space.places, *rest, alone=crew.busy == 1)
            machine.compiled()[0](crew.shares[k].forward, own.records, own.blocks, product, crew.products, int(forgets),
                                  *gate.of(k))  # fmt: skip

        meeting(crew.busy, run)


def backward(
    space: Workspace, parameters: Parameters, out: Parameters | None = None, sharing: Sharing = ALONE, adds: bool = False
) -> Parameters:
    """Make the parameters' gradients, to the last bit the same however it is shared; after ``forward``, whose ``g`` it
    overwrites.  Where it ``adds``, those that are ``out`` are added to; not where threads share the weights."""
    _check(space, parameters)
    found = parameters.empty() if out is None else out
    _paced(space, sharing, 1, lambda own: _backward(space, parameters, found, own, adds))
    return found


def _backward(space: Workspace, parameters: Parameters, found: Parameters, sharing: Sharing, adds: bool) -> None:
    crew, tables = _crew(space, sharing), space.tables(parameters, found)
    count = len(crew.shares)
    with lent(crew.back.size, space.dtype) as whole:
        room = aligned(whole)

        def run(k: int, gate: Gate) -> None:
            product, *rest = crew.back.of(room, k)
            own = tables.of_thread(space.places, *rest, alone=count == 1)
            machine.compiled()[1](crew.shares[k].backward, own.records, own.blocks, product, crew.products, *gate.of(k))
            machine.compiled()[2](own.records, product, crew.products, k, count, sharing.way == "weights", adds)

        meeting(count, run)


def _paced(space: Workspace, sharing: Sharing, way: int, run: Callable[[Sharing], None]) -> None:
    """Run forward (0) or back (1) as it is to be shared, or alone where threads only keep each other waiting."""
    if sharing.threads == 1:
        run(sharing)
        return
    paces = _paces.setdefault(space.program, {})
    pace = paces.setdefault((sharing, way), Pace())
    pace(lambda shared: run(sharing if shared else ALONE))


class _Rooms(NamedTuple):
    """How many numbers threads need to work in, and which are whose: for operands as words and for one product's adjoint or a
    panel, for weights that it packs, for a cell's row."""

    size: int
    parts: tuple[tuple[slice, slice, slice], ...]

    def of(self, room: Array, k: int) -> tuple[Array, Array, Array]:
        """Give a thread its three."""
        product, packs, row = self.parts[k]
        return room[product], room[packs], room[row]


class _Crew(NamedTuple):
    """What the threads do that share a program, how many of them are ``busy`` on the way forward, the addresses of the products
    that they call, and their rooms."""

    shares: tuple[Share, ...]
    busy: int
    products: Array
    ahead: _Rooms
    back: _Rooms


_paces: WeakKeyDictionary[Program, dict[tuple[Sharing, int], Pace]] = WeakKeyDictionary()
_known: WeakKeyDictionary[Program, dict[tuple[Sharing, str], _Crew]] = WeakKeyDictionary()


def _crew(space: Workspace, sharing: Sharing) -> _Crew:
    """Share a program, at the first call."""
    known = _known.setdefault(space.program, {})
    found = known.get((sharing, space.products))
    if found is None:
        shares = share(space.program, sharing)
        busy = sum(len(each.forward) > 0 for each in shares) or 1
        calls = machine.products(space.products).copy()
        calls[gemm.WORDS] = words = _words(space)
        rooms = (_rooms(space, [words + _products(each, space.dtype) * back for each in shares]) for back in (0, 1))
        found = known[sharing, space.products] = _Crew(shares, busy, calls, *rooms)
    return found


def _rooms(space: Workspace, products: list[int]) -> _Rooms:
    """Lay out what each thread works in, every part on lines of its own."""
    line, at = LINE // space.dtype.itemsize, 0

    def part(size: int) -> slice:
        nonlocal at
        begin, at = at, at - -size // line * line
        return slice(begin, begin + size)

    parts = tuple((part(product), part(space.places.once), part(space.places.row)) for product in products)
    return _Rooms(at + line, parts)


def _words(space: Workspace) -> int:
    """Count the words of operands that each thread has room for."""
    sides = [side for t, p in enumerate(space.program.transforms) for side in (sum(space.program.widths(t)), p.width)]
    return gemm.operand_room(max(sides, default=0), space.products)


def _products(own: Share, dtype: np.dtype[Any]) -> int:
    """Count the numbers of a thread's largest adjoint of a product, or of a panel of the weights' gradients."""
    panel = gemm.panel(dtype)
    made = [rows * (width if parts == 1 else min(width, width // parts + 2 * panel)) for rows, width, parts in own.widest]
    return max(gemm.panel_room(dtype), *made, 0)


def prepare(mechanisms: Iterable[tuple[Cell, Options, int, bool]], dtype: Any, products: str = "") -> None:
    """Build, or take from the disk cache, all that running cells of these kinds (cell, options, dimensions, zoneout) needs, with
    products of that kind, the dtype's where none is named."""
    dtype = np.dtype(dtype)
    for cell, options, dimensions, zoneout in mechanisms:
        kernels.load(cell, options, dimensions, dtype.name, zoneout)
    empty, unit, steps = np.zeros((0, 8), np.int64), np.zeros(gemm.panel_room(dtype), dtype), np.zeros(0, STEP)
    (ahead, back, weights), calls = machine.compiled(), machine.products(products or dtype.name)
    ahead(steps, empty, empty, unit, calls, 0, 0, 0, 1, 0)
    back(steps, empty, empty, unit, calls, 0, 0, 1, 0)
    weights(empty, unit, calls, 0, 1, False, False)


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
