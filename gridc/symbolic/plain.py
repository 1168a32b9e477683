"""The plain lowering: one Scan over wavefronts, in ordinary PyTensor ops, for every backend that has Scan.

A wavefront's steps run side by side.  What later wavefronts still need lives in slots (``gridc.symbolic.slots``); what enters
the grid and what joins it is gathered before the Scan, as sequences.
"""

# pyright: basic

from __future__ import annotations

import importlib
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gridc.language import shapes
from gridc.language.lattice import home
from gridc.language.spec import GridSpec, Transform
from gridc.symbolic import slots
from gridc.symbolic.indices import index_arrays
from gridc.symbolic.slots import Part
from gridc.symbolic.wiring import Variable, Wiring, take
from gridc.tables.mechanisms import Taken

# PyTensor says of most of its functions neither what they take nor what they give.
pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")


class Ops:
    """The namespace in which a cell's rule becomes a graph."""

    @staticmethod
    def tanh(a: Variable) -> Variable:
        """Take the hyperbolic tangent of every number."""
        return pt.tanh(a)

    @staticmethod
    def sigmoid(a: Variable) -> Variable:
        """Take the logistic function of every number."""
        return pt.sigmoid(a)

    @staticmethod
    def relu(a: Variable) -> Variable:
        """Put 0, in the same dtype, for every number below it; the slope at 0 is 0, as the fused kernels have it."""
        zero = pt.zeros((), a.dtype)
        return pt.where(a > zero, a, zero)

    @staticmethod
    def number(value: float, like: Variable) -> Variable:
        """Give a number in the dtype of another value."""
        return pt.constant(np.asarray(value, like.dtype))

    @staticmethod
    def softplus(a: Variable) -> Variable:
        """Take ``log(1 + exp(a))`` of every number."""
        return pt.softplus(a)

    @staticmethod
    def log(a: Variable) -> Variable:
        """Take the natural logarithm of every number."""
        return pt.log(a)

    @staticmethod
    def sqrt(a: Variable) -> Variable:
        """Take the square root of every number."""
        return pt.sqrt(a)

    @staticmethod
    def mean(a: Variable) -> Variable:
        """Take the mean over the units of each step, which stay as an axis of length 1."""
        return pt.sum(a, axis=-1, keepdims=True) / pt.cast(a.shape[-1], a.dtype)

    @staticmethod
    def where(sign: str, a: Variable, b: Variable, x: Variable, y: Variable) -> Variable:
        """Give ``x`` where ``a sign b`` holds and ``y`` elsewhere."""
        return pt.where({">": pt.gt, "<": pt.lt, ">=": pt.ge, "<=": pt.le}[sign](a, b), x, y)

    @staticmethod
    def exp(a: Variable) -> Variable:
        """Take the exponential of every number."""
        return pt.exp(a)

    @staticmethod
    def sum(a: Variable, /, axis: int, keepdims: bool = False) -> Variable:
        """Add up the numbers along an axis, which stays with length 1 where it is to be kept."""
        return pt.sum(a, axis=axis, keepdims=keepdims)

    @staticmethod
    def max(a: Variable, /, axis: int, keepdims: bool = False) -> Variable:
        """Take the largest of the numbers along an axis, which stays with length 1 where it is to be kept."""
        return pt.max(a, axis=axis, keepdims=keepdims)


