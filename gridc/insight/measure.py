"""Predicted and measured time of every wavefront, side by side: the fused sweep, forward, on one thread of this machine.

What is timed is the sweep's own order of execution, turn by turn: a *turn* is one wavefront of steps or of cells, with the
products that are made ahead for it.  The prediction comes from a linear model of what a turn does, fitted on this machine to
the same grid at other sizes and batches, never to the turns that it predicts.  Importing this module imports Numba.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gridc import plain_text
from gridc.fusion import blas
from gridc.insight.calibration import Runs, calibrated, coefficients
from gridc.insight.timing import Timing
from gridc.options import LARGEST, integer


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

    Raises UsageError for a grid with cells that have no fused sweep."""
    batch, rounds = integer("batch", batch, high=LARGEST), integer("rounds", rounds, high=LARGEST)
    known = [(run.features, run.forward(5)) for run in calibrated(plan, batch)]
    weights = coefficients(*(np.concatenate(each) for each in zip(*known, strict=True)))
    with blas.single_threaded():
        own = Runs(plan, batch)
        measured = own.forward(rounds)
    predicted = own.features @ weights
    turns = tuple(Turn(int(r), float(p), float(m)) for r, p, m in zip(own.rows, predicted, measured, strict=True))
    return Measurement(plan.spec.name, own.order, batch, rounds, turns, plan.span)
