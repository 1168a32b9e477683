"""Losses: each against a loop in NumPy and finite differences, in the graph and in what is measured; their place in a page; rows
that others bring."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridc
from gridc.arrays.axes import Axes
from gridc.language.document import json_schema
from gridc.options import Option
from gridc.tables.losses import DEFAULTS, LOSSES
from gridc.tables.update_rules import OPTIMIZERS
from gridc.training.metrics import Meter
from gridc.training.optimizers import optimizer

PAGE = """
name: small
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 3}}
inputs: {x: {features: 2, joins: [time]}}
outputs: {y: {reads: [time], KIND, loss: LOSS}}
"""
KIND = {"classes": "classes: 4", "binary": "binary: true", "features": "features: 2", "raw": "raw: true"}
LOSS = {
    "cross_entropy": "cross_entropy", "smoothed": "{cross_entropy: {label_smoothing: 0.2}}", "focal": "focal",
    "hard": "{focal: {gamma: 0.5}}", "binary_cross_entropy": "binary_cross_entropy", "squared_error": "squared_error",
    "huber": "huber", "narrow": "{huber: {delta: 0.3}}", "absolute_error": "absolute_error",
}  # fmt: skip
CASES = [(kind, word) for word, kinds in {
    "cross_entropy": ["classes"], "smoothed": ["classes"], "focal": ["classes", "binary"], "hard": ["classes"],
    "binary_cross_entropy": ["binary"], "squared_error": ["binary", "features", "raw"], "huber": ["features"],
    "narrow": ["features", "raw"], "absolute_error": ["features", "raw"],
}.items() for kind in kinds]  # fmt: skip


def page(kind, loss):
    return PAGE.replace("KIND", KIND[kind]).replace("LOSS", LOSS.get(loss, loss))


def loss_of_one(word, kind, output, target):
    """The loss of one position, as its paper writes it."""
    if kind in ("classes", "binary"):
        chances = [float(p) for p in output] if kind == "classes" else [1 - float(output), float(output)]
        right = chances[int(target)]
        if word == "smoothed":
            wanted = [0.8 * (k == target) + 0.2 / len(chances) for k in range(len(chances))]
            return -sum(q * math.log(p) for q, p in zip(wanted, chances, strict=True))
        power = {"focal": 2.0, "hard": 0.5}.get(word, 0.0)
        return (chances[1] - float(target)) ** 2 if word == "squared_error" else -((1 - right) ** power) * math.log(right)
    total = 0.0
    for a, y in zip(output, target, strict=True):
        e, delta = abs(float(a) - float(y)), {"huber": 1.0, "narrow": 0.3}.get(word)
        if delta is not None:
            total += e * e / 2 if e < delta else delta * (e - delta / 2)
        else:
            total += e if word == "absolute_error" else e * e
    return total / len(output)


def example(kind):
    """Inputs and targets of three sequences of 4, 2 and 3 steps."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 4, 2))
    wide = {"features": 2, "raw": 3}.get(kind)
    y = rng.normal(0, 1.5, (3, 4, wide)) if wide else rng.integers(0, {"classes": 4, "binary": 2}[kind], (3, 4))
    return {"x": x}, {"y": y}, {"T": np.array([4, 2, 3])}


@functools.cache
def compiled(**how):
    """One grid with an output for every case."""
    outputs = ", ".join(f"{kind}-{word}: {{reads: [time], {KIND[kind]}, loss: {LOSS[word]}}}" for kind, word in CASES)
    text = PAGE.replace("y: {reads: [time], KIND, loss: LOSS}", outputs)
    return gridc.compile(text, dtype="float64", seed=3, **how)


def call():
    (x, _, lengths), targets = example("raw"), {f"{kind}-{word}": example(kind)[1]["y"] for kind, word in CASES}
    return x, targets, lengths


def checked(grid, tolerance=1e-12):
    """Give the gradients, once all losses are those of the loop, in the graph and as they are measured."""
    x, targets, lengths = call()
    shown, total = grid.predict(x, lengths), 0.0
    for (kind, word), (name, y) in zip(CASES, targets.items(), strict=True):
        known = [loss_of_one(word, kind, shown[name][b, t], y[b, t]) for b, n in enumerate(lengths["T"]) for t in range(n)]
        real = kind in ("features", "raw")
        axes = Axes(("T", *([y.shape[-1]] if real else [])), real, None if real else 4)
        meter = Meter(grid.spec.outputs[name], axes)
        meter.add(y, shown[name], lengths)
        assert meter.result()["loss"] == pytest.approx(np.mean(known), rel=tolerance), name
        total += np.mean(known)
    loss, gradients, _ = grid.loss_and_gradients(x, targets, lengths)
    assert loss == pytest.approx(total, rel=tolerance)
    return gradients


