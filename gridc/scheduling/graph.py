"""The dependency DAG: a node is one step, the update of one transform at one cell; an edge is a read or a carried state.

Steps are numbered ``transform index × cells + cell``, cells row-major; edges are a pair of integer arrays, so that a
hundred thousand steps are levelled without a Python loop over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import networkx as nx
import numpy as np

from gridc.language.lattice import Ints, carried, far_end, locate, points, source, weights
from gridc.language.spec import GridSpec, Transform


class Step(NamedTuple):
    """The update of one transform at one cell."""

    transform: str
    cell: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.transform}{list(self.cell)}"


class Cycle(Exception):
    """Steps that wait for each other; ``steps`` are those on the cycle, in order."""

    def __init__(self, steps: Sequence[Step]):
        self.steps = tuple(steps)
        super().__init__(" ← ".join(str(step) for step in (*self.steps, self.steps[0])))


@dataclass(frozen=True)
class StepGraph:
    """All steps of a grid of the given sizes and what each waits for: ``before[i]`` must precede ``after[i]``.

    ``block[i]`` says by which read of the later step, in order; -1 is a state carried along its own dimension."""

    spec: GridSpec
    sizes: tuple[int, ...]
    before: Ints
    after: Ints
    block: Ints

    @cached_property
    def cells(self) -> int:
        return int(np.prod(self.sizes))

    @cached_property
    def count(self) -> int:
        return self.cells * len(self.spec.transforms)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.spec.transforms)

    def step(self, number: int) -> Step:
        transform, cell = divmod(int(number), self.cells)
        return Step(self.names[transform], tuple(int(c) for c in np.unravel_index(cell, self.sizes)))

    @cached_property
    def steps(self) -> list[Step]:
        """Every step, by its number."""
        cells = [tuple(point) for point in points(self.sizes).tolist()]
        return [Step(name, cell) for name in self.names for cell in cells]

    @cached_property
    def weights(self) -> tuple[Ints, ...]:
        """Of each transform the weights that it uses at every cell, by their flat index."""
        at = points(self.sizes)
        return tuple(weights(self.spec, t, at, self.sizes) for t in self.spec.transforms.values())

    @cached_property
    def levels(self) -> Ints:
        """The longest path that ends at each step, in steps before it; raises Cycle where there is one."""
        return longest_paths(self.count, self.before, self.after, self)


def build(spec: GridSpec, sizes: tuple[int, ...], extents: Ints | None = None) -> StepGraph:
    """The step graph of a spec at these sizes (one number a dimension).

    Where examples have sizes of their own, ``extents [examples, dimensions]``, a step waits for whatever any of them needs: a
    state that wraps leaves a shorter example at an earlier cell."""
    at, extent = points(sizes), np.asarray(sizes, np.int64)
    number = {name: i for i, name in enumerate(spec.transforms)}
    before: list[Ints] = []
    after: list[Ints] = []
    block: list[Ints] = []
    everywhere = np.arange(len(at))
    wraps = any(t.start == "wrap" for t in spec.transforms.values())
    distinct: list[Ints] = list(np.unique(extents, axis=0)) if wraps and extents is not None else []
    shorter = [(own, (at < own).all(axis=1)) for own in distinct if (own < extent).any()]

    def wait(reader: str, of: Transform, looked: Ints, by: int) -> None:
        found = locate(of, looked, extent)
        wrapped = _wrapped(of, looked, extent, found.entering)
        for own, inside in shorter:
            wrapped += _wrapped(of, looked, own, locate(of, looked, own).entering & inside)
        for mask, point in ((found.inside, looked), *wrapped):
            flat = np.asarray(np.ravel_multi_index(tuple(point[mask].T), sizes), np.int64)
            before.append(number[of.name] * len(at) + flat)
            after.append(number[reader] * len(at) + everywhere[mask])
            block.append(np.full(len(before[-1]), by))

    for name, transform in spec.transforms.items():
        if transform.has_memory or transform.mechanism.uses_hidden:
            for point in carried(transform, at):
                wait(name, transform, point, -1)
        for by, read in enumerate(transform.reads):
            wait(name, spec.transforms[read.of], source(spec, read, at), by)
    return StepGraph(spec, sizes, *(np.concatenate(parts) for parts in (before, after, block)))


def _wrapped(of: Transform, looked: Ints, extent: Ints, entering: Any) -> list[tuple[Any, Ints]]:
    if of.start != "wrap" or not entering.any():
        return []
    point, there = far_end(of, looked, extent)
    return [(entering & there, point)]


NARROW = 40
"""Steps of a round below which a loop over them is quicker than calls of NumPy."""


def longest_paths(count: int, before: Ints, after: Ints, graph: StepGraph) -> Ints:
    """Kahn's algorithm a level at a time: each round takes every step whose predecessors are all done."""
    waiting = np.bincount(after, minlength=count)
    order = np.argsort(before, kind="stable")
    successors, starts = after[order], np.searchsorted(before[order], np.arange(count + 1))
    levels = np.full(count, -1, np.int64)
    # The same memory, read and written number by number without NumPy's scalars.
    numbers: tuple[Any, ...] = (waiting, successors, starts, levels)
    waits, follow, start, found = (memoryview(array) for array in numbers)
    ready, level = np.flatnonzero(waiting == 0).tolist(), 0
    while ready:
        reached: list[int] = []
        if len(ready) < NARROW:
            for node in ready:
                found[node] = level
                for step in follow[start[node] : start[node + 1]]:
                    waits[step] -= 1
                    if not waits[step]:
                        reached.append(step)
        else:
            nodes = np.asarray(ready)
            levels[nodes] = level
            lengths = starts[nodes + 1] - starts[nodes]
            ends = np.cumsum(lengths)
            several = successors[np.arange(ends[-1]) - np.repeat(ends - lengths - starts[nodes], lengths)]
            steps, arrivals = np.unique(several, return_counts=True)
            waiting[steps] -= arrivals
            reached = steps[waiting[steps] == 0].tolist()
        ready, level = reached, level + 1
    if (levels < 0).any():
        raise Cycle(_a_cycle(graph, np.flatnonzero(levels < 0), before, after))
    return levels


def _a_cycle(graph: StepGraph, stuck: Ints, before: Ints, after: Ints) -> list[Step]:
    """The steps on one of the shortest cycles among those that never became ready, readers first."""
    among = np.isin(before, stuck) & np.isin(after, stuck)
    pairs = list(zip(after[among].tolist(), before[among].tolist(), strict=True))
    untyped: Any = nx  # its stubs leave the type of nodes open
    tangle = untyped.DiGraph(pairs)
    component: set[int] = max(untyped.strongly_connected_components(tangle), key=len)
    cycle: list[tuple[int, int]] = list(untyped.find_cycle(tangle.subgraph(component), source=min(component)))
    return [graph.step(edge[0]) for edge in cycle]
