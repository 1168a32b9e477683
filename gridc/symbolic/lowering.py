"""From a spec to an ordinary PyTensor graph: what enters and joins, the sweep (plain or fused), read-outs and losses.

The number of nodes does not depend on the grid's extents, and one graph serves every length and batch size.
"""

# pyright: basic

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridc.errors import UsageError, nearest
from gridc.language import lattice, noise
from gridc.language.lattice import Ints, points
from gridc.language.shapes import effective_blocks, parameter_shapes, weights
from gridc.language.spec import GridSpec, Input, Selection, Transform
from gridc.symbolic import classes, read_out
from gridc.symbolic.indices import index_arrays
from gridc.symbolic.lowerings import resolve
from gridc.symbolic.wiring import Extent, Variable, Vectors, Way, Wiring, take

# PyTensor says of most of its functions neither what they take nor what they give.
pt: Any = importlib.import_module("pytensor.tensor")


@dataclass(frozen=True)
class Symbols:
    """A lowered grid as PyTensor variables, by name.

    ``inputs``, ``targets`` and ``lengths`` are what a function takes; ``outputs`` are probabilities for classes, ``logits``
    what they come from; ``losses`` one scalar an output and ``loss`` their sum; ``extent`` the batch and the sizes."""

    inputs: Mapping[str, Variable]
    targets: Mapping[str, Variable]
    parameters: Mapping[str, Variable]
    outputs: Mapping[str, Variable]
    logits: Mapping[str, Variable]
    losses: Mapping[str, Variable]
    loss: Variable
    extent: Variable
    lengths: Variable
    weights: Mapping[str, Variable] = field(default_factory=dict)
    """What each position of each output counts in the loss, where the graph was lowered ``weighted``."""
    indices: tuple[Variable, ...] = field(default=(), repr=False)
    """The integer arrays that the graph works out from the sizes."""
    masks: Mapping[str, Variable] = field(default_factory=dict)
    """What dropout and zoneout draw for each call (``gridc.language.noise.draw``), where it was lowered for ``training``."""


def input_shape(spec: GridSpec, x: Input) -> tuple[str, ...]:
    """Name the axes of an input's array, in words."""
    if x.facts:
        return ("batch", "facts", str(x.size) if x.kind == "features" else "words")
    axes = ("batch", *spec.names(x.over))
    return (*axes, str(x.size)) if x.kind == "features" else axes


def input_variables(spec: GridSpec, dtype: str) -> dict[str, Variable]:
    """Make a variable for each input: floats for features, int64 for ids."""
    return {
        name: pt.TensorType(dtype if x.kind == "features" else "int64", (None,) * len(input_shape(spec, x)))(name)
        for name, x in spec.inputs.items()
    }


def target_variables(spec: GridSpec, dtype: str) -> dict[str, Variable]:
    """Make a variable for each output's target: int64 classes and 0/1, floats for features and raw vectors."""
    return {
        name: pt.TensorType(
            "int64" if o.kind == "classes" else dtype, (None,) * (1 + len(o.axes) + (o.kind in ("features", "raw")))
        )(f"{name}.target")
        for name, o in spec.outputs.items()
    }


def lower(
    spec: GridSpec,
    inputs: Mapping[str, Variable] | None = None,
    parameters: Mapping[str, Variable] | None = None,
    *,
    targets: Mapping[str, Variable] | None = None,
    lengths: Variable | None = None,
    extent: Variable | None = None,
    way: Way = Way(),  # noqa: B008  # a frozen value
    weighted: bool = False,
    training: bool = False,
) -> Symbols:
    """Lower a spec to PyTensor variables, to be built into anybody's graph.

    ``inputs`` and ``parameters`` are variables by name (those of the language); what is left out is made.  ``lengths`` is an
    int64 matrix ``[batch, symbols]``; without it every example fills the grid, and ``extent`` is what the inputs tell.
    ``training`` makes variables of the masks that dropout and zoneout draw; without it the graph is that of prediction.
    Raises UsageError for a wrong name or rank."""
    given_inputs = _named("input", input_variables(spec, way.dtype), inputs)
    given_targets = _named("target", target_variables(spec, way.dtype), targets)
    given_parameters = _named("parameter", parameter_variables(spec, way.dtype), parameters)
    if not spec.inputs:
        raise UsageError("the spec has no inputs, so nothing tells the batch; expected at least one")
    extent = _extent(spec, given_inputs) if extent is None else extent
    if lengths is None:
        lengths = _full(spec, extent)
    masks = {name: pt.TensorType(way.dtype, shape)(name) for name, shape in noise.known(spec).items()} if training else {}
    row = resolve(spec, way.lowering, way.device is not None, way.products)
    wiring = _wire(spec, given_inputs, given_parameters, masks, Extent(extent, lengths), way)
    taps, indices = row.sweep(wiring)
    logits = {name: read_out.logits(o, taps[name], given_parameters) for name, o in spec.outputs.items()}
    valid, mask_indices = read_out.valid(spec, extent, lengths, way.static, everywhere=way.device is not None)
    weighed = spec.outputs.items() if weighted else ()
    weights = {name: pt.TensorType(way.dtype, (None,) * (1 + len(o.axes)))(f"{name}.weight") for name, o in weighed}
    fused = functools.partial(classes.made, threads=way.threads) if row.prepare is not None else None
    outputs: dict[str, Variable] = {}
    losses: dict[str, Variable] = {}
    for name, o in spec.outputs.items():
        outputs[name], losses[name] = read_out.read_out(
            o, logits[name], given_targets[name], valid.get(name), weights.get(name), way.dtype, fused)  # fmt: skip
    total = sum(losses.values(), start=pt.as_tensor(np.asarray(0, way.dtype)))
    return Symbols(given_inputs, given_targets, given_parameters, outputs, logits, losses, total, extent, lengths, weights,
                   (*wiring.indices, *indices, *mask_indices), masks)  # fmt: skip


