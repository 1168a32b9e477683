"""What ``language.md`` says, in nested loops: the reference that every compiled grid is compared with.

Nothing here comes from gridc, and nothing is clever.  A spec is the plain dict that YAML would load; every
default is filled in here a second time, on purpose.  Every example is computed alone, as a grid of its own
sizes, one step after another; a *step*, ``(transform, coordinate)``, is one transform's update at one cell.

Dropout and zoneout are those of a prediction: nothing is hidden, and a kept value is an expected one.

The only trick is that parameters carry a leading axis of *variants*, one for a prediction and one for each
shifted entry in a finite difference, so that many nearly equal grids are swept at once.  Every vector is
``[variants, units]``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from own_cell import OwnCell

Array = np.ndarray
Coordinate = tuple[int, ...]
Step = tuple[str, Coordinate]
State = tuple[Array, Array | None]
Selection = Literal["all", "first", "last"] | tuple[int, ...]
SpecDict = Mapping[str, Any]

# -- cells ---------------------------------------------------------------------------------------------------


def sigmoid(a: Array) -> Array:
    return np.exp(-np.logaddexp(0, -a))


def softmax(a: Array) -> Array:
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": sigmoid,
    "identity": lambda a: a,
}

WITH_MEMORY = ("lstm", "lstm-paper", "leaky-lstm")
WITH_OWN_STATE = (*WITH_MEMORY, "gru", "highway", "memory")
WITHOUT_WEIGHTED_READS = ("pass", "memory")
WITH_PEEPHOLES = ("lstm", "lstm-paper")


def number_of_gates(cell: str, dimensions: int) -> int:
    """How many blocks of ``hidden`` columns ``W`` has."""
    if cell in ("lstm", "lstm-paper"):
        return 3 + dimensions  # u f_1 … f_n o c
    return {"gru": 4, "dense": 1, "highway": 2, "leaky-lstm": 5, "memory": 1}[cell]


def number_of_peepholes(dimensions: int) -> int:
    """How many vectors ``p`` has: ``u_1 … u_n f_1 … f_n o``."""
    return 2 * dimensions + 1


def lstm(a: Array, m: list[Array], paper: bool, peepholes: Array | None = None) -> State:
    """``u f_1 … f_n o c``, with a forget gate for each of the memories that enter.

    Through its peepholes the input gate sees all the memories that enter, each forget gate its own, and the
    output gate the new one (Graves, Fernández and Schmidhuber 2007).
    """
    n = len(m)
    u, *fs, o, c = np.split(a, 3 + n, axis=-1)
    if peepholes is not None:
        *holes, o_hole = np.split(peepholes, number_of_peepholes(n), axis=-1)
        u = u + sum(hole * m_d for hole, m_d in zip(holes[:n], m, strict=True))
        fs = [f + hole * m_d for f, hole, m_d in zip(fs, holes[n:], m, strict=True)]
    new = sigmoid(u) * np.tanh(c)
    for f, m_d in zip(fs, m, strict=True):
        new = new + sigmoid(f) * m_d
    if peepholes is not None:
        o = o + o_hole * new
    return (np.tanh(sigmoid(o) * new) if paper else sigmoid(o) * np.tanh(new)), new


def leaky_lstm(a: Array, m: list[Array]) -> State:
    u, f, leak, o, c = np.split(a, 5, axis=-1)
    m_1, m_2 = m
    mixed = sigmoid(leak) * m_1 + (1 - sigmoid(leak)) * m_2
    new = sigmoid(f) * mixed + sigmoid(u) * np.tanh(c)
    return sigmoid(o) * np.tanh(new), new


def gru(z: Array, h: Array, own: Array, weights: Array, bias: Array) -> Array:
    """``own`` says which rows of ``W`` meet the own entering hidden vector."""
    w_r, w_v, w_c, w_s = np.split(weights, 4, axis=-1)
    b_r, b_v, b_c, b_s = np.split(bias, 4, axis=-1)
    r = sigmoid(product(z, w_r) + b_r)
    v = sigmoid(product(z, w_v) + b_v)
    a_c = product(z[:, ~own], w_c[:, ~own]) + b_c
    a_s = product(z[:, own], w_s[:, own]) + b_s
    return v * h + (1 - v) * np.tanh(a_c + r * a_s)


def highway(a: Array, h: Array) -> Array:
    c, g = np.split(a, 2, axis=-1)
    return sigmoid(g) * np.tanh(c) + (1 - sigmoid(g)) * h


def hop(h: Array, keys: Array, values: Array, linear: bool) -> Array:
    """What a query finds among the facts; keys and values are ``[variants, facts, hidden]``."""
    products = (keys * h[:, None, :]).sum(axis=-1)
    attention = products if linear else softmax(products)
    return (attention[:, :, None] * values).sum(axis=1)


def product(z: Array, weights: Array) -> Array:
    """A vector times a matrix, variant by variant."""
    return (z[:, None, :] @ weights)[:, 0, :]


# -- a spec, with its defaults filled in ---------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """The vector of ``of`` at an ``offset``, or, where there is a ``via``, the one that enters along it."""

    of: str
    offset: Coordinate = ()
    via: int | None = None


@dataclass(frozen=True)
class Transform:
    name: str
    cell: str
    hidden: int
    along: tuple[int, ...]
    ways: tuple[
        tuple[tuple[int, ...], int | None], ...
    ]  # for each of along: a cycle of ±1, and what it is over
    untied: tuple[int, ...]
    reads: tuple[Read, ...]
    start: str
    wrap: Coordinate
    weights: str  # whose W, b and p it uses
    bias: bool
    activation: str
    peepholes: bool
    attends: str | None
    embeddings: str
    linear: bool
    zoneout: float
    own: OwnCell | None = None  # a cell of the page's own

    @property
    def keeps_memory(self) -> bool:
        return self.own.keeps_memory if self.own else self.cell in WITH_MEMORY

    @property
    def carries(self) -> bool:
        """Whether a step needs what enters along its own dimensions, be it read or not."""
        uses_hidden = self.own is not None and self.own.uses_hidden
        return self.keeps_memory or uses_hidden or self.cell in WITH_OWN_STATE or self.zoneout > 0


@dataclass(frozen=True)
class Input:
    name: str
    vocabulary: bool
    size: int
    embed: int | None
    enters: str | None
    into: tuple[str, ...]
    joins: tuple[str, ...]
    at: tuple[Selection, ...]
    over: tuple[int, ...]
    facts: bool

    @property
    def width(self) -> int:
        return self.embed or self.size


@dataclass(frozen=True)
class Output:
    name: str
    taps: tuple[tuple[str, bool], ...]  # transform, and whether its memory is meant
    at: tuple[Selection, ...]
    kind: str
    size: int
    loss: str


@dataclass(frozen=True)
class Source:
    """Where a vector comes from: the sum of a step's state, a learned start and the inputs that enter."""

    of: str
    step: Coordinate | None = None
    learned: bool = False
    entry: Coordinate | None = None


