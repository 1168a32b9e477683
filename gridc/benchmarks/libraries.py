"""Which kernels the libraries run that gridc is measured beside, and what in the environment holds them to older ones."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np  # what it multiplies with must be loaded before it can be looked at

HOLDING = {
    "OPENBLAS_CORETYPE": "OpenBLAS", "BLIS_ARCH_TYPE": "BLIS", "MKL_DEBUG_CPU_TYPE": "MKL", "MKL_ENABLE_INSTRUCTIONS": "MKL",
    "MKL_CBWR": "MKL", "ONEDNN_MAX_CPU_ISA": "oneDNN", "DNNL_MAX_CPU_ISA": "oneDNN", "ATEN_CPU_CAPABILITY": "PyTorch",
    "NPY_DISABLE_CPU_FEATURES": "NumPy",
}  # fmt: skip
"""Environment variables that keep a library from the best kernels that it has for this processor → the library."""


def held(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give those of the variables that are set, with their values."""
    return {name: environment[name] for name in HOLDING if environment.get(name)}


def warning(environment: Mapping[str, str] = os.environ) -> str:
    """Say which variables hold which library to what, and that they are taken away."""
    told = [f"{name}={value} holds {HOLDING[name]}" for name, value in held(environment).items()]
    return f"{', '.join(told)} to other kernels than it chooses by itself; taken away for this measurement."


def freed(command: Sequence[str]) -> int:
    """Run gridc with these arguments in a process without the variables, which libraries read once, and give its exit code."""
    environment = {name: value for name, value in os.environ.items() if name not in HOLDING}
    return subprocess.run([sys.executable, "-m", "gridc", *command], env=environment, check=False).returncode


def blas() -> list[str]:
    """Say of each matrix library in this process, NumPy's first, its version, threads and the processor its kernels are for."""
    threadpoolctl: Any = importlib.import_module("threadpoolctl")
    pools: list[dict[str, Any]] = threadpoolctl.threadpool_info()
    found = [pool for pool in pools if pool["user_api"] == "blas"]
    home = os.path.dirname(os.path.dirname(np.__file__))
    found.sort(key=lambda pool: not str(pool["filepath"]).startswith(os.path.join(home, "numpy")))
    return [_told(pool) for pool in found]


def _told(pool: Mapping[str, Any]) -> str:
    kernels = f", kernels for {pool['architecture']}" if pool.get("architecture") else ""
    threads = pool["num_threads"]
    return f"{pool['internal_api']} {pool['version']}{kernels}, {threads} thread{'s' * (threads != 1)}"
