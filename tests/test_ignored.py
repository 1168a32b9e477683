"""Targets that are ignored, and weights by position: losses by loops, gradients by differences, in memory and in files."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gridc
from gridc import cli
from gridc.arrays.dataset import Dataset
from gridc.data.files import read
from gridc.data.fitting import for_spec
from gridc.data.reading import Reading
from gridc.training.fit import fit
from gridc.training.metrics import confusion
from gridc.training.ranks import Share
from gridc.training.setup import Weights, batches, shares

PAGE = """
name: tagger
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 3}}
inputs: {x: {features: 2, joins: [time]}}
outputs:
  tag: {classes: 3, reads: [time], ignore: -1}
  pad: {classes: 3, reads: [time], ignore: 0, loss: {focal: {gamma: 1.5}}}
  yes: {binary: true, reads: [time], ignore: -100}
  size: {features: 2, reads: [time], ignore: nan, loss: huber}
  last: {features: 1, reads: [time], at: {time: last}, ignore: .nan}
"""
QUIET: dict[str, Any] = {"progress": "none"}
Arrays = dict[str, np.ndarray]


@functools.cache
def grid(lowering: str, backend: str = "python") -> gridc.Grid:
    return gridc.compile(PAGE, backend=backend, lowering=lowering, dtype="float64", seed=1)  # type: ignore[arg-type]


def example(seed: int, hidden: float, batch: int = 3, longest: int = 4) -> tuple[Arrays, Arrays, Arrays, Arrays]:
    """Inputs, targets of which a share is ignored, lengths, and weights of three kinds."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest + 1, batch)
    lengths[0] = longest
    places = (batch, longest)

    def some(values: Any, nothing: float) -> np.ndarray:
        gone = random.random(values.shape[:2]) < hidden
        return np.where(gone.reshape(*gone.shape, *[1] * (values.ndim - 2)), nothing, values)

    targets = {
        "tag": some(random.integers(0, 3, places), -1).astype(int), "pad": some(random.integers(0, 3, places), 0).astype(int),
        "yes": some(random.integers(0, 2, places), -100).astype(int), "size": some(2 * random.normal(size=(*places, 2)), np.nan),
        "last": np.where(random.random((batch, 1)) < hidden, np.nan, random.normal(size=(batch, 1))),
    }  # fmt: skip
    one = targets["size"].reshape(-1)  # a position does not count where one of its numbers is missing
    one[np.flatnonzero(random.random(one.size) < hidden / 4)] = np.nan
    weights = {"tag": random.random(places), "size": random.random(batch), "last": random.random(batch)}
    return {"x": random.normal(size=(*places, 2))}, targets, {"T": lengths}, weights


def by_loops(shown: Arrays, targets: Arrays, lengths: Arrays, weights: Arrays) -> dict[str, float]:
    """Every output's loss, position by position."""
    found: dict[str, float] = {}
    for name in shown:
        total, count = 0.0, 0
        for b, n in enumerate(lengths["T"]):
            for t in range(n) if name != "last" else (None,):
                at = (b,) if t is None else (b, t)
                p, y = shown[name][at], targets[name][at]
                w = np.asarray(weights.get(name, 1.0))
                w = float(w if not w.ndim else w[b] if w.ndim == 1 else w[at])
                if name == "tag" and y != -1:
                    loss = -np.log(p[y])
                elif name == "pad" and y != 0:
                    loss = -((1 - p[y]) ** 1.5) * np.log(p[y])
                elif name == "yes" and y != -100:
                    loss = -np.log(p if y else 1 - p)
                elif name == "size" and not np.isnan(y).any():
                    loss = np.mean([e * e / 2 if e <= 1 else e - 0.5 for e in abs(p - y)])
                elif name == "last" and not np.isnan(y).any():
                    loss = ((p - y) ** 2).item()
                else:
                    continue
                total, count = total + w * loss, count + 1
        found[name] = total / max(count, 1)
    return found


