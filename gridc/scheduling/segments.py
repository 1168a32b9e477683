"""A sweep in segments: whole, or cut so that only what later segments read is kept, and run again when it is needed.

A segment is a program of its own.  Its rows are those of some consecutive batches, in their old order; whatever it reads from
earlier segments comes in through its boundary rows, after them what enters the grid.  One workspace, large enough for any
segment, serves all of them.  The rows that a segment reads from earlier ones (it *lives on* them) are the tape; on the way
back their gradients take their places.  A sweep that keeps everything is one segment, which lives on nothing.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gridc.language.lattice import Ints, Mask
from gridc.scheduling.layout import Boundary, Layout, Reading
from gridc.scheduling.passes import assemble, hoist, wrap
from gridc.scheduling.program import Array, Program, TransformProgram

Range: TypeAlias = "slice[int, int, None]"
Rows: TypeAlias = "slice[int, int, None] | Ints"
"""Rows of an array: a stretch of it, which is a view, or one by one."""
FEWER = 3.0
"""Memory hardly changes near its least; so many times fewer segments than there run faster."""


@dataclass(frozen=True)
class Entrance:
    """The rows of what enters along one transform that a segment reads, ``places`` among all that enters; and the rows of the
    start alone, those of the examples that read it."""

    transform: str
    storage: int
    rows: Rows
    places: Rows
    start: Range


@dataclass(frozen=True)
class Handover:
    """Rows of a segment on which segment ``later`` lives: ``places`` among all that it lives on in that storage."""

    storage: int
    rows: Ints
    later: int
    places: Ints


@dataclass(frozen=True)
class Tap:
    """What a segment gives to read number ``number`` of the outputs: rows of a storage, or of its memories, and their places
    in what is read, ``[examples × axes × cells]``."""

    number: int
    storage: int
    memory: bool
    rows: Ints
    places: Rows
    unique: bool
    """Whether no row is read twice, as a `pass` hands one vector to several cells."""
    masks: Ints | None = None
    """Of each of the rows that of its storage's dropout mask, -1 where it is read whole; None where all are."""


@dataclass(frozen=True)
class Segment:
    """A program, and what passes between it and the rest of the sweep."""

    program: Program
    live: tuple[int, ...]
    """Per storage, how many rows it reads from earlier segments; they are the first boundary rows."""
    weights: tuple[Range, ...]
    """Of each transform's weights those that it uses."""
    entrances: tuple[Entrance, ...]
    handovers: tuple[Handover, ...]
    taps: tuple[Tap, ...]

    def read(self) -> list[Array]:
        """Give per storage the rows that are looked at when the program has run."""
        looked: list[list[Array]] = [[np.zeros(0, np.int64)] for _ in self.program.transforms]
        for each in (*self.taps, *self.handovers):
            looked[each.storage].append(each.rows)
        return [np.concatenate(rows) for rows in looked]


@dataclass(frozen=True)
class Sweep:
    """What runs, one segment after the other."""

    segments: tuple[Segment, ...]
    taps: tuple[tuple[int, ...], ...]
    """The shapes of what the outputs read, ``[batch, *axes, cells]``."""

    @property
    def whole(self) -> bool:
        """Whether it keeps everything."""
        return len(self.segments) == 1

    @functools.cached_property
    def room(self) -> tuple[int, int]:
        """How many numbers its tape and its slopes hold: what all segments live on, and the largest segment."""
        each = [segment.program.sizes for segment in self.segments]
        kept = sum(n * p.state for s in self.segments for n, p in zip(s.live, s.program.transforms, strict=True))
        return kept + max(tape for tape, _ in each), max(slopes for _, slopes in each)


def one(layout: Layout) -> Sweep:
    """Make the whole sweep one segment."""
    program = hoist(wrap(assemble(layout.transforms, layout.batches, layout.wraps)))
    entrances: list[Entrance] = []
    for b in layout.boundaries:
        start = slice(b.start, b.start + layout.batch)
        entrances.append(Entrance(b.transform, b.storage, slice(b.first, b.start), slice(0, b.count), start))
    taps: list[Tap] = []
    for number, reading in enumerate(layout.outputs):
        flat = reading.rows.ravel()
        places = np.flatnonzero(flat >= 0)
        rows = flat[places]
        everywhere: Rows = slice(0, len(flat)) if len(places) == len(flat) else places
        masks = None if reading.masks is None else reading.masks.ravel()[places]
        taps.append(Tap(number, reading.storage, reading.memory, rows, everywhere, len(np.unique(rows)) == len(rows), masks))
    weights = tuple(slice(0, len(p.weight_ends) - 1) for p in program.transforms)
    segment = Segment(program, (0,) * len(program.transforms), weights, tuple(entrances), (), tuple(taps))
    return Sweep((segment,), tuple(reading.rows.shape for reading in layout.outputs))


