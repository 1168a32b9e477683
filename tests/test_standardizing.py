"""Numbers of any size: the grid learns from them scaled, and answers in their own units."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gridc
from gridc import cli
from gridc.data.fitting import for_spec, from_arrays
from gridc.errors import UsageError
from gridc.training.standardizing import far_off, measured

PAGE = """
name: units
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: gru, hidden: 4, tied: [time]}
  depth: {cell: lstm, hidden: 4}
inputs:
  x: {features: 3, enters: depth}
  wind: {features: 2, joins: [time], over: [time]}
  rain: {features: 1, joins: [time], at: {depth: last}}
  kind: {vocabulary: 3, enters: time}
outputs:
  price: {features: 2, reads: [time, depth.memory], at: {depth: last}}
  odd: {classes: 2, reads: [depth], at: {time: last, depth: last}}
"""


def examples(count=40):
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.normal([1960, 0.002, -70], [35, 0.001, 1], (count, 6, 3)), "wind": rng.normal(300, 9, (count, 6, 2)),
        "rain": rng.normal(20, 5, (count, 6, 1)),
        "kind": rng.integers(0, 3, (count, 2)),
    }  # fmt: skip
    targets = {"price": 1e4 + 3e3 * rng.normal(size=(count, 6, 2)), "odd": rng.integers(0, 2, count)}
    return inputs, targets, {"T": rng.integers(2, 7, count)}


def test_the_folded_weights_are_the_same_function_in_other_units():
    grid = gridc.compile(PAGE, dtype="float64", seed=3)
    inputs, targets, lengths = examples()
    data = for_spec(from_arrays(grid.spec, inputs, targets, lengths), grid.spec)
    standard = measured(data, grid.spec)
    scaled = standard.applied(data)
    inside = np.arange(6) < lengths["T"][:, None]
    for name in ("x", "wind", "rain"):
        np.testing.assert_allclose(scaled.inputs[name][inside].mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(scaled.inputs[name][inside].std(axis=0), 1, atol=1e-9)
    expected = grid.predict(scaled.inputs, scaled.lengths)
    for name, array in standard.folded(grid.spec, grid.parameters).items():
        grid.parameters[name] = array
    found = grid.predict(inputs, lengths)
    np.testing.assert_allclose(found["odd"], expected["odd"], rtol=0, atol=1e-9)
    there = targets["price"][inside]
    in_units = expected["price"][inside] * there.std(axis=0) + there.mean(axis=0)
    np.testing.assert_allclose(found["price"][inside], in_units, rtol=1e-9)


def test_a_training_in_other_units_is_the_training_of_scaled_numbers(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal([1960, 70], [35, 30], (300, 2))
    y = (50 * (x[:, :1] - 1960) + 20 * x[:, 1:]) + 1e5
    page = """
