"""Predictions from a model file with NumPy alone: nothing is compiled, so the first answer comes as soon as Python has started.

    predictor = gridc.predictor.load("model.grid")
    predictor.predict({"tokens": ids})

All steps of one wavefront that share weights are one product.  A ``Grid`` gives the same, and is faster once it has started:
take this where a process answers little.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from gridc import model_file
from gridc.arrays.conversion import Array, rounded
from gridc.data import fitting
from gridc.data.fitting import Call
from gridc.language import lattice, reader, shapes
from gridc.language.lattice import Ints, Mask
from gridc.language.spec import GridSpec, Input, Selection, Transform
from gridc.tables.cells import Taken

VECTORS = ("hidden", "memory")


def sigmoid(a: Array) -> Array:
    """Take the logistic function, number by number."""
    return 0.5 * (1.0 + np.tanh(0.5 * a))


def _number(value: float, like: Array) -> float:
    return value


def _relu(a: Array) -> Array:
    return np.maximum(a, 0)


def _softplus(a: Array) -> Array:
    return np.logaddexp(0, a)


def _mean(a: Array) -> Array:
    return np.mean(a, axis=-1, keepdims=True)


def _where(sign: str, a: Array, b: Array, x: Array, y: Array) -> Array:
    return np.where(COMPARE[sign](a, b), x, y)


COMPARE: Mapping[str, Any] = {">": np.greater, "<": np.less, ">=": np.greater_equal, "<=": np.less_equal}
FUNCTIONS: Any = SimpleNamespace(
    number=_number, tanh=np.tanh, sigmoid=sigmoid, relu=_relu, softplus=_softplus, exp=np.exp, log=np.log, sqrt=np.sqrt,
    sum=np.sum, max=np.max, mean=_mean, where=_where,
)
"""What a cell's rule or update calls, on arrays."""


