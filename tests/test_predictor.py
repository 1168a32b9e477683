"""Predictions with NumPy alone: what the oracle says of any grid, from a model file, without what takes seconds to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gridc
import oracle
from gridc.errors import DataError
from gridc.predictor import Predictor, load
from strategies import Case, grids

SPECS = Path(__file__).parent.parent / "specs"


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=st.integers(0, 9).flatmap(lambda k: grids(memory=k == 9, noise=k == 8)))
def test_any_grid_is_what_the_oracle_says(case: Case) -> None:
    predictor = Predictor(gridc.read(case.text), case.parameters, {})
    found = predictor.predict(case.inputs, case.lengths)
    expected = oracle.predict(case.spec, case.parameters, case.inputs, case.lengths)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_model_file_predicts_without_what_takes_long_to_import(tmp_path: Path) -> None:
    grid = gridc.compile(SPECS / "text-classifier.yaml", eager=False, seed=1)
    grid.vocabularies["label"] = ("no", "yes")
    grid.save(tmp_path / "model.grid")
    ids = np.random.default_rng(0).integers(0, 96, (3, 9))
    np.save(tmp_path / "ids.npy", ids)
    code = """
import sys
import numpy as np
import gridc.predictor
predictor = gridc.predictor.load("model.grid")
np.save("found.npy", predictor.predict({"tokens": np.load("ids.npy")}, {"T": [9, 4, 1]})["label"])
late = {"pytensor", "numba", "networkx", "scipy", "jax", "pandas", "gridc.tables.training_block", "gridc.tables.tasks"}
print(*predictor.vocabularies["label"], *late & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["no", "yes"]
    expected = grid.predict({"tokens": ids}, {"T": [9, 4, 1]})["label"]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-6)
    assert np.load(tmp_path / "found.npy").dtype == expected.dtype


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        load(tmp_path / "none.grid")
    grid = gridc.compile(SPECS / "text-classifier.yaml", eager=False)
    grid.save(tmp_path / "model.grid")
    with pytest.raises(DataError, match="input 'tokens': found 96 at"):
        load(tmp_path / "model.grid").predict({"tokens": np.full((1, 3), 96)})
