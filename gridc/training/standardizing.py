"""Real numbers of any size as a grid learns from them: mean 0 and deviation 1, and the weights that undo it.

A training with ``standardize`` shifts and scales every feature of its inputs and outputs.  Both are linear, and so are an
input's projection and an output's: when the training is over, or a model is kept, they go into those weights, and the grid
takes and gives numbers in the units of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gridc.arrays.axes import Axes, valid
from gridc.arrays.conversion import real
from gridc.arrays.dataset import Array, Dataset
from gridc.errors import UsageError
from gridc.language.spec import GridSpec
from gridc.training.metrics import Predictor

FAR = 20.0
"""Numbers whose mean or deviation is beyond this are pointed out: gates are open or shut before anything is learned."""


COARSE = 0.02
"""Steps of a type, in deviations of the numbers that it holds, from which it no longer tells them apart well enough."""


class Units(NamedTuple):
    """The mean and the deviation of every feature, ``[features]``; a feature that does not vary has the deviation 1."""

    mean: Array
    deviation: Array


@dataclass(frozen=True)
class Standard:
    """What is known of the numbers of every real input and output, as the grid's ``dtype`` holds them."""

    inputs: Mapping[str, Units]
    outputs: Mapping[str, Units]
    dtype: str = "float64"

    def applied(self, data: Dataset, inputs: bool = True) -> Dataset:
        """Shift and scale the examples to mean 0 and deviation 1, or their targets alone; an array that lay on the disk is read.

        Numbers are rounded to the grid's type before: those are what the model will be given."""
        wanted = {n: self._scaled(f"target '{n}'", a, self.outputs.get(n)) for n, a in data.targets.items()}
        if not inputs:
            return replace(data, targets=wanted)
        given = {n: self._scaled(f"input '{n}'", a, self.inputs.get(n)) for n, a in data.inputs.items()}
        return replace(data, inputs=given, targets=wanted)

    def _scaled(self, what: str, array: Array, units: Units | None) -> Array:
        return array if units is None else _in(units, real(what, np.asarray(array), self.dtype))

    def folded(
        self, spec: GridSpec, parameters: Mapping[str, Array], mine: Callable[[str, Array], Array] = lambda name, array: array
    ) -> dict[str, Array]:  # fmt: skip
        """Make the parameters of the same function for numbers in their own units; ``mine`` gives what of a parameter is here."""
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
                there = mine(f"{transform}.b", _there(spec, transform, name))
                found[f"{transform}.b"] = found[f"{transform}.b"] - there * (mean @ weight[..., rows, :])
        for name, (mean, deviation) in self.outputs.items():
            found[f"{name}.W"] = found[f"{name}.W"] * deviation
            found[f"{name}.b"] = found[f"{name}.b"] * deviation + mean
        return {name: array.astype(parameters[name].dtype) for name, array in found.items()}


