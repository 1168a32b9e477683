"""How good predictions are: loss, accuracy and R² per output, and the confusion matrix.

Positions past an example's end, and those that are ignored, do not count.  Everything is summed in double precision over
batches, so that the figures do not depend on how the examples were cut into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gridc.arrays.axes import Axes, valid
from gridc.arrays.dataset import Array, Dataset
from gridc.data.fitting import for_spec
from gridc.data.mini_batches import Shuffled
from gridc.data.weights import spread
from gridc.errors import DataError, UsageError, listed, nearest, printable
from gridc.tables.losses import LOSSES, Prediction
from gridc.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec, Output


class Predictor(Protocol):
    """What scoring needs of a grid."""

    @property
    def spec(self) -> GridSpec:
        """What the grid was compiled from."""
        ...

    def predict(self, inputs: Mapping[str, Array], lengths: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """``Grid.predict``."""
        ...


def measure(output: Output) -> str:
    """Name an output's figure: accuracy where it decides, R² where it estimates."""
    return "accuracy" if output.kind in ("classes", "binary") else "r2"


@dataclass
class Meter:
    """Sums from which an output's loss and figure follow, over any number of batches.

    ``count`` positions, ``right`` of them correct, ``loss`` the sum of their losses; for R², per feature, the sums of the
    target, its square and the squared error, all shifted by the first target.  ``classes`` is what each class counts in the
    loss, as it is trained on.
    """

    output: Output
    axes: Axes
    count: float = 0.0
    right: float = 0.0
    loss: float = 0.0
    sums: list[list[float]] = field(default_factory=list[list[float]])
    classes: Array | None = None

    def add(self, target: Array, prediction: Array, lengths: Mapping[str, Array], weights: Array | None = None) -> None:
        """Count one batch: ``target`` and ``prediction`` as the grid takes and gives them; ``weights`` is what each example or
        each position counts in the loss."""
        shown = valid(self.axes, target, lengths)
        if weights is not None:
            weights = spread(weights, target.shape[: target.ndim - self.axes.real]).reshape(-1)
        trailing = prediction.ndim - target.ndim if self.output.kind == "classes" else 0
        if self.axes.real:
            trailing = 1
            target = target.reshape(-1, target.shape[-1])
        else:
            target = target.reshape(-1)
        prediction = prediction.reshape(-1, prediction.shape[-1]) if trailing else prediction.reshape(-1)
        if shown is not None:
            target, prediction = target[shown.reshape(-1)], prediction[shown.reshape(-1)]
            weights = None if weights is None else weights[shown.reshape(-1)]
        self.count += len(target)
        if not self.axes.real:
            decided = prediction.argmax(axis=1) if trailing else prediction > 0.5
            self.right += float(np.count_nonzero(decided == target))
        elif len(target):
            self._spread(target.astype(np.float64), prediction)
        losses = self._losses(target, prediction)
        if self.classes is not None:
            losses = losses * self.classes[target.astype(np.int64)]
        self.loss += float((losses if weights is None else losses * weights).sum(dtype=np.float64))

    def _losses(self, target: Array, p: Array) -> Array:
        """Give the loss of every position, ``[positions]``."""
        tiny = float(np.finfo(p.dtype).tiny)
        if self.output.kind == "classes":
            surprisal = -np.log(np.maximum(p[np.arange(len(target)), target], tiny))
            made = Prediction(np, p, target, surprisal, lambda: -np.log(np.maximum(p, tiny)).mean(axis=-1))
        else:
            surprisal = -np.log(np.maximum(np.where(target > 0.5, p, 1 - p), tiny)) if self.output.kind == "binary" else None
            made = Prediction(np, p, target, surprisal, error=(p - target).astype(np.float64))
        return LOSSES[self.output.loss].each(made, dict(self.output.loss_options))

    def _spread(self, y: Array, p: Array) -> None:
        if not self.sums:
            self.sums = [y[0].tolist(), *([0.0] * y.shape[1] for _ in range(3))]
        shift, *sums = self.sums
        moved = y - np.array(shift)
        new = (moved.sum(axis=0), np.square(moved).sum(axis=0), np.square(p - y).sum(axis=0))
        self.sums = [shift, *((np.array(old) + add).tolist() for old, add in zip(sums, new, strict=True))]

    def result(self) -> dict[str, float]:
        """``{"loss": ..., "accuracy": ...}``, or ``"r2"``; NaN where nothing was counted."""
        if not self.count:
            return {"loss": float("nan"), measure(self.output): float("nan")}
        figures = {"loss": self.loss / self.count}
        if not self.axes.real:
            return figures | {"accuracy": self.right / self.count}
        _, total, squares, errors = (np.array(one) for one in self.sums)
        spread = squares - np.square(total) / self.count
        # As scikit-learn's r2_score: a feature that does not vary counts 1 where it is met, and 0 where not.
        share = np.where(spread > 0, 1 - errors / np.where(spread > 0, spread, 1), np.where(errors == 0, 1.0, 0.0))
        return figures | {"r2": float(share.mean())}

    def clear(self) -> None:
        """Start again from nothing."""
        self.count, self.right, self.loss, self.sums = 0.0, 0.0, 0.0, []

    def state(self) -> dict[str, Any]:
        """Return the sums, for a checkpoint."""
        return {"count": self.count, "right": self.right, "loss": self.loss, "sums": self.sums}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Count what another meter has counted, too; its sums are moved to the shift of this one's."""
        if self.sums and state["sums"]:
            shift, *own = (np.array(one) for one in self.sums)
            other, total, squares, errors = (np.array(one) for one in state["sums"])
            by = other - shift
            moved = (total + state["count"] * by, squares + 2 * by * total + state["count"] * np.square(by), errors)
            self.sums = [self.sums[0], *((old + add).tolist() for old, add in zip(own, moved, strict=True))]
        elif state["sums"]:
            self.sums = [list(one) for one in state["sums"]]
        self.count, self.right, self.loss = (getattr(self, name) + state[name] for name in ("count", "right", "loss"))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over saved sums."""
        self.count, self.right, self.loss, self.sums = (state[name] for name in ("count", "right", "loss", "sums"))


def meters(spec: GridSpec, classes: Mapping[str, Array] | None = None) -> dict[str, Meter]:
    """Make a meter for every output; ``classes`` says what each class of some outputs counts in the loss."""
    from gridc.language.shapes import output_axes

    axes = output_axes(spec)
    return {name: Meter(output, axes[name], classes=(classes or {}).get(name)) for name, output in spec.outputs.items()}


def gathered(found: Mapping[str, Meter], ranks: Ranks) -> None:
    """Make these meters, which each of the ranks has, count what all of them did."""
    if ranks.size == 1:
        return
    states = ranks.gather({name: meter.state() for name, meter in found.items()})
    for name, meter in found.items():
        meter.clear()
        for state in states:
            meter.merge(state[name])


def evaluate(
    grid: Predictor, data: Dataset, *, batch: int = 128, classes: Mapping[str, Array] | None = None, ranks: Ranks = ALONE
) -> dict[str, dict[str, float]]:
    """Every output's loss and figure over a data set that fits the grid's spec; ``classes`` as ``meters`` takes it.

    Each of the ranks predicts its share, and all of them get the figures of the whole."""
    found, share = meters(grid.spec, classes), ranks.share(len(data))
    own = data if ranks.size == 1 else data.take(share.rows)
    for part, predictions in _predictions(grid, own, batch) if share.counts or not share.of else ():
        for name, meter in found.items() if share.measured else ():
            meter.add(part.targets[name], predictions[name], part.lengths, part.weights.get(name))
    gathered(found, ranks)
    return {name: meter.result() for name, meter in found.items()}


def score(grid: Predictor, data: Dataset, *, batch: int = 128) -> dict[str, float]:
    """Every output's accuracy (classes, binary) or R² (features, raw) over a data set."""
    found = evaluate(grid, for_spec(data, grid.spec), batch=batch)
    return {name: found[name][measure(output)] for name, output in grid.spec.outputs.items()}


