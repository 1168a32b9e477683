"""The order of execution: in which batches the steps run, chosen by a cost model among the orders that are valid.

The wavefronts that people read are levels of steps.  An executor wants few wide products instead: it may go over
wavefronts of *cells* and, within one, transform by transform; or level by level along a dimension, where whatever a level
reads from the one below becomes one large product, hoisted out of the recurrence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import networkx as nx
import numpy as np

from gridc.language.lattice import Ints, points
from gridc.scheduling.graph import Cycle, StepGraph, longest_paths


@dataclass(frozen=True)
class Order:
    """``time[t][cell]`` is the turn at which transform ``t`` runs at a cell; ``run[t][cell]`` the stretch of turns within
    which products of the reads ``hoisted[t]`` can be made at once, before it starts."""

    name: str
    time: tuple[Ints, ...]
    run: tuple[Ints, ...]
    hoisted: tuple[tuple[bool, ...], ...]


def orders(graph: StepGraph) -> Iterator[Order]:
    """Make every valid order that gridc knows for a grid: wavefronts of cells and of steps, then level by level."""
    work = contract(graph)
    for outer in (None, *range(len(graph.sizes))):
        if outer is not None and graph.sizes[outer] == 1:
            continue
        stages = _stages(work, outer)
        if stages is None:
            continue
        inner = _cells(work, stages)
        where = f" level by level along {graph.spec.dimensions[outer].name}" if outer is not None else ""
        if inner is not None:
            yield _order(work, stages, inner, f"wavefronts of cells{',' * bool(where)}{where}")
        if inner is None or len(graph.spec.transforms) > 1:
            within = stages[work.before] == stages[work.after]
            levels = longest_paths(graph.count, work.before[within], work.after[within])
            yield _order(work, stages, levels, f"wavefronts of steps{',' * bool(where)}{where}")


def earliest(graph: StepGraph) -> Order:
    """Every step in the first turn in which all that it waits for is done: the fewest turns that a grid can take."""
    work = contract(graph)
    time = tuple(np.split(longest_paths(work.count, work.before, work.after), len(graph.names)))
    late = tuple((False,) * len(t.reads) for t in graph.spec.transforms.values())
    return Order("wavefronts of steps, each as early as it can be", time, time, late)


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


def _stages(graph: StepGraph, outer: int | None) -> Ints | None:
    """Give a stage number for each step, (index on ``outer``, component of mutually recurrent transforms); None where a step
    waits for a later index of ``outer``."""
    transform = np.arange(graph.count) // graph.cells
    slab = np.zeros(graph.count, np.int64)
    if outer is not None:
        slab = np.tile(points(graph.sizes)[:, outer], len(graph.names))
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
    return Order(
        name, tuple(np.split(turn, split)), tuple(np.split(stages, split)), tuple(hoisted)
    )


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
        columns = len(transform.gates) * transform.hidden
        if not columns:
            continue
        own = graph.weights[i]
        weights = int(own.max(initial=0)) + 1
        _, widths = np.unique(order.time[i] * weights + own, return_counts=True)
        stretches, lengths = np.unique(order.run[i] * weights + own, return_counts=True)
        hoists = len(widths) > len(stretches)
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


def cheapest(graph: StepGraph, batch: float) -> Order:
    """Choose the order that the cost model prefers for so many examples."""
    return min(orders(graph), key=lambda order: seconds(graph, order, batch))