@dataclass(frozen=True)
class InTrainingsUnits:
    """A grid that takes and gives numbers in their own units, with its outputs put into those of its training."""

    grid: Predictor
    standard: Standard

    @property
    def spec(self) -> GridSpec:
        """What the grid was compiled from."""
        return self.grid.spec

    @property
    def dtype(self) -> str:
        """Of the numbers that the grid takes."""
        return self.standard.dtype

    def predict(self, inputs: Mapping[str, Array], lengths: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """``Grid.predict``, with real outputs shifted and scaled."""
        found, units = self.grid.predict(inputs, lengths), self.standard.outputs
        return {name: _in(units[name], array) if name in units else array for name, array in found.items()}


def measured(data: Dataset, spec: GridSpec, dtype: str = "float64") -> Standard:
    """Measure means and deviations over these examples, rounded to that type, within their lengths.

    UsageError where a spec has no weights to undo them."""
    for name, one in spec.inputs.items():
        if one.kind == "features" and (one.facts or any(not _undone(spec, t, name) for t in one.joins)):
            raise UsageError(f"The input '{name}' cannot be standardized: that needs an input that enters a transform, or joins "
                             "one whose bias no cell without it shares. Scale its numbers before training.")  # fmt: skip
    return Standard(
        {name: _units(real(f"input '{name}'", np.asarray(data.inputs[name]), dtype), data.input_axes[name], data.lengths)
         for name, one in spec.inputs.items() if one.kind == "features"},
        {name: _units(real(f"target '{name}'", np.asarray(data.targets[name]), dtype), data.target_axes[name], data.lengths)
         for name, one in spec.outputs.items() if one.kind == "features"}, dtype,
    )  # fmt: skip


def far_off(data: Dataset, spec: GridSpec) -> str:
    """Write a sentence about numbers of a size that a grid learns badly from, or nothing; the first thousand examples tell."""
    data = data.take(slice(1000))
    for what, arrays, axes, known in (("input", data.inputs, data.input_axes, spec.inputs),
                                      ("output", data.targets, data.target_axes, spec.outputs)):  # fmt: skip
        for name in (name for name, one in known.items() if one.kind == "features"):
            mean, deviation = _units(arrays[name], axes[name], data.lengths)
            if max(np.abs(mean).max(), deviation.max()) > FAR:
                most = np.abs(_rows_of(arrays[name], axes[name], data.lengths)).max()
                return (f"The numbers of the {what} '{name}' go up to {most:,.6g}, and a grid learns best from "
                        "numbers around 1: 'standardize: true' in the training block (--standardize true, fit(standardize=True)) "
                        "sees to it.")  # fmt: skip
    return ""


def coarse(data: Dataset, spec: GridSpec, dtype: str) -> str:
    """Write a sentence about numbers so near to each other, for how large they are, that the grid's type hardly tells them apart,
    or nothing; the first thousand examples tell."""
    data = data.take(slice(1000))
    for what, arrays, axes, known in (("input", data.inputs, data.input_axes, spec.inputs),
                                      ("output", data.targets, data.target_axes, spec.outputs)):  # fmt: skip
        for name in (name for name, one in known.items() if one.kind == "features"):
            rows = _rows_of(arrays[name], axes[name], data.lengths)
            with np.errstate(over="ignore", invalid="ignore"):
                steps = np.spacing(np.abs(rows).max(axis=0).astype(dtype)).astype(np.float64)
                mean, deviation = rows.mean(axis=0), rows.std(axis=0)
            bad = np.flatnonzero((steps > COARSE * deviation) & ~_constant(mean, deviation, len(rows)) & np.isfinite(steps))
            if bad.size:
                at = int(bad[0])
                which = f"feature {at} of the {what} '{name}'" if rows.shape[1] > 1 else f"the {what} '{name}'"
                return (f"The numbers of {which} lie around {mean[at]:,.6g} with a deviation of {deviation[at]:.2g}, and {dtype} "
                        f"holds there only steps of {steps[at]:.2g}: subtract a number near them before training, or train in "
                        "float64 (--dtype float64, gridc.compile(…, dtype='float64')).")  # fmt: skip
    return ""


def _rows_of(array: Array, axes: Axes, lengths: Mapping[str, Array]) -> Array:
    """Lay out all vectors that count, ``[places, features]`` float64; one of zeros where none does."""
    shown = valid(axes, array, lengths)
    rows: Any = np.asarray(array, np.float64)
    rows = rows.reshape(-1, rows.shape[-1]) if shown is None else rows[shown]
    return rows if len(rows) else np.zeros((1, rows.shape[-1]))


def _units(array: Array, axes: Axes, lengths: Mapping[str, Array]) -> Units:
    rows = _rows_of(array, axes, lengths)
    with np.errstate(over="ignore"):  # numbers so large that their squares are infinite
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    return Units(mean, np.where(_constant(mean, deviation, len(rows)), 1.0, deviation))


def _constant(mean: Array, deviation: Array, count: int) -> Any:
    """Tell which features do not vary: their deviation is no more than the rounding of a mean and of a variance of so many.

    Source: scikit-learn's ``StandardScaler``, after Chan, Golub and LeVeque (1983), "Algorithms for Computing the Sample
    Variance"."""
    eps = float(np.finfo(np.float64).eps)
    # The roots of both sides: squares of large and of tiny numbers are infinite or 0.
    return deviation * np.sqrt(1 - count * eps) <= count * eps * np.abs(mean)


def _in(units: Units, array: Array) -> Array:
    return (np.asarray(array, np.float64) - units.mean) / units.deviation


def _rows(spec: GridSpec, transform: str, name: str) -> slice:
    """Find the rows of a transform's weights that a joined input takes: after what is read, in the order of joining."""
    at = spec.rows(transform) - sum(one.width for one in spec.joined(transform))
    for one in spec.joined(transform):
        if one.name == name:
            break
        at += one.width
    return slice(at, at + spec.inputs[name].width)


def _undone(spec: GridSpec, transform: str, name: str) -> bool:
    """Whether a transform's own bias can take up a joined input's mean: not where cells without the input share it."""
    t = spec.transforms[transform]
    alone = t.shares is None and all(other.shares != transform for other in spec.transforms.values())
    apart = (at == "all" or d in t.untied or spec.dimensions[d].size == 1 for d, at in enumerate(spec.inputs[name].at))
    return bool(t.gates) and t.bias and alone and all(apart)


def _there(spec: GridSpec, transform: str, name: str) -> Array:
    """Tell which of a transform's own biases are of cells with a joined input, ``[*untied, 1]``."""
    t = spec.transforms[transform]
    found = np.ones(1, bool)
    for d in reversed(t.untied):
        size, at = spec.dimensions[d].size, spec.inputs[name].at[d]
        cells = np.arange(size if isinstance(size, int) else 1)
        chosen = {"all": cells, "first": cells[:1], "last": cells[-1:]}.get(at, at) if isinstance(at, str) else list(at)
        found = np.isin(cells, chosen).reshape(-1, *[1] * found.ndim) & found
    return found
