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
PAGE = """
name: curved
dimensions: {time: T, hops: 2}
transforms:
  hops: {cell: memory, hidden: 2, attends: facts, embeddings: adjacent}
  time: {cell: lstm, peepholes: true, hidden: 2, start: learned, zoneout: 0.3}
inputs:
  facts: {features: 2, facts: true}
  asked: {features: 2, enters: hops}
  x: {features: 2, joins: [time], over: [time]}
outputs:
  y: {features: 1, reads: [time, hops], at: {hops: last}}
"""


def function(s: gridc.symbolic.Symbols, outputs: list[Any], more: list[Any]) -> Any:
    given = [*s.parameters.values(), *more, *s.inputs.values(), *s.targets.values(), *s.masks.values(), s.lengths]
    return pytensor.function(given, outputs, mode=UNCHANGED, on_unused_input="ignore")


@pytest.mark.usefixtures("plain_shapes")
def test_a_product_with_the_hessian_is_the_slope_of_the_gradient() -> None:
    spec, rng = gridc.read(PAGE), np.random.default_rng(0)
    s = gridc.lower(spec, lowering="fused", dtype="float64", training=True, scan=UNCHANGED,
                    lengths=pt.lmatrix("lengths"))  # fmt: skip
    variables = list(s.parameters.values())
    slopes = pytensor.grad(s.loss, variables)
    directions = [v.type() for v in variables]
    products = pytensor.grad(sum(pt.sum(g * d) for g, d in zip(slopes, directions, strict=True)), variables)
    numbers = [rng.normal(size=v.type.shape) for v in variables]
    along = [rng.normal(size=v.type.shape) for v in variables]
    batch, time = 3, 3
    rest = [rng.normal(size=(batch, 4, 2)), rng.normal(size=(batch, time, 2)), rng.normal(size=(batch, time, 2)),
            rng.normal(size=(batch, time, 1)), *noise.draw(spec, batch, (time, 2), rng, "float64").values(),
            np.array([[3], [1], [2]])]  # fmt: skip
    found = function(s, products, directions)(*numbers, *along, *rest)
    gradient, step = function(s, slopes, []), 1e-5
    ends = [gradient(*(n + sign * step * d for n, d in zip(numbers, along, strict=True)), *rest) for sign in (1, -1)]
    for name, product, above, below in zip(s.parameters, found, *ends, strict=True):
        np.testing.assert_allclose(product, (above - below) / (2 * step), rtol=1e-6, atol=1e-7, err_msg=name)
