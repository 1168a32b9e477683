"""A grid as scikit-learn's classifier: labels as codes, and what each class counts."""

# pyright: basic
# scikit-learn brings no types.

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from gridc.errors import DataError, listed
from gridc.language.spec import GridSpec
from gridc.sklearn.estimator import GridEstimator


class GridClassifier(ClassifierMixin, GridEstimator):
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
        epochs: int = 200,
        clip: float | None = 1.0,
        held_out: float | None = 0.2,
        patience: int | None = 10,
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GridClassifier:
        """Train on arrays; returns itself.  ``sample_weight`` is what each example counts.

        Raises DataError (a ValueError) where they do not fit."""
        X, y, lengths = self._checked(X, y, reset=True)
        check_classification_targets(y)
        self._known(np.unique(column_or_1d(y, warn=True)))
        self._begin(X, "classes", len(self.classes_))
        target = self._codes(y)
        self._train(X, target, lengths, sample_weight, **self._class_weights(X, target))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> GridClassifier:
        """Train on these arrays once, from where the last call stopped; returns itself.

        The first call is told all ``classes``, or finds them in y.  Raises DataError (a ValueError) where something does not
        fit."""
        first = "grid_" not in vars(self)
        X, y, lengths = self._checked(X, y, reset=first)
        check_classification_targets(y)
        if first:
            self._known(np.unique(y if classes is None else classes))
            self._begin(X, "classes", len(self.classes_))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise DataError(f"classes is {list(classes)}; expected {list(self.classes_)}, those of the first call")
        target = self._codes(y)
        self._train(X, target, lengths, sample_weight, once=True, **self._class_weights(X, target))
        return self

    def _known(self, classes: np.ndarray) -> None:
        if len(classes) < 2:
            raise DataError(f"y has one class only, {classes[0]!r}; expected at least 2 classes to tell apart")
        self.classes_ = classes

    def _codes(self, y: Any) -> np.ndarray:
        y = column_or_1d(y)
        if len(odd := np.setdiff1d(y, self.classes_)):
            raise DataError(f"y holds {odd.tolist()[0]!r}; expected {listed(self.classes_.tolist())}, the classes of the first "
                            "call")  # fmt: skip
        return np.searchsorted(self.classes_, y)

    def _class_weights(self, X: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        if self.class_weight is None:
            return {}
        codes = dict(enumerate(self.classes_))
        present = np.unique(target)
        given = np.ones(len(codes))
        given[present] = compute_class_weight(self.class_weight, classes=self.classes_[present], y=self.classes_[target])
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
