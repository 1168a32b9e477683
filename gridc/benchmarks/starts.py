"""How long a size takes until its first step, and what its steps take of memory: each in a Python of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]

_READY = """
import sys, time
from gridc.benchmarks.cases import RATE, of
case = of(sys.argv[1], sys.argv[2])
grid = case.grid(progress=True, backend=sys.argv[3])
step = grid.training_step("sgd", learning_rate=RATE)
print("ready", flush=True)
x, y = case.data()
start = time.perf_counter()
step({"x": x}, {"y": y})
first = time.perf_counter() - start
before = dict(grid.compile_seconds)
again = 0.0
if case.kind == "grid":
    start = time.perf_counter()
    step({"x": x[: max(1, len(x) // 2), : case.sizes[0] // 2]}, {"y": y[: max(1, len(y) // 2)]})
    again = time.perf_counter() - start
print(first, again, int(set(before) != set(grid.compile_seconds)))
"""
_MEMORY = """
import os, sys
from gridc.benchmarks.cases import RATE, of, stored_bytes
def line(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(l.split()[1]) for l in file if l.startswith(name))
case = of(sys.argv[1], sys.argv[2])
x, y = case.data()
grid = case.grid()
step = grid.training_step("sgd", learning_rate=RATE)
some = (slice(1),) + (slice(1),) * (case.kind in ("grid", "stacked"))
step({"x": x[some]}, {"y": y[:1]})
parameters = sum(a.nbytes for a in grid.parameters.values())
before = line("VmRSS")
for _ in range(3):
    step({"x": x}, {"y": y})
print(line("VmHWM") - before + parameters, stored_bytes(case, grid))
"""


def ready(case: str, cache: str | None = None, backend: str = "auto", dtype: str = "float32") -> Report:
    """Seconds from starting Python until the first step can be made, then of that step and of one with other sizes."""
    environment = dict(os.environ) if cache is None else {**os.environ, "GRIDC_CACHE_DIR": cache}
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _READY, case, dtype, backend], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = time.perf_counter() - start
        first, again, compiled = process.stdout.readline().split()
    return {"ready_s": taken, "first_step_s": float(first), "other_sizes_s": float(again), "recompiled": bool(int(compiled))}


def memory(case: str, dtype: str = "float32") -> Report:
    """Bytes that training steps add to a process, its parameters included, beside ``summary``'s count on paper."""
    done = subprocess.run([sys.executable, "-c", _MEMORY, case, dtype], capture_output=True, text=True, check=True)
    peak, paper = (int(number) for number in done.stdout.split())
    return {"peak_bytes": peak, "paper_bytes": paper, "ratio": peak / paper}


def started(names: Sequence[str], backend: str = "auto", dtype: str = "float32") -> Report:
    """Ready times: cold once, then warm for every size."""
    found: Report = {}
    with tempfile.TemporaryDirectory() as folder:
        found[f"{names[0]} cold"] = ready(names[0], folder, backend, dtype)
    for name in names:
        found[f"{name} warm"] = ready(name, backend=backend, dtype=dtype)
    return found
