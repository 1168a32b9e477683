"""``init``, ``schema`` and ``completion``: what one begins with."""

from __future__ import annotations

import click

from gridc.commands.output import as_json, echo, print_json, say
from gridc.errors import ResourceError, UsageError

KINDS = {
    "sequence": "symbols in, symbols out: sort what was read",
    "image": "pixels read from corner to corner: scanned digits",
    "table": "columns of a CSV file in, a class out",
    "series": "rows in the order of time in, what comes later out: a tide",
    "text": "a text file, character by character: a language model",
}


@click.command(no_args_is_help=True)
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("-o", "--output", metavar="FILE", help="Where the spec goes (default: KIND.yaml).")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@as_json
def init(kind: str, output: str | None, force: bool, json_: bool) -> None:
    """Write a commented spec for a sequence, an image, a table, a series or a text, and data to try it on.

    What it writes trains as it is; put your own data in the place of ours, and change what the comments speak of.  The
    schema beside it is for editors: with it they complete a spec and underline mistakes.
    """
    from importlib.resources import files

    from gridc.files import write_atomically
    from gridc.resources import located

    spec = located(output or f"{kind}.yaml")
    content = {spec: files("gridc").joinpath("templates", f"{kind}.yaml").read_text(encoding="utf-8")}
    data = {"sequence": "sequences.csv", "table": "flowers.csv", "text": "story.txt"}.get(kind)
    if data:
        beside = spec.parent / data
        content[beside] = files("gridc").joinpath("templates", data).read_text(encoding="utf-8")
    if kind == "series":
        content[spec.parent / "tide.csv"] = _tide()
    taken = [path for path in content if path.exists()]
    schema = spec.parent / "gridc.schema.json"  # which the first line of the spec names
    if force or not schema.exists():
        content[schema] = schema_text()
    if taken and not force:
        raise UsageError(f"{taken[0]} is already there; --force replaces it, -o FILE writes elsewhere.")
    if not spec.parent.is_dir():
        raise ResourceError(f"There is no folder {spec.parent} to write {spec.name} into.")
    for path, text in content.items():
        write_atomically(path, text)
    if json_:
        print_json({"spec": str(spec), "files": [str(path) for path in content], "train": f"gridc train {spec}"})
        return
    for path in content:
        say(f"Wrote {path}.")
    click.echo(f"gridc train {spec}")


def _tide(hours: int = 2000) -> str:
    """Make the level of a sea: the three largest tides at their periods, and a surge that wanders and dies away."""
    import numpy as np

    rng, hour = np.random.default_rng(0), np.arange(hours)
    tides = ((1.2, 12.4206, 0.3), (0.4, 12.0, 1.1), (0.25, 25.8193, 2.0))
    level = 2 + np.sum([metres * np.cos(2 * np.pi * hour / period + phase) for metres, period, phase in tides], axis=0)
    surge = 0.0
    lines = ["hour,level"]
    for t in range(hours):
        surge = 0.95 * surge + 0.03 * rng.normal()
        lines.append(f"{t},{level[t] + surge:.3f}")
    return "\n".join(lines) + "\n"


@click.command()
@as_json
def schema(json_: bool) -> None:
    """Print the JSON Schema of a spec, for editors.

    A spec that begins with "# yaml-language-server: $schema=gridc.schema.json" gets completion and red underlines in any
    editor with a YAML language server.
    """
    echo(schema_text(), "json")


def schema_text() -> str:
    """Write the schema as the file that lies in ``specs/``."""
    import json

    from gridc.language.document import json_schema

    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


@click.command(no_args_is_help=True)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@as_json
def completion(shell: str, json_: bool) -> None:
    """Print what makes a shell complete gridc's commands: eval "$(gridc completion bash)"."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"There is no completion for {shell}.")
    text = made(click.get_current_context().find_root().command, {}, "gridc", "_GRIDC_COMPLETE")
    # Asking bash for its version would start a shell; the script itself is what is wanted.
    source = text.source_template % text.source_vars()
    if json_:
        print_json({"shell": shell, "source": source})
    else:
        click.echo(source)
