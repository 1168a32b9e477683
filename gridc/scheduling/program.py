"""What a sweep computes, as arrays of integers: the rows of each transform, what they read, and in which batches they run."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridc.tables import cells

Array = np.ndarray[Any, Any]
Shapes = list[tuple[int, int]]
PRODUCT, CELL, COPY, WRAP = range(4)  # kinds of step: kind, transform, first row, end row, weight, first block, end block, beta
CHUNKS = (64, 256)  # rows of a chunk, at least and at most


@dataclass(frozen=True)
class TransformProgram:
    """What one transform computes in a lane; see ``Program``."""

    cell: str
    options: cells.Options
    dimensions: int
    hidden: int
    gates: int
    sources: tuple[int, ...]
    joined: tuple[int, ...]
    rows: int
    boundary: int
    read_rows: tuple[Array, ...]
    memory_rows: tuple[Array, ...]
    joined_rows: tuple[Array, ...]
    weight_ends: Array

    @property
    def width(self) -> int:
        """Columns of the pre-activations."""
        return self.gates * self.hidden


@dataclass(frozen=True, eq=False)
class Program:
    """One lane.

    A row is the update of one transform at one cell for one example.  Transform t keeps its vectors in an array of ``rows``
    computed rows in order of storage and then ``boundary`` rows of what enters the grid.  ``read_rows`` and ``joined_rows``
    (-1: zeros) say for every row where each read is found, ``memory_rows`` where in the own state the entering vectors are;
    rows ``weight_ends[w]:weight_ends[w + 1]`` use weight w.

    ``batches``: (transform, first row, end row, weight) in order of execution.  ``hoists``: (before batch, transform, block,
    first row, end row, weight): that block's part of these rows' pre-activations is made then, as one product (block j
    is read j, and the number of reads stands for all joined inputs).  ``wraps``: (after batch, transform, source row,
    boundary row): adds a computed state to what enters at a boundary row.
    """

    transforms: tuple[TransformProgram, ...]
    batches: Array
    hoists: Array = field(default_factory=lambda: np.zeros((0, 6), np.int64))
    wraps: Array = field(default_factory=lambda: np.zeros((0, 4), np.int64))

    def widths(self, t: int) -> list[int]:
        """Columns of each block of transform t's ``Z``."""
        own = self.transforms[t]
        return [*(self.transforms[source].hidden for source in own.sources), *own.joined]

    @functools.cached_property
    def block_starts(self) -> list[int]:
        """Index of each transform's first block among all blocks, and their number."""
        return np.cumsum([0, *(len(p.sources) + len(p.joined) for p in self.transforms)]).tolist()

    @functools.cached_property
    def steps(self) -> Array:
        """What compiled code runs; made once, after a check of every row that it will touch."""
        _check(self)
        return np.array(_unfold(self), np.int64).reshape(-1, 8)

    @functools.cached_property
    def chunks(self) -> Array:
        """Rows whose part of their weight's gradient can be made at once, in the order in which the way back completes them:
        (transform, weight, first row, end, the step that completes them, whether it is not the weight's first)."""
        found: list[tuple[int, ...]] = []
        for t, own in enumerate(self.transforms):
            done = np.zeros(own.rows, np.int64)
            for step in np.flatnonzero((self.steps[:, 0] == CELL) & (self.steps[:, 1] == t)):
                done[self.steps[step, 2] : self.steps[step, 3]] = step
            size = min(CHUNKS[1], max(CHUNKS[0], own.rows // 16))
            for weight, (low, high) in enumerate(itertools.pairwise(own.weight_ends.tolist() if own.gates else ())):
                for first in range(low, high, size) if high > low else (low,):
                    rows = done[first : min(first + size, high)]
                    found.append((t, weight, first, first + len(rows), int(rows.min(initial=len(self.steps)))))
        found.sort(key=lambda chunk: -chunk[4])
        chunks = np.ones((len(found), 6), np.int64)
        begun: set[tuple[int, ...]] = set()
        for n, chunk in enumerate(found):
            chunks[n] = (*chunk, chunk[:2] in begun)
            begun.add(chunk[:2])
        return chunks

    @functools.cached_property
    def slots(self) -> list[int]:
        """How many of each transform's weights must lie packed at once: one, where the steps use them one after the other, and
        none where a step alone uses each."""
        found: list[int] = []
        steps = self.steps[self.steps[:, 0] == PRODUCT]
        for t, own in enumerate(self.transforms):
            used = steps[steps[:, 1] == t, 4]
            count = len(own.weight_ends) - 1
            alone = len(used) == len(np.unique(used))
            found.append(0 if alone else 1 if int((np.diff(used) != 0).sum()) < count else count)
        return found

    @functools.cached_property
    def in_turn(self) -> list[bool]:
        """Whether each transform is done with one of its weights, products and cells, before it begins with the next."""
        steps = self.steps[(self.steps[:, 0] == PRODUCT) | (self.steps[:, 0] == CELL)]
        found: list[bool] = []
        for t in range(len(self.transforms)):
            used = steps[steps[:, 1] == t, 4]
            found.append(int((np.diff(used) != 0).sum()) < len(np.unique(used)))
        return found

    @functools.cached_property
    def scratch(self) -> int:
        """Most numbers that the adjoint of one product makes."""
        widths = [width for t in range(len(self.transforms)) for width in self.widths(t)]
        products = [step for step in self.steps.tolist() if step[0] == PRODUCT]
        return max(((end - first) * sum(widths[low:high]) for _, _, first, end, _, low, high, _ in products), default=0)

    @property
    def shapes(self) -> tuple[Shapes, Shapes, Shapes, Shapes]:
        """Those of hidden vectors, memories, inputs and pre-activations, ``[rows, numbers]`` for each transform."""
        hidden = [(p.rows + p.boundary, p.hidden) for p in self.transforms]
        memory = [(h[0] if cells.CELLS[p.cell].memory else 0, h[1]) for p, h in zip(self.transforms, hidden, strict=True)]
        inputs = [(p.rows if p.gates else 0, sum(self.widths(t))) for t, p in enumerate(self.transforms)]
        return hidden, memory, inputs, [(p.rows, p.width) for p in self.transforms]

    @property
    def sizes(self) -> tuple[int, int]:
        """How many numbers its tape and its slopes hold."""
        hidden, memory, *rest = self.shapes
        states = total(hidden, memory)
        room = max((p.hidden * p.dimensions for p in self.transforms), default=0)
        return states + total(*rest), states + self.scratch + room

    @functools.cached_property
    def joined_extents(self) -> tuple[tuple[int, ...], ...]:
        """Per transform and joined input, how many rows it must have."""
        return tuple(tuple(int(index.max(initial=-1)) + 1 for index in p.joined_rows) for p in self.transforms)


def total(*shapes: Shapes) -> int:
    """How many numbers arrays of these shapes hold."""
    return sum(rows * columns for group in shapes for rows, columns in group)


def _check(program: Program) -> None:
    """Compiled code looks at no bounds: refuses what would leave them."""

    def within(index: Array, count: int, low: int, high: int) -> bool:
        good = index.dtype == np.int64 and index.flags.c_contiguous and index.shape == (count,)
        return good and (count == 0 or (int(index.min()) >= low and int(index.max()) < high))

    extents = [p.rows + p.boundary for p in program.transforms]
    for t, p in enumerate(program.transforms):
        reads = zip(p.read_rows, p.sources, strict=True)
        sound = all(within(index, p.rows, 0, extents[source]) for index, source in reads)
        cell = cells.CELLS[p.cell]
        entering = p.memory_rows if cell.memory else p.memory_rows[:1] if cell.uses_hidden else ()
        sound = sound and len(p.memory_rows) >= len(entering) == (p.dimensions if cell.memory else int(cell.uses_hidden))
        sound = sound and all(within(index, p.rows, 0, extents[t]) for index in entering)
        sound = sound and all(within(index, p.rows, -1, 2**62) for index in p.joined_rows)
        ends = p.weight_ends
        sound = sound and ends.dtype == np.int64 and ends[0] == 0 and ends[-1] == p.rows and bool((np.diff(ends) >= 0).all())
        mine = [batch for batch in np.asarray(program.batches).tolist() if batch[0] == t]
        mine += [(t, first, end, w) for _, u, _, first, end, w in np.asarray(program.hoists).tolist() if u == t]
        sound = sound and all(0 <= w < max(1, len(ends) - 1) and 0 <= first <= end <= p.rows for _, first, end, w in mine)
        if not sound:
            raise ValueError(f"transform {t} ({p.cell}) of this program has rows or weights out of bounds")
    for _, t, source, target in np.asarray(program.wraps).tolist():
        if not (0 <= source < extents[t] and 0 <= target < extents[t]):
            raise ValueError(f"a wrap of transform {t} is out of bounds")


def _unfold(program: Program) -> list[tuple[int, ...]]:
    starts = program.block_starts
    hoists: list[list[int]] = sorted(np.asarray(program.hoists).tolist())
    wraps: list[list[int]] = sorted(np.asarray(program.wraps).tolist())
    batches: list[list[int]] = np.asarray(program.batches).tolist()
    hoisted = {hoist[1] for hoist in hoists}
    shapes = {t: (p.rows, len(p.sources) + 1) for t, p in enumerate(program.transforms) if t in hoisted}
    done = {t: np.zeros(shape, bool) for t, shape in shapes.items()}
    steps: list[tuple[int, ...]] = []
    h = w = 0
    for index, (t, first, end, weight) in enumerate([*batches, (0, 0, 0, 0)]):  # after the last batch, too, something may wrap
        while w < len(wraps) and wraps[w][0] < index:
            steps.append((WRAP, wraps[w][1], wraps[w][2], wraps[w][3], 0, 0, 0, 0))
            w += 1
        if index == len(batches):
            break
        while h < len(hoists) and hoists[h][0] <= index:
            _, u, block, a, e, hoisted_weight = hoists[h]
            reads, last = len(program.transforms[u].sources), starts[u + 1]
            blocks = (starts[u] + block, starts[u] + block + 1 if block < reads else last)
            if e > a and blocks[1] > blocks[0]:
                steps.append((PRODUCT, u, a, e, hoisted_weight, *blocks, int(done[u][a].any())))
                done[u][a:e, block] = True
            h += 1
        own = program.transforms[t]
        if end > first:
            if own.gates == 0:
                steps.append((COPY, t, first, end, weight, starts[t], starts[t] + 1, 0))
            else:
                steps += _products(program, t, first, end, weight, done[t][first] if t in done else None)
                steps.append((CELL, t, first, end, weight, 0, 0, 0))
    return steps


def _products(program: Program, t: int, first: int, end: int, weight: int, hoisted: Array | None) -> list[tuple[int, ...]]:
    """The products that a batch still needs: runs of neighbouring blocks that are not hoisted."""
    own, start = program.transforms[t], program.block_starts[t]
    reads, total = len(own.sources), len(own.sources) + len(own.joined)
    free = [b for b in range(total) if hoisted is None or not hoisted[min(b, reads)]]
    steps: list[tuple[int, ...]] = []
    beta = 0 if hoisted is None else int(hoisted.any())
    while free:
        run = 1
        while run < len(free) and free[run] == free[0] + run:
            run += 1
        steps.append((PRODUCT, t, first, end, weight, start + free[0], start + free[0] + run, beta))
        free, beta = free[run:], 1
    return steps
