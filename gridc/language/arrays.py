"""The arrays of a call, checked before any work starts: which one, what came, what was expected."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gridc.data.datasets import from_arrays, ragged
from gridc.errors import DataError, nearest
from gridc.language.spec import GridSpec, Output

Array = npt.NDArray[Any]


class Call(NamedTuple):
    """Checked arrays: ``extent`` is the batch and then every dimension's size, ``lengths`` ``[batch, symbols]``."""

    inputs: dict[str, Array]
    extent: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @property
    def batch(self) -> int:
        return int(self.extent[0])


def check(spec: GridSpec, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None, dtype: str) -> Call:
    """The inputs of a call as the compiled functions take them; raises DataError for anything that does not fit.

    Lists of sequences that are not equally long are padded, and their lengths kept."""
    _names("input", spec.inputs, inputs)
    if any(map(ragged, inputs.values())):
        whole = from_arrays(spec, inputs, lengths=lengths)
        inputs, lengths = whole.inputs, whole.lengths
    arrays: dict[str, Array] = {}
    bound: dict[str, tuple[int, str]] = {}
    for name, x in spec.inputs.items():
        floats = x.kind == "features"
        array = _array(f"input '{name}'", inputs[name], dtype if floats else "int64")
        axes = ["batch", *("facts",) * x.facts, *spec.names(x.over), *((str(x.size),) if floats else ("words",) * x.facts)]
        if array.ndim != len(axes):
            raise DataError(f"input '{name}': found an array of shape {array.shape}; expected [{', '.join(axes)}]")
        sizes: list[int | str] = ["batch", *("",) * x.facts, *(spec.dimensions[d].size for d in x.over)]
        sizes += [x.size] if floats else [""] * x.facts
        for axis, size in enumerate(sizes):
            found = array.shape[axis]
            word = axes[axis]
            if isinstance(size, int):
                if found != size:
                    things = "features" if axis == len(sizes) - 1 and floats else "cells"
                    raise DataError(f"input '{name}': found {found} {things} "
                                    f"on axis {axis} of shape {array.shape}; expected {size}")  # fmt: skip
            elif size:
                before, by = bound.setdefault(size, (found, name))
                if before != found:
                    raise DataError(f"input '{name}': found {found} on axis {axis} ({word}) of shape {array.shape}; "
                                    f"expected {before}, the {size} of input '{by}'")  # fmt: skip
            if found == 0:
                things = "examples" if axis == 0 else word
                raise DataError(f"input '{name}': found no {things}, shape {array.shape}; expected at least one")
        if floats:
            _finite(f"input '{name}'", array)
        else:
            _below(f"input '{name}'", array, x.size, "ids")
        arrays[name] = array
    batch = bound["batch"][0]
    sizes_of = spec.sizes({symbol: bound[symbol][0] for symbol in spec.symbols})
    matrix = _lengths(spec, lengths or {}, batch, {symbol: bound[symbol][0] for symbol in spec.symbols})
    return Call(arrays, np.array([batch, *sizes_of], np.int64), matrix)


def check_targets(spec: GridSpec, targets: Mapping[str, Any], call: Call, dtype: str) -> dict[str, Array]:
    """The targets of a call; positions past an example's end may hold anything but are still read as numbers."""
    _names("target", spec.outputs, targets)
    result: dict[str, Array] = {}
    for name, o in spec.outputs.items():
        shape, axes = target_shape(spec, o, call)
        array = _array(f"target '{name}'", targets[name], "int64" if o.kind == "classes" else dtype)
        if array.shape != shape:
            raise DataError(f"target '{name}': found an array of shape {array.shape}; expected {shape}, [{', '.join(axes)}]")
        if o.kind == "classes":
            _below(f"target '{name}'", array, o.size, "classes")
        else:
            _finite(f"target '{name}'", array)
            if o.kind == "binary" and not ((array == 0) | (array == 1)).all():
                odd = array[(array != 0) & (array != 1)].flat[0]
                raise DataError(f"target '{name}': found {odd:g}; expected 0 or 1")
        result[name] = array
    return result