def cut(layout: Layout, count: int | None = None) -> Sweep:
    """Cut the sweep into so many segments, or in as many as keep little."""
    program = wrap(assemble(layout.transforms, layout.batches, layout.wraps))
    count = number(program) if count is None else count
    owner = _owners(program, count)
    count = max((int(own.max(initial=0)) for own in owner), default=0) + 1
    if count == 1:
        return one(layout)
    cutter = Cutter(program, layout, owner, count)
    handed: list[list[Handover]] = [[] for _ in range(count)]
    for later in range(count):
        for s, hand in cutter.handovers(later):
            handed[s].append(hand)
    segments = tuple(cutter.segment(s, tuple(hands)) for s, hands in enumerate(handed))
    return Sweep(segments, tuple(reading.rows.shape for reading in layout.outputs))


def least(layout: Layout) -> int:
    """Give about how many segments keep least."""
    return number(wrap(assemble(layout.transforms, layout.batches, layout.wraps)), 1.0)


def number(program: Program, fewer: float = FEWER) -> int:
    """Choose how many segments: what all of them live on grows with their number, what the largest works with shrinks; so many
    times ``fewer`` than where both together are least."""
    batches = len(program.batches)
    first = max(2, round(math.sqrt(batches)))
    if batches < first:
        return 1
    owner = _owners(program, first)
    live = 0
    for p, keys in zip(program.transforms, _live(program, owner), strict=True):
        live += int((keys % p.extent < p.rows).sum()) * p.state
    best = math.sqrt(int(_numbers(program).sum()) * (first - 1) / max(live, 1))
    return max(1, min(round(best / fewer), batches))


def _numbers(program: Program) -> Ints:
    """Count what each batch works with."""
    per_row = [2 * p.state + (sum(program.widths(t)) if p.gates else 0) + p.width for t, p in enumerate(program.transforms)]
    batches = program.batches
    return (batches["end"] - batches["first"]) * np.asarray(per_row, np.int64)[batches["transform"]]


def _owners(program: Program, count: int) -> list[Ints]:
    """Give, per storage, the segment that computes each row; -1 for what enters the grid."""
    numbers = _numbers(program)
    middle = np.cumsum(numbers) - numbers / 2
    of_batch = np.minimum(count - 1, (count * middle / max(1, int(numbers.sum()))).astype(np.int64))
    _, of_batch = np.unique(of_batch, return_inverse=True)
    owner = [np.full(p.extent, -1, np.int64) for p in program.transforms]
    for (t, first, end, _), segment in zip(program.batches.tolist(), of_batch.tolist(), strict=True):
        owner[t][first:end] = segment
    return owner


def _live(program: Program, owner: list[Ints], outputs: Sequence[Reading] = ()) -> list[Ints]:
    """List, per storage and sorted, ``segment * extent + row`` of every row that a segment reads and does not compute."""
    found: list[list[Ints]] = [[] for _ in program.transforms]
    wrapped = _wrapped(program)
    for t, own in enumerate(program.transforms):
        reader = owner[t][: own.rows]
        reads = [*zip(own.sources, own.read_rows, strict=True), *((t, index) for index in own.carried_rows)]
        for u, index in reads:
            outside = owner[u][index] != reader
            found[u].append(reader[outside] * program.transforms[u].extent + index[outside])
    for u, _, rows in ((reading.storage, reading.memory, reading.rows) for reading in outputs):
        flat = rows[rows >= 0]
        flat = flat[owner[u][flat] < 0]
        found[u].append(homes(owner[u], wrapped[u])[flat] * len(owner[u]) + flat)
    keys = [np.unique(np.concatenate([np.zeros(0, np.int64), *each])) for each in found]
    for u, own in enumerate(owner):  # what wraps around is read together with what it is added to
        if (wrapped[u] >= 0).any():
            reader, row = np.divmod(keys[u], len(own))
            source = wrapped[u][row]
            outside = (source >= 0) & (own[source] != reader)
            keys[u] = np.unique(np.concatenate([keys[u], reader[outside] * len(own) + source[outside]]))
    return keys


def _wrapped(program: Program) -> list[Ints]:
    """Give, per storage, for each boundary row the computed row that is added to it, and -1 for every other row."""
    found = [np.full(own.extent, -1, np.int64) for own in program.transforms]
    for u, source, target in program.wraps.tolist():
        found[u][target] = source
    return found


def homes(owner: Ints, wrapped: Ints) -> Ints:
    """Give the segment in which outputs find each row of a storage: what enters is in the first, or where it wraps around."""
    return np.maximum(0, np.where(wrapped >= 0, owner[wrapped], owner))


