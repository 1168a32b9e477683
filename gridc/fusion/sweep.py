"""Runs a ``Program`` on arrays, forward and backward, in one thread or several; what is called from Python.

Threads share one workspace, each with the instructions that are its own (``gridc.scheduling.shares``) and with room to work in.
BLAS threads that have just worked spin for milliseconds and would take a core: whoever sweeps in several threads should hold
``blas.single_threaded`` around all else that multiplies, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from gridc.fusion import gemm, kernels, machine, packing
from gridc.fusion.buffers import lent
from gridc.fusion.moves import Moves, Ready
from gridc.fusion.pace import Pace
from gridc.fusion.threads import Gate, meeting
from gridc.fusion.workspace import LINE, Parameters, Places, Workspace, address, aligned, places
from gridc.scheduling.program import Array, Program, TransformProgram
from gridc.scheduling.shares import STEP, Share, share
from gridc.scheduling.threads import ALONE, Sharing
from gridc.tables.mechanisms import Cell, Options

__all__ = ["Parameters", "Program", "TransformProgram", "Workspace", "backward", "forward", "prepare"]


class Bound(NamedTuple):
    """A program on certain arrays, which it does not hold: of each thread its records, the blocks, and what is moved before and
    after."""

    crew: Crew
    records: tuple[Array, ...]
    blocks: Array
    before: Ready
    after: Ready


NOTHING = Moves().ready()


def forward(space: Workspace, parameters: Parameters, forgets: bool = False, sharing: Sharing = ALONE) -> None:
    """Fill ``h``, ``m`` and, unless it ``forgets``, what the adjoint needs (``z``, ``g``)."""

    def run(own: Sharing) -> None:
        crew = crew_of(space.program, own, space.products, space.dtype)
        with lent(crew.ahead.size, space.dtype) as whole:
            rooms = aligned(whole), scores(crew, space.facts, space.dtype)
            ahead(bind(space, parameters, None, crew, rooms), rooms[0], forgets, (space, parameters, rooms))

    paced(space.program, sharing, 0, run)


def backward(
    space: Workspace, parameters: Parameters, out: Parameters | None = None, sharing: Sharing = ALONE, adds: bool = False
) -> Parameters:
    """Make the parameters' gradients, to the last bit the same however it is shared; after ``forward``, whose ``g`` it
    overwrites.  Where it ``adds``, those that are ``out`` are added to; not where threads share the weights."""
    found = parameters.empty() if out is None else out

    def run(own: Sharing) -> None:
        crew = crew_of(space.program, own, space.products, space.dtype)
        with lent(crew.back.size, space.dtype) as whole:
            rooms = aligned(whole), scores(crew, space.facts, space.dtype)
            back(bind(space, parameters, found, crew, rooms), rooms[0], adds, (space, parameters, found, rooms))

    paced(space.program, sharing, 1, run)
    return found


def scores(crew: Crew, facts: Iterable[Sequence[Array]], dtype: np.dtype[Any]) -> Array:
    """Make room for each thread of a crew to attend to facts in, ``[threads, numbers]``: none where there are none."""
    return np.empty((len(crew.shares), 2 * max((array.shape[-2] for each in facts for array in each), default=0)), dtype)


def bind(
    space: Workspace, parameters: Parameters, gradients: Parameters | None, crew: Crew, rooms: tuple[Array, Array],
    before: Ready = NOTHING, after: Ready = NOTHING,
) -> Bound:  # fmt: skip
    """Work out where everything lies for a crew that works in a room, from a line of the cache on, and another for ``scores``:
    backward, where there are ``gradients`` to make."""
    _check(space, parameters)
    tables, parts, (room, scored) = space.tables(parameters, gradients), crew.ahead if gradients is None else crew.back, rooms
    each = [tables.of_thread(space.places, *parts.of(room, k)[1:], scored[k]) for k in range(len(crew.shares))]
    return Bound(crew, tuple(one.records for one in each), tables.blocks, before, after)


class Pattern:
    """What is ``Bound`` alike wherever its arrays lie: made of stand-ins for them, and moved to where they are."""

    def __init__(self, bound: Bound):
        self._bound, self._last = bound, (list[int](), bound)
        parts = (*bound.records, bound.blocks, bound.before.words, bound.after.words)
        self._shapes = [(part.shape, part.size) for part in parts]
        words = np.concatenate([part.reshape(-1) for part in parts])
        self._which = words >> STAND_IN
        self._at = np.flatnonzero(self._which > 0)
        self._which = self._which[self._at] - 1
        words[self._at] &= (1 << STAND_IN) - 1
        self._words = words

    def on(self, arrays: Sequence[Array]) -> Bound:
        """Give it for arrays of the shapes of the stand-ins, in their order."""
        places = [address(array) for array in arrays]
        last = self._last
        if last[0] != places:
            words, parts, at = self._words.copy(), list[Array](), 0
            words[self._at] += np.array(places, np.int64)[self._which]
            for shape, size in self._shapes:
                parts.append(words[at : at + size].reshape(shape))
                at += size
            *records, blocks, before, after = parts
            of = self._bound
            found = Bound(of.crew, tuple(records), blocks, of.before.at(before), of.after.at(after))
            last = self._last = places, found
        return last[1]


STAND_IN = 48
"""The addresses of stand-ins are whole numbers of two to this power, beyond those of all arrays."""


def stand_ins(arrays: Sequence[Array]) -> list[Array]:
    """Make arrays of the same shapes and types that lie nowhere, each far from the others: for their addresses alone."""
    return [np.asarray(_StandIn((k + 1) << STAND_IN, array)) for k, array in enumerate(arrays)]


class _StandIn:
    def __init__(self, place: int, like: Array):
        self.__array_interface__ = {"version": 3, "shape": like.shape, "typestr": like.dtype.str, "data": (place, False)}


def ahead(bound: Bound, room: Array, forgets: bool, held: Any) -> None:
    """Run forward in a room; ``held`` is whatever the addresses lead to."""
    crew, count = bound.crew, bound.crew.busy

    def run(k: int, gate: Gate, _: Any = held) -> None:
        product = room[crew.ahead.parts[k][0]]
        # What forgets moves some of its arrays about.
        records = bound.records[k].copy() if forgets else bound.records[k]
        times = bound.before.run(product, k, count, gate.moves) if bound.before.shared else 0
        machine.compiled()[0](crew.shares[k].forward, records, bound.blocks, product, crew.products, int(forgets), *gate.of(k))
        if bound.after.shared:
            bound.after.run(product, k, count, gate.moves, times)

    _between(bound, room, lambda: meeting(count, run))


def back(bound: Bound, room: Array, adds: bool, held: Any) -> None:
    """Run backward in a room; ``held`` is whatever the addresses lead to."""
    crew, count = bound.crew, len(bound.crew.shares)

    def run(k: int, gate: Gate, _: Any = held) -> None:
        product, records = room[crew.back.parts[k][0]], bound.records[k]
        times = bound.before.run(product, k, count, gate.moves) if bound.before.shared else 0
        machine.compiled()[1](crew.shares[k].backward, records, bound.blocks, product, crew.products, *gate.of(k))
        if bound.after.shared:
            bound.after.run(product, k, count, gate.moves, times)
        machine.compiled()[2](records, product, crew.products, k, count, crew.behind, adds)

    _between(bound, room, lambda: meeting(count, run))


def _between(bound: Bound, room: Array, run: Callable[[], None]) -> None:
    """Run between the moves that are too few for threads to share."""
    if not bound.before.shared:
        bound.before.run(room)
    run()
    if not bound.after.shared:
        bound.after.run(room)


def paced(program: Program, sharing: Sharing, way: int, run: Callable[[Sharing], None]) -> None:
    """Run forward (0) or back (1) as it is to be shared, or alone where threads only keep each other waiting."""
    if sharing.threads == 1:
        run(sharing)
        return
    paces = _paces.setdefault(program, {})
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


class Crew(NamedTuple):
    """What the threads do that share a program, how many of them are ``busy`` on the way forward, whether one makes the weights'
    gradients ``behind`` the other, the addresses of the products that they call, and their rooms."""

    shares: tuple[Share, ...]
    busy: int
    behind: bool
    products: Array
    ahead: _Rooms
    back: _Rooms


_paces: WeakKeyDictionary[Program, dict[tuple[Sharing, int], Pace]] = WeakKeyDictionary()
_known: WeakKeyDictionary[Program, dict[tuple[Sharing, str, np.dtype[Any]], Crew]] = WeakKeyDictionary()


def crew_of(program: Program, sharing: Sharing, products: str, dtype: np.dtype[Any]) -> Crew:
    """Share a program, at the first call."""
    known = _known.setdefault(program, {})
    found = known.get((sharing, products, dtype))
    if found is None:
        shares = share(program, sharing)
        busy = sum(len(each.forward) > 0 for each in shares) or 1
        calls = machine.products(products).copy()
        calls[gemm.WORDS] = words = _words(program, products)
        rooms = (_rooms(places(program, dtype), dtype, [words + _products(each, dtype) * back for each in shares])
                 for back in (0, 1))  # fmt: skip
        found = known[sharing, products, dtype] = Crew(shares, busy, sharing.way == "weights", calls, *rooms)
    return found


def _rooms(where: Places, dtype: np.dtype[Any], products: list[int]) -> _Rooms:
    """Lay out what each thread works in, every part on lines of its own."""
    line, at = LINE // dtype.itemsize, 0

    def part(size: int) -> slice:
        nonlocal at
        begin, at = at, at - -size // line * line
        return slice(begin, begin + size)

    parts = tuple((part(product), part(where.once), part(where.row)) for product in products)
    return _Rooms(at + line, parts)


def _words(program: Program, products: str) -> int:
    """Count the words of operands that each thread has room for."""
    sides = [side for t, p in enumerate(program.transforms) for side in (sum(program.widths(t)), p.width)]
    return gemm.operand_room(max(sides, default=0), products)


def _products(own: Share, dtype: np.dtype[Any]) -> int:
    """Count the numbers of a thread's largest adjoint of a product, or of a panel of the weights' gradients."""
    panel = packing.panel(dtype)
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
