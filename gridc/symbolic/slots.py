"""Where every wavefront of the plain lowering reads and writes, worked out for the sizes of a call.

What later wavefronts still need lives in *slots*, given out by lifetimes as registers are.  A plan is a mapping of ``Part`` to
index array; ``kinds`` says which parts a spec has, of which dtype and rank.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from gridc.language import lattice, noise
from gridc.language.lattice import Ints, Wait, carried, find, flat, points, waits
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec, Transform
from gridc.scheduling import counts, graph

ZERO, TRASH, FIRST = 0, 1, 2  # slots: always zero; written and never read; the first that is given out


class Port(NamedTuple):
    """One vector that a transform takes in."""

    of: str
    """The transform whose vector it is."""
    memory: bool
    """Its memory, not its hidden vector."""
    masked: bool = False
    """Whether it is seen through the other's dropout."""


def ports(spec: GridSpec, t: Transform) -> list[Port]:
    """Give what a transform takes in: its reads, then its own entering memories or hidden vector, then a hidden one besides."""
    reads = [Port(r.of, False, r.of != t.name and spec.transforms[r.of].dropout > 0) for r in t.reads]
    return reads + [Port(t.name, t.has_memory)] * (len(t.along) * t.carries) + [Port(t.name, False)] * _takes_another(t)


def _takes_another(t: Transform) -> bool:
    """Tell whether a hidden vector is wanted beside what carries from cell to cell: by the cell itself, or by zoneout."""
    return t.has_memory if t.mechanism.uses_hidden else t.zoneout > 0


def has_step_axis(t: Transform) -> bool:
    """Tell whether steps and examples have an axis each, since each step has weights or facts of its own."""
    return bool(t.untied) or t.attends is not None


class Part(NamedTuple):
    """The name of one array of a plan: ``what`` it says of a transform's or an output's port of this number."""

    owner: str
    what: Literal["slot", "entry", "mask", "zoneout", "joined", "writes", "weights", "live", "read"]
    """Of a port: the ``slot`` that it looks into, the row of what enters there (``entry``) and that of its dropout's ``mask``.
    Of a transform: the row of ``zoneout``'s masks, the row of a ``joined`` input (-1: none), the slot that it ``writes``, which
    ``weights`` it uses, and ``live``, zeros as long as all its slots.  Of an output: the rows that it ``read``s (-1: none)."""
    port: int = 0


def kinds(spec: GridSpec) -> dict[Part, tuple[str, int]]:
    """Give the parts of a spec's plan, each with its dtype and rank."""
    ranks: dict[Part, int] = {}
    for name, t in spec.transforms.items():
        rows = 3 if has_step_axis(t) else 2  # [wavefronts, steps, examples] or [wavefronts, steps × examples]
        for i, port in enumerate(ports(spec, t)):
            ranks[Part(name, "slot", i)] = ranks[Part(name, "entry", i)] = rows
            if port.masked:
                ranks[Part(name, "mask", i)] = rows
        if t.zoneout:
            ranks[Part(name, "zoneout")] = rows
        for i in range(len(spec.joined(name))):
            ranks[Part(name, "joined", i)] = rows
        ranks[Part(name, "writes")], ranks[Part(name, "weights")], ranks[Part(name, "live")] = rows, 2, 1
    for name, o in spec.outputs.items():
        ranks.update({Part(name, "read", i): 2 + len(o.axes) for i in range(len(o.reads))})
    return {part: ("int64", rank) for part, rank in ranks.items()}


