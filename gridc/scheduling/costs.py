"""What a schedule costs: arithmetic, memory, and the time on several workers, bounded and simulated.

Bounds of the time ``T_P`` of unit steps on P workers, from work W, span S and the widths w_k of the wavefronts:

- work and span laws: ``T_P ≥ max(W / P, S)``;
- Brent 1974: going wavefront by wavefront takes ``Σ_k ⌈w_k / P⌉ ≤ S + (W - S) / P``;
- Graham 1966: whatever a list schedule takes is at most ``2 - 1 / P`` times the least possible.

They know nothing of what a step costs, nor of vectors that travel between workers; the simulation does.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridc.errors import UsageError
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.options import MOST_WORKERS
from gridc.scheduling import layout, order
from gridc.scheduling.graph import Step
from gridc.scheduling.schedule import Schedule

Floats = npt.NDArray[np.float64]

POINTWISE = 10
"""Floating-point operations that a pre-activation costs besides its product: a squashing function is about eight."""
MOST_SIMULATED = 300_000
"""Steps beyond which a list schedule is not simulated."""
MOST_TRIED = 200_000_000
"""Steps times workers beyond which a list schedule takes more than some seconds, as every step looks at every idle worker."""
MOST_COUNTED = 3_000_000
"""Steps beyond which lifetimes are not counted."""


# -- arithmetic and memory ---------------------------------------------------------------------------------------------


def step_flops(spec: GridSpec, name: str) -> int:
    """Floating-point operations of one step for one example, forward; a multiply-add counts two.

    A memory cell's attention is left out: it depends on the number of facts."""
    transform = spec.transforms[name]
    if transform.cell == "memory":
        return 2 * transform.hidden**2
    columns = len(transform.gates) * transform.hidden
    return (2 * spec.rows(name) + POINTWISE) * columns


def step_numbers(spec: GridSpec, name: str) -> tuple[int, int]:
    """Numbers that one step makes for one example: its new vectors, and all that training keeps of it besides
    (what it read and its pre-activations, and the gradients of its vectors)."""
    transform = spec.transforms[name]
    vectors = transform.hidden * (2 if transform.has_memory else 1)
    if transform.cell == "pass":
        return vectors, vectors
    return vectors, spec.rows(name) + len(transform.gates) * transform.hidden + vectors


def weight_numbers(plan: Schedule) -> int:
    """How many parameters the grid has."""
    from gridc.language import parameters

    return sum(int(np.prod(shape)) for shape in parameters.shapes(plan.spec).values())


@dataclass(frozen=True)
class Arithmetic:
    """Of one mini-batch: floating-point operations and bytes.  ``forward_bytes`` are read or written by the steps and their
    weights; ``training_bytes`` is what a training step keeps at its peak, parameters and their gradients included."""

    flops: int
    training_flops: int
    forward_bytes: int
    peak_forward_bytes: int | None
    training_bytes: int

    @property
    def intensity(self) -> float:
        """Floating-point operations a byte."""
        return self.flops / self.forward_bytes


def arithmetic(plan: Schedule, batch: int = 16, itemsize: int = 4) -> Arithmetic:
    """FLOPs and bytes of one mini-batch of numbers of ``itemsize`` bytes; training takes two more products a product."""
    spec, cells = plan.spec, plan.cell_count * batch
    flops = sum(step_flops(spec, name) for name in spec.transforms) * cells
    touched = kept = 0
    for name, transform in spec.transforms.items():
        vectors, beside = step_numbers(spec, name)
        kept += vectors + beside
        touched += vectors + spec.rows(name) + 2 * len(transform.gates) * transform.hidden
    weights = weight_numbers(plan)
    alive = lifetimes(plan) if plan.work <= MOST_COUNTED else None
    return Arithmetic(
        flops, 3 * flops, (touched * cells + weights) * itemsize,
        None if alive is None else int(alive.numbers.max()) * batch * itemsize + weights * itemsize,
        (kept * cells + 2 * weights) * itemsize,
    )  # fmt: skip


