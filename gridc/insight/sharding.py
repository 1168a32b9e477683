"""A grid cut along one dimension, a block of its cells for each rank: what a training step would take, on paper.

A rank computes its block tile by tile and hands every tile's boundary vectors on in one message; the adjoint goes the other way
with their gradients.  All of it follows from the dependences: which blocks and tiles may be at all, what waits for what, and how
many bytes cross.  Seconds are those of the order's cost model (one core a rank), of a latency and of a bandwidth; messages travel
while ranks compute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from gridc.errors import UsageError
from gridc.insight.network import Network
from gridc.language.lattice import Ints
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec
from gridc.scheduling import counts, order
from gridc.scheduling.counts import step_numbers
from gridc.scheduling.graph import build
from gridc.scheduling.tiles import Tiles, axes, enough, few_enough, named

BACKWARD = 2.0
"""How many times a sweep's time its adjoint takes: two products for each of its own."""
MOVED = 15e9
"""Bytes a second that one core copies from memory to memory."""


@dataclass(frozen=True)
class Rank:
    """What one rank does in a training step: its ``cells`` of the dimension, the seconds that it computes, the messages that it
    sends forward and back, their bytes, and the most memory that it holds, without an optimiser's state."""

    cells: int
    busy: float
    messages: int
    sent: int
    peak: int


class Run(NamedTuple):
    """When a tile runs, in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class Sharding(Tiles):
    """What a training step takes of a grid that is cut so."""

    batch: int = 16
    network: Network = field(default_factory=Network)
    itemsize: int = 4

    # -- what crosses --------------------------------------------------------------------------------------------------

    @cached_property
    def messages(self) -> dict[tuple[int, int], int]:
        """The bytes that cross, by tile and the rank that they go to: each vector once, a state with its memory."""
        before, after = self.graph.before, self.graph.after
        source, target = self.part[before], self.rank[self.part[after]]
        across = np.flatnonzero(self.rank[source] != target)
        names = list(self.spec.transforms)
        hidden = np.array([self.spec.transforms[name].hidden for name in names])
        whole = np.array([step_numbers(self.spec, name)[0] for name in names])
        of = before[across] // self.graph.cells
        numbers = np.where(self.graph.block[across] < 0, whole[of], hidden[of])
        keys = np.stack([source[across], target[across], before[across]], axis=1)
        distinct, at = np.unique(keys, axis=0, return_inverse=True)
        most = np.zeros(len(distinct), np.int64)
        np.maximum.at(most, at.reshape(-1), numbers)
        found: dict[tuple[int, int], int] = {}
        for (tile, rank, _), count in zip(distinct.tolist(), most.tolist(), strict=True):
            found[tile, rank] = found.get((tile, rank), 0) + count * self.batch * self.itemsize
        return found

    # -- time ----------------------------------------------------------------------------------------------------------

    @cached_property
    def weights_seconds(self) -> list[float]:
        """The seconds, of every rank, in which it reads and writes a tile's weights once: each tile packs them, forward
        and back, and adds to their gradients."""
        untied, part = axes(self.spec, self.dimension), np.diff(self.blocks) / self.sizes[self.dimension]
        total = np.zeros(self.ranks)
        for name, shape in parameter_shapes(self.spec).items():
            t = self.spec.transforms.get(name.partition(".")[0])
            if t is not None:  # a tile uses only the weights of its own cells
                used = math.prod(self.tile.get(d, self.sizes[d]) / self.sizes[d] for d in t.untied if d != self.dimension)
                total += math.prod(shape) * used * (part if name in untied else 1.0)
        return (2 * self.itemsize * total / MOVED).tolist()

    @cached_property
    def tile_seconds(self) -> list[tuple[float, float]]:
        """The seconds of every tile's sweep, on one core, and of its adjoint."""
        spec = replace(self.spec, schedule=replace(self.spec.schedule, tile=(), order="auto", hoist=None))
        known: dict[tuple[int, ...], float] = {}

        def taken(sizes: tuple[int, ...]) -> float:
            if sizes not in known:
                graph = build(spec, sizes)
                known[sizes] = order.seconds(graph, order.cheapest(graph, self.batch), self.batch)
            return known[sizes]

        found: list[tuple[float, float]] = []
        for place in np.ndindex(self.shape):
            cut = [self.tile.get(d, n) for d, n in enumerate(self.sizes)]
            sizes = [min(n, size - at * n) for at, n, size in zip(place, cut, self.sizes, strict=True)]
            sizes[self.dimension] = int(self.blocks[place[self.dimension] + 1] - self.blocks[place[self.dimension]])
            products, weights = taken(tuple(sizes)), self.weights_seconds[int(place[self.dimension])]
            pace = self.network.pace
            found.append((pace * (products + weights), pace * (BACKWARD * products + 2 * weights)))
        return found

    @cached_property
    def forward(self) -> float:
        """The seconds until every rank's sweep is done."""
        return max((run.end for run in self.runs[0]), default=0.0)

    @cached_property
    def backward(self) -> float:
        """The seconds of the way back, which begins when the loss is known."""
        return max((run.end for run in self.runs[1]), default=0.0)

    @cached_property
    def runs(self) -> tuple[list[Run], list[Run]]:
        """When every tile runs forward, and on the way back from when that begins."""
        most = int(self.levels.max(initial=0))
        before, after = self.waits
        return self._swept(before, after, self.levels, 0), self._swept(after, before, most - self.levels, 1)

    def _swept(self, before: Ints, after: Ints, levels: Ints, way: int) -> list[Run]:
        """Let every rank do its tiles in the order of their levels, each as soon as what it waits for is there."""
        sources: list[int] = before.tolist()
        targets: list[int] = after.tolist()
        turns: list[int] = np.lexsort((np.arange(len(levels)), levels)).tolist()
        rank: list[int] = self.rank.tolist()
        needs: dict[int, list[int]] = {tile: [] for tile in turns}
        for source, target in zip(sources, targets, strict=True):
            needs[target].append(source)
        free, found = [0.0] * self.ranks, [Run(0.0, 0.0)] * len(turns)
        for tile in turns:
            ready = free[rank[tile]]
            for other in needs[tile]:
                # On the way back the gradients of what a message held, between the same two.
                size = self.messages.get((other, rank[tile]), self.messages.get((tile, rank[other]), 0))
                ready = max(ready, found[other].end + (self.network.seconds(size) if rank[other] != rank[tile] else 0.0))
            free[rank[tile]] = ready + self.tile_seconds[tile][way]
            found[tile] = Run(ready, free[rank[tile]])
        return found

    def cells(self, tile: int) -> str:
        """Write which cells of the dimensions that are cut into tiles a tile has, ``time 0:16``."""
        place = np.unravel_index(tile, self.shape)
        told = [f"{self.spec.dimensions[d].name} {int(place[d]) * n}:{min(self.sizes[d], (int(place[d]) + 1) * n)}"
                for d, n in self.tile.items()]  # fmt: skip
        return ", ".join(told) or "all"

    @cached_property
    def summing(self) -> float:
        """The seconds of the all-reduce of gradients: of all but the weights that are untied along the dimension."""
        return self.network.sum_seconds(self.itemsize * self._shared, self.ranks)

    @property
    def seconds(self) -> float:
        """The seconds of a training step, without the update."""
        return self.forward + self.backward + self.summing

    @cached_property
    def serial(self) -> float:
        """The seconds of one process on one core, that the whole grid fits into or not."""
        taken = order.seconds(self.graph, order.cheapest(self.graph, self.batch), self.batch)
        return self.network.pace * ((1 + BACKWARD) * taken + 3 * replace(self, ranks=1, tile={}).weights_seconds[0])

    @property
    def bubble(self) -> float:
        """The share of the ranks' time in which they wait."""
        return 1 - sum(one.busy for one in self.each) / (self.ranks * self.seconds)

    # -- each rank -----------------------------------------------------------------------------------------------------

    @property
    def _shared(self) -> int:
        """Count the parameters whose gradients are summed: all that are not untied along the dimension."""
        untied = axes(self.spec, self.dimension)
        return sum(math.prod(shape) for name, shape in parameter_shapes(self.spec).items() if name not in untied)

    @cached_property
    def each(self) -> list[Rank]:
        """What every rank does."""
        busy, messages, sent = [0.0] * self.ranks, [0] * self.ranks, [0] * self.ranks
        for tile, rank in enumerate(self.rank.tolist()):
            busy[rank] += sum(self.tile_seconds[tile])
        for (tile, target), size in self.messages.items():
            for rank in (int(self.rank[tile]), target):  # forward by the one, gradients by the other
                messages[rank] += 1
                sent[rank] += size
        cells = np.diff(self.blocks).tolist()
        peaks = {count: counts.rank_bytes(self.spec, self.sizes, self.dimension, count, self.batch, self.itemsize, True)
                 for count in set(cells)}  # fmt: skip
        return [Rank(n, spent, count, size, peaks[n]) for n, spent, count, size in zip(cells, busy, messages, sent, strict=True)]


