"""A grid inside a PyMC model: random variables for weights, the model's gradient through the sweep, a few draws of NUTS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

# PyTensor from PyPI says once that it found no BLAS for its own C code, which these graphs do not need.
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS installation")
pm: Any = pytest.importorskip("pymc")

import gridc  # noqa: E402
from gridc.language.shapes import parameter_shapes  # noqa: E402

PAGE = """
name: small
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 2}}
inputs: {x: {features: 1, joins: [time]}}
outputs: {y: {features: 1, reads: [time], at: {time: last}}}
"""


@pytest.mark.parametrize("lowering", ["fused", "plain"])
def test_a_grid_is_a_part_of_a_model(lowering: Any) -> None:
    spec = gridc.read(PAGE)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4, 1))
    y = np.tanh(x.sum(axis=(1, 2)))
    with pm.Model() as model:
        weights = {name: pm.Normal(name.replace(".", "_"), 0, 1, shape=shape) for name, shape in parameter_shapes(spec).items()}
        symbols = gridc.lower(spec, inputs={"x": pm.Data("x", x)}, parameters=weights, lowering=lowering, dtype="float64")
        pm.Normal("y", symbols.outputs["y"][:, 0], 0.1, observed=y)
    point = model.initial_point()
    logp, slope = model.compile_logp(mode="FAST_COMPILE"), model.compile_dlogp(mode="FAST_COMPILE")
    direction = {name: rng.normal(size=np.shape(value)) for name, value in point.items()}
    gradient, expected, at = slope(point), 0.0, 0
    for variable in model.continuous_value_vars:
        size = int(np.prod(point[variable.name].shape))
        expected += float(gradient[at : at + size] @ direction[variable.name].ravel())
        at += size
    ahead, back = ({n: v + s * 1e-6 * direction[n] for n, v in point.items()} for s in (1, -1))
    assert (logp(ahead) - logp(back)) / 2e-6 == pytest.approx(expected, rel=1e-5)


def test_a_grid_is_sampled() -> None:
    spec = gridc.read(PAGE)
    x = np.random.default_rng(0).normal(size=(20, 4, 1))
    with pm.Model():
        weights = {name: pm.Normal(name.replace(".", "_"), 0, 1, shape=shape) for name, shape in parameter_shapes(spec).items()}
        found = gridc.lower(spec, inputs={"x": pm.Data("x", x)}, parameters=weights, lowering="fused", dtype="float64").outputs[
            "y"
        ]
        pm.Normal("y", found[:, 0], 0.1, observed=np.tanh(x.sum(axis=(1, 2))))
        drawn = pm.sample(20, tune=20, chains=1, cores=1, progressbar=False, random_seed=0,
                          compile_kwargs={"mode": "FAST_COMPILE"},
                          compute_convergence_checks=False)  # fmt: skip
    assert np.isfinite(drawn.posterior["y_W"].values).all()
