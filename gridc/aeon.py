"""Grids as aeon's estimators: a classifier and a regressor of series of one or several channels, of equal lengths or not.

Without a spec of your own they write a page for a 2-Grid LSTM over time and depth.  A spec of your own has one input over one
dimension, whose size is a symbol, and one output with one answer an example.
"""

# pyright: basic, reportMissingImports=false
# aeon brings no types.

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from aeon.classification.base import BaseClassifier
from aeon.regression.base import BaseRegressor
from sklearn.utils import check_random_state

from gridc.compiler import compile
from gridc.errors import UsageError, listed
from gridc.language.spec import GridSpec
from gridc.scheduling.check import read

PAGE = """\
name: series
dimensions: {{time: T, depth: {depth}}}
transforms:
  depth: {{cell: {cell}, hidden: {hidden}}}
  time: {{cell: {cell}, hidden: {hidden}}}
priority: [time, depth]
inputs:
  X: {{features: {channels}, enters: depth}}
outputs:
  y: {{{kind}, reads: [time, depth], at: {{time: last, depth: last}}}}
"""
Spec = GridSpec | str | os.PathLike[str] | None
TAGS = {"X_inner_type": "np-list", "capability:multivariate": True, "capability:unequal_length": True}


class _Series:
    """What the classifier and the regressor have in common."""

    _kinds: tuple[str, ...] = ()
    spec: Spec
    cell: str
    hidden: int
    depth: int
    learning_rate: float
    batch: int
    epochs: int
    clip: float | None
    random_state: Any

    def _train(self, X: Sequence[np.ndarray], kind: str, target: np.ndarray) -> None:
        channels = len(X[0])
        page = PAGE.format(depth=self.depth, cell=self.cell, hidden=self.hidden, channels=channels, kind=kind)
        spec = read(page) if self.spec is None else self.spec if isinstance(self.spec, GridSpec) else read(self.spec)
        self._check(spec, channels, target)
        steps = np.concatenate(list(X), axis=1)
        self._center, spread = steps.mean(axis=1), steps.std(axis=1)
        self._spread = np.where(spread > 0, spread, 1.0)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.grid_ = compile(spec, seed=seed, eager=False)
        self.history_ = self.grid_.fit(
            self._inputs(X), {next(iter(spec.outputs)): target}, optimizer={"adam": {"learning_rate": self.learning_rate}},
            batch=min(self.batch, len(X)), budget=self.epochs, clip=self.clip, seed=seed, progress="none",
        )  # fmt: skip

    def _check(self, spec: GridSpec, channels: int, target: np.ndarray) -> None:
        """Raise UsageError where a spec does not take series, or does not answer once for each."""
        if len(spec.inputs) != 1 or len(spec.outputs) != 1:
            raise UsageError(f"the spec '{spec.name}' has {len(spec.inputs)} inputs and {len(spec.outputs)} outputs; a series is "
                             "one input, and its label one output")  # fmt: skip
        (x,), (o,) = spec.inputs.values(), spec.outputs.values()
        if x.kind != "features" or len(x.over) != 1 or not isinstance(spec.dimensions[x.over[0]].size, str):
            raise UsageError(f"input '{x.name}' is no series: expected features over one dimension whose size is a symbol")
        if x.size != channels:
            raise UsageError(f"the series have {channels} channels; input '{x.name}' takes {x.size} features")
        if o.kind not in self._kinds or o.axes:
            raise UsageError(f"output '{o.name}' is of kind {o.kind}{' at several places' if o.axes else ''}; expected "
                             f"{listed(self._kinds)}, read at one place")  # fmt: skip
        if o.kind == "classes" and target.max() >= o.size:
            raise UsageError(f"y has {target.max() + 1} classes; output '{o.name}' has {o.size}")

    def _inputs(self, X: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
        scaled = [((series.T - self._center) / self._spread) for series in X]
        return {next(iter(self.grid_.spec.inputs)): scaled}

    def _answers(self, X: Sequence[np.ndarray]) -> np.ndarray:
        return next(iter(self.grid_.predict(self._inputs(X)).values())).astype(np.float64)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        """Choose what aeon's own checks make an estimator with: little."""
        return {"hidden": 4, "depth": 1, "epochs": 2}


class GridClassifier(_Series, BaseClassifier):
    """A grid that tells classes of series apart.

    ``spec``: a GridSpec, a path or a page of YAML; None writes one, with ``cell``, ``hidden`` and ``depth``.  ``learning_rate``,
    ``batch``, ``epochs`` and ``clip`` are those of ``Grid.fit``, whose optimiser is Adam.  Channels are scaled to mean 0 and
    deviation 1 over the training's series.  Fitted: ``grid_`` (a ``gridc.Grid``), ``history_``."""

    _tags = TAGS
    _kinds = ("classes",)

    def __init__(
        self, spec: Spec = None, *, cell: str = "lstm", hidden: int = 32, depth: int = 2, learning_rate: float = 0.01,
        batch: int = 32, epochs: int = 50, clip: float | None = 1.0, random_state: Any = None,
    ):  # fmt: skip
        self.spec, self.cell, self.hidden, self.depth = spec, cell, hidden, depth
        self.learning_rate, self.batch, self.epochs, self.clip = learning_rate, batch, epochs, clip
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: Any) -> GridClassifier:
        target = np.array([self._class_dictionary[label] for label in y], np.int64)
        self._train(X, f"classes: {max(2, self.n_classes_)}", target)
        return self

    def _predict(self, X: Any) -> np.ndarray:
        return self.classes_[self._predict_proba(X).argmax(axis=1)]

    def _predict_proba(self, X: Any) -> np.ndarray:
        found = self._answers(X)[:, : self.n_classes_]
        return found / found.sum(axis=1, keepdims=True)


class GridRegressor(_Series, BaseRegressor):
    """A grid that estimates a number for each series, trained on numbers scaled to mean 0 and deviation 1.

    Parameters and what is fitted are those of ``GridClassifier``."""

    _tags = TAGS
    _kinds = ("features",)

    def __init__(
        self, spec: Spec = None, *, cell: str = "lstm", hidden: int = 32, depth: int = 2, learning_rate: float = 0.01,
        batch: int = 32, epochs: int = 50, clip: float | None = 1.0, random_state: Any = None,
    ):  # fmt: skip
        self.spec, self.cell, self.hidden, self.depth = spec, cell, hidden, depth
        self.learning_rate, self.batch, self.epochs, self.clip = learning_rate, batch, epochs, clip
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: Any) -> GridRegressor:
        y = np.asarray(y, np.float64)
        self._mean, self._deviation = y.mean(), y.std() or 1.0
        self._train(X, "features: 1", ((y - self._mean) / self._deviation)[:, None])
        return self

    def _predict(self, X: Any) -> np.ndarray:
        return self._answers(X)[:, 0] * self._deviation + self._mean