KEYS = {
    "transforms": "cell hidden along direction tied shares reads start bias forget_bias init activation"
    " peepholes attends embeddings attention dropout zoneout",
    "inputs": "features vocabulary embed enters into joins at over facts init",
    "outputs": "reads at classes binary features raw loss init",
}
LOSSES = {
    "classes": "cross_entropy",
    "binary": "binary_cross_entropy",
    "features": "squared_error",
    "raw": "squared_error",
}


class Grid:
    """A spec with every default filled in, dimensions as indices, and the rules of what is read where."""

    def __init__(self, spec: SpecDict):
        for section, keys in KEYS.items():
            for name, entry in spec.get(section, {}).items():
                if unknown := set(entry) - set(keys.split()):
                    raise ValueError(f"{section} {name}: language.md has no {sorted(unknown)}")
        self.spec = spec
        self.axes: list[str] = list(spec["dimensions"])
        self.extents: list[int | str] = list(spec["dimensions"].values())
        self.rank = self._ranks()
        self.transforms = {name: self._transform(name, t) for name, t in spec["transforms"].items()}
        self.inputs = {name: self._input(name, i) for name, i in spec.get("inputs", {}).items()}
        self.outputs = {name: self._output(name, o) for name, o in spec.get("outputs", {}).items()}

    def _ranks(self) -> dict[str, int]:
        """The place of every transform's group in the priority order."""
        groups = [[g] if isinstance(g, str) else list(g) for g in self.spec.get("priority") or []]
        ranks = {name: k for k, group in enumerate(groups) for name in group}
        return {name: ranks.get(name, 0) for name in self.spec["transforms"]}

    def _axis(self, name: str) -> int:
        return self.axes.index(name)

    def _along(self, name: str) -> tuple[int, ...]:
        along = self.spec["transforms"][name].get("along", name)
        return tuple(self._axis(d) for d in ([along] if isinstance(along, str) else along))

    def _hidden(self, name: str) -> int:
        """Units; those of a `pass` follow from what it reads."""
        entry = self.spec["transforms"][name]
        if "hidden" in entry:
            return int(entry["hidden"])
        (read,) = entry["reads"]
        return self._hidden(read if isinstance(read, str) else read["of"])

    def _offset(self, offset: Mapping[str, int]) -> Coordinate:
        return tuple(offset.get(d, 0) for d in self.axes)

    def _transform(self, name: str, entry: SpecDict) -> Transform:
        along = self._along(name)
        tied = entry.get("tied", "all")
        tied = self.axes if tied == "all" or entry["cell"] == "pass" else [] if tied == "none" else tied
        start = entry.get("start", "zeros")
        reads: list[Read] = []
        for read in [name] if entry["cell"] == "memory" else entry.get("reads", self.spec["transforms"]):
            if not isinstance(read, str):
                reads.append(Read(read["of"], self._offset(read["offset"])))
            elif self.rank[read] < self.rank[name]:
                reads.append(Read(read, self._offset({})))
            else:
                reads.extend(Read(read, via=d) for d in self._along(read))
        return Transform(
            name=name,
            cell=entry["cell"],
            hidden=self._hidden(name),
            along=along,
            ways=tuple(self._way(entry.get("direction", "forward"), d) for d in along),
            untied=tuple(d for d, axis in enumerate(self.axes) if axis not in tied),
            reads=tuple(reads),
            start="wrap" if isinstance(start, Mapping) else start,
            wrap=self._offset(start["wrap"]) if isinstance(start, Mapping) else (),
            weights=entry.get("shares", name),
            bias=entry.get("bias", True),
            activation=entry.get("activation", "tanh"),
            peepholes=entry.get("peepholes", False),
            attends=entry.get("attends"),
            embeddings=entry.get("embeddings", "layerwise"),
            linear=entry.get("attention") == "linear",
            zoneout=entry.get("zoneout", 0.0),
            own=OwnCell(own, len(along)) if (own := self.spec.get("cells", {}).get(entry["cell"])) else None,
        )

    def _way(self, direction: Any, axis: int) -> tuple[tuple[int, ...], int | None]:
        signs = {"forward": 1, "backward": -1}
        if isinstance(direction, str):
            return (signs[direction],), None
        if set(direction) == {"over", "cycle"}:
            return tuple(signs[word] for word in direction["cycle"]), self._axis(direction["over"])
        return self._way(direction.get(self.axes[axis], "forward"), axis)

    def _selection(self, at: Mapping[str, Any]) -> tuple[Selection, ...]:
        words = [at.get(d, "all") for d in self.axes]
        return tuple(w if isinstance(w, str) else (w,) if isinstance(w, int) else tuple(w) for w in words)  # type: ignore[misc]

    def _input(self, name: str, entry: SpecDict) -> Input:
        at = self._selection(entry.get("at", {}))
        enters = entry.get("enters")
        facts = bool(entry.get("facts", False))
        if "over" in entry:
            over = [self._axis(d) for d in entry["over"]]
        elif facts:
            over = []
        elif enters is not None:
            over = [d for d in range(len(self.axes)) if d not in self._along(enters)]
        else:
            over = [d for d in range(len(self.axes)) if at[d] == "all"]
        into: tuple[str, ...] = ()
        if enters is not None:
            both = ("hidden", "memory") if self.transforms[enters].keeps_memory else ("hidden",)
            into = tuple(entry.get("into", both))
        return Input(
            name=name,
            vocabulary="vocabulary" in entry,
            size=entry["vocabulary"] if "vocabulary" in entry else entry["features"],
            embed=entry.get("embed"),
            enters=enters,
            into=into,
            joins=tuple(entry.get("joins", ())),
            at=at,
            over=tuple(over),
            facts=facts,
        )

    def _output(self, name: str, entry: SpecDict) -> Output:
        (kind,) = (kind for kind in LOSSES if kind in entry)
        at = self._selection(entry.get("at", {}))
        taps = tuple((tap.removesuffix(".memory"), tap.endswith(".memory")) for tap in entry["reads"])
        cells = int(np.prod([len(s) for s in at if isinstance(s, tuple)], dtype=int))
        width = cells * sum(self.transforms[t].hidden for t, _ in taps)
        size = {"binary": 1, "raw": width}.get(kind) or entry[kind]
        return Output(name, taps, at, kind, size, entry.get("loss", LOSSES[kind]))

    # -- sizes and shapes ------------------------------------------------------------------------------------

    def sizes(self, binding: Mapping[str, int]) -> Coordinate:
        return tuple(int(binding[e]) if isinstance(e, str) else e for e in self.extents)

    def rows(self, t: Transform) -> int:
        reads = sum(self.transforms[read.of].hidden for read in t.reads)
        return reads + sum(i.width for i in self.inputs.values() if t.name in i.joins)

    def own_rows(self, t: Transform) -> Array:
        """Which rows of ``W`` meet the own hidden vector that enters: reads of itself one step back."""
        own: list[bool] = []
        for read in t.reads:
            ((cycle, _),) = t.ways
            back = tuple(-cycle[0] if d == t.along[0] else 0 for d in range(len(self.axes)))
            one_back = read.via is not None or (len(set(cycle)) == 1 and read.offset == back)
            own += [read.of == t.name and one_back] * self.transforms[read.of].hidden
        return np.array(own + [False] * (self.rows(t) - len(own)), dtype=bool)

    def shapes(self, binding: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        result: dict[str, tuple[int, ...]] = {}

        def extent(d: int) -> int:
            e = self.extents[d]
            return binding[e] if isinstance(e, str) else e

        for name, t in self.transforms.items():
            untied = tuple(extent(d) for d in t.untied)
            adjacent = t.cell == "memory" and t.embeddings == "adjacent"
            if t.weights == name and t.cell != "pass" and not adjacent:
                gates = len(t.own.places("gates")) if t.own else number_of_gates(t.cell, len(t.along))
                columns = gates * t.hidden
                result[f"{name}.W"] = (*untied, self.rows(t), columns)
                if t.bias:
                    result[f"{name}.b"] = (*untied, columns)
                if t.peepholes:
                    result[f"{name}.p"] = (*untied, number_of_peepholes(len(t.along)) * t.hidden)
                for vector in t.own.names("vectors") if t.own else ():
                    result[f"{name}.{vector}"] = (*untied, t.hidden)
            if t.cell == "memory":
                facts = self.inputs[str(t.attends)].width
                if adjacent:
                    result[f"{name}.E"] = (extent(t.along[0]) + 1, facts, t.hidden)
                else:
                    result[f"{name}.A"] = result[f"{name}.C"] = (facts, t.hidden)
            if t.start == "learned":
                result[f"{name}.start.h"] = (t.hidden,)
                if t.keeps_memory:
                    result[f"{name}.start.m"] = (t.hidden,)
        for name, i in self.inputs.items():
            if i.embed is not None:
                result[f"{name}.embed"] = (i.size, i.embed)
            for part in i.into:
                hidden = self.transforms[str(i.enters)].hidden
                result[f"{name}.{part}.W"] = (i.width, hidden)
                result[f"{name}.{part}.b"] = (hidden,)
        for name, o in self.outputs.items():
            if o.kind != "raw":
                cells = int(np.prod([len(s) for s in o.at if isinstance(s, tuple)], dtype=int))
                result[f"{name}.W"] = (cells * sum(self.transforms[t].hidden for t, _ in o.taps), o.size)
                result[f"{name}.b"] = (o.size,)
        return result

    # -- what is read from where -----------------------------------------------------------------------------

    def direction(self, t: Transform, axis: int, p: Coordinate) -> int:
        """+1 or -1: the way that a transform travels along an axis, at a cell."""
        cycle, over = t.ways[t.along.index(axis)]
        return cycle[0] if over is None else cycle[p[over] % len(cycle)]

    def start(self, u: Transform) -> Source:
        """The start alone, without the inputs that enter."""
        return Source(u.name, learned=u.start == "learned")

    def entry(self, u: Transform, o: Coordinate, sizes: Coordinate) -> Source:
        """What enters the grid along ``u`` at ``o``, whose index on ``u``'s own dimension says nothing."""
        if len(u.along) > 1:
            return self.start(u)
        if u.start != "wrap":
            return Source(u.name, learned=u.start == "learned", entry=o)
        axis = u.along[0]
        far = moved(o, u.wrap)
        if any(d != axis and not 0 <= far[d] < sizes[d] for d in range(len(sizes))):
            return Source(u.name, entry=o)
        last = sizes[axis] - 1 if self.direction(u, axis, far) > 0 else 0
        return Source(u.name, step=replaced(far, axis, last), entry=o)

    def entering(self, u: Transform, p: Coordinate, axis: int, sizes: Coordinate) -> Source:
        """The state of ``u`` that enters the cell ``p`` along one of its own dimensions."""
        back = replaced(p, axis, p[axis] - self.direction(u, axis, p))
        return Source(u.name, step=back) if 0 <= back[axis] < sizes[axis] else self.entry(u, p, sizes)

    def found(self, read: Read, p: Coordinate, sizes: Coordinate) -> Source:
        """What a read finds, seen from the cell ``p``."""
        u = self.transforms[read.of]
        if read.via is not None:
            return self.entering(u, p, read.via, sizes)
        q = moved(p, read.offset)
        outside = tuple(d for d in range(len(sizes)) if not 0 <= q[d] < sizes[d])
        if not outside:
            return Source(u.name, step=q)
        if outside == u.along:  # on its own dimension alone: behind its first cell, or ahead of its last?
            axis = u.along[0]
            if (q[axis] < 0) == (self.direction(u, axis, q) > 0):
                return self.entry(u, q, sizes)
        return self.start(u)

    def carried(self, t: Transform, p: Coordinate, sizes: Coordinate) -> list[Source]:
        """The own states that enter a cell, one for each of the transform's own dimensions."""
        return [self.entering(t, p, axis, sizes) for axis in t.along]

    def dependencies(self, t: Transform, p: Coordinate, sizes: Coordinate) -> list[Step]:
        sources = [self.found(read, p, sizes) for read in t.reads]
        if t.carries:
            sources += self.carried(t, p, sizes)
        return list(dict.fromkeys((s.of, s.step) for s in sources if s.step is not None))

    def steps(self, sizes: Coordinate) -> dict[Step, list[Step]]:
        result: dict[Step, list[Step]] = {}
        for name, t in self.transforms.items():
            for p in cells(sizes):
                result[name, p] = self.dependencies(t, p, sizes)
        return result

    def selected(self, i: Input, p: Coordinate, sizes: Coordinate, but: Iterable[int] = ()) -> bool:
        """Whether an input reaches a cell, whatever its index on the dimensions ``but``."""
        for d, selection in enumerate(i.at):
            if d in but or selection == "all":
                continue
            if selection == "first":
                chosen: tuple[int, ...] = (0,)
            elif selection == "last":
                chosen = (sizes[d] - 1,)
            else:
                chosen = selection
            if p[d] not in chosen:
                return False
        return True

    def tapped(self, o: Output, u: Transform, position: Coordinate, sizes: Coordinate) -> list[Coordinate]:
        """The cells at which an output reads a transform, for one position of the output's own array."""
        result: list[Coordinate] = []
        listed = [s if isinstance(s, tuple) else (position[d],) for d, s in enumerate(o.at)]
        for p in itertools.product(*listed):
            # Own dimensions come second: the direction along them may hang on the index on another dimension.
            for ours in (False, True):
                for d, selection in enumerate(o.at):
                    if selection in ("first", "last") and (d in u.along) == ours:
                        forward = self.direction(u, d, p) > 0 if ours else True
                        p = replaced(p, d, 0 if (selection == "first") == forward else sizes[d] - 1)
            result.append(p)
        return result


def cells(sizes: Coordinate) -> Iterator[Coordinate]:
    return itertools.product(*map(range, sizes))


def moved(p: Coordinate, offset: Coordinate) -> Coordinate:
    return tuple(a + b for a, b in zip(p, offset, strict=True))


def replaced(p: Coordinate, axis: int, index: int) -> Coordinate:
    return (*p[:axis], index, *p[axis + 1 :])


def longest_paths(graph: Mapping[Step, Sequence[Step]]) -> dict[Step, int]:
    """The level of every step, in an order of execution; ValueError where steps wait for each other."""
    missing = {step: len(needed) for step, needed in graph.items()}
    feeds: dict[Step, list[Step]] = {step: [] for step in graph}
    for step, needed in graph.items():
        for other in needed:
            feeds[other].append(step)
    result: dict[Step, int] = {}
    front = [step for step, count in missing.items() if count == 0]
    level = 0
    while front:
        result.update(dict.fromkeys(front, level))
        after: list[Step] = []
        for step in front:
            for other in feeds[step]:
                missing[other] -= 1
                if missing[other] == 0:
                    after.append(other)
        front, level = after, level + 1
    if len(result) < len(graph):
        raise ValueError(f"steps wait for each other: {[step for step in graph if step not in result][:8]}")
    return result


# -- one example after another -------------------------------------------------------------------------------


@dataclass
class Example:
    """One example's grid: its own sizes, its own rows of the inputs, and parameters ``[variants, …]``."""

    grid: Grid
    sizes: Coordinate
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Array]
    variants: int
    states: dict[Step, State] = field(default_factory=dict)

    def run(self, order: Iterable[Step]) -> None:
        for name, p in order:
            self.states[name, p] = self.step(self.grid.transforms[name], p)

    def constant(self, vector: Array) -> Array:
        return np.broadcast_to(np.asarray(vector, dtype=np.float64), (self.variants, len(vector)))

    def projected(self, name: str, vector: Array) -> Array:
        return product(vector, self.parameters[f"{name}.W"]) + self.parameters[f"{name}.b"]

    def vector(self, i: Input, p: Coordinate) -> Array:
        """The vector of an input at a cell: features, one-hot, or an embedding."""
        x = self.inputs[i.name][tuple(p[d] for d in i.over)]
        if not i.vocabulary:
            return self.constant(x)
        if i.embed is not None:
            return self.parameters[f"{i.name}.embed"][:, int(x)]
        return self.constant(np.eye(i.size)[int(x)])

    def value(self, source: Source) -> State:
        """The hidden and memory vectors that a source stands for."""
        u = self.grid.transforms[source.of]
        h = np.zeros((self.variants, u.hidden))
        m = np.zeros((self.variants, u.hidden)) if u.keeps_memory else None
        if source.step is not None:
            h, m = self.states[u.name, source.step]
        if source.learned:
            h = h + self.parameters[f"{u.name}.start.h"]
            m = None if m is None else m + self.parameters[f"{u.name}.start.m"]
        if source.entry is None:
            return h, m
        for i in self.grid.inputs.values():
            if i.enters != u.name or not self.grid.selected(i, source.entry, self.sizes, but=u.along):
                continue
            x = self.vector(i, source.entry)
            if "hidden" in i.into:
                h = h + self.projected(f"{i.name}.hidden", x)
            if m is not None and "memory" in i.into:
                m = m + self.projected(f"{i.name}.memory", x)
        return h, m

    def step(self, t: Transform, p: Coordinate) -> State:
        """One update of one transform: what it reads, what joins, what it carries, its cell."""
        parts = [self.value(self.grid.found(read, p, self.sizes))[0] for read in t.reads]
        for i in self.grid.inputs.values():
            if t.name in i.joins:
                here = self.grid.selected(i, p, self.sizes)
                parts.append(self.vector(i, p) if here else self.constant(np.zeros(i.width)))
        z = np.concatenate(parts, axis=-1)
        if t.cell == "pass":
            return z, None
        own: list[State] = []
        if t.carries:
            own = [self.value(source) for source in self.grid.carried(t, p, self.sizes)]
        h, m = self.updated(t, p, z, own)
        if t.zoneout > 0:  # a prediction takes the mean of what would be kept and what is new
            ((old_h, old_m),) = own
            h = t.zoneout * old_h + (1 - t.zoneout) * h
            m = None if m is None else t.zoneout * old_m + (1 - t.zoneout) * m
        return h, m

    def updated(self, t: Transform, p: Coordinate, z: Array, own: list[State]) -> State:
        """The cell: from what is read, and what enters along the transform's own dimensions."""
        if t.cell == "memory":
            return self.memory(t, p, own[0][0]), None
        place = (slice(None), *(p[d] for d in t.untied))
        weights = self.parameters[f"{t.weights}.W"][place]
        bias = self.parameters[f"{t.weights}.b"][place] if t.bias else np.zeros((1, weights.shape[-1]))
        if t.cell == "gru":
            return gru(z, own[0][0], self.grid.own_rows(t), weights, bias), None
        a = product(z, weights) + bias
        if t.own:
            gates = np.split(a, len(t.own.places("gates")), axis=-1)
            vectors = {name: self.parameters[f"{t.weights}.{name}"][place] for name in t.own.names("vectors")}
            return t.own.step(gates, own[0][0] if own else None, [m for _, m in own if m is not None], vectors, t.activation)
        if t.cell == "dense":
            return ACTIVATIONS[t.activation](a), None
        if t.cell == "highway":
            return highway(a, own[0][0]), None
        memories = [m for _, m in own if m is not None]
        if t.cell == "leaky-lstm":
            return leaky_lstm(a, memories)
        peepholes = self.parameters[f"{t.weights}.p"][place] if t.peepholes else None
        return lstm(a, memories, t.cell == "lstm-paper", peepholes)

    def memory(self, t: Transform, p: Coordinate, h: Array) -> Array:
        """A hop of a memory network; words of a vocabulary that is embedded are, before a fact sums them."""
        i = self.grid.inputs[str(t.attends)]
        facts = np.asarray(self.inputs[i.name])
        if i.vocabulary:  # a fact is a bag of words
            counts = np.zeros((len(facts), i.size))
            for fact, words in enumerate(facts):
                for word in words:
                    counts[fact, int(word)] += 1
            facts = counts if i.embed is None else counts @ self.parameters[f"{i.name}.embed"]
        if t.embeddings == "adjacent":
            k = p[t.along[0]]
            tables = self.parameters[f"{t.name}.E"]
            return h + hop(h, facts @ tables[:, k], facts @ tables[:, k + 1], t.linear)
        place = (slice(None), *(p[d] for d in t.untied))
        answer = product(h, self.parameters[f"{t.weights}.W"][place])
        if t.bias:
            answer = answer + self.parameters[f"{t.weights}.b"][place]
        keys, values = (facts @ self.parameters[f"{t.name}.{part}"] for part in "AC")
        return answer + hop(h, keys, values, t.linear)

    def outputs(self, o: Output) -> dict[Coordinate, Array]:
        """What an output projects to at every valid position of its array, before the softmax or sigmoid."""
        result: dict[Coordinate, Array] = {}
        every = [range(n) if s == "all" else (0,) for s, n in zip(o.at, self.sizes, strict=True)]
        for position in itertools.product(*every):
            taken = [
                (name, p, memory)
                for name, memory in o.taps
                for p in self.grid.tapped(o, self.grid.transforms[name], position, self.sizes)
            ]
            if any((name, p) not in self.states for name, p, _ in taken):
                continue  # an index past this example's end: there is no output
            vector = np.concatenate([self.states[name, p][memory] for name, p, memory in taken], axis=-1)
            if o.kind != "raw":
                vector = self.projected(o.name, vector)
            result[tuple(i for i, s in zip(position, o.at, strict=True) if s == "all")] = vector
        return result


