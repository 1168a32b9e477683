"""The arrays of a call, checked before any work starts: which one, what came, what was expected."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gridc.arrays.conversion import Array, Part, as_array, held, length_vector, named, ragged, real, shown, whole
from gridc.data.fitting import from_arrays
from gridc.errors import DataError, nearest
from gridc.language.spec import GridSpec, Output


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
    _names("inputs", spec.inputs, inputs)
    if any(map(ragged, inputs.values())):
        filled = from_arrays(spec, inputs, lengths=lengths)
        inputs, lengths = filled.inputs, filled.lengths
    arrays: dict[str, Array] = {}
    bound: dict[str, tuple[int, str]] = {}
    for name, x in spec.inputs.items():
        floats = x.kind == "features"
        array = _array(f"input '{name}'", inputs[name], real=floats)
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
        arrays[name] = _real(f"input '{name}'", array, dtype) if floats else _below(f"input '{name}'", array, x.size, "ids")
    batch = bound["batch"][0]
    sizes_of = spec.sizes({symbol: bound[symbol][0] for symbol in spec.symbols})
    matrix = _lengths(spec, {} if lengths is None else lengths, batch, {symbol: bound[symbol][0] for symbol in spec.symbols})
    return Call(arrays, np.array([batch, *sizes_of], np.int64), matrix)


def check_targets(spec: GridSpec, targets: Mapping[str, Any], call: Call, dtype: str) -> dict[str, Array]:
    """The targets of a call; positions past an example's end may hold anything but are still read as numbers."""
    _names("targets", spec.outputs, targets)
    result: dict[str, Array] = {}
    for name, o in spec.outputs.items():
        shape, axes = target_shape(spec, o, call)
        array = _array(f"target '{name}'", targets[name], real=o.kind != "classes")
        if array.shape != shape:
            raise DataError(f"target '{name}': found an array of shape {array.shape}; expected {shape}, [{', '.join(axes)}]")
        if o.kind == "classes":
            array = _below(f"target '{name}'", array, o.size, "classes")
        else:
            array = _real(f"target '{name}'", array, dtype)
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
        array = real(f"weights of '{name}'", _array(f"weights of '{name}'", weights[name], real=True), dtype)
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


def _names(part: Part, known: Mapping[str, Any], given: Any) -> None:
    given = named(part, given, known)
    for name in known:
        if name not in given:
            raise DataError(f"{part[:-1]} '{name}' is missing; found {', '.join(given) or 'none'}")


def _array(what: str, value: Any, *, real: bool) -> Array:
    """The value as an array of numbers, in the type that it has: real ones, or whole ones."""
    array = as_array(what, value)
    if array.dtype == object:
        raise DataError(f"{what}: found an array of Python objects; expected numbers")
    if real and array.dtype.kind not in "iubf":
        raise DataError(f"{what}: found an array of {held(array)}; expected real numbers")
    return array if real else whole(what, array)


def _real(what: str, array: Array, dtype: str) -> Array:
    """Finite numbers in the grid's type."""
    array = real(what, array, dtype)
    # A sum is finite unless something in it is not (or it overflows, which the second look settles).
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):
            return np.ascontiguousarray(array)
    odd = np.argwhere(~np.isfinite(array))
    if len(odd):
        at = tuple(int(i) for i in odd[0])
        raise DataError(f"{what}: found {array[at]} at {list(at)}; expected finite numbers")
    return np.ascontiguousarray(array)


def _below(what: str, array: Array, size: int, things: str) -> Array:
    """Integers from 0 to below ``size``, int64."""
    if array.size and (array.min() < 0 or array.max() >= size):
        at = tuple(int(i) for i in np.argwhere((array < 0) | (array >= size))[0])
        raise DataError(f"{what}: found {shown(array[at])} at {list(at)}; expected {things} from 0 to {size - 1}")
    return np.asarray(array, np.int64, order="C")


def _lengths(spec: GridSpec, lengths: Mapping[str, Any], batch: int, sizes: dict[str, int]) -> npt.NDArray[np.int64]:
    lengths = named("lengths", lengths, spec.symbols)
    matrix = np.empty((batch, len(spec.symbols)), np.int64)
    for column, symbol in enumerate(spec.symbols):
        matrix[:, column] = sizes[symbol]
        if symbol in lengths:
            vector = as_array(f"lengths of '{symbol}'", lengths[symbol])
            matrix[:, column] = length_vector(symbol, vector, batch, sizes[symbol])
    return matrix
