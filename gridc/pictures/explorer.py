"""One self-contained page to explore a schedule in: the grid, its wavefronts, what every step reads and who waits for it.

The page is ``explorer.html`` with the schedule's arrays in it as base64; it loads nothing, and its own policy forbids it to.
"""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from gridc.errors import UsageError
from gridc.language.lattice import Ints, carried, far_end, locate, points, source
from gridc.language.spec import Transform
from gridc.pictures.cell_drawing import colours
from gridc.pictures.unrolled_drawing import entering, joined, tapped
from gridc.scheduling import report, tables
from gridc.scheduling.costs import MOST_SIMULATED, Model
from gridc.scheduling.schedule import Schedule

MOST_EXPLORED = 400_000
"""Steps beyond which the page would be tens of megabytes."""
START, ENTRY = -1, -2
"""In place of a step: a read that finds the start alone, or what enters the grid there."""


def page(plan: Schedule, workers: int = 4, model: Model | None = None) -> str:
    """The page as text.  Raises UsageError for a grid of more than ``MOST_EXPLORED`` steps."""
    if plan.work > MOST_EXPLORED:
        raise UsageError(f"grid '{plan.spec.name}' has {plan.work:,} steps, and the page shows at most {MOST_EXPLORED:,}; "
                         "smaller sizes show the same shape")  # fmt: skip
    template = (Path(__file__).with_name("explorer.html")).read_text(encoding="utf-8")
    # Inside a script element only "</" and "<!--" could end the data early.
    text = json.dumps(data(plan, workers, model or Model()), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {"@TITLE@": html.escape(plan.spec.name), "@DATA@": text}
    # In one pass, so that a name that reads like a place of the page is not taken for one.
    return re.sub("|".join(parts), lambda found: parts[found.group()], template)


def data(plan: Schedule, workers: int, model: Model) -> dict[str, Any]:
    """What the page knows."""
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
            {"name": i.name, "cells": _packed(_flat(plan, np.concatenate([entering(plan, i)[0], joined(plan, i)])), np.int32)}
            for i in spec.inputs.values()
        ],
        "outputs": [
            {"name": o.name, "steps": _packed(np.concatenate([
                list(spec.transforms).index(name) * plan.cell_count + _flat(plan, cells)
                for name, cells in tapped(plan, o).items()]), np.int32)}
            for o in spec.outputs.values()
        ],
        "lanes": _lanes(plan, workers, model),
        "workers": workers,
    }  # fmt: skip


def _flat(plan: Schedule, cells: Ints) -> Ints:
    """The numbers of cells, row-major."""
    return np.asarray(np.ravel_multi_index(tuple(cells.T), plan.sizes), np.int64)


def _packed(values: Any, kind: Any) -> str:
    # Little-endian whatever this machine is, as every browser's machine is.
    return base64.b64encode(np.asarray(values).astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _transform(plan: Schedule, t: Transform) -> dict[str, Any]:
    spec = plan.spec
    owner = spec.weight_owner(t.name)
    reads = ", ".join(tables.read_text(spec, read) for read in t.reads)
    joining = [i.name for i in spec.joined(t.name)]
    columns = len(t.gates) * t.hidden
    return {
        "name": t.name,
        "weights": f"{owner}.W" if columns or t.cell == "memory" else "none",
        "shape": f"{spec.rows(t.name)} × {columns}" if columns else "",
        "untied": list(t.untied),
        "joined": joining,
        "equation": [*([f"z = concat({', '.join([reads, *joining])})"] if reads else []),
                     *([f"gates {', '.join(t.gates)} from zW + b"] if len(t.gates) > 1 else []),
                     *map(str.strip, t.mechanism.equation.split(";"))],
        "about": f"{t.cell}, {t.hidden} units, along {' and '.join(spec.names(t.along))}, {tables.direction_text(spec, t)}, "
                 f"tied {tables.tied_text(spec, t)}; reads {reads}",
    }  # fmt: skip


def _blocks(plan: Schedule, t: Transform) -> list[dict[str, Any]]:
    """For every read, and every memory that is carried, which step each cell finds."""
    spec, at = plan.spec, points(plan.sizes)
    looked = [(spec.transforms[r.of], source(spec, r, at), tables.read_text(spec, r)) for r in t.reads]
    if t.has_memory or t.mechanism.uses_hidden:
        kind = "memory" if t.has_memory else "own vector"
        for axis, point in zip(t.along, carried(t, at), strict=True):
            looked.append((t, point, f"its {kind}, along {spec.dimensions[axis].name}"))
    blocks: list[dict[str, Any]] = []
    for of, point, text in looked:
        inputs = [i.name for i in spec.entering(of.name)]
        start = f"start: {tables.start_text(spec, of)}"
        found = _packed(_found(plan, of, point), np.int32)
        blocks.append({"text": text, "start": start, "entry": " + ".join([start, *inputs]), "found": found})
    return blocks


def _found(plan: Schedule, of: Transform, point: Ints) -> Ints:
    extent = np.asarray(plan.sizes, np.int64)
    found = locate(of, point, extent)
    base = list(plan.spec.transforms).index(of.name) * plan.cell_count
    result = np.where(found.entering, ENTRY, START)
    result[found.inside] = base + np.ravel_multi_index(tuple(point[found.inside].T), plan.sizes)
    if of.start == "wrap":
        there, exists = far_end(of, point, extent)
        wrapped = found.entering & exists
        result[wrapped] = base + np.ravel_multi_index(tuple(there[wrapped].T), plan.sizes)
    return result


def _lanes(plan: Schedule, workers: int, model: Model) -> list[dict[str, Any]]:
    """The workers' timelines: on a small grid for several numbers of workers, on a large one for the one asked for."""
    if plan.work > MOST_SIMULATED:
        return []
    several = sorted({2, workers, 8, 16}) if plan.work <= 5000 else [workers]
    lanes: list[dict[str, Any]] = []
    for many in several:
        made = plan.simulate(many, model)
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
