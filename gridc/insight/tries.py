"""A grid under several schedules, side by side: what each runs, moves and keeps, on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gridc import plain_text
from gridc.insight.timing import Timing
from gridc.scheduling import counts, order
from gridc.scheduling.plan import Plan
from gridc.scheduling.program import MAKING, PRODUCT


@dataclass(frozen=True)
class Try:
    """What one schedule comes to for a mini-batch on one thread, in single precision."""

    asked: str
    """The directives, or ``the page's own``."""
    order: str
    turns: int
    """How many times the sweep goes on to steps that wait for others."""
    products: int
    """Matrix products of a forward sweep."""
    moved: int
    """Bytes that these fetch and write: weights, vectors read, pre-activations."""
    segments: int
    held: int
    """Bytes that a training step holds at its peak."""
    predicted: float
    """Seconds of a training step by the cost model: three sweeps' products, four where segments are run again."""
    measured: float | None = None
    """Seconds of a training step as it was timed."""

    def plain(self) -> Mapping[str, object]:
        """Give it as plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def on_paper(timing: Timing, batch: int, asked: str) -> Try:
    """Count what the schedule of a grid's page comes to for so many examples."""
    plan, spec = timing.plan(batch), timing.spec
    programs = [segment.program for segment in plan.sweep.segments]
    recompute = len(programs) > 1
    seconds = order.seconds(timing.steps, plan.order, batch)
    return Try(
        asked, plan.order.name, int(max(int(time.max(initial=-1)) for time in plan.order.time)) + 1,
        sum(int((p.instructions["kind"] == PRODUCT).sum()) for p in programs), _moved(plan), len(programs),
        counts.call_bytes(spec, timing.sizes, batch, 4, True, recompute), (3 + recompute) * seconds,
    )  # fmt: skip


def _moved(plan: Plan) -> int:
    numbers = 0
    for program in (segment.program for segment in plan.sweep.segments):
        for step in program.instructions:
            t, kind, low, high, adds = (int(step[name]) for name in ("transform", "kind", "low", "high", "adds"))
            own, rows = program.transforms[t], int(step["end"] - step["first"])
            if kind == PRODUCT:
                start = program.block_starts[t]
                inputs = sum(program.widths(t)[low - start : high - start])
                numbers += inputs * own.width + rows * inputs + rows * own.width * (1 + adds)
            elif kind in MAKING:
                numbers += rows * (own.width + own.state)
    return 4 * numbers


def table(name: str, sizes: str, batch: int, tries: Sequence[Try]) -> str:
    """Write schedules side by side, the first of them what the others are compared with."""
    measured = any(each.measured is not None for each in tries)
    first = tries[0].measured
    rows: list[list[object]] = []
    for each in tries:
        row: list[object] = [each.asked, each.order, f"{each.turns:,}", f"{each.products:,}", f"{each.moved / 1e6:,.1f}",
                             str(each.segments), f"{each.held / 1e6:,.1f}", f"{1e3 * each.predicted:,.2f}"]  # fmt: skip
        if measured and each.measured is not None and first is not None:
            row += [f"{1e3 * each.measured:,.2f}", f"{each.measured / first:.2f}"]
        rows.append(row)
    head = ["schedule", "order", "turns", "products", "MB moved", "segments", "MB held", "ms predicted"]
    head += ["ms measured", "of the first"] * measured
    lines = [f"{name}: {sizes}, batch {batch}, a training step in single precision", "", plain_text.table(head, rows)]
    return "\n".join(lines)


def timed(one: Try, seconds: float) -> Try:
    """Give a try with the seconds that its training step took."""
    return replace(one, measured=float(np.round(seconds, 9)))
