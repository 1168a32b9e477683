"""What a compiled grid holds and costs, counted on paper before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gridc import plain_text
from gridc.errors import UsageError, nearest
from gridc.insight.timing import Timing
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec
from gridc.resources import Memory


@dataclass(frozen=True)
class Summary:
    """``flops`` of a forward sweep's products; ``predict_bytes`` and ``training_bytes`` are the peak of what a call stores:
    states, inputs and activations of every step, the parameters, and for training their gradients."""

    name: str
    lowering: str
    backend: str
    dtype: str
    batch: int
    sizes: tuple[tuple[str, int], ...]
    shapes: Mapping[str, tuple[int, ...]]
    flops: int
    predict_bytes: int
    training_bytes: int
    wavefronts: int
    steps: int
    compile_seconds: Mapping[str, float]

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def __str__(self) -> str:
        grid = plain_text.sizes(self.sizes)
        rows = [
            f"{self.name}: {self.lowering} on '{self.backend}', {self.dtype}",
            f"grid        {grid}, batch {self.batch}: {self.steps:,} steps in {self.wavefronts:,} wavefronts",
            f"parameters  {self.parameters:,}",
            *(f"  {name:<22} {' × '.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items()),
            f"products    {self.flops / 1e9:,.3f} GFLOP forward, {3 * self.flops / 1e9:,.3f} GFLOP a training step",
            f"memory      {self.predict_bytes / 1e6:,.1f} MB forward, {self.training_bytes / 1e6:,.1f} MB training",
        ]
        if self.compile_seconds:
            rows.append("built in    " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in self.compile_seconds.items()))
        return "\n".join(rows)


def summarise(
    spec: GridSpec, dtype: str, lowering: str, backend: str, batch: int, sizes: Mapping[str, int],
    compile_seconds: Mapping[str, float], recompute: bool = False,
) -> Summary:  # fmt: skip
    """Count on paper.  Symbols without a size count as 1; raises UsageError for a name that is no symbol."""
    for name in sizes:
        if name not in spec.symbols:
            raise UsageError(f"there is no symbol '{name}'{nearest(name, spec.symbols)}")
    bound = {symbol: int(sizes.get(symbol, 1)) for symbol in spec.symbols}
    extent = spec.sizes(bound)
    plan = Timing(spec, extent)
    shapes = parameter_shapes(spec)
    flops = stored(spec, extent, batch)[2]
    forward, training = (needed(spec, dtype, extent, batch, both, recompute) for both in (False, True))
    return Summary(
        spec.name, lowering, backend, dtype, batch, tuple(zip((d.name for d in spec.dimensions), extent, strict=True)), shapes,
        flops, forward, training, plan.span, plan.work, compile_seconds,
    )  # fmt: skip


def needed(
    spec: GridSpec, dtype: str, sizes: tuple[int, ...], batch: int, training: bool, recompute: bool = False,
    limit: float = math.inf,
) -> int:  # fmt: skip
    """How many bytes a call stores at its peak, a training step or a prediction.

    To recompute also takes the index arrays; where these alone are above the ``limit``, the rest is not counted."""
    item = np.dtype(dtype).itemsize
    learnt = sum(math.prod(shape) for shape in parameter_shapes(spec).values())
    if not recompute:
        tape, slopes, _ = stored(spec, sizes, batch)
        return item * (tape + slopes * training + (1 + training) * learnt)
    reads = sum(len(t.reads) + len(t.along) + len(spec.joined(name)) for name, t in spec.transforms.items() if not t.relayed)
    indices = 8 * reads * math.prod(sizes) * batch
    if indices > limit:
        return indices
    from gridc.fusion.run import stored as recomputed
    from gridc.symbolic import splitting

    lanes = splitting.lanes(spec, batch, sizes)
    tape, slopes = _counts.get((spec.digest, sizes, batch, lanes), lambda: recomputed(spec, sizes, batch, lanes))
    # Every lane adds up its own gradients, and those of a segment apart; all share the transposed weights.
    surface = (1 + training) * _surface(spec, sizes, batch)
    return indices + item * (tape + slopes * training + surface + (1 + training * (1 + 2 * lanes)) * learnt)


_counts = Memory()


def _surface(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> int:
    """Numbers that enter a sweep and that outputs read of it, which it keeps whole."""
    count = 0
    for x in spec.inputs.values():
        if x.enters:
            t = spec.transforms[x.enters]
            count += len(x.into) * t.hidden * math.prod(sizes) // sizes[t.along[0]]
        elif x.joins:
            count += x.width * math.prod(sizes[d] for d in x.over)
    for o in spec.outputs.values():
        read = math.prod(sizes[d] for d in o.axes) * math.prod(len(at) for at in o.at if isinstance(at, tuple))
        count += read * (sum(spec.transforms[tap.transform].hidden for tap in o.reads) + 2 * o.size)
    return batch * count


def stored(spec: GridSpec, sizes: tuple[int, ...], batch: int) -> tuple[int, int, int]:
    """How many numbers a sweep keeps from forward to backward, how many more backward, and its forward products' FLOPs."""
    rows = math.prod(sizes) * batch
    tape = slopes = flops = 0
    for name, t in spec.transforms.items():
        own = 1 + t.has_memory
        entering = rows // sizes[t.along[0]] if spec.entering(name) or t.start == "wrap" else 0
        computed = 0 if t.relayed else rows
        columns = len(t.gates) * t.hidden
        tape += (computed + entering) * own * t.hidden + computed * (spec.rows(name) * bool(columns) + columns)
        slopes += (computed + entering) * own * t.hidden
        flops += 2 * computed * spec.rows(name) * columns
    return tape, slopes, flops
