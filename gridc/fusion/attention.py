"""The kernels of a memory network's hop: what rows find among facts, and the adjoint.

``p = softmax(h · A)`` over an example's facts, ``h' = a + Σ p · C``, where ``a`` are pre-activations with their bias or, without
weights, ``h`` itself (Sukhbaatar et al. 2015).  As a cell's kernels they run over the rows ``first..last`` of one transform.
Attention that is ``linear`` has ``p = h · A``.  What is kept for the way back is ``h`` alone: the adjoint makes ``p`` again,
which costs one of its passes over the facts.
"""

# pyright: basic

from __future__ import annotations  # noqa: I001 - the words of a record stay on one line

from typing import Any

import numba
import numpy as np

from gridc.fusion import functions
from gridc.fusion.functions import added
from gridc.fusion.native import (
    COLUMNS, DH, DKEYS, DVALUES, FACTS, HIDDEN, KEYS, OPTIONS, ROWS, SCORES, SETS, SIGNATURE, VALUES, B, G, H, peek, poke,
    word,
)  # fmt: skip


@numba.njit(**OPTIONS)
def _dot(F, one, other, n):  # type: ignore[no-untyped-def]
    total = F(0.0)
    for j in range(n):
        total = added(total, peek(F, one, j, 0) * peek(F, other, j, 1))
    return total


@numba.njit(**OPTIONS)
def _add_times(F, target, factor, source, n):  # type: ignore[no-untyped-def]
    for j in range(n):
        poke(F, target, j, peek(F, target, j, 0) + factor * peek(F, source, j, 1), 0)


def built(dtype: str, linear: bool = False) -> tuple[Any, Any]:
    """Build the kernels for numbers of a type, ``linear`` or with the softmax, or take them from the cache: forward, adjoint."""
    F, size = np.dtype(dtype).type, np.dtype(dtype).itemsize
    shares = _products(F, size) if linear else _softmax(F, size, getattr(functions, f"exp_{dtype}"))
    return _forward(F, size, shares), _adjoint(F, size, shares, linear)


def _products(F, size) -> Any:  # type: ignore[no-untyped-def]
    @numba.njit(**OPTIONS)
    def shares(p, query, keys, facts, n):  # type: ignore[no-untyped-def]
        """Write the products of a query with the keys at ``p``."""
        for f in range(facts):
            poke(F, p, f, _dot(F, query, keys + f * n * size, n), -1)

    return shares


def _softmax(F, size, exp) -> Any:  # type: ignore[no-untyped-def]
    @numba.njit(**OPTIONS)
    def shares(p, query, keys, facts, n):  # type: ignore[no-untyped-def]
        """Write the softmax of the products of a query with the keys at ``p``."""
        most = F(-np.inf)
        for f in range(facts):
            score = _dot(F, query, keys + f * n * size, n)
            poke(F, p, f, score, -1)
            most = score if score > most else most
        total = F(0.0)
        for f in range(facts):
            share = exp(peek(F, p, f, -1) - most)
            poke(F, p, f, share, -1)
            total += share
        for f in range(facts):
            poke(F, p, f, peek(F, p, f, -1) / total, -1)

    return shares


def _forward(F, size, shares) -> Any:  # type: ignore[no-untyped-def]
    @numba.cfunc(SIGNATURE, cache=True, **OPTIONS)
    def forward(t, first, last, weight):  # type: ignore[no-untyped-def]
        n, facts, p, h = word(t, HIDDEN), word(t, FACTS), word(t, SCORES), word(t, H)
        step, entering, sets = facts * n * size, word(word(t, ROWS), 0), word(t, SETS)
        bias = word(t, B) + weight * n * size
        for r in range(first, last):
            own, query, at = h + r * n * size, h + word(entering, r) * n * size, word(sets, r) * step
            shares(p, query, word(t, KEYS) + at, facts, n)
            if word(t, COLUMNS):
                g = word(t, G) + r * n * size
                for j in range(n):
                    poke(F, own, j, peek(F, g, j, 1) + peek(F, bias, j, 2), 0)
            else:
                for j in range(n):
                    poke(F, own, j, peek(F, query, j, 1), 0)
            for f in range(facts):
                _add_times(F, own, peek(F, p, f, -1), word(t, VALUES) + at + f * n * size, n)

    return forward


def _adjoint(F, size, shares, linear) -> Any:  # type: ignore[no-untyped-def]
    @numba.cfunc(SIGNATURE, cache=True, **OPTIONS)
    def adjoint(t, first, last, weight):  # type: ignore[no-untyped-def]
        n, facts, p, h, dh = word(t, HIDDEN), word(t, FACTS), word(t, SCORES), word(t, H), word(t, DH)
        step, entering, sets = facts * n * size, word(word(t, ROWS), 0), word(t, SETS)
        slopes = p + facts * size
        for r in range(first, last):
            own, place, at = dh + r * n * size, word(entering, r) * n * size, word(sets, r) * step
            query, back = h + place, dh + place
            keys, values, dkeys, dvalues = word(t, KEYS) + at, word(t, VALUES) + at, word(t, DKEYS) + at, word(t, DVALUES) + at
            if word(t, COLUMNS):
                g = word(t, G) + r * n * size
                for j in range(n):
                    poke(F, g, j, peek(F, own, j, 0), 1)
            else:
                _add_times(F, back, F(1.0), own, n)
            shares(p, query, keys, facts, n)
            total = F(0.0)
            for f in range(facts):
                slope = _dot(F, own, values + f * n * size, n)
                poke(F, slopes, f, slope, -1)
                total += peek(F, p, f, -1) * slope
            for f in range(facts):
                share, fact = peek(F, p, f, -1), f * n * size
                slope = peek(F, slopes, f, -1) if linear else share * (peek(F, slopes, f, -1) - total)
                _add_times(F, dvalues + fact, share, own, n)
                _add_times(F, dkeys + fact, slope, query, n)
                _add_times(F, back, slope, keys + fact, n)

    return adjoint
