"""The schedule of a grid: its steps in wavefronts, batched by the weights that they share, and what follows from them.

A *step* is the update of one transform at one cell; a *wavefront* is all steps whose longest path of predecessors is
equally long (levels of a longest path, Kahn 1962).  ``work`` counts steps, ``span`` wavefronts, ``parallelism`` is work / span
(Brent 1974).  Where every dependence is one constant vector the wavefronts follow from a hyperplane (Lamport 1974) without
visiting a cell: see ``hyperplane``.  The explicit graph is the check, and the way for all other grids.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc.errors import ResourceError, UsageError, listed, nearest
from gridc.language.lattice import Ints, carried, far_end, locate, source
from gridc.language.spec import GridSpec, Transform
from gridc.options import LARGEST
from gridc.resources import available_memory
from gridc.scheduling import graph, hyperplane
from gridc.scheduling.graph import Step, StepGraph
from gridc.scheduling.wavefronts import Levels, Wavefronts

if TYPE_CHECKING:
    import networkx as nx

    from gridc.scheduling.costs import Model, Simulation, SpeedUp

MOST_STEPS = 6_000_000
"""Steps beyond which the explicit graph would take gigabytes, and is refused."""
STEP_BYTES = 400
"""What a step of the explicit graph takes while it is levelled, about."""
MOST_WAVEFRONTS = 20_000_000
"""Wavefronts beyond which their widths alone would take gigabytes."""


def schedule(spec: GridSpec | str | os.PathLike[str], /, **sizes: int) -> Schedule:
    """The schedule of a grid; ``spec`` may be a file or YAML text, and every keyword is the size of a symbol.

    Raises SpecError for a text that means nothing, and UsageError for a size that is missing, unknown or not positive."""
    if not isinstance(spec, GridSpec):
        from gridc.language.reader import read

        spec = read(spec)
    for word, size in sizes.items():
        if word not in spec.symbols:
            raise UsageError(_no_symbol(spec, word))
        if not _is_size(size):
            up_to = f", up to {LARGEST:,}" if _is_number(size) and size > LARGEST else ""
            raise UsageError(f"size '{word}': found {size!r}; expected a positive integer{up_to}")
    missing = [symbol for symbol in spec.symbols if symbol not in sizes]
    if missing:
        names = listed([f"'{symbol}'" for symbol in missing], "and")
        example = ", ".join(f"{symbol}=20" for symbol in missing)
        raise UsageError(
            f"grid '{spec.name}' needs the size{'s' * (len(missing) > 1)} of {names}: gridc.schedule(spec, {example}), or "
            + " ".join(f"--size {symbol}=20" for symbol in missing)
        )
    return Schedule(spec, spec.sizes({word: int(size) for word, size in sizes.items()}))


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | np.integer)


def _is_size(value: Any) -> bool:
    return _is_number(value) and bool(1 <= value <= LARGEST)


def _no_symbol(spec: GridSpec, word: str) -> str:
    own = {d.name: d.size for d in spec.dimensions}
    if word in own:
        size = own[word]
        if isinstance(size, str):
            return f"'{word}' is a dimension; its size is the symbol '{size}' — give {size}=… instead"
        return f"dimension '{word}' has the fixed size {size}; only symbols are given at the call"
    known = spec.symbols
    expected = f"expected {listed(known)}" if known else "every dimension of it has a fixed size"
    return f"grid '{spec.name}' has no symbol '{word}'; {expected}{nearest(word, known)}"


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
        return max(self.widths)

    @property
    def parallelism(self) -> float:
        return self.work / self.span


@dataclass(frozen=True, repr=False)
class Schedule:
    """A grid of given sizes, in wavefronts.  Made by ``gridc.schedule``; everything is worked out when first asked for."""

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
                widths = np.bincount(graph.longest_paths(steps.cells, before[apart], after[apart], steps))
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
    def graph(self) -> nx.DiGraph[Step]:
        """The dependency DAG: nodes ``(transform, coordinate)`` with their wavefront, weights and more, edges with the read that
        they are (``exports.to_networkx`` says which attributes)."""
        from gridc.pictures import exports

        return exports.to_networkx(self)

    @cached_property
    def levels(self) -> Mapping[Step, int]:
        """The wavefront of each step, looked up when asked for; keys may be plain tuples."""
        return Levels(self)

    @cached_property
    def wavefronts(self) -> Sequence[tuple[Step, ...]]:
        """The steps of each wavefront, made when asked for."""
        return Wavefronts(self)

    def number(self, step: tuple[str, Sequence[int]]) -> int:
        """The number of a step; KeyError where the grid has no such step."""
        name, cell = step
        if name not in self.spec.transforms or len(cell) != len(self.sizes):
            raise KeyError(step)
        flat = 0
        for at, n in zip(cell, self.sizes, strict=True):
            if not 0 <= at < n:
                raise KeyError(step)
            flat = flat * n + int(at)
        return list(self.spec.transforms).index(name) * self.cell_count + flat

    def step(self, number: int) -> Step:
        """The step with this number."""
        transform, flat = divmod(int(number), self.cell_count)
        cell: list[int] = []
        for n in reversed(self.sizes):
            flat, at = divmod(flat, n)
            cell.append(at)
        return Step(list(self.spec.transforms)[transform], tuple(reversed(cell)))

    def predecessors(self, step: tuple[str, Sequence[int]]) -> list[tuple[Step, int]]:
        """What a step waits for, without the graph: steps, each with the read that finds it (-1 is the carried state)."""
        self.number(step)
        name, cell = step
        transform = self.spec.transforms[name]
        at, extent = np.asarray([cell], np.int64), np.asarray(self.sizes, np.int64)
        looked: list[tuple[Transform, Ints, int]] = []
        if transform.has_memory or transform.mechanism.uses_hidden:
            looked += [(transform, point, -1) for point in carried(transform, at)]
        looked += [(self.spec.transforms[r.of], source(self.spec, r, at), i) for i, r in enumerate(transform.reads)]
        result: list[tuple[Step, int]] = []
        for of, point, by in looked:
            found = locate(of, point, extent)
            if not found.inside[0] and of.start == "wrap" and found.entering[0]:
                point, there = far_end(of, point, extent)
                if not there[0]:
                    continue
            elif not found.inside[0]:
                continue
            result.append((Step(of.name, tuple(point[0].tolist())), by))
        return result

    @cached_property
    def critical_path(self) -> tuple[Step, ...]:
        """One of the longest paths, first step first: at every step the predecessor of the wavefront before it, that of the
        same transform where there is one."""
        from gridc.scheduling import critical_path

        return critical_path.find(self)

    # -- batches -------------------------------------------------------------------------------------------------------

    def batches(self, wavefront: int) -> tuple[Batch, ...]:
        """The matrix products of one wavefront: its steps by the weights that they share."""
        found: dict[tuple[str, int], list[Step]] = {}
        for step in self.wavefronts[wavefront]:
            transform = self.spec.transforms[step.transform]
            found.setdefault((self.spec.weight_owner(step.transform), self.weight(transform, step.cell)), []).append(step)
        return tuple(Batch(owner, weight, tuple(steps)) for (owner, weight), steps in found.items())

    def weight(self, transform: Transform, cell: Sequence[int]) -> int:
        """Which of a transform's weights it uses at a cell: the flat index over its untied dimensions."""
        flat = 0
        for d in transform.untied:
            flat = flat * self.sizes[d] + int(cell[d])
        return flat

    @property
    def order(self) -> str:
        """The order in which the fused sweep executes the steps of a mini-batch of 16, by name: few wide batches."""
        return self.order_for(16)

    def order_for(self, batch: int) -> str:
        """The order of execution that the cost model of ``gridc.scheduling.order`` prefers for so many examples."""
        from gridc.scheduling import order

        if self.work > 500_000:
            return "wavefronts of steps"  # comparing the orders would take longer than the question is worth
        steps = self.steps
        at = np.indices(self.sizes, dtype=np.int64).reshape(len(self.sizes), -1).T
        from gridc.scheduling.layout import weights

        owned = tuple(weights(self.spec, t, at, self.sizes) for t in self.spec.transforms.values())
        return order.cheapest(steps, owned, batch).name

    # -- costs ---------------------------------------------------------------------------------------------------------

    def speedup(self, workers: int, model: Model | None = None) -> SpeedUp:
        """Bounds of the speed-up on so many workers, and that of a simulated list schedule."""
        from gridc.scheduling import costs

        return costs.speedup(self, workers, model)

    def simulate(self, workers: int, model: Model | None = None) -> Simulation:
        """A list schedule on so many workers, step by step."""
        from gridc.scheduling import costs

        return costs.simulate(self, workers, model)

    # -- other doors ---------------------------------------------------------------------------------------------------

    def to_json(self, *, steps: bool = True, workers: int = 8, batch: int = 16) -> str:
        """The schedule as JSON; ``exports`` documents the format.  Without ``steps``, the figures alone.  Costs are those of a
        mini-batch of ``batch`` examples, the speed-up that on so many ``workers``."""
        from gridc.pictures import exports

        return exports.to_json(self, steps=steps, workers=workers, batch=batch)

    @staticmethod
    def from_json(text: str) -> Schedule:
        """The schedule that ``to_json`` wrote; DataError where the text is no schedule, or says what its spec does not."""
        from gridc.pictures import exports

        return exports.from_json(text)

    def to_dot(self) -> str:
        """The dependency DAG in Graphviz's language, a rank a wavefront."""
        from gridc.pictures import exports

        return exports.to_dot(self)

    def to_trace(self, workers: int = 4, model: Model | None = None) -> str:
        """The simulated workers as Chrome trace events (JSON), which Perfetto and chrome://tracing open."""
        from gridc.pictures import exports

        return exports.to_trace(self, workers, model)

    def to_svg(self, picture: str = "grid", workers: int = 4) -> str:
        """A picture as SVG: ``grid``, ``cell``, ``wavefronts``, ``widths``, ``alive``, or so many simulated ``workers``."""
        from gridc.pictures import drawing

        return drawing.svg(self, picture, workers)

    def to_html(self, workers: int = 4, model: Model | None = None) -> str:
        """One self-contained page to explore the schedule in, with the timeline of so many simulated workers."""
        from gridc.pictures import explorer

        return explorer.page(self, workers, model)

    def __str__(self) -> str:
        from gridc.scheduling import report

        return report.figures(self)

    def __repr__(self) -> str:
        sizes = " × ".join(f"{d.name} {n}" for d, n in zip(self.spec.dimensions, self.sizes, strict=True))
        return f"<Schedule of {self.spec.name}, {sizes}: {self.work} steps in {self.span} wavefronts>"

    def _repr_html_(self) -> str:
        from gridc.pictures import drawing

        return drawing.notebook(self)
