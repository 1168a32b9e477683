"""Targets of any type, counted within the ends of their examples, in memory and on the disk."""

from __future__ import annotations

import numpy as np
import pytest

import gridc
from gridc.arrays.dataset import Dataset
from gridc.data.files import read
from gridc.data.fitting import for_spec
from gridc.data.mini_batches import Shuffled
from gridc.data.reading import Reading
from gridc.scheduling.check import read as read_spec
from gridc.training.fit import fit
from gridc.training.metrics import confusion
from gridc.training.setup import Weights

QUIET = {"progress": "none"}
TAGGER = """
name: tagger
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 4}}
inputs: {x: {features: 1, joins: [time]}}
outputs: {y: {classes: 2, reads: [time]}}
"""


def test_balanced_weights_are_those_of_the_steps_within_their_examples():
    weigh = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    rng = np.random.default_rng(0)
    lengths = np.array([40, *rng.integers(1, 5, 59)])
    inside = np.arange(40) < lengths[:, None]
    for kind in ("classes: 2", "binary: true"):
        spec = read_spec(TAGGER.replace("classes: 2", kind))
        y = rng.integers(0, 2, (60, 40)) * inside
        data = for_spec(Dataset({"x": rng.normal(size=(60, 40, 1))}, {"y": y}, {"T": lengths}), spec)
        found = Weights({}, {"y": "balanced"}, Shuffled(data, 8), spec).classes["y"]
        np.testing.assert_allclose(found, weigh("balanced", classes=np.array([0, 1]), y=y[inside]))


@pytest.mark.parametrize("kind", ["classes: 2", "binary: true"])
def test_labels_may_be_booleans_or_whole_numbers_of_any_type(kind, tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3, 1))
    last, every = TAGGER.replace("reads: [time]", "reads: [time], at: {time: last}"), TAGGER
    for page, y in ((last, x.sum(axis=(1, 2)) > 0), (every, x[..., 0] > 0)):
        page = page.replace("classes: 2", kind)
        scores = []
        for labels in (y, y.tolist(), y.astype("i1"), y.astype("u8"), y.astype("f4")):
            grid = gridc.compile(page, seed=0)
            grid.fit({"x": x}, {"y": labels}, budget=1, **QUIET)
            scores.append(grid.score({"x": x}, {"y": labels}))
        assert all(score == scores[0] for score in scores)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x[..., 0] > 0)
    data = read(tmp_path, Reading(grid.spec))
    fit(grid, data, data, budget=1, **QUIET)  # the labels stay on the disk as booleans
    confusion(grid, data)