def sweep(wiring: Wiring) -> tuple[dict[str, list[Variable]], list[Variable]]:
    """Give what every output reads, ``[batch, *axes, cells × hidden]`` for each of its reads, and the index arrays."""
    spec, dtype = wiring.spec, wiring.way.dtype
    parts = slots.kinds(spec)
    indices = index_arrays(spec, slots.plan, list(parts.values()), wiring.call.extent, wiring.call.lengths, wiring.way.static)
    plan = dict(zip(parts, indices, strict=True))
    sequences: dict[Part, Variable] = {}
    constant: dict[str, dict[str, Variable]] = {}
    live: list[Variable] = []
    transforms = list(slots.computed(spec))
    boundary = {(t.name, memory): _boundary(wiring, t, memory)
                for t in spec.transforms.values() for memory in {False, t.has_memory}}  # fmt: skip
    for t in transforms:
        sequences.update(_sequences(wiring, t, plan, boundary))
        zeros = pt.cast(plan[Part(t.name, "live")], dtype)[:, None] + np.zeros((1, t.hidden), dtype)
        live += [zeros] * (2 if t.has_memory else 1)
        constant[t.name] = _constants(wiring, t)
    homes = {(home(spec, tap.transform), tap.memory) for o in spec.outputs.values() for tap in o.reads}
    tapped = sorted((name, memory) for name, memory in homes if spec.transforms[name] in transforms)
    history = {(name, memory): pt.zeros((1, spec.transforms[name].hidden), dtype) for name, memory in homes}  # of no steps

    # Transforms that share weights bring them once.
    distinct = {id(v): v for values in constant.values() for v in values.values()}

    def wavefront(*variables: Variable) -> list[Variable]:
        given = iter(variables)
        per_step = {part: next(given) for part in sequences}
        state = [next(given) for _ in live]
        inner = dict(zip(distinct, given, strict=True))
        own = {name: {letter: inner[id(v)] for letter, v in values.items()} for name, values in constant.items()}
        return _wavefront(wiring, per_step, state, own, tapped)

    if transforms:
        results = _scan(wiring, wavefront, sequences, [*live, *[None] * len(tapped)], list(distinct.values()),
                        plan[Part(transforms[0].name, "writes")].shape[0])  # fmt: skip
        history |= dict(zip(tapped, results[len(live) :], strict=True))
    taps: dict[str, list[Variable]] = {}
    for name, o in spec.outputs.items():
        taps[name] = []
        for i, tap in enumerate(o.reads):
            rows, hidden = plan[Part(name, "read", i)], spec.transforms[tap.transform].hidden
            storage = home(spec, tap.transform)
            table = history[storage, tap.memory].reshape((-1, hidden))
            cells = int(np.prod([len(s) for s in o.at if isinstance(s, tuple)], dtype=int))
            picked = [_picked(table, rows[..., c], dtype) for c in range(cells)]
            entered, enters = plan.get(Part(name, "entered", i)), boundary[storage, tap.memory]
            if entered is not None and enters is not None:
                picked = [vector + take(enters, entered[..., c]) for c, vector in enumerate(picked)]
            seen, mask = plan.get(Part(name, "seen", i)), wiring.vectors.masks.get(f"{storage}.dropout")
            if seen is not None and mask is not None:
                picked = [vector * _seen(mask, seen[..., c]) for c, vector in enumerate(picked)]
            taps[name].append(picked[0] if cells == 1 else pt.concatenate(picked, axis=-1))
    return taps, indices


def _scan(
    wiring: Wiring, wavefront: Any, sequences: Mapping[Part, Variable], begin: list[Variable | None], constant: list[Variable],
    steps: Variable,
) -> list[Variable]:  # fmt: skip
    # The number of steps is told: the shortest of all sequences would be a large expression, which every array
    # that the Scan and its gradient make is then looked through for, at twice the time to build.
    with warnings.catch_warnings():
        # Later than 3.0 the inner graph may inherit the mode of the function around it, and being told is to go; 3.0 needs it.
        warnings.filterwarnings("ignore", "The `mode` argument of `scan` is deprecated", FutureWarning)
        results = pytensor.scan(
            wavefront, sequences=list(sequences.values()), outputs_info=begin, non_sequences=constant, n_steps=steps, strict=True,
            return_updates=False, mode=wiring.way.scan,
        )  # fmt: skip
    return results if isinstance(results, list) else [results]