def batch_of(inputs: Mapping[str, Array]) -> int:
    """How many examples there are."""
    sizes = {len(x) for x in inputs.values()}
    if len(sizes) != 1:
        raise ValueError(f"inputs of one batch size are needed; found {sorted(sizes)}")
    return sizes.pop()


def examples(
    grid: Grid,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Array],
    lengths: Mapping[str, Array] | None,
    orders: dict[Coordinate, list[Step]] | None = None,
) -> Iterator[Example]:
    """The grids of all examples of a batch, each computed alone; parameters are ``[variants, …]``."""
    orders = {} if orders is None else orders
    binding = sizes_of(grid.spec, inputs)
    batch = batch_of(inputs)
    variants = len(next(iter(parameters.values()))) if parameters else 1
    for b in range(batch):
        sizes = grid.sizes({**binding, **{symbol: int(n[b]) for symbol, n in (lengths or {}).items()}})
        if sizes not in orders:
            orders[sizes] = list(longest_paths(grid.steps(sizes)))
        rows = {name: np.asarray(x)[b] for name, x in inputs.items()}
        example = Example(grid, sizes, rows, parameters, variants)
        example.run(orders[sizes])
        yield example


def one_variant(parameters: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.asarray(w, dtype=np.float64)[None] for name, w in parameters.items()}


