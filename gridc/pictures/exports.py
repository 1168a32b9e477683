"""A schedule for other programs: JSON and back, networkx, Graphviz, and a Chrome trace of simulated workers.

The JSON format, ``{"format": "gridc.schedule", "version": 1, ...}``; a reader must refuse a version that it does not know:

=================  =====================================================================================================
``spec``           the YAML text of the spec; with ``sizes`` it determines all the rest
``schedule``       what is asked of its plan, at a call or on the page, in the page's words: ``{"order": "levels"}``
``name``           the grid's name
``dimensions``     list of ``{"name", "size", "symbol"}``, the symbol null where the size is fixed
``transforms``     list of ``{"name", "cell", "hidden", "along", "flops"}``; flops of one step for one example, forward
``work``           steps; ``span`` wavefronts; ``width`` the widest; ``parallelism`` work / span
``widths``         steps of each wavefront
``cells``          ``{"work", "span", "width"}`` of wavefronts of whole cells, or null where cells wait for each other
``vector``         the schedule vectors of a uniform grid, ``{transform: {"vector": [...], "offset": n}}``, or null
``critical_path``  list of ``[transform, [coordinates]]``
``costs``          of a mini-batch of ``batch`` examples: ``flops``, ``training_flops``, ``forward_bytes`` touched,
                   ``peak_forward_bytes`` and ``training_bytes`` kept at the peak; ``alive``, the vectors alive at each wavefront,
                   null (like ``peak_forward_bytes``) where the grid is too large to count them
``speedup``        on so many ``workers``, counted in steps: ``most`` (work and span), ``brent`` (wavefront by wavefront),
                   ``graham`` (any list schedule, at least); in time: ``simulated``, ``moved`` vectors, ``seconds`` and
                   ``most_in_time`` (null where the grid is too large)
``wavefronts``     for each wavefront a list of batches ``{"weights", "index", "steps"}``: the transform that owns the
                   weights, the flat index over its untied dimensions, and the steps as ``[transform, [coordinates]]``;
                   null where they were left out
=================  =====================================================================================================
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gridc.errors import DataError, GridcError, UsageError
from gridc.insight import arithmetic
from gridc.insight.report import sizes_text
from gridc.insight.sharding import Sharding
from gridc.insight.simulation import Model, simulate, speedup
from gridc.insight.timing import Timing
from gridc.language.directives import words
from gridc.language.printing import read_text
from gridc.language.spec import Directives, GridSpec
from gridc.pictures.cell_drawing import colours
from gridc.scheduling import counts
from gridc.scheduling.check import asked, parse
from gridc.scheduling.graph import Step

if TYPE_CHECKING:
    import networkx as nx

FORMAT, VERSION = "gridc.schedule", 1
MOST_DRAWN = 20_000
"""Steps beyond which Graphviz would not lay the graph out in any reasonable time."""


def figures(plan: Timing, workers: int = 8, batch: int = 16) -> dict[str, Any]:
    """Gather the figures of a schedule as plain data: what ``to_json`` writes but the spec, the steps and the path."""
    model = Model(batch=batch)
    fast, sums = speedup(plan, workers, model), arithmetic.arithmetic(plan, batch)
    alive = arithmetic.lifetimes(plan).vectors.tolist() if plan.work <= arithmetic.MOST_COUNTED else None
    spec, cells, plane = plan.spec, plan.cells, plan.plane
    return {
        "name": spec.name,
        "dimensions": [
            {"name": d.name, "size": n, "symbol": d.size if isinstance(d.size, str) else None}
            for d, n in zip(spec.dimensions, plan.sizes, strict=True)
        ],
        "transforms": [
            {"name": t.name, "cell": t.cell, "hidden": t.hidden, "along": list(spec.names(t.along)),
             "flops": counts.step_flops(spec, t.name)}
            for t in spec.transforms.values()
        ],
        "work": plan.work, "span": plan.span, "width": plan.width, "parallelism": plan.parallelism,
        "widths": list(plan.widths),
        "cells": cells and {"work": cells.work, "span": cells.span, "width": cells.width},
        "vector": plane and {
            name: {"vector": list(vector), "offset": offset}
            for name, vector, offset in zip(plane.names, plane.vectors, plane.offsets, strict=True)
        },
        "costs": {"batch": batch, **dataclasses.asdict(sums), "alive": alive},
        "speedup": dataclasses.asdict(fast),
    }  # fmt: skip


def to_json(plan: Timing, *, steps: bool = True, workers: int = 8, batch: int = 16) -> str:
    """Write the schedule in the format above, a line of JSON."""
    if not plan.spec.source.text:
        raise UsageError(f"grid '{plan.spec.name}' was not read from a text; only a spec that was can be written to JSON")
    wavefronts = None
    if steps:
        wavefronts = [
            [{"weights": b.owner, "index": b.weight, "steps": b.steps} for b in plan.batches(k)] for k in range(plan.span)
        ]
    page = {
        "format": FORMAT, "version": VERSION, "spec": plan.spec.source.page, "schedule": words(plan.spec),
        **figures(plan, workers, batch),
        "critical_path": plan.critical_path, "wavefronts": wavefronts,
    }  # fmt: skip
    return json.dumps(page, ensure_ascii=False)


def from_json(text: str) -> tuple[GridSpec, tuple[int, ...]]:
    """Read back spec and sizes of what ``to_json`` wrote, and check that it still says what they say.  Raises DataError."""
    try:
        page: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"found no JSON ({error}); expected a schedule that gridc wrote") from None
    page = cast("dict[str, Any]", page) if isinstance(page, dict) else {}
    if page.get("format") != FORMAT:
        raise DataError(f"found other JSON; expected a schedule that gridc wrote, with \"format\": \"{FORMAT}\"")
    if page.get("version") != VERSION:
        raise DataError(f"found version {page.get('version')!r} of the schedule format; expected {VERSION}")
    try:
        spec = parse(page["spec"])
        if "schedule" in page:  # which says all that the page's own does; gridc did not always write it
            spec = asked(replace(spec, schedule=Directives()), page["schedule"])
        sizes = tuple(int(d["size"]) for d in list[Any](page["dimensions"]))
        fixed = [d.size if isinstance(d.size, int) else n for d, n in zip(spec.dimensions, sizes, strict=True)]
    except GridcError as error:
        raise DataError(f"the schedule's spec cannot be read: {error}") from None
    except (KeyError, TypeError, ValueError):
        raise DataError("the schedule lacks its spec or the sizes of its dimensions") from None
    if list(sizes) != fixed or min(sizes) < 1:
        raise DataError(f"the schedule's sizes {list(sizes)} are not those that its spec fixes, {fixed}")
    plan = Timing(spec, sizes)
    for key, ours in (("work", plan.work), ("span", plan.span), ("widths", list(plan.widths))):
        if page.get(key) != ours:
            raise DataError(f"the schedule's {key} is not that of its spec; the file was changed, or another gridc wrote it")
    return spec, sizes


def to_networkx(plan: Timing) -> nx.DiGraph[Step]:
    """Make the dependency DAG, its nodes ``Step``s (tuples of transform and coordinate).

    A node's attributes: ``transform``, ``wavefront``, ``cell`` (the mechanism), ``hidden`` units, ``weights`` (the transform
    whose they are) and ``index`` (which of them, flat over its untied dimensions), ``flops`` of one example forward, and
    ``critical`` (whether it is on the critical path).  An edge's: ``kind``, carry or read, and ``read``, what finds it, as the
    tables write it.  All are strings, integers or booleans, so that GraphML, GEXF and JSON take the graph as it is."""
    import networkx as nx

    spec, steps = plan.spec, plan.steps.steps
    levels: list[int] = plan.level_numbers.tolist()
    untyped: Any = nx  # its stubs leave the type of nodes open
    graph: nx.DiGraph[Step] = untyped.DiGraph(name=spec.name, sizes=sizes_text(plan))
    critical = set(plan.critical_path)
    alike = {
        name: {"transform": name, "cell": t.cell, "hidden": t.hidden, "weights": spec.weight_owner(name),
               "flops": counts.step_flops(spec, name)}
        for name, t in spec.transforms.items()
    }  # fmt: skip
    graph.add_nodes_from(
        (step, {**alike[step.transform], "wavefront": level, "index": plan.weight(spec.transforms[step.transform], step.cell),
                "critical": step in critical})
        for step, level in zip(steps, levels, strict=True)
    )  # fmt: skip
    said = {
        name: [*({"kind": "read", "read": read_text(spec, read)} for read in t.reads),
               {"kind": "carry", "read": f"{name}, carried"}]
        for name, t in spec.transforms.items()
    }  # fmt: skip
    found = plan.steps
    rows: list[tuple[int, int, int]] = np.stack([found.before, found.after, found.block], axis=1).tolist()
    # A carried vector that is also read is one edge; carries come last of all and so give their name to it.
    for before, after, block in sorted(rows, key=lambda row: row[2] < 0):
        graph.add_edge(steps[before], steps[after], **said[steps[after].transform][block])
    return graph


def to_dot(plan: Timing) -> str:
    """Write the dependency DAG for Graphviz: a rank a wavefront, a colour a transform, carried states dashed.

    Raises UsageError where it has more than ``MOST_DRAWN`` steps."""
    if plan.work > MOST_DRAWN:
        raise UsageError(f"grid '{plan.spec.name}' has {plan.work:,} steps, and Graphviz draws at most {MOST_DRAWN:,}; "
                         "use smaller sizes, or the HTML page")  # fmt: skip
    colour = colours(plan.spec)
    lines = [f"digraph {json.dumps(plan.spec.name)} {{", "  rankdir=LR; node [shape=box, style=filled, fontname=Helvetica];"]
    for k, steps in enumerate(plan.wavefronts):
        nodes = " ".join(f'"{step}" [fillcolor="{colour[step.transform]}"];' for step in steps)
        lines.append(f"  subgraph wavefront_{k} {{ rank=same; {nodes} }}")
    edges: Any = to_networkx(plan).edges(data=True)
    for before, after, data in edges:
        style = " [style=dashed]" if data["kind"] == "carry" else ""
        lines.append(f'  "{before}" -> "{after}"{style};')
    return "\n".join([*lines, "}", ""])


def to_trace(plan: Timing, workers: int = 4, model: Model | None = None) -> str:
    """Write a list schedule on so many workers as Chrome trace events: one track a worker, one slice a step, microseconds."""
    simulation = simulate(plan, workers, model)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"{plan.spec.name}, simulated"}},
    ]
    for worker in range(workers):
        events.append({"ph": "M", "pid": 1, "tid": worker + 1, "name": "thread_name", "args": {"name": f"worker {worker}"}})
    levels = plan.level_numbers
    for run in simulation.runs:
        step = plan.step(run.step)
        events.append(
            {"ph": "X", "pid": 1, "tid": run.worker + 1, "name": str(step), "cat": step.transform,
             # Thousandths of microseconds, so that the end of a slice never passes the start of the next.
             "ts": round(run.start * 1e6, 3), "dur": round(round(run.end * 1e6, 3) - round(run.start * 1e6, 3), 3),
             "args": {"transform": step.transform, "cell": list(step.cell), "wavefront": int(levels[run.step])}}
        )  # fmt: skip
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"speedup": simulation.speedup}})


def pipeline_trace(made: Sharding) -> str:
    """Write a predicted training step of a grid that is cut as Chrome trace events.

    Each rank has a track of its tiles, forward and back; messages with their bytes lie between two of them, and arrows lead to
    the tiles that wait for them."""
    named = made.spec.dimensions[made.dimension].name
    events: list[dict[str, Any]] = [{"ph": "M", "pid": 1, "name": "process_name",
                                     "args": {"name": f"{made.spec.name}, cut along {named}, predicted"}}]  # fmt: skip
    for rank in range(made.ranks):
        what = f"rank {rank}, {named} {made.blocks[rank]}:{made.blocks[rank + 1]}"
        events.append({"ph": "M", "pid": 1, "tid": rank + 1, "name": "thread_name", "args": {"name": what}})
        events.append({"ph": "M", "pid": 1, "tid": rank + 1, "name": "thread_sort_index", "args": {"sort_index": rank}})
    rank_of: list[int] = made.rank.tolist()
    pairs: list[tuple[int, int]] = made.waits.T.tolist()

    def at(seconds: float) -> float:
        return round(seconds * 1e6, 3)

    def add(rank: int, name: str, category: str, start: float, end: float, told: dict[str, Any]) -> None:
        events.append({"ph": "X", "pid": 1, "tid": rank + 1, "name": name, "cat": category, "ts": at(start),
                       "dur": round(at(end) - at(start), 3), "args": told})  # fmt: skip

    for runs, began, way in ((made.runs[0], 0.0, "forward"), (made.runs[1], made.forward, "back")):
        for tile, (start, end) in enumerate(runs):
            told = {"tile": tile, "level": int(made.levels[tile])}
            add(rank_of[tile], made.cells(tile), way, began + start, began + end, told)
        for (tile, to), size in made.messages.items():
            readers: list[int] = [after for before, after in pairs if before == tile and rank_of[after] == to]
            first = min(readers, key=lambda reader: made.runs[0][reader].end)  # the last of them on the way back
            source, target = (tile, first) if way == "forward" else (first, tile)
            sent, told = began + runs[source].end, {"bytes": size}
            both = {"pid": 1, "cat": "message", "id": len(events)}
            name = f"rank {rank_of[source]} to rank {rank_of[target]}"
            events.append({"ph": "b", "name": name, "ts": at(sent), "args": told, **both})
            events.append({"ph": "e", "name": name, "ts": at(sent + made.network.seconds(size)), **both})
            arrow = {**both, "cat": "wait", "name": name}
            events.append({"ph": "s", "tid": rank_of[source] + 1, "ts": round(at(sent) - 0.001, 3), **arrow})
            events.append({"ph": "f", "bp": "e", "tid": rank_of[target] + 1, "ts": at(began + runs[target].start), **arrow})
    for rank in range(made.ranks) if made.summing else ():
        add(rank, "sum of gradients", "sum", made.forward + made.backward, made.seconds, {})
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"seconds": made.seconds}})