class Alive(NamedTuple):
    """By wavefront: how many vectors are still to be read once it is done, and how many numbers they hold per example."""

    vectors: Ints
    numbers: Ints


def lifetimes(plan: Schedule) -> Alive:
    """How many vectors are alive at each wavefront of a forward sweep: made, and not yet read for the last time.

    A vector that an output reads lives to the end.  Raises ResourceError where the explicit graph is too large."""
    steps, levels = plan.steps, plan.level_numbers
    span = plan.span
    vectors, numbers = np.zeros(span + 1, np.int64), np.zeros(span + 1, np.int64)
    reads = steps.block >= 0
    taps = _tapped(plan)
    for i, (name, transform) in enumerate(plan.spec.transforms.items()):
        mine = slice(i * plan.cell_count, (i + 1) * plan.cell_count)
        for memory in (False, True)[: 1 + transform.has_memory]:
            last = levels.copy()
            by = ~reads if memory else reads | (not transform.has_memory)
            np.maximum.at(last, steps.before[by], levels[steps.after[by]])
            born, dies = levels[mine], last[mine]
            if (name, memory) in taps:
                dies = dies.copy()
                dies[taps[name, memory]] = span - 1
            change = np.bincount(born, minlength=span + 1) - np.bincount(dies + 1, minlength=span + 1)[: span + 1]
            vectors += change
            numbers += change * transform.hidden
    return Alive(np.cumsum(vectors)[:span], np.cumsum(numbers)[:span])


def _tapped(plan: Schedule) -> dict[tuple[str, bool], Ints]:
    """The cells whose vectors outputs read."""
    found: dict[tuple[str, bool], list[Ints]] = {}
    extents = np.asarray([plan.sizes], np.int64)
    for output in plan.spec.outputs.values():
        for tap in output.reads:
            transform = plan.spec.transforms[tap.transform]
            where, exists = layout.output_points(plan.spec, output, transform, plan.sizes, extents)
            flat = np.ravel_multi_index(tuple(where[exists].T), plan.sizes)
            found.setdefault((tap.transform, tap.memory), []).append(np.asarray(flat, np.int64))
    return {key: np.unique(np.concatenate(cells)) for key, cells in found.items()}


# -- a model of time ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """Seconds that a step takes on one worker, and a vector that changes workers, for a mini-batch of ``batch`` examples.

    A step's time is that of its matrix product in ``gridc.scheduling.order``'s cost model; ``steps`` (transform → seconds) and
    ``move`` (seconds a vector) override it.  The defaults are those of cores that share a memory."""

    batch: int = 16
    latency: float = 1e-6
    bandwidth: float = 8e9
    itemsize: int = 4
    steps: Mapping[str, float] = field(default_factory=dict[str, float])
    move: float | None = None

    def step_seconds(self, spec: GridSpec, name: str) -> float:
        if name in self.steps:
            return self.steps[name]
        transform = spec.transforms[name]
        columns = len(transform.gates) * transform.hidden or transform.hidden
        if transform.cell == "pass":
            return order.CALL
        return float(order.product_seconds(self.batch, spec.rows(name), columns))

    def move_seconds(self, spec: GridSpec, name: str) -> float:
        """For what a later step takes of an earlier one: hidden and memory travel together."""
        if self.move is not None:
            return self.move
        return self.latency + step_numbers(spec, name)[0] * self.batch * self.itemsize / self.bandwidth


UNIT = Model(steps={}, move=0.0)
"""Moves cost nothing; steps what the cost model says."""


class Run(NamedTuple):
    """One step on one worker."""

    worker: int
    start: float
    end: float
    step: int


@dataclass(frozen=True, repr=False)
class Simulation:
    """A list schedule: ``runs`` in the order in which they start, of nodes by number; ``moved`` vectors changed workers.
    One worker takes ``serial`` seconds; the longest path alone takes ``longest``."""

    plan: Schedule
    workers: int
    seconds: float
    serial: float
    longest: float
    moved: int
    runs: tuple[Run, ...]

    @property
    def speedup(self) -> float:
        return self.serial / self.seconds

    @property
    def most(self) -> float:
        """The laws of work and span with the steps' own costs: no schedule on so many workers is faster."""
        return self.serial / max(self.serial / self.workers, self.longest)

    @property
    def busy(self) -> float:
        """The share of the workers' time that is spent on steps."""
        return self.serial / (self.seconds * self.workers)

    @cached_property
    def timeline(self) -> list[list[tuple[float, float, Step]]]:
        """Of each worker: start, end and step."""
        lines: list[list[tuple[float, float, Step]]] = [[] for _ in range(self.workers)]
        for run in self.runs:
            lines[run.worker].append((run.start, run.end, self.plan.step(run.step)))
        return lines

    def __repr__(self) -> str:
        return f"<Simulation on {self.workers} workers: {self.seconds:.3g} s, {self.speedup:.2f} times as fast as one>"


