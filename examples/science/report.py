"""The page of ``make science``: one HTML file without anything from outside, and the same table in Markdown."""

from __future__ import annotations

import html
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from page import STYLE, curves
from rows import Row

HEADS = ("row", "result", "published or computed here", "samples", "seconds", "curve")
Results = Mapping[str, list[dict[str, Any]]]


def _spread(values: Iterable[float], form: str) -> str:
    """Median, and from where to where."""
    some = sorted(values)
    middle = format(statistics.median(some), form)
    return middle if some[0] == some[-1] else f"{middle} ({some[0]:{form}} to {some[-1]:{form}})"


def _mean(values: Iterable[float]) -> str:
    """Mean and standard deviation."""
    some = list(values)
    return f"{statistics.mean(some):.3f}" + (f" ± {statistics.stdev(some):.3f}" if len(some) > 1 else "")


def outcome(row: Row, mine: list[dict[str, Any]]) -> str:
    """What came of a row: from how many seeds all was right, or the mean over seeds and its spread."""
    values = [one["value"] for one in mine]
    if row.solved:
        short = sorted(round((1 - value) * one["held"]) for value, one in zip(values, mine, strict=True) if value < 1)
        rest = f"; {', '.join(f'{wrong:,}' for wrong in short)} of {mine[0]['held']:,} wrong else" if short else ""
        return f"{len(values) - len(short)} of {len(values)} seed{'s' * (len(values) > 1)}{rest}"
    losses = [one["loss"] for one in mine if one.get("loss") is not None]
    loss = f"; loss {statistics.mean(losses):.3f} held out" if losses else ""
    also = "".join(f"; {what} {_mean(one['also'][what] for one in mine)}" for what in mine[0].get("also", {}))
    unit = " bits a symbol" if row.bits else ""
    return f"{_mean(values)}{unit}, {len(values)} seed{'s' * (len(values) > 1)}{also}{loss}"


def counted(one: Mapping[str, Any]) -> bool:
    """Tell whether a core's seconds were counted: those of a run that was gone on with are not."""
    return one.get("core_seconds") is not None


def seconds(one: Mapping[str, Any]) -> float:
    """Give a core's seconds, or the clock's, which other programs may have had a part of."""
    return float(one["core_seconds"] if counted(one) else one["seconds"])


def lines(rows: Iterable[Row], results: Results) -> list[tuple[Row, list[str], list[dict[str, Any]]]]:
    """The cells of each row that has results, in text, and the results."""
    found: list[tuple[Row, list[str], list[dict[str, Any]]]] = []
    for row in rows:
        mine = results.get(row.name, [])
        if not mine:
            continue
        beside = (f"here: {what} {value:.3f}" for what, value in mine[0].get("beside", {}).items())
        others = ", ".join([*(f"{one.what} {one.value:.3g}" for one in row.published), *beside])
        cut = " (cut short: a trial)" * any(one["limit"] for one in mine)
        apart = f" (only with ROW={row.name})" * row.apart
        text = [f"{row.shows}{cut}{apart}; {mine[0]['parameters']:,} parameters", outcome(row, mine), others,
                _spread((one["samples"] for one in mine), ",.0f"),
                "~" * (not all(map(counted, mine))) + _spread(map(seconds, mine), ",.0f")]  # fmt: skip
        found.append((row, text, mine))
    return found


def sources(rows: Iterable[Row], results: Results) -> list[str]:
    """Where the published figures were read, each place with the rows that have some from there."""
    places: dict[str, list[str]] = {}
    for row in rows:
        for source in {one.source: None for one in row.published} if row.name in results else ():
            places.setdefault(source, []).append(row.name)
    return [f"{', '.join(names)}: {source}." for source, names in places.items()]


def made(results: Results) -> str:
    """With which gridc, on what, when, and in how long."""
    every = [one for mine in results.values() for one in mine]
    parts = (sorted({one[key] for one in every}) for key in ("version", "machine", "date"))
    hours = sum(map(seconds, every)) / 3600
    return "gridc {}, {}, {}; {:.1f} hours of one core in all".format(*(" and ".join(part) for part in parts), hours)


NOTE = (
    "Samples are those until the training ended, seconds those of one core, with the test; ~ stands before the clock's, of runs "
    "that were interrupted or are older, beside other programs. Both are the median over the seeds, and the range. Accuracies "
    "are means over seeds with their standard deviation. Parity ends, and is counted, by the strings held out; all else by a "
    "test set that nothing was chosen by."
)


def page(rows: Iterable[Row], results: Results) -> str:
    """The whole page."""
    rows = list(rows)
    body = [
        "<h1>The table</h1>",
        f"<p class=soft>Written by <code>make science</code>: {html.escape(made(results))}.</p><p>{NOTE}</p>" if results else "",
        f"<table><tr>{''.join(f'<th>{head}' for head in HEADS)}</tr>",
        *(f"<tr><td><b>{row.name}</b><br><small>{html.escape(text[0])}<br><code>{row.spec.name}</code></small>"
          + "".join(f"<td>{html.escape(one)}" for one in text[1:])
          + f"<td>{curves([one['curve'] for one in mine])}</tr>" for row, text, mine in lines(rows, results)),
        "</table>",
        *(f"<p><small>{html.escape(line)}</small></p>" for line in sources(rows, results)),
    ]  # fmt: skip
    return "\n".join(['<!doctype html><html lang="en"><meta charset="utf-8"><title>gridc: the table</title>',
                      f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style><main>',
                      *body, "</main></html>\n"])  # fmt: skip


def markdown(rows: Iterable[Row], results: Results) -> str:
    """The table for ``docs/``."""
    rows = list(rows)
    if not results:
        return ""
    head = HEADS[:-1]
    return "\n".join([
        f"Made by `make science`: {made(results)}. {NOTE}\n",
        f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}",
        *(f"| `{row.name}`: {' | '.join(text)} |" for row, text, _ in lines(rows, results)), "",
        *(f"{line}\n" for line in sources(rows, results)),
    ])  # fmt: skip
