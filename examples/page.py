"""The page of the small runs: figures, curves and schedules in one HTML file without anything from outside."""

from __future__ import annotations

import html
import os
import platform
from typing import Any

from runs import RUNS, Run

STYLE = """
:root { --ink: #1d2433; --soft: #5b6475; --line: #e3e7ee; --blue: #2f6db3; --pale: #dbe8f6; --good: #2a7d4f; --bad: #b3261e }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; color: var(--ink); background: #f6f7fa }
main { max-width: 84rem; margin: 0 auto; padding: 2rem 1.5rem 4rem }
h1 { font-size: 1.9rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p { max-width: 62rem } .soft, small { color: var(--soft) } small { font-size: .82rem }
.cards { display: flex; gap: 1rem; flex-wrap: wrap; margin: 1.2rem 0 }
.cards div { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .7rem 1.1rem; min-width: 7rem }
.cards b { display: block; font-size: 1.5rem; line-height: 1.2 }
table { border-collapse: collapse; width: 100%; background: #fff; border: 1px solid var(--line); border-radius: 8px }
th { text-align: left; font-size: .8rem; font-weight: 600; color: var(--soft); border-bottom: 2px solid var(--line) }
td:first-child { min-width: 19rem } td:nth-child(2) { min-width: 8.5rem }
th, td { padding: .55rem .55rem; vertical-align: top } tr + tr td { border-top: 1px solid var(--line) }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
 td.n b { font-size: 1.05rem }
.good { color: var(--good) } .bad { color: var(--bad) }
code { font-size: .9em } svg { display: block }
pre { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1.1rem; white-space: pre-wrap;
      overflow-wrap: anywhere; font-size: .85rem }
"""


def page(results: list[dict[str, Any]], seconds: float, workers: int) -> str:
    """The whole page; ``results`` are ``Result``s as mappings, each with its ``row`` of ``RUNS``, or its ``error``."""
    by_row = {row: [r for r in results if r["row"] == row] for row in sorted({r["row"] for r in results})}
    reached = sum("error" not in r and RUNS[r["row"]].reached(r["value"]) for r in results)
    cards = {
        "networks": len({RUNS[row].spec for row in by_row}),
        "runs": len(results),
        "reached their goal": reached,
        "minutes in all": f"{seconds / 60:.1f}",
        "minutes of a processor": f"{sum(r.get('processor', 0) for r in results) / 60:.1f}",
    }
    heads = ("network", "shows", "result", "parameters", "samples", "time", "curve", "schedule")
    body = [
        "<h1>The small runs</h1>",
        f"<p class=soft>Each network of <code>specs/</code> learns something small. Written by <code>make examples</code> on "
        f"{os.cpu_count()} cores ({platform.machine()}), {workers} at a time with one thread each.</p>",
        "<div class=cards>",
        *(f"<div><b>{value}</b><small>{name}</small></div>" for name, value in cards.items()),
        "</div>",
        "<p>The examples of a run fall into three parts, no input in two of them: one is trained on, one decides when to stop "
        "and is drawn as the curve, and the <b>result</b> is of the third, which decides nothing. (The language model stops "
        "after a fixed number of steps; its curve is of the text held out.) Where there are several seeds each has its line. "
        "Time is that of training, without compiling. The picture of a schedule has a bar for each wavefront, as high as it "
        "has steps that run side by side.</p>",
        f"<table><tr>{''.join(f'<th{_right(i)}>{name}' for i, name in enumerate(heads))}</tr>",
        *(_row(RUNS[row], mine) for row, mine in by_row.items()),
        "</table>",
        *_compared(by_row),
        *(f"<h2>{RUNS[r['row']].name}, in its own words</h2><pre>{html.escape(r['notes'])}</pre>"
          for mine in by_row.values() for r in mine[:1] if r.get("notes")),
    ]  # fmt: skip
    return "\n".join(['<!doctype html><html lang="en"><meta charset="utf-8"><title>gridc: the small runs</title>',
                      f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style><main>',
                      *body, "</main></html>\n"])  # fmt: skip