def parameter_variables(spec: GridSpec, dtype: str) -> dict[str, Variable]:
    """Make a variable for each parameter, of the shape that the spec gives it and in this floating-point type."""
    return {name: pt.TensorType(dtype, shape)(name) for name, shape in parameter_shapes(spec).items()}


def _named(kind: str, made: dict[str, Variable], given: Mapping[str, Variable] | None) -> dict[str, Variable]:
    for name, variable in (given or {}).items():
        if name not in made:
            raise UsageError(f"there is no {kind} '{name}'{nearest(name, made)}")
        variable = pt.as_tensor_variable(variable)
        if variable.ndim != made[name].ndim:
            raise UsageError(f"{kind} '{name}': found a variable of {variable.ndim} axes; expected {made[name].ndim}")
        if variable.dtype != made[name].dtype:
            raise UsageError(f"{kind} '{name}': found a variable of {variable.dtype}; expected {made[name].dtype}")
        made[name] = variable
    return made


def _dimension_of(spec: GridSpec, symbol: str) -> int:
    return next(d for d, dimension in enumerate(spec.dimensions) if dimension.size == symbol)


def _extent(spec: GridSpec, inputs: Mapping[str, Variable]) -> Variable:
    """Give the batch and every dimension's size, from the shapes of the inputs."""
    first = next(iter(inputs.values()))
    parts = [first.shape[0]]
    for dimension in spec.dimensions:
        if isinstance(dimension.size, int):
            parts.append(pt.as_tensor(np.int64(dimension.size)))
            continue
        name, axis = next((i.name, i.over.index(d)) for i in spec.inputs.values()
                          for d in i.over if spec.dimensions[d].size == dimension.size)  # fmt: skip
        parts.append(inputs[name].shape[1 + axis])
    return pt.stack(parts)


def _full(spec: GridSpec, extent: Variable) -> Variable:
    """Give the lengths with which every example fills the grid."""
    sizes = [extent[1 + _dimension_of(spec, symbol)] for symbol in spec.symbols]
    row = pt.stack(sizes) if sizes else pt.zeros((0,), dtype="int64")
    return pt.alloc(row, extent[0], len(sizes))


# -- what enters and what joins ------------------------------------------------------------------------------------


