"""Probabilities of classes, the cross entropy of a target and its gradient, compiled: each row of logits is gone over while it
is in the cache, and threads share the rows.

``-ln p_y`` is ``ln Σ exp(x_k - m) - (x_y - m)``, where ``m`` is the largest of a row's logits; the gradient is ``p - t``, where
``t`` is 1 for the target, or with a share ``s`` of smoothing ``1 - s`` for it and ``s / classes`` more for every class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from gridc import resources
from gridc.fusion import kernels
from gridc.fusion.threads import together

Array = np.ndarray[Any, Any]
LARGE = 1 << 17
"""Numbers for each thread, at least, where several share the rows."""

_TEXT = '''"""The kernels of classes."""

import math

import numba
import numpy as np
from gridc.fusion.functions import added
from gridc.fusion.functions import exp_{dtype} as exp

F = np.{dtype}
KEPT = dict(nogil=True, cache=True, error_model="numpy", fastmath={{"contract", "nsz"}})


@numba.njit(error_model="numpy", fastmath={{"contract", "nsz"}}, forceinline=True)
def highest(x, r):
    most = x[r, 0]
    for k in range(x.shape[1]):
        most = x[r, k] if x[r, k] > most else most
    return most


@numba.njit(error_model="numpy", fastmath={{"contract", "nsz"}}, forceinline=True)
def spread(x, r, most, p):
    total = 0.0
    for k in range(x.shape[1]):
        p[r, k] = exp(x[r, k] - most)
    for k in range(x.shape[1]):
        total = added(total, float(p[r, k]))
    by = F(1.0 / total)
    for k in range(x.shape[1]):
        p[r, k] *= by
    return total


@numba.njit(**KEPT)
def probabilities(x, p, first, end):
    for r in range(first, end):
        spread(x, r, highest(x, r), p)


@numba.njit(**KEPT)
def cross_entropy(x, target, weight, inside, count, smoothing, p, each, slopes, first, end):
    classes = x.shape[1]
    for r in range(first, end):
        most = highest(x, r)
        total = spread(x, r, most, p)
        each[r] = 0.0
        if inside.shape[0] and not inside[r]:
            for k in range(slopes.shape[1]):
                slopes[r, k] = F(0.0)
            continue
        own = float(weight[r]) if weight.shape[0] else 1.0
        high = math.log(total)
        found = high - float(x[r, target[r]] - most)
        if smoothing > 0.0:
            mean = 0.0
            for k in range(classes):
                mean = added(mean, float(x[r, k] - most))
            found = (1.0 - smoothing) * found + smoothing * (high - mean / classes)
        each[r] = own * found
        if slopes.shape[0]:
            scale, less = F(own / count), F(smoothing / classes)
            for k in range(classes):
                slopes[r, k] = scale * (p[r, k] - less)
            slopes[r, target[r]] -= scale * F(1.0 - smoothing)


@numba.njit(**KEPT)
def mean(each, count):
    total = 0.0
    for r in range(each.shape[0]):
        total = added(total, each[r])
    return total / count
'''


def probabilities(logits: Array, made: Array, threads: int | None = None) -> None:
    """Fill ``made`` with the probabilities of rows of logits, ``[rows, classes]``."""
    built = _built(logits.dtype)

    def run(first: int, end: int) -> None:
        built.probabilities(logits, made, first, end)

    _shared(run, logits, threads)


def cross_entropy(
    logits: Array, target: Array, weight: Array, inside: Array, smoothing: float, made: Array, slopes: Array,
    threads: int | None = None,
) -> float:  # fmt: skip
    """Give the mean of the cross entropies of rows of logits ``[rows, classes]``, and fill ``made`` with their probabilities and
    ``slopes`` with the gradient, unless it is empty.

    ``target`` has a class for each row, ``weight`` what it counts and ``inside`` whether it is one of those that the mean is
    over, or nothing where all are alike."""
    built, rows = _built(logits.dtype), len(logits)
    each, count = np.empty(rows), max(int(np.count_nonzero(inside)) if len(inside) else rows, 1)

    def run(first: int, end: int) -> None:
        built.cross_entropy(logits, target, weight, inside, count, smoothing, made, each, slopes, first, end)

    _shared(run, logits, threads)
    return float(built.mean(each, count))


def _shared(run: Callable[[int, int], None], logits: Array, threads: int | None) -> None:
    rows, most = len(logits), logits.size // LARGE
    if most < 2:
        run(0, rows)
        return
    count = min(resources.threads() if threads is None else threads, most, rows)
    together([functools.partial(run, k * rows // count, (k + 1) * rows // count) for k in range(count)])


@functools.cache
def _built(dtype: np.dtype[Any]) -> Any:
    return kernels.module(_TEXT.format(dtype=dtype.name), f"classes_{dtype.name}")