def _sequences(
    wiring: Wiring, t: Transform, plan: Mapping[Part, Variable], boundary: Mapping[tuple[str, bool], Variable | None]
) -> dict[Part, Variable]:
    """Give what each wavefront of a transform takes: indices as they are, and vectors gathered before the Scan."""
    spec, name = wiring.spec, t.name
    found: dict[Part, Variable] = {}
    for i, port in enumerate(slots.ports(spec, t)):
        rows = boundary[port.of, port.memory]
        if rows is not None:
            found[Part(name, "entry", i)] = take(rows, plan[Part(name, "entry", i)])
        mask = wiring.vectors.masks.get(f"{port.of}.dropout")
        if port.masked and mask is not None:
            found[Part(name, "mask", i)] = _seen(mask, plan[Part(name, "mask", i)])
    for i, letter in enumerate("hm"):
        mask = wiring.vectors.masks.get(f"{name}.zoneout.{letter}")
        if mask is not None:
            found[Part(name, "zoneout", i)] = _masked(mask, plan[Part(name, "zoneout")])
    for vector in slots.readers(spec):
        if vector[0] == name:
            found[slots.looks(vector)] = plan[slots.looks(vector)]
    for i, x in enumerate(spec.joined(name)):
        found[Part(name, "joined", i)] = _picked(wiring.vectors.joined[x.name], plan[Part(name, "joined", i)], wiring.way.dtype)
    for what in ("writes", "weights"):
        found[Part(name, what)] = plan[Part(name, what)]
    return found


def _picked(table: Variable, rows: Variable, dtype: str) -> Variable:
    return pt.where((rows < 0)[..., None], pt.zeros((), dtype), take(table, pt.maximum(rows, 0)))


def _masked(mask: Variable, rows: Variable) -> Variable:
    """Give these rows of a mask ``[…, hidden]``."""
    return mask.reshape((-1, mask.type.shape[-1]))[rows]


def _seen(mask: Variable, rows: Variable) -> Variable:
    """Give these rows of a mask ``[…, hidden]``, ones for -1."""
    rows_of = mask.reshape((-1, mask.type.shape[-1]))
    return pt.concatenate([rows_of, pt.ones((1, mask.type.shape[-1]), mask.dtype)], axis=0)[rows]


def _boundary(wiring: Wiring, t: Transform, memory: bool) -> Variable | None:
    """Give the rows of what enters among a transform's vectors: along it and along all that hand it on every place of every
    example, and the start alone; then zeros.  None where all are zero."""
    vector = "memory" if memory else "hidden"
    zero = pt.zeros((1, t.hidden), dtype=wiring.way.dtype)
    rows: list[Variable] = []
    for name, entered in slots.entries(wiring.spec, t.name, memory):
        if entered:
            entry, shift = wiring.vectors.entries[name, vector]
            rows.append(entry if shift is None else entry + shift)
        start = wiring.start(name, vector)
        rows.append(zero if start is None else start[None, :])
    return None if all(row is zero for row in rows) else pt.concatenate([*rows, zero], axis=0)


def _constants(wiring: Wiring, t: Transform) -> dict[str, Variable]:
    """Give the weights of a transform that there are, all places that have their own on one axis; instead of those that
    multiply facts, the facts embedded by them."""
    owner, facts = wiring.spec.weight_owner(t.name), wiring.vectors.facts.get(t.name, {})
    masked = dict(zip("Wbp", wiring.vectors.weights[t.name], strict=True))
    result: dict[str, Variable] = {}
    for letter, weight in shapes.weights(wiring.spec, wiring.spec.transforms[owner]).items():
        value = facts[letter] if weight.facts else masked.get(letter, wiring.vectors.parameters[f"{owner}.{letter}"])
        result[letter] = value if weight.facts or not t.untied else value.reshape((-1, *weight.shape))
    return result


def _wavefront(
    wiring: Wiring, given: Mapping[Part, Variable], state: list[Variable], constant: Mapping[str, Mapping[str, Variable]],
    tapped: list[tuple[str, bool]],
) -> list[Variable]:  # fmt: skip
    """Give the state after one wavefront, and the vectors tapped: every transform reads the slots as they were, then all are
    written."""
    spec = wiring.spec
    transforms = list(slots.computed(spec))
    vectors = [(t.name, memory) for t in transforms for memory in (False, True)[: 1 + t.has_memory]]
    before = dict(zip(vectors, state, strict=True))
    after = dict(before)
    found = _found(spec, before, given)
    new: dict[tuple[str, bool], Variable] = {}
    for t in transforms:
        name = t.name
        taken: list[Variable] = []
        for i, _ in enumerate(slots.ports(spec, t)):
            entry, mask = given.get(Part(name, "entry", i)), given.get(Part(name, "mask", i))
            vector = found[name, i] if entry is None else found[name, i] + entry
            taken.append(vector if mask is None else vector * mask)
        keeps = [given[Part(name, "zoneout", i)] for i in range(2) if Part(name, "zoneout", i) in given]
        joined = [given[Part(name, "joined", i)] for i in range(len(spec.joined(name)))]
        own = taken[len(t.reads) :]
        chosen, facts = given[Part(name, "weights")], wiring.vectors.facts.get(name, ())
        made = _update(t, taken[: len(t.reads)] + joined, own, chosen, constant[name], facts)
        if t.zoneout:
            made = _zoned_out(t, made, own, keeps, wiring.way.dtype)
        for memory, vector in zip((False, True), made, strict=True):
            if vector is not None:
                after[name, memory] = pt.set_subtensor(before[name, memory][given[Part(name, "writes")]], vector)
                new[name, memory] = vector
    return [*after.values(), *(new[key] for key in tapped)]


