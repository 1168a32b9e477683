"""``in_one_arena.py`` in processes where freed memory is used again at once, by whichever thread asks first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_PERTURB_": "90", "GRIDC_POISON": "1"}
"""One arena for all threads (glibc), which overwrites what is freed; our own buffers do so too, and lie between guards."""
SUITE = Path(__file__).with_name("in_one_arena.py")


@pytest.mark.parametrize("part", ["slope", "every_step and S1", "every_step and not S1", "callers", "random"])
def test_freed_memory_is_nobodys(part):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SUITE), "-k", part]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, cwd=SUITE.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
