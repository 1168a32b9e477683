"""From a spec to an ordinary PyTensor graph: projections, the sweep (plain or fused), read-outs and losses.

The number of nodes does not depend on the grid's extents, and one graph serves every length and batch size.
"""

# pyright: basic

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from gridc.errors import UsageError, nearest
from gridc.language import lattice, noise
from gridc.language.lattice import Ints, points
from gridc.language.shapes import effective_blocks, parameter_shapes, weights
from gridc.language.spec import GridSpec, Input, Output, Selection, Transform
from gridc.scheduling.padded import Plan
from gridc.symbolic.indices import Sizes, index_arrays
from gridc.symbolic.lowerings import resolve
from gridc.symbolic.wiring import Wiring, take

# PyTensor says of most of its functions neither what they take nor what they give.
pt: Any = importlib.import_module("pytensor.tensor")
gradient: Any = importlib.import_module("pytensor.gradient")

Variable = Any  # a pytensor TensorVariable


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
    lowering: Literal["plain", "fused", "auto"] = "auto",
    dtype: str = "float32",
    weighted: bool = False,
    scan: Any = None,
    static: Sizes | None = None,
    training: bool = False,
    recompute: bool = False,
    device: Plan | None = None,
) -> Symbols:
    """Lower a spec to PyTensor variables, to be built into anybody's graph.

    ``inputs`` and ``parameters`` are variables by name (those of the language); what is left out is made.  ``lengths`` is an
    int64 matrix ``[batch, symbols]``; without it every example fills the grid.  ``scan`` is the mode of a Scan's inner
    graph, and ``static`` the sizes where a backend needs them fixed.  ``training`` makes variables of the masks
    that dropout and zoneout draw; without it the graph is that of prediction; ``recompute`` keeps little and runs twice.
    ``device`` is what a fused sweep on a device is compiled for, whose sizes are ``static``.
    Raises UsageError for a wrong name or rank."""
    given_inputs = _named("input", input_variables(spec, dtype), inputs)
    given_targets = _named("target", target_variables(spec, dtype), targets)
    given_parameters = _named("parameter", parameter_variables(spec, dtype), parameters)
    if not spec.inputs:
        raise UsageError("the spec has no inputs, so nothing tells the batch; expected at least one")
    extent = _extent(spec, given_inputs) if extent is None else extent
    if lengths is None:
        lengths = _full(spec, extent)
    masks = {name: pt.TensorType(dtype, shape)(name) for name, shape in noise.known(spec).items()} if training else {}
    row = resolve(spec, lowering, recompute, device is not None)
    wired = _wire(spec, given_inputs, given_parameters, extent, lengths, dtype, scan, static)
    wiring = replace(wired, masks=masks, recompute=recompute, device=device)
    taps, indices = row.sweep(wiring)
    logits = {name: _logits(o, taps[name], given_parameters) for name, o in spec.outputs.items()}
    valid, mask_indices = _valid(spec, extent, lengths, static, everywhere=device is not None)
    weighed = spec.outputs.items() if weighted else ()
    weights = {name: pt.TensorType(dtype, (None,) * (1 + len(o.axes)))(f"{name}.weight") for name, o in weighed}
    outputs: dict[str, Variable] = {}
    losses: dict[str, Variable] = {}
    for name, o in spec.outputs.items():
        outputs[name], losses[name] = _read_out(o, logits[name], given_targets[name], valid.get(name), weights.get(name), dtype)
    total = sum(losses.values(), start=pt.as_tensor(np.asarray(0, dtype)))
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
    spec: GridSpec, inputs: Mapping[str, Variable], p: Mapping[str, Variable], extent: Variable, lengths: Variable, dtype: str,
    scan: Any, static: Sizes | None,
) -> Wiring:  # fmt: skip
    vectors = {name: _vectors(x, inputs[name], p, dtype) for name, x in spec.inputs.items() if not x.facts}
    entries: dict[tuple[str, str], Variable] = {}
    moved = [x for x in spec.inputs.values() if x.enters and not _in_place(spec, x)]
    indices: list[Variable] = []
    where: dict[str, Variable] = {}
    if moved:
        indices = index_arrays(spec, entry_indices, (("int64", 1),) * len(moved), extent, lengths, static)
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
    return Wiring(spec, dtype, extent, lengths, weights, dict(p), shifted, joined, facts, tuple(indices), scan, static)


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
        return w[variable].sum(axis=2) if w.ndim == 2 else w[:, variable].sum(axis=3)

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


