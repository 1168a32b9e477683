"""What a schedule costs: arithmetic, memory, and the time on several workers, bounded and simulated.

Bounds of the time ``T_P`` of unit steps on P workers, from work W, span S and the widths w_k of the wavefronts:

- work and span laws: ``T_P ≥ max(W / P, S)``;
- Brent 1974: going wavefront by wavefront takes ``Σ_k ⌈w_k / P⌉ ≤ S + (W - S) / P``;
- Graham 1966: a list schedule takes at most ``W / P + S (1 - 1 / P)``, since whenever a worker is idle a step of the longest path
  runs; so it is within ``2 - 1 / P`` times the least possible.

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
from gridc.insight.timing import Timing
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.options import LARGEST, MOST_WORKERS, integer
from gridc.scheduling import order
from gridc.scheduling.counts import step_numbers
from gridc.scheduling.graph import Step

Floats = npt.NDArray[np.float64]

MOST_SIMULATED = 300_000
"""Steps beyond which a list schedule is not simulated."""
MOST_TRIED = 200_000_000
"""Steps times workers beyond which a list schedule takes more than some seconds, as every step looks at every idle worker."""


# -- arithmetic and memory ---------------------------------------------------------------------------------------------


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", integer("batch", self.batch, high=LARGEST))

    def step_seconds(self, spec: GridSpec, name: str) -> float:
        """Give the seconds of one step of this transform for the whole mini-batch, on one worker."""
        if name in self.steps:
            return self.steps[name]
        transform = spec.transforms[name]
        columns = len(transform.gates) * transform.hidden or transform.hidden
        if transform.mechanism.relays:
            return order.CALL
        return float(order.product_seconds(self.batch, spec.rows(name), columns))

    def move_seconds(self, spec: GridSpec, name: str) -> float:
        """Give the seconds in which what a later step takes of an earlier one changes workers: hidden and memory together."""
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

    plan: Timing
    workers: int
    seconds: float
    serial: float
    longest: float
    moved: int
    runs: tuple[Run, ...]

    @property
    def speedup(self) -> float:
        """How many times as fast as one worker all of them together are."""
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


def simulate(plan: Timing, workers: int, model: Model | None = None) -> Simulation:
    """Simulate list scheduling by the longest path that is still to go (Hu 1961), a step to the worker that can start it first.

    Raises UsageError for fewer than one worker or too many, ResourceError where the explicit graph is too large."""
    workers = integer("workers", workers, high=MOST_WORKERS)
    if plan.work * workers > MOST_TRIED:
        raise UsageError(f"{plan.work:,} steps on {workers:,} workers would take minutes to simulate; fewer workers or smaller "
                         "sizes show the same shape")  # fmt: skip
    model = model or Model()
    steps, spec = plan.steps, plan.spec
    cost = np.repeat([model.step_seconds(spec, name) for name in spec.transforms], plan.cell_count)
    move = np.repeat([model.move_seconds(spec, name) for name in spec.transforms], plan.cell_count)
    runs, moved, longest = list_schedule(workers, cost, move, steps.before, steps.after, plan.level_numbers)
    return Simulation(plan, workers, max(run.end for run in runs), float(cost.sum()), longest, moved, tuple(runs))


def list_schedule(
    workers: int, cost: Floats, move: Floats, before: Ints, after: Ints, levels: Ints
) -> tuple[list[Run], int, float]:
    """Make a list schedule of any graph of nodes with costs: the runs, how many vectors changed workers, and the longest path."""
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
            best, start = _soonest(idle, now, [(p, end[p] + moves[p], home[p]) for p in predecessors[node]], travelled)
            worker = idle.pop(best)
            for p in predecessors[node]:
                if home[p] != worker:
                    travelled.add((p, worker))
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


def _soonest(
    idle: list[int], now: float, reads: list[tuple[int, float, int]], travelled: set[tuple[int, int]]
) -> tuple[int, float]:
    """Choose the place in ``idle`` of the worker that can start a step first, and when it can.

    ``reads`` are the steps before it: node, when its vector has come to another worker, and the worker where it was made."""
    arrival = [now] * len(idle)
    for p, late, at in reads:
        if late > now:
            for i, w in enumerate(idle):
                if w != at and (p, w) not in travelled and late > arrival[i]:
                    arrival[i] = late
    best = min(range(len(idle)), key=arrival.__getitem__)
    # Among equals the worker that already holds most of what the step reads.
    if len(idle) > 1 and reads:
        held = [sum(at == w or (p, w) in travelled for p, _, at in reads) for w in idle]
        best = min(range(len(idle)), key=lambda i: (arrival[i], -held[i], idle[i]))
    return best, arrival[best]


def _remaining(cost: Floats, before: Ints, after: Ints, levels: Ints) -> Floats:
    """Work out the longest path from each node to an end, in cost, going back level by level."""
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
    """The speed-up on so many workers: how many times as fast as one.

    Attributes:
        workers: How many.
        most: By the laws of work and span, counted in steps: no schedule is faster.
        brent: What going wavefront by wavefront reaches, counted in steps.
        graham: What any list schedule reaches at least, counted in steps.
        simulated: That of a simulated list schedule, in the model's time; like all below, None on a grid too large to simulate.
        moved: How many vectors changed workers in it.
        seconds: What it takes.
        most_in_time: By the laws of work and span, in the model's time: what the simulation cannot exceed.
    """

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


def speedup(plan: Timing, workers: int, model: Model | None = None) -> SpeedUp:
    """Give bounds of the speed-up and a simulated list schedule.  Raises UsageError for fewer than one worker."""
    workers = integer("workers", workers, high=MOST_WORKERS)
    least = max(plan.work / workers, plan.span)
    by_wavefront = sum(-(-w // workers) for w in plan.widths)
    simulation = simulate(plan, workers, model) if plan.work <= MOST_SIMULATED and plan.work * workers <= MOST_TRIED else None
    return SpeedUp(
        workers, plan.work / least, plan.work / by_wavefront, plan.work / (plan.work / workers + plan.span * (1 - 1 / workers)),
        simulation and simulation.speedup, simulation and simulation.moved, simulation and simulation.seconds,
        simulation and simulation.most,
    )  # fmt: skip


def seconds(plan: Timing, workers: int, model: Model) -> float:
    """Give the model's seconds on so many workers: simulated on a grid of moderate size, else wavefront by wavefront."""
    if plan.work <= 30_000:
        return simulate(plan, workers, model).seconds
    mean = float(np.mean([model.step_seconds(plan.spec, name) for name in plan.spec.transforms]))
    return sum(-(-w // workers) for w in plan.widths) * mean

