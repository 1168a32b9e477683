"""Runs a plan forward: what enters, the programs, what is handed over, what leaves; ``gridc.fusion.back`` runs it back.

A sweep of one segment keeps everything.  Otherwise it goes through its segments: forward once, and backward with each of them run
again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gridc.fusion import sweep, workspace
from gridc.fusion.buffers import lent
from gridc.fusion.moves import Moves
from gridc.fusion.sweep import Bound, Crew, Pattern
from gridc.fusion.workspace import Parameters, Workspace, aligned
from gridc.locks import once
from gridc.scheduling.plan import Plan
from gridc.scheduling.program import Array, Program
from gridc.scheduling.segments import Sweep, Tap
from gridc.scheduling.threads import Sharing

Role = tuple[str, str, str]
"""What an array is to the sweep: (transform or input, 'W' | 'b' | 'p' | 'start' | 'entry' | 'shift' | 'joined' | 'facts' |
'dropout' | 'zoneout', 'hidden' | 'memory' | '' or a weight of facts); a shift is added to every entry."""
MASKS = ("dropout", "zoneout")
"""Roles of what is drawn and not learnt."""
Totals = dict[Role, Array]
States = list[list[Array | None]]
"""Per storage the hidden vectors, and the memories where there are any."""
VECTORS = ("hidden", "memory")
REMEMBERED = 16
"""Kinds of calls of a program that are."""


def flat_weights(array: Array, letter: str) -> Array:
    """Give ``[*untied, …]`` as ``[weights, …]``."""
    return array.reshape(-1, *array.shape[-2 if letter == "W" else -1 :])


@dataclass(frozen=True)
class Inputs:
    """The arrays of a sweep by their role, and the plan that says how they lie in memory."""

    plan: Plan
    by_role: Mapping[Role, Array]
    dtype: np.dtype[Any]
    products: str
    """The kind of its products: the dtype, or ``bfloat16``."""
    kind: Hashable = None
    """What tells apart calls of a plan that take or make arrays of other roles."""

    @once
    def alike(self) -> Hashable:
        """Give what calls whose arrays lie at the same addresses have in common, besides these."""
        shapes = tuple(array.shape for role, array in self.by_role.items() if role[1] == "facts")
        return (tuple(self.by_role) if self.kind is None else self.kind), self.products, self.dtype, shapes

    def parameters(self, of: Mapping[Role, Array] | None = None) -> Parameters:
        """Give the weights by transform, or of other arrays by role."""
        arrays = self.by_role if of is None else of

        def each(letter: str) -> list[Array | None]:
            found = (arrays.get((name, letter, "")) for name in self.plan.spec.transforms)
            return [None if array is None else flat_weights(array, letter) for array in found]

        return Parameters(each("W"), each("b"), each("p"))

    @once
    def rooms(self) -> tuple[int, int, int]:
        """How many numbers its tape, slopes and packed weights hold."""
        each = [workspace.places(segment.program, self.dtype) for segment in self.plan.sweep.segments]
        slopes, packed = (max(sizes, default=0) for sizes in ([one.slopes for one in each], [one.packed for one in each]))
        return self.plan.sweep.room[0], slopes, packed


def forward(inputs: Inputs, tape: Array, packed: Array, forgets: bool = False) -> list[Array]:
    """Fill the tape with what ``backward`` needs, unless it ``forgets``, and give what outputs read, each ``[batch, *axes, cells
    × hidden]``, 0 where an example has no such cell."""
    taps = empty_taps(inputs)
    Run(inputs, tape, tape[:0], packed, taps).forward(forgets and inputs.plan.sweep.whole)
    return taps


def empty_taps(inputs: Inputs) -> list[Array]:
    """Make room for what every read of every output finds."""
    spec = inputs.plan.spec
    taps: list[Array] = []
    hidden = [spec.transforms[tap.transform].hidden for output in spec.outputs.values() for tap in output.reads]
    for number, n in enumerate(hidden):
        swept = inputs.plan.sweep
        *shape, cells = swept.taps[number][1:]
        filled = swept.whole and any(tap.number == number and isinstance(tap.places, slice) for tap in swept.segments[0].taps)
        make = np.empty if filled else np.zeros
        taps.append(make((inputs.plan.batch, *shape, cells * n), inputs.dtype))
    return taps


def part_of(parameters: Parameters, weights: Sequence[slice]) -> Parameters:
    """Give those that a segment uses."""
    letters = (parameters.w, parameters.b, parameters.p)
    return Parameters(*([None if a is None else a[of] for a, of in zip(each, weights, strict=True)] for each in letters))


_patterns: WeakKeyDictionary[Program, dict[Hashable, Pattern]] = WeakKeyDictionary()


class Run:
    """A sweep's memory, and what goes into and out of a segment's arrays.

    ``taps`` are what outputs read, or their gradients."""

    def __init__(self, inputs: Inputs, tape: Array, slopes: Array, packed: Array, taps: Sequence[Array]):
        self.inputs, self.swept, self.slopes, self.packed = inputs, inputs.plan.sweep, slopes, aligned(packed)
        self.whole, self.taps = tape, taps
        self.kept, self.room = _kept(self.swept, tape)

    def forward(self, forgets: bool) -> None:
        """Run segment after segment, and keep what later ones live on."""
        for s in range(len(self.swept.segments)):
            self.arrive(s)
            self.ahead(s, forgets, gives=True)
            self.depart(s)

    def arrive(self, s: int) -> None:
        """Wait for what a segment needs of others than this sweep: nothing."""

    def depart(self, s: int) -> None:
        """Hand on what others than this sweep need of a segment: nothing."""

    def ahead(self, s: int, forgets: bool, gives: bool) -> None:
        """Run a segment forward, and give what outputs and later segments read, or not."""

        def bind(run: Run, crew: Crew, rooms: tuple[Array, Array]) -> Bound:
            space, before, after = run.workspace(s), Moves(), Moves()
            run.enter(s, space, before)
            before.meet()
            if gives:
                after.meet()
                run.give(s, space, after)
            return sweep.bind(space, run.weights(s), None, crew, rooms, before.ready(), after.ready())

        self.bound(s, (0, gives, forgets), [], bind, lambda bound, held: sweep.ahead(bound, forgets, held))

    def bound(
        self, s: int, which: tuple[Hashable, ...], own: Sequence[Array], bind: Callable[[Any, Crew, tuple[Array, Array]], Bound],
        run: Callable[[Bound, Any], None],
    ) -> None:  # fmt: skip
        """Run a segment on all arrays and its ``own``, as it was bound for stand-ins of them once."""
        inputs, program = self.inputs, self.swept.segments[s].program
        known = _patterns.setdefault(program, {})

        def go(sharing: Sharing) -> None:
            crew = sweep.crew_of(program, sharing, inputs.products, inputs.dtype)
            with lent((crew.back if which[0] else crew.ahead).size, inputs.dtype) as whole:
                facts = [array for role, array in inputs.by_role.items() if role[1] == "facts"]
                rooms = aligned(whole), sweep.scores(crew, [facts], inputs.dtype)
                arrays = [*rooms, *self.arrays(), *own]
                key = (which, sharing, inputs.alike)
                if key not in known:
                    if len(known) >= REMEMBERED:
                        known.clear()
                    room, scored, *others = sweep.stand_ins(arrays)
                    like = copy(self)
                    like.take(iter(others))
                    known[key] = Pattern(bind(like, crew, (room, scored)))
                with known[key].on(arrays) as bound:
                    run(bound, arrays)

        sweep.paced(program, inputs.plan.sharing, which[0] != 0, go)

    def arrays(self) -> list[Array]:
        """List all that a sweep follows addresses to, but for what is one segment's."""
        return [self.whole, self.packed, *self.inputs.by_role.values(), *self.taps]

    def take(self, arrays: Iterator[Array]) -> None:
        """Run on other arrays from now on, in the order of ``arrays``, and of a segment's own after them."""
        self.whole, self.packed = next(arrays), next(arrays)
        self.inputs = replace(self.inputs, by_role={role: next(arrays) for role in self.inputs.by_role})
        self.taps = [next(arrays) for _ in self.taps]
        self.kept, self.room = _kept(self.swept, self.whole)

    def weights(self, s: int) -> Parameters:
        """Give the weights that a segment uses."""
        parameters = self.inputs.parameters()
        return parameters if self.swept.whole else part_of(parameters, self.swept.segments[s].weights)

    def tape(self, s: int) -> Array:
        """Give what a segment works in: all of them in one place."""
        return self.room

    def workspace(self, s: int) -> Workspace:
        """Make the segment's arrays, joined inputs among them."""
        program = self.swept.segments[s].program
        where = workspace.places(program, self.inputs.dtype)
        space = Workspace(program, self.inputs.dtype, self.tape(s)[: where.tape], self.slopes[: where.slopes], self.packed,
                          self.inputs.products)  # fmt: skip
        for i, j, role in self.joins():
            space.joined[i][j] = self.inputs.by_role[role]
        for i, (name, transform) in enumerate(self.inputs.plan.spec.transforms.items()):
            space.dropped[i] = self.dropped(name)
            space.facts[i] = self.facts(name, self.inputs.by_role)
            for vector, kept in zip(VECTORS, range(len(space.kept[i])), strict=False):
                drawn = self.inputs.by_role.get((name, "zoneout", vector))
                space.kept[i][kept] = _mean(transform.hidden, transform.zoneout, self.inputs.dtype) if drawn is None else drawn
        return space

    def dropped(self, name: str) -> Array | None:
        """Give a transform's dropout mask, ``[rows, hidden]``; None where none was drawn."""
        return self.inputs.by_role.get((name, "dropout", ""))

    def facts(self, name: str, arrays: Mapping[Role, Array]) -> list[Array]:
        """Give a transform's facts, or their gradients, each array ``[sets, facts, hidden]``."""
        return [array.reshape(-1, *array.shape[-2:]) for role, array in arrays.items() if role[:2] == (name, "facts")]

    def seen(self, tap: Tap) -> tuple[Array | None, Array | None]:
        """Give the mask behind which a `pass` sees what an output reads of it, and its rows; None where it sees all."""
        mask = None if tap.masks is None else self.dropped([*self.inputs.plan.spec.transforms][tap.storage])
        return (None, None) if mask is None else (mask, tap.masks)

    def joins(self) -> Iterator[tuple[int, int, Role]]:
        """Give of every joined input: transform, number, role."""
        spec = self.inputs.plan.spec
        for i, name in enumerate(spec.transforms):
            for j, x in enumerate(spec.joined(name)):
                yield i, j, (x.name, "joined", "")

    def enter(self, s: int, space: Workspace, moves: Moves) -> None:
        """Fill the boundary rows with what the segment lives on and with what enters the grid."""
        for state, first, rows in self.lives_on(s, space.h, space.m):
            moves.copy(state, slice(first, first + len(rows)), rows)
        given = self.inputs.by_role
        for entrance in self.swept.segments[s].entrances:
            for vector, states in zip(VECTORS, (space.h, space.m), strict=True):
                state = states[entrance.storage]
                if state is None:
                    continue
                start = given.get((entrance.transform, "start", vector))
                entry = given.get((entrance.transform, "entry", vector))
                moves.copy(state, entrance.start, start)
                if entry is None:
                    moves.copy(state, entrance.rows, start)
                else:
                    moves.copy(state, entrance.rows, entry, entrance.places, given.get((entrance.transform, "shift", vector)))

    def lives_on(self, s: int, hidden: list[Array], memories: list[Array | None]) -> Iterator[tuple[Array, int, Array]]:
        """Give a segment's arrays some of whose rows come from earlier ones, the first of these rows, and where they are kept."""
        for own, states, kept in zip(self.swept.segments[s].program.transforms, zip(hidden, memories, strict=True), self.kept[s],
                                     strict=False):  # fmt: skip
            for state, rows in zip(states, kept, strict=True):
                if state is not None and rows is not None:
                    yield state, own.rows, rows

    def give(self, s: int, space: Workspace, moves: Moves) -> None:
        """Keep what later segments live on, and copy what outputs read."""
        for hand in self.swept.segments[s].handovers:
            for state, later in zip((space.h, space.m), self.kept[hand.later][hand.storage], strict=True):
                mine = state[hand.storage]
                if mine is not None and later is not None:
                    moves.copy(later, hand.places, mine, hand.rows)
        for tap in self.swept.segments[s].taps:
            state = state_of(tap, space.h, space.m)
            mask, masks = self.seen(tap)
            moves.copy(self.tapped(tap, state.shape[1]), tap.places, state, tap.rows, mask=mask, masks=masks)

    def tapped(self, tap: Tap, hidden: int) -> Array:
        """Give one read of the outputs, ``[places, hidden]``: a view."""
        return self.taps[tap.number].reshape(-1, hidden)


@cache
def _mean(hidden: int, zoneout: float, dtype: np.dtype[Any]) -> Array:
    """Give the share that zoneout keeps on the average, ``[1, hidden]``."""
    return np.full((1, hidden), zoneout, dtype)


def state_of(tap: Tap, hidden: Sequence[Array], memories: Sequence[Array | None]) -> Array:
    """Give the vectors among which an output reads."""
    state = (memories if tap.memory else hidden)[tap.storage]
    assert state is not None
    return state


def _kept(swept: Sweep, tape: Array) -> tuple[list[States], Array]:
    """Give the states on which each segment lives, none where there is one segment, and the workspace, as views of the tape."""
    if swept.whole:
        return [[]], tape
    used = 0
    found: list[States] = []
    for segment in swept.segments:
        states: States = []
        for count, own in zip(segment.live, segment.program.transforms, strict=True):
            views: list[Array | None] = [None, None]
            for k in range(1 + own.memory):
                views[k] = tape[used : used + count * own.hidden].reshape(count, own.hidden)
                used += count * own.hidden
            states.append(views)
        found.append(states)
    return found, tape[used:]