def _row(run: Run, mine: list[dict[str, Any]]) -> str:
    done = [r for r in mine if "error" not in r]
    comments = [line[2:] for line in run.path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    what, paper = [line for line in comments if not line.startswith("yaml-language-server")][:2]
    goal = f"{'at most' if run.lower else 'at least'} {run.goal:g}"
    failed = "".join(f'<br><span class="bad">seed {r["seed"]}: {html.escape(r["error"])}</span>' for r in mine if "error" in r)
    cells = [
        f"<b>{html.escape(run.name)}</b><br><small>{html.escape(what)}<br><i>{html.escape(paper)}</i></small>",
        f"{html.escape(run.shows)}<br><small>{done[0]['measure'] if done else ''}, {goal}</small>{failed}",
    ]
    if not done:
        return f"<tr><td>{cells[0]}<td>{cells[1]}<td colspan=6></tr>"
    marks = [("good", "✓") if run.reached(r["value"]) else ("bad", "missed") for r in done]
    cells += [
        "<br>".join(f"<b>{r['value']:.3f}</b> <span class={k}>{mark}</span>" for r, (k, mark) in zip(done, marks, strict=True)),
        f"{done[0]['parameters']:,}",
        "<br>".join(f"{r['samples']:,}" for r in done),
        "<br>".join(f"{r['seconds']:.1f} s" for r in done),
        curves([r["curve"] for r in done]),
        f"{profile(done[0]['widths'])}<small>{done[0]['schedule']}</small>",
    ]
    return f"<tr>{''.join(f'<td{_right(i)}>{text}' for i, text in enumerate(cells))}</tr>"


def _right(column: int) -> str:
    """Numbers stand on the right of their column."""
    return " class=n" if 2 <= column <= 5 else ""


def _compared(by_row: dict[int, list[dict[str, Any]]]) -> list[str]:
    """Networks that are compared, by all their seeds."""
    lines: list[str] = []
    for what in {run.compared: None for run in RUNS if run.compared}:
        several = {RUNS[row].name: sorted(r["value"] for r in mine if "error" not in r)
                   for row, mine in by_row.items() if RUNS[row].compared == what}  # fmt: skip
        if len(several) < 2 or min(map(len, several.values())) < 3:
            continue
        head = "".join(f"<th class=n>{name}" for name in ("lowest", "mean", "highest", "seeds"))
        lines += [f"<h2>Compared: {html.escape(what)}</h2><table style='width:auto'><tr><th>network{head}</tr>"]
        for name, values in several.items():
            figures = (f"{values[0]:.3f}", f"{sum(values) / len(values):.3f}", f"{values[-1]:.3f}", str(len(values)))
            lines.append(f"<tr><td><b>{name}</b>{''.join(f'<td class=n>{one}' for one in figures)}</tr>")
        lines.append("</table>")
    return lines


WIDTH, HEIGHT = 190, 64


def curves(several: list[list[tuple[float, float]]]) -> str:
    """The figure that was watched (upwards) after so many samples (to the right), a line for each seed, with its ends named."""
    several = [curve for curve in several if curve]
    if not several:
        return ""
    right = max(x for curve in several for x, _ in curve)
    values = [y for curve in several for _, y in curve]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    lines = []
    for curve in several:
        points = [(34 + (WIDTH - 40) * x / right, 6 + (HEIGHT - 22) * (high - y) / span) for x, y in curve]
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            lines.append(f'<polyline points="{path}" fill="none" stroke="var(--blue)" stroke-width="1.6"/>')
        lines.append(f'<circle cx="{points[-1][0]:.1f}" cy="{points[-1][1]:.1f}" r="2.6" fill="var(--blue)"/>')
    text = 'font-size="10" fill="var(--soft)"'
    return (f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{values[0]:.3f} to {values[-1]:.3f}">'
            f'<path d="M34 4V{HEIGHT - 14}H{WIDTH - 2}" fill="none" stroke="var(--line)"/>'
            f'<text x="30" y="10" text-anchor="end" {text}>{high:.2f}</text>'
            f'<text x="30" y="{HEIGHT - 15}" text-anchor="end" {text}>{low:.2f}</text>'
            f'<text x="{WIDTH - 2}" y="{HEIGHT - 2}" text-anchor="end" {text}>{_short(right)}</text>'
            f"{''.join(lines)}</svg>")  # fmt: skip


def profile(widths: list[int]) -> str:
    """A bar for each wavefront, as high as it has steps."""
    step, most = (WIDTH - 2) / len(widths), max(widths)
    bars = "".join(f'<rect x="{1 + i * step:.2f}" y="{40 - 36 * n / most:.1f}" width="{max(step * 0.82, 0.6):.2f}" '
                   f'height="{36 * n / most:.1f}"/>' for i, n in enumerate(widths))  # fmt: skip
    label = f"steps of each wavefront, at most {most}"
    return f'<svg width="{WIDTH}" height="42" fill="var(--blue)" role="img" aria-label="{label}">{bars}</svg>'


def _short(count: float) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else f"{count:,.0f}"