# -- read-outs and losses ------------------------------------------------------------------------------------------


def _logits(o: Output, taps: list[Variable], p: Mapping[str, Variable]) -> Variable:
    read = taps[0] if len(taps) == 1 else pt.concatenate(taps, axis=-1)
    return read if o.kind == "raw" else read @ p[f"{o.name}.W"] + p[f"{o.name}.b"]


def _valid(
    spec: GridSpec, extent: Variable, lengths: Variable, static: Sizes | None, everywhere: bool = False
) -> tuple[dict[str, Variable], list[Variable]]:
    """Tell which positions of each output lie within their example, ``[batch, *axes]``: none for outputs that always do, unless
    asked for ``everywhere``, since whole examples may be padding."""
    names = [o.name for o in spec.outputs.values() if everywhere or _can_end(spec, o)]
    if not names:
        return {}, []
    kinds = [("bool", 1 + len(spec.outputs[n].axes)) for n in names]
    masks = index_arrays(spec, every_output_mask if everywhere else output_masks, kinds, extent, lengths, static)
    return dict(zip(names, masks, strict=True)), masks


def _can_end(spec: GridSpec, o: Output) -> bool:
    return any(isinstance(spec.dimensions[d].size, str) and s not in ("first", "last") for d, s in enumerate(o.at))


def output_masks(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> tuple[np.ndarray, ...]:
    """Tell whether every cell that an output reads at a position exists, for the outputs that can end early."""
    masks = zip(spec.outputs.values(), every_output_mask(spec, sizes, batch, extents), strict=True)
    return tuple(mask for o, mask in masks if _can_end(spec, o))


def every_output_mask(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> tuple[np.ndarray, ...]:
    """Tell the same of all outputs."""
    extents = lattice.filled(sizes, batch, extents)
    masks: list[np.ndarray] = []
    for o in spec.outputs.values():
        found = [lattice.output_points(o, spec.transforms[tap.transform], sizes, extents)[1] for tap in o.reads]
        masks.append(np.logical_and.reduce([exists.all(axis=-1) for exists in found]))
    return tuple(masks)


def _read_out(
    o: Output, logits: Variable, target: Variable, valid: Variable | None, weight: Variable | None, dtype: str
) -> tuple[Variable, Variable]:
    """Make the output and its loss, a mean over the positions that exist."""
    if o.kind == "binary":
        logits = logits[..., 0]
    if o.kind == "classes":
        # The shift cancels, so nothing need be differentiated through the maximum.
        shifted = logits - gradient.disconnected_grad(pt.max(logits, axis=-1, keepdims=True))
        exponential = pt.exp(shifted)
        total = pt.sum(exponential, axis=-1)
        output = exponential / total[..., None]
        hit = pt.eq(target[..., None], np.arange(o.size))
        each = pt.log(total) - pt.sum(pt.where(hit, shifted, pt.zeros((), dtype)), axis=-1)
    elif o.kind == "binary":
        output = pt.sigmoid(logits)
        each = pt.softplus(logits) - target * logits if o.loss == "binary_cross_entropy" else (output - target) ** 2
    else:
        output = logits
        each = pt.mean((output - target) ** 2, axis=-1)
    each = each if weight is None else weight * each
    if valid is None:
        return output, pt.sum(each) / pt.cast(target.size if each.ndim == target.ndim else pt.prod(target.shape[:-1]), dtype)
    inside = valid if output.ndim == valid.ndim else valid[..., None]
    count = pt.maximum(pt.sum(pt.cast(valid, dtype)), pt.ones((), dtype))
    zero = pt.zeros((), dtype)
    return pt.where(inside, output, zero), pt.sum(pt.where(valid, each, zero)) / count
