"""``curve``: how losses and figures went over a training, of one run or of several side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridc.commands.output import as_json, print_json, say
from gridc.errors import DataError, ResourceError
from gridc.plain_text import plot, table
from gridc.resources import located

if TYPE_CHECKING:
    from gridc.training.history import Record

Points = list[tuple[float, float]]


@click.command(no_args_is_help=True)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--of", "what", type=click.Choice(["loss", "accuracy"]), default="loss", show_default=True,
              help="The loss, or the accuracy (or R², the worst output's); held out where examples are.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Draw a PNG there, with matplotlib.")
@as_json
def curve(runs: tuple[str, ...], what: str, output: str | None, json_: bool) -> None:
    """Draw how trainings went: gridc curve runs/parity runs/parity-2.  A run is a folder that gridc train left."""
    records = {run: _records(run) for run in runs}
    points = {run: [(float(one.samples), _figure(one, what)) for one in found] for run, found in records.items()}
    if output is not None:
        _png(points, what, output)
        say(f"Wrote {output}.")
    if json_:
        print_json({"of": what, "runs": {run: [one.to_json() for one in found] for run, found in records.items()}})
    elif output is None:
        click.echo(plot(points, x="samples", y=what))
        click.echo("\n" + table(("run", "evaluations", "samples", "best", "at step", "last"),
                                [_row(run, found, what) for run, found in records.items()]))  # fmt: skip


def _figure(record: Record, what: str) -> float:
    return record.shown_loss if what == "loss" else record.accuracy()


def _row(run: str, records: Sequence[Record], what: str) -> list[str]:
    best = (min if what == "loss" else max)(records, key=lambda one: _figure(one, what))
    last = records[-1]
    return [run, f"{len(records):,}", f"{last.samples:,}", f"{_figure(best, what):.4g}", f"{best.step:,}",
            f"{_figure(last, what):.4g}"]  # fmt: skip


def _records(run: str) -> list[Record]:
    """Read the records of a training's folder, or of its metrics.jsonl."""
    from gridc.training.checkpoint import METRICS
    from gridc.training.history import read_record

    path = located(run)
    path = path if path.is_file() else path / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{run} is no folder that a training left: {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} holds no figures of a training, but bytes that are no text.") from None
    found: list[Record] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(read_record(json.loads(line)))
        except (ValueError, RecursionError) as error:  # a DataError is one, too
            why = str(error) if isinstance(error, DataError) else "it is no JSON"
            raise DataError(f"{path}, line {number}: {why}") from None
    if not found:
        raise DataError(f"{path} holds no evaluation yet.")
    return found


def _png(points: Mapping[str, Points], what: str, output: str) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ResourceError("A picture of the curves needs matplotlib: pip install 'gridc[plots]'; without -o they are drawn as "
                            "text.") from error  # fmt: skip
    import io

    from gridc.files import write_atomically

    figure: Any = Figure(figsize=(9, 5), dpi=100, layout="constrained")  # its stubs leave half of the types open
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for run, line in points.items():
        axes.plot([x for x, _ in line], [y for _, y in line], label=str(Path(run)))
    axes.set(xlabel="samples", ylabel=what)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(output, buffer.getvalue())
