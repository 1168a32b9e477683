"""Runs the segments of a sweep: forward once, and backward with each of them run forward again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from gridc.fusion import sweep
from gridc.fusion.threads import together
from gridc.fusion.workspace import Parameters, Workspace
from gridc.language import lattice
from gridc.language.lattice import Ints, points
from gridc.language.spec import GridSpec
from gridc.scheduling import graph, layout, order, segments
from gridc.scheduling.program import Array
from gridc.scheduling.segments import Entrance, Lane, Segment
from gridc.tables import cells

Role = tuple[str, str, str]
Totals = dict[Role, Array]
SLOWER = 1.1
"""How much slower than the fastest an order may be, by the cost model, for the sake of memory."""
States = list[list[Array | None]]
"""Per storage the hidden vectors, and the memories where there are any."""


class Given(Protocol):
    """What the sweep's inputs are; ``fused`` has it."""

    layout: Any
    by_role: Mapping[Role, Array]
    dtype: Any

    def parameters(self) -> Parameters: ...

    def rows(self, lane: Any, count: int) -> slice: ...

    def join(self, lane: Any, space: Workspace) -> None: ...


def plan(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None, lanes: int) -> segments.Layout:
    """As ``layout.plan``, in segments."""
    whole = layout.plan(spec, sizes, batch, extents, lanes, frugal(spec, sizes, batch / lanes, extents))
    return segments.Layout(sizes, batch, whole.order, tuple(segments.cut(lane) for lane in whole.lanes))


def stored(spec: GridSpec, sizes: tuple[int, ...], batch: int, lanes: int) -> tuple[int, int]:
    """How many numbers such a sweep keeps from forward to backward, and how many more backward, without making its arrays."""
    tape, slopes = segments.room(_single(spec, sizes, frugal(spec, sizes, batch / lanes)))
    return batch * tape, batch * slopes


def frugal(spec: GridSpec, sizes: tuple[int, ...], batch: float, extents: Ints | None = None) -> order.Order:
    """Of the orders that are nearly as fast as the fastest, the one whose segments keep least."""
    steps, at = graph.build(spec, sizes, extents), points(sizes)
    weight = tuple(lattice.weights(t, at, sizes) for t in spec.transforms.values())
    timed = [(order.seconds(spec, one, weight, batch), one) for one in order.orders(steps)]
    limit = SLOWER * min(seconds for seconds, _ in timed)
    able = [one for seconds, one in sorted(timed, key=lambda pair: pair[0]) if seconds <= limit]
    return able[0] if len(able) == 1 else min(able, key=lambda one: sum(segments.room(_single(spec, sizes, one))))


def _single(spec: GridSpec, sizes: tuple[int, ...], chosen: order.Order) -> Lane:
    """The segments of one example."""
    return segments.cut(layout.plan(spec, sizes, 1, None, 1, chosen).lanes[0])


def forward(given: Given, tape: Array, taps: Sequence[Array]) -> None:
    """Fills the tape with what ``backward`` needs and ``taps``, ``[batch, *axes, cells × hidden]``, with what outputs read."""
    together([functools.partial(_forward, given, *part, taps) for part, _ in _parts(given, tape, None)])


def backward(
    given: Given, tape: Array, slopes: Array, taps: Sequence[Array], attach: Callable[[Lane, Workspace], None],
    parameters: Parameters, out: Totals,
) -> None:  # fmt: skip
    """Given the gradients of ``taps``, fills those of the parameters and adds to ``out`` those of what enters; uses up the tape.

    ``attach`` tells a workspace where the gradients of joined inputs go."""
    runs: list[_Backward] = []
    for part, lent in _parts(given, tape, slopes):
        own = parameters if not runs else parameters.empty()
        runs.append(_Backward(given, *part, lent, taps, attach, own, out))
    together([run.run for run in runs])
    for run in runs:
        if run is not runs[0]:
            parameters.add(run.total)
        for role, total in run.sums.items():
            out[role] += total


def _parts(given: Given, tape: Array, slopes: Array | None) -> Iterator[tuple[tuple[Lane, Array], Any]]:
    """Every lane with its part of the tape, and of the slopes."""
    used = lent = 0
    for lane in given.layout.lanes:
        size, more = segments.room(lane)
        yield (lane, tape[used : used + size]), None if slopes is None else slopes[lent : lent + more]
        used, lent = used + size, lent + more


def _kept(lane: Lane, tape: Array) -> tuple[list[States], Array]:
    """The states on which each segment lives, and the workspace, as views of the tape."""
    used = 0
    found: list[States] = []
    for segment in lane.segments:
        states: States = []
        for count, own in zip(segment.live, segment.program.transforms, strict=True):
            views: list[Array | None] = [None, None]
            for k in range(1 + cells.CELLS[own.cell].memory):
                views[k] = tape[used : used + count * own.hidden].reshape(count, own.hidden)
                used += count * own.hidden
            states.append(views)
        found.append(states)
    return found, tape[used:]


def _part(parameters: Parameters, weights: Sequence[slice]) -> Parameters:
    """Those that a segment uses."""
    letters = (parameters.w, parameters.b, parameters.p)
    return Parameters(*([None if a is None else a[of] for a, of in zip(each, weights, strict=True)] for each in letters))


def _workspace(given: Given, lane: Lane, segment: Segment, tape: Array, slopes: Array | None) -> Workspace:
    size, more = segment.program.sizes
    space = Workspace(segment.program, given.dtype, tape[:size], None if slopes is None else slopes[:more])
    given.join(lane, space)
    return space


