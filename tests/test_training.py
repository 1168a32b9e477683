"""Training on a stand-in grid: that it learns, stops, weighs, reports and complains as it says."""

from __future__ import annotations

import itertools
import json
import signal
import threading

import numpy as np
import pytest
from pydantic import ValidationError

from gridc.arrays.dataset import Dataset, padded
from gridc.errors import DataError, NumbersError, UsageError
from gridc.files import hash_of
from gridc.model_file import load
from gridc.scheduling.check import read
from gridc.tables.training_block import Training
from gridc.training.fit import fit
from gridc.training.interrupts import Interrupts
from gridc.training.metrics import confusion, evaluate, score
from gridc.training.progress import duration
from small_grid import SmallGrid, spec_of

QUIET = {"progress": "none"}


def data(n=40, seed=0, spread=1.5):
    """Two clouds of points that a perceptron tells apart; four fifths and the rest."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    return Dataset({"x": (rng.normal(size=(n, 4)) + spread * label[:, None]).astype("f4")}, {"label": label}).split(0.2)


def grid(**options):
    return SmallGrid(spec_of(label="classes: 2"), **options)


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rmsprop", "adam", "adamw"])
def test_it_learns_with_every_optimizer(optimizer):
    train, held_out = data(200, spread=3)
    rate = 0.1 if optimizer in ("sgd", "adagrad") else 0.01
    one = grid()
    history = fit(one, train, held_out, optimizer={optimizer: {"learning_rate": rate}}, budget=20,
                  stop={"accuracy": 1.0}, batch=8, **QUIET)  # fmt: skip
    assert score(one, held_out)["label"] >= 0.97
    assert history.records[-1].accuracy() == score(one, held_out)["label"]


def test_a_seed_says_everything():
    runs = []
    for seed in (1, 1, 2):
        one = grid()
        fit(one, *data(), budget=2, batch=4, seed=seed, **QUIET)
        runs.append(hash_of(one.parameters))
    assert runs[0] == runs[1] != runs[2]


def test_budgets():
    train, held_out = data(40)
    for budget, steps in (({"epochs": 2}, 16), ({"epochs": 0.5}, 4), ({"samples": 33}, 9), ({"steps": 5}, 5),
                          ({"epochs": 3, "steps": 7}, 7), (1, 8)):  # fmt: skip
        history = fit(grid(), train, held_out, batch=4, budget=budget, **QUIET)
        assert (history.steps, history.reason) == (steps, "The budget is spent.")
        assert history.records[-1].step == steps
    assert fit(grid(), train, budget={"seconds": 0.05}, **QUIET).seconds >= 0.05


def test_evaluations_come_when_they_are_due():
    train, held_out = data(40)
    for every, steps in (({"epochs": 1}, [8, 16]), ({"epochs": 0.5}, [4, 8, 12, 16]),
                         ({"samples": 10}, [3, 5, 8, 10, 13, 15, 16]), ({"steps": 6}, [6, 12, 16])):  # fmt: skip
        history = fit(grid(), train, held_out, batch=4, budget=2, evaluate=every, **QUIET)
        assert [record.step for record in history.records] == steps, every


def test_the_figures_are_those_of_the_whole_held_out_set():
    train, held_out = data(400)
    one = grid()
    history = fit(one, train, held_out, budget=1, batch=7, **QUIET)
    p = one.predict(held_out.inputs)["label"]
    target = held_out.targets["label"]
    figures = history.records[-1].held_out["label"]
    assert figures["accuracy"] == np.mean(p.argmax(1) == target)
    assert figures["loss"] == pytest.approx(-np.log(p[np.arange(len(p)), target]).mean(), rel=1e-6)


def test_early_stopping_gives_back_the_best_weights():
    train, held_out = data(30, spread=0.3)
    one = grid(hidden=64)
    history = fit(one, train, held_out, optimizer={"adam": {"learning_rate": 0.05}}, batch=4, budget=200,
                  stop={"patience": 4, "monitor": "loss"}, **QUIET)  # fmt: skip
    losses = [record.held_out_loss for record in history.records]
    assert len(losses) < 200
    assert history.reason == "The loss did not improve for 4 evaluations."
    assert np.argmin(losses) == len(losses) - 5
    assert history.restored
    assert evaluate(one, held_out_ready(held_out))["label"]["loss"] == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize("monitor", [None, "loss", "accuracy"])
def test_the_best_weights_that_were_seen_are_kept(monitor, tmp_path):
    train, held_out = data(30, spread=0.3)
    one = grid(hidden=64)
    history = fit(one, train, held_out, optimizer={"adam": {"learning_rate": 0.05}}, batch=4, budget=40,
                  stop={} if monitor is None else {"monitor": monitor}, folder=tmp_path, **QUIET)  # fmt: skip
    losses = [record.held_out_loss for record in history.records]
    accuracies = [record.accuracy() for record in history.records]
    assert min(losses) < losses[-1]
    if monitor == "loss":
        best = int(np.argmin(losses))
    else:  # of those that are right as often, the surest
        best = min((i for i, right in enumerate(accuracies) if right == max(accuracies)), key=lambda i: losses[i])
    assert history.best == history.records[best]
    assert history.monitor == (monitor or "accuracy")
    assert f"(the best {history.monitor}; these weights were kept)" in str(history)
    found = evaluate(one, held_out_ready(held_out))["label"]
    assert found["loss"] == pytest.approx(losses[best], rel=1e-6)
    assert found["accuracy"] == accuracies[best]
    kept = load(tmp_path / "model.grid")
    assert kept.record["record"]["step"] == history.best.step
    assert hash_of(kept.parameters) == hash_of(one.parameters)


def test_weights_that_have_what_was_asked_for_are_kept_and_without_held_out_examples_the_last():
    train, held_out = data(30, spread=0.3)
    one = grid(hidden=64)
    options = {"optimizer": {"adam": {"learning_rate": 0.05}}, "batch": 4, "budget": 40, **QUIET}
    lowest = min(record.held_out_loss for record in fit(grid(hidden=64), train, held_out, **options).records)
    history = fit(one, train, held_out, stop={"loss": lowest * 2, "monitor": "accuracy"}, **options)
    assert not history.restored
    assert evaluate(one, held_out_ready(held_out))["label"]["loss"] == pytest.approx(history.records[-1].held_out_loss, rel=1e-6)
    history = fit(grid(), train, **options)
    assert (history.restored, history.monitor) == (False, "loss")


def held_out_ready(part):
    from gridc.data.fitting import for_spec

    return for_spec(part, spec_of(label="classes: 2"))


def test_the_weights_of_outputs_are_those_of_their_losses():
    spec = spec_of(label="classes: 2", amount="features: 3")
    rng = np.random.default_rng(0)
    both = Dataset({"x": rng.normal(size=(8, 4))}, {"label": rng.integers(0, 2, 8), "amount": rng.normal(size=(8, 3))})
    one, other = SmallGrid(spec, dtype="float64"), SmallGrid(spec, dtype="float64")
    history = fit(one, both, batch=8, budget=1, optimizer="sgd", weights={"label": 0.25}, **QUIET)
    loss, gradients, _ = other.loss_and_gradients(both.inputs, both.targets, None, {"label": 0.25})
    for name, p in other.parameters.items():
        np.testing.assert_allclose(one.parameters[name], p - 0.01 * gradients[name], rtol=1e-12)
    assert history.records[0].loss == pytest.approx(loss)
    assert set(history.records[0].outputs["amount"]) == {"loss", "r2"}


def test_class_weights_weigh_positions_and_balance():
    class Watched(SmallGrid):
        def loss_and_gradients(self, inputs, targets, lengths=None, weights=None):
            self.seen = (targets, weights)
            return super().loss_and_gradients(inputs, targets, lengths, weights)

    label = np.array([0, 0, 0, 1])
    four = Dataset({"x": np.ones((4, 4))}, {"label": label})
    one = Watched(spec_of(label="classes: 2"))
    fit(one, four, batch=4, budget=1, class_weights={"label": "balanced"}, weights={"label": 2.0}, **QUIET)
    targets, weights = one.seen
    np.testing.assert_allclose(weights["label"], np.where(targets["label"] == 1, 4.0, 4 / 3))
    with pytest.raises(UsageError, match="expected 'balanced' or 2 numbers"):
        fit(one, four, class_weights={"label": [1.0]}, **QUIET)


def test_r2_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    spec = spec_of(amount="features: 3")
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 3)) * [1, 5, 0] + [1000, 0, 2]
    some = Dataset({"x": rng.normal(size=(300, 4)).astype("f4")}, {"amount": y})
    one = SmallGrid(spec, dtype="float64")
    one.parameters["amount.b"][:] = [1000, 0, 2]
    expected = metrics.r2_score(y, one.predict(some.inputs)["amount"])
    assert score(one, some, batch=7)["amount"] == pytest.approx(expected, rel=1e-9)


def test_positions_past_the_end_do_not_count():
    spec = read("""
