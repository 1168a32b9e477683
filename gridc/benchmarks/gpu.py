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
import importlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gridc.benchmarks.cases import CASES, RATE, Case

AT_ONCE = min(6, max(1, (os.cpu_count() or 2) // 2))
"""Rows that are built at the same time."""
QUIET = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}
"""Many processes share the GPU's memory: none may take most of it in advance."""
SETTLE, MEASURE = 3, 1.5
"""Steps before the clock runs, and seconds for which it does."""
STACKED = Case("stacked-256", "stacked", (100, 4), 256, 32, untied=True)
SIZES = {**CASES, STACKED.name: STACKED}
SMALL = (
    Case("grid", "grid", (9, 3), 24, 5), Case("grid, untied", "grid", (6, 4), 16, 3, True),
    Case("stacked", "stacked", (7, 3), 16, 4, True), Case("depth, untied", "depth", (6,), 16, 4, True),
    Case("cube", "cube", (4, 3, 3), 8, 3), Case("plane", "plane", (5, 4), 8, 3),
)  # fmt: skip
MIXED = """
name: mixed
dimensions: {time: T, depth: 2}
transforms:
  depth: {cell: lstm, hidden: 5, start: learned, peepholes: true}
  time: {cell: gru, hidden: 4, tied: [time], direction: {over: depth, cycle: [forward, backward]}}
priority: [depth, time]
inputs:
  tokens: {vocabulary: 5, embed: 3, joins: [depth, time], at: {depth: first}}
  x: {features: 2, enters: depth}
outputs:
  label: {classes: 3, reads: [time, depth.memory], at: {time: last, depth: last}}
  each: {features: 2, reads: [time], at: {depth: last}}
"""
WRAPPED = """
name: wrapped
dimensions: {time: T, depth: 4}
transforms:
  depth: {cell: highway, hidden: 8, start: {wrap: {time: -1}}, tied: [time]}
inputs: {x: {features: 3, joins: [depth], at: {depth: first}}}
outputs: {y: {classes: 3, reads: [depth], at: {time: last, depth: last}}}
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: what runs (``way``), on which case, with these environment variables and options."""

    name: str
    way: str
    case: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    flags: str = ""


TRIALS = (("grid", "cube"), ("grid, untied", "plane"), ("mixed", "stacked"), ("wrapped", "depth, untied"))
"""Small grids, some to a row."""
GRAPHS = "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,CONDITIONAL,WHILE"
"""Whole loops as one CUDA graph each, where XLA can."""
NO_GRAPHS = "--xla_gpu_enable_command_buffer="
def _numbers(dtype: str) -> list[Row]:
    return [Row(f"numbers, {dtype}, {n + 1}", "numbers", options={"dtype": dtype, "trials": t}) for n, t in enumerate(TRIALS)]


ROWS = (
    *_numbers("float32"),
    *(Row(f"{case}: gridc", "fused", case) for case in ("S1", "S2", "S3", "S4", STACKED.name)),
    *_numbers("float64"),
    *(Row(f"{case}: gridc, loops as graphs", "fused", case, flags=GRAPHS) for case in ("S1", "S4")),
    *(Row(f"{case}: gridc, 4 turns at once", "fused", case, {"unroll": 4}) for case in ("S1", "S4")),
    Row("S1: gridc, no graphs", "fused", "S1", flags=NO_GRAPHS),
    Row("S1: gridc, TF32", "fused", "S1", {"precision": "tensorfloat32"}),
    Row(f"{STACKED.name}: torch nn.LSTM", "torch", STACKED.name),
    *(Row(f"{case}: jax by hand", "peer", case) for case in ("S1", "S2", "S3", "S4", STACKED.name)),
    *(Row(f"{case}: gridc plain (Scan)", "plain", case) for case in ("S1", "S4", "S3", "S2")),
)  # fmt: skip
"""In the order of their importance: what time is left decides how many come to be measured."""


# -- one row, in a process of its own ---------------------------------------------------------------------------------


def timed(step: Callable[[], Any]) -> dict[str, float]:
    """Give the least and the median time of a step, in milliseconds."""
    for _ in range(SETTLE):
        step()
    times: list[float] = []
    end = time.perf_counter() + MEASURE
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return {"least_ms": min(times), "median_ms": float(np.median(times)), "steps": len(times)}


def fused(row: Row) -> Callable[[], dict[str, Any]]:
    """Give a training step as a user takes it; and the compiled step alone, its data on the device."""
    jax = importlib.import_module("jax")
    if "precision" in row.options:
        jax.config.update("jax_default_matmul_precision", row.options["precision"])
    sweep: Any = importlib.import_module("gridc.device.sweep")
    sweep.UNROLL = row.options.get("unroll")
    updates = importlib.import_module("gridc.device.updates")
    optimizers = importlib.import_module("gridc.training.optimizers")
    arrays = importlib.import_module("gridc.data.fitting")
    case = SIZES[row.case]
    grid = case.grid(backend="jax", eager=False)
    x, y = case.data()
    run = updates.Updates(grid._on_device, grid._mirror, optimizers.optimizer("sgd", learning_rate=RATE))

    def step() -> Any:
        # What ``grid.training_step`` does, with the parts in hand.
        call = arrays.check(grid.spec, {"x": x}, None, grid.dtype)
        return run(call, grid._targets({"y": y}, call, None))

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    call = arrays.check(grid.spec, {"x": x}, None, grid.dtype)
    told = grid._targets({"y": y}, call, None)

    def alone() -> dict[str, float]:
        with run.functions.ready("training step", call, told) as (plan, given):
            held = [run.parameters.arrays(), run.state.arrays()]
            given = jax.device_put([np.float64(RATE), np.float64(1), *given])

            def compiled() -> None:
                after = run._steps[plan](*held, *given)
                held[:] = after[:2]
                jax.block_until_ready(after)

            return timed(compiled)

    def measure() -> dict[str, Any]:
        return {**timed(step), "first_s": first, "device": alone()}

    return measure


def plain(row: Row) -> Callable[[], dict[str, Any]]:
    """Give a training step of the plain lowering, PyTensor's Scan."""
    case = SIZES[row.case]
    grid = case.grid(backend="jax", lowering="plain", eager=False)
    x, y = case.data()
    step = grid.training_step("sgd", learning_rate=RATE)
    start = time.perf_counter()
    step({"x": x}, {"y": y})
    first = time.perf_counter() - start
    return lambda: {**timed(lambda: step({"x": x}, {"y": y})), "first_s": first}


def peer(row: Row) -> Callable[[], dict[str, Any]]:
    """Give the quicker of the programs that people write by hand in JAX."""
    case = SIZES[row.case]
    peers = importlib.import_module("gridc.benchmarks.peers_jax")
    known = dict(case.grid(eager=False).parameters)
    made = [make() for make in peers.contestants(case, known)]
    for contestant in made:
        contestant.step()

    def measure() -> dict[str, Any]:
        found = {contestant.name: timed(contestant.step) for contestant in made}
        name = min(found, key=lambda n: found[n]["median_ms"])
        return {**found[name], "which": name, "all": found}

    return measure


def torch(row: Row) -> Callable[[], dict[str, Any]]:
    """PyTorch's stacked LSTM, which on a GPU is cuDNN's, with the same projections around it."""
    t = importlib.import_module("torch")
    case = SIZES[row.case]
    x, y = (t.from_numpy(a) for a in case.data())
    where = "cuda" if t.cuda.is_available() else "cpu"

    class Stacked(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = t.nn.Linear(x.shape[-1], case.hidden)
            self.lstm = t.nn.LSTM(case.hidden, case.hidden, case.sizes[1], batch_first=True)
            self.leave = t.nn.Linear(case.hidden, 32)

        def forward(self, x: Any) -> Any:
            return self.leave(self.lstm(self.enter(x))[0][:, -1])

    model, x, y = Stacked().to(where), x.to(where), y.to(where)
    optimizer = t.optim.SGD(model.parameters(), lr=RATE)

    def step() -> None:
        optimizer.zero_grad()
        loss = t.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        loss.item()

    step()

    def measure() -> dict[str, Any]:
        exact = t.backends.cudnn.allow_tf32
        t.backends.cudnn.allow_tf32 = False
        without = timed(step)
        t.backends.cudnn.allow_tf32 = exact
        return {**without, "where": where, "tf32": timed(step), "torch": t.__version__}

    return measure


def numbers(row: Row) -> Callable[[], dict[str, Any]]:
    """Three steps of training small grids, their losses and gradients, against the fused sweep on the CPU.

    With plain gradient descent at a rate of 1 the parameters move by the gradients."""
    import gridc

    dtype = row.options["dtype"]
    found: dict[str, Any] = {}
    for name in row.options["trials"]:
        page, (inputs, targets, lengths) = trial(name)
        try:
            grids = [gridc.compile(page, backend=b, dtype=dtype, eager=False) for b in ("python", "jax")]
            steps = [grid.training_step("sgd", learning_rate=1.0) for grid in grids]
            worst = loss = 0.0
            for _ in range(3):
                before = [{n: a.copy() for n, a in grid.parameters.items()} for grid in grids]
                losses = [step(inputs, targets, lengths) for step in steps]
                here, there = ({n: b[n] - grid.parameters[n] for n in b} for grid, b in zip(grids, before, strict=True))
                loss = max(loss, abs(losses[1] - losses[0]) / abs(losses[0]))
                worst = max(worst, *(float(np.abs(there[n] - a).max() / np.abs(a).max()) for n, a in here.items() if a.any()))
                for n in before[0]:
                    grids[1].parameters[n] = grids[0].parameters[n]  # so that each step is compared, not what comes of all
            found[name] = {"loss": loss, "gradients": worst}
        except Exception as error:  # one grid that fails is a finding, and the others go on
            found[name] = f"{type(error).__name__}: {error}"
    # A difference of parameters has the rounding of the parameters.
    return lambda: {"differences": found, "within": 2e-5 if dtype == "float32" else 1e-11}


def trial(name: str) -> tuple[str, tuple[Any, Any, Any]]:
    """Give a small grid by name, and what it is called with."""
    random = np.random.default_rng(0)
    if name == "mixed":
        inputs = {"tokens": random.integers(0, 5, (4, 7)), "x": random.normal(size=(4, 7, 2))}
        targets = {"label": random.integers(0, 3, 4), "each": random.normal(size=(4, 7, 2))}
        return MIXED, (inputs, targets, {"T": [7, 3, 1, 5]})
    if name == "wrapped":
        return WRAPPED, ({"x": random.normal(size=(3, 6, 3))}, {"y": random.integers(0, 3, 3)}, {"T": [6, 2, 4]})
    case = next(case for case in SMALL if case.name == name)
    x, y = case.data()
    return case.spec, ({"x": x}, {"y": y}, None)


WAYS = {"fused": fused, "plain": plain, "peer": peer, "torch": torch, "numbers": numbers}


def work(row: Row) -> None:
    """Build a row, say so, and measure it when told to; each answer is a line of JSON."""

    def say(**told: Any) -> None:
        print("\n" + json.dumps(told), flush=True)

    try:
        measure = WAYS[row.way](row)
        device = ""
        with contextlib.suppress(Exception):
            device = str(importlib.import_module("jax").devices()[0].device_kind)
        say(ready=True, device=device)
        sys.stdin.readline()
        say(result=measure())
    except BaseException as error:  # whatever it is, it is the row's result
        say(error=f"{type(error).__name__}: {str(error)[:600]}")


# -- all rows ---------------------------------------------------------------------------------------------------------


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
            environment = {**os.environ, **QUIET, "XLA_FLAGS": flags}
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


def run(rows: Sequence[Row], seconds: float, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Give the result of every row, in the time that there is: three fifths of it to build, the rest to measure."""
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
    return results


def line(found: Mapping[str, Any]) -> str:
    """Give a result for people."""
    name = f"{found['row']:36}"
    if "error" in found:
        return f"{name} – {str(found['error'])[:300]}"
    result = found["result"]
    if "differences" in result:
        wrong = {n: d for n, d in result["differences"].items() if isinstance(d, str) or max(d.values()) > result["within"]}
        worst = max((max(d.values()) for d in result["differences"].values() if not isinstance(d, str)), default=float("nan"))
        verdict = "all right" if not wrong else f"WRONG: {wrong}"
        return f"{name} {verdict}; largest difference {worst:.1e} of {result['within']:.0e}"
    text = f"{name} {result['median_ms']:9.3f} ms (least {result['least_ms']:.3f})"
    if "device" in result:
        text += f", compiled step alone {result['device']['median_ms']:.3f} ms"
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
    if kind == "cpu" and not options.anyway:
        print("JAX has no GPU here; --anyway runs the table on the processor.", file=sys.stderr)
        return 1
    rows = [row for row in ROWS if not options.only or options.only in row.name]
    results = run(rows, options.seconds, lambda text: print(text, flush=True))
    if options.json:
        told = {"device": device, "platform": kind, "jax": version, "python": platform.python_version(), "rows": results}
        Path(options.json).write_text(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
