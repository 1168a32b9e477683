"""A longest path of a schedule: the chain of steps that no number of workers can shorten, and why each waits for the last."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from gridc.scheduling import hyperplane
from gridc.scheduling.graph import Step

if TYPE_CHECKING:
    from gridc.scheduling.schedule import Schedule


def find(plan: Schedule) -> tuple[Step, ...]:
    """One of the longest paths, first step first.  It ends at the first step of the last wavefront and goes back, at every
    step, to a predecessor of the wavefront before it: one of the same transform where there is one, else the first read."""
    return tuple(reversed(list(_by_planes(plan) if plan.plane is not None else _by_graph(plan))))


def _by_planes(plan: Schedule) -> Iterator[Step]:
    """Backwards on a uniform grid, by its constant vectors: as many steps as there are wavefronts, whatever its size."""
    plane, names = plan.plane, list(plan.spec.transforms)
    assert plane is not None
    needs: tuple[hyperplane.Dependence, ...] = hyperplane.dependences(plan.spec) or ()
    # The carried state comes first among a transform's dependences, then its reads in order; the sort keeps that order.
    own = [sorted((d for d in needs if d.after == t), key=lambda d: d.before != d.after) for t in range(len(names))]
    step = plan.wavefronts[plan.span - 1][0]
    t, level = names.index(step.transform), plan.span - 1
    cell: tuple[int, ...] = step.cell
    yield step
    while level:
        level -= 1
        for need in own[t]:
            point: tuple[int, ...] = tuple(x + o for x, o in zip(cell, need.offset, strict=True))
            inside = all(0 <= x < n for x, n in zip(point, plan.sizes, strict=True))
            if inside and plane.level(names[need.before], point) == level:
                t, cell = need.before, point
                break
        yield Step(names[t], cell)


def _by_graph(plan: Schedule) -> Iterator[Step]:
    """The same path, by way of the explicit graph's arrays: all steps' late predecessors at once."""
    levels, steps = plan.level_numbers, plan.steps
    late = levels[steps.before] == levels[steps.after] - 1
    before, after, block = steps.before[late], steps.after[late], steps.block[late]
    other = before // plan.cell_count != after // plan.cell_count
    # Written last wins: the first of the reads, and before all of them those of the same transform.
    order = np.lexsort((block, other))[::-1]
    chosen = np.full(plan.work, -1, np.int64)
    chosen[after[order]] = before[order]
    number = int(np.flatnonzero(levels == plan.span - 1)[0])
    yield plan.step(number)
    while levels[number]:
        number = int(chosen[number])
        yield plan.step(number)


def reasons(plan: Schedule) -> tuple[str, ...]:
    """Why each step of the critical path but the first waits for the one before: it ``carries its memory`` or ``reads
    time[here]``."""
    from gridc.scheduling.tables import read_text

    told: list[str] = []
    for before, after in itertools.pairwise(plan.critical_path):
        t = plan.spec.transforms[after.transform]
        by = next(by for step, by in plan.predecessors(after) if step == before)
        carries = f"carries its {'memory' if t.has_memory else 'vector'}"
        told.append(carries if by < 0 else f"reads {read_text(plan.spec, t.reads[by])}")
    return tuple(told)
