"""Compiled grids against the oracle, on random specs: predictions, losses and gradients, whichever way they are lowered."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gridc
import oracle
from gridc.symbolic import backends
from strategies import Case, grids

backends.prepare()
import pytensor  # noqa: E402, F401  # now: it raises the recursion limit, which hypothesis would notice in the middle of a test

EXAMPLES = int(os.environ.get("GRIDC_EXAMPLES", "200"))
TOLERANCE = {"float64": 1e-10, "float32": 2e-4}
ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def compiled(case: Case, lowering: Any, dtype: Any = "float64") -> gridc.Grid:
    grid = gridc.compile(case.text, lowering=lowering, dtype=dtype)
    assert {name: array.shape for name, array in grid.parameters.items()} == {n: a.shape for n, a in case.parameters.items()}
    for name, array in case.parameters.items():
        grid.parameters[name] = array
    return grid


def agree(case: Case, lowering: Any, dtype: Any = "float64") -> dict[str, np.ndarray]:
    """The grid's outputs and loss are the oracle's; returns its gradients."""
    grid, tolerance = compiled(case, lowering, dtype), TOLERANCE[dtype]
    expected = oracle.predict(case.spec, case.parameters, case.inputs, case.lengths)
    found = grid.predict(case.inputs, case.lengths)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)
    loss, gradients, outputs = grid.loss_and_gradients(case.inputs, case.targets, case.lengths)
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, rtol=tolerance, atol=tolerance)
    known = oracle.loss(case.spec, case.parameters, case.inputs, case.targets, case.lengths)
    assert loss == pytest.approx(known, rel=tolerance, abs=tolerance)
    return gradients


@settings(ROOM, max_examples=EXAMPLES)
@given(grids(), st.integers(0, 2**32 - 1))
def test_fused_equals_the_oracle(case: Case, seed: int) -> None:
    gradients = agree(case, "fused")
    differences = oracle.gradients(case.spec, case.parameters, case.inputs, case.targets, case.lengths,
                                   max_entries=4, rng=np.random.default_rng(seed))  # fmt: skip
    for name, (entries, values) in differences.items():
        np.testing.assert_allclose(gradients[name].ravel()[entries], values, rtol=1e-5, atol=1e-6, err_msg=name)


@settings(ROOM, max_examples=max(10, EXAMPLES // 4))
@given(grids())
def test_fused_in_single_precision(case: Case) -> None:
    gradients = agree(case, "fused", "float32")
    exact = compiled(case, "fused").gradients(case.inputs, case.targets, case.lengths)
    for name, array in exact.items():
        np.testing.assert_allclose(gradients[name], array, rtol=2e-3, atol=2e-4, err_msg=name)


@settings(ROOM, max_examples=max(10, EXAMPLES // 4))
@given(grids(memory=True))
def test_plain_equals_the_oracle(case: Case) -> None:
    gradients = agree(case, "plain")
    if all(t["cell"] != "memory" for t in case.spec["transforms"].values()):
        fused = compiled(case, "fused").gradients(case.inputs, case.targets, case.lengths)
        for name, array in fused.items():
            np.testing.assert_allclose(gradients[name], array, rtol=1e-9, atol=1e-10, err_msg=name)
    differences = oracle.gradients(case.spec, case.parameters, case.inputs, case.targets, case.lengths,
                                   max_entries=3, rng=np.random.default_rng(0))  # fmt: skip
    for name, (entries, values) in differences.items():
        np.testing.assert_allclose(gradients[name].ravel()[entries], values, rtol=1e-5, atol=1e-6, err_msg=name)
