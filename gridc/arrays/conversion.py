"""What callers give, as arrays: one sentence for everything that is none, or holds what it should not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gridc.errors import DataError, nearest

Array = NDArray[Any]
Part = Literal["inputs", "targets", "lengths", "weights"]


def as_array(what: str, value: Any) -> Array:
    """Make an array of what a caller gave; DataError, which ``what`` begins, where it makes none."""
    masked: Any = np.ma  # its stubs leave the types of what they hold open
    if isinstance(value, masked.MaskedArray) and masked.is_masked(value):
        raise DataError(f"{what}: found masked numbers; expected a number at every place (lengths say where a sequence ends)")
    try:
        array = np.asarray(value)
    except ValueError:
        raise DataError(f"{what}: found sequences of different lengths; expected an array (pad it, and give lengths)") from None
    except (TypeError, RuntimeError) as error:  # a tensor on a GPU, or one that needs a gradient
        raise DataError(f"{what}: found {type(value).__name__}, which makes no array: {str(error).splitlines()[0]}") from None
    if array.dtype == object and not array.ndim:
        raise DataError(f"{what}: found {type(value).__name__}; expected an array of numbers")
    return array


def held(array: Array) -> str:
    """Say what an array holds: ``text``, ``Python objects``, ``complex128``."""
    return {"U": "text", "S": "text", "T": "text", "O": "Python objects"}.get(array.dtype.kind, str(array.dtype))


def shown(number: Any) -> str:
    """One number of an array, for a message: integers whole."""
    return f"{number:g}" if isinstance(number, np.floating) else str(number)


def whole(what: str, array: Array) -> Array:
    """Return the array, in the type that it has; DataError where something in it is no whole number."""
    if array.dtype.kind not in "iubf":
        raise DataError(f"{what}: found an array of {held(array)}; expected integers")
    at = not_whole(array)
    if at is not None:
        raise DataError(f"{what}: found {shown(array[at])} at {list(at)}; expected integers")
    return array


def not_finite(array: Array) -> tuple[int, ...] | None:
    """Where the first NaN or infinity stands; None where every number is finite."""
    if array.dtype.kind != "f":
        return None
    # A sum is finite unless something in it is not (or it overflows, which the second look settles).
    with np.errstate(over="ignore", invalid="ignore"):
        return None if np.isfinite(array.sum()) else _first(~np.isfinite(array))


def not_whole(array: Array) -> tuple[int, ...] | None:
    """Where the first number stands that is no integer; None where there is none."""
    return _first(~np.isfinite(array) | (array != np.floor(array))) if array.dtype.kind == "f" else None


def not_below(array: Array, size: int) -> tuple[int, ...] | None:
    """Where the first number stands that is not from 0 to below ``size``; None where there is none."""
    within = not array.size or (array.min() >= 0 and array.max() < size)
    return None if within else _first((array < 0) | (array >= size))


def _first(odd: NDArray[np.bool_]) -> tuple[int, ...] | None:
    return tuple(int(i) for i in np.unravel_index(int(odd.argmax()), odd.shape)) if odd.any() else None


def real(what: str, array: Array, dtype: str) -> Array:
    """Numbers in a grid's type; DataError for one that is too large for it."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        cast = np.asarray(array, dtype, order="C")
        # A sum is finite unless something in it is not, or it overflows.
        if array.dtype.kind == "f" and array.dtype.itemsize > cast.dtype.itemsize and not np.isfinite(cast.sum()):
            lost = np.isfinite(array) & ~np.isfinite(cast)
            if lost.any():
                raise DataError(f"{what}: found {shown(array[lost][0])}; expected numbers that {dtype} holds, up to "
                                f"{np.finfo(dtype).max:.2g}")  # fmt: skip
    return cast


def length_vector(symbol: str, value: Array, batch: int, size: int) -> NDArray[np.int64]:
    """One length from 1 to ``size`` for each example, ``[batch]``; DataError for anything else."""
    vector = whole(f"lengths of '{symbol}'", value)
    if vector.shape != (batch,):
        raise DataError(f"lengths of '{symbol}': found shape {vector.shape}; expected one for each of {batch} examples")
    if batch and (vector.min() < 1 or vector.max() > size):
        odd = int(np.argmax((vector < 1) | (vector > size)))
        raise DataError(f"lengths of '{symbol}': found {shown(vector[odd])} for example {odd}; expected 1 to {size}")
    return vector.astype(np.int64)


def named(part: Part, given: Any, known: Iterable[str]) -> Mapping[str, Any]:
    """Return the mapping of names to arrays that is one part of a call; DataError where it is none, or names something
    that there is not."""
    known = list(known)
    if not isinstance(given, Mapping):
        some = f"{{'{known[0]}': …}}" if known else "{}"
        raise DataError(f"The {part} are {type(given).__name__}, expected a mapping of names to arrays, such as {some}.")
    parts = cast(Mapping[Any, Any], given)
    for name in parts:
        if name not in known:
            thing = {"lengths": f"symbol '{name}' to give lengths for", "weights": f"output '{name}' to weigh"}.get(
                part, f"{part[:-1]} '{name}'")  # fmt: skip
            raise DataError(f"there is no {thing}; expected {', '.join(known) or 'none'}{nearest(name, known)}")
    return parts


def ragged(value: Any) -> bool:
    """Whether it is a list of sequences that are not equally long."""
    return isinstance(value, list | tuple) and len(set(map(_steps, value))) > 1  # pyright: ignore[reportUnknownArgumentType]


def _steps(item: Any) -> int | None:
    single = isinstance(item, str | bytes) or not isinstance(item, Sized) or not getattr(item, "ndim", 1)
    return None if single else len(item)


def rounded(numbers: Array) -> Array:
    """Round float32 numbers to bfloat16, to the nearest and ties to even; they stay float32."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    near = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.where(np.isnan(numbers), numbers, near.astype(np.uint32).view(np.float32))
