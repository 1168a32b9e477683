"""Where every vector lies: index arrays that drive a sweep, for given sizes, batch and lengths.

A *row* is one (step, example) pair.  A transform keeps its rows in order of weights, then of execution, so that a batch is
one contiguous slice and so are all rows that share weights; after them lie the boundary rows, what enters the grid.
Examples of different lengths simply have different rows: there is no padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gridc.language.lattice import Ints, carried, far_end, locate, points, source
from gridc.language.spec import GridSpec, Input, Output, Selection, Transform
from gridc.scheduling import graph, order
from gridc.scheduling.program import Program, TransformProgram


@dataclass(frozen=True)
class Boundary:
    """The rows of what enters along one transform: ``[batch, *other dimensions]`` from row ``first``, absent where nothing
    but the start does; then one row, ``start``, for the start alone."""

    transform: str
    storage: int
    first: int
    count: int
    start: int


class Tap(NamedTuple):
    """What an output reads of one transform: among the vectors of ``storage``, or its memories, the ``rows``
    ``[examples, *axes, cells]``, -1 where an example has no such cell."""

    storage: int
    memory: bool
    rows: Ints
    everywhere: bool
    """Whether every example has all these cells."""
    once: bool
    """Whether no row is read twice, as a `pass` hands one vector to several cells."""


@dataclass(frozen=True)
class Lane:
    """The sweep over some of the examples, ``examples`` a slice of the batch."""

    examples: slice
    program: Program
    boundaries: tuple[Boundary, ...]
    taps: Mapping[str, tuple[Tap, ...]]
    """For each output what each of its reads finds."""


@dataclass(frozen=True)
class Layout:
    """Everything that a fused sweep needs to know about sizes."""

    sizes: tuple[int, ...]
    batch: int
    order: str
    lanes: tuple[Lane, ...]


def weights(spec: GridSpec, transform: Transform, at: Ints, sizes: tuple[int, ...]) -> Ints:
    """Which of a transform's weights each of the points ``at`` uses: the flat index over its untied dimensions."""
    if not transform.untied:
        return np.zeros(len(at), np.int64)
    return np.ravel_multi_index([at[:, d] for d in transform.untied], [sizes[d] for d in transform.untied])


def selected(spec: GridSpec, at: tuple[Selection, ...], sizes: tuple[int, ...], where: Ints, extent: Ints) -> np.ndarray:
    """Which of the points an input's ``at`` reaches: first and last in the order of the index."""
    chosen = np.ones(len(where), bool)
    extent = np.broadcast_to(extent, where.shape)
    for d, selection in enumerate(at):
        if selection == "first":
            chosen &= where[:, d] == 0
        elif selection == "last":
            chosen &= where[:, d] == extent[:, d] - 1
        elif selection != "all":
            chosen &= np.isin(where[:, d], selection)
    return chosen


def output_points(
    spec: GridSpec, output: Output, transform: Transform, sizes: tuple[int, ...], extents: Ints
) -> tuple[Ints, np.ndarray]:
    """The cells that an output reads of a transform: points ``[batch, *axes, cells, dimensions]`` and which of them exist.

    ``first`` and ``last`` are in the transform's own direction, and an example's own."""
    axes, batch, count = output.axes, len(extents), len(sizes)
    ranges: list[Ints] = [np.arange(sizes[d]) for d in axes]
    picked = [d for d in range(count) if isinstance(output.at[d], tuple)]
    ranges += [np.asarray(output.at[d], np.int64) for d in picked]
    mesh = np.meshgrid(*ranges, indexing="ij") if ranges else ()
    shape = tuple(len(r) for r in ranges)
    where = np.zeros((batch, *shape, count), np.int64)
    for d, values in zip((*axes, *picked), mesh, strict=True):
        where[..., d] = values
    extent = extents.reshape(batch, *(1,) * len(shape), count)
    # The indices chosen by number come first: an alternating direction depends on another dimension's index.
    named = [d for d in range(count) if output.at[d] in ("first", "last")]
    for d in sorted(named, key=lambda d: d in transform.along and transform.direction[transform.along.index(d)].over is not None):
        last: np.ndarray | bool = output.at[d] == "last"
        if d in transform.along:
            direction = transform.direction[transform.along.index(d)]
            cycle = np.asarray(direction.cycle)
            way = cycle[where[..., direction.over] % len(cycle)] if direction.over is not None else cycle[0]
            last = (way > 0) == last
        where[..., d] = np.where(last, extent[..., d] - 1, 0)
    exists = ((where >= 0) & (where < extent)).all(axis=-1)  # the last of none is nowhere
    lead = (batch, *(sizes[d] for d in axes))
    return where.reshape(*lead, -1, count), exists.reshape(*lead, -1)