name: prices
dimensions: {depth: 2}
transforms: {depth: {cell: lstm, hidden: 8}}
inputs: {house: {features: 2, enters: depth}}
outputs: {price: {features: 1, reads: [depth, depth.memory], at: {depth: last}}}
"""
    options = {"budget": 30, "optimizer": {"adam": {"learning_rate": 0.02}}, "progress": "none", "held_out": 0.2}
    grid = gridc.compile(page, seed=0)
    history = grid.fit({"house": x}, {"price": y}, standardize=True, stop={"patience": 40}, folder=tmp_path / "run", **options)
    assert history.best is not None
    assert history.best.accuracy() > 0.97
    assert grid.score({"house": x}, {"price": y})["price"] > 0.97, "in the units of the data"
    for name in ("model.grid", "checkpoints/best.grid"):
        again = gridc.load(tmp_path / "run" / name).predict({"house": x})["price"]
        np.testing.assert_allclose(again, grid.predict({"house": x})["price"], rtol=1e-5)
    # Stopped in the middle and resumed it is the same training, and a checkpoint says that it was standardized.
    half = gridc.compile(page, seed=0)
    options |= {"folder": tmp_path / "half", "stop": {"patience": 40}}
    half.fit({"house": x}, {"price": y}, standardize=True, **(options | {"budget": 12}))
    half.fit({"house": x}, {"price": y}, standardize=True, resume=True, **options)
    assert all(np.array_equal(half.parameters[name], grid.parameters[name]) for name in grid.parameters)
    with pytest.raises(gridc.DataError, match="'standardize' was True and is now False"):
        half.fit({"house": x}, {"price": y}, resume=True, **options)


COLUMNS = """
name: columns
dimensions: {depth: 2}
transforms: {depth: {cell: lstm, hidden: 8}}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {features: 1, reads: [depth], at: {depth: last}}}
"""


@pytest.mark.parametrize("constant", [14.62, 0.1, 100000.3, -7e-9, 3.0])
def test_a_column_that_does_not_vary_stays_as_it_is(constant):
    rng = np.random.default_rng(0)
    for dtype in ("float64", "float32"):
        x = np.concatenate([rng.normal(size=(1000, 2)), np.full((1000, 1), constant)], axis=1).astype(dtype)
        spec = gridc.read(COLUMNS)
        data = for_spec(from_arrays(spec, {"x": x}, {"y": np.full((1000, 1), constant)}), spec)
        for held in ("float64", "float32"):
            standard = measured(data, spec, held)
            assert standard.inputs["x"].deviation[2] == 1
            assert standard.outputs["y"].deviation[0] == 1
            assert abs(standard.applied(data).inputs["x"][:, 2]).max() < 1e-6 * max(1, abs(constant))


@pytest.mark.parametrize(
    ("column", "coarsely"),
    [
        (lambda rng, n: np.full(n, 14.62), False),
        (lambda rng, n: 2451545 + rng.uniform(0, 1, n), True),  # Julian dates of one day
        (lambda rng, n: 1.7e9 + rng.uniform(0, 3600, n), True),  # seconds of one hour
        (lambda rng, n: 100000.3 + rng.normal(0, 1e-4, n), True),  # one number in float32
        (lambda rng, n: rng.normal(1960, 35, n), False),
    ],
)
def test_the_figures_are_those_of_the_model_as_it_is_written(tmp_path, capsys, column, coarsely):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 300))
    x = np.stack([a, b, column(rng, 300)], axis=1)
    spread = x[:, 2].std()
    y = (2 * a + b + (x[:, 2] - x[:, 2].mean()) / (spread if spread > 1e-6 else 1))[:, None]
    grid = gridc.compile(COLUMNS, seed=0)
    options = {"standardize": True, "budget": 15, "optimizer": {"adam": {"learning_rate": 0.02}}, "progress": "lines"}
    train, held = [(({"x": x[s]}, {"y": y[s]})) for s in (slice(200), slice(200, None))]
    history = grid.fit(*train, held_out=held, folder=tmp_path / "a", **options)
    r2 = gridc.load(tmp_path / "a" / "model.grid").score(*held)["y"]
    left = history.best if history.restored else history.records[-1]
    assert left.held_out["y"]["r2"] == pytest.approx(r2, abs=1e-5)
    assert ("float32 holds there only steps of" in capsys.readouterr().err) == coarsely
    assert coarsely or r2 > 0.9
    alone = gridc.compile(COLUMNS, seed=0)
    history = alone.fit(*train, **options)
    assert history.records[-1].outputs["y"]["r2"] == pytest.approx(alone.score(*train)["y"], abs=1e-5), "nothing held out"
    history = alone.fit(*train, stop={"patience": 1, "loss": 1e-9}, **(options | {"budget": 2}))
    assert history.best is not None
    if history.restored:
        assert history.best.outputs["y"]["r2"] == pytest.approx(alone.score(*train)["y"], abs=1e-5), "the best were given back"


def test_what_cannot_be_undone_is_refused_and_what_is_far_off_is_pointed_out(tmp_path, capsys):
    inputs, targets, lengths = examples()
    page = PAGE.replace("tied: [time]}", "tied: [time], bias: false}").replace("  kind: {vocabulary: 3, enters: time}\n", "")
    spec = gridc.read(page)
    del inputs["kind"]
    data = for_spec(from_arrays(spec, inputs, targets, lengths), spec)
    with pytest.raises(UsageError, match="The input 'wind' cannot be standardized"):
        measured(data, spec)
    assert "The numbers of the input 'x' go up to" in far_off(data, spec)
    rows = ["a,b,price", *(f"{a},{b},{3 * a + b}" for a, b in np.random.default_rng(0).normal(500, 100, (60, 2)).round(1))]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    (tmp_path / "rows.yaml").write_text("""
name: rows
dimensions: {depth: 2}
transforms: {depth: {cell: lstm, hidden: 8}}
inputs: {house: {features: 2, enters: depth}}
outputs: {price: {features: 1, reads: [depth], at: {depth: last}}}
training: {data: rows.csv, budget: {epochs: 2}}
""")
    words = ["train", str(tmp_path / "rows.yaml"), "--json", "--folder"]
    assert cli.run([*words, str(tmp_path / "a")]) == 0
    assert "a grid learns best from numbers around 1: 'standardize: true'" in capsys.readouterr().err
    assert cli.run([*words, str(tmp_path / "b"), "--standardize", "true", "--epochs", "60", "--learning-rate", "0.02"]) == 0
    told = capsys.readouterr()
    assert "around 1" not in told.err
    assert json.loads(told.out)["records"][-1]["held_out"]["price"]["r2"] > 0.8
