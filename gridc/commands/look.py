"""``check``, ``show`` and ``schedule``: what a spec means and how parallel it is, without PyTensor."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridc import plain_text
from gridc.commands.output import as_json, echo, print_json, say, sizes_of, with_schedule, with_sizes, write
from gridc.errors import GridcError, SpecError, UsageError, listed
from gridc.options import LARGEST, MOST_THREADS, MOST_WORKERS

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec
    from gridc.scheduler import Schedule
    from gridc.scheduling.graph import Step

FORMATS = ("table", "json", "dot", "svg", "png", "html", "trace")
PICTURES = ("grid", "cell", "wavefronts", "widths", "alive", "workers")
SLOW = 500_000
"""Steps that take seconds where each must be visited."""
LISTED = 40
"""Rows of a long listing that are shown to people; JSON has them all."""


@click.command(no_args_is_help=True)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@as_json
def check(specs: tuple[str, ...], json_: bool) -> None:
    """Say whether specs mean something, and what; opens the data that a spec trains on, and says how they are read."""
    from gridc.scheduling import check

    found: list[dict[str, Any]] = []
    wrong: list[GridcError] = []
    for path in specs:
        told: dict[str, Any] = {"spec": path, "ok": False}
        found.append(told)
        try:
            spec = check.read(path)
            told |= _meaning(spec)
            if spec.sweep is not None:
                from gridc.search import space

                told["sweep"] = {"searched": list(spec.sweep.space), "pages checked": space.check(spec)}
            if not json_:
                click.echo(f"{path}: {_sentence(spec)}")
            if spec.training is not None and spec.training.data is not None:
                told["data"] = _data(spec)
                if not json_:
                    click.echo(_reading(told["data"]))
            told["ok"] = True
        except SpecError as error:
            wrong.append(error)
            told |= {"error": error.sentence, "line": error.line, "column": error.column}
            say(f"gridc: {error}")
        except GridcError as error:
            wrong.append(error)
            told["error"] = str(error)
            say(f"gridc: {path}: the data do not fit: {error}")
    if json_:
        print_json(found if len(found) > 1 else found[0])
    if wrong:
        raise click.exceptions.Exit(min(error.exit_code for error in wrong))


def _data(spec: GridSpec) -> dict[str, Any]:
    """Read what a spec trains on, and say how."""
    from gridc import experiment
    from gridc.data.describing import described

    train, held_out = experiment.examples(spec)
    file = experiment.block_of(spec).data
    return {"file": file and file.file, "examples": len(train), "held_out": 0 if held_out is None else len(held_out),
            "arrays": described(train), "notes": train.notes}  # fmt: skip


def _reading(told: Mapping[str, Any]) -> str:
    rows = [(name, line) for name, line in told["arrays"].items()]
    head = f"  {told['file']}: {told['examples']:,} examples to train on, {told['held_out']:,} held out"
    notes = (f"    {note}" for note in told["notes"])
    return "\n".join([head, plain_text.table(("array", "is read as"), rows, indent=4), *notes])


def _meaning(spec: GridSpec) -> dict[str, Any]:
    from math import prod

    from gridc.language.shapes import parameter_shapes

    return {
        "name": spec.name,
        "dimensions": {d.name: d.size for d in spec.dimensions},
        "transforms": {t.name: t.cell for t in spec.transforms.values()},
        "priority": spec.priority,
        "inputs": list(spec.inputs),
        "outputs": list(spec.outputs),
        "parameters": sum(prod(shape) for shape in parameter_shapes(spec).values()),
        "digest": spec.digest,
    }


def _sentence(spec: GridSpec) -> str:
    told = _meaning(spec)
    sizes = plain_text.sizes(told["dimensions"].items())
    cells = listed((f"{cell} '{name}'" for name, cell in told["transforms"].items()), "and")
    return f"good. '{spec.name}' is a grid of {sizes} with {cells}; {told['parameters']:,} parameters."


@click.command(no_args_is_help=True)
@click.argument("spec", required=False)
@click.option("--cells", is_flag=True, help="Show the cells alone: those of the spec, or without one those that there are.")
@click.option("--at", "stage", type=click.Choice(["spec", "graph", "schedule", "plan", "program", "pytensor"]), default="spec",
              show_default=True, help="Where to stop on the way through the compiler.")  # fmt: skip
@with_sizes
@click.option("-b", "--batch", type=click.IntRange(1), default=16, show_default=True, help="Examples of a plan or program.")
@with_schedule
@as_json
def show(
    spec: str | None, cells: bool, stage: str, sizes: tuple[str, ...], batch: int, asked: str | None, json_: bool
) -> None:
    """Show a spec on its way through the compiler: spec, graph, schedule, plan, program or PyTensor's graph.

    A plan says in which order the fused sweep runs for these sizes and what it keeps; a program is every instruction of it.
    """
    from gridc.compiler import STAGES
    from gridc.scheduler import schedule as scheduled
    from gridc.scheduling import check

    if cells:
        _show_cells(None if spec is None else check.read(spec), json_)
        return
    if spec is None:
        raise UsageError("Missing argument 'SPEC'; without one there is 'gridc show --cells'.")
    read = check.asked(check.read(spec), asked)
    if stage in ("spec", "pytensor"):
        (_show_spec if stage == "spec" else _show_pytensor)(read, json_)
        return
    timing = scheduled(read, **sizes_of(sizes))
    if stage in ("graph", "schedule"):
        (_show_graph if stage == "graph" else _show_schedule)(timing, json_)
        return
    why = _unplanned(read)
    if why is not None:
        raise UsageError(f"'{read.name}' has no {stage}: {why}")
    made = STAGES[stage](timing, batch)
    lines = [str(made)] if stage == "plan" else list(made)
    if json_:
        print_json({"name": read.name, "batch": batch, stage: lines})
    else:
        click.echo("\n".join(lines))


def _show_cells(spec: GridSpec | None, json_: bool) -> None:
    from gridc.language import own_cells
    from gridc.language.printing import cell_text
    from gridc.tables.rules import tex

    if spec is None:
        shown = {name: own_cells.named(name) for name in own_cells.names()}
    else:
        shown = {t.cell: t.mechanism for t in spec.transforms.values()}
    if json_:
        print_json({name: {"equation": cell.equation, "tex": tex(cell), "source": cell.source, "memory": cell.memory,
                           "gates": cell.gates(cell.dimensions[0]), "dimensions": cell.dimensions,
                           "page": cell.definition and cell.definition.written} for name, cell in shown.items()})  # fmt: skip
        return
    click.echo("\n\n".join(map(cell_text, shown.values())))


def _unplanned(spec: GridSpec) -> str | None:
    """Why no fused sweep runs this spec."""
    from gridc.symbolic import backends

    backends.prepare()
    from gridc.symbolic.lowerings import LOWERINGS

    return LOWERINGS["fused"].why_not(spec)


def _show_spec(spec: GridSpec, json_: bool) -> None:
    from gridc.language.shapes import parameter_shapes

    shapes = parameter_shapes(spec)
    if json_:
        import dataclasses

        parts = {"name": spec.name, **_meaning(spec), "dimensions": [dataclasses.asdict(d) for d in spec.dimensions]}
        for section in ("transforms", "inputs", "outputs"):
            parts[section] = {name: _fields(one) for name, one in getattr(spec, section).items()}
        parts["shapes"] = shapes
        parts["training"] = spec.training.model_dump(mode="json", exclude_unset=True) if spec.training else None
        print_json(parts)
        return
    click.echo(str(spec))
    rows = [(name, " × ".join(map(str, shape))) for name, shape in shapes.items()]
    click.echo("\n" + plain_text.table(("parameter", "shape"), rows))


def _fields(one: Any) -> dict[str, Any]:
    """Give what a page said of a transform, an input or an output; a cell stands there by its name."""
    import dataclasses

    return {name: value for name, value in dataclasses.asdict(one).items() if name != "mechanism"}


def _show_graph(plan: Schedule, json_: bool) -> None:
    graph: Any = plan.graph  # networkx's stubs leave the type of an attribute open
    if json_:
        number: dict[Step, int] = {step: i for i, step in enumerate(graph.nodes)}
        edges = graph.edges(data="kind")
        print_json({
            "name": plan.spec.name,
            "nodes": [{"transform": s.transform, "cell": s.cell, "wavefront": plan.levels[s]} for s in number],
            "edges": [{"from": number[a], "to": number[b], "kind": kind} for a, b, kind in edges],
        })  # fmt: skip
        return
    click.echo(f"{plan.spec.name}: {graph.number_of_nodes():,} steps, {graph.number_of_edges():,} dependences\n")
    rows = [(str(step), ", ".join(map(str, graph.predecessors(step))) or "nothing") for step in list(graph.nodes)[:LISTED]]
    width = max(len(name) for name, _ in rows)
    for name, waits in rows:
        click.echo(f"  {name:<{width}}  waits for {waits}")
    if graph.number_of_nodes() > LISTED:
        click.echo(f"  … and {graph.number_of_nodes() - LISTED:,} more (--json has all of them)")


def _show_schedule(plan: Schedule, json_: bool) -> None:
    if json_:
        echo(plan.to_json(), "json")
        return
    click.echo(f"{plan}\n")
    for level in range(min(plan.span, LISTED)):
        batches = ", ".join(f"{b.owner}{f'[{b.weight}]' if plan.spec.transforms[b.owner].untied else ''} × {len(b.steps)}"
                            for b in plan.batches(level))  # fmt: skip
        click.echo(f"  wavefront {level:>4}  {plan.widths[level]:>5} steps: {batches}")
    if plan.span > LISTED:
        click.echo(f"  … and {plan.span - LISTED:,} wavefronts more (--json has all of them)")


def _show_pytensor(spec: GridSpec, json_: bool) -> None:
    import gridc

    symbols = gridc.lower(spec)
    import importlib

    # PyTensor's types are open where there are any.
    traversal: Any = importlib.import_module("pytensor.graph.traversal")
    printing: Any = importlib.import_module("pytensor.printing")
    outputs = list(symbols.outputs.values())
    nodes: list[Any] = list(traversal.applys_between([], outputs))
    text: str = printing.debugprint(outputs, file="str")
    if json_:
        print_json({"name": spec.name, "nodes": len(nodes), "ops": sorted({str(node.op) for node in nodes}),
                    "inputs": {k: str(v.type) for k, v in symbols.inputs.items()},
                    "parameters": {k: str(v.type) for k, v in symbols.parameters.items()},
                    "outputs": {k: str(v.type) for k, v in symbols.outputs.items()}, "graph": text})  # fmt: skip
        return
    click.echo(f"{spec.name}: {len(nodes)} PyTensor nodes, whatever the sizes\n\n{text}")


@click.command(no_args_is_help=True)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@with_sizes
@click.option("-w", "--workers", type=click.IntRange(1, MOST_WORKERS), default=8, show_default=True, help="Workers to simulate.")
@click.option("-b", "--batch", type=click.IntRange(1, LARGEST), default=16, show_default=True, help="Examples in a mini-batch.")
@click.option("--path", is_flag=True, help="List the critical path step by step, and why each step waits.")
@click.option("--measure", is_flag=True, help="Run the grid: predicted and measured time of every turn of it.")
@click.option("--threads", type=click.IntRange(1, MOST_THREADS),
              help="With --measure: simulated and measured training steps on 1, 2, 4, … and so many threads.")  # fmt: skip
@with_schedule
@click.option("--try", "tried", multiple=True, metavar="KEY=VALUE,...",
              help="Put another schedule beside the page's own; may be repeated.")  # fmt: skip
@click.option("--ranks", type=click.IntRange(1, MOST_WORKERS), help="Predict a training step of the grid cut for so many.")
@click.option("--shard", metavar="DIMENSION", help="Along which dimension --ranks cut the grid.")
@click.option("--tile", multiple=True, metavar="DIMENSION=N", help="Cells between two messages (default: what takes least).")
@click.option("-f", "--format", "format_", type=click.Choice(FORMATS), help="What to make of it (default: by the name of -o).")
@click.option("--picture", type=click.Choice(PICTURES), default="grid", show_default=True, help="What an SVG or PNG shows.")
@click.option("-o", "--output", metavar="FILE", help="Write there.")
@as_json
def schedule(
    specs: tuple[str, ...],
    sizes: tuple[str, ...],
    workers: int,
    batch: int,
    path: bool,
    measure: bool,
    threads: int | None,
    asked: str | None,
    tried: tuple[str, ...],
    ranks: int | None,
    shard: str | None,
    tile: tuple[str, ...],
    format_: str | None,
    picture: str,
    output: str | None,
    json_: bool,
) -> None:
    """Show how parallel a grid is, and why: figures, pictures, a page to explore.  Several specs stand side by side."""
    chosen = "json" if json_ else format_ or _by_name(output)
    told = [word for word in specs if re.fullmatch(r"[A-Za-z_]\w*=[0-9]+", word)]  # which can only be sizes
    plans = _plans([path for path in specs if path not in told], sizes_of([*sizes, *told]), asked)
    cut = ranks is not None or shard is not None or bool(tile)
    for flag, given in (("--path", path), ("--measure", measure), ("--try", bool(tried)), ("--ranks", cut)):
        if given and len(plans) > 1:
            raise UsageError(f"{flag} is for one spec; found {len(plans)}.")
        able = ("table", "json", "trace") if flag == "--ranks" else ("table", "json")
        if given and chosen not in able:
            named = "a table, JSON or a trace" if flag == "--ranks" else "a table, or JSON"
            raise UsageError(f"{flag} is {named}; found the format {chosen} besides.")
    if threads is not None and (not measure or tried):
        raise UsageError("--threads is measured, of one schedule: give --measure besides, and no --try.")
    if len(plans) > 1 and chosen not in ("table", "json"):
        raise UsageError(f"The format {chosen} shows one spec; found {len(plans)}.")
    if chosen == "png":
        if output is None or output == "-":
            raise UsageError("A PNG needs a file to be written to: -o FILE.")
        from gridc.pictures import drawing

        drawing.png(plans[0], output, picture, workers)
    elif cut:
        from gridc.commands.shards import predicted

        write(predicted(plans[0], ranks, shard, tile, batch, chosen), output, chosen)
    elif tried:
        from gridc.commands.tries import compared

        write(compared(plans[0], batch, tried, measure, chosen == "json"), output)
    elif measure:
        write(_measured(plans[0], batch, threads, chosen == "json"), output, chosen)
    else:
        write(_made(plans, chosen, workers, batch, picture, path), output, chosen)
    if output not in (None, "-"):
        say(f"Wrote {output}.")


def _plans(specs: Sequence[str], bound: Mapping[str, Any], asked: str | None) -> list[Schedule]:
    """Make the schedules of one spec or several, with this ``asked`` of their plans; a size is given to those that have its
    symbol."""
    from gridc.insight.timing import MOST_STEPS, STEP_BYTES
    from gridc.scheduler import schedule as scheduled
    from gridc.scheduling import check

    read = [check.asked(check.read(path), asked) for path in specs]
    if len(read) == 1:
        plan = scheduled(read[0], **bound)
        if SLOW < plan.work <= MOST_STEPS and plan.plane is None:
            say(f"gridc: the wavefronts of '{plan.spec.name}' are no planes, so its {plan.work:,} steps are visited one by one: "
                f"about {6e-6 * plan.work:.0f} s and {STEP_BYTES * plan.work / 1e9:.1f} GB.")  # fmt: skip
        return [plan]
    known = {symbol for spec in read for symbol in spec.symbols}
    for symbol in bound:
        if symbol not in known:
            raise UsageError(f"--size: no spec has a symbol '{symbol}'; expected {listed(sorted(known)) or 'none'}.")
    return [scheduled(spec, **{k: v for k, v in bound.items() if k in spec.symbols}) for spec in read]


def _by_name(output: str | None) -> str:
    if output is None or output == "-":
        return "table"
    suffix = Path(output).suffix[1:].lower()
    known = {"gv": "dot", "txt": "table", "htm": "html"}
    if (found := known.get(suffix, suffix)) not in FORMATS:
        raise UsageError(f"The name {output} does not say which format; give --format, one of {listed(FORMATS)}.")
    return found


def _made(plans: Sequence[Schedule], chosen: str, workers: int, batch: int, picture: str, path: bool) -> str:
    from gridc.insight import report
    from gridc.insight.simulation import Model

    plan, model = plans[0], Model(batch=batch)
    if len(plans) > 1:
        if chosen == "table":
            return report.comparison(plans, workers, model)
        pages = [json.loads(one.to_json(steps=False, workers=workers, batch=batch)) for one in plans]
        return json.dumps(pages, indent=2, ensure_ascii=False)
    makers = {
        "table": lambda: report.path_table(plan) if path else report.report(plan, workers, model),
        "json": lambda: plan.to_json(workers=workers, batch=batch), "dot": plan.to_dot,
        "svg": lambda: plan.to_svg(picture, workers), "html": lambda: plan.to_html(workers, model),
        "trace": lambda: plan.to_trace(workers, model),
    }  # fmt: skip
    return makers[chosen]()


def _measured(plan: Schedule, batch: int, threads: int | None, as_json: bool) -> str:
    made = plan.measure(batch) if threads is None else plan.scaling(threads, batch)
    return json.dumps(made.plain(), indent=2, ensure_ascii=False) if as_json else str(made)


def draw_into(folder: Path, plan: Schedule) -> list[Path]:
    """``schedule.svg`` and ``schedule.html`` of a schedule in a folder; what cannot be drawn is said and left out."""
    made: list[Path] = []
    for name, draw in (("schedule.svg", plan.to_svg), ("schedule.html", plan.to_html)):
        try:
            write(draw(), str(folder / name))
        except GridcError as error:
            say(f"{name} was not drawn: {error}")
        else:
            made.append(folder / name)
    return made
