"""Runs a ``Program`` on arrays, forward and backward, in one thread or several; what is called from Python.

Threads share one workspace, each with the instructions that are its own (``gridc.scheduling.shares``) and with room to work in.
BLAS threads that have just worked spin for milliseconds and would take a core: whoever sweeps in several threads should hold
``blas.single_threaded`` around all else that multiplies, too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from gridc.fusion import gemm, jobs, kernels, machine, packing
from gridc.fusion.buffers import lent
from gridc.fusion.moves import Moves, Ready
from gridc.fusion.pace import Pace
from gridc.fusion.threads import gate, meeting
from gridc.fusion.workspace import LINE, Parameters, Places, Workspace, address, aligned, places
from gridc.scheduling.program import Array, Program, TransformProgram
from gridc.scheduling.shares import Share, share
from gridc.scheduling.threads import ALONE, Sharing
from gridc.tables.mechanisms import Cell, Options

__all__ = ["Parameters", "Program", "TransformProgram", "Workspace", "backward", "forward", "prepare"]


class Bound(NamedTuple):
    """A program on certain arrays, which it does not hold: the crew, whose instructions it does, each thread's job, its records,
    the blocks, and what is moved before and after."""

    crew: Crew
    jobs: Array
    records: tuple[Array, ...]
    blocks: Array
    before: Ready
    after: Ready

    def arrays(self) -> tuple[Array, ...]:
        """List those in which there are addresses."""
        return self.jobs, *self.records, self.blocks, self.before.words, self.after.words

    def on(self, arrays: Sequence[Array]) -> Bound:
        """Give the same with other such arrays, to which the jobs lead then."""
        given, *records, blocks, before, after = arrays
        found = Bound(self.crew, given, tuple(records), blocks, self.before.at(before), self.after.at(after))
        for word, each in ((jobs.BLOCKS, blocks), (jobs.BEFORE, before), (jobs.AFTER, after)):
            given[:, word] = address(each)
        given[:, jobs.RECORDS] = [address(each) for each in records]
        return found


NOTHING = Moves().ready()


def forward(space: Workspace, parameters: Parameters, forgets: bool = False, sharing: Sharing = ALONE) -> None:
    """Fill ``h``, ``m`` and, unless it ``forgets``, what the adjoint needs (``z``, ``g``)."""

    def run(own: Sharing) -> None:
        crew = crew_of(space.program, own, space.products, space.dtype)
        with lent(crew.ahead.size, space.dtype) as whole:
            rooms = aligned(whole), scores(crew, space.facts, space.dtype)
            ahead(bind(space, parameters, None, crew, rooms), forgets, (space, parameters, rooms))

    paced(space.program, sharing, False, run)


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
            back(bind(space, parameters, found, crew, rooms), adds, (space, parameters, found, rooms))

    paced(space.program, sharing, True, run)
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
    back = gradients is not None
    tables, parts, (room, scored) = space.tables(parameters, gradients), crew.back if back else crew.ahead, rooms
    given = _given(space.dtype, back, len(crew.shares) if back else crew.busy)
    given[:, jobs.CALLED], given[:, jobs.BEHIND] = address(crew.products), crew.behind
    records: list[Array] = []
    for k, job in enumerate(given):
        product, packs, row = parts.parts[k]
        steps = crew.shares[k].backward if back else crew.shares[k].forward
        job[jobs.STEPS], job[jobs.COUNT] = address(steps), len(steps)
        job[jobs.UNIT], job[jobs.ROOM] = address(room) + product.start * room.itemsize, product.stop - product.start
        records.append(tables.of_thread(space.places, room[packs], room[row], scored[k]).records)
    given[:, jobs.TRANSFORMS], given[:, jobs.READS] = len(records[0]), len(tables.blocks)
    given[:, jobs.BEFORES], given[:, jobs.SHARE_BEFORE] = len(before.words), before.shared
    given[:, jobs.AFTERS], given[:, jobs.SHARE_AFTER] = len(after.words), after.shared
    found = Bound(crew, given, tuple(records), tables.blocks, before, after)
    return found.on(found.arrays())


def _given(dtype: np.dtype[Any], back: bool, threads: int) -> Array:
    """Begin the jobs of so many threads, ``[threads, words]``."""
    given = np.zeros((threads, len(jobs.JOB)), np.int64)
    given[:, jobs.DOES], given[:, jobs.BACK] = jobs.doing(dtype.name)[back], back
    given[:, jobs.THREADS], given[:, jobs.THREAD] = threads, range(threads)
    if threads > 1:
        given[:, jobs.GATE], given[:, jobs.MOVES] = gate(threads).at, gate(threads).moves
    return given


def only(steps: Array, threads: int) -> Array:
    """Give jobs of so many threads that do nothing but these steps, which touch no array and must be held."""
    given = _given(np.dtype(np.float32), True, threads)
    given[:, jobs.STEPS], given[:, jobs.COUNT] = address(steps), len(steps)
    return given


class Pattern:
    """What is ``Bound`` alike wherever its arrays lie: made of stand-ins for them, and moved to where they are."""

    def __init__(self, bound: Bound):
        self._bound, parts = bound, bound.arrays()
        self._shapes = [(part.shape, part.size) for part in parts]
        words = np.concatenate([part.reshape(-1) for part in parts])
        which = words >> STAND_IN
        self._at = np.flatnonzero(which > 0)
        self._which = which[self._at] - 1
        words[self._at] &= (1 << STAND_IN) - 1
        self._words = words
        self._idle: list[tuple[Array, Array, Bound]] = []

    @contextmanager
    def on(self, arrays: Sequence[Array]) -> Generator[Bound]:
        """Give it for arrays of the shapes of the stand-ins, in their order, to use for a while."""
        places = np.array([address(array) for array in arrays], np.int64)
        try:
            last, words, bound = self._idle.pop()
        except IndexError:  # all are in use
            last, words, bound = np.zeros_like(places), *self._copied()
        moved = places - last
        if moved.any():
            words[self._at] += moved[self._which]
        yield bound
        self._idle.append((places, words, bound))  # unless it ended amiss

    def _copied(self) -> tuple[Array, Bound]:
        words, parts, at = self._words.copy(), list[Array](), 0
        for shape, size in self._shapes:
            parts.append(words[at : at + size].reshape(shape))
            at += size
        return words, self._bound.on(parts)


STAND_IN = 48
"""The addresses of stand-ins are whole numbers of two to this power, beyond those of all arrays."""


def stand_ins(arrays: Sequence[Array]) -> list[Array]:
    """Make arrays of the same shapes and types that lie nowhere, each far from the others: for their addresses alone."""
    return [np.asarray(_StandIn((k + 1) << STAND_IN, array)) for k, array in enumerate(arrays)]


class _StandIn:
    def __init__(self, place: int, like: Array):
        self.__array_interface__ = {"version": 3, "shape": like.shape, "typestr": like.dtype.str, "data": (place, False)}


def ahead(bound: Bound, forgets: bool, held: Any) -> None:
    """Run forward; ``held`` is whatever the addresses lead to."""
    given = bound.jobs
    if forgets:  # what forgets moves some of its arrays about
        given, records = given.copy(), [each.copy() for each in bound.records]
        given[:, jobs.FORGETS], given[:, jobs.RECORDS] = 1, [address(each) for each in records]
    meeting(given)


def back(bound: Bound, adds: bool, held: Any) -> None:
    """Run backward; ``held`` is whatever the addresses lead to."""
    bound.jobs[:, jobs.ADDS] = adds
    meeting(bound.jobs)


def paced(program: Program, sharing: Sharing, back: bool, run: Callable[[Sharing], None]) -> None:
    """Run forward or back as it is to be shared, or alone where threads only keep each other waiting."""
    if sharing.threads == 1:
        run(sharing)
        return
    pace = _paces.setdefault(program, {}).setdefault(sharing, Pace())
    pace(back, lambda shared: run(sharing if shared else ALONE))


class _Rooms(NamedTuple):
    """How many numbers threads need to work in, and which are whose: for operands as words and for one product's adjoint or a
    panel, for weights that it packs, for a cell's row."""

    size: int
    parts: tuple[tuple[slice, slice, slice], ...]


class Crew(NamedTuple):
    """What the threads do that share a program, how many of them are ``busy`` on the way forward, whether one makes the weights'
    gradients ``behind`` the other, the addresses of the products that they call, and their rooms."""

    shares: tuple[Share, ...]
    busy: int
    behind: bool
    products: Array
    ahead: _Rooms
    back: _Rooms


_paces: WeakKeyDictionary[Program, dict[Sharing, Pace]] = WeakKeyDictionary()
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
        made = Crew(shares, busy, sharing.way == "weights", calls, *rooms)
        found = known.setdefault((sharing, products, dtype), made)  # another caller may have made one meanwhile
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
    jobs.posts()
    jobs.doing(dtype.name)
    machine.products(products or dtype.name)


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