def check_weights(spec: GridSpec, weights: Mapping[str, Any], call: Call, dtype: str) -> list[Array]:
    """What each position of each output counts in the loss, ``[batch, *axes]``; 1 where nothing is said."""
    result: list[Array] = []
    for name in weights:
        if name not in spec.outputs:
            known = ", ".join(spec.outputs)
            raise DataError(f"there is no output '{name}' to weigh; expected {known}{nearest(name, spec.outputs)}")
    for name, o in spec.outputs.items():
        shape = target_shape(spec, o, call)[0][: 1 + len(o.axes)]
        if name not in weights:
            result.append(_ones(shape, dtype))
            continue
        array = _array(f"weights of '{name}'", weights[name], dtype)
        if array.ndim and array.shape != shape:
            raise DataError(f"weights of '{name}': found shape {array.shape}; expected a number, or shape {shape}")
        result.append(np.ascontiguousarray(np.broadcast_to(array, shape)))
    return result


@functools.lru_cache(maxsize=8)
def _ones(shape: tuple[int, ...], dtype: str) -> Array:
    ones = np.ones(shape, dtype)
    ones.flags.writeable = False
    return ones


def target_shape(spec: GridSpec, o: Output, call: Call) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The shape of a target, and its axes in words."""
    shape = (call.batch, *(int(call.extent[1 + d]) for d in o.axes))
    axes = ("batch", *spec.names(o.axes))
    return ((*shape, o.size), (*axes, str(o.size))) if o.kind in ("features", "raw") else (shape, axes)


def _names(kind: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise DataError(f"found {type(given).__name__} for the {kind}s; expected a mapping of name to array")
    for name in given:
        if name not in known:
            raise DataError(f"there is no {kind} '{name}'; expected {', '.join(known) or 'none'}{nearest(name, known)}")
    for name in known:
        if name not in given:
            raise DataError(f"{kind} '{name}' is missing; found {', '.join(given) or 'none'}")


def _array(what: str, value: Any, dtype: str) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        raise DataError(f"{what}: found sequences of different lengths; expected an array (pad it, and give lengths)") from None
    if array.dtype == object:
        raise DataError(f"{what}: found an array of Python objects; expected numbers")
    if dtype == "int64":
        if array.dtype.kind == "f" and (not np.isfinite(array).all() or (array != np.floor(array)).any()):
            raise DataError(f"{what}: found {array.dtype} numbers that are not whole; expected integers")
        if array.dtype.kind not in "iubf":
            raise DataError(f"{what}: found an array of {array.dtype}; expected integers")
    elif array.dtype.kind not in "iubf":
        raise DataError(f"{what}: found an array of {array.dtype}; expected real numbers")
    return np.asarray(array, dtype, order="C")


def _finite(what: str, array: Array) -> None:
    # A sum is finite unless something in it is not (or it overflows, which the second look settles).
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):
            return
    odd = np.argwhere(~np.isfinite(array))
    if len(odd):
        at = tuple(int(i) for i in odd[0])
        raise DataError(f"{what}: found {array[at]} at {list(at)}; expected finite numbers")


def _below(what: str, array: Array, size: int, things: str) -> None:
    if array.size and (array.min() < 0 or array.max() >= size):
        at = tuple(int(i) for i in np.argwhere((array < 0) | (array >= size))[0])
        raise DataError(f"{what}: found {array[at]} at {list(at)}; expected {things} from 0 to {size - 1}")


def _lengths(spec: GridSpec, lengths: Mapping[str, Any], batch: int, sizes: dict[str, int]) -> npt.NDArray[np.int64]:
    for name in lengths:
        if name not in spec.symbols:
            raise DataError(f"there is no symbol '{name}' to give lengths for; expected "
                            f"{', '.join(spec.symbols) or 'none'}{nearest(name, spec.symbols)}")  # fmt: skip
    matrix = np.empty((batch, len(spec.symbols)), np.int64)
    for column, symbol in enumerate(spec.symbols):
        matrix[:, column] = sizes[symbol]
        if symbol in lengths:
            vector = _array(f"lengths of '{symbol}'", lengths[symbol], "int64")
            if vector.shape != (batch,):
                raise DataError(f"lengths of '{symbol}': found shape {vector.shape}; expected one for each of {batch} examples")
            if vector.min() < 1 or vector.max() > sizes[symbol]:
                odd = int(np.argmax((vector < 1) | (vector > sizes[symbol])))
                raise DataError(f"lengths of '{symbol}': found {vector[odd]} for example {odd}; expected 1 to {sizes[symbol]}")
            matrix[:, column] = vector
    return matrix