def plan(
    spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None, lanes: int, chosen: order.Order | None = None
) -> Layout:
    """The layout of a fused sweep, in the cheapest order unless one is ``chosen``.

    ``extents`` is ``[batch, dimensions]``, each example's own sizes, or None: all alike."""
    steps = graph.build(spec, sizes, extents)
    at = points(sizes)
    weight = tuple(weights(spec, t, at, sizes) for t in spec.transforms.values())
    chosen = chosen or order.cheapest(steps, weight, batch / lanes)
    # The first lane starts first, so that an odd example is better there.
    cuts = -(-batch * np.arange(lanes + 1) // lanes)
    made: list[Lane] = []
    for a, e in itertools.pairwise(cuts):
        own = None if extents is None else extents[a:e]
        made.append(_LaneBuilder(spec, sizes, int(e - a), own, chosen, weight).lane(slice(int(a), int(e))))
    return Layout(sizes, batch, chosen.name, tuple(made))


class _LaneBuilder:
    """Builds one lane: first the rows of every transform, then, with those known, what each of them reads."""

    def __init__(self, spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None,
                 chosen: order.Order, weight: tuple[Ints, ...]):  # fmt: skip
        self.spec, self.sizes, self.batch, self.order, self.weight = spec, sizes, batch, chosen, weight
        self.at = points(sizes)
        self.names = list(spec.transforms)
        self.number = {name: i for i, name in enumerate(self.names)}
        self.alike = extents is None
        self.extents = np.tile(np.asarray(sizes, np.int64), (batch, 1)) if extents is None else extents
        self.exists = np.ones((len(self.at), batch), bool)
        if extents is not None:
            self.exists = (self.at[:, None, :] < extents[None, :, :]).all(axis=2)
        self.storage = [self._storage(name) for name in self.names]
        self.rows: list[tuple[Ints, Ints]] = []  # per transform: the cell and the example of each row
        self.row_of: list[Ints] = []  # per transform: [cells, batch] → row
        for i, transform in enumerate(spec.transforms.values()):
            cell, example = self._sorted_rows(i) if not transform.relayed else (np.zeros(0, np.int64),) * 2
            row_of = np.full((len(self.at), batch), -1, np.int64)
            row_of[cell, example] = np.arange(len(cell))
            self.rows.append((cell, example))
            self.row_of.append(row_of)
        self._lay_boundaries()

    def _storage(self, name: str) -> int:
        """The transform among whose rows a transform's vectors lie: its own, or for `pass` that of what it hands on."""
        seen: list[str] = []
        while self.spec.transforms[name].relayed and name not in seen:
            seen.append(name)
            name = self.spec.transforms[name].reads[0].of
        return self.number[name]

    def _sorted_rows(self, i: int) -> tuple[Ints, Ints]:
        cell, example = np.nonzero(self.exists)
        by = np.lexsort((example, cell, self.order.time[i][cell], self.weight[i][cell]))
        return cell[by], example[by]

    def _lay_boundaries(self) -> None:
        end = [len(cell) for cell, _ in self.rows]
        self.boundaries: list[Boundary] = []
        for name, transform in self.spec.transforms.items():
            home = self.storage[self.number[name]]
            count = 0
            if len(transform.along) == 1 and (transform.start == "wrap" or self.spec.entering(name)):
                count = self.batch * len(self.at) // self.sizes[transform.along[0]]
            self.boundaries.append(Boundary(name, home, end[home], count, end[home] + count))
            end[home] += count + 1
        self.ends = end

    def entry_rows(self, transform: Transform, at: Ints, example: Ints) -> Ints:
        """The boundary rows of what enters ``transform`` at the other coordinates of ``at``."""
        boundary = self.boundaries[self.number[transform.name]]
        if not boundary.count:
            return np.full(len(at), boundary.start)
        others = [d for d in range(len(self.sizes)) if d != transform.along[0]]
        flat = np.zeros(len(at), np.int64)
        for d in others:
            flat = flat * self.sizes[d] + at[:, d]
        return boundary.first + example * (boundary.count // self.batch) + flat

    def find(self, transform: Transform, looked: Ints, example: Ints) -> Ints:
        """The row, in the storage of ``transform``, that a read of it at these points finds."""
        extent = self.extents[example]
        found = locate(transform, looked, extent)
        i = self.number[transform.name]
        rows = np.full(len(looked), self.boundaries[i].start)
        rows[found.entering] = self.entry_rows(transform, looked[found.entering], example[found.entering])
        inside = found.inside
        if not inside.any():
            return rows
        if transform.relayed:
            read = transform.reads[0]
            point = source(self.spec, read, looked[inside])
            rows[inside] = self.find(self.spec.transforms[read.of], point, example[inside])
        else:
            cell = np.ravel_multi_index(tuple(looked[inside].T), self.sizes)
            rows[inside] = self.row_of[i][cell, example[inside]]
        return rows

    def lane(self, examples: slice) -> Lane:
        programs = tuple(self._program(i) for i in range(len(self.names)))
        batches, hoists = self._batches(programs)
        wraps = self._wraps(batches)
        program = Program(programs, batches, hoists, wraps)
        taps = {name: self._taps(output) for name, output in self.spec.outputs.items()}
        return Lane(examples, program, tuple(self.boundaries), taps)

    def _program(self, i: int) -> TransformProgram:
        name = self.names[i]
        transform = self.spec.transforms[name]
        cell, example = self.rows[i]
        at = self.at[cell]
        moving = transform.has_memory or transform.mechanism.uses_hidden
        reads = transform.reads if not transform.relayed else ()
        count = int(self.weight[i].max(initial=0)) + 1
        return TransformProgram(
            cell=transform.cell, options=transform.options, dimensions=len(transform.along), hidden=transform.hidden,
            gates=len(transform.gates), sources=tuple(self.storage[self.number[read.of]] for read in reads),
            joined=tuple(x.width for x in self.spec.joined(name)), rows=len(cell), boundary=self.ends[i] - len(cell),
            read_rows=tuple(self.find(self.spec.transforms[r.of], source(self.spec, r, at), example) for r in reads),
            memory_rows=tuple(self.find(transform, p, example) for p in carried(transform, at)) if moving and reads else (),
            joined_rows=tuple(self._joined(x, at, example) for x in self.spec.joined(name)),
            weight_ends=np.searchsorted(self.weight[i][cell], np.arange(count + 1)),
        )  # fmt: skip

    def _joined(self, x: Input, at: Ints, example: Ints) -> Ints:
        """The row of an input's array ``[batch, *over]`` that joins at each point, -1 where none does."""
        flat = example.copy()
        for d in x.over:
            flat = flat * self.sizes[d] + at[:, d]
        return np.where(selected(self.spec, x.at, self.sizes, at, self.extents[example]), flat, -1)

    def _batches(self, programs: tuple[TransformProgram, ...]) -> tuple[Ints, Ints]:
        """The batches in order of execution, and the products hoisted out of their recurrences."""
        found: list[tuple[int, int, int, int, int]] = []
        stretches: list[tuple[int, int, int, int, int]] = []
        for i, program in enumerate(programs):
            if not program.rows:
                continue
            cell = self.rows[i][0]
            time, weight, run = self.order.time[i][cell], self.weight[i][cell], self.order.run[i][cell]
            for a, e in _slices(weight, time):
                found.append((int(time[a]), i, a, e, int(weight[a])))
            for a, e in _slices(weight, run) if program.gates else ():
                if time[a] != time[e - 1]:
                    stretches.append((int(time[a]), i, a, e, int(weight[a])))
        found.sort()
        batches = np.asarray([entry[1:] for entry in found], np.int64).reshape(-1, 4)
        turns = np.asarray([entry[0] for entry in found], np.int64)
        hoists: list[tuple[int, ...]] = []
        for turn, i, a, e, w in stretches:
            first = int(np.searchsorted(turns, turn))
            early = [j for j, can in enumerate(self.order.hoisted[i]) if can]
            early += [len(programs[i].sources)] * bool(programs[i].joined)
            # Something must be left for the recurrence, whose batches add to what was hoisted.
            hoists += [(first, i, j, a, e, w) for j in early]
        return batches, np.asarray(sorted(hoists), np.int64).reshape(-1, 6)

    def _wraps(self, batches: Ints) -> Ints:
        """Copies from the far end to the rows of what enters: (after which batch, storage, source row, boundary row)."""
        found: list[Ints] = []
        for name, transform in self.spec.transforms.items():
            if transform.start != "wrap":
                continue
            boundary, axis = self.boundaries[self.number[name]], transform.along[0]
            others = self.at[self.at[:, axis] == 0]
            at = np.tile(others, (self.batch, 1))
            example = np.repeat(np.arange(self.batch), len(others))
            there, exists = far_end(transform, at, self.extents[example])
            exists &= (at < self.extents[example])[:, [d for d in range(len(self.sizes)) if d != axis]].all(axis=1)
            to = self.entry_rows(transform, at, example)[exists]
            rows = self.find(transform, there[exists], example[exists])
            mine = np.flatnonzero(batches[:, 0] == boundary.storage)
            by_row = mine[np.argsort(batches[mine, 1])]
            after = by_row[np.searchsorted(batches[by_row, 2], rows, side="right")]
            found.append(np.stack([after, np.full(len(rows), boundary.storage), rows, to], axis=1))
        wraps = np.concatenate(found) if found else np.zeros((0, 4), np.int64)
        return wraps[np.argsort(wraps[:, 0], kind="stable")]

    def _taps(self, output: Output) -> tuple[Tap, ...]:
        taps: list[Tap] = []
        for tap in output.reads:
            transform = self.spec.transforms[tap.transform]
            where, exists = output_points(self.spec, output, transform, self.sizes, self.extents)
            example = np.broadcast_to(np.arange(self.batch).reshape(-1, *(1,) * (exists.ndim - 1)), exists.shape)
            rows = np.full(exists.shape, -1, np.int64)
            rows[exists] = self.find(transform, where[exists], example[exists])
            found = rows[rows >= 0]
            once = len(np.unique(found)) == len(found)
            taps.append(Tap(self.storage[self.number[tap.transform]], tap.memory, rows, found.size == rows.size, once))
        return tuple(taps)


def _slices(*keys: Ints) -> list[tuple[int, int]]:
    """The stretches within which all the keys stay the same."""
    change = np.zeros(len(keys[0]) - 1, bool)
    for key in keys:
        change |= key[1:] != key[:-1]
    cuts = [0, *(np.flatnonzero(change) + 1).tolist(), len(keys[0])]
    return list(itertools.pairwise(cuts))
