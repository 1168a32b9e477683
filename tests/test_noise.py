"""Dropout and zoneout against equations typed in with NumPy, masks given; and how the masks are drawn."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridc
from gridc import cli
from gridc.fusion import draws
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


def slope_of(equations: Any, spec: gridc.GridSpec, p: Mapping[str, Array], x: Array, y: Any, masks: Any, way: Any) -> float:
    """The slope of the equations' loss in a direction, by a difference."""
    total = 0.0
    for sign in (1, -1):
        shifted = {name: array + sign * 1e-6 * way[name] for name, array in p.items()}
        total += sign * loss_of(spec, {"answer": equations(shifted, x, masks)}, y) / 2e-6
    return total


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
    slope = slope_of(equations, grid.spec, p, x["symbols"], y, masks, way)
    assert sum((g * way[name]).sum() for g, name in zip(gradients, p, strict=True)) == pytest.approx(slope, rel=1e-5, abs=1e-7)
    calm = {name: np.full_like(m, grid.spec.transforms[name.split(".")[0]].zoneout if "zoneout" in name else 1.0)
            for name, m in masks.items()}  # fmt: skip
    assert grid.loss(x, y) == pytest.approx(loss_of(grid.spec, {"answer": equations(p, x["symbols"], calm)}, y), rel=1e-9)


STACKED = small("dropout", hidden=4, transforms__time__dropout=0.5, transforms__time__zoneout=0.3)


def stacked(p: Mapping[str, Array], symbols: Array, masks: Mapping[str, Array]) -> Array:
    """What goes up is masked, by one mask a level and sequence; what goes on in time is not; zoneout keeps by the cell."""
    batch, times = symbols.shape
    joined = one_hot(symbols, 9)
    top = np.zeros((batch, times, 4))
    for level in range(2):
        below = top if level == 0 else top * masks["time.dropout"][:, None, level - 1]
        h = m = np.zeros((batch, 4))
        every = []
        for t in range(times):
            x = joined[:, t] * (level == 0)
            new_h, new_m = lstm(cat(h, below[:, t], x), m, p["time.W"][level], p["time.b"][level])
            keep_h, keep_m = masks["time.zoneout.h"][:, t, level], masks["time.zoneout.m"][:, t, level]
            h, m = keep_h * h + (1 - keep_h) * new_h, keep_m * m + (1 - keep_m) * new_m
            every.append(h)
        top = np.stack(every, axis=1)
    return read_out(p, "answer", top)


def test_dropout_and_zoneout_of_a_stacked_lstm() -> None:
    prove(STACKED, stacked)


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


def test_masks_are_drawn_by_any_number_of_threads_as_numpy_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """From any state, some of the numbers left out before, between and behind: the same masks and the same state after."""
    monkeypatch.setattr(draws, "LARGE", 40)
    random = np.random.default_rng(0)
    for seed in range(120):
        made: list[list[noise.Drawing]] = [[], []]
        total = 0
        for rate in random.random(random.integers(1, 4)):
            total += int(random.integers(0, 7))
            size = int(random.integers(0, 90 if seed % 20 else 70_000))
            for drawings in made:
                drawings.append(noise.Drawing(np.empty(size, "float64" if seed % 2 else "float32"), float(rate), 1.0, 0.3, total))
            total += size
        total += int(random.integers(0, 3))
        one, two = np.random.default_rng(seed), np.random.default_rng(0)
        one.random(seed % 4, dtype=np.float32)
        two.bit_generator.state = one.bit_generator.state
        noise.draw_in_numpy(one, made[0], total)
        draws.draw(two, made[1], total, threads=1 + seed % 3)
        assert one.bit_generator.state == two.bit_generator.state
        assert all(np.array_equal(a.mask, b.mask) for a, b in zip(*made, strict=True))


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
    with pytest.raises(gridc.SpecError, match=sentence) as refused:
        gridc.read(page)
    assert str(refused.value).startswith("<spec>:5:"), "at its place, when the page is read"


