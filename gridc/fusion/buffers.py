"""Memory that is used again from call to call: the pages of a new array can cost as much as the sweep that fills it.

What somebody still holds, be it a thread that nobody waits for any more, is never given to anybody else: the interpreter is
asked who holds it at the moment when it would be used again.

With ``GRIDC_POISON=1`` in the environment every buffer holds NaN when it is handed out and again when it comes back, and lies
between guards that must come back untouched: so whatever reads too early or too late, or writes outside, is seen.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from typing import Any

import numpy as np

from gridc.locks import Lock

Array = np.ndarray[Any, Any]

POISONED = os.environ.get("GRIDC_POISON", "0") not in ("", "0")
GUARD = 256 if POISONED else 0
"""Numbers before and behind a buffer."""
POISON = {4: 0x7FC0DEAD, 8: 0x7FF8DEADDEADDEAD}
"""By the bytes of a number: a NaN that no arithmetic makes."""
KEPT = 3
"""Idle vectors that are kept: a training step uses three."""
_idle = [np.empty(0)]
UNHELD = sys.getrefcount(_idle[0])
"""What the interpreter counts for an array that nobody holds but the container that it is looked up in."""
_lock = Lock()


def fresh(shape: int | tuple[int, ...], dtype: Any) -> Array:
    """Make a new array that nobody has written to."""
    array = np.empty(shape, dtype)
    _poison(array)
    return array


@contextmanager
def lent(size: int, dtype: Any) -> Generator[Array]:
    """Lend a vector to work with for a while, an earlier one where one fits that nobody holds."""
    with _lock:
        fits = [k for k, kept in enumerate(_idle) if _fits(kept, size) and kept.dtype == dtype]
        free = [k for k in fits if sys.getrefcount(_idle[k]) <= UNHELD]
        whole = _idle.pop(free[-1]) if free else fresh(size + 2 * GUARD, dtype)
    try:
        yield whole[GUARD : GUARD + size]
    finally:
        _check_guards(whole, size)
        _poison(whole)
        with _lock:
            _idle[:] = [*_idle[1 - KEPT :], whole]


def again(made: dict[Any, tuple[Array, int]], purpose: Hashable, shape: tuple[int, ...], dtype: str) -> Array:
    """Make an array to give away: in the place of the last one ``made`` for this purpose, where nobody holds that any more."""
    size = math.prod(shape)
    kept = made.pop(purpose, None)  # from now on no other thread finds it
    if kept is not None and kept[0].dtype == dtype and _fits(kept[0], size) and sys.getrefcount(kept[0]) <= UNHELD:
        whole = kept[0]
        _check_guards(*kept)
        _poison(whole)
    else:
        whole = fresh(size + 2 * GUARD, dtype)
    made[purpose] = whole, size
    return whole[GUARD : GUARD + size].reshape(shape)


def _fits(whole: Array, size: int) -> bool:
    return size <= whole.size - 2 * GUARD <= 2 * size


def _poison(array: Array) -> None:
    if POISONED:
        array.view(f"u{array.itemsize}")[...] = POISON[array.itemsize]


def _check_guards(whole: Array, size: int) -> None:
    """Raise where something wrote outside of the numbers that were handed out."""
    if POISONED:
        numbers = whole.view(f"u{whole.itemsize}")
        odd = np.flatnonzero(numbers != POISON[whole.itemsize])
        outside = odd[(odd < GUARD) | (odd >= GUARD + size)] - GUARD
        if len(outside):
            raise AssertionError(f"number {outside[0]} of a buffer of {size} was written")