def _wire(
    spec: GridSpec, inputs: Mapping[str, Variable], p: Mapping[str, Variable], masks: Mapping[str, Variable], call: Extent,
    way: Way,
) -> Wiring:  # fmt: skip
    dtype = way.dtype
    vectors = {name: _vectors(x, inputs[name], p, dtype) for name, x in spec.inputs.items() if not x.facts}
    entries: dict[tuple[str, str], Variable] = {}
    moved = [x for x in spec.inputs.values() if x.enters and not _in_place(spec, x)]
    indices: list[Variable] = []
    where: dict[str, Variable] = {}
    if moved:
        indices = index_arrays(spec, entry_indices, (("int64", 1),) * len(moved), call.extent, call.lengths, way.static)
        where = dict(zip((x.name for x in moved), indices, strict=True))
    shifts: dict[tuple[str, str], Variable] = {}
    for name in spec.transforms:
        for x in spec.entering(name):
            for vector in x.into:
                key = (name, vector)
                projected, bias = vectors[x.name](p[f"{x.name}.{vector}.W"]), p[f"{x.name}.{vector}.b"]
                if x.name in where:
                    rows = where[x.name]
                    projected = pt.where(rows[:, None] < 0, pt.zeros((), dtype), take(projected + bias, pt.maximum(rows, 0)))
                else:
                    shifts[key] = bias if key not in shifts else shifts[key] + bias
                entries[key] = projected if key not in entries else entries[key] + projected
    for name, vector in entries:
        start = p.get(f"{name}.start.{vector[0]}")
        if start is not None:
            shifts[name, vector] = shifts[name, vector] + start if (name, vector) in shifts else start
    weights = {}
    for name, t in spec.transforms.items():
        owner = spec.weight_owner(name)
        w = p.get(f"{owner}.W")
        mask = effective_blocks(spec, t)
        if mask is not None and w is not None:
            w = w * mask.astype(dtype)
        holes = [v for v in (p.get(f"{owner}.{word}") for word in ("p", *t.vectors)) if v is not None]
        hole = pt.concatenate(holes, axis=-1) if len(holes) > 1 else next(iter(holes), None)
        weights[name] = (w, p.get(f"{owner}.b"), hole)
    joined = {name: vectors[name](None) for name, x in spec.inputs.items() if x.joins}
    facts = {}
    for t in spec.transforms.values():
        if t.attends is not None:
            facts[t.name] = _facts(spec, t, inputs[t.attends], p)
    shifted = {key: (entry, shifts.get(key)) for key, entry in entries.items()}
    return Wiring(spec, way, call, Vectors(weights, dict(p), shifted, joined, facts, masks), tuple(indices))


def _vectors(x: Input, variable: Variable, p: Mapping[str, Variable], dtype: str) -> Any:
    """Make a function that gives an input's vectors ``[rows, width]`` times a matrix, or the vectors themselves for None."""
    if x.kind == "features":
        flat = variable.reshape((-1, x.size))
        return lambda w: flat if w is None else flat @ w
    ids = variable.flatten()
    if x.embed is not None:
        embedded = take(p[f"{x.name}.embed"], ids)
        return lambda w: embedded if w is None else embedded @ w
    return lambda w: take(pt.eye(x.size, dtype=dtype) if w is None else w, ids)


def _facts(spec: GridSpec, t: Transform, variable: Variable, p: Mapping[str, Variable]) -> dict[str, Variable]:
    """Embed a memory's facts by each of its matrices: ``[batch, facts, hidden]``, for adjacent hops one axis before."""
    x = spec.inputs[t.attends or ""]
    real = x.kind == "features"
    if x.embed is not None:
        variable, real = take(p[f"{x.name}.embed"], variable).sum(axis=2), True

    def embed(w: Variable) -> Variable:
        if real:
            return variable @ (w if w.ndim == 2 else w[:, None])
        if w.ndim == 2:
            return w[variable].sum(axis=2)
        # Words first: what a look-up along the first axis adds in the gradient, ``scatters`` adds up quickly.
        return w.dimshuffle(1, 0, 2)[variable].sum(axis=2).dimshuffle(2, 0, 1, 3)

    return {letter: embed(p[f"{t.name}.{letter}"]) for letter, weight in weights(spec, t).items() if weight.facts}


def _in_place(spec: GridSpec, x: Input) -> bool:
    """Tell whether an entering input's array already has one vector for every place where its transform enters the grid."""
    own = spec.transforms[x.enters or ""].along[0]
    others = tuple(d for d in range(len(spec.dimensions)) if d != own)
    return x.over == others and all(x.at[d] == "all" for d in others)


def entry_indices(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> tuple[np.ndarray, ...]:
    """Give, for each input that is not in place, the row of its array that enters at every place, -1 where none does."""
    extents = lattice.filled(sizes, batch, extents)
    result: list[np.ndarray] = []
    for x in spec.inputs.values():
        if not x.enters or _in_place(spec, x):
            continue
        own = spec.transforms[x.enters].along[0]
        at = points(tuple(1 if d == own else n for d, n in enumerate(sizes)))
        example, where = np.repeat(np.arange(batch), len(at)), np.tile(at, (batch, 1))
        row = lattice.flat(where, sizes, x.over, example)
        chosen: tuple[Selection, ...] = tuple("all" if d == own else s for d, s in enumerate(x.at))
        result.append(np.where(lattice.selected(chosen, where, extents[example]), row, -1))
    return tuple(result)
