"""Predicted and measured time of every wavefront, side by side: the fused sweep, forward, on one thread of this machine.

What is timed is the sweep's own order of execution, turn by turn: a *turn* is one wavefront of steps or of cells, with the
products that are made ahead for it.  The prediction comes from a linear model of what a turn does, fitted on this machine to
the same grid at other sizes and batches, never to the turns that it predicts.  Importing this module imports Numba.
"""

from __future__ import annotations

import dataclasses
import importlib
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gridc import plain_text
from gridc.errors import UsageError
from gridc.fusion import blas, machine, sweep
from gridc.fusion.workspace import LINE, aligned
from gridc.insight.timing import Timing
from gridc.language.spec import GridSpec
from gridc.options import LARGEST, integer
from gridc.scheduling import graph, shares
from gridc.scheduling.plan import Plan
from gridc.scheduling.program import CELL, COPY, PRODUCT, WRAP, Array, Program
from gridc.scheduling.threads import ALONE

Floats = npt.NDArray[np.float64]
MOST_MEASURED = 200_000
"""Rows (steps × examples) in a calibration run; larger sizes are halved until they fit."""


@dataclass(frozen=True)
class Turn:
    """One wavefront as it is executed: its rows (steps × examples), and seconds."""

    rows: int
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """How far the prediction is off, as a share of what was measured."""
        return abs(self.predicted - self.measured) / self.measured


