"""What the benchmark measures: the sizes as specs with their data, and the contestants that need nothing but gridc."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gridc.benchmarks.figures import PRODUCTS
from gridc.compiler import compile
from gridc.grid import Grid
from gridc.language.spec import GridSpec
from gridc.scheduling import order
from gridc.scheduling.check import read
from gridc.scheduling.graph import build
from gridc.scheduling.plan import plan
from gridc.scheduling.program import PRODUCT, Program

Array = np.ndarray[Any, Any]
RATE = 1e-6
"""The learning rate: so small that a thousand steps leave the numbers where they are."""
FEATURES = CLASSES = 32


@dataclass(frozen=True)
class Case:
    """One size: ``kind`` is grid (time × depth), stacked, depth, cube (three dimensions) or plane (one joint state).

    A plane's two forget gates start at a quarter: with the usual bias their sum is above one, memories grow exponentially
    with the size, and no two libraries' gradients agree to four digits."""

    name: str
    kind: str
    sizes: tuple[int, ...]
    hidden: int
    batch: int
    untied: bool = False
    dtype: str = "float32"
    """As ``gridc.compile`` takes it."""

    @property
    def numbers(self) -> np.dtype[Any]:
        """The type of every number, of which bfloat16 is only what products take."""
        return np.dtype("float32" if self.dtype == "bfloat16" else self.dtype)

    @property
    def spec(self) -> str:
        """The case as a page of YAML."""
        return _TEXTS[self.kind].format(
            name=self.name.lower(), sizes=self.sizes, depth=self.sizes[-1], H=self.hidden, F=FEATURES, C=CLASSES,
            tied="[time]" if self.untied else "all", alone="none" if self.untied else "all")  # fmt: skip

    def read(self) -> GridSpec:
        """Read the case as a spec."""
        return read(self.spec)

    def data(self) -> tuple[Array, Array]:
        """Draw an input and targets, always the same."""
        random = np.random.default_rng(0)
        over = {"depth": (), "plane": self.sizes}.get(self.kind, self.sizes[: max(1, len(self.sizes) - 1)])
        x = random.normal(size=(self.batch, *over, FEATURES)).astype(self.numbers)
        return x, random.integers(0, CLASSES, self.batch)

    def grid(self, **options: Any) -> Grid:
        """Compile the case."""
        options.setdefault("dtype", self.dtype)
        return compile(self.read(), **options)


_HEAD = "name: {name}\n"
_X, _Y = "inputs:\n  x: {{features: {F}, %s}}\n", "outputs:\n  y: {{classes: {C}, reads: [%s], at: {{%s}}}}\n"
_TEXTS = {
    "grid": _HEAD + """dimensions: {{time: T, depth: {depth}}}
transforms:
  time: {{cell: lstm, hidden: {H}, tied: {tied}}}
  depth: {{cell: lstm, hidden: {H}, tied: {tied}}}
priority: [time, depth]
""" + _X % "enters: depth" + _Y % ("depth", "time: last, depth: last"),
    "stacked": _HEAD + """dimensions: {{time: T, depth: {depth}}}
transforms:
  time: {{cell: lstm, hidden: {H}, tied: [time]}}
  depth: {{cell: pass, reads: [time]}}
priority: [time, depth]
""" + _X % "enters: depth" + _Y % ("time", "time: last, depth: last"),
    "depth": _HEAD + """dimensions: {{depth: {depth}}}
transforms:
  depth: {{cell: lstm, hidden: {H}, tied: {alone}}}
""" + _X % "enters: depth" + _Y % ("depth", "depth: last"),
    "cube": _HEAD + """dimensions: {{rows: {sizes[0]}, columns: {sizes[1]}, depth: {depth}}}
transforms:
  rows: {{cell: lstm, hidden: {H}}}
  columns: {{cell: lstm, hidden: {H}}}
  depth: {{cell: lstm, hidden: {H}}}
""" + _X % "enters: depth" + _Y % ("rows, columns, depth", "rows: last, columns: last, depth: last"),
    "plane": _HEAD + """dimensions: {{rows: {sizes[0]}, columns: {sizes[1]}}}
transforms:
  plane: {{cell: lstm, hidden: {H}, along: [rows, columns], forget_bias: -1}}
""" + _X % "joins: [plane]" + _Y % ("plane", "rows: last, columns: last"),
}  # fmt: skip
_GRIDS = {
    "S1": ((50, 4), 128, 32), "S2": ((100, 6), 256, 16), "S3": ((20, 18), 64, 15), "S4": ((32, 32), 32, 1),
    "S5": ((50,), 512, 64),
}  # fmt: skip


def _cases() -> dict[str, Case]:
    found: list[Case] = []
    for untied in (False, True):
        for name, (sizes, hidden, batch) in _GRIDS.items():
            found.append(Case(name + "-untied" * untied, "grid" if len(sizes) > 1 else "depth", sizes, hidden, batch, untied))
    found += [Case(f"{name}-stacked", "stacked", *_GRIDS[name], untied=True) for name in ("S1", "S2")]
    found += [Case("3-D", "cube", (14, 14, 4), 100, 16), Case("MD", "plane", (32, 32), 32, 8)]
    found.append(Case("S4-wide", "grid", (64, 64), 64, 1))  # one example, and wavefronts that several cores can share
    return {case.name: case for case in found}


