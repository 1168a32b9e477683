"""How much faster a training step is on several threads: simulated as gridc shares it, and measured, side by side.

The simulation goes through what each thread does (``gridc.scheduling.shares``), instruction by instruction, forward and back, and
waits where they meet.  What an instruction costs is fitted on one thread, at other sizes (``gridc.insight.calibration``); what a
meeting costs, and until the threads have begun, is measured on this machine.  Importing this module imports PyTensor.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridc import plain_text, resources
from gridc.fusion import blas
from gridc.fusion.sweep import only
from gridc.fusion.threads import meeting
from gridc.insight import simulation
from gridc.insight.calibration import Prices, Runs, Samples, calibrated, features, made_of
from gridc.insight.simulation import Model
from gridc.insight.steps import TrainingStep, counted, in_turns
from gridc.insight.timing import Timing
from gridc.options import LARGEST, MOST_THREADS, integer
from gridc.scheduling import shares
from gridc.scheduling.plan import Plan
from gridc.scheduling.program import PRODUCT, Array, Program
from gridc.scheduling.threads import ALONE, FETCHED, Sharing
from gridc.training.optimizers import sharers

MEETINGS, FEWEST, MOST, ENOUGH = 500, 3, 15, 0.02
"""In one measurement, which is made so often, or for so many seconds."""


@dataclass(frozen=True)
class OnThreads:
    """A training step on so many threads.

    Attributes:
        threads: How many may share it.
        sharing: What they share: the cost model's choice, or what the page asks for.
        listed: How many times as fast as one worker a list schedule of the forward sweep's steps would be on as many workers,
            in the cost model's time; None on a grid too large to simulate.
        simulated: Seconds, simulated as gridc runs it.
        measured: Seconds, the median.
        met: Seconds of the simulated ones that meetings take.
    """

    threads: int
    sharing: str
    listed: float | None
    simulated: float
    measured: float
    met: float


@dataclass(frozen=True, repr=False)
class Scaling:
    """A training step on 1, 2, 4, … threads of ``cores`` cores.

    ``outside`` are the seconds of it that one thread spends outside the sweep, whatever their number: what enters, the loss, what
    calls; ``update`` those of the update on one thread."""

    name: str
    order: str
    batch: int
    cores: int
    outside: float
    update: float
    rows: tuple[OnThreads, ...]

    def speedups(self, row: OnThreads) -> tuple[float, float]:
        """Give how many times as fast as one thread so many are: simulated and measured."""
        return self.rows[0].simulated / row.simulated, self.rows[0].measured / row.measured

    def plain(self) -> dict[str, Any]:
        """Give all of it as plain data; times in seconds."""
        rows: list[dict[str, Any]] = []
        for row in self.rows:
            simulated, measured = self.speedups(row)
            told = dataclasses.asdict(row)
            rows.append({**told, "simulated_speedup": simulated, "measured_speedup": measured,
                         "shares_cores": row.threads > self.cores})  # fmt: skip
        return {"name": self.name, "order": self.order, "batch": self.batch, "cores": self.cores, "outside": self.outside,
                "update": self.update, "threads": rows}  # fmt: skip

    def __str__(self) -> str:
        rows: list[list[str]] = []
        for row in self.rows:
            simulated, measured = self.speedups(row)
            shared = f"; they share {self.cores} core{'s' * (self.cores > 1)}" if row.threads > self.cores else ""
            rows.append([str(row.threads), "–" if row.listed is None else f"{row.listed:.2f}", f"{1e3 * row.simulated:,.2f}",
                         f"{simulated:.2f}", f"{1e3 * row.measured:,.2f}", f"{measured:.2f}", row.sharing + shared])  # fmt: skip
        head = ("threads", "list schedule ×", "simulated ms", "×", "measured ms", "×", "as gridc runs it")
        return "\n".join([
            f"{self.name}: a training step, batch of {self.batch}, {self.order}", "", plain_text.table(head, rows), "",
            "  × is how many times as fast as one. A list schedule hands single steps of the forward sweep to workers, in the",
            "  cost model's time; gridc runs none. Simulated and measured is what it runs: whole turns, which threads share.",
            f"  Outside the sweep are {1e3 * self.outside:,.2f} ms of one thread and an update of {1e3 * self.update:,.2f} ms.",
        ])  # fmt: skip


def scaling(plan: Timing, threads: int, batch: int = 16) -> Scaling:
    """Simulate and measure a training step on 1, 2, 4, … threads, and on so many.

    Raises UsageError for a grid that has no inputs or outputs, or cells that have no fused sweep."""
    threads, batch = integer("threads", threads, high=MOST_THREADS), integer("batch", batch, high=LARGEST)
    numbers, cores = counted(threads), resources.threads()
    steps = [TrainingStep(plan.spec, plan.sizes, batch, n) for n in numbers]
    prices, own = _prices(plan, batch)
    *measured, updates = in_turns([*steps, steps[0].update])
    update = min(updates)
    outside = max(0.0, min(measured[0]) - own.total - update)  # of each the least: other programs only ever add
    rows: list[OnThreads] = []
    for n, taken in zip(numbers, measured, strict=True):
        made = plan.plan(batch, n)
        begin, met = gathering(made.sharing)
        simulated, meetings = simulate(made, prices, cores, begin, met)
        shared = update / min(cores, max(sharers(array.size, n) for array in steps[0].parameters.values()))
        listed = None
        if plan.work <= simulation.MOST_SIMULATED and plan.work * n <= simulation.MOST_TRIED:
            listed = simulation.simulate(plan, n, Model(batch=batch)).speedup
        rows.append(OnThreads(n, str(made.sharing), listed, simulated + outside + shared, statistics.median(taken), meetings))
    return Scaling(plan.spec.name, plan.order_for(batch), batch, cores, outside, update, tuple(rows))


def _prices(plan: Timing, batch: int) -> tuple[Prices, Samples]:
    """Fit what instructions cost, and measure the grid's own sweep on one thread."""
    prices = Prices.fitted([run.prices(5) for run in calibrated(plan, batch, back=True)])
    with blas.single_threaded():
        return prices, Runs(plan, batch, back=True).prices(5)