def test_every_loss_is_what_its_paper_says_and_so_is_its_slope() -> None:
    """Only its own loss depends on an output's bias."""
    grid = compiled(lowering="plain")
    gradients, arrays = checked(grid), call()
    for name in ["time.W", *(name for name in grid.parameters if name.endswith(".b"))]:
        for at in list(np.ndindex(grid.parameters[name].shape))[:: 7 if name.startswith("time") else 1]:
            kept, found = grid.parameters[name][at], []
            for step in (1e-6, -1e-6):
                grid.parameters[name][at] = kept + step
                found.append(float(grid.loss(*arrays)))
            grid.parameters[name][at] = kept
            assert gradients[name][at] == pytest.approx((found[0] - found[1]) / 2e-6, rel=1e-5, abs=2e-8), (name, at)


@pytest.mark.parametrize("how", ["fused", "jax"])
def test_every_loss_by_another_way(how: str) -> None:
    if how == "jax":
        pytest.importorskip("jax")
    grid = compiled(backend="jax") if how == "jax" else compiled(lowering="fused")
    gradients, expected = checked(grid, 1e-12), compiled(lowering="plain").loss_and_gradients(*call())[1]
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-8, atol=1e-11, err_msg=name)


def test_what_is_sure_and_right_has_hardly_a_slope() -> None:
    """A power of 1 - p below 1 has none at p = 1."""
    text = PAGE.replace("y: {reads: [time], KIND, loss: LOSS}", """
      a: {reads: [time], classes: 4, loss: {focal: {gamma: 0.5}}}, b: {reads: [time], binary: true, loss: {focal: {gamma: 0.5}}},
      c: {reads: [time], classes: 4, loss: {focal: {gamma: 0}}}""")
    grid = gridc.compile(text, seed=1, lowering="plain")
    grid.parameters["b.b"][:] = 80
    for name in "ac":
        grid.parameters[f"{name}.b"][:] = [80, 0, 0, 0]
    zeros = np.zeros((2, 3), int)
    loss, gradients, _ = grid.loss_and_gradients({"x": np.ones((2, 3, 2))}, {"a": zeros, "b": zeros + 1, "c": zeros})
    assert loss == 0
    assert all((abs(gradient) < 1e-12).all() for gradient in gradients.values())


@pytest.mark.parametrize("kind", sorted(DEFAULTS))
def test_what_is_said_by_default_is_the_same_grid(kind: str) -> None:
    named = gridc.read(page(kind, DEFAULTS[kind]))
    silent = gridc.read(page(kind, "X").replace(", loss: X", ""))
    assert named == silent
    assert named.digest == silent.digest
    for option in LOSSES[DEFAULTS[kind]].options:
        told = gridc.read(page(kind, f"{{{DEFAULTS[kind]}: {{{option.name}: {option.default}}}}}"))
        assert told.digest == silent.digest


def test_an_option_makes_another_grid_and_is_shown() -> None:
    one, other = gridc.read(page("features", "huber")), gridc.read(page("features", "narrow"))
    assert one.digest != other.digest
    assert "huber, delta 0.3" in str(other)


