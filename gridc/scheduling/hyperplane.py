"""Wavefronts of uniform grids by hyperplanes, without visiting a cell (Lamport, "The parallel execution of DO loops", 1974).

A grid is *uniform* where every dependence is one constant vector: step ``(t, p)`` waits for ``(u, p + o)`` wherever that lies
on the grid.  An affine schedule gives it the wavefront ``level_t(p) = λ_t · p + γ_t``.  Such a schedule *is* that of the longest
paths when

1. it is valid: over the box where a dependence exists, ``level_t(p) - level_u(p + o) ≥ 1`` (a linear function on a box: its
   least value stands at a corner), and
2. it is tight: every step that is not in wavefront 0 has a dependence inside the grid with a difference of exactly 1.
   Whether a dependence exists changes at a few coordinates of each dimension only, so this too is asked of a few boxes.

Both are checked on the grid at its real size; what they prove needs no other check.  A candidate comes from the explicit
levels of a small grid of the same kind.  Where no candidate passes (an offset of 2 makes stairs, not planes), the
explicit graph answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from gridc.language.lattice import Ints, waits
from gridc.language.spec import GridSpec
from gridc.scheduling import graph

SMALL = 4
"""The size, on each dimension, of the grid that a candidate is fitted to (at least; offsets ask for more)."""


class Dependence(NamedTuple):
    """Step ``(after, p)`` waits for ``(before, p + offset)``, by transforms' indices."""

    after: int
    before: int
    offset: tuple[int, ...]


@dataclass(frozen=True)
class Planes:
    """``level_t(p) = vectors[t] · p + offsets[t]``: the wavefront of every step, 0 the first."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    vectors: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]

    def level(self, name: str, cell: Sequence[int]) -> int:
        """Give the wavefront of a transform's step at a cell; ValueError where there is no such transform."""
        t = self.names.index(name)
        return self.offsets[t] + sum(a * int(x) for a, x in zip(self.vectors[t], cell, strict=True))

    def levels(self) -> Ints:
        """Give the level of every step by its number: transform index × cells + cell, cells row-major."""
        parts: list[Ints] = []
        for vector, offset in zip(self.vectors, self.offsets, strict=True):
            level = np.full((1,) * len(self.sizes), offset, np.int64)
            for d, (a, n) in enumerate(zip(vector, self.sizes, strict=True)):
                level = level + (a * np.arange(n)).reshape([-1 if e == d else 1 for e in range(len(self.sizes))])
            parts.append(np.broadcast_to(level, self.sizes).ravel())
        return np.concatenate(parts)

    def range(self, t: int) -> tuple[int, int]:
        """Give the first and the last wavefront of a transform."""
        reach = [a * (n - 1) for a, n in zip(self.vectors[t], self.sizes, strict=True)]
        low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
        return self.offsets[t] + low, self.offsets[t] + high

    @property
    def span(self) -> int:
        """How many wavefronts there are."""
        return 1 + max(self.range(t)[1] for t in range(len(self.names)))

    def widths(self) -> Ints:
        """Count each wavefront's steps: a convolution of combs, one a dimension, ``(1 - x^(sn)) / (1 - x^s)`` as a series."""
        total = np.zeros(self.span, np.int64)
        for t, vector in enumerate(self.vectors):
            low, high = self.range(t)
            count = np.zeros(high - low + 1, np.int64)
            count[0] = 1
            for a, n in zip(vector, self.sizes, strict=True):
                count = _comb(count, abs(a), n)
            total[low : high + 1] += count
        return total

    def wavefront(self, k: int) -> Ints:
        """Give the numbers of the steps of one wavefront, found without visiting the others."""
        cells = int(np.prod(self.sizes, dtype=np.int64))
        found: list[Ints] = []
        for t, vector in enumerate(self.vectors):
            moving = [d for d, a in enumerate(vector) if a]
            # Every coordinate but one is free; that of the longest moving dimension follows.
            solved = max(moving, key=lambda d: self.sizes[d]) if moving else None
            free = [np.arange(n) if d != solved else np.zeros(1, np.int64) for d, n in enumerate(self.sizes)]
            mesh = [axis.ravel() for axis in np.meshgrid(*free, indexing="ij")]
            rest = k - self.offsets[t] - sum((a * x for a, x in zip(vector, mesh, strict=True)), np.zeros_like(mesh[0]))
            keep = rest == 0
            if solved is not None:
                at, remainder = np.divmod(rest, vector[solved])
                keep = (remainder == 0) & (at >= 0) & (at < self.sizes[solved])
                mesh[solved] = at
            flat = np.ravel_multi_index([x[keep] for x in mesh], self.sizes)
            found.append(t * cells + np.sort(flat))
        return np.concatenate(found)