def losses(o: Output, outputs: Mapping[Coordinate, Array], target: Array) -> list[Array]:
    """The loss of every valid position of one example's output, each ``[variants]``."""
    result: list[Array] = []
    for position, a in outputs.items():
        y = target[position]
        if o.loss == "cross_entropy":
            log_p = a - a.max(axis=-1, keepdims=True)
            log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
            result.append(-log_p[:, int(y)])
        elif o.loss == "binary_cross_entropy":
            result.append(np.logaddexp(0, a[:, 0]) - float(y) * a[:, 0])
        elif o.kind == "binary":
            result.append((sigmoid(a[:, 0]) - float(y)) ** 2)
        else:
            result.append(((a - np.asarray(y, dtype=np.float64)) ** 2).mean(axis=-1))
    return result


def total_loss(
    grid: Grid,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Array],
    targets: Mapping[str, Array],
    lengths: Mapping[str, Array] | None,
    orders: dict[Coordinate, list[Step]] | None = None,
) -> Array:
    """The loss of every variant of the parameters."""
    terms: dict[str, list[Array]] = {name: [] for name in grid.outputs}
    for b, example in enumerate(examples(grid, parameters, inputs, lengths, orders)):
        for name, o in grid.outputs.items():
            terms[name] += losses(o, example.outputs(o), np.asarray(targets[name])[b])
    variants = len(next(iter(parameters.values()))) if parameters else 1
    return sum((np.mean(each, axis=0) for each in terms.values() if each), np.zeros(variants))


