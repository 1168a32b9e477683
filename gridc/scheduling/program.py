"""What a sweep computes: rows of vectors, and the instructions that fill them; it prints as a listing.

A *row* is the update of one transform at one cell for one example.  Transform t keeps its vectors in an array of ``rows``
computed rows, in order of weights and then of execution, and after them ``boundary`` rows of what enters the grid.

============  ======================================================================================================
instruction   what it does
============  ======================================================================================================
``product``   multiplies what rows ``first:end`` read in blocks ``low:high`` by those rows of weight ``weight``; ``adds`` to
              their pre-activations, or makes them
``cell``      applies the transform's rule to the pre-activations of rows ``first:end``
``attend``    adds to the pre-activations of rows ``first:end``, or without weights to what enters, what they find among facts
``copy``      rows ``first:end`` become what they read (a ``pass``)
``wrap``      adds row ``source`` of a transform's vectors to row ``target``, which stands for what enters
============  ======================================================================================================

Blocks are numbered over all transforms: of each its reads, then its joined inputs (``block_starts``).  A block that is *masked*
is read through the dropout of its source, number by number; a cell with *zoneout* keeps parts of its old state.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridc.tables.mechanisms import Cell, Options

Array = np.ndarray[Any, Any]
Shapes = list[tuple[int, int]]
KINDS = ("product", "cell", "copy", "wrap", "attend")
PRODUCT, CELL, COPY, WRAP, ATTEND = range(len(KINDS))
MAKING = (CELL, COPY, ATTEND)
"""The kinds that make rows."""


def record(names: str) -> np.dtype[Any]:
    """Make the type of a record of words with these names."""
    return np.dtype([(name, np.int64) for name in names.split()])


INSTRUCTION = record("kind transform first end weight low high adds source target")
BATCH = record("transform first end weight")
"""Rows that a cell, attention or a copy makes at once."""
CHUNKS = (64, 192)
"""Rows of a chunk, at least and at most: those whose part of their weight's gradient is made at once.  A panel of so many rows
fits into the cache of the first level, and leaves room there for what it is multiplied with."""
ENOUGH_ROWS = 4
"""That use one weight, from which packing it pays."""


@dataclass(frozen=True)
class TransformProgram:
    """What one transform computes; index arrays are int64 and contiguous."""

    cell: Cell
    options: Options
    dimensions: int
    """Along how many it travels."""
    hidden: int
    gates: int
    sources: tuple[int, ...]
    """Of each read the transform among whose rows it finds what it reads."""
    joined: tuple[int, ...]
    """The width of each joined input."""
    rows: int
    boundary: int
    read_rows: tuple[Array, ...]
    """Of each read ``[rows]``, the row found."""
    memory_rows: tuple[Array, ...]
    """Of each own dimension ``[rows]``, the row of the own state that enters."""
    joined_rows: tuple[Array, ...]
    """Of each joined input ``[rows]``, the row of its array; -1 stands for zeros."""
    weight_ends: Array
    """``[weights + 1]``: rows ``weight_ends[w]:weight_ends[w + 1]`` use weight w."""
    stretch: Array | None = None
    """``[rows]``: rows of one stretch have what they read ``early`` before the first of them is computed."""
    early: tuple[bool, ...] = ()
    """Of each read, whether it is found that early; joined inputs always are."""
    mask_rows: tuple[Array | None, ...] = ()
    """Of each read ``[rows]``, the row of its source's dropout mask, -1 where it is read whole; None where it always is."""
    kept_rows: Array | None = None
    """``[rows]``, the row of its zoneout masks; None without zoneout."""
    fact_rows: Array | None = None
    """``[rows]``, the set of embedded facts to which it attends; None where it does not."""
    example: Array | None = None
    """``[rows and boundary rows]``, the example of each; None where nobody says."""

    @property
    def vectors(self) -> int:
        """How many learnt vectors its rule looks at, peepholes among them."""
        holes = len(self.cell.peepholes(self.dimensions)) if self.cell.peepholes and self.options.peepholes else 0
        return holes + len(self.cell.vectors(self.dimensions))

    @property
    def width(self) -> int:
        """Columns of the pre-activations."""
        return self.gates * self.hidden

    @property
    def chunk(self) -> int:
        """Rows of a chunk.  The chunks of a weight are counted from its first row, and added up from the last."""
        return min(CHUNKS[1], max(CHUNKS[0], self.rows // 16))

    @property
    def blocks(self) -> int:
        """How many vectors a row reads."""
        return len(self.sources) + len(self.joined)

    @property
    def extent(self) -> int:
        """Rows of its array, computed ones and what enters."""
        return self.rows + self.boundary

    @property
    def memory(self) -> bool:
        """Whether it keeps a memory beside its hidden vector."""
        return self.cell.memory

    @property
    def state(self) -> int:
        """Numbers of a row's vectors."""
        return self.hidden * (1 + self.memory)

    @property
    def carried_rows(self) -> tuple[Array, ...]:
        """The rows of the own state at which its rule looks."""
        if self.memory:
            return self.memory_rows
        return self.memory_rows[:1] if self.keeps or self.cell.uses_hidden else ()

    @property
    def keeps(self) -> bool:
        """Whether zoneout keeps parts of its old state."""
        return self.kept_rows is not None

    @property
    def masks(self) -> tuple[Array | None, ...]:
        """``mask_rows``, also of a transform none of whose reads are masked."""
        return self.mask_rows or (None,) * len(self.sources)


@dataclass(frozen=True, eq=False)
class Program:
    """Instructions over the rows of every transform.

    ``wraps`` ``[n, 3]`` (transform, source row, boundary row) is what the wrap instructions must do: to each of these
    boundary rows one computed row is added before anything reads it."""

    transforms: tuple[TransformProgram, ...]
    instructions: Array
    wraps: Array = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    def __str__(self) -> str:
        return "\n".join(listing(self))

    def widths(self, t: int) -> list[int]:
        """Count the columns of each block of what transform t reads."""
        own = self.transforms[t]
        return [*(self.transforms[source].hidden for source in own.sources), *own.joined]

    @functools.cached_property
    def block_starts(self) -> list[int]:
        """Index of each transform's first block among all blocks, and their number."""
        return np.cumsum([0, *(p.blocks for p in self.transforms)]).tolist()

    @functools.cached_property
    def batches(self) -> Array:
        """The rows that cells, attention and copies make, in order of execution."""
        made = self.instructions[np.isin(self.instructions["kind"], MAKING)]
        batches = np.zeros(len(made), BATCH)
        for name in BATCH.names or ():
            batches[name] = made[name]
        return batches

    @functools.cached_property
    def steps(self) -> Array:
        """The instructions as compiled code takes them; made once, after a check of every row that it will touch."""
        check_bounds(self)
        return np.ascontiguousarray(self.instructions)

    def used(self, t: int, *kinds: int) -> Array:
        """List the weights that transform t's instructions of these kinds use, in order."""
        steps = self.instructions
        return steps["weight"][np.isin(steps["kind"], kinds) & (steps["transform"] == t)]

    @functools.cached_property
    def packed(self) -> list[bool]:
        """Whether each transform's weights lie packed for its products: where enough rows use each."""
        return [p.gates > 0 and p.rows >= ENOUGH_ROWS * (len(p.weight_ends) - 1) for p in self.transforms]

    @functools.cached_property
    def slots(self) -> list[int]:
        """How many of each transform's weights must lie packed at once: one, where the products use them one after the other,
        and none where a product alone uses each."""
        found: list[int] = []
        for t, own in enumerate(self.transforms):
            used, count = self.used(t, PRODUCT), len(own.weight_ends) - 1
            alone = len(used) == len(np.unique(used))
            found.append(0 if alone else 1 if int((np.diff(used) != 0).sum()) < count else count)
        return found

    @functools.cached_property
    def in_turn(self) -> list[bool]:
        """Whether each transform is done with one of its weights, products and cells, before it begins with the next."""
        used = [self.used(t, PRODUCT, CELL, ATTEND) for t in range(len(self.transforms))]
        return [int((np.diff(each) != 0).sum()) < len(np.unique(each)) for each in used]

    @functools.cached_property
    def scratch(self) -> int:
        """Most numbers that the adjoint of one product makes."""
        ends = np.cumsum([0, *(width for t in range(len(self.transforms)) for width in self.widths(t))])
        made = self.instructions[self.instructions["kind"] == PRODUCT]
        return int(((made["end"] - made["first"]) * (ends[made["high"]] - ends[made["low"]])).max(initial=0))

    @functools.cached_property
    def shapes(self) -> tuple[Shapes, Shapes, Shapes, Shapes]:
        """Those of hidden vectors, memories, inputs and pre-activations, ``[rows, numbers]`` for each transform."""
        hidden = [(p.extent, p.hidden) for p in self.transforms]
        memory = [(p.extent * p.memory, p.hidden) for p in self.transforms]
        inputs = [(p.rows if p.gates else 0, sum(self.widths(t))) for t, p in enumerate(self.transforms)]
        return hidden, memory, inputs, [(p.rows, p.width) for p in self.transforms]

    @functools.cached_property
    def sizes(self) -> tuple[int, int]:
        """How many numbers its tape and its slopes hold."""
        hidden, memory, *rest = self.shapes
        states = total(hidden, memory)
        room = max((p.hidden * p.dimensions for p in self.transforms), default=0)
        return states + total(*rest), states + total(self.vectors) + self.scratch + room

    @functools.cached_property
    def vectors(self) -> Shapes:
        """Those of the gradients of learnt vectors, a row for each of the transform's, ``[rows, numbers]``."""
        return [(p.rows, p.vectors * p.hidden) for p in self.transforms]

    @functools.cached_property
    def joined_extents(self) -> tuple[tuple[int, ...], ...]:
        """Per transform and joined input, how many rows it must have."""
        return tuple(tuple(int(index.max(initial=-1)) + 1 for index in p.joined_rows) for p in self.transforms)

    @functools.cached_property
    def dropout_extents(self) -> tuple[int, ...]:
        """Per transform, how many rows its dropout mask must have; 0 where nothing is read through it."""
        found = [0] * len(self.transforms)
        for p in self.transforms:
            for source, index in zip(p.sources, p.masks, strict=True):
                found[source] = max(found[source], 0 if index is None else int(index.max(initial=-1)) + 1)
        return tuple(found)

    @functools.cached_property
    def fact_extents(self) -> tuple[int, ...]:
        """Per transform, how many sets of embedded facts there must be; 0 where it attends to none."""
        return tuple(0 if p.fact_rows is None else int(p.fact_rows.max(initial=-1)) + 1 for p in self.transforms)

    @functools.cached_property
    def zoneout_extents(self) -> tuple[int, ...]:
        """Per transform, how many rows its zoneout masks must have, unless one row stands for all."""
        return tuple(0 if p.kept_rows is None else int(p.kept_rows.max(initial=-1)) + 1 for p in self.transforms)


def total(*shapes: Shapes) -> int:
    """Count how many numbers arrays of these shapes hold."""
    return sum(rows * columns for group in shapes for rows, columns in group)


def instructions(rows: list[dict[str, int]]) -> Array:
    """Make instructions from their fields by name; what is left out is 0."""
    table = np.zeros(len(rows), INSTRUCTION)
    for n, row in enumerate(rows):
        for name, value in row.items():
            table[n][name] = value
    return table


# -- as text -----------------------------------------------------------------------------------------------------------


def listing(program: Program, names: list[str] | None = None) -> Iterator[str]:
    """Write a line for each transform's array and each instruction; ``names`` are the transforms'."""
    names = names or [f"t{t}" for t in range(len(program.transforms))]
    for name, p in zip(names, program.transforms, strict=True):
        seen = [names[source] + " masked" * (index is not None) for source, index in zip(p.sources, p.masks, strict=True)]
        reads = ", ".join([*seen, *(f"input of {width}" for width in p.joined)])
        weights = f" in {len(p.weight_ends) - 1} weights" if len(p.weight_ends) > 2 else ""
        told = f"{p.cell}{weights}{' with zoneout' * p.keeps}, reads {reads or 'nothing'}"
        yield f"{name}[{p.rows} + {p.boundary} of {p.hidden}]  {told}"
    for n, step in enumerate(program.instructions):
        t = int(step["transform"])
        name, rows = names[t], f"{int(step['first'])}:{int(step['end'])}"
        if step["kind"] == PRODUCT:
            start, weights = program.block_starts[t], len(program.transforms[t].weight_ends) > 2
            blocks = f"{int(step['low']) - start}:{int(step['high']) - start}"
            weight = f"W[{int(step['weight'])}]" if weights else "W"
            yield f"{n:>5}  product  {name}.a[{rows}] {'+=' if step['adds'] else ' ='} {name}.z[{rows}, {blocks}] @ {weight}"
        elif step["kind"] == WRAP:
            yield f"{n:>5}  wrap     {name}[{int(step['target'])}] += {name}[{int(step['source'])}]"
        else:
            yield f"{n:>5}  {KINDS[step['kind']]:<7}  {name}[{rows}]"


# -- what must hold ----------------------------------------------------------------------------------------------------


def check_bounds(program: Program) -> None:
    """Refuse a program whose instructions would touch what lies outside its arrays; compiled code looks at no bounds.

    Raises ValueError that names the transform."""

    def within(index: Array, count: int, low: int, high: int) -> bool:
        good = index.dtype == np.int64 and index.flags.c_contiguous and index.shape == (count,)
        return good and (count == 0 or (int(index.min()) >= low and int(index.max()) < high))

    extents = [p.extent for p in program.transforms]
    steps, starts = program.instructions, program.block_starts
    if steps.dtype != INSTRUCTION or not bool(np.isin(steps["kind"], range(len(KINDS))).all()):
        raise ValueError("a program is an array of instructions")
    if len(steps) and not (int(steps["transform"].min()) >= 0 and int(steps["transform"].max()) < len(program.transforms)):
        raise ValueError("this program has an instruction of a transform that it does not have")
    for t, p in enumerate(program.transforms):
        cell, carried = p.cell, p.carried_rows
        reads = zip(p.read_rows, p.sources, strict=True)
        sound = all(within(index, p.rows, 0, extents[source]) for index, source in reads)
        sound = sound and len(carried) == (p.dimensions if cell.memory else int(cell.uses_hidden or p.keeps))
        sound = sound and all(within(index, p.rows, 0, extents[t]) for index in carried)
        masked = [index for index in p.masks if index is not None]
        sound = sound and len(p.masks) == len(p.sources)
        sound = sound and all(within(index, p.rows, -1, 2**62) for index in (*p.joined_rows, *masked))
        sound = sound and (p.kept_rows is None or (p.dimensions == 1 and within(p.kept_rows, p.rows, 0, 2**62)))
        sound = sound and (p.fact_rows is None or (len(carried) == 1 and within(p.fact_rows, p.rows, 0, 2**62)))
        ends = p.weight_ends
        sound = sound and ends.dtype == np.int64 and ends[0] == 0 and ends[-1] == p.rows and bool((np.diff(ends) >= 0).all())
        mine = steps[steps["transform"] == t]
        work = mine[mine["kind"] != WRAP]
        sound = sound and not (work["kind"] == (ATTEND if p.fact_rows is None else CELL)).any()
        first, end, weight = work["first"], work["end"], work["weight"]
        sound = sound and bool(((first >= 0) & (first <= end) & (end <= p.rows)).all())
        sound = sound and bool(((weight >= 0) & (weight < max(1, len(ends) - 1))).all())
        blocks = mine[mine["kind"] == PRODUCT]
        sound = sound and bool(((blocks["low"] >= starts[t]) & (blocks["low"] < blocks["high"])).all())
        sound = sound and bool((blocks["high"] <= starts[t + 1]).all())
        wraps = mine[mine["kind"] == WRAP]
        for name in ("source", "target"):
            sound = sound and bool(((wraps[name] >= 0) & (wraps[name] < extents[t])).all())
        if not sound:
            raise ValueError(f"transform {t} ({p.cell}) of this program has rows, blocks or weights out of bounds")
