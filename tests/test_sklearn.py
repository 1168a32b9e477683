"""The estimators: scikit-learn's own checks, a Pipeline, a GridSearchCV, and specs of one's own."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, make_classification
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from gridc.errors import DataError, UsageError
from gridc.sklearn import GridClassifier, GridRegressor

SMALL: dict[str, Any] = {"hidden": 10, "depth": 1, "epochs": 15, "learning_rate": 0.04, "random_state": 0,
                          "held_out": None}


def stochastic(estimator: Any) -> dict[str, str]:
    """As scikit-learn's own perceptrons: which examples share a mini-batch, and which are held out, is drawn by their places."""
    why = "weights are not the same as repeated examples where examples are drawn by their places"
    return dict.fromkeys(("check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"), why)


@parametrize_with_checks([GridClassifier(**SMALL), GridRegressor(**SMALL)], expected_failed_checks=stochastic)
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
    one_sided = GridClassifier(page, epochs=20, learning_rate=0.02, random_state=0, held_out=None,
                               class_weight={0: 1000, 1: 0.001}).fit(x, y)  # fmt: skip
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
    fitted = GridClassifier(**{**SMALL, "epochs": 200, "held_out": 0.2}, patience=3).fit(x, y)
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


def test_defaults_do_not_overfit() -> None:
    x, y = load_diabetes(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    fitted = GridRegressor(random_state=0).fit(x[::2], y[::2])
    assert fitted.history_.restored
    assert len(fitted.history_) < 60
    linear = Ridge().fit(x[::2], y[::2]).score(x[1::2], y[1::2])
    assert fitted.score(x[1::2], y[1::2]) > linear - 0.05


def walks(n: int = 60) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(length, 2)) for length in rng.integers(2, 7, n)]
    return x, np.array([walk.sum() for walk in x])


def test_sequences_of_different_lengths_are_computed_alone() -> None:
    x, y = walks()
    options = {**SMALL, "epochs": 40}
    fitted = GridRegressor(**options).fit(x, y)
    assert fitted.n_features_in_ == 2
    assert fitted.score(x, y) > 0.8
    objects = np.empty(len(x), object)
    objects[:] = x
    found = fitted.predict(objects)
    np.testing.assert_array_equal(found, fitted.predict(x))
    for row in (0, 1, 7):  # alone, and as an array of three axes, of another number of steps than the first one's
        np.testing.assert_allclose(fitted.predict(x[row][None]), found[row], rtol=1e-12)
    classifier = GridClassifier(**{**options, "epochs": 2}).fit([walk[:, 0].tolist() for walk in x], y > 0)
    assert classifier.predict_proba([[1.0, 2.0], [0.5]]).shape == (2, 2)
    for wrong, words in (([*x[:3], np.ones((2, 3))], "steps have different shapes"), ([[1.0], []], "an empty sequence"),
                         (np.ones((3, 4, 5)), "X has 5 features, but GridRegressor is expecting 2")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            fitted.predict(wrong)


def test_sample_weights_count_in_the_loss() -> None:
    x, y = examples(80)
    flipped = np.arange(80) % 2 == 0
    wrong = np.where(flipped, 1 - y, y)
    for weight, truth in ((np.where(flipped, 0.0, 3.0), y), (np.where(flipped, 3.0, 0.05), 1 - y)):
        fitted = GridClassifier(**{**SMALL, "epochs": 30}).fit(x, wrong, sample_weight=weight)
        assert fitted.score(x, truth) > 0.85
    one = GridRegressor(**SMALL).fit(x, x[:, 0], sample_weight=np.full(80, 7.0))
    np.testing.assert_allclose(one.predict(x), GridRegressor(**SMALL).fit(x, x[:, 0]).predict(x), rtol=1e-9)


def test_partial_fit_goes_on() -> None:
    x, y = examples()
    labels = np.array(["no", "yes", "maybe"])[y]
    model = GridClassifier(**SMALL)
    scores = []
    for _ in range(15):
        for part in (slice(0, 60), slice(60, 120)):
            model.partial_fit(x[part], labels[part], classes=["no", "yes", "maybe"])
        scores.append(model.score(x, labels))
    assert scores[-1] > 0.9
    assert scores[-1] >= scores[0]
    assert model._going.count == 60
    assert pickle.loads(pickle.dumps(model)).partial_fit(x, labels).score(x, labels) > 0.9
    with pytest.raises(DataError, match="y holds 'none'; expected maybe, no or yes, the classes of the first call"):
        model.partial_fit(x, np.where(y, "yes", "none"))
    regressor = GridRegressor(**SMALL)
    for _ in range(15):
        regressor.partial_fit(x, x[:, :2].sum(axis=1))
    assert regressor.score(x, x[:, :2].sum(axis=1)) > 0.7