def _comb(count: Ints, spacing: int, n: int) -> Ints:
    if spacing == 0:
        return count * n
    result = count.copy()
    result[spacing * n :] -= count[: max(0, len(count) - spacing * n)]
    padded = np.zeros(-(-len(result) // spacing) * spacing, np.int64)
    padded[: len(result)] = result
    return np.cumsum(padded.reshape(-1, spacing), axis=0).ravel()[: len(result)]


# -- what a spec depends on --------------------------------------------------------------------------------------------


def dependences(spec: GridSpec) -> tuple[Dependence, ...] | None:
    """List the constant vectors of a uniform grid; None where a direction alternates or a state wraps."""
    for transform in spec.transforms.values():
        if transform.start == "wrap" or any(len(set(d.cycle)) > 1 for d in transform.direction):
            return None
    # Everywhere alike, so that one point tells.
    origin, extent = np.zeros((1, len(spec.dimensions)), np.int64), np.ones(len(spec.dimensions), np.int64)
    found = [
        Dependence(spec.numbers[name], spec.numbers[wait.of.name], tuple(wait.looked[0].tolist()))
        for name, transform in spec.transforms.items()
        for wait in waits(spec, transform, origin, extent)
    ]
    return tuple(dict.fromkeys(found))


def of_steps(spec: GridSpec, sizes: tuple[int, ...]) -> Planes | None:
    """Find the hyperplanes that are the wavefronts of steps, or None where that cannot be shown."""
    needs = dependences(spec)
    return None if needs is None else planes(tuple(spec.transforms), needs, sizes)


def of_cells(spec: GridSpec, sizes: tuple[int, ...]) -> Planes | None:
    """Do the same for whole cells: a cell waits for another where any of its steps does."""
    needs = dependences(spec)
    if needs is None:
        return None
    apart = tuple(dict.fromkeys(Dependence(0, 0, d.offset) for d in needs if any(d.offset)))
    return planes(("cell",), apart, sizes)


# -- finding and proving -----------------------------------------------------------------------------------------------


def planes(names: tuple[str, ...], needs: Sequence[Dependence], sizes: tuple[int, ...]) -> Planes | None:
    """Fit an affine schedule to the longest paths of a small grid, and prove it on the grid at its real size."""
    reach = [max((abs(d.offset[e]) for d in needs), default=0) for e in range(len(sizes))]
    small = tuple(min(n, max(SMALL, 2 * r + 2)) for n, r in zip(sizes, reach, strict=True))
    if int(np.prod(small)) * len(names) > 200_000:
        return None
    try:
        levels = _explicit(len(names), needs, small)
    except graph.Cycle:
        return None
    fitted = _fit(levels.reshape(len(names), *small), small)
    if fitted is None:
        return None
    vectors, least = fitted
    offsets = tuple(
        c - sum(min(a * (n - 1), 0) for a, n in zip(vector, sizes, strict=True)) for vector, c in zip(vectors, least, strict=True)
    )
    candidate = Planes(names, sizes, vectors, offsets)
    return candidate if proven(candidate, needs) else None


def _explicit(count: int, needs: Sequence[Dependence], sizes: tuple[int, ...]) -> Ints:
    """Work out the longest paths of a small grid; raises graph.Cycle where steps wait for each other."""
    number = np.arange(int(np.prod(sizes)), dtype=np.int64).reshape(sizes)
    before: list[Ints] = [np.zeros(0, np.int64)]
    after: list[Ints] = [np.zeros(0, np.int64)]
    for need in needs:
        box = _exists(need, sizes)
        if box is None:
            continue
        here = tuple(slice(low, high) for low, high in box)
        there = tuple(slice(low + o, high + o) for (low, high), o in zip(box, need.offset, strict=True))
        before.append(need.before * number.size + number[there].ravel())
        after.append(need.after * number.size + number[here].ravel())
    return graph.longest_paths(count * number.size, np.concatenate(before), np.concatenate(after))


def _fit(levels: Ints, sizes: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]] | None:
    """Find slopes and least levels that reproduce a small grid's levels, or None."""
    vectors: list[tuple[int, ...]] = []
    for own in levels:
        corner = own[(0,) * len(sizes)]
        vector = tuple(
            int(own[tuple(int(e == d) for e in range(len(sizes)))] - corner) if n > 1 else 0 for d, n in enumerate(sizes)
        )
        plane = Planes(("",), sizes, (vector,), (int(corner),)).levels().reshape(sizes)
        if not np.array_equal(plane, own):
            return None
        vectors.append(vector)
    return tuple(vectors), tuple(int(own.min()) for own in levels)


Box = tuple[tuple[int, int], ...]


def _exists(need: Dependence, sizes: tuple[int, ...]) -> Box | None:
    """Give the box of cells whose dependence lies on the grid, as half-open ranges."""
    box = tuple((max(0, -o), min(n, n - o)) for o, n in zip(need.offset, sizes, strict=True))
    return box if all(low < high for low, high in box) else None


def proven(candidate: Planes, needs: Sequence[Dependence]) -> bool:
    """Tell whether an affine schedule is valid and tight: then it is that of the longest paths."""
    tight: list[list[Box]] = [[] for _ in candidate.names]
    for need in needs:
        box = _exists(need, candidate.sizes)
        if box is None:
            continue
        late, early = candidate.vectors[need.after], candidate.vectors[need.before]
        slopes = [a - b for a, b in zip(late, early, strict=True)]
        shift = sum(b * o for b, o in zip(early, need.offset, strict=True))
        constant = candidate.offsets[need.after] - candidate.offsets[need.before] - shift
        least = constant + sum(min(s * low, s * (high - 1)) for s, (low, high) in zip(slopes, box, strict=True))
        if least < 1:
            return False
        if least == 1 and not any(s and high - low > 1 for s, (low, high) in zip(slopes, box, strict=True)):
            tight[need.after].append(box)
    return all(_grounded(candidate, t, boxes) for t, boxes in enumerate(tight))


def _grounded(candidate: Planes, t: int, boxes: Sequence[Box]) -> bool:
    """Tell whether every cell outside the boxes is in wavefront 0, and no cell is before it."""
    if candidate.range(t)[0] < 0:
        return False
    cuts = [
        sorted({0, n, *(x for box in boxes for x in box[d] if 0 < x < n)}) for d, n in enumerate(candidate.sizes)
    ]
    pieces: Iterable[tuple[tuple[int, int], ...]] = itertools.product(*(list(itertools.pairwise(c)) for c in cuts))
    for piece in pieces:
        if any(all(l >= a and h <= b for (l, h), (a, b) in zip(piece, box, strict=True)) for box in boxes):
            continue
        high = candidate.offsets[t] + sum(max(a * l, a * (h - 1)) for a, (l, h) in zip(candidate.vectors[t], piece, strict=True))
        if high > 0:
            return False
    return True


# -- Lamport's vector --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vector:
    """One schedule vector for all transforms: ``λ · p + γ_t``; ``span`` is the number of wavefronts that it makes."""

    direction: tuple[int, ...]
    delays: tuple[int, ...]
    span: int


LARGEST = 9
"""Coefficients that are tried, from minus to plus this."""


def optimal_vectors(needs: Sequence[Dependence], transforms: int, sizes: tuple[int, ...]) -> tuple[Vector, ...]:
    """Find all schedule vectors with coefficients up to ``LARGEST`` that make the fewest wavefronts; none where none serves.

    Around every cycle of dependences with sum ``o`` and length ``l`` a vector must satisfy ``-λ · o ≥ l``; the delays γ then
    are longest paths.  Where several serve equally, those with the least coefficients come first."""
    import networkx as nx

    limit = LARGEST
    while (2 * limit + 1) ** len(sizes) > 300_000:
        limit -= 1
    among = cast("Any", nx.MultiDiGraph())
    among.add_nodes_from(range(transforms))
    for need in needs:
        if _exists(need, sizes) is not None:
            among.add_edge(need.before, need.after, offset=need.offset)
    axes = np.meshgrid(*[np.arange(-limit, limit + 1)] * len(sizes), indexing="ij")
    vectors = np.stack([axis.ravel() for axis in axes], axis=1)
    sums = {
        (tuple(np.sum([among.edges[e]["offset"] for e in cycle], axis=0).tolist()), len(cycle))
        for cycle in _cycles(among)
    }
    for offset, length in sums:
        vectors = vectors[-(vectors @ np.asarray(offset)) >= length]
    costs = np.abs(vectors) @ (np.asarray(sizes) - 1)
    order = np.lexsort((np.abs(vectors).sum(axis=1), costs))
    best: list[Vector] = []
    for i in order.tolist():
        if best and int(costs[i]) + 1 > best[0].span:
            break
        vector = tuple(vectors[i].tolist())
        delays = _delays(transforms, needs, vector, sizes)
        if delays is None:
            continue
        span = int(costs[i]) + max(delays) + 1
        if not best or span < best[0].span:
            best = []
        if not best or span == best[0].span:
            best.append(Vector(vector, delays, span))
        if len(best) >= 64:
            break
    return tuple(best)


def _cycles(among: Any) -> Iterable[list[tuple[int, int, int]]]:
    """List the simple cycles of the reduced dependence graph, as edges (before, after, which of several)."""
    import networkx as nx

    plain: Any = nx.DiGraph(among)
    found: Iterable[list[int]] = itertools.islice(nx.simple_cycles(plain), 2000)
    for nodes in found:
        choices = [[(a, b, int(key)) for key in among[a][b]] for a, b in itertools.pairwise([*nodes, nodes[0]])]
        yield from (list(edges) for edges in itertools.islice(itertools.product(*choices), 2000))


def _delays(count: int, needs: Sequence[Dependence], vector: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Find the least delays that make a vector valid (Bellman and Ford); None where a cycle forbids it."""
    delay = [0] * count
    live = [need for need in needs if _exists(need, sizes) is not None]
    for _ in range(count + 1):
        changed = False
        for need in live:
            wanted = delay[need.before] + 1 + sum(a * o for a, o in zip(vector, need.offset, strict=True))
            if wanted > delay[need.after]:
                delay[need.after], changed = wanted, True
        if not changed:
            return tuple(delay)
    return None
