"""Grids as scikit-learn estimators: in a Pipeline, in a GridSearchCV, wherever `fit` and `predict` are known.

Without a spec of your own the estimators write a page for the data: a table ``[examples, features]`` becomes a 1-Grid LSTM
along depth, sequences ``[examples, time, features]`` a 2-Grid LSTM over time and depth.  A spec of your own has one input and
one output; rows of a table are given the shape of its input.
"""

# pyright: basic
# scikit-learn brings no types.

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from gridc.compiler import compile
from gridc.errors import DataError, UsageError, listed
from gridc.language.shapes import input_axes
from gridc.language.spec import GridSpec
from gridc.scheduling.check import read

if TYPE_CHECKING:
    from gridc.grid import Grid

TABLE = """\
name: table
dimensions: {{depth: {depth}}}
transforms:
  depth: {{cell: {cell}, hidden: {hidden}, tied: none}}
inputs:
  X: {{features: {features}, enters: depth}}
outputs:
  y: {{{kind}: {size}, reads: [depth], at: {{depth: last}}}}
"""
SEQUENCES = """\
name: sequences
dimensions: {{time: T, depth: {depth}}}
transforms:
  depth: {{cell: {cell}, hidden: {hidden}}}
  time: {{cell: {cell}, hidden: {hidden}}}
priority: [time, depth]
inputs:
  X: {{features: {features}, enters: depth}}
outputs:
  y: {{{kind}: {size}, reads: [time, depth], at: {{time: last, depth: last}}}}
"""


