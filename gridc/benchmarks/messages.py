"""Latency and bandwidth of messages between two ranks, by ping-pong: ``gridc doctor --mpi``.

This module is also what the two processes run."""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

from gridc.benchmarks.ranks import launcher
from gridc.errors import ResourceError
from gridc.insight.network import Network, keep

SMALL, LARGE = 8, 1 << 22
"""Bytes of the messages that tell latency and bandwidth."""
ROUNDS = ((SMALL, 400), (LARGE, 30))


def measure() -> Network:
    """Send messages to and fro between two processes that an mpiexec starts, and remember what they cost.

    Raises ResourceError where there is no MPI, or it does not work."""
    done = subprocess.run([str(launcher()), "-n", "2", sys.executable, "-m", __name__], capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        why = said[-1] if said else f"they ended with {done.returncode}"
        raise ResourceError(f"Two processes under {launcher()} could not send each other messages: {why}")
    small, large = json.loads(done.stdout.splitlines()[-1])
    return keep(small, (LARGE - SMALL) / max(large - small, 1e-12))


def main() -> None:
    """Print the median seconds of a message of each size, one way, on the first rank."""
    mpi: Any = importlib.import_module("mpi4py.MPI")
    comm = mpi.COMM_WORLD
    other, found = 1 - comm.rank, list[float]()
    for size, rounds in ROUNDS:
        data, taken = np.zeros(size, np.uint8), list[float]()
        for _ in range(rounds):
            start = time.perf_counter()
            if comm.rank == 0:
                comm.Send(data, other)
                comm.Recv(data, other)
            else:
                comm.Recv(data, other)
                comm.Send(data, other)
            taken.append((time.perf_counter() - start) / 2)
        found.append(statistics.median(taken[rounds // 5 :]))
    if comm.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