CASES = _cases()


def of(name: str, dtype: str) -> Case:
    """Give a size with numbers of a type."""
    return replace(CASES[name], dtype=dtype)


@dataclass(frozen=True)
class Contestant:
    """Ways to do a case: ``step`` is one training step, ``gradients`` gives loss and gradients by parameter, None for what
    does not compute them; ``forward`` predicts, where that is measured too."""

    name: str
    step: Callable[[], Any]
    gradients: Callable[[], tuple[float, Mapping[str, Array]]] | None = None
    forward: Callable[[], Any] | None = None


def gridc(case: Case, name: str = "gridc", **options: Any) -> Contestant:
    """Make gridc itself a contestant, or with options one of its other ways: PyTensor's Scan is its plain lowering."""
    grid = case.grid(**options)
    x, y = case.data()
    inputs, targets = {"x": x}, {"y": y}
    step = grid.training_step("sgd", learning_rate=RATE)
    return Contestant(
        name, lambda: step(inputs, targets), lambda: grid.loss_and_gradients(inputs, targets)[:2], lambda: grid.predict(inputs)
    )


# -- the products alone ---------------------------------------------------------------------------------------------


def program(case: Case, chosen: int | None = 0) -> Program:
    """Plan what the sweep executes over the whole batch in the order numbered ``chosen``: 0 is by wavefronts of cells."""
    spec = case.read()
    sizes = spec.sizes(dict.fromkeys(spec.symbols, case.sizes[0]))
    found = None if chosen is None else list(order.orders(build(spec, sizes)))[chosen]
    return plan(spec, sizes, case.batch, chosen=found).sweep.segments[0].program


@dataclass(frozen=True)
class Products:
    """Shapes ``(rows, inner, columns)`` of the products of a step: forward, backward to what was read, and for the weights."""

    forward: tuple[tuple[int, int, int], ...]
    backward: tuple[tuple[int, int, int], ...]
    weights: tuple[tuple[int, int, int], ...]

    @property
    def flops(self) -> int:
        """Floating-point operations of a training step; a multiply-add is two."""
        return sum(2 * math.prod(shape) for shapes in (self.forward, self.backward, self.weights) for shape in shapes)

    @property
    def forward_flops(self) -> int:
        """Floating-point operations of the way forward."""
        return sum(2 * math.prod(shape) for shape in self.forward)


def products(of: Program) -> Products:
    """List the shapes of the products that a program makes; the gradients of joined inputs are not asked for."""
    forward: list[tuple[int, int, int]] = []
    backward: list[tuple[int, int, int]] = []
    weights: list[tuple[int, int, int]] = []
    starts = of.block_starts
    for step in of.steps[of.steps["kind"] == PRODUCT]:
        t, rows = int(step["transform"]), int(step["end"] - step["first"])
        own, widths = of.transforms[t], of.widths(t)
        low, high = int(step["low"]) - starts[t], int(step["high"]) - starts[t]
        forward.append((rows, sum(widths[low:high]), own.width))
        read = sum(widths[low : min(high, len(own.sources))])
        if read:
            backward.append((rows, own.width, read))
    for t, own in enumerate(of.transforms):
        if own.gates:
            weights += [(sum(of.widths(t)), int(rows), own.width) for rows in np.diff(own.weight_ends)]
    return Products(tuple(forward), tuple(backward[::-1]), tuple(weights))


def numpy_products(case: Case) -> Contestant:
    """Make a contestant of the products at the wavefronts' shapes and nothing else, by NumPy's BLAS, which knows no bfloat16."""
    shapes = products(program(case))
    random = np.random.default_rng(0)
    rows = max(shape[0] for shape in (*shapes.forward, *shapes.backward))
    examples = max(shape[1] for shape in shapes.weights)
    inner, columns = max(s[0] for s in shapes.weights), max(s[2] for s in shapes.weights)

    def made(count: int, width: int) -> Array:
        return random.normal(size=count * width).astype(case.numbers)

    z, g = made(max(rows, examples), inner), made(max(rows, examples), columns)
    w, out, dw = made(inner, columns), made(max(rows, examples), max(inner, columns)), made(inner, columns)

    def view(array: Array, n: int, m: int) -> Array:
        return array[: n * m].reshape(n, m)

    jobs = [(view(z, n, k), view(w, k, m), view(out, n, m)) for n, k, m in shapes.forward]
    jobs += [(view(g, n, k), view(w, m, k).T, view(out, n, m)) for n, k, m in shapes.backward]
    jobs += [(view(z, k, n).T, view(g, k, m), view(dw, n, m)) for n, k, m in shapes.weights]
    before = jobs[: len(shapes.forward)]

    def run(work: list[tuple[Array, Array, Array]]) -> None:
        for a, b, into in work:
            np.dot(a, b, out=into)

    return Contestant(PRODUCTS, lambda: run(jobs), None, lambda: run(before))


def stored_bytes(case: Case, grid: Grid) -> int:
    """Count on paper the bytes that a training step keeps."""
    sizes = dict.fromkeys(grid.spec.symbols, case.sizes[0])
    return grid.summary(batch=case.batch, **sizes).training_bytes