# -- what threads cost -------------------------------------------------------------------------------------------------


def gathering(sharing: Sharing) -> tuple[float, float]:
    """Measure the seconds until such threads have begun, and those of one meeting of them."""
    if sharing == ALONE:
        return 0.0, 0.0

    def seconds(meetings: int) -> list[float]:
        steps = np.zeros(meetings, shares.STEP)
        steps["kind"] = shares.MEET
        given = only(steps, sharing.threads)
        taken: list[float] = []
        while len(taken) < FEWEST or (len(taken) < MOST and sum(taken) < ENOUGH):
            start = time.perf_counter()
            meeting(given)
            taken.append(time.perf_counter() - start)
        return taken

    few, many = seconds(0), seconds(MEETINGS)
    return statistics.median(few), max(0.0, min(many) - min(few)) / MEETINGS


def simulate(plan: Plan, prices: Prices, cores: int, begin: float, met: float) -> tuple[float, float]:
    """Give the simulated seconds of a training step's sweep, forward and back, and those of them that meetings take.

    ``begin`` are the seconds until threads have begun, which they do forward and back, ``met`` those of a meeting.  Where there
    are more threads than ``cores``, all of them together do no more than the cores can."""
    total = meetings = 0.0
    sharing, whole = plan.sharing, plan.sweep.whole
    for segment in plan.sweep.segments:
        handed = shares.share(segment.program, sharing)
        for back in (False, True):
            lists = [each.backward if back else each.forward for each in handed]
            costs = [_costs(segment.program, steps, prices, sharing, back) for steps in lists]
            seconds, count = _together(costs, lists, cores)
            several = sum(len(each) > 0 for each in lists) > 1
            times = 1 if back or whole else 2  # segments that were not kept are run again on the way back
            total += times * (seconds + several * (begin + count * met))
            meetings += times * several * count * met
        if sharing.way != "weights":  # which a second thread has made by then
            total += _weights(segment.program, prices) / min(cores, sharing.threads)
    return total, meetings


def _costs(program: Program, steps: Array, prices: Prices, sharing: Sharing, back: bool) -> list[float]:
    """Give the seconds of each instruction of one thread."""
    price = prices.backward if back else prices.forward
    chunks = np.array([own.rows for own in program.transforms])
    made = made_of(program)
    fetched = sharing.threads > 1 and (sharing.way == "wavefront" or (sharing.helps and not back))
    gated = [t for t, own in enumerate(program.transforms) if own.gates]
    found: list[float] = []
    for k in range(len(steps)):
        step = steps[k]
        if step["kind"] == shares.GRADIENTS:
            t = int(step["transform"])
            share = float(step["end"] - step["first"]) / max(1, int(chunks[t]))
            found.append(float(np.array(made[gated.index(t)]) @ prices.weights) * share)
            continue
        cost = float(np.array(features(program, steps[k : k + 1], back)) @ price)
        found.append(cost * (FETCHED if fetched and step["kind"] == PRODUCT else 1.0))
    return found


def _together(costs: Sequence[Sequence[float]], lists: Sequence[Array], cores: int) -> tuple[float, int]:
    """Run threads between their meetings: the seconds until all have ended, and how often they met.

    Who waits for a signal waits until it was given; threads wait for those before them only."""
    at, total, count = [0] * len(lists), 0.0, 0
    going = True
    while going:
        going, said = False, list[float]()
        clocks: list[float] = []
        worked = 0.0
        for k, (own, steps) in enumerate(zip(costs, lists, strict=True)):
            clock = 0.0
            while at[k] < len(steps):
                step = steps[at[k]]
                clock, worked = clock + own[at[k]], worked + own[at[k]]
                at[k] += 1
                if step["kind"] == shares.MEET:
                    going = going or not step["does"] & shares.FORGETS
                    break
                if step["kind"] == shares.SIGNAL and k == 0:
                    said.append(clock)
                elif step["kind"] == shares.AWAIT:
                    clock = max(clock, said[int(step["target"]) - 1])
            clocks.append(clock)
        total += max([worked / cores, *clocks])
        count += going
        going = going or any(at[k] < len(steps) for k, steps in enumerate(lists))
    return total, count


def _weights(program: Program, prices: Prices) -> float:
    """Give the seconds in which one thread makes the weights' gradients."""
    return sum(float(np.array(each) @ prices.weights) for each in made_of(program))
