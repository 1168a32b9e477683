"""Where every vector lies: the rows of each transform, and the row that each read finds, for given sizes, batch and lengths.

A *row* is one (step, example) pair.  A transform keeps its rows in order of weights, then of execution, so that a batch is
one contiguous slice and so are all rows that share weights; after them lie the boundary rows, what enters the grid.
Examples of different lengths simply have different rows: there is no padding.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import numpy as np

from gridc.language import noise, shapes
from gridc.language.lattice import Ints, carried, far_end, filled, find, flat, home, output_points, points, selected, source
from gridc.language.spec import Input, Transform
from gridc.scheduling import graph
from gridc.scheduling.order import Order
from gridc.scheduling.program import BATCH, Array, TransformProgram


@dataclass(frozen=True)
class Boundary:
    """The rows of what enters along one transform: ``[batch, *other dimensions]`` from row ``first``, absent where nothing
    but the start does; then a row for each example, from ``start`` on, for the start alone."""

    transform: str
    storage: int
    first: int
    count: int
    start: int


@dataclass(frozen=True)
class Reading:
    """What an output reads of one transform: among the vectors of ``storage``, or its memories, the ``rows``
    ``[examples, *axes, cells]``, -1 where an example has no such cell."""

    storage: int
    memory: bool
    rows: Ints
    masks: Ints | None = None
    """As ``rows``, the rows of the storage's dropout mask, where a `pass` hands on what it reads through that; -1 where whole."""