def _run(given: Given, lane: Lane, segment: Segment, live: States, space: Workspace, parameters: Parameters) -> None:
    """A segment forward, from what it lives on and from what enters."""
    for u, own in enumerate(segment.program.transforms):
        for state, kept in zip((space.h[u], space.m[u]), live[u], strict=True):
            if state is not None and kept is not None:
                state[own.rows : own.rows + len(kept)] = kept
    for entrance in segment.entrances:
        for vector, states in (("hidden", space.h), ("memory", space.m)):
            state = states[entrance.storage]
            if state is None:
                continue
            start = given.by_role.get((entrance.transform, "start", vector), 0)
            entry = given.by_role.get((entrance.transform, "entry", vector))
            if entrance.start >= 0:
                state[entrance.start] = start
            if entry is None:
                state[entrance.rows] = start
            else:
                shift = given.by_role.get((entrance.transform, "shift", vector), 0)
                state[entrance.rows] = entry[given.rows(lane, len(entry))][entrance.places] + shift
    sweep.forward([space], parameters)


def _tapped(lane: Lane, taps: Sequence[Array], number: int, hidden: int) -> Array:
    """One read of the outputs for a lane's examples, ``[places, hidden]``: a view."""
    return taps[number][lane.examples].reshape(-1, hidden)


def _forward(given: Given, lane: Lane, tape: Array, taps: Sequence[Array]) -> None:
    parameters = given.parameters()
    kept, room = _kept(lane, tape)
    for segment, live in zip(lane.segments, kept, strict=True):
        space = _workspace(given, lane, segment, room, None)
        _run(given, lane, segment, live, space, _part(parameters, segment.weights))
        for hand in segment.handovers:
            for state, later in zip((space.h, space.m), kept[hand.later][hand.storage], strict=True):
                own = state[hand.storage]
                if own is not None and later is not None:
                    later[hand.places] = own[hand.rows]
        for tap in segment.taps:
            own = (space.m if tap.memory else space.h)[tap.storage]
            assert own is not None
            _tapped(lane, taps, tap.number, own.shape[1])[tap.places] = own[tap.rows]


class _Backward:
    """One lane's way back; ``total`` are the gradients of the parameters, ``sums`` those of starts and shifts."""

    def __init__(
        self, given: Given, lane: Lane, tape: Array, slopes: Array, taps: Sequence[Array],
        attach: Callable[[Lane, Workspace], None], total: Parameters, out: Totals,
    ):  # fmt: skip
        self.given, self.lane, self.slopes, self.taps, self.attach = given, lane, slopes, taps, attach
        self.total, self.out = total, out
        self.sums: Totals = {role: np.zeros_like(array) for role, array in out.items() if role[1] in ("start", "shift")}
        self.kept, self.room = _kept(lane, tape)
        self.parameters = given.parameters()

    def run(self) -> None:
        count = len(self.lane.segments)
        part = self._scratch() if count > 1 else self.total
        if count > 1:
            for array in (*self.total.w, *self.total.b, *self.total.p):
                if array is not None:
                    array.fill(0)
        for s in range(count - 1, -1, -1):
            self._segment(s, part)

    def _scratch(self) -> Parameters:
        """Room for the gradients of the weights that a segment uses, for the one that uses most."""
        most = [slice(0, max(of.stop - of.start for of in each))
                for each in zip(*(segment.weights for segment in self.lane.segments), strict=True)]  # fmt: skip
        return _part(self.total, most).empty()

    def _segment(self, s: int, scratch: Parameters) -> None:
        segment, live = self.lane.segments[s], self.kept[s]
        space = _workspace(self.given, self.lane, segment, self.room, self.slopes)
        parameters = _part(self.parameters, segment.weights)
        if s < len(self.kept) - 1:  # the last one's arrays are still as it left them
            _run(self.given, self.lane, segment, live, space, parameters)
        self.attach(self.lane, space)
        space.clear_gradients()
        self._receive(segment, space)
        own = _part(scratch, [slice(0, of.stop - of.start) for of in segment.weights])
        sweep.backward([space], parameters, own, threads=1)
        if scratch is not self.total:
            _part(self.total, segment.weights).add(own)
        for u, t in enumerate(segment.program.transforms):
            for slopes, kept in zip((space.dh[u], space.dm[u]), live[u], strict=True):
                if slopes is not None and kept is not None:
                    kept[:] = slopes[t.rows : t.rows + len(kept)]
        for entrance in segment.entrances:
            self._leave(entrance, space)

    def _receive(self, segment: Segment, space: Workspace) -> None:
        """The gradients of what outputs and later segments read."""
        for hand in segment.handovers:
            for slopes, later in zip((space.dh, space.dm), self.kept[hand.later][hand.storage], strict=True):
                own = slopes[hand.storage]
                if own is not None and later is not None:
                    own[hand.rows] += later[hand.places]
        for tap in segment.taps:
            own = (space.dm if tap.memory else space.dh)[tap.storage]
            assert own is not None
            gradient = _tapped(self.lane, self.taps, tap.number, own.shape[1])[tap.places]
            if tap.unique:
                own[tap.rows] += gradient
            else:
                np.add.at(own, tap.rows, gradient)

    def _leave(self, entrance: Entrance, space: Workspace) -> None:
        """The gradients of what entered, from the rows where it did."""
        for vector, states in (("hidden", space.dh), ("memory", space.dm)):
            slopes = states[entrance.storage]
            if slopes is None:
                continue
            start, entry, shift = ((entrance.transform, role, vector) for role in ("start", "entry", "shift"))
            entering = slopes[entrance.rows]
            if entry in self.out:
                total = self.out[entry]
                total[self.given.rows(self.lane, len(total))][entrance.places] += entering
            if shift in self.sums:
                self.sums[shift] += entering.sum(axis=0)
            if start in self.sums:
                if entrance.start >= 0:
                    self.sums[start] += slopes[entrance.start]
                if entry not in self.out:
                    self.sums[start] += entering.sum(axis=0)
