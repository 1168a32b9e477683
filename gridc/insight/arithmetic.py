"""What a schedule computes and keeps: floating-point operations, bytes, and how many vectors are alive at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gridc.insight.timing import Timing
from gridc.language.lattice import Ints, flat, output_points
from gridc.language.shapes import parameter_shapes, units
from gridc.language.spec import GridSpec

MOST_COUNTED = 3_000_000
"""Steps beyond which lifetimes are not counted."""

def step_flops(spec: GridSpec, name: str) -> int:
    """Give the floating-point operations of one step for one example, forward (see ``tables.cells.Cell.flops``)."""
    transform = spec.transforms[name]
    return transform.mechanism.flops(units(spec, transform))


def step_numbers(spec: GridSpec, name: str) -> tuple[int, int]:
    """Numbers that one step makes for one example: its new vectors, and all that training keeps of it besides
    (what it read and its pre-activations, and the gradients of its vectors)."""
    transform = spec.transforms[name]
    vectors = transform.hidden * (2 if transform.has_memory else 1)
    if transform.mechanism.relays:
        return vectors, vectors
    return vectors, spec.rows(name) + len(transform.gates) * transform.hidden + vectors


def weight_numbers(plan: Timing) -> int:
    """How many parameters the grid has."""
    return sum(int(np.prod(shape)) for shape in parameter_shapes(plan.spec).values())


@dataclass(frozen=True)
class Arithmetic:
    """Of one mini-batch: floating-point operations and bytes.  ``forward_bytes`` are read or written by the steps and their
    weights; ``training_bytes`` is what a training step keeps at its peak, parameters and their gradients included."""

    flops: int
    training_flops: int
    forward_bytes: int
    peak_forward_bytes: int | None
    training_bytes: int

    @property
    def intensity(self) -> float:
        """Floating-point operations a byte."""
        return self.flops / self.forward_bytes


def arithmetic(plan: Timing, batch: int = 16, itemsize: int = 4) -> Arithmetic:
    """FLOPs and bytes of one mini-batch of numbers of ``itemsize`` bytes; training takes two more products a product."""
    spec, cells = plan.spec, plan.cell_count * batch
    flops = sum(step_flops(spec, name) for name in spec.transforms) * cells
    touched = kept = 0
    for name, transform in spec.transforms.items():
        vectors, beside = step_numbers(spec, name)
        kept += vectors + beside
        touched += vectors + spec.rows(name) + 2 * len(transform.gates) * transform.hidden
    weights = weight_numbers(plan)
    alive = lifetimes(plan) if plan.work <= MOST_COUNTED else None
    return Arithmetic(
        flops, 3 * flops, (touched * cells + weights) * itemsize,
        None if alive is None else int(alive.numbers.max()) * batch * itemsize + weights * itemsize,
        (kept * cells + 2 * weights) * itemsize,
    )  # fmt: skip


class Alive(NamedTuple):
    """By wavefront: how many vectors are still to be read once it is done, and how many numbers they hold per example."""

    vectors: Ints
    numbers: Ints


def lifetimes(plan: Timing) -> Alive:
    """How many vectors are alive at each wavefront of a forward sweep: made, and not yet read for the last time.

    A vector that an output reads lives to the end.  Raises ResourceError where the explicit graph is too large."""
    steps, levels = plan.steps, plan.level_numbers
    span = plan.span
    vectors, numbers = np.zeros(span + 1, np.int64), np.zeros(span + 1, np.int64)
    reads = steps.block >= 0
    taps = _tapped(plan)
    for i, (name, transform) in enumerate(plan.spec.transforms.items()):
        mine = slice(i * plan.cell_count, (i + 1) * plan.cell_count)
        for memory in (False, True)[: 1 + transform.has_memory]:
            last = levels.copy()
            by = ~reads if memory else reads | (not transform.has_memory)
            np.maximum.at(last, steps.before[by], levels[steps.after[by]])
            born, dies = levels[mine], last[mine]
            if (name, memory) in taps:
                dies = dies.copy()
                dies[taps[name, memory]] = span - 1
            change = np.bincount(born, minlength=span + 1) - np.bincount(dies + 1, minlength=span + 1)[: span + 1]
            vectors += change
            numbers += change * transform.hidden
    return Alive(np.cumsum(vectors)[:span], np.cumsum(numbers)[:span])


def _tapped(plan: Timing) -> dict[tuple[str, bool], Ints]:
    """The cells whose vectors outputs read."""
    found: dict[tuple[str, bool], list[Ints]] = {}
    extents = np.asarray([plan.sizes], np.int64)
    for output in plan.spec.outputs.values():
        for tap in output.reads:
            transform = plan.spec.transforms[tap.transform]
            where, exists = output_points(output, transform, plan.sizes, extents)
            found.setdefault((tap.transform, tap.memory), []).append(flat(where[exists], plan.sizes))
    return {key: np.unique(np.concatenate(cells)) for key, cells in found.items()}
