"""A grid cut along one dimension, a block of its cells for each rank, which computes them tile by tile: what may be, what waits
for what, and what crosses from a rank to another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gridc.errors import ResourceError, UsageError, listed, nearest
from gridc.language.lattice import Ints, flat, points
from gridc.language.shapes import parameter_shapes, weights
from gridc.language.spec import GridSpec
from gridc.scheduling.graph import Cycle, StepGraph, build, longest_paths
from gridc.scheduling.order import Blocks, contract

MOST_STEPS = 3_000_000
"""Steps of a grid beyond which it is not cut: every dependence is looked at."""


@dataclass(frozen=True)
class Cut:
    """Which dimension is cut for how many ranks, and how many cells of other dimensions a tile has: pairs (dimension, cells)."""

    dimension: int
    ranks: int
    tile: tuple[tuple[int, int], ...] = ()


def named(spec: GridSpec, ranks: int, along: str, tile: Mapping[str, int]) -> Cut:
    """Give the cut that these names of dimensions ask for.  Raises UsageError where a dimension is none, cannot be both cut and
    tiled, or has fewer cells than there are ranks."""
    own = {dimension.name: d for d, dimension in enumerate(spec.dimensions)}
    for word in (along, *tile):
        if word not in own:
            raise UsageError(f"'{spec.name}' has no dimension '{word}'; expected {listed(own)}{nearest(word, own)}")
    if along in tile:
        raise UsageError(f"'{along}' is cut into a block for each rank; a tile is of other dimensions.")
    size = spec.dimensions[own[along]].size
    if isinstance(size, int):
        enough(along, size, ranks)
    d = own[along]
    for name, t in spec.transforms.items():
        owner = spec.transforms[spec.weight_owner(name)]
        if {t.untied, owner.untied} != {t.untied} and d in {*t.untied, *owner.untied}:
            raise UsageError(f"'{spec.name}' cannot be cut along '{along}': '{name}' shares the weights of '{owner.name}', and "
                             "they are untied along different dimensions.")  # fmt: skip
    return Cut(d, ranks, tuple((own[word], n) for word, n in tile.items()))


def enough(along: str, cells: int, ranks: int) -> None:
    """UsageError where a dimension has fewer cells than there are ranks."""
    if ranks > cells:
        raise UsageError(f"'{along}' has {cells} cells, fewer than the {ranks} ranks: each takes one at least.")


def few_enough(spec: GridSpec, sizes: tuple[int, ...]) -> None:
    """ResourceError where a grid has too many steps to look at."""
    count = math.prod(sizes) * len(spec.transforms)
    if count > MOST_STEPS:
        raise ResourceError(f"Grid '{spec.name}' has {count:,} steps of these sizes, more than the {MOST_STEPS:,} whose "
                            "dependences are looked at one by one.")  # fmt: skip


def blocks(size: int, ranks: int) -> Ints:
    """Give the first cell of every rank, and the end of the last one's, ``[ranks + 1]``: as even as can be."""
    return np.arange(ranks + 1) * size // ranks


def axes(spec: GridSpec, dimension: int) -> dict[str, int]:
    """Give of every parameter that is untied along a dimension the axis of its array that is along it: each rank has a part."""
    found: dict[str, int] = {}
    for name in parameter_shapes(spec):
        owner, _, letter = name.partition(".")
        t = spec.transforms.get(owner)
        if t is not None and dimension in t.untied:
            weight = weights(spec, t).get(letter)
            if weight is not None and not weight.facts:
                found[name] = t.untied.index(dimension)
    return found


def mine(spec: GridSpec, cut: Cut, rank: int) -> dict[str, tuple[slice, ...]]:
    """Give of every parameter that each rank has a part of what is a rank's own: an index of the whole array."""
    found: dict[str, tuple[slice, ...]] = {}
    for name, axis in axes(spec, cut.dimension).items():
        size = spec.dimensions[cut.dimension].size
        first, end = blocks(int(size), cut.ranks)[rank : rank + 2].tolist()
        found[name] = (slice(None),) * axis + (slice(first, end),)
    return found


def shapes(spec: GridSpec, cut: Cut, rank: int) -> dict[str, tuple[int, ...]]:
    """Give the shape of every parameter as a rank has it."""
    found, own = parameter_shapes(spec), mine(spec, cut, rank)
    for name, index in own.items():
        axis = len(index) - 1
        found[name] = (*found[name][:axis], index[-1].stop - index[-1].start, *found[name][axis + 1 :])
    return found


