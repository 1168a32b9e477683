"""When the steps of a grid can run: its wavefronts, batched by the weights that they share, and its longest path.

A *step* is the update of one transform at one cell; a *wavefront* is all steps whose longest path of predecessors is
equally long (levels of a longest path, Kahn 1962).  ``work`` counts steps, ``span`` wavefronts, ``parallelism`` is work / span
(Brent 1974).  Where every dependence is one constant vector the wavefronts follow from a hyperplane (Lamport 1974) without
visiting a cell: see ``gridc.scheduling.hyperplane``.  The explicit graph is the check, and the way for all other grids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np

from gridc import plain_text
from gridc.errors import ResourceError
from gridc.language.lattice import Ints, waits, weights
from gridc.language.spec import GridSpec, Transform
from gridc.options import LARGEST, MOST_THREADS, integer
from gridc.resources import available_memory
from gridc.scheduling import counts, graph, hyperplane, order
from gridc.scheduling.graph import Step, StepGraph
from gridc.scheduling.plan import Plan, frugal, plan

MOST_STEPS = 6_000_000
"""Steps beyond which the explicit graph would take gigabytes, and is refused."""
STEP_BYTES = 400
"""What a step of the explicit graph takes while it is levelled, about."""
MOST_WAVEFRONTS = 20_000_000
"""Wavefronts beyond which their widths alone would take gigabytes."""



@dataclass(frozen=True)
class Batch:
    """Steps of one wavefront that multiply by the same weights: one matrix product.

    ``owner`` is the transform whose ``W`` it is, ``weight`` the flat index over the untied dimensions."""

    owner: str
    weight: int
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class CellFigures:
    """The same grid, cell by cell: ``work`` cells in ``span`` wavefronts of cells of the given ``widths``."""

    work: int
    span: int
    widths: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many cells the widest wavefront has."""
        return max(self.widths)

    @property
    def parallelism(self) -> float:
        """Cells a wavefront on the average."""
        return self.work / self.span



