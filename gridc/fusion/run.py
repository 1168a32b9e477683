"""Runs a plan, forward and back: what enters, the programs, what is handed over, what leaves.

A sweep of one segment keeps everything.  Otherwise it goes through its segments: forward once, and backward with each of them run
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridc.fusion import sweep, workspace
from gridc.fusion.workspace import Parameters, Workspace
from gridc.locks import once
from gridc.scheduling.plan import Plan
from gridc.scheduling.program import Array
from gridc.scheduling.segments import Entrance, Segment, Sweep, Tap

Role = tuple[str, str, str]
"""What an array is to the sweep: (transform or input, 'W' | 'b' | 'p' | 'start' | 'entry' | 'shift' | 'joined' | 'facts' |
'dropout' | 'zoneout', 'hidden' | 'memory' | '' or a weight of facts); a shift is added to every entry."""
MASKS = ("dropout", "zoneout")
"""Roles of what is drawn and not learnt."""
Totals = dict[Role, Array]
States = list[list[Array | None]]
"""Per storage the hidden vectors, and the memories where there are any."""
VECTORS = ("hidden", "memory")


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
    Run(inputs, tape, tape[:0], packed).forward(taps, forgets and inputs.plan.sweep.whole)
    return taps


def backward(
    inputs: Inputs, tape: Array, slopes: Array, packed: Array, taps: Sequence[Array], out: Totals, asked: Callable[[str], bool]
) -> None:
    """Given the gradients of what outputs read, fill ``out`` with those of the arrays of every role; uses up the tape.

    The gradients of joined inputs that are not ``asked`` for are not made."""
    clear(inputs, out)
    taps = [np.ascontiguousarray(gradient) for gradient in taps]
    Backward(inputs, tape, slopes, packed, taps, out, asked).run(inputs.parameters(out))


def clear(inputs: Inputs, out: Totals) -> None:
    """Zero what is added to."""
    for role, array in out.items():
        if role[1] in ("start", "shift", "joined", "facts") or (role[1] == "entry" and not inputs.plan.sweep.whole):
            array.fill(0)


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


class Run:
    """A sweep's memory, and what goes into and out of a segment's arrays."""

    def __init__(self, inputs: Inputs, tape: Array, slopes: Array, packed: Array):
        self.inputs, self.swept, self.slopes, self.packed = inputs, inputs.plan.sweep, slopes, packed
        self.kept, self.room = _kept(self.swept, tape)

    def forward(self, taps: Sequence[Array], forgets: bool) -> None:
        """Run segment after segment, and keep what later ones live on."""
        parameters = self.inputs.parameters()
        for s, segment in enumerate(self.swept.segments):
            space = self.workspace(s)
            self.enter(s, space)
            own = parameters if self.swept.whole else part_of(parameters, segment.weights)
            sweep.forward(space, own, forgets, self.inputs.plan.sharing)
            self.hand(s, space)
            self.give(segment, space, taps)

    def hand(self, s: int, space: Workspace) -> None:
        """Keep what later segments live on."""
        for hand in self.swept.segments[s].handovers:
            for state, later in zip((space.h, space.m), self.kept[hand.later][hand.storage], strict=True):
                mine = state[hand.storage]
                if mine is not None and later is not None:
                    later[hand.places] = mine[hand.rows]

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
                mean = np.full((1, transform.hidden), transform.zoneout, self.inputs.dtype)
                space.kept[i][kept] = mean if drawn is None else drawn
        return space

    def dropped(self, name: str) -> Array | None:
        """Give a transform's dropout mask, ``[rows, hidden]``; None where none was drawn."""
        return self.inputs.by_role.get((name, "dropout", ""))

    def facts(self, name: str, arrays: Mapping[Role, Array]) -> list[Array]:
        """Give a transform's facts, or their gradients, each array ``[sets, facts, hidden]``."""
        return [array.reshape(-1, *array.shape[-2:]) for role, array in arrays.items() if role[:2] == (name, "facts")]

    def seen(self, tap: Tap, vectors: Array) -> Array:
        """Give what is left of the vectors that an output reads, or of their gradients, behind the mask that a `pass` sees."""
        mask = None if tap.masks is None else self.dropped([*self.inputs.plan.spec.transforms][tap.storage])
        if mask is None or tap.masks is None:
            return vectors
        return np.where((tap.masks < 0)[:, None], vectors, vectors * mask[tap.masks])

    def joins(self) -> Iterator[tuple[int, int, Role]]:
        """Give of every joined input: transform, number, role."""
        spec = self.inputs.plan.spec
        for i, name in enumerate(spec.transforms):
            for j, x in enumerate(spec.joined(name)):
                yield i, j, (x.name, "joined", "")

    def enter(self, s: int, space: Workspace) -> None:
        """Fill the boundary rows with what the segment lives on and with what enters the grid."""
        for state, rows in self.lives_on(s, space.h, space.m):
            state[:] = rows
        given = self.inputs.by_role
        for entrance in self.swept.segments[s].entrances:
            for vector, states in zip(VECTORS, (space.h, space.m), strict=True):
                state = states[entrance.storage]
                if state is None:
                    continue
                start = given.get((entrance.transform, "start", vector), 0)
                entry = given.get((entrance.transform, "entry", vector))
                state[entrance.start] = start
                if entry is None:
                    state[entrance.rows] = start
                else:
                    shift = given.get((entrance.transform, "shift", vector), 0)
                    np.add(entry[entrance.places], shift, out=state[entrance.rows])

    def lives_on(self, s: int, hidden: list[Array], memories: list[Array | None]) -> Iterator[tuple[Array, Array]]:
        """Give the rows among a segment's arrays that come from earlier ones, and where they are kept."""
        for own, states, kept in zip(self.swept.segments[s].program.transforms, zip(hidden, memories, strict=True), self.kept[s],
                                     strict=False):  # fmt: skip
            for state, rows in zip(states, kept, strict=True):
                if state is not None and rows is not None:
                    yield state[own.rows : own.rows + len(rows)], rows

    def give(self, segment: Segment, space: Workspace, taps: Sequence[Array]) -> None:
        """Copy what outputs read."""
        for tap in segment.taps:
            state = _state(tap, space.h, space.m)
            into = self.tapped(taps, tap, state.shape[1])
            if isinstance(tap.places, slice) and tap.masks is None:
                np.take(state, tap.rows, axis=0, out=into, mode="clip")  # every row is there; other modes make a copy
            else:
                into[tap.places] = self.seen(tap, state[tap.rows])

    def tapped(self, taps: Sequence[Array], tap: Tap, hidden: int) -> Array:
        """Give one read of the outputs, ``[places, hidden]``: a view."""
        return taps[tap.number].reshape(-1, hidden)


