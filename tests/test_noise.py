"""Dropout and zoneout against equations typed in with NumPy, masks given; and how the masks are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import gridc
from gridc.language import noise
from gridc.symbolic import backends
from test_networks import BATCH, Array, T, cat, drawn, gru, ids, loss_of, lstm, one_hot, read_out, small

SIZES = (T, 2)


def function(grid: gridc.Grid) -> Any:
    """Loss and gradients of the training graph, of inputs, targets and masks."""
    import pytensor

    s = gridc.lower(grid.spec, dtype="float64", training=True, scan=backends.backend("python").scan)
    variables = list(s.parameters.values())
    wanted = [s.loss, *pytensor.grad(s.loss, variables)]
    given = [*s.inputs.values(), *s.targets.values(), *s.masks.values(), *variables]
    return pytensor.function(given, wanted, mode=backends.backend("python").mode(), on_unused_input="ignore")


def prove(text: str, equations: Any) -> None:
    """The training graph is the equations with these masks; prediction the equations with what ``noise`` says instead."""
    grid = gridc.compile(text, dtype="float64")
    rng = np.random.default_rng(3)
    p = drawn(grid, rng)
    x, y = {"symbols": ids(9, T)}, {"answer": 1 + ids(8, T)}
    masks = noise.draw(grid.spec, BATCH, SIZES, rng, "float64")
    loss, *gradients = function(grid)(*x.values(), *y.values(), *masks.values(), *p.values())
    assert loss == pytest.approx(loss_of(grid.spec, {"answer": equations(p, x["symbols"], masks)}, y), rel=1e-9)
    way = {name: rng.normal(size=array.shape) for name, array in p.items()}
    slope = 0.0
    for sign in (1, -1):
        shifted = {name: array + sign * 1e-6 * way[name] for name, array in p.items()}
        slope += sign * loss_of(grid.spec, {"answer": equations(shifted, x["symbols"], masks)}, y) / 2e-6
    assert sum((g * way[name]).sum() for g, name in zip(gradients, p, strict=True)) == pytest.approx(slope, rel=1e-5, abs=1e-7)
    calm = {name: np.full_like(m, grid.spec.transforms[name.split(".")[0]].zoneout if "zoneout" in name else 1.0)
            for name, m in masks.items()}  # fmt: skip
    assert grid.loss(x, y) == pytest.approx(loss_of(grid.spec, {"answer": equations(p, x["symbols"], calm)}, y), rel=1e-9)


def test_dropout_and_zoneout_of_a_stacked_lstm() -> None:
    """What goes up is masked, by one mask a level and sequence; what goes on in time is not; zoneout keeps by the cell."""

    def equations(p: Mapping[str, Array], symbols: Array, masks: Mapping[str, Array]) -> Array:
        joined = one_hot(symbols, 9)
        below = np.zeros((BATCH, T, 4))
        for level in range(2):
            h = m = np.zeros((BATCH, 4))
            every = []
            for t in range(T):
                x = joined[:, t] * (level == 0)
                new_h, new_m = lstm(cat(h, below[:, t], x), m, p["time.W"][level], p["time.b"][level])
                keep_h, keep_m = masks["time.zoneout.h"][:, t, level], masks["time.zoneout.m"][:, t, level]
                h, m = keep_h * h + (1 - keep_h) * new_h, keep_m * m + (1 - keep_m) * new_m
                every.append(h)
            top = np.stack(every, axis=1)
            below = top * masks["time.dropout"][:, None, level]
        return read_out(p, "answer", top)

    prove(small("dropout", hidden=4, transforms__time__dropout=0.5, transforms__time__zoneout=0.3), equations)


def test_dropout_and_zoneout_of_a_gru_grid() -> None:
    """Depth hides from time what enters from below, too; one mask for each example, since weights are tied."""
    changes = {"transforms__depth__dropout": 0.5, "transforms__time__dropout": 0.4, "transforms__time__zoneout": 0.3}
    first, second = slice(0, 4), slice(4, 8)

    def equations(p: Mapping[str, Array], symbols: Array, masks: Mapping[str, Array]) -> Array:
        along, top = [np.zeros((BATCH, 4))] * 2, []
        up, on = masks["depth.dropout"], masks["time.dropout"]
        for t in range(T):
            h = one_hot(symbols[:, t], 9) @ p["symbols.hidden.W"] + p["symbols.hidden.b"]
            for level in range(2):
                keep = masks["time.zoneout.h"][:, t, level]
                new = gru(h * up, along[level], p["time.W"], p["time.b"], own=second, rest=first)
                along[level] = keep * along[level] + (1 - keep) * new
                h = gru(along[level] * on, h, p["depth.W"], p["depth.b"], own=first, rest=second)
            top.append(h)
        return read_out(p, "answer", np.stack(top, axis=1))

    prove(small("gru-grid", hidden=4, **changes), equations)


def test_masks_are_as_often_zero_as_was_asked_and_keep_the_mean() -> None:
    spec = gridc.read(small("dropout", hidden=50))
    masks = noise.draw(spec, 400, SIZES, np.random.default_rng(0), "float32")
    assert {name: m.shape for name, m in masks.items()} == {
        "time.dropout": (400, 2, 50), "time.zoneout.h": (400, *SIZES, 50), "time.zoneout.m": (400, *SIZES, 50)}  # fmt: skip
    assert set(np.unique(masks["time.dropout"])) == {0.0, np.float32(1.25)}
    assert masks["time.dropout"].mean() == pytest.approx(1.0, abs=0.01)
    assert masks["time.zoneout.h"].mean() == pytest.approx(0.1, abs=0.01)


def test_the_same_seed_draws_the_same_masks() -> None:
    spec = gridc.read(small("dropout", hidden=5))
    one, two, other = (noise.draw(spec, 3, SIZES, np.random.default_rng(seed), "float32") for seed in (1, 1, 2))
    assert all((one[name] == two[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)


@pytest.mark.parametrize(("change", "sentence"), [
    ({"cell": "lstm", "along": ["rows", "columns"]}, "no one old value"),
    ({"cell": "dense", "along": "rows", "reads": ["other"]}, "nothing to keep"),
])  # fmt: skip
def test_zoneout_needs_an_old_value(change: Mapping[str, Any], sentence: str) -> None:
    page = f"""
name: odd
dimensions: {{rows: 2, columns: 2}}
transforms:
  plane: {{hidden: 2, zoneout: 0.1, {", ".join(f"{k}: {v}".replace("'", "") for k, v in change.items())}}}
  other: {{cell: lstm, hidden: 2, along: columns}}
inputs:
  x: {{features: 1, joins: [plane]}}
outputs:
  y: {{binary: true, reads: [plane]}}
"""
    with pytest.raises(gridc.GridcError, match=sentence):
        gridc.compile(page)


def test_a_fused_sweep_draws_no_masks_and_says_so() -> None:
    with pytest.raises(gridc.UsageError, match="plain"):
        gridc.compile(small("dropout", hidden=4), lowering="fused")