@settings(deadline=None, max_examples=8, print_blob=True)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.8, 1.0]), st.sampled_from(["fused", "plain"]), st.booleans())
def test_losses_by_loops_and_gradients_by_differences(seed: int, hidden: float, lowering: str, weighed: bool) -> None:
    g = grid(lowering)
    x, targets, lengths, weights = example(seed, hidden)
    weights = weights if weighed else {}
    known = sum(by_loops(g.predict(x, lengths), targets, lengths, weights).values())
    loss, gradients, shown = g.loss_and_gradients(x, targets, lengths, weights)
    assert loss == pytest.approx(known, rel=1e-9, abs=1e-12)
    assert g.loss(x, targets, lengths, weights) == pytest.approx(loss, rel=1e-12)
    for name, array in g.predict(x, lengths).items():  # what is ignored is predicted all the same
        np.testing.assert_allclose(shown[name], array, rtol=1e-12)
    for name in ("time.W", "tag.W", "yes.b", "last.b"):
        array, slope = g.parameters[name], gradients[name]
        assert np.isfinite(slope).all()
        at = tuple(np.random.default_rng(seed).integers(0, n) for n in array.shape)
        before, moved = array[at], []
        for step in (1e-5, -1e-5):
            array[at] = before + step
            moved.append(g.loss(x, targets, lengths, weights))
        array[at] = before
        assert slope[at] == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-5, abs=1e-8)
    if hidden == 1:
        assert loss == 0
        assert all(not slope.any() for slope in gradients.values())


def test_jax_has_the_same() -> None:
    pytest.importorskip("jax")
    x, targets, lengths, weights = example(3, 0.4)
    known = grid("fused").loss_and_gradients(x, targets, lengths, weights)
    found = grid("fused", "jax").loss_and_gradients(x, targets, lengths, weights)
    assert found[0] == pytest.approx(known[0], rel=1e-9)
    for name, slope in known[1].items():
        np.testing.assert_allclose(found[1][name], slope, rtol=1e-7, atol=1e-10)


def test_a_training_and_its_figures_count_the_same_positions(tmp_path: Path) -> None:
    g = gridc.compile(PAGE, dtype="float64", seed=1)
    x, targets, lengths, weights = example(5, 0.5, 12)
    before = g.predict(x, lengths)
    known = by_loops(before, targets, lengths, weights)
    step = g.training_step("sgd", learning_rate=0.0)
    assert step(x, targets, lengths, weights) == pytest.approx(sum(known.values()), rel=1e-9)
    score = g.score(x, targets, lengths)
    right = [before["tag"][b, t].argmax() == targets["tag"][b, t] for b, n in enumerate(lengths["T"]) for t in range(n)
             if targets["tag"][b, t] != -1]  # fmt: skip
    assert score["tag"] == pytest.approx(np.mean(right))
    assert np.isfinite(list(score.values())).all()
    data = Dataset(x, targets, lengths)
    assert confusion(g, data, "tag").counts.sum() == len(right)

    frozen: dict[str, Any] = {"optimizer": {"sgd": {"learning_rate": 0.0}}, "batch": 5, "budget": 1, **QUIET}
    for examples, more in (((x, targets, lengths, weights), {}), ((x, targets, lengths), {"weights": weights}),
                           (data, {"weights": {**weights, "yes": 1.0}})):  # fmt: skip
        record = fit(g, examples, (x, targets, lengths, weights), **frozen, **more).records[-1]
        for told in (record.outputs, record.held_out):
            assert {name: one["loss"] for name, one in told.items()} == pytest.approx(known, rel=1e-9)
    ragged = [[one[:n] for one, n in zip(array, lengths["T"], strict=True)] for array in (x["x"], targets["tag"], weights["tag"])]
    tagger = gridc.compile(PAGE[: PAGE.index("  pad")], dtype="float64", seed=1)
    record = tagger.fit({"x": ragged[0]}, {"tag": ragged[1]}, weights={"tag": ragged[2]}, **frozen).records[-1]
    there = by_loops(tagger.predict(x, lengths), targets, lengths, weights)
    assert record.loss == pytest.approx(there["tag"], rel=1e-9)

    # The ranks' parts of a mini-batch add up to the mean over all of it.
    fitted, parts = for_spec(Dataset(x, targets, lengths, weights=weights), g.spec), []
    alike = Weights({}, {}, batches(fitted, g.spec, 12, 0, True), g.spec)
    for rows in (slice(0, 5), slice(5, 12)):
        part = fitted.ready("float64", rows)
        parts.append(g.loss(part.inputs, part.targets, part.lengths, alike.of(part, shares(g.spec, fitted, Share(rows, 12)))))
    assert sum(parts) == pytest.approx(sum(known.values()), rel=1e-9)

    # Balanced weights of classes know nothing of what is ignored, and a batch without any target moves nothing.
    fitted = for_spec(data, g.spec)
    counts = np.bincount([y for b, n in enumerate(lengths["T"]) for y in targets["tag"][b, :n] if y >= 0], minlength=3)
    balanced = Weights({}, {"tag": "balanced"}, batches(fitted, g.spec, 5, 0, True), g.spec)
    np.testing.assert_allclose(balanced.classes["tag"], counts.sum() / (3 * np.maximum(counts, 1)))
    assert np.isfinite(balanced.of(fitted)["tag"]).all()  # type: ignore[index]
    nothing = example(5, 1.0, 12)[1]
    kept = {name: array.copy() for name, array in g.parameters.items()}
    g.fit(x, nothing, lengths, class_weights={"tag": "balanced"}, budget=2, standardize=False, **QUIET)
    for name, array in g.parameters.items():
        np.testing.assert_array_equal(array, kept[name])


