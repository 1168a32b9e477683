"""Where every wavefront of the plain lowering reads and writes, worked out for the sizes of a call.

What later wavefronts still need lives in *slots*, given out by lifetimes as registers are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gridc.language import lattice, noise
from gridc.language.lattice import Ints, carried, far_end, locate, points, source
from gridc.language.spec import GridSpec, Transform
from gridc.scheduling import graph

ZERO, TRASH, FIRST = 0, 1, 2  # slots: always zero; written and never read; the first that is given out


@dataclass(frozen=True)
class Port:
    """One vector that a transform takes in: of which transform, its hidden vector or its memory."""

    of: str
    memory: bool
    looks: Callable[[Ints], Ints]  # points of the reader → points of the source


def ports(spec: GridSpec, t: Transform) -> list[Port]:
    """The reads of a transform, then its own entering memories or hidden vector, then what zoneout may keep."""
    found = [Port(read.of, False, lambda at, read=read: source(spec, read, at)) for read in t.reads]
    for d in range(len(t.along)):
        if t.has_memory:
            found.append(Port(t.name, True, lambda at, d=d: carried(t, at)[d]))
        elif t.mechanism.uses_hidden:
            found.append(Port(t.name, False, lambda at, d=d: carried(t, at)[d]))
    if t.zoneout and not t.mechanism.uses_hidden:  # what it may keep
        found.append(Port(t.name, False, lambda at: carried(t, at)[0]))
    return found


def hides(spec: GridSpec, t: Transform, port: int) -> bool:
    """Whether a port of a transform sees another one's vector through its dropout."""
    return port < len(t.reads) and t.reads[port].of != t.name and spec.transforms[t.reads[port].of].dropout > 0


def spread(t: Transform) -> bool:
    """Whether steps and examples need an axis each, for weights or facts of their own."""
    return bool(t.untied) or t.cell == "memory"


def kinds(spec: GridSpec, dtype: str) -> tuple[tuple[str, int], ...]:
    """The dtypes and ranks of the arrays that ``plan`` makes, in its order."""
    result: list[tuple[str, int]] = []
    for t in spec.transforms.values():
        rank = 3 if spread(t) else 2
        hidden = sum(hides(spec, t, i) for i in range(len(t.reads)))
        result += [("int64", rank)] * (2 * len(ports(spec, t)) + hidden + len(spec.joined(t.name)) + bool(t.zoneout))
        result += [("int64", rank), ("int64", 2), (dtype, 1)]  # writes, weights, template of the live rows
    for o in spec.outputs.values():
        result += [("int64", 2 + len(o.axes))] * len(o.reads)
    return tuple(result)


