"""The batch over several devices: ``on_two_devices.py`` in a process that has two, and what is refused everywhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gridc
from gridc import experiment
from test_backends import SPEC

pytest.importorskip("jax")
SUITE = Path(__file__).with_name("on_two_devices.py")
TWO = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}


def test_two_devices_have_the_numbers_of_one() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)]
    done = subprocess.run(command, env={**os.environ, **TWO}, capture_output=True, text=True, cwd=SUITE.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_several_devices_are_for_the_fused_sweep_on_jax() -> None:
    with pytest.raises(gridc.UsageError, match="but the backend is 'python'; expected devices=1"):
        gridc.compile(SPEC, devices=2)
    with pytest.raises(gridc.UsageError, match="but this is the plain one; expected devices=1"):
        gridc.compile(SPEC, backend="jax", lowering="plain", devices=2)
    with pytest.raises(gridc.UsageError, match="devices: found 0; expected a positive integer"):
        gridc.compile(SPEC, backend="jax", devices=0)


def test_processes_are_told_how_to_join() -> None:
    spec = gridc.read("specs/parity.yaml")
    for place, sentence in (("0/2", "expected this process's number"), ("2/2@localhost:1", "of 2 processes the last is 1")):
        with pytest.raises(gridc.UsageError, match=sentence):
            experiment.run(spec, {"bits": 4}, backend="jax", distributed=place)
    with pytest.raises(gridc.UsageError, match="'budget' counts seconds, which several processes do not count alike"):
        experiment.run(spec, {"seconds": 1}, backend="jax", distributed="0/2@localhost:1")


@pytest.mark.thorough
def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def train(folder: str, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gridc", "train", "specs/parity.yaml", "--bits", "6", "--samples", "150", "--batch",
                   "15", "--dtype", "float64", "--progress", "none", "--folder", str(tmp_path / folder), *more]  # fmt: skip
        return subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, text=True, cwd=SUITE.parents[1],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    both = [train("both", "--backend", "jax", "--distributed", f"{k}/2@localhost:{port}") for k in range(2)]
    for process in (*both, train("one")):
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    found, known = (gridc.load(tmp_path / name / "model.grid").parameters for name in ("both", "one"))
    for name, array in known.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-9, err_msg=name)
