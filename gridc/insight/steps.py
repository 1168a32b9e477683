"""A training step of a grid on numbers drawn for its sizes, and what such steps take in turns.

Importing this module imports PyTensor.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gridc.arrays.axes import BATCH, Axes
from gridc.arrays.conversion import Array
from gridc.data import fitting
from gridc.errors import UsageError
from gridc.language import noise, shapes
from gridc.language.spec import GridSpec
from gridc.parameters import initial
from gridc.symbolic import backends
from gridc.symbolic.functions import Functions
from gridc.symbolic.lowerings import Target
from gridc.training.optimizers import global_norm, optimizer

FACTS = 20
"""How many facts, each of as many words, a memory cell is given: only data say it."""
RATE = 1e-6
"""The learning rate: so small that a thousand steps leave the numbers where they are."""
ROUNDS, LEAST = 15, 0.25
"""Steps of each kind at least, taken in turns, and seconds of all steps of a kind together."""


class TrainingStep:
    """A training step, forward, back and a plain update, of a grid of these sizes on so many threads, None for as many as there
    are cores; ``update`` is its last part alone.

    Raises UsageError for a spec without inputs or outputs, or whose cells have no fused sweep."""

    def __init__(self, spec: GridSpec, sizes: Sequence[int], batch: int, threads: int | None = None):
        if not spec.inputs or not spec.outputs:
            missing = "inputs" if not spec.inputs else "outputs"
            raise UsageError(f"the spec '{spec.name}' has no {missing}, so nothing can be timed")
        backends.prepare()
        target = Target.choose(spec, backends.backend("python"), "fused", "float32", threads=threads)
        assert target.lowering.prepare is not None
        target.lowering.prepare(spec, "float32", target.products)
        self.spec, self.threads = spec, threads
        self._functions = Functions(spec, target, lambda what: contextlib.nullcontext())
        self.parameters = initial(spec, 0, "float32")
        self._gradients = {name: np.zeros_like(array) for name, array in self.parameters.items()}
        self._optimizer = optimizer("sgd", learning_rate=RATE)
        inputs, targets = drawn(spec, sizes, batch)
        self._call = fitting.check(spec, inputs, None, "float32")
        told = fitting.check_targets(spec, targets, self._call, "float32")
        masks = noise.draw(spec, batch, sizes, np.random.default_rng(0), "float32")
        self._told = [*told.values(), *fitting.check_weights(spec, {}, self._call, "float32"), *masks.values()]

    def __call__(self) -> None:
        """Do a step."""
        _, *rest = self._functions.run("gradients", self.parameters, self._call, self._told)
        self._gradients = dict(zip(self.parameters, rest[len(self.spec.outputs) :], strict=True))
        self.update()

    def update(self) -> None:
        """Update every parameter by the last gradients."""
        norm = global_norm(self._gradients, self.threads)
        self._optimizer.update(self.parameters, self._gradients, norm=norm, threads=self.threads)


def drawn(spec: GridSpec, sizes: Sequence[int], batch: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Draw inputs and targets for these sizes, always the same."""
    generator = np.random.default_rng(0)
    known: dict[str, int] = {BATCH: batch}
    known |= {d.size: n for d, n in zip(spec.dimensions, sizes, strict=True) if isinstance(d.size, str)}

    def draw(of: Mapping[str, Axes]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, axes in of.items():
            shape = tuple(FACTS if axis is None else n for axis, n in zip((BATCH, *axes.axes), axes.shape(known), strict=True))
            below = axes.below
            found[name] = generator.standard_normal(shape, np.float32) if below is None else generator.integers(below, size=shape)
        return found

    return draw(shapes.input_axes(spec)), draw(shapes.output_axes(spec))


def in_turns(ways: Sequence[Callable[[], Any]], rounds: int = ROUNDS, least: float = LEAST) -> list[list[float]]:
    """Give the seconds of each run of each way, which take turns, so that a busy moment of the machine falls on all alike."""
    for way in ways:
        way()
    times: list[list[float]] = [[] for _ in ways]
    start = time.perf_counter()
    while len(times[0]) < rounds or time.perf_counter() - start < least * len(ways):
        for way, own in zip(ways, times, strict=True):
            began = time.perf_counter()
            way()
            own.append(time.perf_counter() - began)
    return times


def counted(most: int) -> list[int]:
    """List 1, 2, 4, … below a number, and the number."""
    return sorted({*(1 << k for k in range(math.ceil(math.log2(most)))), 1, most})
