"""The rows of what is measured on a GPU: small grids whose numbers are looked at, and steps that are timed."""

# JAX and PyTorch say of most of their functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from gridc.benchmarks.cases import CASES, RATE, Case

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
MASKED = """
name: masked
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 6, dropout: 0.3, zoneout: 0.2, tied: [time]}
  depth: {cell: pass, reads: [time]}
  hops: {cell: memory, hidden: 6, along: depth, attends: story, start: learned, dropout: 0.2}
priority: [time, depth]
inputs:
  x: {features: 3, joins: [time], at: {depth: first}}
  story: {vocabulary: 5, facts: true}
outputs: {y: {classes: 3, reads: [time, depth, hops], at: {time: last, depth: last}}}
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: what runs (``way``), on which case, with these environment variables and options."""

    name: str
    way: str
    case: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    flags: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


TRIALS = (("grid", "cube"), ("grid, untied", "plane"), ("mixed", "stacked", "masked"), ("wrapped", "depth, untied"))
"""Small grids, some to a row."""
GRAPHS = "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,CONDITIONAL,WHILE"
"""Whole loops as one CUDA graph each, where XLA can."""
NO_GRAPHS = "--xla_gpu_enable_command_buffer="
LOOPS = {"GRIDC_GPU_KERNEL": "0"}
"""XLA's loops, and no kernels of gridc's own."""
TIMED = ("S1", "S2", "S3", "S4", STACKED.name)


def _numbers(dtype: str, name: str = "", environment: Mapping[str, str] = MappingProxyType({})) -> list[Row]:
    return [Row(f"numbers, {dtype}{name}, {n + 1}", "numbers", options={"dtype": dtype, "trials": t}, environment=environment)
            for n, t in enumerate(TRIALS)]  # fmt: skip


ROWS = (
    *_numbers("float32"),
    *(Row(f"{case}: gridc", "fused", case) for case in TIMED),
    Row(f"{STACKED.name}: torch nn.LSTM", "torch", STACKED.name),
    *(Row(f"{case}: gridc, loops", "fused", case, environment=LOOPS) for case in TIMED),
    *(Row(f"{case}: jax by hand", "peer", case) for case in ("S1", "S2", "S3", "S4", STACKED.name)),
    *_numbers("float32", ", loops", LOOPS),
    *(Row(f"{case}: gridc", "fused", case) for case in ("S1-untied", "MD", "3-D")),
    *(Row(f"{case}: gridc plain (Scan)", "plain", case) for case in ("S1", "S4", "S3", "S2")),
    *_numbers("float64"),
    Row("numbers, bfloat16", "numbers", options={"dtype": "bfloat16", "trials": ("grid", "mixed", "masked")}),
    *(Row(f"{case}: gridc, bfloat16", "fused", case, {"dtype": "bfloat16"}) for case in ("S2", STACKED.name)),
    Row("S1 with masks: gridc", "fused", "S1", {"masks": "dropout: 0.2, zoneout: 0.1"}),
    Row("numbers, all devices", "numbers",
        options={"dtype": "float32", "trials": ("mixed", "wrapped", "masked"), "devices": True}),
    Row("S1: gridc, all devices", "fused", "S1", {"devices": True}),
    Row("S1: gridc, TF32", "fused", "S1", {"precision": "tensorfloat32"}),
    Row("MD: jax by hand", "peer", "MD"),
    *(Row(f"{case}: gridc, loops as graphs", "fused", case, flags=GRAPHS, environment=LOOPS) for case in ("S1", "S4")),
    *(Row(f"{case}: gridc, loops, 4 turns at once", "fused", case, {"unroll": 4}, environment=LOOPS) for case in ("S1", "S4")),
    Row("S1: gridc, loops, no graphs", "fused", "S1", flags=NO_GRAPHS, environment=LOOPS),
)  # fmt: skip
"""In the order of their importance: what time is left decides how many come to be measured."""


def devices(row: Row) -> int:
    """How many devices a row takes: all that JAX has, or one."""
    return importlib.import_module("jax").device_count() if row.options.get("devices") else 1


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
    optimizers = importlib.import_module("gridc.training.optimizers")
    case = SIZES[row.case]
    page = case.spec
    if "masks" in row.options:
        page = page.replace("cell: lstm", f"cell: lstm, {row.options['masks']}")
    grid = importlib.import_module("gridc").compile(
        page, backend="jax", devices=devices(row), dtype=row.options.get("dtype", "float32"), eager=False)  # fmt: skip
    x, y = case.data()
    run: Any = grid.updates(optimizers.optimizer("sgd", learning_rate=RATE))

    def step() -> Any:
        return run.begin({"x": x}, {"y": y})()

    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    call, told = run.check({"x": x}, {"y": y})

    def alone() -> dict[str, float]:
        masks, _ = run.draw(call)
        with run.functions.ready("training step", call, [*told, *masks]) as (plan, given):
            every = run.arguments(given, run.left.take(plan))
            *held, numbers = jax.device_put(every[:5])
            rest = (numbers, *every[5:])

            def compiled() -> None:
                after = run._steps[plan](*held, *rest)
                held[:] = after[:4]
                jax.block_until_ready(after)

            return timed(compiled)

    flying: list[Callable[[], Any]] = []

    def ahead() -> None:
        flying.append(run.begin({"x": x}, {"y": y}))
        if len(flying) > 1:
            flying.pop(0)()

    def measure() -> dict[str, Any]:
        found = {**timed(step), "first_s": first, "ahead": timed(ahead), "devices": devices(row)}
        flying.pop()()
        return {**found, "device": alone()}

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
            grids = [gridc.compile(page, backend=b, devices=n, dtype=dtype, eager=False)
                     for b, n in (("python", 1), ("jax", devices(row)))]  # fmt: skip
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
    # A difference of parameters has the rounding of the parameters.  What differs in its last digit may be rounded to bfloat16
    # otherwise, by one in the eighth.
    within = {"float32": 2e-5, "float64": 1e-11, "bfloat16": 5e-3}[dtype]
    return lambda: {"devices": devices(row), "differences": found, "within": within}


def trial(name: str) -> tuple[str, tuple[Any, Any, Any]]:
    """Give a small grid by name, and what it is called with."""
    random = np.random.default_rng(0)
    if name == "mixed":
        inputs = {"tokens": random.integers(0, 5, (4, 7)), "x": random.normal(size=(4, 7, 2))}
        targets = {"label": random.integers(0, 3, 4), "each": random.normal(size=(4, 7, 2))}
        return MIXED, (inputs, targets, {"T": [7, 3, 1, 5]})
    if name == "wrapped":
        return WRAPPED, ({"x": random.normal(size=(3, 6, 3))}, {"y": random.integers(0, 3, 3)}, {"T": [6, 2, 4]})
    if name == "masked":
        inputs = {"x": random.normal(size=(4, 6, 3)), "story": random.integers(0, 5, (4, 5, 2))}
        return MASKED, (inputs, {"y": random.integers(0, 3, 4)}, {"T": [6, 2, 4, 1]})
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
