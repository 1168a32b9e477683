"""A sweep that keeps little: cut into segments, of which only what later ones read is kept, and run again when it is needed.

A segment is a program of its own.  Its rows are those of some consecutive batches, in their old order; whatever it reads from
earlier segments comes in through its boundary rows, after them what enters the grid.  One workspace, large enough for any
segment, serves all of them.  The rows that a segment reads from earlier ones (it *lives on* them) are the tape; on the way
back their gradients take their places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gridc.language.lattice import Ints
from gridc.scheduling import layout
from gridc.scheduling.layout import Boundary
from gridc.scheduling.program import Array, Program, TransformProgram
from gridc.tables import cells

Range: TypeAlias = "slice[int, int, None]"
FEWER = 3.0
"""Memory hardly changes near its least; so many times fewer segments than there run faster."""


@dataclass(frozen=True)
class Entrance:
    """The rows of what enters along one transform that a segment reads, ``places`` among all that enters; and the row of the
    start alone, -1 where it is not read."""

    transform: str
    storage: int
    rows: Ints
    places: Ints
    start: int


@dataclass(frozen=True)
class Handover:
    """Rows of a segment on which segment ``later`` lives: ``places`` among all that it lives on in that storage."""

    storage: int
    rows: Ints
    later: int
    places: Ints


@dataclass(frozen=True)
class Tap:
    """What a segment gives to read number ``number`` of the outputs: rows, and their places in what is read.  A `pass` may
    hand one row to several places."""

    number: int
    storage: int
    memory: bool
    rows: Ints
    places: Ints
    unique: bool


@dataclass(frozen=True)
class Segment:
    """``live`` counts, per storage, the rows from earlier segments, first among the boundary rows; of each transform's weights
    it uses those of ``weights``."""

    program: Program
    live: tuple[int, ...]
    weights: tuple[Range, ...]
    entrances: tuple[Entrance, ...]
    handovers: tuple[Handover, ...]
    taps: tuple[Tap, ...]


@dataclass(frozen=True)
class Lane:
    """The segments for some of the examples; ``taps`` are the shapes of what the outputs read, without the units."""

    examples: slice
    segments: tuple[Segment, ...]
    taps: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layout:
    sizes: tuple[int, ...]
    batch: int
    order: str
    lanes: tuple[Lane, ...]


# -- planning ------------------------------------------------------------------------------------------------------


def number(program: Program) -> int:
    """How many segments: what all of them live on grows with their number, what the largest works with shrinks."""
    batches = len(program.batches)
    first = max(2, round(math.sqrt(batches)))
    if batches < first:
        return 1
    owner = _owners(program, first)
    per_row = [_state(p) for p in program.transforms]
    live = 0
    for u, keys in enumerate(_live(program, owner)):
        live += int((keys % _extent(program.transforms[u]) < program.transforms[u].rows).sum()) * per_row[u]
    best = math.sqrt(int(_numbers(program).sum()) * (first - 1) / max(live, 1))
    return max(1, min(round(best / FEWER), batches))


def cut(lane: layout.Lane) -> Lane:
    """A lane's program in segments."""
    program = lane.program
    owner = _owners(program, number(program))
    count = max((int(own.max(initial=0)) for own in owner), default=0) + 1
    taps = [tap for reads in lane.taps.values() for tap in reads]
    cutter = _Cutter(lane, owner, taps, count)
    return Lane(lane.examples, tuple(cutter.segment(s) for s in range(count)), tuple(tap.rows.shape for tap in taps))


def room(lane: Lane) -> tuple[int, int]:
    """How many numbers the tape and the slopes of a lane hold."""
    each = [segment.program.sizes for segment in lane.segments]
    kept = sum(n * _state(p) for s in lane.segments for n, p in zip(s.live, s.program.transforms, strict=True))
    return kept + max(a for a, _ in each), max(b for _, b in each)


def _extent(own: TransformProgram) -> int:
    return own.rows + own.boundary


def _state(own: TransformProgram) -> int:
    """Numbers of a row's state."""
    return own.hidden * (2 if cells.CELLS[own.cell].memory else 1)


def _numbers(program: Program) -> Ints:
    """What each batch works with."""
    per_row = [2 * _state(p) + (sum(program.widths(t)) if p.gates else 0) + p.width for t, p in enumerate(program.transforms)]
    batches = program.batches
    return (batches[:, 2] - batches[:, 1]) * np.asarray(per_row, np.int64)[batches[:, 0]]