def test_numbers_are_standardized_by_those_that_are_there() -> None:
    page = PAGE[: PAGE.index("  tag")] + PAGE[PAGE.index("  size") :]
    g = gridc.compile(page, dtype="float64", seed=1)
    x, targets, lengths, _ = example(7, 0.3, 40)
    targets = {"size": 50 + 10 * targets["size"], "last": targets["last"]}
    history = g.fit(x, targets, lengths, standardize=True, budget=30, optimizer={"adam": {"learning_rate": 0.02}}, **QUIET)
    assert np.isfinite(history.records[-1].loss)
    assert abs(g.predict(x, lengths)["size"][0].mean() - 50) < 20


SMALL = """
name: small
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 2}}
inputs: {x: {features: 1, joins: [time]}}
outputs: {y: {%s, reads: [time]%s}}
training: {data: {file: FILE}, budget: {epochs: 1}, batch: 2}
"""


@pytest.mark.parametrize(("kind", "at", "cells", "expected", "advised"), [
    ("classes: 3, ignore: -1", ", at: {time: last}", ["0", "", "2", "-1"], [0, -1, 2, -1], "expected a number"),
    ("classes: 3, ignore: -1", ", at: {time: last}", ["b", "", "a", "-1"], [1, -1, 0, -1], "is empty, expected a word"),
    ("binary: true, ignore: 9", ", at: {time: last}", ["0", "", "1", "9"], [0, 9, 1, 9], "expected a number"),
    ("features: 1, ignore: nan", ", at: {time: last}", ["0.5", "", "nan", "-1"], [0.5, np.nan, np.nan, -1], "expected a number"),
    ("classes: 3, ignore: -1", "", ["0 1", "-1 2", "-1 -1", "1 1"], [[0, 1], [-1, 2], [-1, -1], [1, 1]], "0 to 2"),
    ("classes: 3, ignore: -1", "", ["['a', 'b']", "['-1', 'c']", "[None, 'a']", "['b', None]"],
     [[0, 1], [-1, 2], [-1, 0], [1, -1]], ""),
    ("features: 1, ignore: nan", "", ["0 1", "nan 2", "1 nan", "1 1"], [[0, 1], [np.nan, 2], [1, np.nan], [1, 1]],
     "finite numbers"),
])  # fmt: skip
def test_cells_of_a_table_may_be_without_a_target(
    tmp_path: Path, kind: str, at: str, cells: list[str], expected: Any, advised: str
) -> None:
    file = tmp_path / "data.csv"
    file.write_text("x;y\n" + "".join(f"{i} 1;{cell}\n" for i, cell in enumerate(cells)))
    data = read(file, Reading(gridc.read(SMALL % (kind, at))))
    np.testing.assert_array_equal(data.targets["y"].reshape(np.shape(expected)), expected)
    if advised:
        with pytest.raises(gridc.DataError, match=advised) as caught:
            read(file, Reading(gridc.read(SMALL % (kind.partition(", ignore")[0], at))))
        assert "row 3" in str(caught.value)
        if at and "-1" in cells:
            assert "'ignore: nan'" in str(caught.value) if "features" in kind else "'ignore: -1'" in str(caught.value)


def test_arrays_of_words_may_be_without_a_target(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.ones((2, 3, 1)), y=np.array([["a", "", "b"], ["-1", "b", "a"]]))
    data = read(tmp_path / "data.npz", Reading(gridc.read(SMALL % ("classes: 2, ignore: -1", ""))))
    np.testing.assert_array_equal(data.targets["y"], [[0, -1, 1], [-1, 1, 0]])


