"""What the steps of one wavefront compute in the plain lowering, in PyTensor's ops: from vectors found in slots to new ones."""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from gridc.language.spec import GridSpec, Transform
from gridc.symbolic import slots
from gridc.symbolic.slots import Part, Vector
from gridc.symbolic.wiring import Variable
from gridc.tables.mechanisms import Taken

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

def taken(
    spec: GridSpec, t: Transform, before: Mapping[Vector, Variable], given: Mapping[Part, Variable]
) -> list[Variable]:  # fmt: skip
    """Give the vector that each port of a transform's steps takes in: what it finds in the slots and what enters there, as far as
    dropout shows it."""
    vectors: list[Variable] = []
    for i, port in enumerate(slots.ports(spec, t)):
        entry, mask = given.get(Part(t.name, "entry", i)), given.get(Part(t.name, "mask", i))
        vector = before[port.of, port.memory][given[Part(t.name, "slots", i)]]
        vector = vector if entry is None else vector + entry
        vectors.append(vector if mask is None else vector * mask)
    return vectors


def product(t: Transform, z: Variable | None, weights: Mapping[str, Variable], given: Mapping[Part, Variable]) -> Variable | None:
    """Give the pre-activations of a transform's steps: ``z`` times ``W``, and the bias or what was made ahead."""
    ahead, w, b, chosen = given.get(Part(t.name, "ahead")), weights.get("W"), weights.get("b"), given[Part(t.name, "weights")]
    if w is None or z is None:
        return ahead
    found = pt.matmul(z, of_steps(w, chosen)) if t.untied else pt.dot(z, w)
    if ahead is not None:
        return found + ahead
    return found if b is None else found + (of_steps(b, chosen)[:, None] if t.untied else b)


def of_steps(weights: Variable, chosen: Variable) -> Variable:
    """Give the weights of each step of a wavefront, ``[steps, …]``.

    PyTensor (3.0.7) takes a vector of a single index for broadcasting, and refuses the gradient of a look-up by it; not so of a
    matrix of one."""
    return weights[chosen[:, None]][:, 0]


def by_weight(rows: Variable, members: Variable) -> Variable:
    """Give the rows of steps ``[wavefronts, steps, examples, n]`` one after the other for each of the weights, ``[weights,
    members × examples, n]``, with zeros where a weight has fewer ``members`` (-1)."""
    flat = rows.reshape((-1, *(rows.shape[axis] for axis in (2, 3))))
    found = pt.where((members < 0)[:, :, None, None], pt.zeros((), rows.dtype), flat[pt.maximum(members, 0)])
    return found.reshape((members.shape[0], -1, rows.shape[3]))


def made(
    t: Transform, z: Variable | None, product: Variable | None, own: Sequence[Variable], weights: Mapping[str, Variable],
    given: Mapping[Part, Variable], facts: Collection[str],
) -> list[Variable]:  # fmt: skip
    """Give the new hidden vectors of a transform's steps in one wavefront, and the memories where it has any; weights named in
    ``facts`` are facts."""
    chosen = given[Part(t.name, "weights")]
    state = _updated(t, z, product, list(own), chosen, weights, facts)
    if t.zoneout:
        keeps = [given[Part(t.name, "zoneout", i)] for i in range(2) if Part(t.name, "zoneout", i) in given]
        state = _zoned_out(t, state, own, keeps)
    return [vector for vector in state if vector is not None]


def _zoned_out(
    t: Transform, new: tuple[Variable, Variable | None], own: Sequence[Variable], keeps: list[Variable]
) -> tuple[Variable, Variable | None]:
    """Make new vectors of which a part is the old one: by the masks that were drawn, or on the average."""
    old = (own[-1], own[0] if t.has_memory else None)
    keeps = keeps or [pt.as_tensor(np.asarray(t.zoneout, own[-1].dtype))] * 2
    mixed = [None if v is None else keep * o + (1 - keep) * v for v, o, keep in zip(new, old, [*keeps, keeps[0]], strict=False)]
    return mixed[0], mixed[1]


def _updated(
    t: Transform, z: Variable | None, product: Variable | None, own: list[Variable], chosen: Variable,
    constants: Mapping[str, Variable], facts: Collection[str],
) -> tuple[Variable, Variable | None]:  # fmt: skip
    weights = {letter: v for letter, v in constants.items() if letter not in ("W", "b")}
    for letter in [name for name in weights if name not in facts] if t.untied else ():
        picked = of_steps(weights[letter], chosen)  # of a vector each step has one for all examples
        weights[letter] = picked[:, None] if picked.ndim == 2 else picked
    p = weights.pop("p", None)
    hidden, memories = own[-1] if t.mechanism.uses_hidden else None, own[: len(t.along)] if t.has_memory else []
    if t.mechanism.update is not None:
        return t.mechanism.update(Ops, Taken(z, product, hidden, memories, weights, chosen, t.options))
    assert product is not None
    assert t.mechanism.rule is not None
    parts = [product] if len(t.gates) == 1 else pt.split(product, [t.hidden] * len(t.gates), n_splits=len(t.gates), axis=-1)
    holes = [p[..., k * t.hidden : (k + 1) * t.hidden] for k in range(len(t.peephole_names()))] if p is not None else []
    holes += [weights[vector] for vector in t.vectors]
    return t.mechanism.rule(Ops, parts, hidden, memories, holes, t.options)
