"""Every shape that a spec implies: of parameters, inputs and targets; and which blocks of a weight may be other than zero."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from gridc.arrays.axes import Axes
from gridc.language.spec import GridSpec, Transform
from gridc.tables.mechanisms import Units, Weight

Shape = tuple[int, ...]


def parameter_shapes(spec: GridSpec) -> dict[str, Shape]:
    """Give the name and shape of every parameter, transforms first, in the order of declaration."""
    result: dict[str, Shape] = {}
    for name, t in spec.transforms.items():
        if t.shares is None:
            untied = tuple(int(spec.dimensions[d].size) for d in t.untied)
            for word, weight in weights(spec, t).items():
                result[f"{name}.{word}"] = weight.shape if weight.facts else (*untied, *weight.shape)
        if t.start == "learned":
            result[f"{name}.start.h"] = (t.hidden,)
            if t.has_memory:
                result[f"{name}.start.m"] = (t.hidden,)
    for name, i in spec.inputs.items():
        if i.embed is not None:
            result[f"{name}.embed"] = (i.size, i.embed)
        for vector in i.into:
            hidden = spec.transforms[i.enters or ""].hidden
            result[f"{name}.{vector}.W"] = (i.width, hidden)
            result[f"{name}.{vector}.b"] = (hidden,)
    for name, o in spec.outputs.items():
        if o.kind != "raw":
            read = sum(spec.transforms[tap.transform].hidden for tap in o.reads)
            cells = math.prod(len(s) for s in o.at if isinstance(s, tuple))
            result[f"{name}.W"], result[f"{name}.b"] = (read * cells, o.size), (o.size,)
    return result


def units(spec: GridSpec, t: Transform) -> Units:
    """Give what the weights of a transform follow from."""
    hops = spec.dimensions[t.along[0]].size
    return Units(
        spec.rows(t.name), t.hidden, len(t.gates), len(t.peephole_names()), t.bias, hops if isinstance(hops, int) else None,
        spec.inputs[t.attends].width if t.attends is not None else 0, t.embeddings, t.options,
        len(t.along),
    )  # fmt: skip


def weights(spec: GridSpec, t: Transform) -> dict[str, Weight]:
    """Give the weights of a transform's cell, by the letter or word that stands behind the transform's name."""
    return t.mechanism.weights(units(spec, t))


def columns(spec: GridSpec, t: Transform) -> int:
    """Count the numbers that a transform's ``W`` makes of what it sees; 0 where it has none."""
    w = weights(spec, t).get("W")
    return 0 if w is None else w.shape[-1]


def own_rows(spec: GridSpec, t: Transform) -> npt.NDArray[np.bool_]:
    """Tell which rows of ``W`` multiply the transform's own entering hidden vector."""
    mask: list[bool] = []
    for read in t.reads:
        entering = read.of == t.name and (read.via is not None or _is_entering(t, read.offset))
        mask += [entering] * spec.transforms[read.of].hidden
    return np.array(mask + [False] * (spec.rows(t.name) - len(mask)))


def _is_entering(t: Transform, offset: tuple[int, ...]) -> bool:
    """Tell whether an explicit offset is that of the entering vector, wherever the cell lies."""
    if len(t.along) != 1 or len(set(t.direction[0].cycle)) != 1:
        return False
    return all(o == (-t.direction[0].cycle[0] if d == t.along[0] else 0) for d, o in enumerate(offset))


def effective_blocks(spec: GridSpec, t: Transform) -> npt.NDArray[np.float64] | None:
    """Give 1 where ``W`` may be other than zero and 0 elsewhere, ``[rows, columns]``; None where all of it may.

    A gru's gate ``s`` takes the own entering vector alone and gate ``c`` everything else, as in cuDNN."""
    if not t.mechanism.sees:
        return None
    mask, own = np.ones((spec.rows(t.name), len(t.gates), t.hidden)), own_rows(spec, t)
    for gate, seen in t.mechanism.sees.items():
        for k in (k for k, name in enumerate(t.gates) if name == gate or name.startswith(f"{gate}_")):
            mask[own if seen == "others" else ~own, k] = 0
    return mask.reshape(len(mask), -1)


def input_axes(spec: GridSpec) -> dict[str, Axes]:
    """Give the axes of every input's array."""
    axes: dict[str, Axes] = {}
    for name, x in spec.inputs.items():
        real = x.kind == "features"
        sizes: tuple[int | str | None, ...] = tuple(spec.dimensions[d].size for d in x.over)
        names = spec.names(x.over)
        if x.facts:  # as many facts as there are, of as many words
            sizes, names = (None, *(() if real else (None,))), ("facts", *(() if real else ("words",)))
        last = (x.size,) if real else ()
        axes[name] = Axes((*sizes, *last), real, None if real else x.size, (*names, *map(str, last)))
    return axes


def output_axes(spec: GridSpec) -> dict[str, Axes]:
    """Give the axes of every output's target."""
    axes: dict[str, Axes] = {}
    for name, o in spec.outputs.items():
        below = {"classes": o.size, "binary": 2}.get(o.kind)
        last = (o.size,) if below is None else ()
        sizes = tuple(spec.dimensions[d].size for d in o.axes)
        axes[name] = Axes((*sizes, *last), below is None, below, (*spec.names(o.axes), *map(str, last)),
                          o.ignore)  # fmt: skip
    return axes


def unreached(spec: GridSpec, sizes: Mapping[str, int]) -> str:
    """Say which cell is named by a page and lies beyond what these sizes of symbols reach; nothing where none does."""
    ports = (*((f"input '{name}'", one.at) for name, one in spec.inputs.items()),
             *((f"output '{name}'", one.at) for name, one in spec.outputs.items()))  # fmt: skip
    for what, at in ports:
        for dimension, selection in zip(spec.dimensions, at, strict=True):
            size = sizes.get(dimension.size) if isinstance(dimension.size, str) else None
            if size is not None and isinstance(selection, tuple) and max(selection) >= size:
                return (f"{what} is at cell {max(selection)} of '{dimension.name}', and with '{dimension.size}' = {size} the "
                        f"last is {size - 1}")  # fmt: skip
    return ""