@dataclass(frozen=True, repr=False)
class Measurement:
    """``order`` is the order of execution by name; times are the least of ``rounds`` sweeps.

    A turn is what the order runs at once; there may be more of them than the ``wavefronts`` of steps that a schedule counts,
    or fewer.  Both are numbered from 0."""

    name: str
    order: str
    batch: int
    rounds: int
    turns: tuple[Turn, ...]
    wavefronts: int

    @cached_property
    def median_error(self) -> float:
        """The median of the turns' errors, a share of what was measured."""
        return float(np.median([turn.error for turn in self.turns]))

    @property
    def total_error(self) -> float:
        """The error of the whole sweep's time."""
        measured = sum(turn.measured for turn in self.turns)
        return abs(sum(turn.predicted for turn in self.turns) - measured) / measured

    def __str__(self) -> str:
        return self.table()

    def plain(self) -> dict[str, Any]:
        """Give all of it as plain data; times in seconds."""
        return {
            "name": self.name, "order": self.order, "batch": self.batch, "rounds": self.rounds, "threads": 1,
            "median_error": self.median_error, "total_error": self.total_error,
            "wavefronts": self.wavefronts, "turns": [dataclasses.asdict(turn) | {"error": turn.error} for turn in self.turns],
        }  # fmt: skip

    def table(self, most: int = 40) -> str:
        """Lay out the turns as a table, those in the middle left out where there are many."""
        lines = [
            [str(i), f"{t.rows:,}", f"{t.predicted * 1e6:,.0f}", f"{t.measured * 1e6:,.0f}", f"{t.error:.0%}"]
            for i, t in enumerate(self.turns)
        ]
        if len(lines) > most:
            lines[most // 2 : -most // 2] = [["–"] * 5]
        totals = [sum(getattr(turn, key) for turn in self.turns) * 1e3 for key in ("predicted", "measured")]
        return "\n".join([
            f"{self.name}: forward, batch of {self.batch}, one thread, {self.order}; the least of {self.rounds} sweeps",
            f"{len(self.turns):,} turns of that order, for {self.wavefronts:,} wavefronts of steps", "",
            plain_text.table(("turn", "rows", "predicted µs", "measured µs", "error"), lines), "",
            f"  whole sweep: predicted {totals[0]:.2f} ms, measured {totals[1]:.2f} ms, {self.total_error:.0%} off; "
            f"a turn is {self.median_error:.0%} off in the median",
        ])  # fmt: skip


def measure(plan: Timing, batch: int = 16, rounds: int = 9) -> Measurement:
    """Run a grid's forward sweep and time every turn of it.

    Raises UsageError for a grid with cells that have no fused sweep, or whose time depends on facts."""
    batch, rounds = integer("batch", batch, high=LARGEST), integer("rounds", rounds, high=LARGEST)
    unfused = [t.cell for t in plan.spec.transforms.values() if not t.mechanism.fused]
    if unfused:
        raise UsageError(f"grid '{plan.spec.name}' has {unfused[0]} cells; only the fused sweep is measured, and it has none of "
                         "them")  # fmt: skip
    if any(t.attends is not None for t in plan.spec.transforms.values()):
        raise UsageError(f"grid '{plan.spec.name}' has memory cells, whose time depends on how many facts there are; data alone "
                         "tell that")  # fmt: skip
    mechanisms = [(t.mechanism, t.options, len(t.along), t.zoneout > 0) for t in plan.spec.transforms.values() if t.gates]
    sweep.prepare(mechanisms, "float32")
    known = [_Runs(Timing(plan.spec, sizes), b) for sizes, b in _others(plan, batch)]
    with blas.single_threaded():
        weights = coefficients(np.concatenate([run.features for run in known]), np.concatenate([run.seconds(5) for run in known]))
        own = _Runs(plan, batch)
        measured = own.seconds(rounds)
    predicted = own.features @ weights
    turns = tuple(Turn(int(r), float(p), float(m)) for r, p, m in zip(own.rows, predicted, measured, strict=True))
    return Measurement(plan.spec.name, own.order, batch, rounds, turns, plan.span)


def _others(plan: Timing, batch: int) -> list[tuple[tuple[int, ...], int]]:
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


class _Runs:
    """A sweep that can be run turn by turn."""

    def __init__(self, plan: Timing, batch: int):
        spec = plan.spec
        made = plan.plan(batch)
        self.order = made.order.name
        program = made.sweep.segments[0].program
        self._cut(made, program, batch)
        generator = np.random.default_rng(0)
        dtype = np.dtype(np.float32)
        self._space = sweep.Workspace(program, dtype)
        for t, own in enumerate(program.transforms):
            self._space.joined[t] = [
                generator.standard_normal((rows, width)).astype(dtype)
                for rows, width in zip(program.joined_extents[t], own.joined, strict=True)
            ]
        w: list[npt.NDArray[np.float32] | None] = []
        p: list[npt.NDArray[np.float32] | None] = []
        for t, (own, transform) in enumerate(zip(program.transforms, spec.transforms.values(), strict=True)):
            count, inputs = len(own.weight_ends) - 1, sum(program.widths(t))
            w.append((0.1 * generator.standard_normal((count, inputs, own.width))).astype(dtype) if own.gates else None)
            peepholes = (len(transform.peephole_names()) + len(transform.vectors)) * own.hidden
            p.append(np.zeros((count, peepholes), dtype) if peepholes else None)
        parameters = sweep.Parameters(w, [None] * len(w), p)  # type: ignore[arg-type]  # lists of arrays or None
        # The tables of addresses are the engine's own; running a sweep piece by piece is nobody's business but this module's.
        where = self._space.places
        once, row = (np.zeros(size + LINE, dtype) for size in (where.once, where.row))
        self._tables = self._space.tables(parameters).of_thread(where, aligned(once), row)

    def _cut(self, plan: Plan, program: Program, batch: int) -> None:
        """Cut the program's steps into turns, and work out what each turn does."""
        weights = graph.build(plan.spec, plan.sizes).weights
        # A transform's rows stand in order of weight, turn, cell and example (see ``layout``).
        cells = [np.lexsort((np.arange(len(own)), plan.order.time[i], own)) for i, own in enumerate(weights)]
        pieces: list[list[int]] = []
        turns: list[int] = []
        waiting: list[int] = []
        steps = shares.share(program, ALONE)[0].forward
        begun = int(np.argmax(steps["kind"] != shares.PACK))
        self._packs = np.ascontiguousarray(steps[:begun])
        for number, step in enumerate(steps[begun:], begun):
            if step["kind"] == WRAP:
                (pieces[-1] if pieces else waiting).append(number)
                continue
            waiting.append(number)
            if step["kind"] in (PRODUCT, shares.PACK):
                continue
            t = int(step["transform"])
            turn = int(plan.order.time[t][cells[t][int(step["first"]) // batch]])
            if turns and turns[-1] == turn:
                pieces[-1] += waiting
            else:
                pieces.append(waiting)
                turns.append(turn)
            waiting = []
        self._pieces = [np.ascontiguousarray(steps[piece]) for piece in pieces]
        self.features = np.array([_features(program, piece) for piece in self._pieces])
        made = [piece[np.isin(piece["kind"], (CELL, COPY))] for piece in self._pieces]
        self.rows = [int((each["end"] - each["first"]).sum()) for each in made]

    def seconds(self, rounds: int) -> Floats:
        """Measure the least time of each turn over so many sweeps, the cost of asking taken off."""
        records, blocks = self._tables.records, self._tables.blocks
        run, unit, products = machine.compiled()[0], np.empty(0, np.float32), machine.products("float32")
        alone = (0, 0, 0, 1, 0)  # it keeps all, and meets nobody
        empty = np.zeros(0, shares.STEP)
        run(self._packs, records, blocks, unit, *products, *alone)
        times = np.zeros((rounds + 1, len(self._pieces)))
        idle: list[float] = []
        for times_of in times:
            for i, piece in enumerate(self._pieces):
                start = time.perf_counter()
                run(piece, records, blocks, unit, *products, *alone)
                times_of[i] = time.perf_counter() - start
            start = time.perf_counter()
            run(empty, records, blocks, unit, *products, *alone)
            idle.append(time.perf_counter() - start)
        # Other programs only ever add to a time, so the least is the nearest to the turn's own.
        return np.maximum(times[1:].min(axis=0) - min(idle), 1e-7)


def _features(program: Program, piece: Array) -> list[float]:
    """Give what a turn does: its products, their multiply-adds, their weights' numbers, numbers gathered, gates computed."""
    calls = adds = weights = gathered = gates = 0.0
    for step in piece:
        kind, t, low, high = (int(step[name]) for name in ("kind", "transform", "low", "high"))
        own, rows = program.transforms[t], int(step["end"] - step["first"])
        if kind == PRODUCT:
            start = program.block_starts[t]
            inputs = sum(program.widths(t)[low - start : high - start])
            calls += 1
            adds += rows * inputs * own.width
            weights += inputs * own.width
            gathered += rows * inputs
        elif kind == CELL:
            gates += rows * own.width
        elif kind == COPY:
            gathered += rows * own.hidden
    return [1.0, calls, adds, weights, gathered, gates]


def coefficients(features: Floats, seconds: Floats) -> Floats:
    """Fit the seconds for one of each feature, ``[features]``, none of them negative: least squares of the relative error.

    ``features`` is ``[turns, features]``, ``seconds`` ``[turns]``."""
    optimize: Any = importlib.import_module("scipy.optimize")  # which brings no types
    relative = features / seconds[:, None]
    size = np.maximum(np.abs(relative).max(axis=0), 1e-300)  # columns of like size: the coefficients differ by many digits
    return optimize.nnls(relative / size, np.ones(len(seconds)))[0] / size
