"""Runs every small run and writes one page: python examples/run_all.py [--only TEXT] [--seeds 1] [--workers 2].

Leaves ``results/index.html`` and ``results/results.json``.  Each worker is a process with one BLAS thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: as many processes run as there are cores

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).parent.parent


def one(row: int, seed: int) -> dict[str, Any]:
    """One run in a worker: its result, or why there is none."""
    from runs import RUNS

    start = time.process_time()
    try:
        return {"row": row, **RUNS[row](seed).to_json(), "processor": time.process_time() - start}
    except Exception as error:
        traceback.print_exc()
        return {"row": row, "name": RUNS[row].name, "seed": seed, "error": f"{type(error).__name__}: {error}"}


def main() -> int:
    """Runs what was asked for; 1 where a run failed or did not reach what it claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="runs whose names have this in them")
    parser.add_argument("--seeds", type=int, default=9, help="at most so many seeds of each run")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    asked = parser.parse_args()
    from page import page
    from runs import RUNS

    start = time.perf_counter()
    # The longest first, so that no worker waits for one at the end.
    jobs = sorted(((row, seed) for row, run in enumerate(RUNS) for seed in run.seeds[: asked.seeds] if asked.only in run.name),
                  key=lambda job: -RUNS[job[0]].minutes)  # fmt: skip
    results: list[dict[str, Any]] = []
    missed = 0
    # A worker's share of the cores, which gridc's own threads keep to, too.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // asked.workers)))
    with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(one, *job) for job in jobs]):
            r = future.result()
            results.append(r)
            good = "error" not in r and RUNS[r["row"]].reached(r["value"])
            missed += not good
            told = r.get("error") or (f"{r['measure']} {r['value']:.3f} after {r['samples']:,} samples, {r['seconds']:.1f} s; "
                                      f"{r['processor']:.0f} s of a processor in all")  # fmt: skip
            print(f"{'  ' if good else '! '}{r['name']} (seed {r['seed']}): {told}", flush=True)
    seconds = time.perf_counter() - start
    results.sort(key=lambda r: (r["row"], r["seed"]))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "index.html").write_text(page(results, seconds, asked.workers), encoding="utf-8")
    (asked.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(f"{len(results)} runs, {missed} short of what they claim, {seconds / 60:.1f} minutes: {asked.out / 'index.html'}")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