def simulate(plan: Schedule, workers: int, model: Model | None = None) -> Simulation:
    """List scheduling by the longest path that is still to go (Hu 1961), a step to the worker that can start it first.

    Raises UsageError for fewer than one worker or too many, ResourceError where the explicit graph is too large."""
    _positive(workers)
    if plan.work * workers > MOST_TRIED:
        raise UsageError(f"{plan.work:,} steps on {workers:,} workers would take minutes to simulate; fewer workers or smaller "
                         "sizes show the same shape")  # fmt: skip
    model = model or Model()
    steps, spec = plan.steps, plan.spec
    cost = np.repeat([model.step_seconds(spec, name) for name in spec.transforms], plan.cell_count)
    move = np.repeat([model.move_seconds(spec, name) for name in spec.transforms], plan.cell_count)
    runs, moved, longest = list_schedule(workers, cost, move, steps.before, steps.after, plan.level_numbers)
    return Simulation(plan, workers, max(run.end for run in runs), float(cost.sum()), longest, moved, tuple(runs))


def _positive(workers: int) -> None:
    if isinstance(workers, bool) or not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers: found {workers!r}; expected a positive integer, up to {MOST_WORKERS:,}")


def list_schedule(
    workers: int, cost: Floats, move: Floats, before: Ints, after: Ints, levels: Ints
) -> tuple[list[Run], int, float]:
    """A list schedule of any graph of nodes with costs: the runs, how many vectors changed workers, and the longest path."""
    count = len(cost)
    pairs = np.unique(before * count + after)
    before, after = pairs // count, pairs % count
    urgency = _remaining(cost, before, after, levels)
    starts = np.searchsorted(before, np.arange(count + 1)).tolist()
    successors: list[int] = after.tolist()
    waiting: list[int] = np.bincount(after, minlength=count).tolist()
    predecessors: list[list[int]] = [[] for _ in range(count)]
    for a, b in zip(before.tolist(), successors, strict=True):
        predecessors[b].append(a)
    costs, moves, remaining = cost.tolist(), move.tolist(), urgency.tolist()
    ready = [(-remaining[node], node) for node in range(count) if not waiting[node]]
    heapq.heapify(ready)
    idle = list(range(workers))
    running: list[tuple[float, int, int]] = []  # end, worker, node
    end, home = [0.0] * count, [-1] * count
    runs: list[Run] = []
    travelled: set[tuple[int, int]] = set()
    now = 0.0
    while ready or running:
        while ready and idle:
            _, node = heapq.heappop(ready)
            arrival = [now] * len(idle)
            for p in predecessors[node]:
                late = end[p] + moves[p]
                if late > now:
                    at = home[p]
                    for i, w in enumerate(idle):
                        if w != at and (p, w) not in travelled and late > arrival[i]:
                            arrival[i] = late
            best = min(range(len(idle)), key=arrival.__getitem__)
            # Among equals the worker that already holds most of what the step reads.
            if workers > 1 and len(predecessors[node]):
                held = [sum(home[p] == w or (p, w) in travelled for p in predecessors[node]) for w in idle]
                best = min(range(len(idle)), key=lambda i: (arrival[i], -held[i], idle[i]))
            worker = idle.pop(best)
            for p in predecessors[node]:
                if home[p] != worker:
                    travelled.add((p, worker))
            start = arrival[best]
            end[node], home[node] = start + costs[node], worker
            runs.append(Run(worker, start, end[node], node))
            heapq.heappush(running, (end[node], worker, node))
        now = running[0][0]
        while running and running[0][0] <= now:
            _, worker, node = heapq.heappop(running)
            idle.append(worker)
            for follower in successors[starts[node] : starts[node + 1]]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    heapq.heappush(ready, (-remaining[follower], follower))
    return runs, len(travelled), max(remaining)


