"""Plain-text tables of a spec and of a schedule: what ``print`` shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gridc.language.spec import Direction, GridSpec, Input, Output, Read, Selection, Transform

if TYPE_CHECKING:
    from gridc.scheduling.changes import Change
    from gridc.scheduling.costs import Model
    from gridc.scheduling.graph import Step
    from gridc.scheduling.schedule import Schedule

BARS = " ▁▂▃▄▅▆▇█"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 2) -> str:
    """Columns two spaces apart; a column of numbers stands to the right."""
    lines = [[str(entry) for entry in row] for row in rows]
    widths = [max(len(line[i]) for line in (list(head), *lines)) for i in range(len(head))]
    right = [bool(lines) and all(_is_number(line[i]) for line in lines) for i in range(len(head))]

    def line(entries: Sequence[str]) -> str:
        cells = [e.rjust(w) if r else e.ljust(w) for e, w, r in zip(entries, widths, right, strict=True)]
        return (" " * indent + "  ".join(cells)).rstrip()

    return "\n".join([line(head), *(line(entries) for entries in lines)])


def _is_number(text: str) -> bool:
    return text == "–" or text.replace(",", "").replace(".", "").isdigit()


# -- specs -------------------------------------------------------------------------------------------------------------


def spec_table(spec: GridSpec) -> str:
    """What a spec means, with every default spelled out."""
    extents = " × ".join(f"{d.name} {d.size}" for d in spec.dimensions)
    order = " → ".join(" ".join(group) for group in spec.priority) if len(spec.priority) > 1 else "none"
    parts = [f"{spec.name}: a grid of {extents}; priority {order}", ""]
    head = ("transform", "cell", "hidden", "along", "direction", "tied", "start", "reads")
    parts.append(table(head, (_transform_row(spec, t) for t in spec.transforms.values())))
    if spec.inputs:
        parts += ["", table(("input", "kind", "goes", "at", "axes"), (_input_row(spec, i) for i in spec.inputs.values()))]
    if spec.outputs:
        parts += ["", table(("output", "kind", "reads", "at", "loss"), (_output_row(spec, o) for o in spec.outputs.values()))]
    return "\n".join(parts)


def _transform_row(spec: GridSpec, t: Transform) -> tuple[str, ...]:
    cell = t.cell + (f" ({t.options.activation})" if "activation" in t.mechanism.options else "")
    reads = [*(read_text(spec, r) for r in t.reads), *(i.name for i in spec.joined(t.name))]
    return (
        t.name, cell + " +peepholes" * t.options.peepholes, str(t.hidden), " ".join(spec.names(t.along)),
        direction_text(spec, t), tied_text(spec, t), start_text(spec, t), ", ".join(reads),
    )  # fmt: skip


def direction_text(spec: GridSpec, t: Transform) -> str:
    """``forward``, ``backward``, or arrows that alternate over a dimension; one for each dimension travelled."""

    def one(direction: Direction) -> str:
        if direction.over is None:
            return "forward" if direction.cycle[0] > 0 else "backward"
        return "".join("→" if way > 0 else "←" for way in direction.cycle) + f" over {spec.dimensions[direction.over].name}"

    ways = [one(direction) for direction in t.direction]
    return ways[0] if len(set(ways)) == 1 else ", ".join(ways)


def tied_text(spec: GridSpec, t: Transform) -> str:
    if not t.gates and t.cell != "memory":
        return "–"
    shared = f" (shares {t.shares})" if t.shares else ""
    if not t.untied:
        return f"all{shared}"
    return ("none" if len(t.untied) == len(spec.dimensions) else "not " + " ".join(spec.names(t.untied))) + shared


def start_text(spec: GridSpec, t: Transform) -> str:
    if t.start != "wrap":
        return t.start
    return "wrap " + " ".join(f"{d.name}{o:+d}" for d, o in zip(spec.dimensions, t.wrap, strict=True) if o)


def read_text(spec: GridSpec, read: Read) -> str:
    """``time[here]``, ``time[time-1]``, or ``time[entering]`` for what enters along its own dimension."""
    offset = " ".join(f"{d.name}{o:+d}" for d, o in zip(spec.dimensions, read.offset, strict=True) if o)
    if read.via is None:
        return f"{read.of}[{offset or 'here'}]"
    several = len(spec.transforms[read.of].along) > 1
    via = f"entering along {spec.dimensions[read.via].name}" if several else "entering"
    return f"{read.of}[{via}{', ' + offset if offset else ''}]"


def at_text(spec: GridSpec, at: Sequence[Selection]) -> str:
    chosen = [f"{d.name} {s if isinstance(s, str) else ' '.join(map(str, s))}"
              for d, s in zip(spec.dimensions, at, strict=True) if s != "all"]  # fmt: skip
    return ", ".join(chosen) or "everywhere"


def _input_row(spec: GridSpec, i: Input) -> tuple[str, ...]:
    embedded = f", embedded in {i.embed}" if i.embed else ""
    kind = f"{i.size} features" if i.kind == "features" else f"ids below {i.size}{embedded}"
    goes: list[str] = []
    if i.enters:
        goes.append(f"enters {i.enters} ({' and '.join(i.into)})")
    if i.joins:
        goes.append(f"joins {' '.join(i.joins)}")
    axes = ["batch", *spec.names(i.over), *(["facts"] if i.facts else [])]
    return i.name, kind, "; ".join(goes) or "facts", at_text(spec, i.at), " × ".join(axes)


def _output_row(spec: GridSpec, o: Output) -> tuple[str, ...]:
    kind = {"binary": "binary", "raw": "raw"}.get(o.kind, f"{o.size} {o.kind}")
    return o.name, kind, " ".join(map(str, o.reads)), at_text(spec, o.at), o.loss.replace("_", " ")


# -- schedules ---------------------------------------------------------------------------------------------------------


def schedule_table(plan: Schedule) -> str:
    """The figures of a schedule, the widths as a row of bars, and the critical path."""
    sizes = " × ".join(f"{d.name} {n}" for d, n in zip(plan.spec.dimensions, plan.sizes, strict=True))
    lines = [f"{plan.spec.name}: {sizes}", ""]
    rows: list[tuple[str, str, str]] = [
        ("steps (work)", f"{plan.work:,}", f"{len(plan.spec.transforms)} transforms × {plan.cell_count:,} cells"),
        ("wavefronts (span)", f"{plan.span:,}", "the longest path, in steps"),
        ("widest", f"{plan.width:,}", f"wavefront {plan.widths.index(plan.width)}"),
        ("parallelism", f"{plan.parallelism:,.1f}", "work / span"),
    ]
    cells = plan.cells
    if cells is not None:
        rows.append(("wavefronts of cells", f"{cells.span:,}", f"{cells.work:,} cells, widest {cells.width:,}"))
    lines += [f"  {name:<20} {figure:>14}   {note}" for name, figure, note in rows]
    lines += ["", f"  widths         {sparkline(plan.widths)}"]
    lines += [f"  critical path  {path_text(plan.critical_path)}"]
    return "\n".join(lines)


def sparkline(values: Sequence[float], length: int = 60) -> str:
    """The values as bars, the largest of each stretch where there are more than ``length``."""
    if len(values) > length:
        ends = [i * len(values) // length for i in range(length + 1)]
        values = [max(values[a:e]) for a, e in itertools.pairwise(ends)]
    top = max(values, default=1) or 1
    return "".join(BARS[max(1, round(8 * v / top)) if v else 0] for v in values)


def path_text(path: Sequence[Step]) -> str:
    """A path by name: stretches that repeat are written once, ``(time[0, 0] → depth[0, 0]) … 48 times more``."""
    return " → ".join(legs(path))


def legs(path: Sequence[Step], longest: int = 6) -> list[str]:
    """A path as few sentences as it allows: a pattern of moves that repeats becomes ``first … last (n steps)``."""
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


def report(plan: Schedule, workers: int = 8, model: Model | None = None, *, changes: bool = True) -> str:
    """Everything that the command line prints of one schedule: figures, costs, workers, and what would change them."""
    from gridc.scheduling import changes as altered
    from gridc.scheduling import costs

    model = model or costs.Model()
    sums = costs.arithmetic(plan, model.batch, model.itemsize)
    lines = [schedule_table(plan), "", f"  one mini-batch of {model.batch}"]
    rows = [
        ("forward", f"{amount(sums.flops)}FLOP", f"{amount(sums.forward_bytes)}B touched, {sums.intensity:.1f} FLOP a byte"),
        ("training step", f"{amount(sums.training_flops)}FLOP", f"{amount(sums.training_bytes)}B kept at the peak"),
    ]
    if sums.peak_forward_bytes is not None:
        alive = costs.lifetimes(plan)
        most = int(alive.vectors.max())
        rows.append(("alive, forward", f"{most:,} vectors", f"{amount(sums.peak_forward_bytes)}B at the peak, weights included"))
        lines += [f"  {name:<20} {figure:>14}   {note}" for name, figure, note in rows]
        lines.append(f"  vectors alive  {sparkline(alive.vectors.tolist())}")
    else:
        lines += [f"  {name:<20} {figure:>14}   {note}" for name, figure, note in rows]
    fast = costs.speedup(plan, workers, model)
    lines += ["", f"  {workers} workers, times as fast as one"]
    bounds = [
        ("at most", fast.most, "laws of work and span"),
        ("wavefront by wavefront", fast.brent, "Brent 1974"),
        ("any list schedule", fast.graham, "at least; Graham 1966"),
    ]
    lines += [f"  {name:<24} {value:>10.2f}   {note}" for name, value, note in bounds]
    if fast.simulated is not None:
        note = f"list schedule with costs; {fast.moved:,} vectors change workers"
        lines.append(f"  {'simulated':<24} {fast.simulated:>10.2f}   {note}")
    name, gone = altered.limiting(plan)
    if gone:
        lines += ["", f"  {name} limits it most: half of it would save {gone:,} wavefronts"]
    if changes and plan.work <= costs.MOST_SIMULATED:
        found = altered.changes(plan, workers, model)
        if found:
            lines += ["", f"  one change, on {workers} workers", table(CHANGE_HEAD, (change_row(c) for c in found))]
    return "\n".join(lines)


CHANGE_HEAD = ("change", "steps", "wavefronts", "parallelism", "products", "milliseconds", "times as fast")


def change_row(change: Change) -> tuple[str, ...]:
    return (
        change.name, f"{change.work:,}", f"{change.span:,}", f"{change.parallelism:.1f}",
        "–" if change.products is None else f"{change.products:,}", f"{change.seconds * 1e3:.3f}", f"{change.gain:.2f}",
    )  # fmt: skip


def comparison(plans: Sequence[Schedule], workers: int = 8, model: Model | None = None) -> str:
    """Schedules side by side, one a column."""
    from gridc.scheduling import costs

    model = model or costs.Model()
    columns: list[list[str]] = []
    for plan in plans:
        sums, fast, cells = costs.arithmetic(plan, model.batch), costs.speedup(plan, workers, model), plan.cells
        columns.append([
            " × ".join(f"{d.name} {n}" for d, n in zip(plan.spec.dimensions, plan.sizes, strict=True)),
            f"{plan.work:,}", f"{plan.span:,}", f"{cells.span:,}" if cells else "–", f"{plan.width:,}",
            f"{plan.parallelism:,.1f}", f"{amount(sums.flops)}FLOP", f"{amount(sums.training_bytes)}B",
            f"{fast.most:.2f}", f"{fast.brent:.2f}",
            "–" if fast.simulated is None else f"{fast.simulated:.2f}", sparkline(plan.widths, 24),
        ])  # fmt: skip
    labels = (
        "sizes", "steps", "wavefronts", "wavefronts of cells", "widest", "parallelism", f"forward, batch of {model.batch}",
        "training keeps", f"{workers} workers, at most", "  by wavefronts", "  simulated", "widths",
    )  # fmt: skip
    return table(("", *(plan.spec.name for plan in plans)), zip(labels, *columns, strict=True))


def amount(value: float) -> str:
    """Three digits and a prefix: ``1.23 M`` (thousands, not 1,024s)."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g} "