def plan(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> tuple[np.ndarray, ...]:
    """Give the arrays of a plan for these sizes, in the order of ``kinds``."""
    arrays = _Planner(spec, sizes, batch, extents).arrays()
    return tuple(arrays[part] for part in kinds(spec))


MOST_PLANNED = 1_000_000
"""Steps beyond which a plan is not made only to count what it would keep."""


def call_bytes(spec: GridSpec, sizes: tuple[int, ...], batch: int, itemsize: int, training: bool) -> int:
    """Count the bytes that a call of the plain lowering holds at its peak, a training step or a prediction.

    A Scan keeps the slots of every wavefront, and its gradient what it read besides, with a copy of every gradient of the weights
    a wavefront.  The factors were found by looking at what PyTensor (3.0.7) holds from the second step on; four specs at some
    sizes took 0.97 to 1.14 times what this counts to train."""
    if math.prod(sizes) * len(spec.transforms) > MOST_PLANNED:
        return 4 * counts.call_bytes(spec, sizes, batch, itemsize, training)
    planner = _Planner(spec, sizes, 1, None)
    arrays = planner.arrays()
    shapes = parameter_shapes(spec)
    twice = 1 + training
    numbers = twice * counts.parameters(spec)
    indices = 0
    rows: dict[str, int] = {}
    for name, t in spec.transforms.items():
        parts = [array for part, array in arrays.items() if part.owner == name and part.what != "live"]
        indices += sum(array.size for array in parts)
        rows[name] = arrays[Part(name, "writes")].size
        for port in ports(spec, t):
            hidden = spec.transforms[port.of].hidden
            starts = bool(spec.entering(port.of)) or spec.transforms[port.of].start == "learned"
            numbers += twice * rows[name] * hidden * batch * (starts + port.masked * training)
        numbers += twice * rows[name] * t.hidden * (1 + t.has_memory) * batch * bool(t.zoneout) * training
        numbers += (2 + training) * rows[name] * sum(x.width for x in spec.joined(name)) * batch
        vectors = 1 + t.has_memory
        slots = arrays[Part(name, "live")].size * t.hidden * batch
        numbers += (planner.waves + 1) * slots * (3 + 2 * vectors if training else 2 + vectors)
        inside = sum(math.prod(shapes.get(f"{name}.{letter}", (0,))) for letter in ("W", "b", "p", "A", "C", "E"))
        numbers += 2 * training * (planner.waves + 1) * inside
    for tap in {tap for o in spec.outputs.values() for tap in o.reads}:
        numbers += (2 + training) * rows[tap.transform] * spec.transforms[tap.transform].hidden * batch
    for o in spec.outputs.values():
        positions, cells = math.prod(sizes[d] for d in o.axes), math.prod(len(s) for s in o.at if isinstance(s, tuple))
        read = cells * sum(spec.transforms[tap.transform].hidden for tap in o.reads)
        numbers += twice * positions * (2 * read + 6 * o.size) * batch
    for x in spec.inputs.values():
        if x.enters:
            numbers += 2 * twice * len(x.into) * math.prod(sizes[d] for d in x.over) * spec.transforms[x.enters].hidden * batch
    masks = sum(math.prod(shape) for shape in noise.shapes(spec, batch, sizes).values()) * training
    return itemsize * (numbers + masks) + 8 * (2 + training) * indices * batch


class _Found(NamedTuple):
    """What a port looks at, for every cell of every example."""

    wait: Wait
    cell: Ints
    """The cell whose vector it finds; -1 for none."""
    entry: Ints
    """The row of what enters (``plain._boundary``)."""


class _Planner:
    """Works out, for given sizes, where every wavefront reads and writes."""

    def __init__(self, spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None):
        self.spec, self.sizes, self.batch = spec, sizes, batch
        self.at = points(sizes)
        self.extents = lattice.filled(sizes, batch, extents)
        self.levels = dict(zip(spec.transforms, graph.build(spec, sizes, extents).levels.reshape(-1, len(self.at)), strict=True))
        self.waves = int(max(levels.max() for levels in self.levels.values())) + 1
        # Every cell of every example: example fastest.
        self.example = np.tile(np.arange(batch), len(self.at))
        self.everywhere = np.repeat(self.at, batch, axis=0)
        self.extent = self.extents[self.example]
        self.exists = (self.everywhere < self.extent).all(axis=1)

    def places(self, t: Transform, memory: bool) -> int:
        """Give how many places there are where inputs enter along a transform, over all examples."""
        return self.batch * len(self.at) // self.sizes[t.along[0]] if _entered(self.spec, t, memory) else 0

    def found(self, t: Transform) -> list[_Found]:
        """Give what each of the ports of a transform finds."""
        waited = sorted(waits(self.spec, t, self.everywhere, self.extent), key=lambda wait: wait.by < 0)  # the reads first
        if _takes_another(t):
            waited.append(find(t, -1, carried(t, self.everywhere)[0], self.extent))
        return [self.looked(wait, port.memory) for wait, port in zip(waited, ports(self.spec, t), strict=True)]

    def looked(self, wait: Wait, memory: bool) -> _Found:
        """Give the cells and the rows of what enters where a port looks."""
        cell = np.full(len(self.everywhere), -1)
        there = wait.steps & self.exists
        cell[there] = flat(wait.points[there], self.sizes)
        start = self.places(wait.of, memory)
        entry = np.where(self.exists & ~wait.inside, start, start + 1)  # the start alone, and zeros
        if start:
            entering = wait.entering & self.exists
            others = [d for d in range(len(self.sizes)) if d != wait.of.along[0]]
            entry[entering] = flat(wait.looked[entering], self.sizes, others, self.example[entering])
        return _Found(wait, cell, entry)

    def arrays(self) -> dict[Part, np.ndarray]:
        """Give the parts of the plan."""
        found = {name: self.found(t) for name, t in self.spec.transforms.items()}
        slots, used = self.slots(found)
        result: dict[Part, np.ndarray] = {}
        rows: dict[str, Ints] = {}  # of each transform's step, over all wavefronts
        lane = np.arange(self.batch)
        for name, t in self.spec.transforms.items():
            place = _Places(t, self.levels[name], self.waves, self.batch)
            rows[name] = place.rows
            for i, (port, (wait, cell, entry)) in enumerate(zip(ports(self.spec, t), found[name], strict=True)):
                slot = np.where(cell >= 0, slots[port.of][np.maximum(cell, 0)], ZERO)
                result[Part(name, "slot", i)] = place.laid(slot * self.batch + self.example, ZERO * self.batch + lane)
                result[Part(name, "entry", i)] = place.laid(entry, self.places(wait.of, port.memory) + 1)
                if port.masked:
                    result[Part(name, "mask", i)] = place.laid(noise.rows(wait.of, wait.looked, self.example, self.sizes), 0)
            if t.zoneout:
                result[Part(name, "zoneout")] = place.laid(flat(self.everywhere, self.sizes, lead=self.example), 0)
            for i, x in enumerate(self.spec.joined(name)):
                row = flat(self.everywhere, self.sizes, x.over, self.example)
                reached = lattice.selected(x.at, self.everywhere, self.extent) & self.exists
                result[Part(name, "joined", i)] = place.laid(np.where(reached, row, -1), -1)
            writes = np.repeat(slots[name], self.batch) * self.batch + self.example
            result[Part(name, "writes")] = place.laid(writes, TRASH * self.batch + lane)
            hop = t.attends is not None and not t.untied
            weight = self.at[:, t.along[0]] if hop else lattice.weights(t, self.at, self.sizes)
            result[Part(name, "weights")] = place.by_step(weight)
            result[Part(name, "live")] = np.zeros(used[name] * self.batch, np.int64)
        for name, o in self.spec.outputs.items():
            for i, tap in enumerate(o.reads):
                where, exists = lattice.output_points(o, self.spec.transforms[tap.transform], self.sizes, self.extents)
                example = np.broadcast_to(lane.reshape(-1, *(1,) * (exists.ndim - 1)), exists.shape)
                read = np.full(exists.shape, -1)
                read[exists] = rows[tap.transform][flat(where[exists], self.sizes)] * self.batch + example[exists]
                result[Part(name, "read", i)] = read
        return result

    def slots(self, found: Mapping[str, list[_Found]]) -> tuple[dict[str, Ints], dict[str, int]]:
        """Give a slot for each step, free again after the last wavefront that reads it, and how many each transform has."""
        last = {name: np.full(len(self.at), -1) for name in self.levels}
        for name, taken in found.items():
            reader = np.repeat(self.levels[name], self.batch)
            for wait, cell, _ in taken:
                np.maximum.at(last[wait.of.name], cell[cell >= 0], reader[cell >= 0])
        slots: dict[str, Ints] = {}
        counts: dict[str, int] = {}
        for name, levels in self.levels.items():
            until = last[name]
            given = np.full(len(self.at), TRASH)
            free: list[int] = []
            ending: list[tuple[int, int]] = []
            count = FIRST
            for cell in np.argsort(levels, kind="stable"):
                if until[cell] < 0:
                    continue
                # A slot read by wavefront w may be written by w itself: all reads of a wavefront come first.
                while ending and ending[0][0] <= levels[cell]:
                    heapq.heappush(free, heapq.heappop(ending)[1])
                if free:
                    given[cell] = heapq.heappop(free)
                else:
                    given[cell], count = count, count + 1
                heapq.heappush(ending, (int(until[cell]), int(given[cell])))
            slots[name], counts[name] = given, count
        return slots, counts


class _Places:
    """A place for each step of one transform in its wavefront, steps of a wavefront by their cells."""

    def __init__(self, t: Transform, levels: Ints, waves: int, batch: int):
        self.levels, self.waves, self.batch, self.step_axis = levels, waves, batch, has_step_axis(t)
        by = np.argsort(levels, kind="stable")
        first = np.searchsorted(levels[by], np.arange(waves))
        self.place = np.empty(len(by), np.int64)
        self.place[by] = np.arange(len(by)) - first[levels[by]]
        # At least two: PyTensor (3.0.7) refuses the gradient of a look-up by a single index, see `take`.
        self.width = max(2, int(self.place.max()) + 1)

    @property
    def rows(self) -> Ints:
        """The place of each step, counted over all wavefronts, ``[cells]``."""
        return self.levels * self.width + self.place

    def by_step(self, values: Ints) -> Ints:
        """Lay a number for each step ``[cells]``, ``[wavefronts, width]``; 0 where there is none."""
        table = np.zeros((self.waves, self.width), np.int64)
        table[self.levels, self.place] = values
        return table

    def laid(self, values: Ints, padding: Ints | int) -> Ints:
        """Lay a number for each step and example ``[cells × batch]``: ``[wavefronts, width, batch]``, or one axis for both."""
        table = np.empty((self.waves, self.width, self.batch), np.int64)
        table[:] = padding
        table[self.levels, self.place] = values.reshape(-1, self.batch)
        return table if self.step_axis else table.reshape(self.waves, -1)


def _entered(spec: GridSpec, t: Transform, memory: bool) -> bool:
    """Tell whether an input is projected into this vector of a transform."""
    return any(("memory" if memory else "hidden") in x.into for x in spec.entering(t.name))
