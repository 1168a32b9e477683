"""Runs the rows of the table and writes one page: python examples/science/run.py [--row NAME] [--seeds N] [--workers 2].

Each run is a folder results/science/ROW/SEED as ``gridc train`` leaves it, with ``result.json`` once it is over.  What was killed
goes on from its last checkpoint; what is over is not run again.  The page shows all that is there.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: as many processes run as there are cores

import argparse
import json
import math
import multiprocessing
import platform
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # the page of the small runs draws the curves

import numpy as np
from orphans import end_with_parent
from report import markdown, page
from rows import ROWS, Row

import gridc
from gridc import experiment
from gridc.arrays.dataset import Dataset
from gridc.experiment import Trained
from gridc.language.spec import GridSpec
from gridc.search import space
from gridc.training.history import Record

SPLITS = 2
"""Splits of what is trained on by which values are chosen."""
ROOT = Path(__file__).parent.parent.parent


def run(name: str, seed: int, out: Path, samples: int | None) -> dict[str, Any]:
    """One run, begun or gone on with; its result, which lies in its folder afterwards."""
    row = next(row for row in ROWS if row.name == name)
    folder = out / row.name / str(seed)
    found = folder / "result.json"
    if found.exists():
        return json.loads(found.read_text(encoding="utf-8"))
    begun, resumed = time.process_time(), any(folder.rglob("metrics.jsonl"))
    changes: dict[str, Any] = {**row.changes, **(row.data(out) if row.data else {}), "seed": seed}
    if samples is not None:
        changes["budget"] = {"samples": samples}
    spec, spent = chosen(row, experiment.changed(space.page(gridc.read(row.spec), row.page), changes), out, folder / "tried")
    done = experiment.run(spec, folder=folder, resume=(folder / "metrics.jsonl").exists(), progress="none")
    history = done.history
    best = max(history.records, key=lambda record: record.accuracy()) if history.best is None else history.best
    value = best.accuracy()
    if row.test is not None:
        value = row.score(done.grid, new(row.test(out), done))
    result = {
        "row": row.name, "seed": seed, "value": value, "held": 0 if done.held_out is None else len(done.held_out),
        "samples": history.samples, "best_at": best.samples, "loss": best.held_out_loss,
        "seconds": history.seconds + spent, "reason": history.reason,
        "core_seconds": None if resumed else time.process_time() - begun,
        "parameters": sum(int(a.size) for a in done.grid.parameters.values()),
        "curve": [(record.samples, record.accuracy()) for record in history.records],
        "version": gridc.__version__, "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"), "limit": samples, "beside": dict(row.beside(out)) if row.beside else {},
        "also": {what: row.score(done.grid, new(test(out), done)) for what, test in row.also.items()},
    }  # fmt: skip
    text = json.dumps(result)
    found.write_text(text, encoding="utf-8")
    return json.loads(text)


def chosen(row: Row, spec: GridSpec, out: Path, folder: Path) -> tuple[GridSpec, float]:
    """The page with those of the values that are tried that come to most on held-out examples, to train on all; and the seconds
    that this took."""
    if not row.tried:
        return spec, 0.0
    tried, best, spent = row.tried(out), (-1.0, -math.inf, 0), 0.0
    for number, values in enumerate(tried if len(tried) > 1 else ()):
        records: list[Record] = []
        for split in range(SPLITS):
            page = space.page(spec, values, SPLITS * experiment.block_of(spec).seed + split)
            there = folder / f"{number}-{split}"
            history = experiment.run(page, folder=there, resume=(there / "metrics.jsonl").exists(), progress="none").history
            records.append(history.records[-1])  # its length is what it will be trained for, too
            spent += history.seconds
        figures = [statistics.mean(one.accuracy() for one in records), -statistics.mean(one.shown_loss for one in records)]
        best = max(best, (*figures, number), key=lambda one: one[:2])
    return experiment.changed(space.page(spec, tried[best[2]]), {"held_out": 0.0}), spent


def new(test: Dataset, done: Trained) -> Dataset:
    """What of a test set was neither trained on nor held out to choose by."""
    some = unseen(test, done.train)
    return some if done.held_out is None else unseen(some, done.held_out)


def unseen(test: Dataset, train: Dataset) -> Dataset:
    """What of a test set has no input, of that length, that was trained on or chosen by."""

    def keys(data: Dataset) -> list[bytes]:
        flat = [array.reshape(len(array), -1).astype(np.float32) for array in (*data.inputs.values(), *data.lengths.values())]
        return [row.tobytes() for row in np.concatenate(flat, axis=1)]

    seen = set(keys(train))
    return test.take(np.array([i for i, key in enumerate(keys(test)) if key not in seen], np.int64))


def results(out: Path) -> dict[str, list[dict[str, Any]]]:
    """All that is over, by row, in the order of the table and the seeds."""
    found = {row.name: [json.loads(path.read_text(encoding="utf-8")) for path in (out / row.name).glob("*/result.json")]
             for row in ROWS}  # fmt: skip
    return {name: sorted(some, key=lambda one: one["seed"]) for name, some in found.items() if some}


def wanted(name: str | None) -> list[Row]:
    """The row of that name; without one, the table: all rows but those that are asked for by their names."""
    return [row for row in ROWS if row.name == name or (name is None and not row.apart)]


def told(row: Row, one: dict[str, Any]) -> str:
    """One line about one run."""
    return f"{row.name} (seed {one['seed']}): {one['value']:.4f} after {one['samples']:,} samples, {one['seconds']:.0f} s"


def main() -> int:
    """Runs what was asked for and is not over yet; 1 where a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", choices=[row.name for row in ROWS], help="this row alone")
    parser.add_argument("--seeds", type=int, help="at most so many seeds of each row")
    parser.add_argument("--samples", type=int, help="at most so many samples a run: to see whether all works")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "science")
    asked = parser.parse_args()
    out = asked.out.resolve()
    chosen = wanted(asked.row)
    for row in chosen:
        for made in (row.data, row.beside):
            if made:
                made(out)  # here, before several processes would
    jobs = [(row, seed) for row in chosen for seed in range(min(row.seeds, asked.seeds or row.seeds))]
    jobs.sort(key=lambda job: -job[0].minutes)  # the longest first, so that no worker waits for one at the end
    failed = 0
    # A worker's share of the cores, which gridc's own threads keep to, too.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // asked.workers)))
    with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        waiting = {pool.submit(run, row.name, seed, out, asked.samples): (row, seed) for row, seed in jobs}
        for future in as_completed(waiting):
            row, seed = waiting[future]
            try:
                print(told(row, future.result()), flush=True)
            except Exception as error:
                failed += 1
                print(f"! {row.name} (seed {seed}): {type(error).__name__}: {error}", flush=True)
    by_row = results(out)
    (out / "index.html").write_text(page(ROWS, by_row), encoding="utf-8")
    (out / "table.md").write_text(markdown(ROWS, by_row), encoding="utf-8")
    print(f"{sum(map(len, by_row.values()))} runs, {failed} failed: {out / 'index.html'}")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