name: tagger
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {tokens: {vocabulary: 4, joins: [time]}}
outputs: {tags: {binary: true, reads: [time]}}
""")

    class Ones:
        def __init__(self):
            self.spec, self.shapes = spec, []

        def predict(self, inputs, lengths=None):
            self.shapes.append(inputs["tokens"].shape)
            return {"tags": np.full(inputs["tokens"].shape, 0.9, "f4")}

    ragged = padded({"tokens": [[1, 2, 3], [1], [2, 2]]}, {"tags": [[1, 0, 1], [1], [1, 1]]}, "T")
    one = Ones()
    assert score(one, ragged, batch=2)["tags"] == pytest.approx(5 / 6)
    assert one.shapes == [(2, 3), (1, 2)]
    assert confusion(one, ragged).counts.tolist() == [[0, 1], [0, 5]]


def test_confusion_has_names_and_prints():
    rng = np.random.default_rng(0)
    named = Dataset({"x": rng.normal(size=(20, 4))}, {"label": rng.integers(0, 2, 20)}, vocabularies={"label": ("cat", "dog")})
    found = confusion(grid(), named)
    assert found.counts.sum() == 20
    assert "cat" in str(found)
    assert "true (rows)" in str(found)
    with pytest.raises(UsageError, match=r"no confusion matrix of 'lable'.*did you mean 'label'"):
        confusion(grid(), named, "lable")


def test_nan_names_step_batch_and_parameter_and_keeps_the_last_good_checkpoint(tmp_path):
    class Sick(SmallGrid):
        def loss_and_gradients(self, *args, **options):
            loss, gradients, predictions = super().loss_and_gradients(*args, **options)
            if self.calls == 6:
                gradients["hidden.W"][1, 2] = np.inf
            return loss, gradients, predictions

    one = Sick(spec_of(label="classes: 2"))
    with pytest.raises(NumbersError, match=r"At step 6 \(batch 6 of epoch 1, examples .*the gradient of 'hidden.W' holds "
                       "NaN or infinity.*The last good checkpoint is .*000000000005.grid") as caught:  # fmt: skip
        fit(one, *data(), batch=4, folder=tmp_path, checkpoint={"steps": 1}, **QUIET)
    assert caught.value.exit_code == 4
    good = load(sorted((tmp_path / "checkpoints").glob("step*"))[-1])
    assert good.record["state"]["step"] == 5
    assert all(np.isfinite(array).all() for array in one.parameters.values())
    assert hash_of(good.parameters) == hash_of(one.parameters)
    # Also where no checkpoint was due yet.
    with pytest.raises(NumbersError, match=r"The last good checkpoint is .*000000000005.grid"):
        fit(Sick(spec_of(label="classes: 2")), *data(), batch=4, folder=tmp_path / "early", **QUIET)


def test_a_share_may_be_held_out():
    train, _ = data(50)
    first, second = (fit(grid(), train, 0.25, budget=1, seed=seed, **QUIET).records[0] for seed in (1, 1))
    assert first.samples == 30
    assert first.held_out == second.held_out
    with pytest.raises(UsageError, match="'held_out' is 2, expected examples or a number"):
        fit(grid(), train, 2, **QUIET)


def test_a_rate_that_is_too_large_is_told(tmp_path):
    with pytest.raises(NumbersError, match="A smaller learning rate"):
        fit(SmallGrid(spec_of(amount="features: 1")), Dataset({"x": np.ones((40, 4))}, {"amount": np.ones((40, 1))}),
            optimizer={"sgd": {"learning_rate": 1e6}}, batch=4, budget=50, **QUIET)  # fmt: skip


def test_the_folder_has_metrics_a_model_and_a_curve(tmp_path):
    pytest.importorskip("matplotlib")
    one = grid()
    history = fit(one, *data(), batch=4, budget=3, folder=tmp_path / "run", **QUIET)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps(record.to_json())) for record in history.records]
    assert len(lines) == 3
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    saved = load(tmp_path / "run" / "model.grid")
    assert hash_of(saved.parameters) == hash_of(one.parameters)
    assert read(saved.spec).digest == one.spec.digest
    with pytest.raises(UsageError, match="already holds a training"):
        fit(one, *data(), folder=tmp_path / "run", **QUIET)
    fit(one, *data(), folder=tmp_path / "run", overwrite=True, budget=1, **QUIET)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_iterators_are_trained_on_until_they_end():
    train, _ = data()
    items = [(train.take(slice(i, i + 4)).inputs, train.take(slice(i, i + 4)).targets) for i in range(0, 20, 4)]
    history = fit(grid(), (item for item in items), budget=10, **QUIET)
    assert (history.steps, history.reason) == (5, "The examples came to an end.")
    assert [record.step for record in fit(grid(), items, budget=2, **QUIET).records] == [5, 10]


def test_callbacks_and_history():
    seen = []
    history = fit(grid(), *data(), batch=4, budget=9, callbacks=[lambda record: seen.append(record) or len(seen) == 2], **QUIET)
    assert len(history) == 2
    assert history.records == tuple(seen)
    assert history.reason == "A callback ended it."
    assert "16 steps" in str(history)
    assert "held out" in str(history)
    assert json.loads(json.dumps(history.to_json()))["steps"] == 16
    with pytest.raises(AttributeError):
        history.reason = "x"


def test_figures_for_tensorboard(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from gridc.training.board import Board

    board = Board(tmp_path)
    history = fit(grid(), *data(), batch=4, budget=3, callbacks=[board], **QUIET)
    board.close()
    found = events.EventAccumulator(str(tmp_path)).Reload()
    drawn = [(event.step, event.value) for event in found.Scalars("label/accuracy/held out")]
    assert drawn == [(record.step, pytest.approx(record.accuracy())) for record in history.records]


def test_plain_lines_off_a_terminal(capsys):
    fit(grid(), *data(), batch=4, budget=3)
    out, err = capsys.readouterr()
    assert not out
    assert "\x1b" not in err
    assert err.splitlines()[0].startswith("step 8  epoch 1  samples 32  loss")
    assert err.splitlines()[-1].startswith("step 24")
    assert "samples/s" in err
    assert "accuracy" in err


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    fit(grid(), *data(), batch=4, budget=3, progress="bar")
    assert "small" in capsys.readouterr().err
    assert [duration(s) for s in (0, 75, 3725)] == ["0:00", "1:15", "1:02:05"]


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, also where the tests run in the background, whose processes a shell lets ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_step_once():
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(grid(), *data(), budget=1, **QUIET).steps))
    thread.start()
    thread.join()
    assert found == [1]


def test_schedules_over_the_whole_training():
    history = fit(grid(), *data(), batch=4, budget=4, schedule="linear_schedule", **QUIET)
    assert [round(record.rate * 1e3, 9) for record in history.records] == [0.75, 0.5, 0.25, 0.0]
    with pytest.raises(UsageError, match="needs 'transition_steps'"):
        fit(grid(), *data(), budget={"seconds": 1.0}, schedule="linear_schedule", **QUIET)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": {"epoch": 3}}, "'budget' has no 'epoch' — did you mean 'epochs'"),
        ({"budget": {"epochs": "3"}}, "'budget': 'epochs' is '3', expected a positive number"),
        ({"stop": {"output": "lable"}}, "'stop' names 'lable', which is no output of 'small'.*did you mean 'label'"),
        ({"weights": {"lable": 1.0}}, "did you mean 'label'"),
        ({"batch": 0}, "'batch' is 0, expected a positive integer"),
        ({"batch": 2.5}, "'batch' is 2.5, expected a positive integer"),
        ({"seed": -1}, "'seed' is -1, expected an integer from 0"),
        ({"clip": "a"}, "'clip' is 'a', expected a positive number"),
        ({"weights": {"label": "x"}}, "expected a mapping of output to a number from 0"),
        ({"callbacks": 3}, "'callbacks' is 3, expected functions"),
        ({"folder": 3}, "'folder' is 3, expected a path"),
        ({"resume": True}, "'resume' goes on with the training in a folder; give the folder"),
        ({"optimizer": 3}, "'optimizer' is 3, expected a name"),
        ({"optimizer": {"adam": {}, "sgd": {}}}, "'optimizer' names adam and sgd, expected one"),
    ],
)
def test_messages(options, words):
    with pytest.raises(UsageError, match=words):
        fit(grid(), *data(), **options, **QUIET)


def test_data_that_does_not_fit():
    with pytest.raises(DataError, match=r"input 'x' has the shape \[8, 3\]"):
        fit(grid(), ({"x": np.zeros((8, 3))}, {"label": np.zeros(8, int)}), **QUIET)
    with pytest.raises(DataError, match="holds nothing, expected at least one example"):
        fit(grid(), ({"x": np.zeros((0, 4))}, {"label": np.zeros(0, int)}), **QUIET)


def test_the_training_block_of_the_issue():
    block = Training.model_validate({
        "task": {"parity": {"bits": 12}}, "optimizer": {"adagrad": {"learning_rate": 0.06}}, "batch": 20,
        "budget": {"samples": 1000000}, "stop": {"accuracy": 1.0}, "held_out": 0.2, "seed": 0})  # fmt: skip
    assert (block.task.name, block.task.options["bits"], block.optimizer.name) == ("parity", 12, "adagrad")
    assert Training.model_validate({"task": "two-facts"}).task.name == "two-facts"
    assert Training.model_validate({"data": "a.csv"}).data.file == "a.csv"
    for broken, where in (
        ({"task": "partiy"}, ("task",)), ({"task": {"parity": {"bitz": 1}}}, ("task", "parity", "bitz")),
        ({"task": {"parity": {"bits": "1"}}}, ("task", "parity", "bits")), ({}, ()), ({"task": "sort", "data": "x"}, ()),
        ({"task": "sort", "batch": 0}, ("batch",)), ({"task": {"sort": {}, "parity": {}}}, ("task",)),
    ):  # fmt: skip
        with pytest.raises(ValidationError) as caught:
            Training.model_validate(broken)
        assert caught.value.errors()[0]["loc"] == where
    assert list(itertools.islice(Training.model_json_schema()["properties"], 2)) == ["task", "data"]
