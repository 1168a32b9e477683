"""What instructions cost on one thread of this machine: a linear model of what they do, fitted to sweeps that are timed.

A sweep of a grid is run piece by piece, forward and back, at other sizes and batches than those that are asked about; what a
multiply-add, a number gathered or a gate costs follows by least squares.  Importing this module imports Numba.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gridc.errors import UsageError
from gridc.fusion import blas, gemm, machine, sweep
from gridc.fusion.workspace import LINE, aligned
from gridc.insight.steps import FACTS
from gridc.insight.timing import Timing
from gridc.language import shapes
from gridc.language.spec import GridSpec
from gridc.scheduling import graph, shares
from gridc.scheduling.plan import Plan
from gridc.scheduling.program import ATTEND, CELL, COPY, MAKING, PRODUCT, WRAP, Array, Program
from gridc.scheduling.threads import ALONE

Floats = npt.NDArray[np.float64]
MOST_MEASURED = 200_000
"""Rows (steps × examples) in a calibration run; larger sizes are halved until they fit."""
FEATURES = ("calls", "products", "multiply-adds", "weights", "numbers", "gates", "packed", "attended")
"""What instructions do: how many make rows, how many multiply; multiply-adds; numbers of weights fetched; numbers gathered or
handed back; gates computed; numbers packed; multiply-adds with facts."""


class Runs:
    """A sweep on one thread that can be run turn by turn, forward or, with room for gradients, also ``back``.

    ``features`` ``[turns, features]`` are what its turns do forward, ``rows`` how many rows each makes.  Raises UsageError for a
    grid with cells that have no fused sweep."""

    def __init__(self, plan: Timing, batch: int, back: bool = False):
        spec = plan.spec
        unfused = [t.cell for t in spec.transforms.values() if not t.mechanism.fused]
        if unfused:
            raise UsageError(f"grid '{spec.name}' has {unfused[0]} cells; only the fused sweep is measured, and it has none of "
                             "them")  # fmt: skip
        made = plan.plan(batch)
        self.order, self.plan = made.order.name, made
        self.program = program = made.sweep.segments[0].program
        self._cut(made, program, batch)
        self._space = space = sweep.Workspace(program, np.float32)
        generator = np.random.default_rng(0)

        def normal(*shape: int) -> npt.NDArray[np.float32]:
            return generator.standard_normal(shape, np.float32)

        w: list[Array | None] = []
        p: list[Array | None] = []
        for t, (own, transform) in enumerate(zip(program.transforms, spec.transforms.values(), strict=True)):
            space.joined[t] = [normal(rows, width) for rows, width in zip(program.joined_extents[t], own.joined, strict=True)]
            count, inputs = len(own.weight_ends) - 1, sum(program.widths(t))
            w.append(0.1 * normal(count, inputs, own.width) if own.gates else None)
            peepholes = (len(transform.peephole_names()) + len(transform.vectors)) * own.hidden
            p.append(np.zeros((count, peepholes), np.float32) if peepholes else None)
            facts = [weight for weight in shapes.weights(spec, transform).values() if weight.facts]
            sets = program.fact_extents[t] + (len(facts) == 1)
            space.facts[t] = [0.1 * normal(sets, FACTS, own.hidden) for _ in facts if program.fact_extents[t]]
            space.dfacts[t] = [np.zeros_like(array) for array in space.facts[t] if back]
        parameters = sweep.Parameters(w, [None] * len(w), p)
        gradients = parameters.empty() if back else None
        # The tables of addresses are the engine's own; running a sweep piece by piece is nobody's business but this module's.
        where = space.places
        once, row, scores = (np.zeros(size + LINE, np.float32) for size in (where.once, where.row, 2 * FACTS))
        self._tables = space.tables(parameters, gradients).of_thread(where, aligned(once), row, scores)
        self._room = aligned(np.zeros(max(program.scratch, gemm.panel_room(np.float32)) + LINE, np.float32))
        self._seeds = 1e-3 * normal(where.states * back)

    def _cut(self, plan: Plan, program: Program, batch: int) -> None:
        """Cut the program's steps into turns, and work out what each turn does."""
        weights = graph.build(plan.spec, plan.sizes).weights
        # A transform's rows stand in order of weight, turn, cell and example (see ``layout``).
        cells = [np.lexsort((np.arange(len(own)), plan.order.time[i], own)) for i, own in enumerate(weights)]
        (whole,) = shares.share(program, ALONE)

        def turn(step: Array) -> int:
            t = int(step["transform"])
            return int(plan.order.time[t][cells[t][int(step["first"]) // batch]])

        steps = whole.forward
        begun = int(np.argmax(steps["kind"] != shares.PACK))
        self._packs = np.ascontiguousarray(steps[:begun])
        pieces: list[list[int]] = []
        turns: list[int] = []
        waiting: list[int] = []
        for number, step in enumerate(steps[begun:], begun):
            if step["kind"] == WRAP:
                (pieces[-1] if pieces else waiting).append(number)
                continue
            waiting.append(number)
            if step["kind"] in (PRODUCT, shares.PACK):
                continue
            if turns and turns[-1] == turn(step):
                pieces[-1] += waiting
            else:
                pieces.append(waiting)
                turns.append(turn(step))
            waiting = []
        self._forward = [np.ascontiguousarray(steps[piece]) for piece in pieces]
        self.features = np.array([features(program, piece, False) for piece in self._forward])
        made = [piece[np.isin(piece["kind"], MAKING)] for piece in self._forward]
        self.rows = [int((each["end"] - each["first"]).sum()) for each in made]
        steps, last = whole.backward, -1
        back: list[list[int]] = [[]]
        for number, step in enumerate(steps):  # here the cells of a turn come before their products
            if step["kind"] in MAKING and turn(step) != last:
                back.append([])
                last = turn(step)
            back[-1].append(number)
        self._backward = [np.ascontiguousarray(steps[piece]) for piece in back]

    def forward(self, rounds: int) -> Floats:
        """Measure the least seconds of each turn forward over so many sweeps, the cost of asking taken off."""
        return self._least(rounds, len(self._forward), lambda time: self._ahead(time))

    def prices(self, rounds: int) -> Samples:
        """Measure what a whole sweep takes, turn by turn forward and back, and then its weights' gradients."""
        counts = len(self._forward) + 1, len(self._backward), 1

        def sweep_once(time: Callable[..., None]) -> None:
            time(machine.compiled()[0], self._packs, *self._given(), 0, *_ALONE)
            self._ahead(time)
            self._space.slopes[: len(self._seeds)] = self._seeds
            for piece in self._backward:
                time(machine.compiled()[1], piece, *self._given(), *_ALONE)
            time(machine.compiled()[2], self._tables.records, self._room, machine.products("float32"), 0, 1, False, False)

        seconds = self._least(rounds, sum(counts), sweep_once)
        ahead = np.array([features(self.program, piece, False) for piece in (self._packs, *self._forward)])
        back = np.array([features(self.program, piece, True) for piece in self._backward])
        made = np.array([[float(sum(each)) for each in zip(*made_of(self.program), strict=True)]])
        ends = np.cumsum(counts)
        return Samples((ahead, back, made), (seconds[: ends[0]], seconds[ends[0] : ends[1]], seconds[ends[1] :]))

    def _ahead(self, time: Callable[..., None]) -> None:
        for piece in self._forward:
            time(machine.compiled()[0], piece, *self._given(), 0, *_ALONE)

    def _given(self) -> tuple[Any, ...]:
        return self._tables.records, self._tables.blocks, self._room, machine.products("float32")

    def _least(self, rounds: int, count: int, run: Callable[[Callable[..., None]], None]) -> Floats:
        """Give the least seconds of every call that ``run`` has timed."""
        taken: list[float] = []

        def timed(call: Callable[..., None], *arguments: Any) -> None:
            start = time.perf_counter()
            call(*arguments)
            taken.append(time.perf_counter() - start)

        empty = np.zeros(0, shares.STEP)
        machine.compiled()[0](self._packs, *self._given(), 0, *_ALONE)
        for _ in range(rounds + 1):
            run(timed)
            timed(machine.compiled()[0], empty, *self._given(), 0, *_ALONE)
        times = np.array(taken).reshape(rounds + 1, count + 1)[1:].min(axis=0)
        # Other programs only ever add to a time, so the least is the nearest to the turn's own.
        return np.maximum(times[:-1] - times[-1], 1e-7)


_ALONE = (0, 0, 1, 0)
"""The gate of a thread that meets nobody."""


@dataclass(frozen=True)
class Samples:
    """Forward, back, and of the weights' gradients: what was done, ``[samples, features]``, and the seconds that it took."""

    features: tuple[Floats, Floats, Floats]
    seconds: tuple[Floats, Floats, Floats]

    @property
    def total(self) -> float:
        """The seconds of all of it."""
        return float(sum(each.sum() for each in self.seconds))


@dataclass(frozen=True)
class Prices:
    """Seconds for one of each feature, forward, back and for the weights' gradients."""

    forward: Floats
    backward: Floats
    weights: Floats

    @staticmethod
    def fitted(samples: list[Samples]) -> Prices:
        """Fit them to what several sweeps took."""

        def fit(k: int) -> Floats:
            done = np.concatenate([one.features[k] for one in samples])
            return coefficients(done, np.concatenate([one.seconds[k] for one in samples]))

        return Prices(fit(0), fit(1), fit(2))


def features(program: Program, steps: Array, back: bool) -> list[float]:
    """Give what instructions do, forward or back, in the order of ``FEATURES``."""
    calls = products = adds = weights = numbers = gates = packed = attended = 0.0
    for step in steps:
        kind, t, low, high = (int(step[name]) for name in ("kind", "transform", "low", "high"))
        own, rows = program.transforms[t], int(step["end"] - step["first"])
        if kind == PRODUCT:
            start = program.block_starts[t]
            stop = min(high - start, len(own.sources)) if back else high - start  # inputs' own gradients are not asked for
            inputs = sum(program.widths(t)[low - start : stop])
            share = float(inputs > 0 and bool(step["does"] & shares.MULTIPLY)) / step["parts"]
            products += share > 0
            adds += rows * inputs * own.width * share
            weights += inputs * own.width * share
            numbers += rows * inputs * (share if back else float(bool(step["does"] & shares.READ)))
        elif kind in (CELL, ATTEND):
            calls += 1
            gates += rows * (own.width or own.hidden)
            attended += rows * FACTS * own.hidden * (kind == ATTEND)
        elif kind == COPY:
            calls += 1
            numbers += rows * own.hidden
        elif kind == shares.PACK:
            packed += sum(program.widths(t)) * own.width / step["parts"]
    return [calls, products, adds, weights, numbers, gates, packed, attended]


def made_of(program: Program) -> list[tuple[float, float, float]]:
    """Give, of each transform, what its weights' gradients are made of: multiply-adds, numbers written, numbers packed."""
    found: list[tuple[float, float, float]] = []
    for t, own in enumerate(program.transforms):
        if own.gates:
            inputs, rows = sum(program.widths(t)), np.diff(own.weight_ends)
            chunks = int(np.maximum(1, -(-rows // own.chunk)).sum())
            found.append((float(own.rows) * inputs * own.width, float(chunks) * inputs * own.width, float(own.rows) * own.width))
    return found


def others(plan: Timing, batch: int) -> list[tuple[tuple[int, ...], int]]:
    """Choose sizes and batches to calibrate on: near those asked for, and not they."""

    def part(share: float) -> tuple[int, ...]:
        # As many weights as the grid has: how many numbers are fetched is what an untied product costs.
        return tuple(n if _untied(plan.spec, d) else max(1, round(n * share)) for d, n in enumerate(plan.sizes))

    share = 0.75
    while np.prod(part(share)) * 2 * batch * len(plan.spec.transforms) > MOST_MEASURED and share > 0.01:
        share /= 2
    batches = dict.fromkeys((max(1, batch // 2), batch + max(1, batch // 4), batch * 2))
    return [(part(s), b) for s in (share, share / 2) for b in batches]


def _untied(spec: GridSpec, axis: int) -> bool:
    return any(axis in t.untied for t in spec.transforms.values())


def coefficients(features: Floats, seconds: Floats) -> Floats:
    """Fit the seconds for one of each feature, ``[features]``, none of them negative: least squares of the relative error.

    ``features`` is ``[turns, features]``, ``seconds`` ``[turns]``."""
    optimize: Any = importlib.import_module("scipy.optimize")  # which brings no types
    some = features.any(axis=1)  # what does nothing costs nothing, and says nothing
    if not some.any():
        return features.sum(axis=0)
    features, seconds = features[some], seconds[some]
    relative = features / seconds[:, None]
    size = np.maximum(np.abs(relative).max(axis=0), 1e-300)  # columns of like size: the coefficients differ by many digits
    return optimize.nnls(relative / size, np.ones(len(seconds)))[0] / size


def calibrated(plan: Timing, batch: int, back: bool = False) -> Iterator[Runs]:
    """Make the sweeps to calibrate on, kernels and all, one after the other."""
    mechanisms = [(t.mechanism, t.options, len(t.along), t.zoneout > 0) for t in plan.spec.transforms.values()
                  if t.mechanism.fused and not t.mechanism.relays]  # fmt: skip
    sweep.prepare(mechanisms, "float32")
    with blas.single_threaded():
        yield from (Runs(Timing(plan.spec, sizes), each, back) for sizes, each in others(plan, batch))