STACK = """
name: stack
dimensions: {time: T, depth: %d}
transforms:
  time: {cell: lstm, hidden: 3, tied: [time], dropout: 0.5}
  depth: {cell: pass, reads: [time]}
priority: [time, depth]
inputs:
  x: {features: 1, joins: [time], over: [time], at: {depth: first}}
outputs:
  y: {features: 1, reads: [time], at: {time: last, depth: last}}
"""
ALONE = STACK.replace("time: T, depth: %d", "time: T").replace("  depth: {cell: pass, reads: [time]}\n", "").replace(
    "priority: [time, depth]\n", "").replace(", over: [time], at: {depth: first}", "").replace(", depth: last", "")  # fmt: skip


@pytest.mark.parametrize("page", [ALONE, STACK % 1, STACK % 2, STACK % 3])
def test_dropout_that_hides_nothing_is_warned_of_at_its_place(
    page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        spec = gridc.read(page)
    grid = gridc.compile(spec, dtype="float64", seed=1)
    x, y = {"x": np.ones((5, 4, 1))}, {"y": np.ones((5, 1))}
    losses = {round(grid.loss_and_gradients(x, y)[0], 12) for _ in range(4)}
    assert (len(losses) == 1) == (len(told) == 1), "warned of where the masks change nothing, and nowhere else"
    (tmp_path / "a.yaml").write_text(page)
    assert cli.run(["check", str(tmp_path / "a.yaml")]) == 0
    shown = capsys.readouterr().err
    if told:
        assert "dropout of 'time' hides nothing" in str(told[0].message)
        line, caret = shown.splitlines()[-2:]
        assert line[caret.index("^") :].startswith("dropout")
    else:
        assert not shown


# -- training, where the grid draws them -------------------------------------------------------------------------------


def following(grid: gridc.Grid, batch: int, sizes: tuple[int, ...]) -> Mapping[str, Array]:
    """The masks that the grid will draw next, from its own account of where its generator stands."""
    assert grid.random_state is not None
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = grid.random_state
    return noise.draw(grid.spec, batch, sizes, generator, grid.dtype)


@pytest.fixture(scope="module")
def noisy_grid() -> gridc.Grid:
    return gridc.compile(STACKED, dtype="float64", seed=7)


def test_every_training_step_draws_new_masks_and_is_exact_under_them(noisy_grid: gridc.Grid) -> None:
    """Loss, outputs, gradients and the update of a step are those of the equations with the masks that were drawn for it."""
    grid, rng = noisy_grid, np.random.default_rng(5)
    x, y = ids(9, T), {"answer": 1 + ids(8, T)}
    step = grid.training_step("sgd", learning_rate=0.1)
    before = []
    for _ in range(2):
        p = drawn(grid, rng)
        masks = following(grid, BATCH, SIZES)
        before.append(masks)
        state = grid.random_state
        loss, gradients, outputs = grid.loss_and_gradients({"symbols": x}, y)
        logits = stacked(p, x, masks)
        assert loss == pytest.approx(loss_of(grid.spec, {"answer": logits}, y), rel=1e-9)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        np.testing.assert_allclose(outputs["answer"], odds / odds.sum(axis=-1, keepdims=True), rtol=1e-9)
        way = {name: rng.normal(size=array.shape) for name, array in p.items()}
        slope = sum((g * way[name]).sum() for name, g in gradients.items())
        assert slope == pytest.approx(slope_of(stacked, grid.spec, p, x, y, masks, way), rel=1e-5, abs=1e-7)
        assert state is not None
        grid.random_state = state  # the same masks again
        assert step({"symbols": x}, y) == loss
        for name, array in p.items():
            np.testing.assert_allclose(grid.parameters[name], array - 0.1 * gradients[name], rtol=1e-12, atol=1e-15)
    assert any((before[0][name] != before[1][name]).any() for name in before[0])


def test_an_examples_masks_are_cut_to_its_length(noisy_grid: gridc.Grid) -> None:
    grid, lengths = noisy_grid, np.array([2, T, 3][:BATCH] + [1] * (BATCH - 3))
    p = drawn(grid, np.random.default_rng(6))
    x, y = ids(9, T), 1 + ids(8, T)
    masks = following(grid, BATCH, SIZES)
    loss = grid.loss_and_gradients({"symbols": x}, {"answer": y}, {"T": lengths})[0]
    total = 0.0
    for i, n in enumerate(lengths.tolist()):
        own = {name: m[i : i + 1] if name.endswith("dropout") else m[i : i + 1, :n] for name, m in masks.items()}
        target = {"answer": y[i : i + 1, :n]}
        total += n * loss_of(grid.spec, {"answer": stacked(p, x[i : i + 1, :n], own)}, target)
    assert loss == pytest.approx(total / lengths.sum(), rel=1e-9)


def test_prediction_draws_nothing_and_a_quiet_spec_has_no_state(noisy_grid: gridc.Grid) -> None:
    state = noisy_grid.random_state
    x, y = {"symbols": ids(9, T)}, {"answer": 1 + ids(8, T)}
    first = noisy_grid.predict(x)["answer"]
    noisy_grid.loss(x, y)
    noisy_grid.score(x, y)
    np.testing.assert_array_equal(noisy_grid.predict(x)["answer"], first)
    assert noisy_grid.random_state == state
    assert gridc.compile(small("stacked-lstm", hidden=4), eager=False).random_state is None


def test_jax_trains_under_the_same_masks(noisy_grid: gridc.Grid) -> None:
    pytest.importorskip("jax")
    other = gridc.compile(STACKED, dtype="float64", backend="jax", seed=7)
    for name, array in drawn(noisy_grid, np.random.default_rng(8)).items():
        other.parameters[name] = array
    assert noisy_grid.random_state is not None
    other.random_state = noisy_grid.random_state
    x, y = {"symbols": ids(9, T)}, {"answer": 1 + ids(8, T)}
    ours, theirs = noisy_grid.loss_and_gradients(x, y), other.loss_and_gradients(x, y)
    assert theirs[0] == pytest.approx(ours[0], rel=1e-9)
    for name, gradient in ours[1].items():
        np.testing.assert_allclose(theirs[1][name], gradient, rtol=1e-7, atol=1e-12)


def test_a_resumed_training_draws_what_an_unbroken_one_draws(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = {"symbols": rng.integers(0, 9, (12, T))}, {"answer": rng.integers(0, 9, (12, T))}
    options: dict[str, Any] = {"batch": 4, "seed": 1, "evaluate": {"steps": 2}, "checkpoint": {"steps": 1}, "progress": "none"}

    def grid() -> gridc.Grid:
        return gridc.compile(STACKED, seed=3)

    whole, broken, resumed = grid(), grid(), grid()
    history = whole.fit(*data, budget={"steps": 7}, **options)
    broken.fit(*data, budget={"steps": 4}, folder=tmp_path / "run", **options)
    resumed_history = resumed.fit(*data, budget={"steps": 7}, folder=tmp_path / "run", resume=True, **options)
    assert resumed.random_state == whole.random_state != broken.random_state
    for name, array in whole.parameters.items():
        assert resumed.parameters[name].tobytes() == array.tobytes()
    assert [r.loss for r in resumed_history.records] == [r.loss for r in history.records]


def test_the_spec_is_trained_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a user does it: two symbols are given back by a network that was trained under masks."""
    arguments = ["train", "specs/dropout.yaml", "--length", "2", "--symbols", "3", "--batch", "32", "--steps", "200",
                 "--folder", str(tmp_path / "run"), "--progress", "none", "--json"]  # fmt: skip
    assert cli.run(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    (held,) = told["records"][-1]["held_out"].values()
    assert held["accuracy"] > 0.9
    assert cli.run(["score", str(tmp_path / "run" / "model.grid"), "--json"]) == 0


def test_an_estimator_trains_with_masks_and_predicts_without() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification

    from gridc.sklearn import GridClassifier

    page = """
name: masked
dimensions: {depth: 2}
transforms:
  depth: {cell: lstm, hidden: 12, zoneout: 0.1}
  beside: {cell: lstm, hidden: 12, along: depth, dropout: 0.2}
inputs:
  X: {features: 6, enters: depth}
outputs:
  y: {classes: 2, reads: [depth, beside], at: {depth: last}}
"""
    x, y = make_classification(120, 6, n_informative=4, class_sep=2.0, random_state=0)
    fitted = GridClassifier(page, epochs=8, random_state=0, learning_rate=0.05).fit(x, y)
    assert fitted.score(x, y) > 0.9
    np.testing.assert_array_equal(fitted.predict_proba(x), fitted.predict_proba(x))
    again = GridClassifier(page, epochs=8, random_state=0, learning_rate=0.05).fit(x, y)
    np.testing.assert_array_equal(fitted.predict_proba(x), again.predict_proba(x))
