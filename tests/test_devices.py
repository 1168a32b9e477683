"""The batch over several devices: ``on_two_devices.py`` in a process that has two, and what is refused everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gridc
from test_backends import SPEC

pytest.importorskip("jax")
SUITE = Path(__file__).with_name("on_two_devices.py")
TWO = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}


def test_two_devices_have_the_numbers_of_one() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE)]
    done = subprocess.run(command, env={**os.environ, **TWO}, capture_output=True, text=True, cwd=SUITE.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_several_devices_are_for_the_fused_sweep_on_jax() -> None:
    with pytest.raises(gridc.UsageError, match="but the backend is 'python'; expected devices=1"):
        gridc.compile(SPEC, devices=2)
    with pytest.raises(gridc.UsageError, match="but a memory cell attends to facts and has no fused kernel; expected devices=1"):
        gridc.compile("specs/memory-network.yaml", backend="jax", devices=2)
    with pytest.raises(gridc.UsageError, match="devices: found 0; expected a positive integer"):
        gridc.compile(SPEC, backend="jax", devices=0)
