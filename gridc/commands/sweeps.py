"""``sweep``: many trainings of one page, for the values that train best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridc.commands.output import as_json, print_json, say
from gridc.errors import UsageError

if TYPE_CHECKING:
    from gridc.search.results import Sweep


@click.command(no_args_is_help=True)
@click.argument("spec", required=False)
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Trials in all (default: the block's, else 40).")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Processes that train at once; they share this machine's cores.")  # fmt: skip
@click.option("--folder", metavar="FOLDER", help="Where everything goes (default: runs/NAME-sweep).")
@click.option("--join", metavar="FOLDER", help="Work on the sweep in a folder, beside the workers that are there.")
@click.option("--resume", metavar="FOLDER", help="Go on with the sweep in a folder, whatever was killed.")
@click.option("--report", metavar="FOLDER", help="Write the page of the sweep in a folder, and its best spec.")
@as_json
def sweep(
    spec: str | None, trials: int | None, workers: int, folder: str | None, join: str | None, resume: str | None,
    report: str | None, json_: bool,
) -> None:  # fmt: skip
    """Search for the values of a spec that train best, as its sweep block says.

    Workers are processes, here or on any machine that sees the folder: gridc sweep --join FOLDER is one more.  Every trial is a
    training with checkpoints; after a kill, --resume (or --join) goes on from them.  pip install 'gridc[sweep]'.
    """
    ways = {"SPEC": spec, "--join": join, "--resume": resume, "--report": report}
    given = [name for name, one in ways.items() if one is not None]
    if len(given) != 1:
        raise UsageError(f"gridc sweep takes one of SPEC, --join FOLDER, --resume FOLDER and --report FOLDER; found "
                         f"{' and '.join(given) or 'none'}.")  # fmt: skip
    if folder is not None and spec is None:
        raise UsageError(f"--folder is where a new sweep goes; {given[0]} names the folder itself.")
    if report is not None:
        if trials is not None:
            raise UsageError("--report writes what there is; --trials belongs to --resume or --join.")
        _report(Path(report), json_)
        return
    from gridc.search import run

    if spec is not None:
        there = run.begin(spec, None, folder)
        say(f"gridc: sweeps in {there}; gridc sweep --join {there} is one more worker.")
    else:
        there = Path(join or resume or "")
    try:
        results = run.train(there, trials=trials, workers=workers)
    except KeyboardInterrupt:
        say(f"gridc: what is trained is kept: gridc sweep --resume {there} goes on.")
        raise
    _tell(results, json_)


def _tell(results: Sweep, json_: bool) -> None:
    if json_:
        print_json(results.to_json())
        return
    click.echo(f"\n{results}")
    if results.best is not None:
        click.echo(f"\nNext:\n  gridc train {results.folder}/best.yaml\n  gridc sweep --report {results.folder}")


def _report(folder: Path, json_: bool) -> None:
    from gridc.search.report import write_report

    written = write_report(folder)
    if json_:
        print_json({kind: str(path) for kind, path in written.items()})
        return
    for kind, path in written.items():
        click.echo(f"  {kind:<10} {path}")
