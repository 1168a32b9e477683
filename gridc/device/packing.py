"""Arrays of a call as one: each transfer to a device costs tens of microseconds, however little it carries."""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax import numpy as jnp

Array = Any
Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""The dtype and the shape of every array, in order."""


def _words(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) * dtype.itemsize // 4)


def pack(arrays: Sequence[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], Layout]:
    """Lay arrays side by side as words of 32 bits; they are copied."""
    layout = tuple((array.dtype.str, array.shape) for array in arrays)
    whole = np.empty(sum(_words(array.dtype, array.shape) for array in arrays), np.uint32)
    at = 0
    for array in arrays:
        words = _words(array.dtype, array.shape)
        room = whole[at : at + words].view(np.uint8)[: array.nbytes]
        room.view(array.dtype).reshape(array.shape)[...] = array
        at += words
    return whole, layout


def unpack(whole: Array, layout: Layout) -> list[Array]:
    """Give the arrays of ``pack`` in a function that is traced."""
    found: list[Array] = []
    at = 0
    for name, shape in layout:
        dtype, count = np.dtype(name), math.prod(shape)
        words = whole[at : (at := at + _words(dtype, shape))]
        if dtype.itemsize == 8:
            made = lax.bitcast_convert_type(words.reshape(-1, 2), dtype)
        elif dtype.itemsize == 4:
            made = lax.bitcast_convert_type(words, dtype)
        else:
            made = lax.bitcast_convert_type(words, jnp.dtype(f"uint{8 * dtype.itemsize}")).reshape(-1)[:count]
            made = made.astype(bool) if dtype.kind == "b" else lax.bitcast_convert_type(made, dtype)
        found.append(made.reshape(shape))
    return found

