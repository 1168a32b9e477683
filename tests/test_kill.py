"""``gridc train`` killed at random moments and resumed ends with the weights of a training that nobody touched."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gridc.files import hash_of
from gridc.model_file import load
from gridc.training.checkpoint import CHECKPOINTS

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
SPEC = """
name: killed
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 16, tied: [time], zoneout: 0.05}
  depth: {cell: gru, hidden: 16, dropout: 0.1}
priority: [depth, time]
inputs:
  symbols: {vocabulary: 5, enters: depth}
outputs:
  symbols_out: {classes: 5, reads: [depth], at: {depth: last}}
training:
  task: {sort: {length: 3, symbols: 4, samples: 600}}
  optimizer: {adam: {learning_rate: 0.01}}
  schedule: {warmup_cosine_decay_schedule: {warmup_steps: 50}}
  clip: 1.0
  batch: 16
  budget: {steps: STEPS}
  stop: {patience: 1000}
  evaluate: {steps: 40}
  checkpoint: {steps: 7}
  seed: 5
"""


class Training:
    """A ``gridc train`` in a process of its own."""

    def __init__(self, spec: Path, folder: Path):
        words = [sys.executable, "-m", "gridc", "train", str(spec), "--folder", str(folder), "--resume", "--json",
                 "--progress", "lines"]  # fmt: skip
        self.process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def until_a_line_of_progress(self) -> bool:
        """Waits until it trains; False where it ended before."""
        assert self.process.stderr is not None
        return any(line.startswith("step ") for line in self.process.stderr)

    def kill(self) -> bool:
        """Whether it was still running when SIGKILL came."""
        running = self.process.poll() is None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        return running

    def end(self) -> None:
        out, err = self.process.communicate()
        assert self.process.returncode == 0, err
        assert json.loads(out)["steps"]


def left_behind(folder: Path) -> tuple[str, list[dict[str, object]], str]:
    """What a training came to: the hash of the weights, its records without their times, and the hash of the best weights."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for record in records:
        del record["seconds"]
    best = load(folder / CHECKPOINTS / "best.grid")
    return hash_of(load(folder / "model.grid").parameters), records, hash_of(best.parameters)


@pytest.mark.parametrize(
    ("kills", "steps"), [pytest.param(3, 250, id="3 kills"), pytest.param(50, 2500, id="50 kills", marks=pytest.mark.thorough)]
)
def test_a_training_that_is_killed_ends_with_the_weights_of_one_that_is_not(kills: int, steps: int, tmp_path: Path) -> None:
    spec = tmp_path / "killed.yaml"
    spec.write_text(SPEC.replace("STEPS", str(steps)), encoding="utf-8")
    begun = time.monotonic()
    Training(spec, tmp_path / "whole").end()
    took = time.monotonic() - begun
    expected = left_behind(tmp_path / "whole")

    rng, killed, ended, found = random.Random(0), 0, 0, []
    while killed < kills or not ended:
        folder = tmp_path / f"killed-{ended}"
        training = Training(spec, folder)
        if killed >= kills:
            training.end()
            finished = True
        elif rng.random() < 0.2:  # anywhere: while modules are imported, functions built, a checkpoint read
            time.sleep(rng.uniform(0, took))
            killed += training.kill()
            finished = (folder / "model.grid").exists()
        else:  # while it trains
            finished = not training.until_a_line_of_progress()
            time.sleep(rng.uniform(0, 2))
            killed += training.kill()
            finished = finished or (folder / "model.grid").exists()
        if finished:
            Training(spec, folder).end()  # killed while it wrote its curve, perhaps; one that has ended says so again
            assert left_behind(folder) == expected
            assert not list(folder.rglob(".*.part")), "a temporary was left"
            ended += 1
        elif killed:
            found.append(len(list((folder / CHECKPOINTS).glob("step-*.grid"))))
    assert max(found, default=0) <= 4, "old checkpoints are cleared away"
