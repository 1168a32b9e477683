"""The plain lowering: one Scan over wavefronts, in ordinary PyTensor ops, for every backend that has Scan.

A wavefront's steps run side by side.  What later wavefronts still need lives in slots (``gridc.symbolic.slots``); what enters
the grid and what joins it is gathered before the Scan, as sequences.
"""

# pyright: basic

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from gridc.language.spec import Transform
from gridc.symbolic.indices import index_arrays
from gridc.symbolic.slots import hides, kinds, plan32, plan64, ports
from gridc.symbolic.wiring import Variable, Wiring, take

# PyTensor says of most of its functions neither what they take nor what they give.
pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")


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
        zero = pt.zeros((), a.dtype)
        return pt.where(a > zero, a, zero)  # whose slope at 0 is 0, as the fused kernels have it


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
