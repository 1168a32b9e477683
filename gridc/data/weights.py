"""What examples and positions count in a loss: one number for all, one for each example, or one for each position."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from gridc.arrays.conversion import Array, as_array, held, real
from gridc.errors import DataError, listed, nearest
from gridc.language.spec import GridSpec


def for_target(spec: GridSpec, name: str, array: Array, targets: Mapping[str, Array]) -> Array:
    """Check what each example or position of an output counts; DataError where it does not fit the target."""
    if name not in targets:
        raise DataError(f"The weights of '{name}' weigh no target; expected {listed(targets) or 'none'}{nearest(name, targets)}")
    return _fitting(name, array, targets[name].shape[: 1 + len(spec.outputs[name].axes)])


def for_positions(name: str, given: Any, shape: tuple[int, ...], dtype: str) -> Array:
    """Give what each position of this shape, ``[batch, *axes]``, counts in that dtype: 1 where nothing is ``given``; DataError
    for what does not fit."""
    if given is None:
        return _ones(shape, dtype)
    what = f"weights of '{name}'"
    array = _fitting(name, as_array(what, given), shape)
    return np.ascontiguousarray(spread(real(what, array, dtype), shape))


def spread(weights: Array, shape: tuple[int, ...]) -> Array:
    """Spread weights, one for all, one for each example or one for each position, over the positions ``[batch, *axes]``."""
    return np.broadcast_to(weights.reshape(*weights.shape, *[1] * (len(shape) - weights.ndim)), shape)


def _fitting(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    what = f"weights of '{name}'"
    if array.dtype.kind not in "iubf":
        expected = "numbers" if array.dtype == object else "real numbers"
        raise DataError(f"{what}: found an array of {held(array)}; expected {expected}")
    if array.ndim and array.shape not in (shape[:1], shape):
        expected = " or ".join(map(str, dict.fromkeys((shape[:1], shape))))
        raise DataError(f"{what}: found shape {array.shape}; expected a number, or shape {expected}")
    if not np.isfinite(array).all():
        raise DataError(f"{what}: found NaN or infinity; expected finite numbers")
    return array


@functools.lru_cache(maxsize=8)
def _ones(shape: tuple[int, ...], dtype: str) -> Array:
    ones = np.ones(shape, dtype)
    ones.flags.writeable = False
    return ones
