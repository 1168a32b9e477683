"""One self-contained page to explore a schedule in: the grid, its wavefronts, what every step reads and who waits for it.

The page is ``explorer.html`` with the schedule's arrays in it as base64; it loads nothing, and its own policy forbids it to.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gridc.errors import UsageError
from gridc.insight import report
from gridc.insight.simulation import MOST_SIMULATED, Model, simulate
from gridc.insight.timing import Timing
from gridc.language import printing
from gridc.language.lattice import flat, points, waits
from gridc.language.shapes import weights
from gridc.language.spec import Transform
from gridc.pictures.cell_drawing import colours
from gridc.pictures.unrolled_drawing import entering, joined, tapped

MOST_EXPLORED = 400_000
"""Steps beyond which the page would be tens of megabytes."""
START, ENTRY = -1, -2
"""In place of a step: a read that finds the start alone, or what enters the grid there."""


def page(plan: Timing, workers: int = 4, model: Model | None = None) -> str:
    """Write the page as text.  Raises UsageError for a grid of more than ``MOST_EXPLORED`` steps."""
    if plan.work > MOST_EXPLORED:
        raise UsageError(f"grid '{plan.spec.name}' has {plan.work:,} steps, and the page shows at most {MOST_EXPLORED:,}; "
                         "smaller sizes show the same shape")  # fmt: skip
    return filled(Path(__file__).with_name("explorer.html"), plan.spec.name, data(plan, workers, model or Model()))


def filled(template: Path, title: str, held: Mapping[str, Any]) -> str:
    """Fill a page of one file in: its title, and the data that its script reads."""
    # Inside a script element only "</" and "<!--" could end the data early.
    text = json.dumps(held, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"@TITLE@": html.escape(title), "@DATA@": text}
    # In one pass, so that a name that reads like a place of the page is not taken for one.
    return re.sub("|".join(parts), lambda found: parts[found.group()], template.read_text(encoding="utf-8"))


def data(plan: Timing, workers: int, model: Model) -> dict[str, Any]:
    """Gather what the page knows."""
    spec, colour = plan.spec, colours(plan.spec)
    steps = [plan.number(step) for step in plan.critical_path]
    return {
        "name": spec.name,
        "dimensions": [{"name": d.name, "size": n} for d, n in zip(spec.dimensions, plan.sizes, strict=True)],
        "figures": [
            ["steps", f"{plan.work:,}"], ["wavefronts", f"{plan.span:,}"], ["widest", f"{plan.width:,}"],
            ["parallelism", f"{plan.parallelism:,.1f}"],
        ],
        "transforms": [
            {**_transform(plan, t), "colour": colour[t.name], "blocks": _blocks(plan, t)} for t in spec.transforms.values()
        ],
        "levels": _packed(plan.level_numbers, np.int32),
        "widths": list(plan.widths),
        "critical": _packed(np.asarray(steps), np.int32),
        "path": report.path_text(plan.critical_path),
        "inputs": [
            {"name": i.name, "cells": _packed(flat(cells, plan.sizes), np.int32)}
            for i in spec.inputs.values() for cells in [np.concatenate([entering(plan, i)[0], joined(plan, i)])]
        ],
        "outputs": [
            {"name": o.name, "steps": _packed(np.concatenate([
                spec.numbers[name] * plan.cell_count + flat(cells, plan.sizes)
                for name, cells in tapped(plan, o).items()]), np.int32)}
            for o in spec.outputs.values()
        ],
        "lanes": _lanes(plan, workers, model),
        "workers": workers,
        **_running(plan, model.batch),
    }  # fmt: skip


def _running(plan: Timing, batch: int) -> dict[str, Any]:
    """Say when the fused sweep runs each step: the turn of every step, the order's name, and the blocks that it is cut into.

    A transform that only hands on takes no turn of its own: it is shown with what it hands on."""
    spec, order = plan.spec, plan.chosen(batch)
    turns = np.stack(order.time)
    for name in (name for name, t in spec.transforms.items() if spec.relayed(t)):
        source, at, extent = spec.transforms[name], points(plan.sizes), np.asarray(plan.sizes, np.int64)
        turn = np.full(len(at), -1)
        there = np.arange(len(at))
        while spec.relayed(source):
            wait = next(wait for wait in waits(spec, source, at, extent) if wait.by == 0)
            there, at, source = there[wait.steps], wait.points[wait.steps], wait.of
        turn[there] = turns[spec.numbers[source.name], flat(at, plan.sizes)]
        turns[spec.numbers[name]] = np.maximum(turn, 0)
    _, numbers, widths = np.unique(turns.ravel(), return_inverse=True, return_counts=True)  # none is empty
    sizes = dict(spec.schedule.tile)
    return {
        "turns": _packed(numbers, np.int32), "turnWidths": widths.tolist(),
        "order": order.name, "tile": [sizes.get(d, 0) for d in range(len(plan.sizes))],
    }  # fmt: skip


def _packed(values: Any, kind: Any) -> str:
    # Little-endian whatever this machine is, as every browser's machine is.
    return base64.b64encode(np.asarray(values).astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _transform(plan: Timing, t: Transform) -> dict[str, Any]:
    spec = plan.spec
    owner = spec.weight_owner(t.name)
    reads = ", ".join(printing.read_text(spec, read) for read in t.reads)
    joining = [i.name for i in spec.joined(t.name)]
    columns = len(t.gates) * t.hidden
    return {
        "name": t.name,
        "weights": f"{owner}.W" if weights(spec, t) else "none",
        "shape": f"{spec.rows(t.name)} × {columns}" if columns else "",
        "untied": list(t.untied),
        "joined": joining,
        "equation": [*([f"z = concat({', '.join([reads, *joining])})"] if reads else []),
                     *([f"gates {', '.join(t.gates)} from zW + b"] if len(t.gates) > 1 else []),
                     *map(str.strip, t.mechanism.equation.split(";"))],
        "about": f"{t.cell}, {t.hidden} units, along {' and '.join(spec.names(t.along))}, {printing.direction_text(spec, t)}, "
                 f"tied {printing.tied_text(spec, t)}; reads {reads}",
    }  # fmt: skip


def _blocks(plan: Timing, t: Transform) -> list[dict[str, Any]]:
    """For every read, and every memory that is carried, which step each cell finds."""
    spec, extent = plan.spec, np.asarray(plan.sizes, np.int64)
    kind = "memory" if t.has_memory else "own vector"
    found = list(waits(spec, t, points(plan.sizes), extent))
    texts = [printing.read_text(spec, r) for r in t.reads]
    texts += [f"its {kind}, along {spec.dimensions[axis].name}" for axis in t.along if t.carries]
    blocks: list[dict[str, Any]] = []
    # The reads first, as a spec has them.
    for wait, text in zip(sorted(found, key=lambda wait: wait.by < 0), texts, strict=True):
        inputs = [i.name for i in spec.entering(wait.of.name)]
        start = f"start: {printing.start_text(spec, wait.of)}"
        steps = np.where(wait.entering, ENTRY, START)
        steps[wait.steps] = spec.numbers[wait.of.name] * plan.cell_count + flat(wait.points[wait.steps], plan.sizes)
        blocks.append({"text": text, "start": start, "entry": " + ".join([start, *inputs]), "found": _packed(steps, np.int32)})
    return blocks


def _lanes(plan: Timing, workers: int, model: Model) -> list[dict[str, Any]]:
    """Simulate the workers' timelines: on a small grid for several numbers of workers, on a large one for the one asked for."""
    if plan.work > MOST_SIMULATED:
        return []
    several = sorted({2, workers, 8, 16}) if plan.work <= 5000 else [workers]
    lanes: list[dict[str, Any]] = []
    for many in several:
        made = simulate(plan, many, model)
        lanes.append({
            "workers": many, "seconds": made.seconds,
            "text": f"simulated, batch of {model.batch}: {made.speedup:.2f} times as fast as one worker, {made.busy:.0%} busy, "
                    f"{made.moved:,} vectors moved between workers",
            "step": _packed([run.step for run in made.runs], np.int32),
            "worker": _packed([run.worker for run in made.runs], np.int32),
            "start": _packed([run.start for run in made.runs], np.float32),
            "end": _packed([run.end for run in made.runs], np.float32),
        })  # fmt: skip
    return lanes
