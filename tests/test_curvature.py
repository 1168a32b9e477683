"""Second derivatives of the fused sweep: products with the Hessian against differences of gradients, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gridc
from gridc.language import noise
from gridc.symbolic import backends
from test_grid import UNCHANGED, plain_shapes

backends.prepare()
import pytensor  # noqa: E402
import pytensor.tensor as pt  # noqa: E402

__all__ = ["plain_shapes"]  # a fixture
LSTM = """
name: curved
dimensions: {time: T}
transforms:
  time: {cell: lstm, hidden: 2, start: learned, peepholes: true, dropout: 0.4}
  other: {cell: dense, hidden: 2, along: time, reads: [{of: time, offset: {}}, other], bias: false, zoneout: 0.3}
inputs:
  x: {features: 2, joins: [time, other]}
  first: {features: 2, enters: time, into: [hidden, memory]}
outputs:
  y: {features: 1, reads: [other, time.memory]}
"""
DENSE = """
name: curved
dimensions: {time: T}
transforms:
  time: {cell: dense, hidden: 2, start: learned}
inputs:
  x: {features: 2, joins: [time]}
outputs:
  y: {features: 1, reads: [time]}
"""


def function(s: gridc.symbolic.Symbols, outputs: list[Any], more: list[Any], mode: Any) -> Any:
    given = [*s.parameters.values(), *more, *s.inputs.values(), *s.targets.values(), *s.masks.values(), s.lengths]
    return pytensor.function(given, outputs, mode=mode, on_unused_input="ignore")


@pytest.mark.usefixtures("plain_shapes")
@pytest.mark.parametrize(("page", "way", "mode"), [
    (LSTM, "a gradient's gradient", UNCHANGED),
    pytest.param(DENSE, "forward over reverse", UNCHANGED),
])  # fmt: skip
def test_a_product_with_the_hessian_is_the_slope_of_the_gradient(page: str, way: str, mode: Any) -> None:
    spec, rng = gridc.read(page), np.random.default_rng(0)
    s = gridc.lower(spec, lowering="fused", dtype="float64", training=True, scan=mode,
                    lengths=pt.lmatrix("lengths"))  # fmt: skip
    variables = list(s.parameters.values())
    slopes = pytensor.grad(s.loss, variables)
    directions = [v.type() for v in variables]
    if way == "forward over reverse":
        products = pytensor.gradient.pushforward(slopes, variables, directions)
    else:
        products = pytensor.grad(sum(pt.sum(g * d) for g, d in zip(slopes, directions, strict=True)), variables)
    numbers = [rng.normal(size=v.type.shape) for v in variables]
    along = [rng.normal(size=v.type.shape) for v in variables]
    batch, time = 3, 3
    x = {"x": (batch, time, 2), "first": (batch, 2)}
    rest = [*(rng.normal(size=x[name]) for name in s.inputs), rng.normal(size=(batch, time, 1)),
            *noise.draw(spec, batch, (time,), rng, "float64").values(), np.array([[3], [1], [2]])]  # fmt: skip
    found = function(s, products, directions, mode)(*numbers, *along, *rest)
    gradient, step = function(s, slopes, [], mode), 1e-5
    ends = [gradient(*(n + sign * step * d for n, d in zip(numbers, along, strict=True)), *rest) for sign in (1, -1)]
    for name, product, above, below in zip(s.parameters, found, *ends, strict=True):
        np.testing.assert_allclose(product, (above - below) / (2 * step), rtol=1e-6, atol=1e-7, err_msg=name)
