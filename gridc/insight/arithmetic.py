"""What a schedule computes and keeps: floating-point operations, bytes, and how many vectors are alive at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gridc.insight.timing import Timing
from gridc.language.lattice import Ints, flat, output_points
from gridc.scheduling import counts

MOST_COUNTED = 3_000_000
"""Steps beyond which lifetimes are not counted."""


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
    """Count FLOPs and bytes of one mini-batch of numbers of ``itemsize`` bytes; training takes two more products a product."""
    spec, flops = plan.spec, counts.flops(plan.spec, plan.sizes, batch)
    touched = sum(counts.step_numbers(spec, name)[0] + spec.rows(name) + 2 * len(t.gates) * t.hidden
                  for name, t in spec.transforms.items()) * plan.cell_count * batch  # fmt: skip
    weights = counts.parameters(spec)
    alive = lifetimes(plan) if plan.work <= MOST_COUNTED else None
    return Arithmetic(
        flops, 3 * flops, (touched + weights) * itemsize,
        None if alive is None else int(alive.numbers.max()) * batch * itemsize + weights * itemsize,
        counts.call_bytes(spec, plan.sizes, batch, itemsize, training=True),
    )  # fmt: skip


class Alive(NamedTuple):
    """By wavefront: how many vectors are still to be read once it is done, and how many numbers they hold per example."""

    vectors: Ints
    numbers: Ints


def lifetimes(plan: Timing) -> Alive:
    """Count how many vectors are alive at each wavefront of a forward sweep: made, and not yet read for the last time.

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
    """List the cells whose vectors outputs read."""
    found: dict[tuple[str, bool], list[Ints]] = {}
    extents = np.asarray([plan.sizes], np.int64)
    for output in plan.spec.outputs.values():
        for tap in output.reads:
            transform = plan.spec.transforms[tap.transform]
            where, exists = output_points(output, transform, plan.sizes, extents)
            found.setdefault((tap.transform, tap.memory), []).append(flat(where[exists], plan.sizes))
    return {key: np.unique(np.concatenate(cells)) for key, cells in found.items()}
