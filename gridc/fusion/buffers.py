"""Memory that is used again from call to call: the pages of a new array can cost as much as the sweep that fills it."""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np

from gridc.scheduling.program import Array

KEPT = 2
"""Idle vectors that are kept: a training step uses two."""
UNHELD = 2
"""What ``sys.getrefcount`` says of an array that only the asking function holds."""
_idle: list[Array] = []
_lock = Lock()


@contextmanager
def lent(size: int, dtype: str) -> Generator[Array]:
    """A vector to work with for a while, an earlier one where one fits."""
    with _lock:
        fits = [k for k, kept in enumerate(_idle) if kept.dtype == dtype and size <= kept.size <= 2 * size]
        scratch = _idle.pop(fits[-1]) if fits else np.empty(size, dtype)
    try:
        yield scratch[:size]
    finally:
        with _lock:
            _idle[:] = [*_idle[1 - KEPT :], scratch]


def again(made: dict[Any, Array], purpose: Hashable, shape: tuple[int, ...], dtype: str) -> Array:
    """An array to give away: in the place of the last one ``made`` for this purpose, where nobody holds that any more."""
    size = math.prod(shape)
    kept = made.pop(purpose, None)  # from now on no other thread finds it
    if kept is None or kept.dtype != dtype or not size <= kept.size <= 2 * size or sys.getrefcount(kept) > UNHELD:
        kept = np.empty(size, dtype)
    made[purpose] = kept
    return kept[:size].reshape(shape)