# -- what tests call -----------------------------------------------------------------------------------------


def sizes_of(spec: SpecDict, inputs: Mapping[str, Array]) -> dict[str, int]:
    """What the shapes of the inputs bind every symbol to."""
    grid = Grid(spec)
    binding: dict[str, int] = {}
    for name, i in grid.inputs.items():
        for d, n in zip(i.over, np.shape(inputs[name])[1:], strict=False):
            extent = grid.extents[d]
            if n != (binding.setdefault(extent, int(n)) if isinstance(extent, str) else extent):
                raise ValueError(f"input {name}: found {n} along {grid.axes[d]}")
    if unbound := {e for e in grid.extents if isinstance(e, str)} - set(binding):
        raise ValueError(f"no input binds {sorted(unbound)}")
    return binding


def parameter_shapes(spec: SpecDict, sizes: Mapping[str, int] | None = None) -> dict[str, tuple[int, ...]]:
    """The flat names of all parameters and their shapes."""
    return Grid(spec).shapes(sizes or {})


def parameter_masks(spec: SpecDict, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
    """For weights that have blocks which stay zero (those of `gru`): true where they are free."""
    grid = Grid(spec)
    shapes = grid.shapes(sizes or {})
    result: dict[str, Array] = {}
    for t in grid.transforms.values():
        if t.cell == "gru":
            own = grid.own_rows(t)[:, None]
            free = np.repeat(np.concatenate([own | True, own | True, ~own, own], axis=1), t.hidden, axis=1)
            key = f"{t.weights}.W"
            result[key] = result.get(key, True) & np.broadcast_to(free, shapes[key])
    return result


def input_shapes(
    spec: SpecDict, sizes: Mapping[str, int], batch: int, facts: int = 2, words: int = 2
) -> dict[str, tuple[int, ...]]:
    """The shape of every input's array."""
    grid = Grid(spec)
    extents = grid.sizes(sizes)
    result: dict[str, tuple[int, ...]] = {}
    for name, i in grid.inputs.items():
        if i.facts:
            result[name] = (batch, facts, words if i.vocabulary else i.size)
        else:
            result[name] = (batch, *(extents[d] for d in i.over), *(() if i.vocabulary else (i.size,)))
    return result


def target_shapes(spec: SpecDict, sizes: Mapping[str, int], batch: int) -> dict[str, tuple[int, ...]]:
    """The shape of every target: that of the output, without the axis of classes where there is one."""
    grid = Grid(spec)
    extents = grid.sizes(sizes)
    result: dict[str, tuple[int, ...]] = {}
    for name, o in grid.outputs.items():
        axes = tuple(n for n, s in zip(extents, o.at, strict=True) if s == "all")
        result[name] = (batch, *axes, *((o.size,) if o.kind in ("features", "raw") else ()))
    return result


def predict(
    spec: SpecDict,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Array],
    lengths: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Every output: probabilities for classes and binary, zeros past the end of an example."""
    grid = Grid(spec)
    batch = batch_of(inputs)
    shapes = target_shapes(spec, sizes_of(spec, inputs), batch)
    result: dict[str, Array] = {}
    for name, o in grid.outputs.items():
        result[name] = np.zeros((*shapes[name], o.size) if o.kind == "classes" else shapes[name])
    for b, example in enumerate(examples(grid, one_variant(parameters), inputs, lengths)):
        for name, o in grid.outputs.items():
            for position, a in example.outputs(o).items():
                if o.kind == "classes":
                    result[name][b, *position] = softmax(a)[0]
                else:
                    result[name][b, *position] = sigmoid(a)[0, 0] if o.kind == "binary" else a[0]
    return result


def states(
    spec: SpecDict,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Array],
    lengths: Mapping[str, Array] | None = None,
) -> dict[tuple[str, Coordinate, int], State]:
    """Every new hidden and memory vector, by transform, coordinate and example."""
    result: dict[tuple[str, Coordinate, int], State] = {}
    for b, example in enumerate(examples(Grid(spec), one_variant(parameters), inputs, lengths)):
        for (name, p), (h, m) in example.states.items():
            result[name, p, b] = (h[0], None if m is None else m[0])
    return result


def loss(
    spec: SpecDict,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Array],
    targets: Mapping[str, Array],
    lengths: Mapping[str, Array] | None = None,
) -> float:
    """The sum over outputs of the mean over the batch and its valid positions."""
    return float(total_loss(Grid(spec), one_variant(parameters), inputs, targets, lengths)[0])


def gradients(
    spec: SpecDict,
    parameters: Mapping[str, Array],
    inputs: Mapping[str, Array],
    targets: Mapping[str, Array],
    lengths: Mapping[str, Array] | None = None,
    eps: float = 1e-5,
    names: Iterable[str] | None = None,
    max_entries: int | None = None,
    rng: np.random.Generator | None = None,
) -> dict[str, tuple[Array, Array]]:
    """Central differences of the loss: for every name, flat indices of entries and the derivatives there.

    ``max_entries`` is for each parameter: where one has more, that many of its entries are drawn.
    """
    grid = Grid(spec)
    rng = np.random.default_rng(0) if rng is None else rng
    orders: dict[Coordinate, list[Step]] = {}
    given = one_variant(parameters)
    result: dict[str, tuple[Array, Array]] = {}
    for name in parameters if names is None else names:
        size = np.size(parameters[name])
        entries = np.arange(size)
        if max_entries is not None and size > max_entries:
            entries = np.sort(rng.choice(size, max_entries, replace=False))
        values = np.zeros(len(entries))
        for begin in range(0, len(entries), 64):
            chunk = entries[begin : begin + 64]
            count = 2 * len(chunk)
            variants = {other: np.broadcast_to(w, (count, *w.shape[1:])) for other, w in given.items()}
            shifted = variants[name].copy().reshape(count, size)
            for k, entry in enumerate(chunk):
                shifted[2 * k, entry] += eps
                shifted[2 * k + 1, entry] -= eps
            variants[name] = shifted.reshape(variants[name].shape)
            found = total_loss(grid, variants, inputs, targets, lengths, orders).reshape(-1, 2)
            values[begin : begin + len(chunk)] = (found[:, 0] - found[:, 1]) / (2 * eps)
        result[name] = (entries, values)
    return result


def steps(spec: SpecDict, sizes: Mapping[str, int]) -> dict[Step, list[Step]]:
    """Every step, with the steps that it waits for: those that it reads and those whose state it carries."""
    grid = Grid(spec)
    return grid.steps(grid.sizes(sizes))


def levels(spec: SpecDict, sizes: Mapping[str, int]) -> dict[Step, int]:
    """The length of the longest path to every step; ValueError where steps wait for each other."""
    return longest_paths(steps(spec, sizes))


def levels_of_cells(spec: SpecDict, sizes: Mapping[str, int]) -> dict[Coordinate, int] | None:
    """As ``levels``, cell by cell: a cell waits for those of the steps that its own steps wait for, but not
    for itself.  None where cells wait for each other."""
    waits: dict[Step, set[Step]] = {}
    for (_, p), needed in steps(spec, sizes).items():
        waits.setdefault(("", p), set()).update(("", q) for _, q in needed if q != p)
    try:
        return {p: level for (_, p), level in longest_paths({c: list(w) for c, w in waits.items()}).items()}
    except ValueError:
        return None