def test_the_command_line_trains_scores_and_predicts_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("x,y\n" + "".join(f"{i % 3} 1 2,{(0, 1, '')[i % 3]}\n" for i in range(12)))
    Path("small.yaml").write_text((SMALL % ("classes: 2, ignore: -1", ", at: {time: last}")).replace("FILE", "data.csv"))

    def run(*words: str) -> str:
        assert cli.run(list(words)) == 0
        return capsys.readouterr().out

    run("train", "small.yaml", "--progress", "none", "--folder", "out")
    told = json.loads(run("score", "out/model.grid", "data.csv", "--json"))
    grid, known = gridc.load("out/model.grid"), np.array([0, 1] * 4)
    x = np.array([[i % 3, 1, 2] for i in range(12) if i % 3 < 2], float)[..., None]
    shown = grid.predict({"x": x})["y"]
    assert told["outputs"]["y"]["accuracy"] == pytest.approx(np.mean(shown.argmax(axis=1) == known))
    assert told["outputs"]["y"]["loss"] == pytest.approx(-np.log(shown[np.arange(8), known]).mean(), rel=1e-5)
    assert len(run("predict", "out/model.grid", "data.csv").splitlines()) >= 12


@pytest.mark.parametrize(("kind", "sentence"), [
    ("classes: 3, ignore: nan", "output 'y': ignore is nan, and classes are told to ignore an integer, such as -1"),
    ("features: 3, ignore: -1", "output 'y': ignore is -1, and features are told to ignore nan"),
    ("classes: 3, ignore: 1.5", "expected an integer, or nan for real numbers"),
    ("classes: 3, ignore_index: -1", "unknown key 'ignore_index'.* 'ignore'"),
])  # fmt: skip
def test_what_cannot_be_ignored_is_a_sentence(kind: str, sentence: str) -> None:
    with pytest.raises(gridc.SpecError, match=sentence):
        gridc.read(SMALL % (kind, ""))


def test_calls_are_told_of_it_and_of_wrong_weights() -> None:
    g, x = gridc.compile(SMALL % ("classes: 3", ""), dtype="float64"), {"x": np.ones((2, 3, 1))}
    y = np.array([[0, 1, 2], [0, -100, 1]])
    with pytest.raises(gridc.DataError, match=r"found -100 at \[1, 1\]; expected classes from 0 to 2; .* 'ignore: -100'"):
        g.loss(x, {"y": y})
    with pytest.raises(gridc.DataError, match=r"holds -100 in example 1, .*'ignore: -100' of the output leaves its position out"):
        g.fit(x, {"y": y}, **QUIET)
    real = gridc.compile(SMALL % ("features: 1", ""), dtype="float64")
    with pytest.raises(gridc.DataError, match=r"found nan at .*'ignore: nan' of the output"):
        real.loss(x, {"y": np.full((2, 3, 1), np.nan)})
    y = np.maximum(y, 0)
    for weights, sentence in (({"y": np.ones((3, 2))}, r"shape \(3, 2\); expected a number, or shape \(2,\) or \(2, 3\)"),
                              ({"z": 1.0}, "there is no output 'z' to weigh; expected y"),
                              ({"y": np.array([1, np.inf])}, "found NaN or infinity")):  # fmt: skip
        with pytest.raises(gridc.DataError, match=sentence):
            g.loss(x, {"y": y}, None, weights)
        if "z" not in weights:
            with pytest.raises(gridc.DataError, match="different numbers of examples" if len(weights["y"]) == 3 else sentence):
                g.fit(x, {"y": y}, weights=weights, **QUIET)
    with pytest.raises(gridc.UsageError, match="'weights' names 'z', which is no output"):
        g.fit(x, {"y": y}, weights={"z": [1.0, 2.0]}, **QUIET)
    with pytest.raises(gridc.UsageError, match="give each mini-batch its own"):
        fit(g, iter([(x, {"y": y})]), weights={"y": [1.0, 2.0]}, **QUIET)
    assert "ignores -1" in str(gridc.read(SMALL % ("classes: 3, ignore: -1", "")))
    assert gridc.read(SMALL % ("classes: 3, ignore: -1", "")).digest != g.spec.digest