@dataclass(frozen=True)
class Confusion:
    """How often each class (rows) was taken for each (columns): ``counts[true, predicted]``."""

    output: str
    labels: tuple[str, ...]
    counts: Array

    def __str__(self) -> str:
        labels = [printable(label) for label in self.labels]
        width = max(len(label) for label in (*labels, str(self.counts.max())))
        head = " ".join(f"{label:>{width}}" for label in labels)
        rows = (f"{label:>{width}} {' '.join(f'{n:>{width}}' for n in row)}"
                for label, row in zip(labels, self.counts.tolist(), strict=True))  # fmt: skip
        return "\n".join([f"{self.output}: true (rows) against predicted (columns)", f"{'':>{width}} {head}", *rows])


def confusion(grid: Predictor, data: Dataset, output: str | None = None, *, batch: int = 128) -> Confusion:
    """Count the confusion matrix of an output of classes or of a binary one (by default the first such)."""
    able = [name for name, one in grid.spec.outputs.items() if one.kind in ("classes", "binary")]
    if output is None and not able:
        raise UsageError(f"'{grid.spec.name}' has no output of classes, so there is no confusion matrix.")
    name = able[0] if output is None else output
    if name not in able:
        raise UsageError(f"There is no confusion matrix of '{name}', expected {listed(able)}{nearest(name, able)}")
    data, one = for_spec(data, grid.spec), grid.spec.outputs[name]
    size = one.size if one.kind == "classes" else 2
    counts = np.zeros((size, size), np.int64)
    for part, predictions in _predictions(grid, data, batch):
        target, p = part.targets[name], predictions[name]
        decided = p.argmax(axis=-1) if one.kind == "classes" else (p > 0.5).astype(np.int64)
        shown = valid(data.target_axes[name], target, part.lengths)
        pairs = (target, decided) if shown is None else (target[shown], decided[shown])
        np.add.at(counts, tuple(np.asarray(pair).reshape(-1).astype(np.int64) for pair in pairs), 1)
    words = data.vocabularies.get(name, ())[:size]
    # A class that no word stands for is shown by its number where it was predicted, else not at all.
    if words and not counts[len(words) :].any() and not counts[:, len(words) :].any():
        counts = counts[: len(words), : len(words)]
    return Confusion(name, (*words, *map(str, range(len(words), len(counts)))), counts)


def _predictions(grid: Predictor, data: Dataset, batch: int) -> Any:
    if not len(data):
        raise DataError("The data set has no examples to predict.")
    if not data.targets:
        raise DataError("The data set has no targets to compare with.")
    dtype = getattr(grid, "dtype", "float32")
    batches = Shuffled(data, batch, shuffle=False)
    for one, _ in zip(batches.after(0), range(batches.steps), strict=False):
        part = one.data.ready(dtype)
        yield part, grid.predict(part.inputs, part.lengths or None)
