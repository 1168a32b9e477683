"""``check``: whether specs mean something, and what, and how the data that they train on are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from gridc import plain_text
from gridc.commands.output import as_json, print_json, say
from gridc.errors import GridcError, SpecError, listed

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec


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
            told |= meaning(spec)
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


def meaning(spec: GridSpec) -> dict[str, Any]:
    """Give what a spec means in a few words, for JSON: its dimensions, cells, inputs, outputs and number of parameters."""
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
    told = meaning(spec)
    sizes = plain_text.sizes(told["dimensions"].items())
    cells = listed((f"{cell} '{name}'" for name, cell in told["transforms"].items()), "and")
    return f"good. '{spec.name}' is a grid of {sizes} with {cells}; {told['parameters']:,} parameters."
