"""From what the sweep leaves to outputs and losses: read-outs, and which positions of them count."""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gridc.language import lattice
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec, Output
from gridc.symbolic.indices import Sizes, index_arrays
from gridc.symbolic.wiring import Variable
from gridc.tables.losses import LOSSES, Prediction

Fused = Callable[..., tuple[Variable, Variable]]
"""Makes the probabilities and the loss of ``plain``, logits, target, weight, ``inside`` and a share of label smoothing."""
pt: Any = importlib.import_module("pytensor.tensor")
gradient: Any = importlib.import_module("pytensor.gradient")


def logits(o: Output, taps: list[Variable], p: Mapping[str, Variable]) -> Variable:
    """Give what an output's weights make of what it reads, ``[batch, *axes, …]``."""
    read = taps[0] if len(taps) == 1 else pt.concatenate(taps, axis=-1)
    return read if o.kind == "raw" else read @ p[f"{o.name}.W"] + p[f"{o.name}.b"]


def valid(
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


def read_out(
    o: Output, logits: Variable, target: Variable, inside: Variable | None, weight: Variable | None, dtype: str,
    fused: Fused | None = None,
) -> tuple[Variable, Variable]:  # fmt: skip
    """Make the output and its loss, a mean over the positions that exist and are not ignored; of classes in Ops of their own
    where the graph is ``fused``."""
    shown = inside
    known = _counted(o, target)
    if known is not None:
        # Nothing is made of a target that does not count, not even a NaN times 0.
        target = pt.where(known[..., None] if target.ndim > known.ndim else known, target, pt.zeros((), target.dtype))
        inside = known if inside is None else inside & known

    def plain(logits: Variable, target: Variable, weight: Variable | None, inside: Variable | None) -> tuple[Variable, Variable]:
        return _plain(o, logits, target, inside, weight, dtype)

    if fused is not None and o.kind == "classes" and o.loss == "cross_entropy":
        output, loss = fused(plain, logits, target, weight, inside, float(dict(o.loss_options).get("label_smoothing", 0.0)))
    else:
        output, loss = plain(logits, target, weight, inside)
    if shown is not None:
        output = pt.where(shown if output.ndim == shown.ndim else shown[..., None], output, pt.zeros((), dtype))
    return output, loss


def _plain(
    o: Output, logits: Variable, target: Variable, inside: Variable | None, weight: Variable | None, dtype: str
) -> tuple[Variable, Variable]:
    """Make them in ordinary ops."""
    if o.kind == "binary":
        logits = logits[..., 0]
    if o.kind == "classes":
        # The shift cancels, so nothing need be differentiated through the maximum.
        shifted = logits - gradient.disconnected_grad(pt.max(logits, axis=-1, keepdims=True))
        exponential = pt.exp(shifted)
        total = pt.sum(exponential, axis=-1)
        output = exponential / total[..., None]
        hit = pt.eq(target[..., None], np.arange(o.size))
        surprisal = pt.log(total) - pt.sum(pt.where(hit, shifted, pt.zeros((), dtype)), axis=-1)
        made = Prediction(pt, output, target, surprisal, lambda: pt.log(total) - pt.mean(shifted, axis=-1))
    elif o.kind == "binary":
        output = pt.sigmoid(logits)
        made = Prediction(pt, output, target, pt.softplus(logits) - target * logits, error=output - target)
    else:
        output = logits
        made = Prediction(pt, output, target, error=output - target)
    each = LOSSES[o.loss].each(made, dict(o.loss_options))
    each = each if each.dtype == dtype else pt.cast(each, dtype)  # which a loss with numbers of its own may be wider than
    each = each if weight is None else weight * each
    if inside is None:
        return output, pt.sum(each) / pt.cast(target.size if each.ndim == target.ndim else pt.prod(target.shape[:-1]), dtype)
    count = pt.maximum(pt.sum(pt.cast(inside, dtype)), pt.ones((), dtype))
    return output, pt.sum(pt.where(inside, each, pt.zeros((), dtype))) / count


def _counted(o: Output, target: Variable) -> Variable | None:
    """Tell which positions have a target that counts, ``[batch, *axes]``; None where all have."""
    if o.ignore is None:
        return None
    if o.ignore == "nan":
        return pt.invert(pt.any(pt.isnan(target), axis=-1))
    return pt.neq(target, np.asarray(o.ignore, target.dtype))
