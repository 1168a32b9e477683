"""The estimators: scikit-learn's own checks, a Pipeline, a GridSearchCV, and specs of one's own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from gridc.errors import DataError, UsageError
from gridc.sklearn import GridClassifier, GridRegressor

SMALL: dict[str, Any] = {"hidden": 10, "depth": 1, "epochs": 15, "learning_rate": 0.04, "random_state": 0}


@parametrize_with_checks([GridClassifier(**SMALL), GridRegressor(**SMALL)])
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def examples(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    return make_classification(n, 6, n_informative=4, class_sep=2.0, random_state=0)


def test_pipeline_and_grid_search() -> None:
    x, y = examples()
    labels = np.array(["no", "yes"])[y]
    pipeline = make_pipeline(StandardScaler(), GridClassifier(**SMALL))
    search = GridSearchCV(pipeline, {"gridclassifier__hidden": [4, 12]}, cv=2)
    search.fit(x * 100 + 5, labels)
    assert search.score(x * 100 + 5, labels) > 0.9
    assert set(search.predict(x * 100 + 5)) == {"no", "yes"}


def test_an_estimator_can_be_pickled_and_cloned() -> None:
    x, y = examples()
    fitted = GridClassifier(**SMALL).fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))
    assert not hasattr(clone(fitted), "grid_")
    assert clone(fitted).get_params() == fitted.get_params()


def test_a_spec_of_ones_own_gets_rows_in_its_inputs_shape() -> None:
    digits = load_digits()
    page = """
    name: rows
    dimensions: {time: T}
    transforms: {time: {cell: lstm, hidden: 16}}
    inputs: {row: {features: 8, joins: [time]}}
    outputs: {digit: {classes: 10, reads: [time], at: {time: last}}}
    """
    x, y = digits.data[:300] / 16, digits.target[:300]
    fitted = GridClassifier(page, epochs=15, random_state=0).fit(x, y)
    assert fitted.grid_.spec.name == "rows"
    assert fitted.score(x, y) > 0.8
    whole = GridClassifier(page, epochs=15, random_state=0).fit(x.reshape(-1, 8, 8), y)
    np.testing.assert_allclose(whole.predict_proba(x[:3].reshape(3, 8, 8)), fitted.predict_proba(x[:3]), atol=1e-12)


def test_a_binary_output_and_class_weights() -> None:
    x, y = examples()
    page = """
    name: yes-no
    dimensions: {depth: 2}
    transforms: {depth: {cell: lstm, hidden: 8}}
    inputs: {x: {features: 6, enters: depth}}
    outputs: {y: {binary: true, reads: [depth], at: {depth: last}}}
    """
    fitted = GridClassifier(page, epochs=20, learning_rate=0.02, random_state=0).fit(x, y)
    assert fitted.predict_proba(x).shape == (len(x), 2)
    assert fitted.score(x, y) > 0.9
    one_sided = GridClassifier(page, epochs=20, learning_rate=0.02, random_state=0, class_weight={0: 1000, 1: 0.001}).fit(x, y)
    assert (one_sided.predict(x) == 0).all()


def test_sequences_and_several_targets() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 5, 2))
    y = x.sum(axis=1) * [10, 0.1] + [100, 0]
    fitted = GridRegressor(hidden=12, depth=1, epochs=80, learning_rate=0.02, random_state=0).fit(x, y)
    assert fitted.predict(x).shape == y.shape
    assert fitted.score(x, y) > 0.9


def test_early_stopping() -> None:
    x, y = examples()
    fitted = GridClassifier(**{**SMALL, "epochs": 200}, held_out=0.2, patience=3).fit(x, y)
    assert fitted.history_.restored
    assert len(fitted.history_) < 200


def test_what_does_not_fit_is_said() -> None:
    x, y = examples()
    page = "name: n\ndimensions: {time: T}\ntransforms: {time: {cell: lstm, hidden: 4}}\n"
    page += "inputs: {x: {features: 6, joins: [time]}}\n"
    with pytest.raises(UsageError, match="at all of time; an estimator gives one answer an example"):
        GridClassifier(page + "outputs: {y: {classes: 2, reads: [time]}}\n").fit(x, y)
    with pytest.raises(UsageError, match="of kind classes; GridRegressor takes features or raw"):
        GridRegressor(page + "outputs: {y: {classes: 2, reads: [time], at: {time: last}}}\n").fit(x, y)
    with pytest.raises(UsageError, match="has 0 outputs; an estimator takes one"):
        GridClassifier(page).fit(x, y)
    with pytest.raises(DataError, match="y has 3 classes; expected at most 2"):
        GridClassifier(page + "outputs: {y: {classes: 2, reads: [time], at: {time: last}}}\n").fit(x, np.arange(len(x)) % 3)
    with pytest.raises(DataError, match="rows of 5 numbers do not make input 'x'"):
        GridClassifier(page + "outputs: {y: {classes: 2, reads: [time], at: {time: last}}}\n").fit(x[:, :5], y)
    with pytest.raises(UsageError, match="give 'held_out'"):
        GridClassifier(patience=3).fit(x, y)
