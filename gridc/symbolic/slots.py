"""Where every wavefront of the plain lowering reads and writes: a layout's rows, laid out for a Scan.

Each row of the layout has its place in the wavefront of its turn.  What later wavefronts still need lives in *slots*, given
out by lifetimes as registers are.  The arrays are a mapping of ``Part`` to index array; ``kinds`` says which parts a spec has,
of which dtype and rank.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from gridc.language import noise
from gridc.language.lattice import Ints, home
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec, Transform
from gridc.scheduling import counts, graph, order
from gridc.scheduling.layout import Layout
from gridc.scheduling.program import TransformProgram

Vector = tuple[str, bool]
"""The hidden vectors of a transform, or its memories."""
ZERO, TRASH, FIRST = 0, 1, 2  # slots: always zero; written and never read; the first that is given out


class Port(NamedTuple):
    """One vector that a transform takes in."""

    of: str
    """The transform among whose vectors it lies."""
    memory: bool
    """Its memory, not its hidden vector."""
    masked: bool = False
    """Whether it is seen through that transform's dropout."""


def computed(spec: GridSpec) -> Iterator[Transform]:
    """Give the transforms that take steps of their own."""
    return (t for t in spec.transforms.values() if not spec.relayed(t))


def ports(spec: GridSpec, t: Transform) -> list[Port]:
    """Give what a transform takes in: its reads, then its own entering memories or hidden vector, then a hidden one besides."""
    reads = [Port(home(spec, read.of), False, hidden(spec, t.name, read.of)) for read in t.reads]
    return reads + [Port(t.name, t.has_memory)] * (len(t.along) * t.carries) + [Port(t.name, False)] * _takes_another(t)


def _takes_another(t: Transform) -> bool:
    """Tell whether a hidden vector is wanted beside what carries from cell to cell: by the cell itself, or by zoneout."""
    return t.has_memory if t.mechanism.uses_hidden else t.zoneout > 0


def hidden(spec: GridSpec, reader: str, of: str) -> bool:
    """Tell whether dropout may hide units of what ``reader`` finds when it reads ``of``, or what that hands on."""
    while spec.relayed(spec.transforms[of]):
        reader, of = of, spec.transforms[of].reads[0].of
    return of != reader and spec.transforms[of].dropout > 0


def has_step_axis(t: Transform) -> bool:
    """Tell whether steps and examples have an axis each, since each step has weights or facts of its own."""
    return bool(t.untied) or t.attends is not None


class Part(NamedTuple):
    """The name of one array: ``what`` it says of a transform's or an output's port of this number."""

    owner: str
    what: Literal["slots", "entry", "mask", "zoneout", "joined", "ahead", "writes", "weights", "members", "spot", "live", "read",
                  "entered", "seen"]  # fmt: skip
    """Of a port: the ``slots`` that it looks into, the row of what enters there (``entry``) and that of its dropout's ``mask``
    (-1: it sees all).  Of a transform: the row of ``zoneout``'s masks, the row of a ``joined`` input (-1: none), the slot that it
    ``writes``, which ``weights`` it uses, and ``live``, zeros as long as all its slots; where there are weights of places, the
    places of the ``members`` of each (-1: no more) among those of all wavefronts, the ``spot`` of every place among all members,
    and products made ``ahead``, which are no index.  Of an output: the rows that it ``read``s (-1: none), and where what it reads
    is handed on, those of what ``entered`` and of the mask through which it is ``seen``."""
    port: int = 0