def plan32(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> tuple[np.ndarray, ...]:
    return _Planner(spec, sizes, batch, extents).arrays("float32")


def plan64(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> tuple[np.ndarray, ...]:
    return _Planner(spec, sizes, batch, extents).arrays("float64")


class _Planner:
    """Works out, for given sizes, where every wavefront reads and writes."""

    def __init__(self, spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None):
        self.spec, self.sizes, self.batch = spec, sizes, batch
        self.at = points(sizes)
        self.extents = np.tile(np.asarray(sizes, np.int64), (batch, 1)) if extents is None else extents
        self.names = list(spec.transforms)
        self.levels = graph.build(spec, sizes, extents).levels.reshape(len(self.names), -1)
        self.waves = int(self.levels.max()) + 1
        # Every cell of every example: example fastest.
        self.example = np.tile(np.arange(batch), len(self.at))
        self.everywhere = np.repeat(self.at, batch, axis=0)
        self.extent = self.extents[self.example]
        self.exists = (self.everywhere < self.extent).all(axis=1)

    def places(self, t: Transform, memory: bool) -> int:
        """How many places there are where inputs enter along a transform, over all examples."""
        return self.batch * len(self.at) // self.sizes[t.along[0]] if _entered(self.spec, t, memory) else 0

    def find(self, t: Transform, memory: bool, looked: Ints) -> tuple[Ints, Ints]:
        """What a read of ``t`` finds: the cell whose vector it is (-1: none) and the row of what enters (``plain._boundary``)."""
        found = locate(t, looked, self.extent)
        cell = np.full(len(looked), -1)
        inside = found.inside & self.exists
        cell[inside] = np.ravel_multi_index(tuple(looked[inside].T), self.sizes)
        start = self.places(t, memory)
        zero = start + 1
        entry = np.full(len(looked), zero)
        entering = found.entering & self.exists
        entry[self.exists & ~inside] = start
        if start:
            flat = self.example.copy()
            for d, n in enumerate(self.sizes):
                if d != t.along[0]:
                    flat = flat * n + looked[:, d]
            entry[entering] = flat[entering]
        if t.start == "wrap" and entering.any():
            end, there = far_end(t, looked, self.extent)
            there &= entering
            cell[there] = np.ravel_multi_index(tuple(end[there].T), self.sizes)
        return cell, entry

    def arrays(self, dtype: str) -> tuple[np.ndarray, ...]:
        found = {
            name: [
                (p.of, p.memory, *self.find(self.spec.transforms[p.of], p.memory, p.looks(self.everywhere)))
                for p in ports(self.spec, t)
            ]
            for name, t in self.spec.transforms.items()
        }
        slots, counts = self.slots(found)
        result: list[np.ndarray] = []
        position: list[tuple[Ints, int]] = []
        for i, (name, t) in enumerate(self.spec.transforms.items()):
            levels = self.levels[i]
            by = np.argsort(levels, kind="stable")
            first = np.searchsorted(levels[by], np.arange(self.waves))
            place = np.empty(len(by), np.int64)
            place[by] = np.arange(len(by)) - first[levels[by]]
            # At least two: PyTensor (3.0.7) refuses the gradient of a look-up by a single index, see `take`.
            width = max(2, int(place.max()) + 1)
            position.append((levels * width + place, width))

            def lay(values: Ints, padding: Ints | int, levels: Ints = levels, place: Ints = place, width: int = width,
                    t: Transform = t) -> np.ndarray:  # fmt: skip
                table = np.empty((self.waves, width, self.batch), np.int64)
                table[:] = padding
                table[levels, place] = values.reshape(-1, self.batch)
                return table if spread(t) else table.reshape(self.waves, -1)

            lane = np.arange(self.batch)
            for number, (of, memory, cell, entry) in enumerate(found[name]):
                slot = np.where(cell >= 0, slots[of][np.maximum(cell, 0)], ZERO)
                result.append(lay(slot * self.batch + self.example, ZERO * self.batch + lane))
                result.append(lay(entry, self.places(self.spec.transforms[of], memory) + 1))
                if hides(self.spec, t, number):
                    looked = source(self.spec, t.reads[number], self.everywhere)
                    result.append(lay(noise.rows(self.spec, self.spec.transforms[of], looked, self.example, self.sizes), 0))
            if t.zoneout:
                result.append(lay(self.example * len(self.at) + np.repeat(np.arange(len(self.at)), self.batch), 0))
            for x in self.spec.joined(name):
                row = self.example.copy()
                for d in x.over:
                    row = row * self.sizes[d] + self.everywhere[:, d]
                reached = lattice.selected(self.spec, x.at, self.sizes, self.everywhere, self.extent) & self.exists
                result.append(lay(np.where(reached, row, -1), -1))
            result.append(lay(np.repeat(slots[name], self.batch) * self.batch + self.example, TRASH * self.batch + lane))
            chosen = np.zeros((self.waves, width), np.int64)
            hops = t.cell == "memory" and not t.untied
            chosen[levels, place] = self.at[:, t.along[0]] if hops else lattice.weights(self.spec, t, self.at, self.sizes)
            result.append(chosen)
            result.append(np.zeros(counts[name] * self.batch, dtype))
        for o in self.spec.outputs.values():
            for tap in o.reads:
                where, exists = lattice.output_points(self.spec, o, self.spec.transforms[tap.transform], self.sizes, self.extents)
                flat, _ = position[self.names.index(tap.transform)]
                example = np.broadcast_to(np.arange(self.batch).reshape(-1, *(1,) * (exists.ndim - 1)), exists.shape)
                rows = np.full(exists.shape, -1)
                cell = np.ravel_multi_index(tuple(where[exists].T), self.sizes)
                rows[exists] = flat[cell] * self.batch + example[exists]
                result.append(rows)
        return tuple(result)

    def slots(self, found: dict[str, list[tuple[str, bool, Ints, Ints]]]) -> tuple[dict[str, Ints], dict[str, int]]:
        """A slot for each step, free again after the last wavefront that reads it."""
        last = {name: np.full(len(self.at), -1) for name in self.names}
        for i, name in enumerate(self.names):
            reader = np.repeat(self.levels[i], self.batch)
            for of, _, cell, _ in found[name]:
                np.maximum.at(last[of], cell[cell >= 0], reader[cell >= 0])
        slots: dict[str, Ints] = {}
        counts: dict[str, int] = {}
        for i, name in enumerate(self.names):
            levels, until = self.levels[i], last[name]
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


def _entered(spec: GridSpec, t: Transform, memory: bool) -> bool:
    """Whether an input is projected into this vector of a transform."""
    return any(("memory" if memory else "hidden") in x.into for x in spec.entering(t.name))
