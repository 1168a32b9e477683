"""A grid as scikit-learn's regressor: one target or several, scaled for the training."""

# pyright: basic
# scikit-learn brings no types.

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from gridc.errors import DataError
from gridc.sklearn.estimator import GridEstimator


class GridRegressor(RegressorMixin, GridEstimator):
    """A grid that estimates one number, or several; a spec of your own ends in an output of ``features`` or ``raw``.

    The targets of a ``features`` output are scaled to mean 0 and deviation 1 for the training, and back in ``predict``."""

    _kinds = ("features", "raw")

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GridRegressor:
        """Train on arrays; returns itself.  ``sample_weight`` is what each example counts.

        Raises DataError (a ValueError) where they do not fit."""
        X, target, lengths = self._columns(X, y, first=True)
        self._train(X, target, lengths, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> GridRegressor:
        """Train on these arrays once, from where the last call stopped; returns itself.

        The targets of the first call say what all are scaled by.  Raises DataError (a ValueError) where arrays do not fit."""
        X, target, lengths = self._columns(X, y, first="grid_" not in vars(self))
        self._train(X, target, lengths, sample_weight, once=True)
        return self

    def _columns(self, X: Any, y: Any, first: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """X, the columns of y scaled, and lengths; the first time the scale is measured and the grid compiled."""
        X, y, lengths = self._checked(X, y, reset=first, multi_output=True, y_numeric=True)
        y = np.asarray(y, np.float64)
        target = y[:, None] if y.ndim == 1 else y
        if first:
            self._flat = y.ndim == 1
            scaled = next(iter(self._spec(X, "features", target.shape[1]).outputs.values())).kind == "features"
            self._mean = target.mean(axis=0) if scaled else np.zeros(target.shape[1])
            spread = target.std(axis=0) if scaled else np.ones(target.shape[1])
            self._spread = np.where(spread > 0, spread, 1.0)
            self._begin(X, "features", target.shape[1])
        elif target.shape[1] != len(self._mean):
            raise DataError(f"y has {target.shape[1]} columns; expected {len(self._mean)}, as in the first call")
        return X, (target - self._mean) / self._spread, lengths

    def predict(self, X: Any) -> np.ndarray:
        """Estimate a number, or several, for each example, in the shape of the ``y`` that it was trained on."""
        found = self._predicted(X) * self._spread + self._mean
        return found[:, 0] if self._flat else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
