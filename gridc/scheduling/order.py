"""The order of execution: in which batches the steps run, chosen by a cost model among the orders that are valid.

The wavefronts that people read are levels of steps.  An executor wants few wide products instead: it may go over
wavefronts of *cells* and, within one, transform by transform; or level by level along a dimension, where whatever a level
reads from the one below becomes one large product, hoisted out of the recurrence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import networkx as nx
import numpy as np

from gridc.language import shapes
from gridc.language.lattice import Ints, points
from gridc.scheduling.graph import Cycle, StepGraph, longest_paths


@dataclass(frozen=True)
class Order:
    """``time[t][cell]`` is the turn at which transform ``t`` runs at a cell; ``run[t][cell]`` the stretch of turns within
    which products of the reads ``hoisted[t]`` can be made at once, before it starts, where that is done ``ahead`` at all."""

    name: str
    time: tuple[Ints, ...]
    run: tuple[Ints, ...]
    hoisted: tuple[tuple[bool, ...], ...]
    ahead: tuple[bool, ...]

    def only(self, names: Sequence[str], transforms: Sequence[str]) -> Order:
        """Give the same order with products made ahead for these ``names`` alone, of all ``transforms``."""
        ahead = tuple(name in names for name in transforms)
        hoisted = tuple(tuple(early and mine for early in reads) for reads, mine in zip(self.hoisted, ahead, strict=True))
        return replace(self, hoisted=hoisted, ahead=ahead)


class Blocks(NamedTuple):
    """Blocks of a grid, each of which runs to its end before the next."""

    number: Ints
    """Of each cell the block, in order of execution, ``[cells]``."""
    name: str


def orders(graph: StepGraph, within: Blocks | None = None) -> Iterator[Order]:
    """Make every valid order that gridc knows for a grid: wavefronts of cells and of steps, then level by level; and within each
    only what the page's schedule asks for, or ``within`` these blocks all of them."""
    asked = graph.spec.schedule
    work = contract(graph)
    names = list(graph.spec.transforms)
    if within is not None:
        yield from _orders(work, "auto", within)
        return
    for found in _orders(work, asked.order, blocks(work, asked.tile)):
        yield found if asked.hoist is None else found.only(asked.hoist, names)


def _orders(work: StepGraph, kind: str, within: Blocks | None) -> Iterator[Order]:
    levels: list[int | None] = [d for d, n in enumerate(work.sizes) if n > 1]
    outers = {"auto": [None, *levels], "levels": levels or [None]}.get(kind, [None])
    for outer in outers:
        stages = _stages(work, outer, within)
        if stages is None:
            continue
        where = f", level by level along {work.spec.dimensions[outer].name}" if outer is not None else ""
        where += f", {within.name}" if within is not None else ""
        inner = _cells(work, stages) if kind != "steps" else None
        if inner is not None:
            yield _order(work, stages, inner, f"wavefronts of cells{where}")
        if kind != "cells" and (inner is None or len(work.spec.transforms) > 1):
            inside = stages[work.before] == stages[work.after]
            level = longest_paths(work.count, work.before[inside], work.after[inside])
            yield _order(work, stages, level, f"wavefronts of steps{where}")


def blocks(graph: StepGraph, tile: tuple[tuple[int, int], ...]) -> Blocks | None:
    """Cut a grid into blocks of so many cells along some dimensions, None for no tile.

    Along each they run forward, or backward where steps wait for later ones.  Raises Refused where neither will do."""
    if not tile:
        return None
    at = points(graph.sizes)
    name = "in blocks of " + " × ".join(f"{graph.spec.dimensions[d].name} {n}" for d, n in tile)
    wrong: Ints = np.zeros(0, np.int64)
    for backward in itertools.product((False, True), repeat=len(tile)):
        number = np.zeros(len(at), np.int64)
        for (d, n), turned in zip(tile, backward, strict=True):
            along, count = at[:, d] // n, -(-graph.sizes[d] // n)
            number = number * count + (count - 1 - along if turned else along)
        later = np.flatnonzero(number[graph.before % graph.cells] > number[graph.after % graph.cells])
        if not len(later):
            return Blocks(number, name)
        wrong = later if not len(wrong) else wrong
    raise Refused("tile", _waits(graph, int(wrong[0])) + ", which is in a later block")