def _owners(program: Program, count: int) -> list[Ints]:
    """Per storage, the segment that computes each row; -1 for what enters the grid."""
    numbers = _numbers(program)
    middle = np.cumsum(numbers) - numbers / 2
    of_batch = np.minimum(count - 1, (count * middle / max(1, int(numbers.sum()))).astype(np.int64))
    _, of_batch = np.unique(of_batch, return_inverse=True)
    owner = [np.full(_extent(p), -1, np.int64) for p in program.transforms]
    for (t, first, end, _), segment in zip(program.batches.tolist(), of_batch.tolist(), strict=True):
        owner[t][first:end] = segment
    return owner


def _entering(own: TransformProgram) -> tuple[Array, ...]:
    """The memory rows that a cell does look at."""
    cell = cells.CELLS[own.cell]
    return own.memory_rows if cell.memory else own.memory_rows[:1] if cell.uses_hidden else ()


def _live(program: Program, owner: list[Ints], taps: Sequence[layout.Tap] = ()) -> list[Ints]:
    """Per storage, sorted: ``segment * extent + row`` of every row that a segment reads and does not compute."""
    found: list[list[Ints]] = [[] for _ in program.transforms]
    wrapped = _wrapped(program)
    for t, own in enumerate(program.transforms):
        reader = owner[t][: own.rows]
        reads = [*zip(own.sources, own.read_rows, strict=True), *((t, index) for index in _entering(own))]
        for u, index in reads:
            outside = owner[u][index] != reader
            found[u].append(reader[outside] * _extent(program.transforms[u]) + index[outside])
    for u, _, rows, *_ in taps:
        flat = rows[rows >= 0]
        flat = flat[owner[u][flat] < 0]
        found[u].append(_homes(owner[u], wrapped[u])[flat] * len(owner[u]) + flat)
    keys = [np.unique(np.concatenate([np.zeros(0, np.int64), *each])) for each in found]
    for u, own in enumerate(owner):  # what wraps around is read together with what it is added to
        if (wrapped[u] >= 0).any():
            reader, row = np.divmod(keys[u], len(own))
            source = wrapped[u][row]
            outside = (source >= 0) & (own[source] != reader)
            keys[u] = np.unique(np.concatenate([keys[u], reader[outside] * len(own) + source[outside]]))
    return keys


def _wrapped(program: Program) -> list[Ints]:
    """Per storage, for each boundary row the computed row that is added to it, and -1 for every other row."""
    found = [np.full(_extent(own), -1, np.int64) for own in program.transforms]
    for _, u, source, target in program.wraps.tolist():
        found[u][target] = source
    return found


def _homes(owner: Ints, wrapped: Ints) -> Ints:
    """The segment in which outputs find each row of a storage: what enters is in the first, or where it wraps around."""
    return np.maximum(0, np.where(wrapped >= 0, owner[wrapped], owner))


