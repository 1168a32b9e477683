"""What people read of a schedule: its figures, its costs, several workers, what priority costs, what one change would do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from gridc.insight import arithmetic, changes, simulation
from gridc.insight.changes import Change
from gridc.insight.simulation import Model, SpeedUp
from gridc.insight.timing import Timing
from gridc.language.printing import read_text
from gridc.plain_text import amount, sizes, sparkline, table
from gridc.scheduling.graph import Step

LISTED = 200
"""Steps of a critical path that are listed one by one; of a longer one, those in the middle are left out."""
LEGS = 8
MOST_PLANNED = 500_000
"""Steps beyond which pricing the orders takes longer than the line of the report is worth."""
"""Stretches of a critical path that its summary names."""


def sizes_text(plan: Timing) -> str:
    """Write sizes: ``time 50 × depth 3``."""
    return sizes((d.name, n) for d, n in zip(plan.spec.dimensions, plan.sizes, strict=True))


class Row(NamedTuple):
    """A figure with its name and a note."""

    name: str
    figure: str
    note: str


def _rows(rows: Sequence[Row]) -> list[str]:
    return [f"  {name:<24} {figure:>14}   {note}".rstrip() for name, figure, note in rows]


# -- the figures -------------------------------------------------------------------------------------------------------


def figures(plan: Timing) -> str:
    """Write the figures of a schedule, the width of each wavefront in numbers and as bars, and the critical path."""
    many = len(plan.spec.transforms)
    rows = [
        Row("steps (work)", f"{plan.work:,}", f"{many} transform{'s' * (many > 1)} × {plan.cell_count:,} cells"),
        Row("wavefronts (span)", f"{plan.span:,}", "the longest path, in steps"),
        Row("widest", f"{plan.width:,}", f"wavefront {plan.widths.index(plan.width):,}"),
        Row("parallelism", f"{plan.parallelism:,.1f}", "work / span"),
    ]
    cells = plan.cells
    if cells is not None:
        rows.append(Row("wavefronts of cells", f"{cells.span:,}", f"{cells.work:,} cells, widest {cells.width:,}"))
    rows.append(_vector(plan))
    return "\n".join([
        f"{plan.spec.name}: {sizes_text(plan)}", "", *_rows(rows), "",
        f"  width of each  {sparkline(plan.widths)}",
        f"                 {widths_text(plan.widths)}",
        f"  critical path  {path_text(plan.critical_path)}",
    ])  # fmt: skip


def _vector(plan: Timing) -> Row:
    """Write the schedule vector as a sum over dimensions: which wavefront a step is in."""
    names = [d.name for d in plan.spec.dimensions]
    if plan.vectors:
        best = plan.vectors[0]
        late = [f"{name} {delay} later" for name, delay in zip(plan.spec.transforms, best.delays, strict=True) if delay]
        note = ", ".join(late) or "the wavefront of each of a cell's steps"
        if len(plan.vectors) > 1:
            others = [linear(names, vector.direction) for vector in plan.vectors[1:3]]
            note += f"; {' and '.join(others)} serve{'s' * (len(others) == 1)} as well"
        if best.span > plan.span:
            note += f"; makes {best.span:,} wavefronts, the longest path {plan.span:,}"
        return Row("schedule vector", linear(names, best.direction), note)
    if plan.plane is not None:
        each = zip(plan.plane.names, plan.plane.vectors, strict=True)
        return Row("schedule vector", "one each", "; ".join(f"{name} {linear(names, vector)}" for name, vector in each))
    return Row("schedule vector", "none", "wavefronts are no planes here: the explicit graph was levelled")


def linear(names: Sequence[str], vector: Sequence[int]) -> str:
    """Write a sum over dimensions: ``2·time + depth``."""
    terms = [(a, name if abs(a) == 1 else f"{abs(a)}·{name}") for a, name in zip(vector, names, strict=True) if a]
    return " ".join(f"{'-' if a < 0 else '+'} {term}" for a, term in terms).removeprefix("+ ") or "0"


def widths_text(widths: Sequence[int], most: int = 12) -> str:
    """Write every width, stretches that stay or rise or fall evenly written once: ``1, 2 … 18, 18 × 31, 17, 16 … 1``."""
    parts: list[str] = []
    i = 0
    while i < len(widths):
        step = widths[i + 1] - widths[i] if i + 1 < len(widths) else 0
        j = i
        while j + 1 < len(widths) and widths[j + 1] - widths[j] == step:
            j += 1
        if step == 0 and j > i:
            parts.append(f"{widths[i]:,} × {j - i + 1:,}")
        elif j - i >= 3:
            parts.append(f"{widths[i]:,}, {widths[i + 1]:,} … {widths[j]:,}")
        else:
            # A lone number; the next stretch may begin with the one after it.
            j = i
            parts.append(f"{widths[i]:,}")
        i = j + 1
    if len(parts) > most:
        parts[most // 2 : len(parts) - most // 2] = ["…"]
    return ", ".join(parts)


def path_text(path: Sequence[Step]) -> str:
    """Write a path by name, stretches that repeat only once: ``time[0, 0] → depth[0, 0] → … → depth[48, 0] (98 steps)``."""
    found = legs(path)
    if len(found) > LEGS:
        found[LEGS // 2 : len(found) - LEGS // 2] = [f"… {len(found) - LEGS // 2 * 2:,} stretches more (--path lists them) …"]
    return " → ".join(found)


def legs(path: Sequence[Step], longest: int = 6) -> list[str]:
    """Write a path in as few sentences as it allows: a pattern of moves that repeats becomes ``first → … → last (n steps)``."""
    if len(path) <= 4:
        return [str(step) for step in path]
    moves = [(a.transform, b.transform, tuple(y - x for x, y in zip(a.cell, b.cell, strict=True)))
             for a, b in itertools.pairwise(path)]  # fmt: skip
    result: list[str] = []
    i = 0
    while i < len(path):
        best, period = i, 1
        for p in range(1, longest + 1):
            j = i + p
            while j < len(moves) and moves[j] == moves[j - p]:
                j += 1
            # At least two whole rounds, or there is nothing that repeats.
            if j - i >= 2 * p and j > best + p:
                best, period = j, p
        if best == i:
            result.append(str(path[i]))
            i += 1
            continue
        shown = [str(step) for step in path[i : i + period]]
        result.append(" → ".join(shown) + f" → … → {path[best]} ({best - i + 1:,} steps)")
        i = best + 1
    return result


def path_table(plan: Timing) -> str:
    """Lay out the critical path step by step: the wavefront, the step, and why it waits for the one before."""
    path, why = plan.critical_path, ("waits for nothing", *reasons(plan))
    rows = [(f"{i:,}", str(step), reason) for i, (step, reason) in enumerate(zip(path, why, strict=True))]
    if len(rows) > LISTED:
        left_out = len(rows) - 2 * (LISTED // 2)
        rows[LISTED // 2 : -(LISTED // 2)] = [("–", f"… {left_out:,} steps; --json has them", "")]
    return table(("wavefront", "step", "because it"), rows)


# -- the report --------------------------------------------------------------------------------------------------------


def report(plan: Timing, workers: int = 8, model: Model | None = None) -> str:
    """Write everything that the command line prints of one schedule: figures, costs, workers, and what would change them."""
    model = model or Model()
    fast = simulation.speedup(plan, workers, model)
    parts = [figures(plan), _costs(plan, model), _workers(fast)]
    bare = changes.without_priority(plan.spec)
    if bare is not None:
        other = type(plan)(bare, plan.sizes)
        parts.append(_priority(plan, fast, other, simulation.speedup(other, workers, model)))
    parts.append(_advice(plan, workers, model))
    return "\n\n".join(part for part in parts if part)


def _costs(plan: Timing, model: Model) -> str:
    sums = arithmetic.arithmetic(plan, model.batch, model.itemsize)
    rows = [
        Row("forward", f"{amount(sums.flops)}FLOP", f"{amount(sums.forward_bytes)}B touched, {sums.intensity:.1f} FLOP a byte"),
        Row("training step", f"{amount(sums.training_flops)}FLOP", f"{amount(sums.training_bytes)}B kept at the peak"),
    ]
    lines = [f"  one mini-batch of {model.batch}"]
    if sums.peak_forward_bytes is None:
        rows.append(Row("alive, forward", "not counted", f"on a grid of more than {arithmetic.MOST_COUNTED:,} steps"))
        return "\n".join([*lines, *_rows(rows)])
    alive = arithmetic.lifetimes(plan).vectors.tolist()
    note = f"at most; {amount(sums.peak_forward_bytes)}B at the peak, weights included"
    rows.append(Row("alive, forward", f"{max(alive):,} vectors", note))
    return "\n".join([
        *lines, *_rows(rows), f"  vectors alive  {sparkline(alive)}", f"                 {widths_text(alive)}",
        f"  executed by    {_executed(plan, model.batch)}", *_freed(plan, model.batch),
    ])  # fmt: skip


def _freed(plan: Timing, batch: int) -> list[str]:
    """Say of transforms whose gates see none of their state how few products that leaves."""
    if plan.work > MOST_PLANNED:
        return []
    return [f"  made ahead     {name}: {made:,} product{'s' * (made > 1)} for {run:,} batches, since no gate sees its state"
            for name, (made, run) in plan.freed(batch).items()]  # fmt: skip


def _executed(plan: Timing, batch: int) -> str:
    if plan.work > MOST_PLANNED:
        return f"not planned on paper: more than {MOST_PLANNED:,} steps"
    return f"{plan.order_for(batch)}, the cheapest order of few and wide products"


def _workers(fast: SpeedUp) -> str:
    rows = [
        Row("at most", f"{fast.most:.2f}", "counted in steps; laws of work and span"),
        Row("wavefront by wavefront", f"{fast.brent:.2f}", "Brent 1974"),
        Row("any list schedule", f"{fast.graham:.2f}", "at least; Graham 1966"),
    ]
    if fast.simulated is None or fast.moved is None or fast.most_in_time is None:
        rows.append(Row("simulated", "not simulated", f"on a grid of more than {simulation.MOST_SIMULATED:,} steps"))
    else:
        rows.append(Row("at most, in time", f"{fast.most_in_time:.2f}", "the longest path takes what its steps cost"))
        note = f"a list schedule that pays for steps and for the {fast.moved:,} vectors that change workers"
        rows.append(Row("simulated, in time", f"{fast.simulated:.2f}", note))
    return "\n".join([f"  {fast.workers} worker{'s' * (fast.workers > 1)}, times as fast as one", *_rows(rows)])


def _priority(plan: Timing, fast: SpeedUp, bare: Timing, fast_bare: SpeedUp) -> str:
    """Compare the same grid with its priority and without."""

    def column(one: Timing, speed: SpeedUp) -> list[str]:
        cells = [f"{one.span:,}", f"{one.width:,}", f"{one.parallelism:,.1f}"]
        if speed.seconds is not None and speed.simulated is not None:
            cells += [f"{speed.seconds * 1e3:.3f}", f"{speed.simulated:.2f}"]
        return cells

    names = ("wavefronts", "widest", "parallelism", f"milliseconds on {fast.workers}, simulated", "times as fast as one worker")
    rows = zip(names, column(plan, fast), column(bare, fast_bare), strict=False)
    return table(("what priority costs", "with", "without"), rows)


def _advice(plan: Timing, workers: int, model: Model) -> str:
    lines: list[str] = []
    name, gone = changes.limiting(plan)
    if gone:
        lines.append(f"  {name} limits it most: half of it would save {gone:,} of {plan.span:,} wavefronts.")
    found = changes.changes(plan, workers, model) if plan.work <= simulation.MOST_SIMULATED else []
    same = [change for change in found if change.kind != "dimension"]
    if same and same[0].gain >= 1.02:
        best = same[0]
        lines.append(f"  Of the changes that leave its size as it is, '{best.name}' helps most: {best.gain:.2f} times as fast.")
    elif same:
        lines.append("  No change that leaves its size as it is would help.")
    if found:
        head = f"  one change, on {workers} worker{'s' * (workers > 1)} (a shorter dimension does less, too)"
        lines += ["", head, table(CHANGE_HEAD, (change_row(c) for c in found))]
    return "\n".join(lines)


CHANGE_HEAD = ("change", "steps", "wavefronts", "parallelism", "products", "milliseconds", "times as fast")


def change_row(change: Change) -> tuple[str, ...]:
    """Give the texts of one change for a table under ``CHANGE_HEAD``; a dash for products that were not counted."""
    return (
        change.name, f"{change.work:,}", f"{change.span:,}", f"{change.parallelism:.1f}",
        "–" if change.products is None else f"{change.products:,}", f"{change.seconds * 1e3:.3f}", f"{change.gain:.2f}",
    )  # fmt: skip


def _in_time(fast: SpeedUp) -> list[str]:
    if fast.most_in_time is None or fast.simulated is None or fast.seconds is None:
        return ["–"] * 3
    return [f"{fast.most_in_time:.2f}", f"{fast.simulated:.2f}", f"{fast.seconds * 1e3:.3f}"]


def comparison(plans: Sequence[Timing], workers: int = 8, model: Model | None = None) -> str:
    """Lay out schedules side by side, one a column."""
    model = model or Model()
    columns: list[list[str]] = []
    for plan in plans:
        sums, fast = arithmetic.arithmetic(plan, model.batch, model.itemsize), simulation.speedup(plan, workers, model)
        cells = plan.cells
        alive = f"{int(arithmetic.lifetimes(plan).vectors.max()):,}" if plan.work <= arithmetic.MOST_COUNTED else "–"
        columns.append([
            sizes_text(plan), f"{plan.work:,}", f"{plan.span:,}", f"{cells.span:,}" if cells else "–", f"{plan.width:,}",
            f"{plan.parallelism:,.1f}", changes.limiting(plan)[0], f"{amount(sums.flops)}FLOP", f"{amount(sums.training_bytes)}B",
            alive, f"{fast.most:.2f}", f"{fast.brent:.2f}", *_in_time(fast), sparkline(plan.widths, 24),
        ])  # fmt: skip
    labels = (
        "sizes", "steps", "wavefronts", "wavefronts of cells", "widest", "parallelism", "limited most by",
        f"forward, batch of {model.batch}", "training keeps", "vectors alive at most", f"{workers} workers, at most",
        "  by wavefronts", "  at most, in time", "  simulated, in time", "  milliseconds", "widths",
    )  # fmt: skip
    names = [plan.spec.name for plan in plans]
    heads = [f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]
    return table(("", *heads), zip(labels, *columns, strict=True))


def reasons(timing: Timing) -> tuple[str, ...]:
    """Say why each step of the critical path but the first waits for the one before: it ``carries its memory`` or ``reads
    time[here]``."""
    told: list[str] = []
    for before, after in itertools.pairwise(timing.critical_path):
        t = timing.spec.transforms[after.transform]
        by = next(by for step, by in timing.predecessors(after) if step == before)
        carries = f"carries its {'memory' if t.has_memory else 'vector'}"
        told.append(carries if by < 0 else f"reads {read_text(timing.spec, t.reads[by])}")
    return tuple(told)
