"""Grids as aeon's estimators, by aeon's own checks and on the series that it ships.

aeon asks for older versions of Numba and pandas than ``constraints.txt`` has, so these tests run in an environment of their own:
``make test`` makes it (``.venv-aeon``).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from gridc.errors import UsageError

WHY = "aeon is in .venv-aeon, where `make test` runs this file"
datasets: Any = pytest.importorskip("aeon.datasets", reason=WHY)
checking: Any = pytest.importorskip("aeon.testing.estimator_checking", reason=WHY)
ours: Any = importlib.import_module("gridc.aeon")
GridClassifier, GridRegressor = ours.GridClassifier, ours.GridRegressor


@checking.parametrize_with_checks([GridClassifier, GridRegressor])
@pytest.mark.filterwarnings("default")
def test_aeons_own_checks(check: Any) -> None:
    check()


def test_series_of_different_lengths_are_told_apart() -> None:
    x, y = datasets.load_japanese_vowels("train")
    assert len({series.shape[1] for series in x}) > 5
    model = GridClassifier(hidden=16, depth=1, epochs=12, random_state=0).fit(x, y)
    there, labels = datasets.load_japanese_vowels("test")
    assert model.score(there, labels) > 0.85
    # A series alone is what it is among longer ones.
    np.testing.assert_allclose(model.predict_proba(there[:1]), model.predict_proba(there)[:1], atol=1e-5)


def test_several_channels_of_equal_lengths() -> None:
    x, y = datasets.load_basic_motions("train")
    there, labels = datasets.load_basic_motions("test")
    assert GridClassifier(hidden=16, depth=1, epochs=40, random_state=0).fit(x, y).score(there, labels) > 0.8


def test_a_number_is_estimated() -> None:
    random = np.random.default_rng(0)
    x = [random.normal(size=(2, n)) for n in random.integers(5, 15, 120)]
    y = 100 + 10 * np.array([series[0, -3:].sum() for series in x])
    model = GridRegressor(hidden=16, depth=1, epochs=60, random_state=0).fit(x[:100], y[:100])
    assert model.score(x[100:], y[100:]) > 0.5


def test_what_does_not_fit_is_said() -> None:
    x, y = [np.zeros((2, n)) for n in (3, 4, 5, 6)], np.array([0, 1, 2, 0])
    page = """
name: own
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 3}}
inputs: {x: {features: 2, joins: [time]}}
outputs: {y: {classes: 3, reads: [time], at: {time: last}}}
"""
    assert GridClassifier(page, epochs=1).fit(x, y).predict(x).shape == (4,)
    for old, new, why in [
        ("features: 2, j", "features: 4, j", "the series have 2 channels; input 'x' takes 4 features"),
        ("features: 2, j", "vocabulary: 4, j", "input 'x' is no series"),
        ("classes: 3", "classes: 2", "y has 3 classes; output 'y' has 2"),
        ("at: {time: last}", "at: {time: all}", "output 'y' is of kind classes at several places"),
        ("classes: 3", "binary: true", "output 'y' is of kind binary; expected classes, read at one place"),
    ]:
        with pytest.raises(UsageError, match=why):
            GridClassifier(page.replace(old, new)).fit(x, y)
