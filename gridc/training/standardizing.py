"""Real numbers of any size as a grid learns from them: mean 0 and deviation 1, and the weights that undo it.

A training with ``standardize`` shifts and scales every feature of its inputs and outputs.  Both are linear, and so are an
input's projection and an output's: when the training is over, or a model is kept, they go into those weights, and the grid
takes and gives numbers in the units of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gridc.arrays.axes import Axes
from gridc.arrays.dataset import Array, Dataset
from gridc.errors import UsageError
from gridc.language.spec import GridSpec
from gridc.training.metrics import valid

FAR = 20.0
"""Numbers whose mean or deviation is beyond this are pointed out: gates are open or shut before anything is learned."""


class Units(NamedTuple):
    """The mean and the deviation of every feature, ``[features]``; a feature that does not vary has the deviation 1."""

    mean: Array
    deviation: Array


@dataclass(frozen=True)
class Standard:
    """What is known of the numbers of every real input and output."""

    inputs: Mapping[str, Units]
    outputs: Mapping[str, Units]

    def applied(self, data: Dataset) -> Dataset:
        """Shift and scale the examples to mean 0 and deviation 1; an array that lay on the disk is read."""
        return replace(data, inputs={n: _scaled(a, self.inputs.get(n)) for n, a in data.inputs.items()},
                       targets={n: _scaled(a, self.outputs.get(n)) for n, a in data.targets.items()})  # fmt: skip

    def folded(self, spec: GridSpec, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """Make the parameters of the same function for numbers in their own units."""
        found = {name: np.asarray(array, np.float64) for name, array in parameters.items()}
        for name, (mean, deviation) in self.inputs.items():
            one = spec.inputs[name]
            for vector in one.into:
                weight = found[f"{name}.{vector}.W"] / deviation[:, None]
                found[f"{name}.{vector}.W"] = weight
                found[f"{name}.{vector}.b"] = found[f"{name}.{vector}.b"] - mean @ weight
            for transform in one.joins:
                rows = _rows(spec, transform, name)
                weight = found[f"{transform}.W"].copy()
                weight[..., rows, :] /= deviation[:, None]
                found[f"{transform}.W"] = weight
                found[f"{transform}.b"] = found[f"{transform}.b"] - mean @ weight[..., rows, :]
        for name, (mean, deviation) in self.outputs.items():
            found[f"{name}.W"] = found[f"{name}.W"] * deviation
            found[f"{name}.b"] = found[f"{name}.b"] * deviation + mean
        return {name: array.astype(parameters[name].dtype) for name, array in found.items()}


def measured(data: Dataset, spec: GridSpec) -> Standard:
    """Means and deviations over these examples, within their lengths; UsageError where a spec has no weights to undo them."""
    for name, one in spec.inputs.items():
        if one.kind == "features" and (one.facts or any(not _undone(spec, t, name) for t in one.joins)):
            raise UsageError(f"The input '{name}' cannot be standardized: that needs an input that enters a transform, or joins "
                             "one with a bias at all cells. Scale its numbers before training.")  # fmt: skip
    return Standard(
        {name: _units(data.inputs[name], data.input_axes[name], data.lengths)
         for name, one in spec.inputs.items() if one.kind == "features"},
        {name: _units(data.targets[name], data.target_axes[name], data.lengths)
         for name, one in spec.outputs.items() if one.kind == "features"},
    )  # fmt: skip


def far_off(data: Dataset, spec: GridSpec) -> str:
    """Write a sentence about numbers of a size that a grid learns badly from, or nothing; the first thousand examples tell."""
    data = data.take(slice(1000))
    for what, arrays, axes, known in (("input", data.inputs, data.input_axes, spec.inputs),
                                      ("output", data.targets, data.target_axes, spec.outputs)):  # fmt: skip
        for name in (name for name, one in known.items() if one.kind == "features"):
            mean, deviation = _units(arrays[name], axes[name], data.lengths)
            if max(np.abs(mean).max(), deviation.max()) > FAR:
                most = np.abs(arrays[name]).max()
                return (f"The numbers of the {what} '{name}' go up to {most:,.6g}, and a grid learns best from "
                        "numbers around 1: 'standardize: true' in the training block (--standardize true, fit(standardize=True)) "
                        "sees to it.")  # fmt: skip
    return ""


def _units(array: Array, axes: Axes, lengths: Mapping[str, Array]) -> Units:
    shown = valid(axes, array, lengths)
    rows: Any = np.asarray(array, np.float64)
    rows = rows.reshape(-1, rows.shape[-1]) if shown is None else rows[shown]
    with np.errstate(over="ignore"):  # numbers so large that their squares are infinite
        deviation = rows.std(axis=0)
    return Units(rows.mean(axis=0), np.where(deviation > 0, deviation, 1.0))


def _scaled(array: Array, units: Units | None) -> Array:
    return array if units is None else (np.asarray(array, np.float64) - units.mean) / units.deviation


def _rows(spec: GridSpec, transform: str, name: str) -> slice:
    """Find the rows of a transform's weights that a joined input takes: after what is read, in the order of joining."""
    at = spec.rows(transform) - sum(one.width for one in spec.joined(transform))
    for one in spec.joined(transform):
        if one.name == name:
            break
        at += one.width
    return slice(at, at + spec.inputs[name].width)


def _undone(spec: GridSpec, transform: str, name: str) -> bool:
    """Whether a transform's own bias can take up a joined input's mean: not where the input is only there at some cells."""
    t = spec.transforms[transform]
    alone = t.shares is None and all(other.shares != transform for other in spec.transforms.values())
    return bool(t.gates) and t.bias and alone and all(one == "all" for one in spec.inputs[name].at)