@dataclass(frozen=True)
class Tiles:
    """A grid of given sizes cut along ``dimension`` for so many ranks, in tiles of so many cells of other dimensions."""

    spec: GridSpec
    sizes: tuple[int, ...]
    dimension: int
    ranks: int
    tile: Mapping[int, int] = field(hash=False)

    @cached_property
    def graph(self) -> StepGraph:
        """Every step and what it waits for; who reads a relayed `pass`, for what that hands on."""
        return contract(build(self.spec, self.sizes))

    @staticmethod
    def of(graph: StepGraph, cut: Cut) -> Tiles:
        """Cut a grid whose dependences are known, those of examples of different lengths among them."""
        made = Tiles(graph.spec, graph.sizes, cut.dimension, cut.ranks, dict(cut.tile))
        made.__dict__["graph"] = contract(graph)
        return made

    @cached_property
    def blocks(self) -> Ints:
        """The first cell of every rank, and the end of the last one's, ``[ranks + 1]``."""
        return blocks(self.sizes[self.dimension], self.ranks)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """How many blocks or tiles there are along every dimension."""
        found = [-(-n // self.tile.get(d, n)) if n else 1 for d, n in enumerate(self.sizes)]
        found[self.dimension] = self.ranks
        return tuple(found)

    def _part(self, d: int, at: Ints) -> Ints:
        """Give the block or tile of every coordinate."""
        if d == self.dimension:
            return np.searchsorted(self.blocks, at, side="right") - 1
        return at // self.tile.get(d, self.sizes[d])

    @cached_property
    def of_cell(self) -> Ints:
        """The tile of every cell."""
        at = points(self.sizes)
        return np.ravel_multi_index([self._part(d, at[:, d]) for d in range(len(self.sizes))], self.shape)

    @cached_property
    def part(self) -> Ints:
        """The tile of every step, by the steps' numbers."""
        return np.tile(self.of_cell, len(self.spec.transforms))

    @cached_property
    def rank(self) -> Ints:
        """The rank of every tile."""
        return np.unravel_index(np.arange(math.prod(self.shape)), self.shape)[self.dimension]

    @cached_property
    def waits(self) -> Ints:
        """Pairs of tiles, the first before the second, ``[2, pairs]``."""
        before, after = self.part[self.graph.before], self.part[self.graph.after]
        apart = before != after
        return np.unique(np.stack([before[apart], after[apart]]), axis=1)

    @cached_property
    def levels(self) -> Ints:
        """The longest path that ends at each tile, in tiles.

        Raises UsageError where ranks would wait for each other both ways, or tiles for themselves: with the steps that do."""
        before, after = self.part[self.graph.before], self.part[self.graph.after]
        to, come = self.rank[after], self.rank[before]
        if (to > come).any() and (to < come).any():
            name = self.spec.dimensions[self.dimension].name
            forth, back = int(np.argmax(to > come)), int(np.argmax(to < come))
            raise UsageError(f"'{self.spec.name}' cannot be cut along '{name}': {self._wait(back)}, which lies on a later rank, "
                             f"while {self._wait(forth)}: vectors would have to run both ways.")  # fmt: skip
        apart = before != after
        try:
            return longest_paths(len(self.rank), *self.waits)
        except Cycle as cycle:
            among = apart & np.isin(before, cycle.numbers) & np.isin(after, cycle.numbers)
            edges = np.flatnonzero(among)
            other = edges[np.argmax(before[edges] == after[edges[0]])]
            told = listed([f"{self.spec.dimensions[d].name}={n}" for d, n in self.tile.items()], "and")
            raise UsageError(f"'{self.spec.name}' cannot go on in tiles of {told}: {self._wait(int(edges[0]))}, and "
                             f"{self._wait(int(other))}: neither tile could end before the other.") from None  # fmt: skip

    def _wait(self, edge: int) -> str:
        before, after = (self.graph.step(int(step[edge])) for step in (self.graph.before, self.graph.after))
        return f"{after} waits for {before}"

    @cached_property
    def turns(self) -> Ints:
        """The tiles in an order in which each rank can do its own: of their levels.  Raises UsageError as ``levels``."""
        return np.lexsort((np.arange(len(self.levels)), self.levels))

    @property
    def ordered(self) -> Blocks:
        """The tiles as blocks of an order, each of which runs to its end before the next.  Raises UsageError as ``levels``."""
        turn = np.empty_like(self.turns)
        turn[self.turns] = np.arange(len(self.turns))
        tile = " × ".join(f"{self.spec.dimensions[d].name} {n}" for d, n in self.tile.items())
        name = self.spec.dimensions[self.dimension].name
        return Blocks(turn[self.of_cell], f"cut along {name} for {self.ranks} ranks{f' in tiles of {tile}' * bool(tile)}")

    @cached_property
    def own_weights(self) -> tuple[Ints, ...]:
        """Of each transform the weights that it uses at every cell, by their flat index among those that the cell's rank has."""
        at = points(self.sizes)
        rank = np.searchsorted(self.blocks, at[:, self.dimension], side="right") - 1
        at[:, self.dimension] -= self.blocks[rank]
        found: list[Ints] = []
        for t in self.spec.transforms.values():
            own = np.zeros(len(at), np.int64)
            for r in range(self.ranks if self.dimension in t.untied else 1):
                mine = rank == r if self.dimension in t.untied else np.ones(len(at), bool)
                sizes = list(self.sizes)
                sizes[self.dimension] = int(self.blocks[r + 1] - self.blocks[r])
                own[mine] = flat(at[mine], sizes, t.untied)
            found.append(own)
        return tuple(found)