class Layout:
    """The rows of a sweep: first those of every transform, then, with these known, what each of them reads.

    ``weight`` is which of its weights each transform uses at every cell, where that is not their index in the whole grid."""

    def __init__(
        self, steps: graph.StepGraph, batch: int, extents: Ints | None, chosen: Order, weight: tuple[Ints, ...] | None = None
    ):  # fmt: skip
        self.spec, self.sizes, self.batch, self.order = steps.spec, steps.sizes, batch, chosen
        self.weight = steps.weights if weight is None else weight
        spec, sizes = self.spec, self.sizes
        self.at = points(sizes)
        self.names = list(spec.transforms)
        self.number = {name: i for i, name in enumerate(self.names)}
        self.alike = extents is None
        self.extents = filled(sizes, batch, extents)
        self.exists = np.ones((len(self.at), batch), bool)
        if extents is not None:
            self.exists = (self.at[:, None, :] < extents[None, :, :]).all(axis=2)
        self.storage = [self.number[home(spec, name)] for name in self.names]
        self.rows: list[tuple[Ints, Ints]] = []  # per transform: the cell and the example of each row
        self.row_of: list[Ints] = []  # per transform: [cells, batch] → row
        for i, transform in enumerate(spec.transforms.values()):
            cell, example = self._sorted_rows(i) if not spec.relayed(transform) else (np.zeros(0, np.int64),) * 2
            row_of = np.full((len(self.at), batch), -1, np.int64)
            row_of[cell, example] = np.arange(len(cell))
            self.rows.append((cell, example))
            self.row_of.append(row_of)
        self._lay_boundaries()

    def shortened(self, extents: Ints) -> Layout:
        """Give the same rows, as reads of examples find them that are smaller: ``extents`` ``[batch, dimensions]``."""
        found = copy.copy(self)
        found.extents = extents
        return found

    def _sorted_rows(self, i: int) -> tuple[Ints, Ints]:
        cell, example = np.nonzero(self.exists)
        # One example after the other, so that a thread's examples are a stretch of every batch.
        by = np.lexsort((cell, example, self.order.time[i][cell], self.weight[i][cell]))
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
            end[home] += count + self.batch
        self.ends = end

    def entry_rows(self, transform: Transform, at: Ints, example: Ints) -> Ints:
        """Give the boundary rows of what enters ``transform`` at the other coordinates of ``at``."""
        boundary = self.boundaries[self.number[transform.name]]
        if not boundary.count:
            return boundary.start + example
        others = [d for d in range(len(self.sizes)) if d != transform.along[0]]
        return boundary.first + flat(at, self.sizes, others, example)

    def find(self, transform: Transform, looked: Ints, example: Ints) -> Ints:
        """Find the row, in the storage of ``transform``, that a read of it at these points finds."""
        found = find(transform, -1, looked, self.extents[example])
        i = self.number[transform.name]
        rows = self.boundaries[i].start + np.asarray(example, np.int64)
        rows[found.entering] = self.entry_rows(transform, looked[found.entering], example[found.entering])
        inside = found.inside
        if not inside.any():
            return rows
        if self.spec.relayed(transform):
            read = transform.reads[0]
            point = source(self.spec, read, looked[inside])
            rows[inside] = self.find(self.spec.transforms[read.of], point, example[inside])
        else:
            cell = np.ravel_multi_index(tuple(looked[inside].T), self.sizes)
            rows[inside] = self.row_of[i][cell, example[inside]]
        return rows

    def masks(self, reader: str, of: Transform, looked: Ints, example: Ints) -> Ints | None:
        """Find the row of the dropout mask through which ``reader`` sees ``of`` at these points; -1 where it sees it whole, None
        where it always does.  Whoever reads a `pass` that is relayed sees what that sees."""
        if not self.spec.relayed(of):
            hidden = of.dropout > 0 and of.name != reader
            return np.ascontiguousarray(noise.rows(of, looked, example, self.sizes)) if hidden else None
        inside = find(of, -1, looked, self.extents[example]).inside
        if not inside.any():
            return None
        read = of.reads[0]
        below = self.masks(of.name, self.spec.transforms[read.of], source(self.spec, read, looked[inside]), example[inside])
        if below is None:
            return None
        rows = np.full(len(looked), -1)
        rows[inside] = below
        return rows

    def __str__(self) -> str:
        """Say what each array holds."""
        lines = [f"{len(self.at):,} cells × {self.batch:,} examples"]
        for name, (cell, _), end in zip(self.names, self.rows, self.ends, strict=True):
            lines.append(f"  {name}: {len(cell):,} computed rows, {end - len(cell):,} of what enters")
        return "\n".join(lines)

    @property
    def transforms(self) -> tuple[TransformProgram, ...]:
        """What each transform computes."""
        return tuple(self.program(name) for name in self.names)

    def program(self, name: str) -> TransformProgram:
        """Give what one transform computes."""
        i, transform = self.number[name], self.spec.transforms[name]
        cell, example = self.rows[i]
        at = self.at[cell]
        relayed = self.spec.relayed(transform)
        reads = transform.reads if not relayed else ()
        count = int(self.weight[i].max(initial=0)) + 1
        seen = [(self.spec.transforms[read.of], source(self.spec, read, at)) for read in reads]
        looks = transform.carries or transform.zoneout > 0
        return TransformProgram(
            cell=transform.mechanism, options=transform.options, dimensions=len(transform.along), hidden=transform.hidden,
            gates=shapes.columns(self.spec, transform) // max(1, transform.hidden),
            sources=tuple(self.storage[self.number[read.of]] for read in reads),
            joined=tuple(x.width for x in self.spec.joined(name)), rows=len(cell), boundary=self.ends[i] - len(cell),
            read_rows=tuple(self.find(of, looked, example) for of, looked in seen),
            memory_rows=tuple(self.find(transform, p, example) for p in carried(transform, at) if looks and not relayed),
            joined_rows=tuple(self.joined(x, at, example) for x in self.spec.joined(name)),
            weight_ends=np.searchsorted(self.weight[i][cell], np.arange(count + 1)),
            stretch=self.order.run[i][cell] if self.order.ahead[i] else None, early=self.order.hoisted[i] if not relayed else (),
            mask_rows=tuple(self.masks(name, of, looked, example) for of, looked in seen),
            kept_rows=flat(at, self.sizes, lead=example) if transform.zoneout else None,
            fact_rows=self._fact_rows(transform, at, example) if transform.mechanism.attention else None,
            example=self._examples(i),
        )  # fmt: skip

    def _fact_rows(self, transform: Transform, at: Ints, example: Ints) -> Ints:
        """Give the set of embedded facts that each point looks at, an example's or, where each hop has its own, a hop's."""
        if transform.embeddings != "adjacent":
            return np.ascontiguousarray(example)
        hops = transform.along[0]
        return example * (self.sizes[hops] + 1) + at[:, hops]

    def _examples(self, i: int) -> Ints:
        """Give the example of each row of storage ``i``, what enters among them."""
        found = [self.rows[i][1]]
        for boundary in self.boundaries:
            if boundary.storage == i:
                found += [np.repeat(np.arange(self.batch), boundary.count // self.batch), np.arange(self.batch)]
        return np.ascontiguousarray(np.concatenate(found))

    def joined(self, x: Input, at: Ints, example: Ints) -> Ints:
        """Give the row of an input's array ``[batch, *over]`` that joins at each point, -1 where none does."""
        return np.where(selected(x.at, at, self.extents[example]), flat(at, self.sizes, x.over, example), -1)

    @property
    def batches(self) -> Array:
        """The batches in order of execution: rows of one turn that use one weight."""
        found: list[tuple[int, ...]] = []
        for i, (cell, _) in enumerate(self.rows):
            if len(cell):
                time, weight = self.order.time[i][cell], self.weight[i][cell]
                found += [(int(time[a]), i, a, e, int(weight[a])) for a, e in _slices(weight, time)]
        batches = np.zeros(len(found), BATCH)
        for n, (_, *batch) in enumerate(sorted(found)):
            batches[n] = tuple(batch)
        return batches

    @property
    def wraps(self) -> Ints:
        """What is added to what enters: ``[n, 3]`` of (storage, row at the far end, boundary row)."""
        pairs = [np.zeros((0, 3), np.int64)]
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
            pairs.append(np.stack([np.full(len(rows), boundary.storage), rows, to], axis=1))
        return np.concatenate(pairs)

    @property
    def outputs(self) -> tuple[Reading, ...]:
        """What every read of every output finds, in the order of declaration."""
        found: list[Reading] = []
        for output in self.spec.outputs.values():
            for tap in output.reads:
                transform = self.spec.transforms[tap.transform]
                where, exists = output_points(output, transform, self.sizes, self.extents)
                example = np.broadcast_to(np.arange(self.batch).reshape(-1, *(1,) * (exists.ndim - 1)), exists.shape)
                rows = np.full(exists.shape, -1, np.int64)
                rows[exists] = self.find(transform, where[exists], example[exists])
                seen = self.masks(tap.transform, transform, where[exists], example[exists])  # a transform sees itself whole
                masks = None
                if seen is not None:
                    masks = np.full(exists.shape, -1, np.int64)
                    masks[exists] = seen
                found.append(Reading(self.storage[self.number[tap.transform]], tap.memory, rows, masks))
        return tuple(found)


def _slices(*keys: Ints) -> list[tuple[int, int]]:
    """List the stretches within which all the keys stay the same."""
    change = np.zeros(len(keys[0]) - 1, bool)
    for key in keys:
        change |= key[1:] != key[:-1]
    cuts = [0, *(np.flatnonzero(change) + 1).tolist(), len(keys[0])]
    return list(itertools.pairwise(cuts))