@dataclass(frozen=True, repr=False)
class Timing:
    """When the steps of a grid of given sizes can run; everything is worked out when first asked for."""

    spec: GridSpec
    sizes: tuple[int, ...]

    # -- figures -------------------------------------------------------------------------------------------------------

    @property
    def binding(self) -> dict[str, int]:
        """The size of every symbol."""
        return {d.size: n for d, n in zip(self.spec.dimensions, self.sizes, strict=True) if isinstance(d.size, str)}

    @cached_property
    def work(self) -> int:
        """Steps."""
        return self.cell_count * len(self.spec.transforms)

    @cached_property
    def cell_count(self) -> int:
        """How many cells the grid has: the product of its sizes."""
        count = 1
        for n in self.sizes:
            count *= n
        return count

    @property
    def span(self) -> int:
        """Wavefronts: the steps on the longest path."""
        return len(self.widths)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """How many steps each wavefront has."""
        if self.plane is not None:
            if self.plane.span > MOST_WAVEFRONTS:
                raise ResourceError(f"grid '{self.spec.name}' has {self.plane.span:,} wavefronts, more than {MOST_WAVEFRONTS:,}")
            return tuple(self.plane.widths().tolist())
        return tuple(np.bincount(self.level_numbers).tolist())

    @property
    def width(self) -> int:
        """Steps of the widest wavefront."""
        return max(self.widths)

    @property
    def parallelism(self) -> float:
        """Work / span: how many workers could be kept busy on average (Brent 1974)."""
        return self.work / self.span

    @cached_property
    def cells(self) -> CellFigures | None:
        """Wavefronts of whole cells; None where two cells wait for each other, as in a bidirectional grid."""
        plane = hyperplane.of_cells(self.spec, self.sizes)
        if plane is not None:
            widths = plane.widths()
        else:
            steps = self.steps
            before, after = steps.before % steps.cells, steps.after % steps.cells
            apart = before != after
            try:
                widths = np.bincount(graph.longest_paths(steps.cells, before[apart], after[apart]))
            except graph.Cycle:
                return None
        return CellFigures(self.cell_count, len(widths), tuple(widths.tolist()))

    # -- steps ---------------------------------------------------------------------------------------------------------

    @cached_property
    def plane(self) -> hyperplane.Planes | None:
        """The hyperplanes that the wavefronts are, where the grid is uniform and they provably are its longest paths."""
        return hyperplane.of_steps(self.spec, self.sizes)

    @cached_property
    def vectors(self) -> tuple[hyperplane.Vector, ...]:
        """The schedule vectors that serve all transforms at once and make the fewest wavefronts (Lamport 1974), those with the
        least coefficients first; none where the grid is not uniform, or where transforms travel against each other."""
        needs = hyperplane.dependences(self.spec)
        return () if needs is None else hyperplane.optimal_vectors(needs, len(self.spec.transforms), self.sizes)

    @cached_property
    def steps(self) -> StepGraph:
        """The explicit graph as arrays.  Raises ResourceError where it has more than ``MOST_STEPS`` steps."""
        if self.work > MOST_STEPS:
            raise ResourceError(
                f"the explicit graph of grid '{self.spec.name}' has {self.work:,} steps, more than the {MOST_STEPS:,} that "
                "fit; the figures of a uniform grid do not need it, a smaller size shows the same shape"
            )
        needed, available = STEP_BYTES * self.work, available_memory()
        if available is not None and needed > available:
            raise ResourceError(f"the explicit graph of grid '{self.spec.name}' has {self.work:,} steps, which take about "
                                f"{needed / 1e9:,.1f} GB, and {available / 1e9:,.1f} GB are available")  # fmt: skip
        return graph.build(self.spec, self.sizes)

    @cached_property
    def level_numbers(self) -> Ints:
        """The wavefront of every step, by the step's number (see ``graph.StepGraph``)."""
        if self.plane is not None and self.work <= MOST_STEPS:
            return self.plane.levels()
        return self.steps.levels

    @cached_property
    def levels(self) -> Mapping[Step, int]:
        """The wavefront of each step, looked up when asked for; keys may be plain tuples."""
        return Levels(self)

    @cached_property
    def wavefronts(self) -> Sequence[tuple[Step, ...]]:
        """The steps of each wavefront, made when asked for."""
        return Wavefronts(self)

    def number(self, step: tuple[str, Sequence[int]]) -> int:
        """Give the number of a step; KeyError where the grid has no such step."""
        name, cell = step
        if name not in self.spec.transforms or len(cell) != len(self.sizes):
            raise KeyError(step)
        flat = 0
        for at, n in zip(cell, self.sizes, strict=True):
            if not 0 <= at < n:
                raise KeyError(step)
            flat = flat * n + int(at)
        return self.spec.numbers[name] * self.cell_count + flat

    def step(self, number: int) -> Step:
        """Give the step with this number."""
        transform, flat = divmod(int(number), self.cell_count)
        cell: list[int] = []
        for n in reversed(self.sizes):
            flat, at = divmod(flat, n)
            cell.append(at)
        return Step(list(self.spec.transforms)[transform], tuple(reversed(cell)))

    def predecessors(self, step: tuple[str, Sequence[int]]) -> list[tuple[Step, int]]:
        """Give what a step waits for, without the graph: steps, each with the read that finds it (-1 is the carried state)."""
        self.number(step)
        name, cell = step
        at, extent = np.asarray([cell], np.int64), np.asarray(self.sizes, np.int64)
        return [
            (Step(wait.of.name, tuple(wait.points[0].tolist())), wait.by)
            for wait in waits(self.spec, self.spec.transforms[name], at, extent) if wait.steps[0]
        ]  # fmt: skip

    @cached_property
    def critical_path(self) -> tuple[Step, ...]:
        """One of the longest paths, first step first: at every step the predecessor of the wavefront before it, that of the
        same transform where there is one."""
        return tuple(reversed(list(_by_planes(self) if self.plane is not None else _by_graph(self))))

    # -- batches -------------------------------------------------------------------------------------------------------

    def batches(self, wavefront: int) -> tuple[Batch, ...]:
        """List the matrix products of one wavefront: its steps by the weights that they share."""
        found: dict[tuple[str, int], list[Step]] = {}
        for step in self.wavefronts[wavefront]:
            transform = self.spec.transforms[step.transform]
            found.setdefault((self.spec.weight_owner(step.transform), self.weight(transform, step.cell)), []).append(step)
        return tuple(Batch(owner, weight, tuple(steps)) for (owner, weight), steps in found.items())

    def weight(self, transform: Transform, cell: Sequence[int]) -> int:
        """Tell which of a transform's weights it uses at a cell: the flat index over its untied dimensions."""
        return int(weights(transform, np.asarray([cell], np.int64), self.sizes)[0])

    @property
    def order(self) -> str:
        """The order in which the fused sweep executes the steps of a mini-batch of 16, by name: few wide batches."""
        return self.order_for(16)

    def order_for(self, batch: int) -> str:
        """Name the order in which the fused sweep executes the steps of so many examples, in one lane, by name.

        Raises ResourceError where the explicit graph is too large."""
        return self.chosen(batch).name

    def chosen(self, batch: int) -> order.Order:
        """Give that order.  Raises ResourceError as ``order_for``."""
        return (order.cheapest if self.spec.schedule.keep == "all" else frugal)(self.steps, batch)

    def freed(self, batch: int) -> dict[str, tuple[int, int]]:
        """Name the transforms whose products wait for no state of their own: how many there are, and for how many batches.

        Raises ResourceError where the explicit graph is too large."""
        return order.freed(self.steps, order.cheapest(self.steps, batch))

    def plan(self, batch: int, threads: int = 1, itemsize: int = 4) -> Plan:
        """Plan what the fused sweep runs for so many examples that fill the grid, in numbers of so many bytes.

        Raises ResourceError where the explicit graph is too large."""
        batch, threads = integer("batch", batch, high=LARGEST), integer("threads", threads, high=MOST_THREADS)
        _ = self.steps
        room = counts.room(self.spec, self.sizes, batch, itemsize)
        return plan(self.spec, self.sizes, batch, None, threads, room)

    def __repr__(self) -> str:
        sizes = plain_text.sizes((d.name, n) for d, n in zip(self.spec.dimensions, self.sizes, strict=True))
        return f"<{type(self).__name__} of {self.spec.name}, {sizes}: {self.work} steps in {self.span} wavefronts>"


