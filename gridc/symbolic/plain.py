"""The plain lowering: one Scan over wavefronts, in ordinary PyTensor ops, for every backend that has Scan.

A wavefront's steps run side by side (``gridc.symbolic.recurrence``).  What later wavefronts still need lives in slots
(``gridc.symbolic.slots``); what enters the grid is gathered before the Scan, and what joins it is multiplied, as sequences.
"""

# pyright: basic

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from gridc.language import shapes
from gridc.language.lattice import home
from gridc.language.spec import Transform
from gridc.symbolic import slots
from gridc.symbolic.indices import index_arrays
from gridc.symbolic.recurrence import Recurrence
from gridc.symbolic.slots import Part, Vector
from gridc.symbolic.wiring import Variable, Wiring, take

# PyTensor says of most of its functions neither what they take nor what they give.
pt: Any = importlib.import_module("pytensor.tensor")


def sweep(wiring: Wiring) -> tuple[dict[str, list[Variable]], list[Variable]]:
    """Give what every output reads, ``[batch, *axes, cells × hidden]`` for each of its reads, and the index arrays."""
    spec, dtype = wiring.spec, wiring.way.dtype
    parts = slots.kinds(spec)
    indices = index_arrays(spec, slots.plan, list(parts.values()), wiring.call.extent, wiring.call.lengths, wiring.way.static)
    plan = dict(zip(parts, indices, strict=True))
    boundary = {(t.name, memory): _boundary(wiring, t, memory)
                for t in spec.transforms.values() for memory in {False, t.has_memory}}  # fmt: skip
    transforms = list(slots.computed(spec))
    homes = {(home(spec, tap.transform), tap.memory) for o in spec.outputs.values() for tap in o.reads}
    tapped = sorted((name, memory) for name, memory in homes if spec.transforms[name] in transforms)
    history = {(name, memory): pt.zeros((1, spec.transforms[name].hidden), dtype) for name, memory in homes}  # of no steps
    if transforms:
        history |= _recurrence(wiring, transforms, plan, boundary, tapped).run()
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


def _recurrence(
    wiring: Wiring, transforms: Sequence[Transform], plan: Mapping[Part, Variable],
    boundary: Mapping[tuple[str, bool], Variable | None], tapped: Sequence[Vector],
) -> Recurrence:  # fmt: skip
    """Give the loop over the wavefronts: what of them does not wait for others is computed here, at once."""
    parts: dict[Part, Variable] = {}
    weights: dict[str, dict[str, Variable]] = {}
    cut: dict[tuple[int, int], tuple[Variable, ...]] = {}
    for t in transforms:
        parts |= _sequences(wiring, t, plan, boundary)
        weights[t.name] = own = _constants(wiring, t)
        if wiring.spec.joined(t.name) and t.mechanism.update is None:
            w, seen = own.pop("W"), sum(wiring.spec.transforms[read.of].hidden for read in t.reads)
            rows, others, _ = cut.setdefault((id(w), seen), (w[..., :seen, :], w[..., seen:, :], w))  # once for all who share it
            parts[Part(t.name, "ahead")] = _ahead(wiring, t, plan, others, own.pop("b", None))
            own |= {"W": rows} if seen else {}
    return Recurrence(wiring.spec, wiring.way, parts, weights, wiring.vectors.facts, tapped)


def _ahead(wiring: Wiring, t: Transform, plan: Mapping[Part, Variable], w: Variable, b: Variable | None) -> Variable:
    """Give what inputs that join add to the pre-activations of every step, by these rows of the weights, and the bias."""
    inputs, dtype = wiring.spec.joined(t.name), wiring.way.dtype
    rows = [plan[Part(t.name, "joined", i)] for i in range(len(inputs))]
    if not t.untied:
        parts = pt.split(w, [x.width for x in inputs], n_splits=len(inputs), axis=0) if len(inputs) > 1 else [w]
        found = reduce(add, (_picked(pt.dot(wiring.vectors.joined[x.name], part), row, dtype)
                             for x, part, row in zip(inputs, parts, rows, strict=True)))  # fmt: skip
        return found if b is None else found + b
    members, spot, chosen = (plan[Part(t.name, what)] for what in ("members", "spot", "weights"))
    vectors = []
    for x, row in zip(inputs, rows, strict=True):
        of_members = row.reshape((-1, row.shape[2]))[pt.maximum(members, 0)]
        of_members = pt.where((members < 0)[:, :, None], -1, of_members)
        vectors.append(_picked(wiring.vectors.joined[x.name], of_members.reshape((members.shape[0], -1)), dtype))
    product = pt.matmul(pt.concatenate(vectors, axis=-1) if len(vectors) > 1 else vectors[0], w)
    found = product.reshape((-1, rows[0].shape[2], product.shape[2]))[spot]
    return found if b is None else found + b[chosen][:, :, None]


def _sequences(
    wiring: Wiring, t: Transform, plan: Mapping[Part, Variable], boundary: Mapping[tuple[str, bool], Variable | None]
) -> dict[Part, Variable]:
    """Give what each wavefront of a transform takes: indices as they are, and vectors gathered before the Scan."""
    spec, name = wiring.spec, t.name
    found = {part: plan[part] for part in (Part(name, what) for what in ("writes", "weights", "live", "members")) if part in plan}
    for i, port in enumerate(slots.ports(spec, t)):
        found[Part(name, "slots", i)] = plan[Part(name, "slots", i)]
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
    for i, x in enumerate(spec.joined(name) if t.mechanism.update is not None else ()):
        found[Part(name, "joined", i)] = _picked(wiring.vectors.joined[x.name], plan[Part(name, "joined", i)], wiring.way.dtype)
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
