"""The plan of a call: made for its sizes and lengths, and remembered for the next call like it."""

from __future__ import annotations

import numpy as np

from gridc import resources
from gridc.fusion.pipeline import Stage
from gridc.language.lattice import Ints
from gridc.language.spec import Directives, GridSpec
from gridc.scheduling import counts, pipeline
from gridc.scheduling.plan import Plan, plan
from gridc.symbolic.indices import recall

POOL = 100_000_000
"""Multiply-adds of a forward sweep from which BLAS may use its own threads."""


def planned(
    spec: GridSpec, extent: np.ndarray, lengths: np.ndarray, itemsize: int, threads: int | None = None, stage: Stage | None = None
) -> Plan:  # fmt: skip
    """Plan for sizes ``extent`` ``[batch, *dimensions]`` and ``lengths`` ``[batch, symbols]``, on so many threads or as many as
    this process has cores, in numbers of so many bytes; for a rank's ``stage`` of it where it is cut."""
    if stage is not None:
        threads = resources.threads() if threads is None else threads
        return recall(pipeline.piece, spec, extent, lengths, stage.cut, stage.rank, threads, spec.schedule.recompute)
    return recall(_plan, spec, extent, lengths, spec.schedule, itemsize, resources.threads() if threads is None else threads)


def _plan(
    spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None, asked: Directives, itemsize: int, threads: int
) -> Plan:  # fmt: skip
    return plan(spec, sizes, batch, extents, threads, counts.room(spec, sizes, batch, itemsize))


def small(spec: GridSpec, extent: np.ndarray) -> bool:
    """Tell whether BLAS should keep to one thread during a call of this extent: for small products, where a second thread gains
    nothing and, on a machine that is busy, waits for a core while the first one spins."""
    batch, *sizes = (int(n) for n in extent)
    return counts.multiply_adds(spec, tuple(sizes), batch) < POOL
