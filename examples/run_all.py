"""Runs every small run and writes one page: python examples/run_all.py [--only TEXT] [--seeds 1] [--workers 2].

Leaves ``results/index.html`` and ``results/results.json``.  Each worker is a process with one BLAS thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: as many processes run as there are cores

import argparse
import html
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).parent.parent


def one(row: int, seed: int) -> dict[str, Any]:
    """One run in a worker: its result, or why there is none."""
    from runs import RUNS

    try:
        return {"row": row, **RUNS[row](seed).to_json()}
    except Exception as error:
        return {"row": row, "name": RUNS[row].name, "seed": seed, "error": f"{type(error).__name__}: {error}"}


def reached(run: Any, value: float) -> bool:
    """Whether a value is as good as the run claims."""
    return value <= run.goal if run.lower else value >= run.goal


def sparkline(curve: list[tuple[float, float]]) -> str:
    """A curve as a small picture: samples to the right, the figure that was watched upwards."""
    if len(curve) < 2:
        return ""
    xs, ys = zip(*curve, strict=True)
    low, high = min(ys), max(ys)
    points = " ".join(f"{118 * x / max(xs) + 1:.1f},{31 - 30 * (y - low) / ((high - low) or 1):.1f}" for x, y in curve)
    return (f'<svg width="120" height="32" role="img"><title>{ys[0]:.3f} to {ys[-1]:.3f} in {xs[-1]:,.0f} samples</title>'
            f'<polyline points="{points}" fill="none" stroke="#3465a4" stroke-width="1.5"/></svg>')  # fmt: skip


HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>gridc: the small runs</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .35rem .6rem; vertical-align: top }
tr { border-top: 1px solid #ddd } .n { text-align: right; font-variant-numeric: tabular-nums } .no { color: #a40000 }
small { color: #555 } pre { background: #f5f5f5; padding: .8rem; white-space: pre-wrap }
</style><h1>The small runs</h1>"""


def page(results: list[dict[str, Any]], seconds: float) -> str:
    """The results as one page without anything from outside."""
    from runs import RUNS

    out = [HEAD, f"<p>{len(results)} runs in {seconds / 60:.1f} minutes on {os.cpu_count()} cores, written by "
           "<code>make examples</code>. Held-out figures; where there are several seeds, each of them. Time is that of training, "
           "without compiling. A spec is <code>specs/NAME.yaml</code>.</p>",
           "<table><tr><th>network<th>shows<th class=n>result<th class=n>parameters<th class=n>samples<th class=n>time"
           "<th>curve<th>schedule</tr>"]  # fmt: skip
    notes = []
    for row, run in enumerate(RUNS):
        mine = sorted((r for r in results if r["row"] == row), key=lambda r: r["seed"])
        if not mine:
            continue
        done = [r for r in mine if "error" not in r]
        failed = "".join(f'<br><span class="no">seed {r["seed"]}: {html.escape(r["error"])}</span>' for r in mine if "error" in r)
        if not done:
            out.append(f"<tr><td>{run.name}<td>{run.shows}{failed}<td colspan=6></tr>")
            continue
        short = ["" if reached(run, r["value"]) else ' <span class="no">missed</span>' for r in done]
        goal = f"{'at most' if run.lower else 'at least'} {run.goal:g}"
        columns = [
            run.name,
            f"{html.escape(run.shows)}<br><small>{done[0]['measure']}, {goal}</small>{failed}",
            "<br>".join(f"{r['value']:.3f}{mark}" for r, mark in zip(done, short, strict=True)),
            f"{done[0]['parameters']:,}",
            "<br>".join(f"{r['samples']:,}" for r in done),
            "<br>".join(f"{r['seconds']:.1f} s" for r in done),
            "<br>".join(sparkline(r["curve"]) for r in done),
            f"<small>{done[0]['schedule']}</small>",
        ]
        out.append("<tr>" + "".join(f"<td{' class=n' if 2 <= i <= 5 else ''}>{text}" for i, text in enumerate(columns)) + "</tr>")
        notes += [f"<h2>{run.name}</h2><pre>{html.escape(r['notes'])}</pre>" for r in done if "it writes" in r["notes"]]
    return "\n".join([*out, "</table>", *notes, "</html>"])


def main() -> int:
    """Runs what was asked for; 1 where a run failed or did not reach what it claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="runs whose names have this in them")
    parser.add_argument("--seeds", type=int, default=9, help="at most so many seeds of each run")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    asked = parser.parse_args()
    from runs import RUNS

    start = time.perf_counter()
    jobs = [(row, seed) for row, run in enumerate(RUNS) for seed in run.seeds[: asked.seeds] if asked.only in run.name]
    results: list[dict[str, Any]] = []
    missed = 0
    with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(one, *job) for job in jobs]):
            r = future.result()
            results.append(r)
            good = "error" not in r and reached(RUNS[r["row"]], r["value"])
            missed += not good
            told = r.get("error") or f"{r['measure']} {r['value']:.3f} after {r['samples']:,} samples, {r['seconds']:.1f} s"
            print(f"{'  ' if good else '! '}{r['name']} (seed {r['seed']}): {told}", flush=True)
    seconds = time.perf_counter() - start
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "index.html").write_text(page(results, seconds), encoding="utf-8")
    results.sort(key=lambda r: (r["row"], r["seed"]))
    (asked.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(f"{len(results)} runs, {missed} short of what they claim, {seconds / 60:.1f} minutes: {asked.out / 'index.html'}")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
