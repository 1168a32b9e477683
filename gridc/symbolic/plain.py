"""The plain lowering: one Scan over wavefronts, in ordinary PyTensor ops, for every backend that has Scan.

A wavefront's steps run side by side.  What later wavefronts still need lives in *slots*, given out by lifetimes as
registers are; what enters the grid and what joins it is gathered before the Scan, as sequences.
"""

# pyright: basic

from __future__ import annotations

import heapq
import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridc.language import noise
from gridc.language.lattice import Ints, carried, far_end, locate, points, source
from gridc.language.spec import GridSpec, Transform
from gridc.scheduling import graph, layout
from gridc.symbolic.indices import index_arrays
from gridc.symbolic.wiring import Variable, Wiring, take

# PyTensor says of most of its functions neither what they take nor what they give.
pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")

ZERO, TRASH, FIRST = 0, 1, 2  # slots: always zero; written and never read; the first that is given out


class Ops:
    """The namespace in which a cell's rule becomes a graph."""

    @staticmethod
    def tanh(a: Variable) -> Variable:
        return pt.tanh(a)

    @staticmethod
    def sigmoid(a: Variable) -> Variable:
        return pt.sigmoid(a)

    @staticmethod
    def relu(a: Variable) -> Variable:
        return pt.maximum(a, pt.zeros((), a.dtype))