def check(graph: StepGraph) -> None:
    """Raise Refused where the page's schedule asks for what the dependences of the grid forbid."""
    asked, work = graph.spec.schedule, contract(graph)
    found = list(orders(graph))
    if not found:
        raise Refused("order", _no_order(work, asked.order))
    for name in asked.hoist or ():
        i = graph.spec.numbers[name]
        if not any(any(each.hoisted[i]) for each in found) and not graph.spec.joined(name):
            late = np.flatnonzero(work.after // work.cells == i)
            why = f"{_waits(work, int(late[-1]))} within the same stretch" if len(late) else f"'{name}' waits for nothing"
            raise Refused("hoist", f"no product of '{name}' can be made ahead of it: {why}")


def _no_order(work: StepGraph, kind: str) -> str:
    """Say which dependences leave no order of a kind."""
    if kind == "levels":
        told: list[str] = []
        for d in (d for d, n in enumerate(work.sizes) if n > 1):
            slab = np.tile(points(work.sizes)[:, d], len(work.names))
            wrong = np.flatnonzero(slab[work.before] > slab[work.after])
            told.append(f"along {work.spec.dimensions[d].name} {_waits(work, int(wrong[0]))}, which is on a later level")
        return "; ".join(told)
    before, after = work.before % work.cells, work.after % work.cells
    apart = np.flatnonzero(before != after)
    try:
        longest_paths(work.cells, before[apart], after[apart])
    except Cycle as cycle:
        ring = (*cycle.numbers, cycle.numbers[0])
        edges = [int(apart[(after[apart] == a) & (before[apart] == b)][0]) for a, b in itertools.pairwise(ring[:3])]
        return "whole cells wait for each other: " + ", and ".join(_waits(work, edge) for edge in edges)
    return "transforms wait for each other within a cell"


class Refused(Exception):
    """A directive that the dependences of a grid forbid: the ``key`` of it, and the dependence in words."""

    def __init__(self, key: str, why: str):
        super().__init__(why)
        self.key = key


def _waits(graph: StepGraph, edge: int) -> str:
    """Say what an edge of the graph is."""
    return f"{graph.step(int(graph.after[edge]))} waits for {graph.step(int(graph.before[edge]))}"


def earliest(graph: StepGraph) -> Order:
    """Every step in the first turn in which all that it waits for is done: the fewest turns that a grid can take."""
    work = contract(graph)
    time = tuple(np.split(longest_paths(work.count, work.before, work.after), len(graph.names)))
    late = tuple((False,) * len(t.reads) for t in graph.spec.transforms.values())
    return Order("wavefronts of steps, each as early as it can be", time, time, late, (True,) * len(late))


def contract(graph: StepGraph) -> StepGraph:
    """Leave relayed `pass` steps out of the graph: whoever reads one waits for what it hands on instead.

    That may be several steps: where examples differ in length, what wraps around comes from another cell in each."""
    passes = [i for i, t in enumerate(graph.spec.transforms.values()) if graph.spec.relayed(t)]
    if not passes:
        return graph
    relayed = np.isin(np.arange(graph.count) // graph.cells, passes)
    into = relayed[graph.after]
    origins = np.unique(np.stack([graph.before[into], graph.after[into]]), axis=1)  # of what each `pass` hands on
    while relayed[origins[0]].any():
        passed = relayed[origins[0]]
        which, before = _joined(origins[0][passed], origins)
        origins = np.unique(np.concatenate([origins[:, ~passed], [before, origins[1][passed][which]]], axis=1), axis=1)
    before, after, block = graph.before[~into], graph.after[~into], graph.block[~into]
    passed = relayed[before]
    which, through = _joined(before[passed], origins)
    return StepGraph(
        graph.spec, graph.sizes, np.concatenate([before[~passed], through]),
        np.concatenate([after[~passed], after[passed][which]]), np.concatenate([block[~passed], block[passed][which]]),
    )  # fmt: skip


def _joined(passes: Ints, origins: Ints) -> tuple[Ints, Ints]:
    """Give for each of these `pass` steps every origin of what it hands on: which of them, and the origin."""
    by = origins[:, np.argsort(origins[1], kind="stable")]
    low, high = np.searchsorted(by[1], passes), np.searchsorted(by[1], passes, side="right")
    which = np.repeat(np.arange(len(passes)), high - low)
    starts = np.repeat(np.cumsum(high - low) - (high - low), high - low)
    return which, by[0][np.repeat(low, high - low) + np.arange(len(which)) - starts]


def _stages(graph: StepGraph, outer: int | None, within: Blocks | None = None) -> Ints | None:
    """Give a stage number for each step, (block, index on ``outer``, component of mutually recurrent transforms); None where a
    step waits for a later index of ``outer`` in its own block."""
    transform = np.arange(graph.count) // graph.cells
    slab = np.zeros(graph.cells, np.int64) if within is None else within.number
    if outer is not None:
        slab = slab * graph.sizes[outer] + points(graph.sizes)[:, outer]
    slab = np.tile(slab, len(graph.names))
    if (slab[graph.before] > slab[graph.after]).any():
        return None
    inside = slab[graph.before] == slab[graph.after]
    count = len(graph.names)
    pairs = np.unique(transform[graph.before[inside]] * count + transform[graph.after[inside]])
    among: nx.DiGraph[int] = nx.DiGraph()
    among.add_nodes_from(range(count))
    among.add_edges_from(divmod(int(pair), count) for pair in pairs)
    component = np.zeros(count, np.int64)
    condensed: nx.DiGraph[int] = nx.condensation(among)

    def earliest(node: int) -> int:
        return min(condensed.nodes[node]["members"])

    for rank, node in enumerate(nx.lexicographical_topological_sort(condensed, key=earliest)):
        component[list(condensed.nodes[node]["members"])] = rank
    return slab * count + component[transform]


def _cells(graph: StepGraph, stages: Ints) -> Ints | None:
    """Make turns by wavefronts of cells within each stage; None where cells wait for each other."""
    transform, cell = np.divmod(np.arange(graph.count), graph.cells)
    inside = stages[graph.before] == stages[graph.after]
    before, after = graph.before[inside], graph.after[inside]
    here = cell[before] == cell[after]
    count = len(graph.names)
    pairs = np.unique(transform[before[here]] * count + transform[after[here]])
    among: nx.DiGraph[int] = nx.DiGraph([divmod(int(pair), count) for pair in pairs])
    among.add_nodes_from(range(count))
    if not nx.is_directed_acyclic_graph(among):
        return None
    rank = np.zeros(count, np.int64)
    for generation, members in enumerate(nx.topological_generations(among)):
        rank[list(members)] = generation
    # A cell is levelled once for each component, whose steps alone run together.
    part = stages % count
    node = part * graph.cells + cell
    try:
        levels = longest_paths(count * graph.cells, node[before[~here]], node[after[~here]])
    except Cycle:
        return None
    return levels[node] * count + rank[transform]


def _order(graph: StepGraph, stages: Ints, inner: Ints, name: str) -> Order:
    width = int(inner.max(initial=0)) + 1
    _, turn = np.unique(stages * width + inner, return_inverse=True)
    count = graph.cells
    earlier = stages[graph.before] < stages[graph.after]
    transform = graph.after // count
    hoisted: list[tuple[bool, ...]] = []
    for i, t in enumerate(graph.spec.transforms.values()):
        mine = transform == i
        hoisted.append(tuple(bool(earlier[mine & (graph.block == j)].all()) for j in range(len(t.reads))))
    split = len(graph.names)
    return Order(name, tuple(np.split(turn, split)), tuple(np.split(stages, split)), tuple(hoisted), (True,) * split)


# -- what an order costs -------------------------------------------------------------------------------------------
#
# The constants are those of the packed product (``gridc.fusion.gemm``) on one core of a server of 2022.  The choice that follows
# was checked by whole training steps in every order, taken in turns: S1, S3, S4 (tied and untied), S1 stacked and the
# multi-dimensional case.  The preferred order was the fastest or within noise of it.

RATE = 110e9
"""Single-precision multiply-adds count two: a core's rate on a large product, in floating-point operations a second."""
NARROW = 1.0
"""The number of rows at which a product runs at half that rate."""
CALL = 0.4e-6
"""Seconds that a batch costs before any arithmetic."""


def product_seconds(rows: np.ndarray | float, inner: int, columns: int) -> np.ndarray | float:
    """Give the seconds that one core takes for a product of ``rows × inner`` by ``inner × columns``."""
    return CALL + 2.0 * (rows + NARROW) * inner * columns / RATE


def seconds(graph: StepGraph, order: Order, batch: float) -> float:
    """Give the model's seconds for one forward sweep of so many examples on one core."""
    spec, total = graph.spec, 0.0
    for i, transform in enumerate(spec.transforms.values()):
        columns = shapes.columns(spec, transform)
        if not columns:
            continue
        own = graph.weights[i]
        weights = int(own.max(initial=0)) + 1
        _, widths = np.unique(order.time[i] * weights + own, return_counts=True)
        stretches, lengths = np.unique(order.run[i] * weights + own, return_counts=True)
        hoists = len(widths) > len(stretches) and order.ahead[i]
        late = sum(spec.transforms[r.of].hidden for r, early in zip(transform.reads, order.hoisted[i], strict=True)
                   if not (early and hoists))  # fmt: skip
        early = spec.rows(transform.name) - late if hoists else 0
        late = spec.rows(transform.name) - early
        total += float(np.sum(product_seconds(widths * batch, late, columns)))
        if early:
            total += float(np.sum(product_seconds(lengths * batch, early, columns)))
    return total


def freed(graph: StepGraph, order: Order) -> dict[str, tuple[int, int]]:
    """Name the transforms that carry a state and whose gates see none of it: how many products an order makes for each, all of
    them ahead of the recurrence, and in how many batches its cells then run."""
    found: dict[str, tuple[int, int]] = {}
    for i, (name, transform) in enumerate(graph.spec.transforms.items()):
        if transform.gates and transform.carries and all(order.hoisted[i]):
            own = graph.weights[i]
            weights = int(own.max(initial=0)) + 1
            made, run = (len(np.unique(turn[i] * weights + own)) for turn in (order.run, order.time))
            if made < run:
                found[name] = made, run
    return found


def cheapest(graph: StepGraph, batch: float, within: Blocks | None = None) -> Order:
    """Choose the order that the cost model prefers for so many examples, of all or of those ``within`` some blocks."""
    return min(orders(graph, within), key=lambda order: seconds(graph, order, batch))
