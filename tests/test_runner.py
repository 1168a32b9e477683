"""Whole experiments on a real grid: from a spec's training block, changed on the way, to a folder that resumes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gridc
from gridc import experiment
from gridc.errors import DataError, SpecError, UsageError
from gridc.files import hash_of
from gridc.model_file import load

PARITY = """
# whether a string of bits has an odd sum
name: parity
dimensions: {depth: 2}
transforms:
  depth: {cell: lstm-paper, hidden: 8}   # one weight matrix for both layers
inputs:
  bits: {features: 12, enters: depth}
outputs:
  odd: {classes: 2, reads: [depth, depth.memory], at: {depth: last}}
training:
  task: {parity: {bits: 12}}
  batch: 10
  budget: {samples: 100000}
  stop: {accuracy: 1.0}
"""
SMALL = {"bits": 5, "epochs": 4, "accuracy": None}


def spec():
    return gridc.read(PARITY)


def test_changes_land_where_they_belong():
    found = experiment.changed(spec(), {"bits": 5, "epochs": 4, "learning_rate": 0.1, "patience": 3, "seed": 7})
    block = found.training
    assert block.task.options["bits"] == 5
    assert found.inputs["bits"].size == 5
    assert (block.budget.epochs, block.budget.samples) == (4, None)
    assert block.optimizer.name == "adam"
    assert block.optimizer.options["learning_rate"] == 0.1
    assert (block.stop.patience, block.stop.accuracy, block.seed) == (3, 1.0, 7)
    assert "# whether a string" in found.source.text
    assert "# one weight matrix" in found.source.text
    assert gridc.read(found.source.text).digest == found.digest
    assert experiment.changed(spec(), {"task.samples": 9}).training.task.options["samples"] == 9
    assert experiment.changed(spec(), {}).digest == spec().digest


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"bitz": 3}, UsageError, "no 'bitz' — did you mean 'bits'"),
        ({"bits": "x"}, SpecError, "found 'x'"),
        ({"held_out": 3}, SpecError, "expected a number from 0"),
        ({"optimizer": "adma"}, SpecError, "did you mean 'adam'"),
    ],
)
def test_changes_that_mean_nothing(changes, error, words):
    with pytest.raises(error, match=words):
        experiment.changed(spec(), changes)


def test_a_spec_without_a_training_block():
    with pytest.raises(UsageError, match="'parity' has no training block"):
        experiment.run(gridc.read(PARITY.split("training:")[0]))


def test_an_experiment_resumes_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = experiment.run(spec(), SMALL, progress="none")
    assert whole.folder.as_posix() == "runs/parity"
    assert whole.history.steps == 12
    assert whole.history.compile_seconds > 0
    saved = load(whole.folder / "model.grid")
    assert hash_of(saved.parameters) == hash_of(whole.grid.parameters)
    assert gridc.read(saved.spec).digest == whole.spec.digest

    def stop(record):
        return record.epoch >= 2

    half = experiment.run(spec(), SMALL, progress="none", callbacks=[stop])
    assert half.folder.as_posix() == "runs/parity-2"
    assert half.history.steps == 6
    rest = experiment.run(spec(), SMALL, progress="none", resume=True)
    assert rest.folder == half.folder
    assert hash_of(rest.grid.parameters) == hash_of(whole.grid.parameters)
    before = hash_of(load(half.folder / "checkpoints/step-000000000006.grid").parameters)
    last = [hash_of(load(one.folder / "checkpoints/step-000000000012.grid").parameters) for one in (rest, whole)]
    assert last[0] == last[1] != before
    lines = [json.loads(line) for line in (rest.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    with pytest.raises(DataError, match="other settings: 'batch' was 10 and is now 11"):
        experiment.run(spec(), SMALL | {"batch": 11}, progress="none", resume=True)


def test_data_from_files_beside_the_spec(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [",".join([*(f"{v:.3f}" for v in rng.normal(size=3)), str(rng.choice(["cat", "dog"]))]) for _ in range(30)]
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "pets.csv").write_text("\n".join(["weight,height,age,kind", *rows]))
    text = PARITY.split("training:")[0].replace("features: 12", "features: 3")
    (tmp_path / "specs" / "pets.yaml").write_text(
        text + "training: {data: {file: pets.csv, outputs: {odd: kind}}, budget: {epochs: 2}}"
    )
    monkeypatch.chdir(tmp_path)
    done = experiment.run(gridc.read("specs/pets.yaml"), {"batch": 8}, progress="none", folder="here")
    assert load("here/model.grid").vocabularies == {"odd": ("cat", "dog")}
    assert len(done.train) == 24
    assert len(done.held_out) == 6
