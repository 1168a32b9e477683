"""What a sweep on a device is compiled for: sizes rounded up to a bucket, and where every vector of such a grid lies.

A *group* is one transform or several of one shape, which run side by side.  In a *turn* every group that has steps then makes
one product: ``slots``, one for each of its weights, of so many rows each.  Turns that need the same room stand in a *phase*.
Nothing here depends on lengths, or on sizes within a bucket: those are the integer arrays of ``gridc.scheduling.addresses``.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gridc.language import noise
from gridc.language.spec import GridSpec
from gridc.tables.mechanisms import Cell, Options

Tables = dict[str, np.ndarray]
"""Index arrays by name."""
WORTH, LEAST, MOST = 0.5, 0.02, 3
"""Which part of all that is computed a cut between phases must save, for every phase is compiled on its own: the first, or the
second where that is many multiply-adds, too, for at most so many phases: both ends, and what is between them."""


class Misfit(Exception):
    """A call that needs more room than its bucket's plan has: where states wrap around, its turns depend on the lengths."""


def bucket(count: int) -> int:
    """Give the size that stands for this one: itself up to 32, then sixteen steps an octave, so at most a sixteenth more."""
    if count <= 16:
        return count
    step = 1 << (count.bit_length() - 5)
    return -(-count // step) * step


@dataclass(frozen=True)
class Entry:
    """Rows of what enters along one transform: ``[batch, *other dimensions]`` from ``first``, then one for the start alone."""

    transform: str
    first: int
    count: int
    start: int


@dataclass(frozen=True)
class Block:
    """A group's part of each turn of a phase: ``slots`` products of ``rows`` rows, stored from computed row ``offset`` on."""

    group: int
    slots: int
    rows: int
    offset: int

    @property
    def size(self) -> int:
        """Rows of a turn."""
        return self.slots * self.rows


@dataclass(frozen=True)
class Phase:
    """So many turns, each of which runs these blocks in this order."""

    turns: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Tap:
    """What one read of an output finds: ``[batch, *axes, cells]`` rows of a group's hidden vectors or memories."""

    output: str
    group: int
    memory: bool
    shape: tuple[int, ...]
    masked: bool = False
    """Whether it may be seen through dropout."""


@dataclass(frozen=True)
class Group:
    """Transforms of one shape.

    Storage has ``base`` rows of what enters, the last of them zeros, then the computed ones; a row is ``vectors`` vectors of
    ``hidden`` numbers: the hidden one, the memory, the pre-activations.  On the way back the gradients of what a step took over
    and of its pre-activations replace all but the hidden one.  A *channel* is the reads whose gradients lie side by
    side.  Where ``chosen``, a slot is told at every turn which weights are its own.  ``readers`` are, for each group and channel
    that reads this one, the most readers of a row; ``carried`` the same for states that travel, ``tapped`` for every tap."""

    members: tuple[str, ...]
    cell: Cell
    options: Options
    dimensions: int
    hidden: int
    gates: int
    sources: tuple[int, ...]
    widths: tuple[int, ...]
    joined: tuple[int, ...]
    weights: tuple[int, ...]
    chosen: bool
    most: int
    """Rows of one weight, where slots choose theirs."""
    base: int
    rows: int
    """Computed rows, those of no step included."""
    entries: tuple[Entry, ...]
    wraps: bool
    """Whether what it reads may have wrapped around, so that every read adds a second row."""
    masked: tuple[int, ...] = ()
    """The reads that may be seen through dropout."""
    zoneout: float = 0.0
    """How much of its old state is kept, on the average."""
    attends: str | None = None
    """The facts to which it attends."""
    readers: tuple[tuple[int, int, int], ...] = ()
    carried: int = 0
    tapped: tuple[tuple[int, int], ...] = ()

    @property
    def memory(self) -> bool:
        """Whether its cells keep a memory beside the hidden vector."""
        return self.cell.memory

    @property
    def entering(self) -> int:
        """Vectors of its own that a step takes over: a memory for each dimension, or the hidden one where the rule reads it."""
        return self.dimensions if self.memory else int(self.looks)

    @property
    def looks(self) -> bool:
        """Whether it takes over its hidden vector: the rule looks at it, or zoneout keeps parts of it."""
        return self.attends is None and self.gates > 0 and (self.cell.uses_hidden or self.zoneout > 0)

    @property
    def besides(self) -> bool:
        """Whether it takes over its hidden vector beside a memory."""
        return self.memory and self.looks

    @property
    def front(self) -> int:
        """How many vectors of a row stand before the pre-activations: the hidden one, and as many as were taken over."""
        return 1 + self.entering + self.besides

    @property
    def vectors(self) -> int:
        """How many vectors of ``hidden`` numbers a row holds; without gates, what attends has one for the gradient of what it
        found."""
        return self.front + max(self.gates, int(self.attends is not None))

    @cached_property
    def channels(self) -> tuple[tuple[int, ...], ...]:
        """Reads of equal width make one channel, others one each."""
        every = tuple(range(len(self.sources)))
        return (every,) * bool(every) if len(set(self.widths)) <= 1 else tuple((j,) for j in every)


@dataclass(frozen=True)
class Plan:
    """Everything about a sweep on a device that is fixed when it is compiled."""

    spec: GridSpec
    batch: int
    sizes: tuple[int, ...]
    groups: tuple[Group, ...]
    phases: tuple[Phase, ...]
    taps: tuple[Tap, ...]
    facts: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """The inputs that are facts, and the axes of their arrays behind the batch, the number of facts in its bucket."""
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """The name and the shape of every index array, in order."""

    @cached_property
    def _hash(self) -> int:
        return hash((self.batch, self.sizes, self.groups, self.phases, self.facts))

    def __hash__(self) -> int:  # it is a key at every step, and has thousands of parts
        return self._hash

    def attending(self, facts: tuple[tuple[str, tuple[int, ...]], ...]) -> Plan:
        """Give the same plan for these facts, whose numbers are among what a call tells."""
        return replace(self, facts=facts, shapes=(*self.shapes, *((f"facts.{name}", (1,)) for name, _ in facts)))

    def joins(self, group: Group, number: int) -> list[tuple[str, int, int]]:
        """List the inputs that join a group's members as their join of this number: name, first row, and how many rows."""
        found: list[tuple[str, int, int]] = []
        row = 0
        for name in dict.fromkeys(self.spec.joined(member)[number].name for member in group.members):
            count = self.batch * math.prod(self.sizes[d] for d in self.spec.inputs[name].over)
            found.append((name, row, count))
            row += count
        return found

    def hidden_by(self, group: Group) -> list[tuple[str, int, int]]:
        """List the members of a group that have dropout, with the rows of their masks among all of the group's: first, and how
        many."""
        found: list[tuple[str, int, int]] = []
        row = 0
        for name in group.members:
            t = self.spec.transforms[name]
            if t.dropout:
                count = self.batch * math.prod(self.sizes[d] for d in noise.places(t))
                found.append((name, row, count))
                row += count
        return found


def rounded(spec: GridSpec, batch: int, sizes: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Give the bucket of a call's batch and sizes; sizes that the spec fixes stay."""
    pairs = zip(spec.dimensions, sizes, strict=True)
    return bucket(batch), tuple(bucket(n) if isinstance(dimension.size, str) else n for dimension, n in pairs)


def phases(needed: np.ndarray, computed: int, worth: float = math.inf) -> list[tuple[int, int]]:
    """Give the first turn and the end of every phase, where a turn needs ``needed[turn, group]`` rows, or their multiply-adds.

    Neighbours are joined, the least costly first, until every cut saves enough beside all that is ``computed``: the half, or as
    much as is ``worth`` a program of its own."""
    if not len(needed):
        return []
    cuts = [0, *(np.flatnonzero((needed[1:] != needed[:-1]).any(axis=1)) + 1).tolist(), len(needed)]
    most = [needed[a:e].max(axis=0) for a, e in itertools.pairwise(cuts)]

    def added(i: int) -> int:
        """Count what is computed for nothing if phases i and i + 1 are one."""
        first, second = cuts[i + 1] - cuts[i], cuts[i + 2] - cuts[i + 1]
        together = np.maximum(most[i], most[i + 1]).sum()
        return int((first + second) * together - first * most[i].sum() - second * most[i + 1].sum())

    while len(most) > 1:
        least = min(range(len(most) - 1), key=added)
        saved = added(least)
        if saved > WORTH * computed or (len(most) <= MOST and saved > max(LEAST * computed, worth)):
            break
        most[least : least + 2] = [np.maximum(most[least], most[least + 1])]
        del cuts[least + 1]
    return list(itertools.pairwise(cuts))