@pytest.mark.parametrize(("kind", "loss", "sentence", "place"), [
    ("features", "hubber", "output 'y', loss: found 'hubber'; expected cross_entropy, focal, binary_cross_entropy, "
     "squared_error, huber or absolute_error, alone or as {NAME: {OPTION: VALUE}} — did you mean 'huber'?", "hubber"),
    ("classes", "huber", "output 'y': huber does not fit classes; expected cross_entropy or focal", "huber"),
    ("features", "{huber: {delta: 0}}", "output 'y', loss.huber.delta: found 0; expected a number of at least 1e-30", "0}}"),
    ("features", "{huber: {gamma: 1}}", "output 'y', loss.huber: unknown key 'gamma'; expected delta", "gamma"),
    ("classes", "{cross_entropy: {label_smoothing: 2}}",
     "output 'y', loss.cross_entropy.label_smoothing: found 2; expected a number from 0 to 1", "2}}"),
    ("features", "l1", "— did you mean 'absolute_error'?", "l1"),
    ("features", "[huber]", "output 'y', loss: found ['huber']; expected cross_entropy, focal", "[huber]"),
    ("features", "{huber: , focal: }", "output 'y', loss: found a mapping; expected cross_entropy", "{huber"),
])  # fmt: skip
def test_a_wrong_loss_is_a_sentence_at_its_place(kind: str, loss: str, sentence: str, place: str) -> None:
    with pytest.raises(gridc.SpecError) as caught:
        gridc.read(page(kind, loss))
    assert sentence in caught.value.sentence
    assert caught.value.text[caught.value.column - 1 :].startswith(place)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is registered is forgotten."""
    monkeypatch.setattr(LOSSES, "registered", {})
    monkeypatch.setattr(OPTIMIZERS, "registered", {})


def log_cosh(p, o):
    return p.ops.log(p.ops.cosh(p.error * o["sharp"])) / o["sharp"]


@pytest.mark.usefixtures("tables")
def test_a_loss_is_a_word_once_it_is_registered(tmp_path: Path) -> None:
    with pytest.raises(gridc.SpecError, match=r"found 'log-cosh'; expected cross_entropy"):
        gridc.read(page("features", "log-cosh"))
    gridc.register_loss("log-cosh", log_cosh, options=[Option("sharp", "float", 1.0, "how sharp", low=0.1)])
    grid = gridc.compile(page("features", "{log-cosh: {sharp: 2}}"), seed=3)
    x, targets, lengths = example("features")
    shown, history = grid.predict(x, lengths)["y"], grid.fit(x, targets, lengths, budget=2, progress="none")
    known = [np.log(np.cosh(2 * (shown[b, t] - targets["y"][b, t]))).mean() / 2
             for b, n in enumerate(lengths["T"]) for t in range(n)]  # fmt: skip
    assert history.records[0].loss == pytest.approx(np.mean(known), rel=1e-5)
    with pytest.raises(gridc.SpecError, match=r"log-cosh: unknown key 'blunt'; expected sharp"):
        gridc.read(page("features", "{log-cosh: {blunt: 2}}"))
    with pytest.raises(gridc.SpecError, match=r"found 0\.0; expected a number of at least 0\.1"):
        gridc.read(page("features", "{log-cosh: {sharp: 0.0}}"))
    with pytest.raises(gridc.SpecError, match=r"log-cosh does not fit classes; expected cross_entropy or focal"):
        gridc.read(page("classes", "log-cosh"))
    with pytest.raises(gridc.SpecError, match=r"huber, absolute_error or log-cosh, alone or .* — did you mean 'log-cosh'"):
        gridc.read(page("features", "logcosh"))
    grid.save(tmp_path / "own.grid")
    np.testing.assert_array_equal(gridc.load(tmp_path / "own.grid").predict(x, lengths)["y"], grid.predict(x, lengths)["y"])
    LOSSES.registered.clear()
    with pytest.raises(gridc.GridcError, match="log-cosh"):
        gridc.load(tmp_path / "own.grid")


@pytest.mark.usefixtures("tables")
def test_what_cannot_be_registered() -> None:
    with pytest.raises(gridc.UsageError, match="there is a loss 'huber' already"):
        gridc.register_loss("huber", log_cosh)
    with pytest.raises(gridc.UsageError, match=r"'kinds' is \['class'\]; expected some of classes, binary, features and raw"):
        gridc.register_loss("mine", log_cosh, kinds=["class"])  # type: ignore[list-item]
    with pytest.raises(gridc.UsageError, match="a loss cannot be called 'my own'"):
        gridc.register_loss("my own", log_cosh)
    with pytest.raises(gridc.UsageError, match="'update' is 3; expected a function"):
        gridc.register_optimizer("mine", 3)  # type: ignore[arg-type]
    with pytest.raises(gridc.UsageError, match="there is an optimizer 'adam' already"):
        gridc.register_optimizer("adam", sign)
    gridc.register_loss("total", lambda p, _: p.error.sum())
    with pytest.raises(gridc.UsageError, match=r"loss 'total': its function gave 0 axes; expected 2 or 3 axes"):
        gridc.compile(page("features", "total")).loss(*example("features"))


def sign(block, options):
    np.sign(block.g, out=block.u)
    block.u *= block.rate * options["share"]


@pytest.mark.usefixtures("tables")
def test_an_optimizer_is_a_word_once_it_is_registered(tmp_path: Path) -> None:
    text = page("classes", "cross_entropy") + f"training: {{data: {tmp_path}/x.npz, optimizer: {{sign: {{share: 0.5}}}}}}\n"
    with pytest.raises(gridc.SpecError, match="unknown key 'sign'; expected"):
        gridc.read(text)
    gridc.register_optimizer("sign", sign, options=[Option("share", "float", 1.0, "a share", low=0, high=1)])
    training = gridc.read(text).training
    assert training is not None
    assert training.optimizer.options == {"learning_rate": 0.001, "weight_decay": 0.0, "share": 0.5}
    parameters = {"a": np.array([1.0, 2.0])}
    optimizer("sign", learning_rate=0.1).update(parameters, {"a": np.array([3.0, -4.0])})
    np.testing.assert_allclose(parameters["a"], [0.9, 2.1])
    with pytest.raises(gridc.SpecError, match=r"optimizer\.sign\.share: found 2; expected a number from 0 to 1"):
        gridc.read(text.replace("0.5", "2"))
    with pytest.raises(gridc.UsageError, match="adamw or sign — did you mean 'sign'"):
        optimizer("sing")


def test_an_installed_package_brings_losses_and_optimizers(tmp_path: Path) -> None:
    """In a process of its own, with a package beside it as installers lay one out."""
    (tmp_path / "brought.py").write_text(
        "from gridc.tables.losses import Loss\nfrom gridc.tables.update_rules import OPTIMIZERS, Rule\n"
        "from dataclasses import replace\n"
        "LOSS = Loss('fourth', ('features',), (), lambda p, o: p.error**4, 'e⁴', '')\n"
        "def rule(): return replace(OPTIMIZERS['sgd'], name='plain')\n")  # fmt: skip
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[gridc.losses]\nfourth = brought:LOSS\nbad = brought:nothing\nother = brought:LOSS\n"
        "[gridc.optimizers]\nplain = brought:rule\n")  # fmt: skip
    np.savez(tmp_path / "x.npz", x=np.ones((4, 3, 2)), y=np.ones((4, 3, 2)))
    text = page("features", "fourth") + "training: {data: x.npz, optimizer: {plain: {learning_rate: 0.1}}, budget: {steps: 1}}\n"
    (tmp_path / "small.yaml").write_text(text)
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(gridc.__file__).parent.parent}"})  # fmt: skip
    trained = run([sys.executable, "-m", "gridc", "train", "small.yaml", "--progress", "none"])
    assert trained.returncode == 0, trained.stderr
    assert "plain(learning_rate=0.1" in run([sys.executable, "-m", "gridc", "inspect", "runs/small/model.grid"]).stdout
    for word, sentence in (("bad", "the loss 'bad' of the entry point brought:nothing cannot be loaded"),
                           ("other", "the loss 'other' of the entry point brought:LOSS is one called 'fourth'")):  # fmt: skip
        (tmp_path / "small.yaml").write_text(text.replace("fourth", word))
        checked = run([sys.executable, "-m", "gridc", "check", "small.yaml"])
        assert sentence in checked.stderr
        assert "small.yaml:6:" in checked.stderr


def test_an_editor_takes_names_that_may_be_registered_and_completes_those_that_come_with_gridc() -> None:
    validator = pytest.importorskip("jsonschema").Draft7Validator(json_schema())

    def wrong(loss: Any, optimizer: Any) -> list[str]:
        page: dict[str, Any] = {
            "name": "own", "dimensions": {"time": "T"}, "transforms": {"time": {"cell": "my_cell"}},
            "outputs": {"y": {"reads": ["time"], "features": 1, "loss": loss}}, "training": {"data": "x", "optimizer": optimizer},
        }  # fmt: skip
        return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(page)]

    for loss, rule in (("log-cosh", "sign"), ({"log-cosh": {"sharp": 2}}, {"sign": {"share": 0.5}}), ("huber", "adam")):
        assert not wrong(loss, rule)
    assert wrong({"huber": {"sharp": 2}}, "adam") == ["outputs.y.loss"]
    for odd in ({"adam": {"beta": 0.5}}, {"sign": 3}):
        assert wrong("two words", odd) == ["outputs.y.loss", "training"]
    written = json_schema()["definitions"]
    assert "huber" in written["Loss"]["properties"]
    assert any("huber" in one.get("enum", ()) for one in written["OutputPage"]["properties"]["loss"]["anyOf"])