def _state(tap: Tap, hidden: Sequence[Array], memories: Sequence[Array | None]) -> Array:
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


class Backward(Run):
    """The way back, which fills ``out``."""

    def __init__(
        self, inputs: Inputs, tape: Array, slopes: Array, packed: Array, taps: Sequence[Array], out: Totals,
        asked: Callable[[str], bool],
    ):  # fmt: skip
        super().__init__(inputs, tape, slopes, packed)
        self.taps, self.out, self.asked = taps, out, asked
        self.spaces: dict[int, Workspace] = {}

    def run(self, total: Parameters) -> None:
        """Go back through the segments, each run forward again first; ``total`` becomes the weights' gradients."""
        last = len(self.swept.segments) - 1
        parameters = self.inputs.parameters()
        # A single segment's gradients are the total; otherwise room for those of the segment that uses most weights.
        each_uses = zip(*(segment.weights for segment in self.swept.segments), strict=True) if last else ()
        most = [slice(0, max(of.stop - of.start for of in weights)) for weights in each_uses]
        scratch = part_of(total, most).empty() if last else total
        for array in (*total.w, *total.b, *total.p) if last else ():
            if array is not None:
                array.fill(0)
        for s in range(last, -1, -1):
            segment = self.swept.segments[s]
            weights = part_of(parameters, segment.weights) if last else parameters
            if s < last:  # the last one's arrays are still as it left them
                self.enter(s, space := self.workspace(s))
                sweep.forward(space, weights, sharing=self.inputs.plan.sharing)
            self.receive(s)
            own = part_of(scratch, [slice(0, of.stop - of.start) for of in segment.weights]) if last else total
            sweep.backward(self.spaces[s], weights, own, self.inputs.plan.sharing)
            if last:
                part_of(total, segment.weights).add(own)
            self.leave(s)

    def receive(self, s: int) -> None:
        """Add up the gradients of what outputs and later segments read."""
        segment = self.swept.segments[s]
        self.spaces = {s: self.workspace(s)}
        space = self.spaces[s]
        for i, j, role in self.joins():
            if self.asked(role[0]):
                space.djoined[i][j] = self.out[role]
        for i, name in enumerate(self.inputs.plan.spec.transforms):
            space.dfacts[i] = self.facts(name, self.out)
        space.clear_gradients()
        for hand in segment.handovers:
            for slopes, later in zip((space.dh, space.dm), self.kept[hand.later][hand.storage], strict=True):
                own = slopes[hand.storage]
                if own is not None and later is not None:
                    own[hand.rows] += later[hand.places]
        for tap in segment.taps:
            state = _state(tap, space.dh, space.dm)
            gradient = self.seen(tap, self.tapped(self.taps, tap, state.shape[1])[tap.places])
            if tap.unique:
                state[tap.rows] += gradient
            else:
                np.add.at(state, tap.rows, gradient)

    def leave(self, s: int) -> None:
        """Hand back the gradients of what the segment lived on and of what entered the grid."""
        space = self.spaces[s]
        for slopes, rows in self.lives_on(s, space.dh, space.dm):
            rows[:] = slopes
        for entrance in self.swept.segments[s].entrances:
            for vector, states in zip(VECTORS, (space.dh, space.dm), strict=True):
                slopes = states[entrance.storage]
                if slopes is not None:
                    self._left(entrance, vector, slopes)

    def _left(self, entrance: Entrance, vector: str, slopes: Array) -> None:
        start, entry, shift = ((entrance.transform, role, vector) for role in ("start", "entry", "shift"))
        entering = slopes[entrance.rows]
        if entry in self.out:
            total = self.out[entry]
            if self.swept.whole:
                total[entrance.places] = entering
            else:
                total[entrance.places] += entering
        if shift in self.out:
            self.out[shift] += entering.sum(axis=0)
        if start in self.out:
            self.out[start] += slopes[entrance.start].sum(axis=0)
            if entry not in self.out:
                self.out[start] += entering.sum(axis=0)
