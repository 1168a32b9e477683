"""What a grid's estimators have in common: their options, arrays of X as scikit-learn checks them, the page, and the training."""

# pyright: basic
# scikit-learn brings no types.

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,  # the one that scikit-learn's own estimators use
    check_array,
    check_is_fitted,
    check_X_y,
    validate_data,
)

from gridc.arrays.conversion import as_array
from gridc.arrays.dataset import Dataset, padded
from gridc.compiler import compile
from gridc.errors import DataError, UsageError, listed
from gridc.language.shapes import input_axes
from gridc.language.spec import GridSpec
from gridc.scheduling.check import read
from gridc.training.fit import fit
from gridc.training.optimizers import Optimizer, optimizer
from gridc.training.setup import row

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


class GridEstimator(BaseEstimator):
    """What the classifier and the regressor have in common.

    ``spec``: a GridSpec, a path or a page of YAML with one input and one output; None writes one from the data's shape, with
    ``cell``, ``hidden`` and ``depth``.  ``optimizer``, ``learning_rate``, ``batch``, ``epochs``, ``clip``, ``held_out`` and
    ``patience`` are those of ``Grid.fit``: by default a fifth of the examples is held out, training ends when they have not been
    predicted better for ten epochs, and the best weights are kept; ``held_out=None`` trains on all examples for all ``epochs``.
    ``backend``, ``lowering`` and ``dtype`` are those of ``gridc.compile``.

    X is a table ``[examples, features]``, sequences ``[examples, time, features]``, or a list of sequences of different lengths,
    each ``[time, features]`` or ``[time]``.

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
        epochs: int = 200,
        clip: float | None = 1.0,
        held_out: float | None = 0.2,
        patience: int | None = 10,
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

    def _checked(
        self, X: Any, y: Any = "no_validation", *, reset: bool, **options: Any
    ) -> tuple[np.ndarray, Any, np.ndarray | None]:
        """Give X as an array, y, and each sequence's length where X is a list of sequences; else with scikit-learn's errors."""
        alone = isinstance(y, str)  # as scikit-learn says that there is no y, where None is one that is missing
        X, lengths = _padded(X, keep_ids=self.spec is not None)
        if getattr(X, "ndim", 2) < 3:
            found: Any = validate_data(self, X, y, reset=reset, allow_nd=True, **options)
            return (found, None, lengths) if alone else (*found, lengths)
        # The features of sequences are their last axis; scikit-learn would count the steps.
        X, y = (check_array(X, allow_nd=True), None) if alone else check_X_y(X, y, allow_nd=True, **options)
        if reset:
            self.n_features_in_ = X.shape[-1]
        elif X.shape[-1] != self.n_features_in_:
            raise DataError(f"X has {X.shape[-1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                            "features as input")  # fmt: skip
        return X, y, lengths

    def _begin(self, X: np.ndarray, kind: str, size: int) -> None:
        """Compile the grid for examples like these."""
        spec = self._spec(X, kind, size)
        output = next(iter(spec.outputs.values()))
        if output.kind in ("features", "raw") and output.size != size:
            raise DataError(f"y has {size} columns; expected {output.size}, the size of output '{output.name}'")
        if output.kind in ("classes", "binary") and size > max(2, output.size):
            raise DataError(f"y has {size} classes; expected at most {max(2, output.size)}, those of output '{output.name}'")
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.grid_: Grid = compile(spec, self.backend, self.lowering, self.dtype, self._seed)  # type: ignore[arg-type]  # checked there
        self._going: Optimizer | None = None

    def _train(
        self, X: np.ndarray, target: np.ndarray, lengths: np.ndarray | None, sample_weight: Any, once: bool = False,
        **options: Any,
    ) -> None:  # fmt: skip
        """Train the grid, ``once`` over all examples or as the options of the estimator say."""
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            some = weights > 0  # an example that counts nothing is none
            if not some.any():
                raise DataError("sample_weight is zero for every example; expected one that counts")
            X, target, lengths = X[some], target[some], None if lengths is None else lengths[some]
            weights = weights[some] / weights[some].mean()
        (output,) = self.grid_.spec.outputs
        data = Dataset(self._inputs(X), {output: target}, self._lengths(lengths),
                       weights={} if weights is None else {output: weights})  # fmt: skip
        rule = {"learning_rate": self.learning_rate}
        named = {self.optimizer: rule} if isinstance(self.optimizer, str) else self.optimizer
        told = {"optimizer": named, "clip": self.clip, "budget": self.epochs, "seed": self._seed, "held_out": self.held_out}
        if once:
            if self._going is None:
                name, given = row("optimizer", named)
                self._going = optimizer(name, clip=self.clip, **given)
            told |= {"optimizer": self._going, "clip": None, "budget": 1, "held_out": None,
                     "seed": self._seed + self._going.count}  # fmt: skip
        elif self.held_out and round(self.held_out * len(X)) and self.patience is not None:
            told["stop"] = {"patience": self.patience}
        self.history_ = fit(self.grid_, data, batch=min(self.batch, len(X)), progress="auto" if self.verbose else "none",
                            **told, **options)  # fmt: skip

    def _lengths(self, lengths: np.ndarray | None) -> dict[str, np.ndarray]:
        if lengths is None:
            return {}
        ((name, axes),) = input_axes(self.grid_.spec).items()
        symbol = axes.axes[0] if axes.axes else None
        if not isinstance(symbol, str):
            raise DataError(f"X holds sequences of different lengths; input '{name}' takes {axes}")
        return {symbol: lengths}

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
        X, _, lengths = self._checked(X, reset=False)
        return next(iter(self.grid_.predict(self._inputs(X), self._lengths(lengths) or None).values())).astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        # The slots of an optimizer are no part of a model: after pickling ``partial_fit`` begins with new ones.
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]  # BaseEstimator's is untyped
        return {name: None if name == "_going" else value for name, value in state.items()}


def _padded(X: Any, keep_ids: bool) -> tuple[Any, np.ndarray | None]:
    """Fill up a list, or an array of objects, of sequences of different lengths, and give their lengths; else X as it is.

    Sequences of single numbers get an axis of one feature, unless they may be ids of a spec of one's own."""
    objects = getattr(X, "dtype", None) == np.dtype(object) and getattr(X, "ndim", 0) == 1
    items = X.tolist() if objects else X
    if not isinstance(items, list) or not items or not all(map(_is_sequence, items)):
        return X, None
    steps = np.array([len(item) for item in items])
    if len(set(steps.tolist())) == 1:
        return (np.stack([np.asarray(item) for item in items]) if objects else X), None
    if not steps.all():
        raise DataError(f"X holds an empty sequence, that of example {int(np.argmin(steps))}; expected at least one step")
    items = [as_array("X", item) for item in items]
    if not keep_ids:
        items = [item[:, None] if item.ndim == 1 else item for item in items]
    return padded({"X": items}, {}, "T").inputs["X"], steps


def _is_sequence(item: Any) -> bool:
    return bool(np.ndim(item)) if hasattr(item, "ndim") else isinstance(item, list | tuple)
