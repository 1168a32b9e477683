"""The plan of a call: made for its sizes and lengths, and remembered for the next call like it."""

from __future__ import annotations

import numpy as np

from gridc.fusion import blas
from gridc.language.lattice import Ints
from gridc.language.spec import Directives, GridSpec
from gridc.scheduling import counts
from gridc.scheduling.plan import Plan, plan
from gridc.symbolic.indices import recall

POOL = 100_000_000
"""Multiply-adds of a forward sweep from which BLAS may use its own threads."""


def planned(spec: GridSpec, extent: np.ndarray, lengths: np.ndarray, itemsize: int) -> Plan:
    """Plan for sizes ``extent`` ``[batch, *dimensions]`` and ``lengths`` ``[batch, symbols]``, on this process's threads, in
    numbers of so many bytes."""
    return recall(_plan, spec, extent, lengths, spec.schedule, itemsize)


def _plan(
    spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None, asked: Directives, itemsize: int
) -> Plan:
    lanes = counts.lanes(spec, sizes, batch, blas.default_threads())
    return plan(spec, sizes, batch, extents, lanes, counts.room(spec, sizes, batch, itemsize, lanes))


def one_blas_thread(spec: GridSpec, extent: np.ndarray, lengths: np.ndarray) -> bool:
    """Tell whether BLAS should keep to one thread during a call: beside threads of ours, and for small products, where a second
    thread gains nothing and, on a machine that is busy, waits for a core while the first one spins."""
    return recall(_one_blas_thread, spec, extent, lengths)


def _one_blas_thread(spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None) -> bool:
    several = counts.lanes(spec, sizes, batch, blas.default_threads()) > 1
    return several or counts.multiply_adds(spec, sizes, batch) < POOL