class _Cutter:
    """Makes the segments of one lane, whose rows have these owners."""

    def __init__(self, lane: layout.Lane, owner: list[Ints], taps: Sequence[layout.Tap], count: int):
        self.lane, self.program, self.owner, self.taps, self.count = lane, lane.program, owner, taps, count
        self.live = _live(lane.program, owner, taps)
        self.place = [np.zeros(len(own), np.int64) for own in owner]  # of each row among those of its segment
        self.mine: list[list[Ints]] = []
        for u, own in enumerate(owner):
            self.mine.append([np.flatnonzero(own == s) for s in range(count)])
            for rows in self.mine[u]:
                self.place[u][rows] = np.arange(len(rows))
        self.wrapped = _wrapped(self.program)
        self.after = {(u, target): after for after, u, _, target in self.program.wraps.tolist()}
        self.handovers = self._handovers()
        self.of_batch = np.array([owner[t][first] for t, first, *_ in self.program.batches.tolist()], np.int64)

    def lives_on(self, s: int, u: int) -> Ints:
        """The rows of storage ``u`` that segment ``s`` reads and does not compute: earlier segments', then what enters."""
        extent = len(self.owner[u])
        low, high = np.searchsorted(self.live[u], [s * extent, (s + 1) * extent])
        return self.live[u][low:high] - s * extent

    def local(self, s: int, u: int, rows: Ints) -> Array:
        """Where a segment has these rows of storage ``u``."""
        outside = len(self.mine[u][s]) + np.searchsorted(self.lives_on(s, u), rows)
        return np.ascontiguousarray(np.where(self.owner[u][rows] == s, self.place[u][rows], outside))

    def segment(self, s: int) -> Segment:
        transforms: list[TransformProgram] = []
        weights: list[Range] = []
        live: list[int] = []
        for t, own in enumerate(self.program.transforms):
            mine, outside = self.mine[t][s], self.lives_on(s, t)
            weight = np.searchsorted(own.weight_ends, mine, side="right") - 1
            weights.append(slice(int(weight[0]), int(weight[-1]) + 1) if len(mine) else slice(0, 0))
            live.append(int((outside < own.rows).sum()))
            transforms.append(TransformProgram(
                cell=own.cell, options=own.options, dimensions=own.dimensions, hidden=own.hidden, gates=own.gates,
                sources=own.sources, joined=own.joined, rows=len(mine), boundary=len(outside),
                read_rows=tuple(self.local(s, u, index[mine]) for u, index in zip(own.sources, own.read_rows, strict=True)),
                memory_rows=tuple(self.local(s, t, index[mine]) for index in _entering(own)),
                joined_rows=tuple(index[mine] for index in own.joined_rows),
                weight_ends=np.searchsorted(weight, np.arange(weights[-1].start, weights[-1].stop + 1)).astype(np.int64),
            ))  # fmt: skip
        batches = self._batches(s, weights)
        program = Program(tuple(transforms), batches, self._hoists(s, weights, batches), self._wraps(s))
        entrances = tuple(entrance for boundary in self.lane.boundaries for entrance in self._entrance(s, boundary))
        return Segment(program, tuple(live), tuple(weights), entrances, tuple(self.handovers[s]), tuple(self._taps(s)))

    def _batches(self, s: int, weights: list[Range]) -> Ints:
        batches = self.program.batches[self.of_batch == s].copy()
        for batch in batches:
            t, first, end, weight = (int(n) for n in batch)
            batch[1:] = self.place[t][first], self.place[t][first] + end - first, weight - weights[t].start
        return batches

    def _hoists(self, s: int, weights: list[Range], batches: Ints) -> Ints:
        """The products that are hoisted out of several batches, as far as several of these are here."""
        start = int(np.searchsorted(self.of_batch, s))
        found: list[tuple[int, ...]] = []
        hoists: list[list[int]] = self.program.hoists.tolist()
        for before, t, block, first, end, weight in hoists:
            a, e = (int(np.searchsorted(self.mine[t][s], row)) for row in (first, end))
            if ((batches[:, 0] == t) & (batches[:, 1] >= a) & (batches[:, 1] < e)).sum() > 1:
                found.append((max(0, before - start), t, block, a, e, weight - weights[t].start))
        return np.asarray(sorted(found), np.int64).reshape(-1, 6)

    def _wraps(self, s: int) -> Ints:
        """What wraps around to a row that this segment reads, whether it comes from here or from before."""
        start = int(np.searchsorted(self.of_batch, s))
        found: list[tuple[int, ...]] = []
        for u, wrapped in enumerate(self.wrapped):
            outside = self.lives_on(s, u)
            to = outside[wrapped[outside] >= 0]
            pairs = zip(to.tolist(), self.local(s, u, wrapped[to]).tolist(), self.local(s, u, to).tolist(), strict=True)
            found += [(max(-1, self.after[u, row] - start), u, source, target) for row, source, target in pairs]
        return np.asarray(sorted(found), np.int64).reshape(-1, 4)

    def _entrance(self, s: int, boundary: Boundary) -> Iterator[Entrance]:
        outside = self.lives_on(s, u := boundary.storage)
        low, high = (int(np.searchsorted(outside, row)) for row in (boundary.first, boundary.start))
        there = bool(high < len(outside) and outside[high] == boundary.start)
        if high > low or there:
            base = len(self.mine[u][s])
            places = outside[low:high] - boundary.first
            yield Entrance(boundary.transform, u, base + np.arange(low, high), places, base + high if there else -1)

    def _handovers(self) -> list[list[Handover]]:
        """For each segment."""
        found: list[list[Handover]] = [[] for _ in range(self.count)]
        for later in range(self.count):
            for u, place in enumerate(self.place):
                outside = self.lives_on(later, u)
                giver = self.owner[u][outside]
                for s in map(int, np.unique(giver[giver >= 0])):
                    places = np.flatnonzero(giver == s)
                    found[s].append(Handover(u, place[outside[places]], later, places))
        return found

    def _taps(self, s: int) -> Iterator[Tap]:
        for n, (u, memory, rows, *_) in enumerate(self.taps):
            flat = rows.ravel()
            places = np.flatnonzero((flat >= 0) & (_homes(self.owner[u], self.wrapped[u])[flat] == s))
            if len(places):
                here = self.local(s, u, flat[places])
                yield Tap(n, u, memory, here, places, len(np.unique(here)) == len(here))