# -- one step after the other -----------------------------------------------------------------------------------------


MOST_SORTED = 6_000_000
"""Steps beyond which a wavefront is found by its hyperplane rather than by sorting all steps by level."""


class Levels(Mapping[Step, int]):
    """The wavefront of each step, looked up; iterating goes over all steps by their number."""

    def __init__(self, timing: Timing):
        self._timing = timing

    def __getitem__(self, step: Any) -> int:
        number, plane = self._timing.number(step), self._timing.plane
        return plane.level(step[0], step[1]) if plane is not None else int(self._timing.level_numbers[number])

    def __iter__(self) -> Iterator[Step]:
        return (self._timing.step(i) for i in range(self._timing.work))

    def __len__(self) -> int:
        return self._timing.work


class Wavefronts(Sequence[tuple[Step, ...]]):
    """The steps of each wavefront: transforms in the order of declaration, and of each its cells row by row."""

    def __init__(self, timing: Timing):
        self._timing = timing

    @cached_property
    def _sorted(self) -> tuple[Ints, Ints]:
        levels = self._timing.level_numbers
        order = np.argsort(levels, kind="stable")
        return order, np.searchsorted(levels[order], np.arange(self._timing.span + 1))

    def numbers(self, wavefront: int) -> Ints:
        """Give the numbers of a wavefront's steps."""
        if self._timing.plane is not None and self._timing.work > MOST_SORTED:
            return self._timing.plane.wavefront(wavefront)
        order, ends = self._sorted
        return order[ends[wavefront] : ends[wavefront + 1]]

    @overload
    def __getitem__(self, index: SupportsIndex) -> tuple[Step, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Step, ...]]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        k = int(index)
        if not -len(self) <= k < len(self):
            raise IndexError(f"there are {len(self)} wavefronts, 0 to {len(self) - 1}; found {k}")
        timing = self._timing
        numbers = self.numbers(k % len(self))
        names = list(timing.spec.transforms)
        cells = np.stack(np.unravel_index(numbers % timing.cell_count, timing.sizes), axis=1).tolist()
        return tuple(
            Step(names[t], tuple(cell)) for t, cell in zip((numbers // timing.cell_count).tolist(), cells, strict=True)
        )

    def __len__(self) -> int:
        return self._timing.span

    def __repr__(self) -> str:
        return f"<{len(self)} wavefronts of 1 to {self._timing.width} steps>"


# -- the longest path --------------------------------------------------------------------------------------------------


def _by_planes(timing: Timing) -> Iterator[Step]:
    """Walk backwards on a uniform grid, by its constant vectors: as many steps as there are wavefronts, whatever its size."""
    plane, names = timing.plane, list(timing.spec.transforms)
    assert plane is not None
    needs: tuple[hyperplane.Dependence, ...] = hyperplane.dependences(timing.spec) or ()
    # The carried state comes first among a transform's dependences, then its reads in order; the sort keeps that order.
    own = [sorted((d for d in needs if d.after == t), key=lambda d: d.before != d.after) for t in range(len(names))]
    step = timing.wavefronts[timing.span - 1][0]
    t, level = names.index(step.transform), timing.span - 1
    cell: tuple[int, ...] = step.cell
    yield step
    while level:
        level -= 1
        for need in own[t]:
            point: tuple[int, ...] = tuple(x + o for x, o in zip(cell, need.offset, strict=True))
            inside = all(0 <= x < n for x, n in zip(point, timing.sizes, strict=True))
            if inside and plane.level(names[need.before], point) == level:
                t, cell = need.before, point
                break
        yield Step(names[t], cell)


def _by_graph(timing: Timing) -> Iterator[Step]:
    """Walk the same path, by way of the explicit graph's arrays: all steps' late predecessors at once."""
    levels, steps = timing.level_numbers, timing.steps
    late = levels[steps.before] == levels[steps.after] - 1
    before, after, block = steps.before[late], steps.after[late], steps.block[late]
    other = before // timing.cell_count != after // timing.cell_count
    # Written last wins: the first of the reads, and before all of them those of the same transform.
    order = np.lexsort((block, other))[::-1]
    chosen = np.full(timing.work, -1, np.int64)
    chosen[after[order]] = before[order]
    number = int(np.flatnonzero(levels == timing.span - 1)[0])
    yield timing.step(number)
    while levels[number]:
        number = int(chosen[number])
        yield timing.step(number)
