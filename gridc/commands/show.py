"""``show``: a spec at any place on its way through the compiler, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gridc import plain_text
from gridc.commands.check import meaning
from gridc.commands.output import as_json, echo, print_json, sizes_of, with_schedule, with_sizes
from gridc.errors import UsageError

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec
    from gridc.scheduler import Schedule
    from gridc.scheduling.graph import Step

LISTED = 40
"""Rows of a long listing that are shown to people; JSON has them all."""


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

        parts = {"name": spec.name, **meaning(spec), "dimensions": [dataclasses.asdict(d) for d in spec.dimensions]}
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
