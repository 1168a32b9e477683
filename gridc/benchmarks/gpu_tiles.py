"""What the tiles of a persistent kernel's products are worth: each way to cut them, timed on the GPU that is there.

    GRIDC_GPU_KERNEL=1 python -m gridc.benchmarks.gpu_tiles S1 S4 --seconds 60

``gridc.cuda.tiles`` chooses by a model; this says how far its choice is from the best one tried.  A kernel runs here alone, with
the index arrays of the size and random numbers, outside of XLA.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import argparse
import ctypes
import importlib
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from gridc.benchmarks.gpu_rows import RATE, SIZES
from gridc.cuda import source, tiles
from gridc.cuda.compiler import Compiler
from gridc.cuda.persistent import Persistent
from gridc.cuda.tiles import Card, Tiles

jax: Any = importlib.import_module("jax")
jnp: Any = importlib.import_module("jax.numpy")
REPEATS = 6


class Alone:
    """Runs kernels as ``gridc.cuda.launching.Kernels`` does, on CUDA's first stream, and keeps the time of the last."""

    def __init__(self, launcher: Any, cuda: Any):
        self.launcher, self.cuda, self.ms = launcher, cuda, float("nan")

    @classmethod
    def on_card(cls) -> Alone:
        """Make the context of the first card, which JAX has made already, this thread's own."""
        made, context = cls(Compiler(), ctypes.CDLL("libcuda.so.1")), ctypes.c_void_p()
        made._done(made.cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
        made._done(made.cuda.cuCtxSetCurrent(context))
        return made

    def call(
        self, kernel: Any, name: str, arguments: Sequence[Any], results: Sequence[Any], aliases: dict[int, int]
    ) -> list[Any]:
        """Launch a kernel some times and note the least milliseconds."""
        function = self.launcher.build(kernel, name)
        given = {result: arguments[k] for k, result in aliases.items()}
        made = [given[k] if k in given else jnp.zeros(r.shape, r.dtype) for k, r in enumerate(results)]
        counter = jnp.zeros(1, "uint32")
        jax.block_until_ready([*arguments, *made, counter])
        pointers = np.array([a.unsafe_buffer_pointer() for a in (*arguments, *made, counter)], np.int64)
        parameters = np.array([pointers.ctypes.data], np.int64)
        taken: list[float] = []
        for _ in range(REPEATS):
            self._done(self.cuda.cuMemsetD32Async(ctypes.c_void_p(int(pointers[-1])), 0, ctypes.c_size_t(1), None))
            self._done(self.cuda.cuCtxSynchronize())
            start = time.perf_counter()
            self._done(self.cuda.cuLaunchCooperativeKernel(
                ctypes.c_void_p(function), kernel.blocks, 1, 1, kernel.threads, 1, 1, kernel.shared, None,
                ctypes.c_void_p(parameters.ctypes.data)))  # fmt: skip
            self._done(self.cuda.cuCtxSynchronize())
            taken.append(1e3 * (time.perf_counter() - start))
        self.ms = min(taken)
        return made

    @staticmethod
    def _done(code: int) -> None:
        if code:
            raise RuntimeError(f"CUDA says {code}")


def sweep(name: str) -> tuple[Any, int]:
    """Give what ``Persistent`` takes of a sweep of this size, with random numbers, and its number of turns."""
    import gridc

    case = SIZES[name]
    grid = gridc.compile(case.spec, backend="jax", eager=False)
    x, y = case.data()
    run: Any = grid.updates(importlib.import_module("gridc.training.optimizers").optimizer("sgd", learning_rate=RATE))
    call, _ = run.check({"x": x}, {"y": y})
    plan, (tables, *_), _ = run.functions.plans.tables(call)
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return jnp.asarray(0.1 * random.normal(size=shape), "float32")

    made = SimpleNamespace(plan=plan, tables={k: jnp.asarray(t) for k, t in tables.items()})
    made.weights = [
        [drawn(n := sum(g.weights), sum(g.widths) + sum(g.joined), g.gates * g.hidden), drawn(n, g.gates * g.hidden), None]
        if g.gates else [None] * 3 for g in plan.groups]  # fmt: skip
    made.joined = [[drawn(sum(n for *_, n in plan.joins(g, j)) + 1, w) for j, w in enumerate(g.joined)] for g in plan.groups]
    made.ahead, made.dropped, made.kept = ([[] for _ in plan.groups], [None] * len(plan.groups), [[] for _ in plan.groups])
    made.entering = lambda g: drawn((g.base - 1) * g.vectors, g.hidden) if g.entries else None
    made.drawn = drawn
    return made, sum(phase.turns for phase in plan.phases)


def run(kernels: Persistent, back: bool) -> bool:
    """Run one kernel; tell whether it had room."""
    made, plan = kernels.sweep, kernels.plan
    if not back:
        return kernels.forward() is not None
    storage = [made.drawn((g.base + g.rows) * g.vectors, g.hidden) for g in plan.groups]
    given = [made.drawn(int(np.prod(tap.shape)) + 1, plan.groups[tap.group].hidden) for tap in plan.taps]
    return kernels.back(storage, given) is not None


def tried(alone: Alone, kernels: Persistent, back: bool, until: float) -> list[tuple[float, str]]:
    """Time every way to cut the products of a kernel until the time is over, the most promising first."""
    every: dict[Tiles, None] = {}
    true = tiles.tiles

    def listed(card: Card, *sizes: int) -> Tiles | None:
        every.update(dict.fromkeys(tiles.cuts(card, *sizes)))
        return true(card, *sizes)

    source.tiles = listed
    run(kernels, back)
    found = [(alone.ms, "as chosen")]
    order = sorted(every, key=lambda cut: cut.cycles)
    for cut in order[:16] + order[16::9]:
        if time.perf_counter() > until:
            break

        def forced(card: Card, *sizes: int, cut: Tiles = cut) -> Tiles | None:
            return cut if cut in tiles.cuts(card, *sizes) else true(card, *sizes)

        source.tiles = forced
        if run(kernels, back):
            text = f"{cut.units} units, {cut.rows} rows, {cut.each} of a thread, {cut.sums} ranges"
            found.append((alone.ms, f"{text}, {cut.threads} threads; model {cut.cycles:.0f} cycles"))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print for each size and kernel what was chosen, and the best and the worst of what was tried."""
    parser = argparse.ArgumentParser(prog="python -m gridc.benchmarks.gpu_tiles", description="The tiles of persistent kernels.")
    parser.add_argument("sizes", nargs="+", choices=list(SIZES), metavar="SIZE")
    parser.add_argument("--seconds", type=float, default=60, help="how long it may take (%(default)s)")
    options = parser.parse_args(arguments)
    if jax.default_backend() != "gpu":
        print("JAX has no GPU here.", file=sys.stderr)
        return 1
    alone, start = Alone.on_card(), time.perf_counter()
    for k, (name, back) in enumerate([(name, back) for name in options.sizes for back in (False, True)]):
        made, turns = sweep(name)
        until = start + options.seconds * (k + 1) / (2 * len(options.sizes))
        true = source.tiles
        try:
            found = tried(alone, Persistent(made, alone), back, until)  # type: ignore[arg-type]
        finally:
            source.tiles = true
        chosen, _ = found[0]
        print(
            f"{name}, {'back' if back else 'forward'}: {chosen:.3f} ms, {1e3 * chosen / turns:.2f} µs for each of {turns} turns"
        )
        for ms, text in sorted(found)[:5]:
            print(f"  {ms:8.3f} ms   {text}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