def kinds(spec: GridSpec) -> dict[Part, tuple[str, int]]:
    """Give the parts of a spec's plan, each with its dtype and rank."""
    ranks: dict[Part, int] = {}
    for t in computed(spec):
        rows = 3 if has_step_axis(t) else 2  # [wavefronts, steps, examples] or [wavefronts, steps × examples]
        for i, port in enumerate(ports(spec, t)):
            ranks[Part(t.name, "slots", i)] = ranks[Part(t.name, "entry", i)] = rows
            if port.masked:
                ranks[Part(t.name, "mask", i)] = rows
        if t.zoneout:
            ranks[Part(t.name, "zoneout")] = rows
        for i in range(len(spec.joined(t.name))):
            ranks[Part(t.name, "joined", i)] = rows
        ranks[Part(t.name, "writes")], ranks[Part(t.name, "weights")], ranks[Part(t.name, "live")] = rows, 2, 1
        if t.untied:
            ranks[Part(t.name, "members")] = ranks[Part(t.name, "spot")] = 2
    for name, o in spec.outputs.items():
        for i, tap in enumerate(o.reads):
            ranks[Part(name, "read", i)] = 2 + len(o.axes)
            if spec.relayed(spec.transforms[tap.transform]):
                ranks[Part(name, "entered", i)] = 2 + len(o.axes)
            if hidden(spec, tap.transform, tap.transform):
                ranks[Part(name, "seen", i)] = 2 + len(o.axes)
    return {part: ("int64", rank) for part, rank in ranks.items()}


def readers(spec: GridSpec) -> dict[Vector, list[tuple[str, int]]]:
    """List, for every vector that somebody reads, the transforms and the numbers of the ports that do."""
    found: dict[Vector, list[tuple[str, int]]] = {}
    for t in computed(spec):
        for i, port in enumerate(ports(spec, t)):
            found.setdefault((port.of, port.memory), []).append((t.name, i))
    return found


def entries(spec: GridSpec, storage: str, memory: bool) -> list[tuple[str, bool]]:
    """Say what enters among the vectors of a transform, in order: along which transform, and whether an input is projected into
    this vector of it, so that there is a row for every place; then one for the start alone."""
    vector = "memory" if memory else "hidden"
    return [(name, any(vector in x.into for x in spec.entering(name)))
            for name in spec.transforms if home(spec, name) == storage]  # fmt: skip