@dataclass(frozen=True)
class Port:
    """One vector that a transform takes in: of which transform, its hidden vector or its memory."""

    of: str
    memory: bool
    looks: Any  # points of the reader → points of the source


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
        """What a read of ``t`` finds: the cell whose vector it is (-1: none) and the row of what enters (see ``boundary``)."""
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

            def lay(values: Ints, padding: Any, levels: Ints = levels, place: Ints = place, width: int = width,
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
                reached = layout.selected(self.spec, x.at, self.sizes, self.everywhere, self.extent) & self.exists
                result.append(lay(np.where(reached, row, -1), -1))
            result.append(lay(np.repeat(slots[name], self.batch) * self.batch + self.example, TRASH * self.batch + lane))
            chosen = np.zeros((self.waves, width), np.int64)
            hops = t.cell == "memory" and not t.untied
            chosen[levels, place] = self.at[:, t.along[0]] if hops else layout.weights(self.spec, t, self.at, self.sizes)
            result.append(chosen)
            result.append(np.zeros(counts[name] * self.batch, dtype))
        for o in self.spec.outputs.values():
            for tap in o.reads:
                where, exists = layout.output_points(self.spec, o, self.spec.transforms[tap.transform], self.sizes, self.extents)
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


def sweep(wiring: Wiring) -> tuple[dict[str, list[Variable]], list[Variable]]:
    """What every output reads, ``[batch, *axes, cells × hidden]`` for each of its reads, and the index arrays."""
    spec, dtype = wiring.spec, wiring.dtype
    chosen = plan32 if dtype == "float32" else plan64
    arrays = index_arrays(spec, chosen, kinds(spec, dtype), wiring.extent, wiring.lengths, wiring.static)
    feed = iter(arrays)
    sequences: list[Variable] = []
    constant: dict[str, tuple[Variable | None, ...]] = {}
    live: list[Variable] = []
    transforms = list(spec.transforms.values())
    boundary = {(t.name, memory): _boundary(wiring, t, memory) for t in transforms for memory in {False, t.has_memory}}
    for t in transforms:
        for i, port in enumerate(ports(spec, t)):
            slot, entry = next(feed), next(feed)
            rows = boundary[port.of, port.memory]
            sequences += [slot] if rows is None else [slot, take(rows, entry)]
            if hides(spec, t, i):
                sequences += _masked(wiring, f"{port.of}.dropout", next(feed))
        if t.zoneout:
            row = next(feed)
            sequences += [m for letter in "hm" for m in _masked(wiring, f"{t.name}.zoneout.{letter}", row)]
        for x in spec.joined(t.name):
            row = next(feed)
            value = take(wiring.joined[x.name], pt.maximum(row, 0))
            sequences.append(pt.where((row < 0)[..., None], pt.zeros((), dtype), value))
        writes, chosen, template = next(feed), next(feed), next(feed)
        sequences += [writes, chosen]
        live += [template[:, None] + np.zeros((1, t.hidden), dtype)] * (2 if t.has_memory else 1)
        constant[t.name] = _constants(wiring, t)
    tapped = sorted({(tap.transform, tap.memory) for o in spec.outputs.values() for tap in o.reads})

    # Transforms that share weights bring them once.
    distinct = {id(v): v for values in constant.values() for v in values if v is not None}

    def wavefront(*variables: Variable) -> list[Variable]:
        given = iter(variables)
        per_step = [next(given) for _ in sequences]
        state = [next(given) for _ in live]
        inner = dict(zip(distinct, given, strict=True))
        own = {name: [None if v is None else inner[id(v)] for v in values] for name, values in constant.items()}
        return _wavefront(wiring, iter(per_step), state, own, boundary, tapped)

    # The number of steps is told: the shortest of all sequences would be a large expression, which every array
    # that the Scan and its gradient make is then looked through for, at twice the time to build.
    with warnings.catch_warnings():
        # Later than 3.0 the inner graph may inherit the mode of the function around it, and being told is to go; 3.0 needs it.
        warnings.filterwarnings("ignore", "The `mode` argument of `scan` is deprecated", FutureWarning)
        results = pytensor.scan(
            wavefront, sequences=sequences, outputs_info=[*live, *[None] * len(tapped)],
            non_sequences=list(distinct.values()), n_steps=writes.shape[0], strict=True, return_updates=False,
            mode=wiring.scan,
        )  # fmt: skip
    results = results if isinstance(results, list) else [results]
    history = dict(zip(tapped, results[len(live) :], strict=True))
    taps: dict[str, list[Variable]] = {}
    for name, o in spec.outputs.items():
        taps[name] = []
        for tap in o.reads:
            rows, hidden = next(feed), spec.transforms[tap.transform].hidden
            table = history[tap.transform, tap.memory].reshape((-1, hidden))
            cells = int(np.prod([len(s) for s in o.at if isinstance(s, tuple)], dtype=int))
            picked = [_picked(table, rows[..., c], dtype) for c in range(cells)]
            taps[name].append(picked[0] if cells == 1 else pt.concatenate(picked, axis=-1))
    return taps, arrays


def _picked(table: Variable, rows: Variable, dtype: str) -> Variable:
    return pt.where((rows < 0)[..., None], pt.zeros((), dtype), take(table, pt.maximum(rows, 0)))


def _masked(wiring: Wiring, name: str, rows: Variable) -> list[Variable]:
    """These rows of a mask, where one was drawn."""
    mask = wiring.masks.get(name)
    return [] if mask is None else [mask.reshape((-1, mask.type.shape[-1]))[rows]]


def _boundary(wiring: Wiring, t: Transform, memory: bool) -> Variable | None:
    """The rows of what enters: every place of every example, then the start alone, then zeros; None where all are zero."""
    vector = "memory" if memory else "hidden"
    start = wiring.start(t.name, vector)
    entry, shift = wiring.entries.get((t.name, vector), (None, None))
    if entry is None and start is None:
        return None
    zero = pt.zeros((1, t.hidden), dtype=wiring.dtype)
    one = zero if start is None else start[None, :]
    if entry is not None and shift is not None:
        entry = entry + shift
    return pt.concatenate([one, zero] if entry is None else [entry, one, zero], axis=0)


def _entered(spec: GridSpec, t: Transform, memory: bool) -> bool:
    """Whether an input is projected into this vector of a transform."""
    return any(("memory" if memory else "hidden") in x.into for x in spec.entering(t.name))


def _constants(wiring: Wiring, t: Transform) -> tuple[Variable | None, ...]:
    facts = wiring.facts.get(t.name, {})
    w, b, p = wiring.weights[t.name]
    if t.untied and w is not None:
        flat = lambda v, n: None if v is None else v.reshape((-1, *[int(s) for s in v.type.shape[-n:]]))  # noqa: E731
        w, b, p = flat(w, 2), flat(b, 1), flat(p, 1)
    return (w, b, p, facts.get("A"), facts.get("C"), facts.get("E"))


def _wavefront(
    wiring: Wiring, sequence: Iterator[Variable], state: list[Variable], constant: dict[str, list[Variable | None]],
    boundary: dict[tuple[str, bool], Variable | None], tapped: list[tuple[str, bool]],
) -> list[Variable]:  # fmt: skip
    """One wavefront: every transform reads the slots as they were, then all are written."""
    spec = wiring.spec
    place: dict[tuple[str, bool], int] = {}
    for t in spec.transforms.values():
        for memory in (False, True)[: 1 + t.has_memory]:
            place[t.name, memory] = len(place)
    after = list(state)
    new: dict[tuple[str, bool], Variable] = {}
    for t in spec.transforms.values():
        taken: list[Variable] = []
        for i, port in enumerate(ports(spec, t)):
            vector = state[place[port.of, port.memory]][next(sequence)]
            vector = vector if boundary[port.of, port.memory] is None else vector + next(sequence)
            masked = hides(spec, t, i) and f"{port.of}.dropout" in wiring.masks
            taken.append(vector * next(sequence) if masked else vector)
        keeps = [next(sequence) for letter in "hm" if f"{t.name}.zoneout.{letter}" in wiring.masks]
        joined = [next(sequence) for _ in spec.joined(t.name)]
        writes, chosen = next(sequence), next(sequence)
        own = taken[len(t.reads) :]
        vectors = _update(t, taken[: len(t.reads)] + joined, own[: len(t.along)], chosen, constant[t.name])
        if t.zoneout:
            vectors = _zoned_out(t, vectors, own, keeps, wiring.dtype)
        for memory, vector in zip((False, True), vectors, strict=False):
            if vector is not None:
                key = (t.name, memory)
                after[place[key]] = pt.set_subtensor(after[place[key]][writes], vector)
                new[key] = vector
    return [*after, *(new[key] for key in tapped)]


def _zoned_out(
    t: Transform, new: tuple[Variable, Variable | None], own: list[Variable], keeps: list[Variable], dtype: str
) -> tuple[Variable, Variable | None]:
    """New vectors of which a part is the old one: by the masks that were drawn, or on the average."""
    old = (own[-1], own[0] if t.has_memory else None)
    keeps = keeps or [pt.as_tensor(np.asarray(t.zoneout, dtype))] * 2
    mixed = [None if v is None else keep * o + (1 - keep) * v for v, o, keep in zip(new, old, [*keeps, keeps[0]], strict=False)]
    return mixed[0], mixed[1]


def _update(
    t: Transform, reads: list[Variable], own: list[Variable], chosen: Variable, constants: list[Variable]
) -> tuple[Variable, Variable | None]:
    """The new hidden and memory vectors of a transform's steps in one wavefront; a constant that is absent is None."""
    w, b, p, a, c, e = constants
    z = reads[0] if len(reads) == 1 else pt.concatenate(reads, axis=-1)
    if t.cell == "pass":
        return z, None
    pick = lambda v: None if v is None else (v[chosen][:, None] if t.untied else v)  # noqa: E731
    b, p = pick(b), pick(p)
    product = None if w is None else (pt.matmul(z, w[chosen]) if t.untied else z @ w)
    if product is not None and b is not None:
        product = product + b
    if t.cell == "memory":
        keys, values = (e[chosen], e[chosen + 1]) if e is not None else (a[None], c[None])
        score = pt.sum(z[:, :, None, :] * keys, axis=-1)
        weight = pt.exp(score - pt.max(score, axis=-1, keepdims=True))
        weight = weight / pt.sum(weight, axis=-1, keepdims=True)
        found = pt.sum(weight[..., None] * values, axis=-2)
        return (z if product is None else product) + found, None
    assert product is not None
    assert t.mechanism.rule is not None
    parts = [product[..., k * t.hidden : (k + 1) * t.hidden] for k in range(len(t.gates))]
    holes = [p[..., k * t.hidden : (k + 1) * t.hidden] for k in range(len(t.peephole_names()))] if p is not None else []
    hidden = own[0] if t.mechanism.uses_hidden else None
    return t.mechanism.rule(Ops, parts, hidden, own if t.has_memory else [], holes, t.options)