class _GridEstimator(BaseEstimator):
    """What the classifier and the regressor have in common.

    ``spec``: a GridSpec, a path or a page of YAML with one input and one output; None writes one from the data's shape, with
    ``cell``, ``hidden`` and ``depth``.  ``optimizer``, ``learning_rate``, ``batch``, ``epochs``, ``clip``, ``held_out`` and
    ``patience`` are those of ``Grid.fit``; ``backend``, ``lowering`` and ``dtype`` those of ``gridc.compile``.

    Fitted: ``grid_`` (a ``gridc.Grid``), ``history_``, ``n_features_in_``, ``feature_names_in_`` where X has them."""

    _kinds: tuple[str, ...] = ()

    def __init__(
        self,
        spec: GridSpec | str | os.PathLike[str] | None = None,
        *,
        cell: str = "lstm",
        hidden: int = 32,
        depth: int = 3,
        optimizer: Any = "adam",
        learning_rate: float = 0.01,
        batch: int = 32,
        epochs: int = 50,
        clip: float | None = 1.0,
        held_out: float | None = None,
        patience: int | None = None,
        backend: str = "auto",
        lowering: str = "auto",
        dtype: str = "float64",
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.spec = spec
        self.cell = cell
        self.hidden = hidden
        self.depth = depth
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch = batch
        self.epochs = epochs
        self.clip = clip
        self.held_out = held_out
        self.patience = patience
        self.backend = backend
        self.lowering = lowering
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, X: np.ndarray, kind: str, size: int, target: np.ndarray, **options: Any) -> None:
        spec = self._spec(X, kind, size)
        output = next(iter(spec.outputs.values()))
        if output.kind in ("features", "raw") and output.size != size:
            raise DataError(f"y has {size} columns; expected {output.size}, the size of output '{output.name}'")
        if output.kind in ("classes", "binary") and size > max(2, output.size):
            raise DataError(f"y has {size} classes; expected at most {max(2, output.size)}, those of output '{output.name}'")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.grid_: Grid = compile(spec, self.backend, self.lowering, self.dtype, seed)  # type: ignore[arg-type]  # checked there
        named = {self.optimizer: {"learning_rate": self.learning_rate}} if isinstance(self.optimizer, str) else self.optimizer
        if self.patience is not None and not self.held_out:
            raise UsageError("'patience' compares losses of held-out examples; give 'held_out', for instance 0.1")
        self.history_ = self.grid_.fit(
            self._inputs(X), {output.name: target}, optimizer=named, batch=min(self.batch, len(X)), budget=self.epochs,
            clip=self.clip, stop=None if self.patience is None else {"patience": self.patience}, held_out=self.held_out,
            seed=seed, progress="auto" if self.verbose else "none", **options,
        )  # fmt: skip

    def _spec(self, X: np.ndarray, kind: str, size: int) -> GridSpec:
        if self.spec is None:
            if X.ndim > 3:
                raise DataError(f"X has the shape {X.shape}; expected [examples, features] or [examples, time, features], "
                                "or a spec for arrays of more axes")  # fmt: skip
            page = TABLE if X.ndim == 2 else SEQUENCES
            values = {"cell": self.cell, "hidden": self.hidden, "depth": self.depth, "features": X.shape[-1]}
            return read(page.format(**values, kind=kind, size=size))
        spec = self.spec if isinstance(self.spec, GridSpec) else read(self.spec)
        for what, found in (("input", spec.inputs), ("output", spec.outputs)):
            if len(found) != 1:
                raise UsageError(f"the spec '{spec.name}' has {len(found)} {what}s; an estimator takes one, X in and y out")
        output = next(iter(spec.outputs.values()))
        if output.kind not in self._kinds:
            mine = f"{type(self).__name__} takes {listed(self._kinds)}"
            raise UsageError(f"output '{output.name}' is of kind {output.kind}; {mine}")
        if output.axes:
            raise UsageError(f"output '{output.name}' is read at all of {listed(spec.names(output.axes), 'and')}; an estimator "
                             "gives one answer an example: select first, last or an index there")  # fmt: skip
        return spec

    def _inputs(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """X in the shape of the spec's input: a row of a table is cut into the input's axes."""
        ((name, axes),) = input_axes(self.grid_.spec).items()
        if X.ndim == 2 and len(axes.axes) != 1:
            unknown = [axis for axis in axes.axes if not isinstance(axis, int)]
            known = int(np.prod([axis for axis in axes.axes if isinstance(axis, int)], dtype=int))
            if len(unknown) > 1 or X.shape[1] % known or (not unknown and X.shape[1] != known):
                raise DataError(f"rows of {X.shape[1]} numbers do not make input '{name}', expected {axes}")
            X = X.reshape(len(X), *(axis if isinstance(axis, int) else X.shape[1] // known for axis in axes.axes))
        return {name: X}

    def _predicted(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True)
        return next(iter(self.grid_.predict(self._inputs(X)).values())).astype(np.float64)


class GridClassifier(ClassifierMixin, _GridEstimator):
    """A grid that tells classes apart; a spec of your own ends in an output of ``classes`` or ``binary``.

    ``class_weight`` is None, ``balanced`` or a mapping of label to weight.  Fitted: ``classes_``."""

    _kinds = ("classes", "binary")

    def __init__(
        self,
        spec: GridSpec | str | os.PathLike[str] | None = None,
        *,
        cell: str = "lstm",
        hidden: int = 32,
        depth: int = 3,
        optimizer: Any = "adam",
        learning_rate: float = 0.01,
        batch: int = 32,
        epochs: int = 50,
        clip: float | None = 1.0,
        held_out: float | None = None,
        patience: int | None = None,
        class_weight: Any = None,
        backend: str = "auto",
        lowering: str = "auto",
        dtype: str = "float64",
        random_state: Any = None,
        verbose: bool = False,
    ):
        super().__init__(
            spec, cell=cell, hidden=hidden, depth=depth, optimizer=optimizer, learning_rate=learning_rate, batch=batch,
            epochs=epochs, clip=clip, held_out=held_out, patience=patience, backend=backend, lowering=lowering, dtype=dtype,
            random_state=random_state, verbose=verbose,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any) -> GridClassifier:
        """Train on arrays; returns itself.  Raises DataError (a ValueError) where they do not fit."""
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, target = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"y has one class only, {self.classes_[0]!r}; expected at least 2 classes to tell apart")
        self._fit(X, "classes", len(self.classes_), target, **self._class_weights(X, target))
        return self

    def _class_weights(self, X: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        if self.class_weight is None:
            return {}
        from sklearn.utils.class_weight import compute_class_weight

        codes = dict(enumerate(self.classes_))
        given = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[target])
        output = next(iter(self._spec(X, "classes", len(codes)).outputs.values()))
        weights = np.ones(max(2, output.size) if output.kind == "classes" else 2)
        weights[: len(given)] = given
        return {"class_weights": {output.name: weights.tolist()}}

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each of ``classes_``, ``[examples, classes]``."""
        found = self._predicted(X)
        if found.ndim == 1:  # a binary output
            found = np.stack([1 - found, found], axis=1)
        found = found[:, : len(self.classes_)]
        return found / found.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the likeliest class of each example, ``[examples]``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]


class GridRegressor(RegressorMixin, _GridEstimator):
    """A grid that estimates one number, or several; a spec of your own ends in an output of ``features`` or ``raw``.

    The targets of a ``features`` output are scaled to mean 0 and deviation 1 for the training, and back in ``predict``."""

    _kinds = ("features", "raw")

    def fit(self, X: Any, y: Any) -> GridRegressor:
        """Train on arrays; returns itself.  Raises DataError (a ValueError) where they do not fit."""
        X, y = validate_data(self, X, y, allow_nd=True, multi_output=True, y_numeric=True)
        y = np.asarray(y, np.float64)
        self._flat = y.ndim == 1
        target = y[:, None] if self._flat else y
        scaled = next(iter(self._spec(X, "features", target.shape[1]).outputs.values())).kind == "features"
        self._mean = target.mean(axis=0) if scaled else np.zeros(target.shape[1])
        spread = target.std(axis=0) if scaled else np.ones(target.shape[1])
        self._spread = np.where(spread > 0, spread, 1.0)
        self._fit(X, "features", target.shape[1], (target - self._mean) / self._spread)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Estimate a number, or several, for each example, in the shape of the ``y`` that it was trained on."""
        found = self._predicted(X) * self._spread + self._mean
        return found[:, 0] if self._flat else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
