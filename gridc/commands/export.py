"""``export``: a trained model for programs that know nothing of gridc."""

from __future__ import annotations

from typing import Any

import click

from gridc.commands.output import as_json, print_json, say, sizes_of, with_sizes


@click.command(no_args_is_help=True)
@click.argument("model")
@click.option("-o", "--output", metavar="FILE.onnx", required=True, help="Write there.")
@with_sizes
@click.option("--lengths", is_flag=True, help="Take the examples' lengths as another input, SYMBOL.lengths.")
@as_json
def export(model: str, output: str, sizes: tuple[str, ...], lengths: bool, json_: bool) -> None:
    """Write a trained model's predictions as standard ONNX operators.

    The batch stays open, and one symbol that the grid can go along step by step; --size fixes any other.
    """
    import gridc

    given: Any = sizes_of(sizes)
    written = gridc.load(model).to_onnx(output, lengths=lengths, **given)
    if json_:
        print_json({"file": output, **written._asdict()})
    else:
        say(f"Wrote {output} {written}.")
