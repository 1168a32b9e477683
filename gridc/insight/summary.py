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
from gridc.options import LARGEST, integer
from gridc.scheduling import counts
from gridc.symbolic.lowerings import Target


@dataclass(frozen=True)
class Summary:
    """``flops`` of a forward sweep; ``predict_bytes`` and ``training_bytes`` are the peak of what a call stores:
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
            *(f"  {name:<22} {plain_text.times(shape) or 'scalar'}" for name, shape in self.shapes.items()),
            f"arithmetic  {self.flops / 1e9:,.3f} GFLOP forward, {3 * self.flops / 1e9:,.3f} GFLOP a training step",
            f"memory      {self.predict_bytes / 1e6:,.1f} MB forward, {self.training_bytes / 1e6:,.1f} MB training",
        ]
        if self.compile_seconds:
            rows.append("built in    " + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in self.compile_seconds.items()))
        return "\n".join(rows)


def summarise(
    spec: GridSpec, target: Target, batch: int, sizes: Mapping[str, int], compile_seconds: Mapping[str, float]
) -> Summary:
    """Count on paper.  Symbols without a size count as 1; raises UsageError for a name that is no symbol."""
    for name in sizes:
        if name not in spec.symbols:
            raise UsageError(f"there is no symbol '{name}'{nearest(name, spec.symbols)}")
    batch = integer("batch", batch, high=LARGEST)
    bound = {symbol: integer(f"size '{symbol}'", sizes.get(symbol, 1), high=LARGEST) for symbol in spec.symbols}
    extent = spec.sizes(bound)
    plan = Timing(spec, extent)
    shapes = parameter_shapes(spec)
    item = np.dtype(target.dtype).itemsize
    forward, training = (target.lowering.call_bytes(spec, extent, batch, item, both, spec.schedule.recompute)
                         for both in (False, True))  # fmt: skip
    return Summary(
        spec.name, target.lowering.name, target.backend.name, target.asked, batch,
        tuple(zip((d.name for d in spec.dimensions), extent, strict=True)), shapes,
        counts.flops(spec, extent, batch), forward, training, plan.span, plan.work, compile_seconds,
    )  # fmt: skip
