"""A training step on ranks of one thread beside one process of as many threads: ``gridc bench --ranks``.

Every way runs in processes of its own, several times in turns; this module is also what those processes run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gridc.errors import ResourceError


class Way(NamedTuple):
    """So many ranks of so many threads each; one rank is a process that no mpiexec starts."""

    ranks: int
    threads: int

    def __str__(self) -> str:
        what = "1 process" if self.ranks == 1 else f"{self.ranks} ranks"
        return f"{what} of {self.threads} thread{'s' * (self.threads != 1)}"


WAYS = (Way(1, 1), Way(2, 1), Way(1, 2))


def launcher() -> Path:
    """Find the mpiexec beside this Python; ResourceError where there is none."""
    path = Path(sys.executable).with_name("mpiexec")
    if not path.exists():
        raise ResourceError(f'There is no {path}: pip install "gridc[mpi]" brings an MPI and its mpiexec.')
    return path


def measure(
    cases: Sequence[str], rounds: int, seconds: float, say: Callable[[str], None], dtype: str = "float32"
) -> dict[str, dict[str, Any]]:
    """Take turns; give by case and way the median milliseconds of a step over the rounds, and from where to where they went."""
    taken: dict[str, dict[Way, list[float]]] = {case: {way: [] for way in WAYS} for case in cases}
    for number in range(rounds):
        for case in cases:
            for way in WAYS[number % len(WAYS) :] + WAYS[: number % len(WAYS)]:
                taken[case][way].append(once(case, way, seconds, dtype))
        say(f"round {number + 1} of {rounds} done")
    return {case: {str(way): {"ms": statistics.median(ms), "from": min(ms), "to": max(ms)} for way, ms in ways.items()}
            for case, ways in taken.items()}  # fmt: skip


def once(case: str, way: Way, seconds: float, dtype: str = "float32") -> float:
    """Run one way for so many seconds; give the median milliseconds of a step."""
    words = [sys.executable, "-m", __name__, case, str(seconds), dtype]
    if way.ranks > 1:
        words = [str(launcher()), "-n", str(way.ranks), *words]
    held = {name: str(way.threads) for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **held})
    if done.returncode:
        raise ResourceError(f"{case} on {way} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def table(found: dict[str, dict[str, Any]]) -> str:
    """Write the figures as lines."""
    lines: list[str] = []
    for case, ways in found.items():
        alone = ways[str(WAYS[0])]["ms"]
        lines.append(f"{case}, a training step on ranks")
        lines += [f"  {way:<22}{row['ms']:>9.4g} ms   {row['from']:.4g} – {row['to']:.4g}   × {alone / row['ms']:.2f}"
                  for way, row in ways.items()]  # fmt: skip
    return "\n".join(lines)


def main(case: str, seconds: str, dtype: str) -> None:
    """Make steps, and print the median milliseconds of one on the first rank."""
    from gridc.benchmarks.cases import RATE, of
    from gridc.training.optimizers import optimizer
    from gridc.training.step import Here
    from gridc.training.world import joined

    ranks, one = joined(), of(case, dtype)
    grid, (x, y) = one.grid(), one.data()
    share = ranks.share(len(x))
    step = Here(grid, optimizer("sgd", learning_rate=RATE), ranks)
    weights = {"y": (share.rows.stop - share.rows.start) / share.of * share.counts}
    taken: list[float] = []
    begun, spent = time.perf_counter(), 0.0
    while spent < float(seconds) or len(taken) < 5:  # the first rank's clock, so that all make the same number
        start = time.perf_counter()
        done = step.begin({"x": x[share.rows]}, {"y": y[share.rows]}, None, weights, (share.rows.start, share.of),
                          lambda: (0.0, time.perf_counter() - begun))()  # fmt: skip
        taken.append(1e3 * (time.perf_counter() - start))
        spent = time.perf_counter() - begun if done.told is None else done.told[1]
    if ranks.first:
        print(json.dumps(statistics.median(taken[2:])))


if __name__ == "__main__":
    main(*sys.argv[1:])
