"""Latency and bandwidth of messages between two ranks, by ping-pong, and how fast both compute: ``gridc doctor --mpi``.

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
from gridc.insight.sharding import BACKWARD

SMALL, LARGE = 8, 1 << 22
"""Bytes of the messages that tell latency and bandwidth."""
ROUNDS = ((SMALL, 400), (LARGE, 30))
UNITS, CELLS, BATCH, TIMES = 256, (32, 3), 16, 9
"""Of the sweep that tells the pace, and how often it runs."""
PAGE = """
name: pace
dimensions: {{time: T, depth: {depth}}}
transforms:
  time: {{cell: lstm, hidden: {units}, tied: [time]}}
  depth: {{cell: lstm, hidden: {units}, tied: [time]}}
inputs:
  x: {{features: 1, enters: depth}}
outputs:
  y: {{features: 1, reads: [depth], at: {{time: last, depth: last}}}}
"""


def measure() -> Network:
    """Send messages to and fro between two processes that an mpiexec starts, and remember what they cost.

    Raises ResourceError where there is no MPI, or it does not work."""
    done = subprocess.run([str(launcher()), "-n", "2", sys.executable, "-m", __name__], capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        why = said[-1] if said else f"they ended with {done.returncode}"
        raise ResourceError(f"Two processes under {launcher()} could not send each other messages: {why}")
    small, large, pace = json.loads(done.stdout.splitlines()[-1])
    return keep(small, (LARGE - SMALL) / max(large - small, 1e-12), pace)


def pace() -> float:
    """Tell how many times the cost model's seconds a sweep and its adjoint take on this core: of LSTMs of ``UNITS`` units along
    two dimensions, ``CELLS``, for ``BATCH`` examples of four bytes a number."""
    from gridc import resources
    from gridc.fusion import blas, sweep
    from gridc.scheduling import graph, order
    from gridc.scheduling.check import parse
    from gridc.scheduling.plan import plan

    resources.hold(1)
    spec = parse(PAGE.format(units=UNITS, depth=CELLS[1]))
    planned = plan(spec, CELLS, BATCH)
    (segment,) = planned.sweep.segments
    rng = np.random.default_rng(0)
    sweep.prepare([(t.mechanism, t.options, len(t.along), False) for t in spec.transforms.values()], "float32")
    shape = (CELLS[1], 2 * UNITS, 4 * UNITS)
    weights = [rng.normal(0, 0.05, shape).astype("float32") for _ in spec.transforms]
    parameters = sweep.Parameters([*weights], [np.zeros((CELLS[1], 4 * UNITS), "float32") for _ in weights], [None, None])
    gradients, space = parameters.empty(), sweep.Workspace(segment.program, "float32")
    taken: list[float] = []
    with blas.single_threaded():
        for _ in range(TIMES):
            space.tape[:] = 0.1
            space.clear_gradients()
            for slopes in space.dh:
                slopes[:] = 0.01
            start = time.perf_counter()
            sweep.forward(space, parameters)
            sweep.backward(space, parameters, gradients)
            taken.append(time.perf_counter() - start)
    model = (1 + BACKWARD) * order.seconds(graph.build(spec, CELLS), planned.order, BATCH)
    return statistics.median(taken[1:]) / model


def main() -> None:
    """Print the median seconds of a message of each size, one way, and the pace of both, on the first rank."""
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
    comm.Barrier()
    paces = comm.allgather(pace())
    if comm.rank == 0:
        print(json.dumps([*found, statistics.mean(paces)]))


if __name__ == "__main__":
    main()