def plan(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> tuple[np.ndarray, ...]:
    """Give the arrays for these sizes, in the order of ``kinds``."""
    arrays = Slots.of(spec, sizes, batch, extents).arrays()
    return tuple(arrays[part] for part in kinds(spec))


MOST_PLANNED = 1_000_000
"""Steps beyond which wavefronts are not laid out only to count what they would keep."""


def call_bytes(spec: GridSpec, sizes: tuple[int, ...], batch: int, itemsize: int, training: bool) -> int:
    """Count the bytes that a call of the plain lowering holds at its peak, a training step or a prediction.

    Under a gradient it keeps what steps saw, their pre-activations and the slopes of these, and of what enters or was multiplied
    ahead what is made of it on the way.  The factors were found by looking at what PyTensor (3.0.7) holds from the second step
    on."""
    if math.prod(sizes) * len(spec.transforms) > MOST_PLANNED:
        return 4 * counts.call_bytes(spec, sizes, batch, itemsize, training)
    lanes = min(batch, 2)  # of one example alone wavefronts have another width
    arrays = Slots.of(spec, sizes, lanes, None).arrays()
    shapes = parameter_shapes(spec)
    twice = 1 + training
    numbers = twice * counts.parameters(spec)
    indices = 0
    for t in computed(spec):
        name = t.name
        parts = [array for part, array in arrays.items() if part.owner == name and part.what != "live"]
        indices += sum(array.size for array in parts)
        rows = arrays[Part(name, "writes")].size * batch // lanes
        every = ports(spec, t)
        for port in every:
            starts = any(entered or spec.transforms[along].start == "learned"
                         for along, entered in entries(spec, port.of, port.memory))  # fmt: skip
            held = (1 + 3 * training) * starts + port.masked * training
            numbers += rows * spec.transforms[port.of].hidden * held
        vectors, weighed = 1 + t.has_memory, len(t.gates) * t.hidden
        numbers += rows * t.hidden * vectors * bool(t.zoneout) * training
        numbers += vectors * (arrays[Part(name, "live")].size * batch // lanes) * t.hidden * 4 * twice
        joined = sum(x.width for x in spec.joined(name))
        ahead = bool(joined) and t.mechanism.update is None
        numbers += (2 + training) * rows * joined
        numbers += ahead * rows * weighed * (3 + 3 * training)
        seen = spec.rows(name) - joined * ahead
        kept = seen * (3 if t.untied else 2) + weighed * (4 if t.untied else 2) + t.hidden * (len(every) - len(t.reads))
        numbers += training * rows * kept
        numbers += 4 * training * sum(math.prod(shapes.get(f"{name}.{letter}", (0,))) for letter in "WbpACE")
    for storage in {home(spec, tap.transform) for o in spec.outputs.values() for tap in o.reads}:
        rows = arrays[Part(storage, "writes")].size * batch // lanes
        numbers += (2 + training) * rows * spec.transforms[storage].hidden
    for o in spec.outputs.values():
        positions, cells = math.prod(sizes[d] for d in o.axes), math.prod(len(s) for s in o.at if isinstance(s, tuple))
        read = cells * sum(spec.transforms[tap.transform].hidden for tap in o.reads)
        numbers += twice * positions * (2 * read + 6 * o.size) * batch
    for x in spec.inputs.values():
        if x.enters:
            numbers += 2 * twice * len(x.into) * math.prod(sizes[d] for d in x.over) * spec.transforms[x.enters].hidden * batch
    masks = sum(math.prod(shape) for shape in noise.shapes(spec, batch, sizes).values()) * training
    return itemsize * (numbers + masks) + 8 * (2 + training) * indices * batch // lanes


@dataclass(frozen=True, eq=False)
class Slots:
    """The wavefronts of a layout whose every step runs in the first turn in which it can."""

    layout: Layout

    @staticmethod
    def of(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> Slots:
        """Lay out a call of these sizes."""
        steps = graph.build(spec, sizes, extents)
        return Slots(Layout(steps, batch, extents, order.earliest(steps)))

    @property
    def spec(self) -> GridSpec:
        """The grid."""
        return self.layout.spec

    @cached_property
    def waves(self) -> int:
        """How many wavefronts there are."""
        last = (self.layout.order.time[self.layout.number[t.name]].max() for t in computed(self.spec))
        return int(max(last, default=-1)) + 1

    @cached_property
    def places(self) -> dict[str, _Places]:
        """Of each transform where its steps stand in their wavefronts."""
        every = self.layout
        found: dict[str, _Places] = {}
        for t in computed(self.spec):
            i = every.number[t.name]
            found[t.name] = _Places(t, every.order.time[i], self.waves, every.batch, *every.rows[i])
        return found

    @cached_property
    def programs(self) -> dict[str, TransformProgram]:
        """What each transform computes, and the rows that it reads."""
        return {t.name: self.layout.program(t.name) for t in computed(self.spec)}

    @cached_property
    def sources(self) -> dict[str, Ints]:
        """Of each transform the computed row whose vector each of its rows holds: its own, for what enters that which wraps
        around to there, or -1."""
        found: dict[str, Ints] = {}
        for name, (cell, _), end in zip(self.layout.names, self.layout.rows, self.layout.ends, strict=True):
            found[name] = np.concatenate([np.arange(len(cell)), np.full(end - len(cell), -1)])
        for storage, row, target in self.layout.wraps.tolist():
            found[self.layout.names[storage]][target] = row
        return found

    def entry(self, storage: str, memory: bool) -> Ints:
        """Give for each row of a transform the row of what enters there (``plain._boundary``), the last of which are zeros."""
        rows, count = np.full(self.layout.ends[self.layout.number[storage]], -1), 0
        for name, entered in entries(self.spec, storage, memory):
            boundary = self.layout.boundaries[self.layout.number[name]]
            places = boundary.count if entered else 0
            rows[boundary.first : boundary.start] = count + (np.arange(places) if entered else places)
            rows[boundary.start : boundary.start + self.layout.batch] = count + places
            count += places + 1
        return np.where(rows < 0, count, rows)

    @cached_property
    def reads(self) -> dict[str, list[Ints]]:
        """Of each transform and each of its ports the row that every row of its own finds."""
        found: dict[str, list[Ints]] = {}
        for name, own in self.programs.items():
            t = self.spec.transforms[name]
            found[name] = [*own.read_rows, *(own.memory_rows if t.carries else ())]
            found[name] += own.memory_rows[:1] if _takes_another(t) else ()
        return found

    def arrays(self) -> dict[Part, np.ndarray]:
        """Give the parts by name."""
        layout, batch = self.layout, self.layout.batch
        slots, used = self.slots()
        entry = {(name, memory): self.entry(name, memory) for name in layout.names for memory in (False, True)}
        result: dict[Part, np.ndarray] = {}
        lane = np.arange(batch)
        for name, own in self.programs.items():
            t, place = self.spec.transforms[name], self.places[name]
            example = place.example
            for i, (port, row) in enumerate(zip(ports(self.spec, t), self.reads[name], strict=True)):
                origin = self.sources[port.of][row]
                slot = np.where(origin >= 0, slots[port.of][layout.rows[layout.number[port.of]][0][origin]], ZERO)
                result[Part(name, "slots", i)] = place.laid(slot * batch + example, ZERO * batch + lane)
                enters = entry[port.of, port.memory]
                result[Part(name, "entry", i)] = place.laid(enters[row], enters.max())
                if port.masked:
                    seen = own.mask_rows[i]
                    result[Part(name, "mask", i)] = place.laid(-1 if seen is None else seen, -1)
            if own.kept_rows is not None:
                result[Part(name, "zoneout")] = place.laid(own.kept_rows, 0)
            for i, row in enumerate(own.joined_rows):
                result[Part(name, "joined", i)] = place.laid(row, -1)
            result[Part(name, "writes")] = place.laid(slots[name][place.cell] * batch + example, TRASH * batch + lane)
            hop = t.attends is not None and not t.untied
            weight = layout.at[:, t.along[0]] if hop else layout.weight[layout.number[name]]
            result[Part(name, "weights")] = place.by_step(weight)
            if t.untied:
                result[Part(name, "members")], result[Part(name, "spot")] = place.by_weight(
                    weight, math.prod(int(self.spec.dimensions[d].size) for d in t.untied))
            result[Part(name, "live")] = np.zeros(used[name] * batch, np.int64)
        return result | self.read_out(entry)

    def read_out(self, entry: dict[tuple[str, bool], Ints]) -> dict[Part, np.ndarray]:
        """Give the parts of the outputs."""
        result: dict[Part, np.ndarray] = {}
        readings = iter(self.layout.outputs)
        for name, o in self.spec.outputs.items():
            for i, tap in enumerate(o.reads):
                reading = next(readings)
                storage = self.layout.names[reading.storage]
                exists = reading.rows >= 0
                origin = np.where(exists, self.sources[storage][reading.rows], -1)
                found = origin >= 0
                read = np.full(origin.shape, -1)
                if found.any():
                    read[found] = self.places[storage].flat[origin[found]]
                result[Part(name, "read", i)] = read
                if self.spec.relayed(self.spec.transforms[tap.transform]):
                    enters = entry[storage, tap.memory]
                    result[Part(name, "entered", i)] = np.where(exists, enters[reading.rows], enters.max())
                if hidden(self.spec, tap.transform, tap.transform):
                    result[Part(name, "seen", i)] = np.full(exists.shape, -1) if reading.masks is None else reading.masks
        return result

    def slots(self) -> tuple[dict[str, Ints], dict[str, int]]:
        """Give a slot for each step, free again after the last wavefront that reads it, and how many each transform has."""
        last = {name: np.full(len(self.layout.at), -1) for name in self.places}
        for name, found in self.reads.items():
            turn = self.places[name].turns[self.places[name].cell]
            for port, row in zip(ports(self.spec, self.spec.transforms[name]), found, strict=True):
                origin = self.sources[port.of][row]
                np.maximum.at(last[port.of], self.places[port.of].cell[origin[origin >= 0]], turn[origin >= 0])
        slots: dict[str, Ints] = {}
        counts: dict[str, int] = {}
        for name, places in self.places.items():
            slots[name], counts[name] = _given(places.turns, last[name])
        return slots, counts


def _given(turns: Ints, last: Ints) -> tuple[Ints, int]:
    """Give out slots to steps that run in these ``turns`` and are read until the ``last`` ones, -1 for never."""
    given = np.full(len(turns), TRASH)
    free: list[int] = []
    ending: list[tuple[int, int]] = []
    count = FIRST
    for cell in np.argsort(turns, kind="stable"):
        if last[cell] < 0:
            continue
        # A slot read by wavefront w may be written by w itself: all reads of a wavefront come first.
        while ending and ending[0][0] <= turns[cell]:
            heapq.heappush(free, heapq.heappop(ending)[1])
        if free:
            given[cell] = heapq.heappop(free)
        else:
            given[cell], count = count, count + 1
        heapq.heappush(ending, (int(last[cell]), int(given[cell])))
    return given, count


class _Places:
    """A place for each step of one transform in its wavefront, steps of a wavefront by their cells; and for each row the
    ``cell`` and the ``example``."""

    def __init__(self, t: Transform, turns: Ints, waves: int, batch: int, cell: Ints, example: Ints):
        self.turns, self.waves, self.batch, self.step_axis = turns, waves, batch, has_step_axis(t)
        self.cell, self.example = cell, example
        by = np.argsort(turns, kind="stable")
        first = np.searchsorted(turns[by], np.arange(waves))
        self.place = np.empty(len(by), np.int64)
        self.place[by] = np.arange(len(by)) - first[turns[by]]
        # PyTensor (3.0.7) refuses the gradient of a look-up by a single index, see `take`.
        self.width = max(2 if t.attends is not None or batch == 1 else 1, int(self.place.max()) + 1)

    @cached_property
    def flat(self) -> Ints:
        """The place of each row among those of all wavefronts, ``[rows]``."""
        return (self.turns * self.width + self.place)[self.cell] * self.batch + self.example

    def by_step(self, values: Ints) -> Ints:
        """Lay a number for each step ``[cells]``, ``[wavefronts, width]``; 0 where there is none."""
        table = np.zeros((self.waves, self.width), np.int64)
        table[self.turns, self.place] = values
        return table

    def by_weight(self, weight: Ints, count: int) -> tuple[Ints, Ints]:
        """Give the places of the steps with each of ``count`` weights, ``[weights, most]``, -1 for no more; and for every place
        ``[wavefronts, width]`` where it stands there."""
        by = np.argsort(weight, kind="stable")
        nth = np.arange(len(by)) - np.searchsorted(weight[by], weight[by])
        members = np.full((count, int(nth.max(initial=0)) + 1), -1)
        members[weight[by], nth] = (self.turns * self.width + self.place)[by]
        spot = np.zeros((self.waves, self.width), np.int64)
        spot[self.turns[by], self.place[by]] = weight[by] * members.shape[1] + nth
        return members, spot

    def laid(self, values: Ints | int, padding: Ints | int) -> Ints:
        """Lay a number for each row: ``[wavefronts, width, batch]``, or one axis for both; ``padding`` where there is none."""
        table = np.empty((self.waves, self.width, self.batch), np.int64)
        table[:] = padding
        table.reshape(-1)[self.flat] = values
        return table if self.step_axis else table.reshape(self.waves, -1)
