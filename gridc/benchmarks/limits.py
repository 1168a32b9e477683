"""What a training step takes at least: the time of the bytes that it moves, and that of its floating-point operations.

Where every step has weights of its own they serve few rows each, and come from memory time and again: that, and not arithmetic,
may be the limit.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from gridc.fusion.threads import together
from gridc.scheduling import counts
from gridc.scheduling.program import Program

Array = np.ndarray[Any, Any]
STREAM = 1 << 26
"""Numbers of the array that is streamed: 256 MB, more than any cache holds."""
RUNS = 5


def step_bytes(program: Program, parameters: int, each: int) -> dict[str, int]:
    """Count the bytes that a training step with a plain update moves, by what they are; ``parameters`` are the numbers learnt, of
    so many bytes ``each``.

    Vectors are what the sweep keeps, forward written and back read; each is counted once each way."""
    learnt, kept = each * parameters, each * program.sizes[0]
    return {
        "weights, read forward": learnt, "weights, read back": learnt, "vectors, written": kept, "vectors, read": kept,
        "gradients, written": learnt, "gradients, read for their norm": learnt, "gradients, read by the update": learnt,
        "weights, read by the update": learnt, "weights, written by the update": learnt,
    }  # fmt: skip


class Stream:
    """A large array, multiplied in place by so many threads: a call reads and writes ``bytes`` of memory in all."""

    def __init__(self, threads: int, numbers: int = STREAM):
        self.array = np.ones(numbers, np.float32)
        self.bytes = 2 * self.array.nbytes
        parts = np.array_split(self.array, threads)
        self._tasks = [functools.partial(_streamed, part) for part in parts]

    def __call__(self) -> None:
        """Go through the array once."""
        together(self._tasks)


def _streamed(part: Array) -> None:
    np.multiply(part, np.float32(1.0), out=part)


def bandwidth(threads: int, numbers: int = STREAM) -> float:
    """Measure how many bytes a second this machine's memory moves for so many threads: the most of a few runs."""
    stream = Stream(threads, numbers)
    taken: list[float] = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        stream()
        taken.append(time.perf_counter() - start)
    return stream.bytes / min(taken)


def limits(case: Any, program: Program, seconds: float, arithmetic: float, rate: float) -> dict[str, Any]:
    """Put a step of so many ``seconds`` beside its limits: its bytes at ``rate`` bytes a second, and the seconds that its
    ``arithmetic`` takes at least."""
    moved = step_bytes(program, counts.parameters(case.read()), case.numbers.itemsize)
    memory = sum(moved.values()) / rate
    return {"bytes": moved, "bandwidth": rate, "memory_s": memory, "arithmetic_s": arithmetic, "step_s": seconds,
            "times_the_larger": seconds / max(memory, arithmetic)}  # fmt: skip


def line(found: Mapping[str, Any]) -> str:
    """Write the limits of a step in a line."""
    return (f"limits: {sum(found['bytes'].values()) / 1e6:,.0f} MB at {found['bandwidth'] / 1e9:.1f} GB/s take "
            f"{1e3 * found['memory_s']:.4g} ms, the arithmetic {1e3 * found['arithmetic_s']:.4g} ms; "
            f"the step takes {found['times_the_larger']:.2f} times the larger")  # fmt: skip
