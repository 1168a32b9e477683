"""What gridc does on a GPU: are its numbers right there, and how long do training steps take, beside JAX by hand and PyTorch.

    pip install 'gridc[jax]' 'jax[cuda13]'        # or whatever JAX your GPU needs; torch, if you want it beside
    python -m gridc.benchmarks.gpu --json gpu.json

Every row is a process of its own: several build at once, then each is timed alone, and a row that fails says why and stops no
other.  It takes less than five minutes (``--seconds`` says how many); without a GPU it says so, and ``--anyway`` runs it there.
"""

# JAX and PyTorch say of most of their functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gridc.benchmarks.gpu_rows import ROWS, Row, work
from gridc.cuda.compiler import state

AT_ONCE = min(6, max(1, (os.cpu_count() or 2) // 2))
"""Rows that are built at the same time."""
QUIET = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
"""Many processes share the GPU's memory: none may take most of it in advance."""


class Worker:
    """A row's process, and the thread that waits until it is built."""

    def __init__(self, row: Row, room: threading.Semaphore):
        self.row, self.room = row, room
        self.process: subprocess.Popen[str] | None = None
        self.answer: dict[str, Any] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._build, daemon=True)
        self.thread.start()

    def _build(self) -> None:
        with self.room:
            if self.ended.is_set():
                return
            started = time.perf_counter()
            flags = " ".join(filter(None, [os.environ.get("XLA_FLAGS", ""), self.row.flags]))
            environment = {**os.environ, **QUIET, **self.row.environment, "XLA_FLAGS": flags}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gridc.benchmarks.gpu", "--row", self.row.name], env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
            self._errors: list[str] = []
            threading.Thread(target=lambda: self._errors.extend(self.process.stderr or ()), daemon=True).start()  # type: ignore[union-attr]
            self.answer = self._listen()
            self.answer["built_s"] = time.perf_counter() - started

    def _listen(self) -> dict[str, Any]:
        """Give the next line of JSON that the process says."""
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                return dict(json.loads(line))
        self.process.wait()
        if self.ended.is_set():
            return {"error": "there was no time to build it"}
        time.sleep(0.2)
        return {"error": f"it ended with {self.process.returncode}: {''.join(self._errors)[-600:].strip()}"}

    def measured(self, seconds: float) -> dict[str, Any]:
        """Its result, or why there is none."""
        if not self.answer:
            return {"error": "there was no time to build it"}
        if "error" in self.answer:
            return self.answer
        assert self.process is not None
        assert self.process.stdin is not None
        found: dict[str, Any] = {}

        def ask() -> None:
            self.process.stdin.write("go\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
            found.update(self._listen())

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(seconds)
        return {**self.answer, **(found or {"error": "there was no time to measure it"})}

    def end(self) -> None:
        """Let go of the process, whatever it is doing."""
        self.ended.set()
        if self.process is not None:
            self.process.kill()


def run(
    rows: Sequence[Row], seconds: float, say: Callable[[str], None], keep: Callable[[list[dict[str, Any]]], None]
) -> None:  # fmt: skip
    """Measure every row in the time that there is: three fifths of it to build, the rest to measure.  ``keep`` takes the results
    that there are after each of them."""
    start = time.perf_counter()
    room = threading.Semaphore(AT_ONCE)
    workers: list[Worker] = []
    for row in rows:
        workers.append(Worker(row, room))
        time.sleep(0.05)  # in this order
    for worker in workers:
        worker.thread.join(max(0.0, 0.6 * seconds - (time.perf_counter() - start)))
    built = sum(bool(worker.answer) for worker in workers)
    say(f"built {built} of {len(rows)} rows in {time.perf_counter() - start:.0f} s; now each is timed alone")
    for worker in workers:
        if not worker.answer:
            worker.end()
    results: list[dict[str, Any]] = []
    for worker in workers:
        left = seconds - (time.perf_counter() - start)
        found = worker.measured(min(25.0, left)) if left > 1 else {"error": "there was no time left to measure it"}
        worker.end()
        results.append({"row": worker.row.name, **found})
        say(line(results[-1]))
        keep(results)


def line(found: Mapping[str, Any]) -> str:
    """Give a result for people."""
    name = f"{found['row']:36}"
    if "error" in found:
        return f"{name} – {str(found['error'])[:300]}"
    result = found["result"]
    if "differences" in result:
        wrong = {n: d for n, d in result["differences"].items() if isinstance(d, str) or max(d.values()) > result["within"]}
        worst = max((max(d.values()) for d in result["differences"].values() if not isinstance(d, str)), default=float("nan"))
        verdict = ("all right" if not wrong else f"WRONG: {wrong}") + f" on {result['devices']} devices" * (result["devices"] > 1)
        return f"{name} {verdict}; largest difference {worst:.1e} of {result['within']:.0e}"
    text = f"{name} {result['median_ms']:9.3f} ms (least {result['least_ms']:.3f})"
    if "ahead" in result:
        text += f", begun while the one before runs {result['ahead']['median_ms']:.3f} ms"
    if "device" in result:
        text += f", compiled step alone {result['device']['median_ms']:.3f} ms"
    if result.get("devices", 1) > 1:
        text += f", {result['devices']} devices"
    if "first_s" in result:
        text += f", first step {result['first_s']:.1f} s"
    if "tf32" in result:
        text += f", with TF32 {result['tf32']['median_ms']:.3f} ms, on {result['where']}"
    return text + (f", {result['which']}" if "which" in result else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the table, print it, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m gridc.benchmarks.gpu", description="What gridc does on a GPU.")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file, too")
    parser.add_argument("--seconds", type=float, default=280, help="how long it may take (%(default)s)")
    parser.add_argument("--only", metavar="WORD", help="the rows whose name holds this word")
    parser.add_argument("--anyway", action="store_true", help="run without a GPU, on what JAX has")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.row:
        work(next(row for row in ROWS if row.name == options.row))
        return 0
    look = "import jax; d = jax.devices()[0]; print(d.platform, '|', d.device_kind, '|', jax.__version__)"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False,
                           env={**os.environ, **QUIET})  # fmt: skip
    if found.returncode:
        print(f"JAX cannot be used here: {found.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return 1
    kind, device, version = (part.strip() for part in found.stdout.strip().splitlines()[-1].split("|"))
    print(f"JAX {version} on {device} ({kind}), Python {platform.python_version()}", flush=True)
    if kind == "gpu":
        print(f"Sweeps in float32 run as {state()}.", flush=True)
    if kind == "cpu" and not options.anyway:
        print("JAX has no GPU here; --anyway runs the table on the processor.", file=sys.stderr)
        return 1
    rows = [row for row in ROWS if not options.only or options.only in row.name]
    told: dict[str, Any] = {"device": device, "platform": kind, "jax": version, "python": platform.python_version()}

    def keep(results: list[dict[str, Any]]) -> None:
        if options.json:
            Path(options.json).write_text(json.dumps({**told, "rows": results}, indent=1))

    run(rows, options.seconds, lambda text: print(text, flush=True), keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
