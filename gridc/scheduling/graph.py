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

from gridc.language.lattice import Ints, Mask, Wait, flat, points, waits, weights
from gridc.language.spec import GridSpec


class Step(NamedTuple):
    """The update of one transform at one cell."""

    transform: str
    cell: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.transform}{list(self.cell)}"


class Cycle(Exception):
    """Nodes of a graph that wait for each other."""

    def __init__(self, numbers: Sequence[int], steps: Sequence[Step] = ()):
        self.numbers = tuple(numbers)
        """The nodes on the cycle, each before what it waits for."""
        self.steps = tuple(steps)
        """The same where nodes are steps; else none."""
        nodes = self.steps or self.numbers
        super().__init__(" ← ".join(str(node) for node in (*nodes, nodes[0])))


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
        """How many cells the grid has."""
        return int(np.prod(self.sizes))

    @cached_property
    def count(self) -> int:
        """How many steps there are: one a cell and transform."""
        return self.cells * len(self.spec.transforms)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The transforms in the order in which steps are numbered."""
        return tuple(self.spec.transforms)

    def step(self, number: int) -> Step:
        """Give the step with this number."""
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
        return tuple(weights(t, at, self.sizes) for t in self.spec.transforms.values())

    @cached_property
    def levels(self) -> Ints:
        """The longest path that ends at each step, in steps before it, ``[steps]``; raises Cycle of steps where there is one."""
        try:
            return longest_paths(self.count, self.before, self.after)
        except Cycle as cycle:
            raise Cycle(cycle.numbers, [self.step(number) for number in cycle.numbers]) from None


def build(spec: GridSpec, sizes: tuple[int, ...], extents: Ints | None = None) -> StepGraph:
    """Build the step graph of a spec at these sizes (one number a dimension).

    Where examples have sizes of their own, ``extents [examples, dimensions]``, a step waits for whatever any of them needs: a
    state that wraps leaves a shorter example at an earlier cell."""
    at, extent = points(sizes), np.asarray(sizes, np.int64)
    wraps = any(t.start == "wrap" for t in spec.transforms.values())
    distinct: list[Ints] = list(np.unique(extents, axis=0)) if wraps and extents is not None else []
    shorter = [own for own in distinct if (own < extent).any()]
    edges: list[tuple[Ints, Ints, Ints]] = []

    def add(reader: str, cells: Ints, wait: Wait, where: Mask) -> None:
        before = spec.numbers[wait.of.name] * len(at) + flat(wait.points[where], sizes)
        edges.append((before, spec.numbers[reader] * len(at) + cells[where], np.full(len(before), wait.by)))

    for name, transform in spec.transforms.items():
        for wait in waits(spec, transform, at, extent):
            add(name, np.arange(len(at)), wait, wait.steps)
        for own in shorter:
            cells = np.flatnonzero((at < own).all(axis=1))
            for wait in waits(spec, transform, at[cells], own):
                add(name, cells, wait, wait.wrapped)
    return StepGraph(spec, sizes, *map(np.concatenate, zip(*edges, strict=True)))


NARROW = 40
"""Steps of a round below which a loop over them is quicker than calls of NumPy."""


def longest_paths(count: int, before: Ints, after: Ints) -> Ints:
    """Give the longest path that ends at each of ``count`` nodes, in nodes before it, ``[count]``; edge ``i`` is from
    ``before[i]`` to ``after[i]``.

    Kahn's algorithm a level at a time: each round takes every node whose predecessors are all done.  Raises Cycle of numbers
    where nodes wait for each other."""
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
        raise Cycle(_a_cycle(np.flatnonzero(levels < 0), before, after))
    return levels


def _a_cycle(stuck: Ints, before: Ints, after: Ints) -> list[int]:
    """Give the nodes on one of the shortest cycles among those that never became ready, readers first."""
    among = np.isin(before, stuck) & np.isin(after, stuck)
    pairs = list(zip(after[among].tolist(), before[among].tolist(), strict=True))
    untyped: Any = nx  # its stubs leave the type of nodes open
    tangle = untyped.DiGraph(pairs)
    component: set[int] = max(untyped.strongly_connected_components(tangle), key=len)
    cycle: list[tuple[int, int]] = list(untyped.find_cycle(tangle.subgraph(component), source=min(component)))
    return [edge[0] for edge in cycle]
