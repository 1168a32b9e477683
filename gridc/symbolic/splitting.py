"""How the examples of a sweep are split into lanes, one for each thread, and how each lane lies in memory."""

from __future__ import annotations

import math

from gridc.fusion import blas, run
from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.scheduling import layout, segments

TWO_LANES = 32_000_000
"""Multiply-adds of a forward sweep from which two lanes pay, measured on two cores: 34 million gain a sixth, 4 million lose
a half."""
POOL = 100_000_000
"""Multiply-adds from which BLAS may use its own threads."""


def lanes(spec: GridSpec, batch: int, sizes: tuple[int, ...]) -> int:
    """How many threads sweep: two where each has examples enough and the work outweighs their meeting."""
    return 2 if batch >= 2 and _work(spec, batch, sizes) > TWO_LANES and blas.default_threads() > 1 else 1


def one_blas_thread(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> bool:
    """Whether BLAS should keep to one thread during a call: beside threads of ours, and for small products, where a second
    thread gains nothing and, on a machine that is busy, waits for a core while the first one spins."""
    return lanes(spec, batch, sizes) > 1 or _work(spec, batch, sizes) < POOL


def _work(spec: GridSpec, batch: int, sizes: tuple[int, ...]) -> int:
    """Multiply-adds of a forward sweep."""
    return sum(spec.rows(n) * len(t.gates) * t.hidden for n, t in spec.transforms.items()) * math.prod(sizes) * batch


def plan(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> layout.Layout:
    return layout.plan(spec, sizes, batch, extents, lanes(spec, batch, sizes))


def plan_segments(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> segments.Layout:
    return run.plan(spec, sizes, batch, extents, lanes(spec, batch, sizes))