def shard(
    spec: GridSpec, sizes: tuple[int, ...], ranks: int, along: str, tile: Mapping[str, int], batch: int = 16,
    network: Network = Network(),  # noqa: B008  # a frozen value
) -> Sharding:  # fmt: skip
    """Cut a grid of these sizes along the dimension of that name.

    Args:
        spec: The grid's.
        sizes: A number a dimension.
        ranks: How many processes; no more than the dimension has cells.
        along: The dimension's name.
        tile: Cells of other dimensions, by their names, after which boundary vectors are handed on; where none is given, the
            power of two along the longest of them with which a step takes least.
        batch: Examples in a mini-batch.
        network: What messages cost.

    Raises:
        UsageError: There is no such dimension, it has fewer cells, or its dependences forbid it: with the steps that do.
        ResourceError: The grid has too many steps to look at.
    """
    found = named(spec, ranks, along, tile)
    enough(along, sizes[found.dimension], ranks)
    few_enough(spec, sizes)
    made = Sharding(spec, sizes, found.dimension, ranks, dict(found.tile), batch, network)
    if not tile:
        made = _best(made)
    made.levels  # noqa: B018  # which refuses what cannot be
    return made


def _best(made: Sharding) -> Sharding:
    """Choose the tile along the longest other dimension: all of it where no smaller one can be."""
    others: Sequence[int] = [d for d, n in enumerate(made.sizes) if d != made.dimension and n > 1]
    if not others:
        return made
    longest = max(others, key=lambda d: made.sizes[d])
    found, size = made, 1
    made.levels  # noqa: B018  # a dimension that cannot be cut is refused before any tile
    while size < made.sizes[longest]:
        tried = replace(made, tile={longest: size})
        # What all the tries have in common is looked at once.
        tried.__dict__["graph"] = made.graph
        size *= 2
        try:
            if tried.levels.size and tried.seconds < found.seconds:
                found = tried
        except UsageError:
            continue
    return found