def _found(
    spec: GridSpec, before: Mapping[tuple[str, bool], Variable], given: Mapping[Part, Variable]
) -> dict[tuple[str, int], Variable]:
    """Give what every port of every transform finds in the slots.  All ports look into those of a vector at once, since the
    gradient of each look is as large as all slots."""
    found: dict[tuple[str, int], Variable] = {}
    for vector, readers in slots.readers(spec).items():
        like = [given[Part(name, "writes")] for name, _ in readers]
        rows = before[vector][given[slots.looks(vector)]]
        parts = [rows] if len(readers) == 1 else pt.split(rows, pt.stack([_count(one) for one in like]), n_splits=len(readers))
        for reader, part, one in zip(readers, parts, like, strict=True):
            found[reader] = part if one.ndim == 1 else part.reshape((*(one.shape[axis] for axis in range(2)), part.shape[1]))
    return found


def _count(rows: Variable) -> Variable:
    """Count the entries of an index array, where that can be done while the graph is built."""
    known = rows.type.shape
    return rows.size if None in known else np.int64(np.prod(known))


def _zoned_out(
    t: Transform, new: tuple[Variable, Variable | None], own: list[Variable], keeps: list[Variable], dtype: str
) -> tuple[Variable, Variable | None]:
    """Make new vectors of which a part is the old one: by the masks that were drawn, or on the average."""
    old = (own[-1], own[0] if t.has_memory else None)
    keeps = keeps or [pt.as_tensor(np.asarray(t.zoneout, dtype))] * 2
    mixed = [None if v is None else keep * o + (1 - keep) * v for v, o, keep in zip(new, old, [*keeps, keeps[0]], strict=False)]
    return mixed[0], mixed[1]


def _update(
    t: Transform, reads: list[Variable], own: list[Variable], chosen: Variable, constants: Mapping[str, Variable],
    facts: Collection[str],
) -> tuple[Variable, Variable | None]:
    """Give the new hidden and memory vectors of a transform's steps in one wavefront; constants named in ``facts`` are facts."""
    z = reads[0] if len(reads) == 1 else pt.concatenate(reads, axis=-1)
    weights = dict(constants)
    w = weights.pop("W", None)
    product = None if w is None else (pt.matmul(z, w[chosen]) if t.untied else pt.dot(z, w))
    for letter in [name for name in weights if name not in facts] if t.untied else ():
        picked = weights[letter][chosen]  # of a vector each step has one for all examples
        weights[letter] = picked[:, None] if picked.ndim == 2 else picked
    b, p = weights.pop("b", None), weights.pop("p", None)
    if product is not None and b is not None:
        product = product + b
    hidden, memories = own[-1] if t.mechanism.uses_hidden else None, own[: len(t.along)] if t.has_memory else []
    if t.mechanism.update is not None:
        return t.mechanism.update(Ops, Taken(z, product, hidden, memories, weights, chosen, t.options))
    assert product is not None
    assert t.mechanism.rule is not None
    parts = [product] if len(t.gates) == 1 else pt.split(product, [t.hidden] * len(t.gates), n_splits=len(t.gates), axis=-1)
    holes = [p[..., k * t.hidden : (k + 1) * t.hidden] for k in range(len(t.peephole_names()))] if p is not None else []
    holes += [weights[vector] for vector in t.vectors]
    return t.mechanism.rule(Ops, parts, hidden, memories, holes, t.options)
