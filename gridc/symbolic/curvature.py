"""The gradient of a fused sweep's gradient: that of the plain graph of the same sweep, which PyTensor differentiates.

The adjoint has no adjoint of its own.  What it gives is the gradient of the sweep, whichever way that is lowered; so where
somebody differentiates it, for a product with a Hessian or forward over reverse, the sweep is lowered plainly and differentiated
twice.  It takes the plain lowering's time and memory, for the second derivative alone.
"""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from pytensor.gradient import DisconnectedType
from pytensor.graph.replace import clone_replace

from gridc.fusion.run import MASKS, VECTORS, Role
from gridc.language import shapes
from gridc.language.spec import GridSpec
from gridc.symbolic import plain
from gridc.symbolic.backends import SETTINGS
from gridc.symbolic.wiring import Extent, Variable, Vectors, Way, Wiring, hops_inside

pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")


def pullback(
    spec: GridSpec, way: Way, call: Extent, arrays: Mapping[Role, Variable], slopes: Sequence[Variable], cotangents: Sequence[Any]
) -> list[Variable]:  # fmt: skip
    """Give the gradients of the ``arrays`` that are learnt and of ``slopes``, those of what outputs read, given ``cotangents`` of
    what the adjoint makes of them: the gradient of every learnt array, in their order."""
    # Stand-ins, since one array may have been made from another, and each is to have its own gradient.
    own = {role: variable.type() for role, variable in arrays.items()}
    given, asked = [v.type() for v in slopes], [c for c in cotangents if not isinstance(c.type, DisconnectedType)]
    along = [c.type() for c in asked]
    taps, _ = plain.sweep(Wiring(spec, way, call, vectors(spec, own)))
    flat = [tap for each in taps.values() for tap in each]
    learnt = [variable for role, variable in own.items() if role[1] not in MASKS]
    # A Scan keeps the gradients of its states in this type, whatever theirs is.
    with SETTINGS, pytensor.config.change_flags(floatX=way.dtype):
        value = sum((pt.sum(tap * g) for tap, g in zip(flat, given, strict=True)), start=pt.zeros((), way.dtype))
        first = pytensor.grad(value, learnt, disconnected_inputs="ignore")
        meant = [g for g, c in zip(first, cotangents, strict=True) if not isinstance(c.type, DisconnectedType)]
        product = sum((pt.sum(g * v) for g, v in zip(meant, along, strict=True)), start=pt.zeros((), way.dtype))
        second = pytensor.grad(product, [*learnt, *given], disconnected_inputs="ignore")
    stand_ins = dict(zip((*own.values(), *given, *along), (*arrays.values(), *slopes, *asked), strict=True))
    return clone_replace(second, stand_ins)


def vectors(spec: GridSpec, arrays: Mapping[Role, Variable]) -> Vectors:
    """Give the arrays of a fused sweep, by their role, as they reach a plain one."""
    weights: dict[str, tuple[Variable, Variable, Variable]] = {}
    parameters: dict[str, Variable] = {}
    for name, t in spec.transforms.items():
        weights[name] = (arrays.get((name, "W", "")), arrays.get((name, "b", "")), arrays.get((name, "p", "")))
        parameters |= {f"{name}.start.{vector[0]}": arrays[name, "start", vector]
                       for vector in VECTORS if (name, "start", vector) in arrays}  # fmt: skip
        parameters |= {f"{name}.{letter}": v for letter, v in zip("Wb", weights[name], strict=False) if v is not None}
        own, column = shapes.weights(spec, t), 0
        for word in (word for word in ("p", *t.vectors) if word in own):
            end = column + own[word].shape[-1]
            parameters[f"{name}.{word}"], column = weights[name][2][..., column:end], end
    entries = {(name, vector): (variable, arrays.get((name, "shift", vector)))
               for (name, kind, vector), variable in arrays.items() if kind == "entry"}  # fmt: skip
    masks = {f"{name}.{kind}{'.' * bool(vector)}{vector[:1]}": variable
             for (name, kind, vector), variable in arrays.items() if kind in MASKS}  # fmt: skip
    joined = {name: variable for (name, kind, _), variable in arrays.items() if kind == "joined"}
    facts: dict[str, dict[str, Variable]] = {}
    for (name, kind, letter), variable in arrays.items():
        if kind == "facts":
            facts.setdefault(name, {})[letter] = hops_inside(variable) if variable.ndim == 4 else variable
    return Vectors(weights, parameters, entries, joined, facts, masks)