def _remaining(cost: Floats, before: Ints, after: Ints, levels: Ints) -> Floats:
    """The longest path from each node to an end, in cost, going back level by level."""
    remaining = cost.astype(float)
    by_level = np.argsort(levels[before], kind="stable")[::-1]
    before, after = before[by_level], after[by_level]
    ends = np.searchsorted(-levels[before], -np.arange(int(levels.max(initial=0)), -2, -1))
    for a, e in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        np.maximum.at(remaining, before[a:e], cost[before[a:e]] + remaining[after[a:e]])
    return remaining


# -- bounds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpeedUp:
    """The speed-up on so many workers.  Counted in steps: ``most`` by the laws of work and span; ``brent`` what going wavefront
    by wavefront reaches; ``graham`` what any list schedule reaches at least.  In the model's time: ``simulated``, in so many
    ``seconds`` and with so many ``moved`` vectors that changed workers, and ``most_in_time``, which it cannot exceed (all four
    None on a grid too large to simulate)."""

    workers: int
    most: float
    brent: float
    graham: float
    simulated: float | None
    moved: int | None
    seconds: float | None
    most_in_time: float | None

    def __float__(self) -> float:
        return self.simulated if self.simulated is not None else self.brent

    def __str__(self) -> str:
        simulated = "not simulated"
        if self.simulated is not None and self.moved is not None:
            simulated = f"simulated {self.simulated:.2f} ({self.moved:,} vectors moved)"
        return (
            f"{self.workers} workers: at most {self.most:.2f} times as fast, wavefront by wavefront (Brent) {self.brent:.2f}, "
            f"any list schedule (Graham) at least {self.graham:.2f}, {simulated}"
        )


def speedup(plan: Schedule, workers: int, model: Model | None = None) -> SpeedUp:
    """Bounds of the speed-up and a simulated list schedule.  Raises UsageError for fewer than one worker."""
    _positive(workers)
    least = max(plan.work / workers, plan.span)
    by_wavefront = sum(-(-w // workers) for w in plan.widths)
    simulation = simulate(plan, workers, model) if plan.work <= MOST_SIMULATED and plan.work * workers <= MOST_TRIED else None
    return SpeedUp(
        workers, plan.work / least, plan.work / by_wavefront, max(1.0, plan.work / (least * (2 - 1 / workers))),
        simulation and simulation.speedup, simulation and simulation.moved, simulation and simulation.seconds,
        simulation and simulation.most,
    )  # fmt: skip


def seconds(plan: Schedule, workers: int, model: Model) -> float:
    """The model's time on so many workers: simulated on a grid of moderate size, else wavefront by wavefront."""
    if plan.work <= 30_000:
        return simulate(plan, workers, model).seconds
    mean = float(np.mean([model.step_seconds(plan.spec, name) for name in plan.spec.transforms]))
    return sum(-(-w // workers) for w in plan.widths) * mean

