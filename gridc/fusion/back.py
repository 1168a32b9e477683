"""Runs a plan back: the gradients of what outputs read come in, those of what entered and of the weights come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gridc.fusion import sweep
from gridc.fusion.moves import Moves
from gridc.fusion.run import VECTORS, Inputs, Run, Totals, part_of, state_of
from gridc.fusion.sweep import Bound, Crew
from gridc.fusion.workspace import Parameters, Workspace
from gridc.scheduling.program import Array
from gridc.scheduling.segments import Entrance


def backward(
    inputs: Inputs, tape: Array, slopes: Array, packed: Array, taps: Sequence[Array], out: Totals, asked: Callable[[str], bool]
) -> None:
    """Given the gradients of what outputs read, fill ``out`` with those of the arrays of every role; uses up the tape.

    The gradients of joined inputs that are not ``asked`` for are not made."""
    clear(inputs, out)
    taps = [np.ascontiguousarray(gradient) for gradient in taps]
    Backward(inputs, tape, slopes, packed, taps, out, asked).run()


def clear(inputs: Inputs, out: Totals) -> None:
    """Zero what is added to."""
    for role, array in out.items():
        if role[1] in ("start", "shift", "joined", "facts") or (role[1] == "entry" and not inputs.plan.sweep.whole):
            array.fill(0)


class Backward(Run):
    """The way back, which fills ``out``."""

    def __init__(
        self, inputs: Inputs, tape: Array, slopes: Array, packed: Array, taps: Sequence[Array], out: Totals,
        asked: Callable[[str], bool],
    ):  # fmt: skip
        super().__init__(inputs, tape, slopes, packed, taps)
        self.out, self.asked = out, asked
        self.own: Parameters | None = None
        """Where the gradients of a segment's weights go first, where there are several."""

    def run(self) -> None:
        """Go back through the segments, each run forward again first, and make the weights' gradients of all."""
        if self.swept.whole:
            self.back(0, None)
            return
        total, last = self.inputs.parameters(self.out), len(self.swept.segments) - 1
        # Room for the gradients of the segment that uses most weights.
        each_uses = zip(*(segment.weights for segment in self.swept.segments), strict=True)
        scratch = part_of(total, [slice(0, max(of.stop - of.start for of in weights)) for weights in each_uses]).empty()
        for array in total.all():
            array.fill(0)
        for s in range(last, -1, -1):
            if s < last:  # the last one's arrays are still as it left them
                self.ahead(s, forgets=False, gives=False)
            own = part_of(scratch, [slice(0, of.stop - of.start) for of in self.swept.segments[s].weights])
            self.back(s, own)
            part_of(total, self.swept.segments[s].weights).add(own)

    def back(self, s: int, own: Parameters | None, adds: bool = False, settled: bool = False) -> None:
        """Run a segment back, and make the gradients of its weights in arrays of their ``own``, or where all of them go; unless
        what it starts with is ``settled``, that is found before."""

        def bind(run: Backward, crew: Crew, rooms: tuple[Array, Array]) -> Bound:
            space, before, after = run.slopes_of(s), Moves(), Moves()
            if not settled:
                run.receive(s, space, before)
                before.meet()
            after.meet()
            run.leave(s, space, after)
            gradients = run.inputs.parameters(run.out) if own is None else run.own
            return sweep.bind(space, run.weights(s), gradients, crew, rooms, before.ready(), after.ready())

        which = (1, settled, tuple(self.out), tuple(self.asked(role[0]) for role in self.out if role[1] == "joined"))
        self.own = own
        self.bound(s, which, own.all() if own else [], bind, lambda bound, held: sweep.back(bound, adds, held))
        self.own = None

    def arrays(self) -> list[Array]:
        """List all that a sweep follows addresses to, but for what is one segment's."""
        return [*super().arrays(), self.slopes, *self.out.values()]

    def take(self, arrays: Iterator[Array]) -> None:
        """Run on other arrays from now on, in the order of ``arrays``, and of a segment's own after them."""
        super().take(arrays)
        self.slopes = next(arrays)
        self.out = {role: next(arrays) for role in self.out}
        if self.own is not None:
            letters = (self.own.w, self.own.b, self.own.p)
            self.own = Parameters(*([None if one is None else next(arrays) for one in each] for each in letters))

    def slopes_of(self, s: int) -> Workspace:
        """Make the segment's arrays, with room for gradients."""
        space = self.workspace(s)
        for i, j, role in self.joins():
            if self.asked(role[0]):
                space.djoined[i][j] = self.out[role]
        for i, name in enumerate(self.inputs.plan.spec.transforms):
            space.dfacts[i] = self.facts(name, self.out)
        return space

    def receive(self, s: int, space: Workspace, moves: Moves) -> None:
        """Add up the gradients of what outputs and later segments read."""
        segment = self.swept.segments[s]
        moves.copy(space.slopes[: space.places.states].reshape(-1, 1), slice(None), None)
        moves.meet()
        for hand in segment.handovers:
            for slopes, later in zip((space.dh, space.dm), self.kept[hand.later][hand.storage], strict=True):
                own = slopes[hand.storage]
                if own is not None and later is not None:
                    moves.add(own, hand.rows, later, hand.places)
        for tap in segment.taps:
            state = state_of(tap, space.dh, space.dm)
            mask, masks = self.seen(tap)
            moves.add(state, tap.rows, self.tapped(tap, state.shape[1]), tap.places, mask, masks)

    def leave(self, s: int, space: Workspace, moves: Moves) -> None:
        """Hand back the gradients of what the segment lived on and of what entered the grid."""
        for slopes, first, rows in self.lives_on(s, space.dh, space.dm):
            moves.copy(rows, slice(None), slopes, slice(first, first + len(rows)))
        for entrance in self.swept.segments[s].entrances:
            for vector, states in zip(VECTORS, (space.dh, space.dm), strict=True):
                slopes = states[entrance.storage]
                if slopes is not None:
                    self._left(entrance, vector, slopes, moves)

    def _left(self, entrance: Entrance, vector: str, slopes: Array, moves: Moves) -> None:
        start, entry, shift = ((entrance.transform, role, vector) for role in ("start", "entry", "shift"))
        if entry in self.out:
            (moves.copy if self.swept.whole else moves.add)(self.out[entry], entrance.places, slopes, entrance.rows)
        if shift in self.out:
            moves.sum(self.out[shift], slopes, entrance.rows)
        if start in self.out:
            moves.sum(self.out[start], slopes, entrance.start)
            if entry not in self.out:
                moves.sum(self.out[start], slopes, entrance.rows)