class Predictor:
    """A trained grid that predicts; ``spec`` and ``vocabularies`` are those of its model file."""

    def __init__(
        self, spec: GridSpec, numbers: Mapping[str, Array], vocabularies: Mapping[str, tuple[str, ...]], products: str = ""
    ):
        self.spec, self.vocabularies = spec, dict(vocabularies)
        self.dtype = "float64" if any(array.dtype == np.float64 for array in numbers.values()) else "float32"
        self.numbers = {name: np.asarray(array, self.dtype) for name, array in numbers.items()}
        self.operands: Callable[[Array], Array] = rounded if products == "bfloat16" else np.asarray
        """Makes of numbers what a transform's products take."""
        for name, t in spec.transforms.items():
            mask = shapes.effective_blocks(spec, t)
            if mask is not None and t.shares is None:
                self.numbers[f"{name}.W"] = self.numbers[f"{name}.W"] * mask.astype(self.dtype)
            if f"{name}.W" in self.numbers:
                self.numbers[f"{name}.W"] = self.operands(self.numbers[f"{name}.W"])

    def predict(self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Compute every output, as ``Grid.predict`` does: ``[batch, *axes, …]``, 0 past an example's end.  Raises DataError."""
        call = fitting.check(self.spec, inputs, lengths, self.dtype)
        with np.errstate(all="ignore"):
            return _Sweep(self, call).outputs()


def load(path: str | os.PathLike[str]) -> Predictor:
    """Load the grid in a model file.  Raises DataError where it is damaged, no model, or from a newer gridc."""
    model = model_file.load(path)
    spec = reader.parse(model.spec, str(path), files=False, training=False)
    return Predictor(spec, model.parameters, model.vocabularies, model.products)


@dataclass
class _Found:
    """Where the rows of a transform find one vector: ``index`` ``[rows]`` into the table of the transform that it is of; where a
    state wraps, ``more`` is the row that is added, -1 for none; ``waits`` tells which rows wait for what they find."""

    of: Transform
    by: int
    index: Ints
    more: Ints | None
    waits: Mask


class _Sweep:
    """One call.  Row ``example × cells + cell`` of a transform's table is its vector there; after these comes its start, and then
    what enters at each place of each example."""

    def __init__(self, predictor: Predictor, call: Call):
        self.spec, self.p, self.call, self.dtype = predictor.spec, predictor.numbers, call, predictor.dtype
        self.operands = predictor.operands
        self.batch, *sizes = call.extent.tolist()
        self.sizes = tuple(sizes)
        own = lattice.filled(self.sizes, self.batch)
        for d, dimension in enumerate(self.spec.dimensions):
            if isinstance(dimension.size, str):
                own[:, d] = call.lengths[:, self.spec.symbols.index(dimension.size)]
        self.extents = own
        self.ragged = bool((own != np.array(self.sizes)).any())
        cells = lattice.points(self.sizes)
        self.cells, self.rows = len(cells), len(cells) * self.batch
        self.examples: Ints = np.arange(self.batch, dtype=np.int64)
        self.at, self.example = np.tile(cells, (self.batch, 1)), np.repeat(self.examples, len(cells))
        self.extent = own[self.example]
        self.exists: Mask = np.all(self.at < self.extent, axis=1)
        self.vectors = {x.name: self._vectors(x) for x in self.spec.inputs.values() if not x.facts}
        transforms = self.spec.transforms
        self.tables = {(name, v): self._table(t, v) for name, t in transforms.items() for v in VECTORS[: 1 + t.has_memory]}
        self.found = {name: [self._where(w) for w in self._waits(t)] for name, t in transforms.items()}

    # -- what enters --------------------------------------------------------------------------------------------------

    def _vectors(self, x: Input) -> Array:
        """Give an input's vectors ``[batch × over, width]``, and zeros after them, which -1 finds."""
        array = self.call.inputs[x.name]
        if x.kind == "features":
            flat = array.reshape(-1, x.size)
        else:
            table = self.p[f"{x.name}.embed"] if x.embed is not None else np.eye(x.size, dtype=self.dtype)
            flat = table[array.reshape(-1)]
        return np.concatenate([flat, np.zeros((1, x.width), self.dtype)])

    def _rows_of(self, x: Input, at: Ints, example: Ints, chosen: tuple[Selection, ...]) -> Ints:
        """Give the row of an input's vectors at the points, -1 where its ``at`` does not reach."""
        reached = lattice.selected(chosen, at, self.extents[example])
        return np.where(reached, lattice.flat(at, self.sizes, x.over, example), -1)

    def _table(self, t: Transform, vector: str) -> Array:
        start = self.p.get(f"{t.name}.start.{vector[0]}", np.zeros(t.hidden, self.dtype))
        own = t.along[0]
        at = lattice.points(tuple(1 if d == own else n for d, n in enumerate(self.sizes)))
        at, example = np.tile(at, (self.batch, 1)), np.repeat(self.examples, len(at))
        entry = np.tile(start, (len(at), 1))
        for x in self.spec.entering(t.name):
            if vector in x.into:
                chosen: tuple[Selection, ...] = tuple("all" if d == own else s for d, s in enumerate(x.at))
                rows = self._rows_of(x, at, example, chosen)
                made = self.vectors[x.name] @ self.p[f"{x.name}.{vector}.W"] + self.p[f"{x.name}.{vector}.b"]
                entry += np.where((rows < 0)[:, None], 0, made[rows])
        return np.concatenate([np.zeros((self.rows, t.hidden), self.dtype), start[None], entry]).astype(self.dtype)

    # -- where each row finds what it reads ---------------------------------------------------------------------------

    def _waits(self, t: Transform) -> Iterator[lattice.Wait]:
        """Give its reads, its carried states, and last what zoneout keeps."""
        yield from lattice.waits(self.spec, t, self.at, self.extent)
        if t.zoneout:
            yield lattice.find(t, -2, lattice.carried(t, self.at)[0], self.extent)

    def _where(self, wait: lattice.Wait) -> _Found:
        axes = [d for d in range(len(self.sizes)) if d != wait.of.along[0]]
        looked = np.clip(wait.looked, 0, np.array(self.sizes) - 1)  # along the other axes it lies on the grid where it enters
        entry = self.rows + 1 + lattice.flat(looked, self.sizes, axes, self.example)
        step = lattice.flat(wait.points, self.sizes, lead=self.example)
        enters = np.where(wait.entering, entry, np.int64(self.rows))
        index = np.where(wait.steps, step, enters)
        more = np.where(wait.wrapped, entry, -1) if wait.wrapped.any() else None
        return _Found(wait.of, wait.by, index, more, wait.steps & self.exists)

    def _levels(self) -> dict[str, Ints]:
        """Give every row's wavefront; -1 where an example has no such cell."""
        count = self.rows if self.ragged else self.cells  # alike in every example, unless they end apart
        levels = {name: np.zeros(count, np.int64) for name in self.found}
        waits = {name: [(f.of.name, np.where(f.waits, f.index, 0)[:count], f.waits[:count]) for f in found if f.waits.any()]
                 for name, found in self.found.items()}  # fmt: skip
        changed = True
        while changed:
            changed = False
            for name, found in waits.items():
                for of, index, there in found:
                    later = np.where(there, levels[of][index] + 1, 0)
                    if (later > levels[name]).any():
                        np.maximum(levels[name], later, out=levels[name])
                        changed = True
        copies = 1 if self.ragged else self.batch
        return {name: np.where(self.exists, np.tile(own, copies), -1) for name, own in levels.items()}

    # -- cells --------------------------------------------------------------------------------------------------------

    def outputs(self) -> dict[str, Array]:
        """Run the sweep, and read the outputs."""
        levels = self._levels()
        rows: dict[str, list[Ints]] = {}
        for name, own in levels.items():
            order: Ints = np.argsort(own, kind="stable")
            ends: Ints = np.searchsorted(own[order], np.arange(int(own.max()) + 2))
            rows[name] = [order[first:end] for first, end in itertools.pairwise(ends.tolist())]
        for level in range(max(map(len, rows.values()))):
            for name, t in self.spec.transforms.items():
                if level < len(rows[name]):
                    self._step(t, np.sort(rows[name][level]))
        return {name: self._output(name) for name in self.spec.outputs}

    def _taken(self, found: _Found, rows: Ints, vector: str) -> Array:
        table = self.tables[found.of.name, vector]
        value = table[found.index[rows]]
        if found.more is not None:
            value = value + np.where((found.more[rows] < 0)[:, None], 0, table[found.more[rows]])
        return value

    def _step(self, t: Transform, rows: Ints) -> None:
        if not len(rows):
            return
        found = self.found[t.name]
        seen = [self._taken(f, rows, "hidden") for f in found if f.by >= 0]
        for x in self.spec.joined(t.name):
            seen.append(self.vectors[x.name][self._rows_of(x, self.at[rows], self.example[rows], x.at)])
        z = np.concatenate(seen, axis=1)
        own = [f for f in found if f.by == -1]
        hidden = self._taken(own[0], rows, "hidden") if own and t.mechanism.uses_hidden else None
        memories = [self._taken(f, rows, "memory") for f in own] if t.has_memory else []
        if t.mechanism.relays:
            made: list[Any] = [z, None]
        elif t.mechanism.rule is None:
            made = [self._updated(t, rows, z, hidden), None]
        else:
            made = self._ruled(t, rows, z, hidden, memories)
        for vector, value in zip(VECTORS, made, strict=True):
            if value is not None:
                if t.zoneout:
                    value = t.zoneout * self._taken(found[-1], rows, vector) + (1 - t.zoneout) * value
                self.tables[t.name, vector][rows] = value

    def _ruled(self, t: Transform, rows: Ints, z: Array, hidden: Array | None, memories: Sequence[Array]) -> list[Any]:
        """Apply a pointwise rule, weight by weight."""
        which = lattice.weights(t, self.at[rows], self.sizes)
        a = np.empty((len(rows), len(t.gates) * t.hidden), self.dtype)
        letters = [*(["p"] if t.peephole_names() else []), *t.vectors]
        count = len(t.peephole_names()) + len(t.vectors)
        holes = np.empty((len(rows), count * t.hidden), self.dtype)
        for weight in np.unique(which):
            mine = which == weight
            a[mine] = self.operands(z[mine]) @ self._number(t, "W", weight)
            if t.bias:
                a[mine] += self._number(t, "b", weight)
            if count:
                holes[mine] = np.concatenate([self._number(t, letter, weight) for letter in letters])
        assert t.mechanism.rule is not None
        gates, peepholes = np.split(a, len(t.gates), axis=1), np.split(holes, count, axis=1) if count else ()
        return list(t.mechanism.rule(FUNCTIONS, gates, hidden, memories, peepholes, t.options))

    def _number(self, t: Transform, letter: str, weight: int) -> Array:
        array = self.p[f"{self.spec.weight_owner(t.name)}.{letter}"]
        return array.reshape(-1, *array.shape[len(t.untied) :])[weight]

    def _updated(self, t: Transform, rows: Ints, z: Array, hidden: Array | None) -> Array:
        """Apply an update of whole arrays, example by example, as each has facts of its own."""
        owned = shapes.weights(self.spec, t)
        facts = {name: self._facts(t, name) for name, weight in owned.items() if weight.facts}
        made = np.empty((len(rows), t.hidden), self.dtype)
        assert t.mechanism.update is not None
        for e in np.unique(self.example[rows]).tolist():
            mine = self.example[rows] == e
            at, seen = self.at[rows[mine]], z[mine][:, None]
            a = None
            if "W" in owned:
                which = lattice.weights(t, at, self.sizes).tolist()
                a = self.operands(seen) @ np.stack([self._number(t, "W", w) for w in which])
                a = a + np.stack([self._number(t, "b", w) for w in which])[:, None] if "b" in owned else a
            its = {name: array[..., e : e + 1, :, :] for name, array in facts.items()}
            own = None if hidden is None else hidden[mine][:, None]
            taken = Taken(seen, a, own, (), its, at[:, t.along[0]], t.options)
            made[mine] = t.mechanism.update(FUNCTIONS, taken)[0][:, 0]
        return made

    def _facts(self, t: Transform, letter: str) -> Array:
        """Embed a memory's facts, ``[batch, facts, hidden]``, or for adjacent hops one axis before."""
        x = self.spec.inputs[t.attends or ""]
        facts, w = self.call.inputs[x.name], self.p[f"{t.name}.{letter}"]
        if x.kind == "features":
            return facts @ (w if w.ndim == 2 else w[:, None])
        if x.embed is not None:
            return self.p[f"{x.name}.embed"][facts].sum(axis=2) @ (w if w.ndim == 2 else w[:, None])
        return w[facts].sum(axis=2) if w.ndim == 2 else w[:, facts].sum(axis=3)

    # -- read-outs ----------------------------------------------------------------------------------------------------

    def _output(self, name: str) -> Array:
        o = self.spec.outputs[name]
        read: list[Array] = []
        inside = np.ones((), bool)
        for tap in o.reads:
            t = self.spec.transforms[tap.transform]
            where, exists = lattice.output_points(o, t, self.sizes, self.extents)
            lead: Ints = self.examples.reshape(-1, *(1,) * (exists.ndim - 1))
            example: Ints = np.broadcast_to(lead, exists.shape)[exists]
            value = np.zeros((*exists.shape, t.hidden), self.dtype)
            rows = lattice.flat(where[exists], self.sizes, lead=example)
            value[exists] = self.tables[tap.transform, VECTORS[tap.memory]][rows]
            read.append(value.reshape(*exists.shape[:-1], -1))
            inside = inside & np.all(exists, axis=-1)
        value = np.concatenate(read, axis=-1)
        if o.kind != "raw":
            value = value @ self.p[f"{name}.W"] + self.p[f"{name}.b"]
        if o.kind == "classes":
            value = np.exp(value - value.max(axis=-1, keepdims=True))
            value = value / value.sum(axis=-1, keepdims=True)
        elif o.kind == "binary":
            value = sigmoid(value[..., 0])
        return np.where(inside if inside.ndim == value.ndim else inside[..., None], value, 0).astype(self.dtype)