class Cutter:
    """Makes the segments of a sweep whose rows have these owners, ``count`` segments in their order."""

    def __init__(self, program: Program, layout: Layout, owner: list[Ints], count: int):
        self.program, self.boundaries, self.owner, self.count = program, layout.boundaries, owner, count
        self.outputs, self.batch = layout.outputs, layout.batch
        self.live = _live(program, owner, self.outputs)
        self.place = [np.zeros(len(own), np.int64) for own in owner]  # of each row among those of its segment
        self.mine: list[list[Ints]] = []
        for u, own in enumerate(owner):
            by = np.argsort(own, kind="stable")
            starts = np.searchsorted(own[by], np.arange(count + 1))
            self.mine.append([by[first:end] for first, end in itertools.pairwise(starts.tolist())])
            self.place[u][by[starts[0] :]] = np.arange(len(by) - starts[0]) - starts[own[by[starts[0] :]]] + starts[0]
        self.wrapped = _wrapped(program)
        self.of_batch = np.array([owner[t][first] for t, first, *_ in program.batches.tolist()], np.int64)

    def lives_on(self, s: int, u: int) -> Ints:
        """Give the rows of storage ``u`` that segment ``s`` reads and does not compute: earlier segments', then what enters."""
        extent = len(self.owner[u])
        low, high = np.searchsorted(self.live[u], [s * extent, (s + 1) * extent])
        return self.live[u][low:high] - s * extent

    def local(self, s: int, u: int, rows: Ints) -> Array:
        """Find where a segment has these rows of storage ``u``."""
        outside = len(self.mine[u][s]) + np.searchsorted(self.lives_on(s, u), rows)
        return np.ascontiguousarray(np.where(self.owner[u][rows] == s, self.place[u][rows], outside))

    def segment(self, s: int, handovers: tuple[Handover, ...]) -> Segment:
        """Make a segment that hands so much over."""
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
                memory_rows=tuple(self.local(s, t, index[mine]) for index in own.carried_rows),
                joined_rows=tuple(index[mine] for index in own.joined_rows),
                weight_ends=np.searchsorted(weight, np.arange(weights[-1].start, weights[-1].stop + 1)).astype(np.int64),
                stretch=None if own.stretch is None else own.stretch[mine], early=own.early,
                mask_rows=tuple(None if index is None else index[mine] for index in own.masks),
                kept_rows=None if own.kept_rows is None else own.kept_rows[mine],
                fact_rows=None if own.fact_rows is None else own.fact_rows[mine],
                example=None if own.example is None else own.example[np.concatenate([mine, outside])],
            ))  # fmt: skip
        program = hoist(wrap(assemble(tuple(transforms), self._batches(s, weights), self._wraps(s))))
        entrances = tuple(entrance for boundary in self.boundaries for entrance in self._entrance(s, boundary))
        return Segment(program, tuple(live), tuple(weights), entrances, handovers, tuple(self._taps(s)))

    def _batches(self, s: int, weights: list[Range]) -> Array:
        batches = self.program.batches[self.of_batch == s].copy()
        for batch in batches:
            t, first = int(batch["transform"]), int(batch["first"])
            rows = int(batch["end"]) - first
            batch["first"], batch["end"] = self.place[t][first], self.place[t][first] + rows
            batch["weight"] -= weights[t].start
        return batches

    def _wraps(self, s: int) -> Ints:
        """Give what wraps around to a row that this segment reads, whether it comes from here or from before."""
        found: list[Ints] = [np.zeros((0, 3), np.int64)]
        for u, wrapped in enumerate(self.wrapped):
            outside = self.lives_on(s, u)
            to = outside[wrapped[outside] >= 0]
            found.append(np.stack([np.full(len(to), u), self.local(s, u, wrapped[to]), self.local(s, u, to)], axis=1))
        return np.concatenate(found)

    def _entrance(self, s: int, boundary: Boundary) -> Iterator[Entrance]:
        outside = self.lives_on(s, u := boundary.storage)
        ends = (boundary.first, boundary.start, boundary.start + self.batch)
        low, high, last = (int(np.searchsorted(outside, row)) for row in ends)
        if last > low:
            base = len(self.mine[u][s])
            places = outside[low:high] - boundary.first
            yield Entrance(boundary.transform, u, slice(base + low, base + high), places, slice(base + high, base + last))

    def handovers(self, later: int) -> Iterator[tuple[int, Handover]]:
        """Give what segment ``later`` lives on, with the segment that hands it over."""
        for u, place in enumerate(self.place):
            outside = self.lives_on(later, u)
            giver = self.owner[u][outside]
            for s in map(int, np.unique(giver[giver >= 0])):
                places = np.flatnonzero(giver == s)
                yield s, Handover(u, place[outside[places]], later, places)

    def remembered(self, hand: Handover) -> Mask:
        """Tell of which of these rows the later segment looks at the memory, too."""
        u, rows = hand.storage, self.lives_on(hand.later, hand.storage)[hand.places]
        own, mine = self.program.transforms[u], self.mine[u][hand.later]
        if not own.memory:
            return np.zeros(len(rows), bool)
        return np.isin(rows, np.concatenate([index[mine] for index in own.memory_rows] + [self.wrapped[u]]))

    def _taps(self, s: int) -> Iterator[Tap]:
        for n, reading in enumerate(self.outputs):
            u, flat = reading.storage, reading.rows.ravel()
            places = np.flatnonzero((flat >= 0) & (homes(self.owner[u], self.wrapped[u])[flat] == s))
            if len(places):
                here = self.local(s, u, flat[places])
                masks = None if reading.masks is None else reading.masks.ravel()[places]
                yield Tap(n, u, reading.memory, here, places, len(np.unique(here)) == len(here), masks)
