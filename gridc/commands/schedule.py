"""``schedule``: how parallel a grid is, as figures, pictures, a page to explore or a trace; several specs side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gridc.commands.output import as_json, say, sizes_of, with_schedule, with_sizes, write
from gridc.errors import GridcError, UsageError, listed
from gridc.options import LARGEST, MOST_THREADS, MOST_WORKERS

if TYPE_CHECKING:
    from gridc.scheduler import Schedule

FORMATS = ("table", "json", "dot", "svg", "png", "html", "trace")
PICTURES = ("grid", "cell", "wavefronts", "widths", "alive", "workers")
SLOW = 500_000
"""Steps that take seconds where each must be visited."""


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
