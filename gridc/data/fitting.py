"""Arrays under a spec's names and in its shapes: data sets, and the arrays of a call, which one checker looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from gridc.arrays.axes import BATCH, Axes, Bound, Misfit, misshapen, odd_number
from gridc.arrays.conversion import Array, Part, as_array, held, length_vector, named, ragged, real, shown
from gridc.arrays.dataset import Dataset, padded
from gridc.data.weights import for_positions, for_target
from gridc.errors import DataError, UsageError, listed, nearest
from gridc.language.shapes import input_axes, output_axes, unreached
from gridc.language.spec import GridSpec

T = TypeVar("T")


def from_arrays(
    spec: GridSpec, inputs: Mapping[str, Any], targets: Mapping[str, Any] | None = None,
    lengths: Mapping[str, Any] | None = None, weights: Mapping[str, Any] | None = None,
) -> Dataset:  # fmt: skip
    """Make a data set of what a call was given: arrays, or lists, also of sequences of different lengths, which are padded.

    DataError where something is no mapping of the spec's names, or where lists differ in a way that it has no symbol for.
    """
    inputs = named("inputs", inputs, spec.inputs)
    targets = named("targets", {} if targets is None else targets, spec.outputs)
    lengths = named("lengths", {} if lengths is None else lengths, spec.symbols)
    weights = named("weights", {} if weights is None else weights, spec.outputs)
    uneven = [name for name, value in inputs.items() if ragged(value)]
    if not uneven:
        return Dataset(inputs, targets, lengths, weights=weights)
    axis = input_axes(spec)[uneven[0]].axes[0]
    if not isinstance(axis, str):
        raise DataError(f"The sequences of input '{uneven[0]}' have different lengths, expected {axis} steps in each.")
    filled = padded(inputs, targets, axis, weights)
    return replace(filled, lengths={**filled.lengths, **lengths})


def as_dataset(examples: Any, spec: GridSpec) -> Dataset:
    """Take a data set as it is, or make one of a tuple of inputs, targets and maybe lengths and weights; UsageError for anything
    else."""
    if isinstance(examples, Dataset):
        return examples
    if isinstance(examples, tuple) and len(examples) in (2, 3, 4):  # pyright: ignore[reportUnknownArgumentType]
        return from_arrays(spec, *examples)  # pyright: ignore[reportUnknownArgumentType]
    kind = type(examples).__name__  # pyright: ignore[reportUnknownArgumentType]
    raise UsageError(f"Examples are {kind}, expected a Dataset or a tuple of inputs, targets, lengths and weights.")


def for_spec(data: Dataset, spec: GridSpec) -> Dataset:
    """Put a data set under the spec's names and in its shapes; DataError where it does not fit.

    Names may differ where there is one input (or output) only, or one symbol.  A missing last axis of size 1 is added;
    an image is flattened where the spec takes one vector.  Ids are integers then; where lengths say how long each example is,
    they lie within every array.
    """
    inputs = _renamed(data.inputs, list(spec.inputs), "input", spec.name)
    targets = _renamed(data.targets, list(spec.outputs), "output", spec.name) if data.targets else {}
    lengths = _renamed(data.lengths, list(spec.symbols), "symbol", spec.name, partly=True)
    given, wanted = input_axes(spec), output_axes(spec)
    # A single input or output may bear another name in the data: its vocabulary follows it.
    words = dict(data.vocabularies)
    for old, new in ((data.inputs, inputs), (data.targets, targets)):
        if len(new) == 1 and (name := next(iter(old))) in data.vocabularies:
            words[next(iter(new))] = data.vocabularies[name]
    bound: Bound = {}
    # What lies on the disk is read through once; what was fitted to these axes before has been.
    seen = data.input_axes == given and data.target_axes == wanted
    inputs = {name: _shaped(f"input '{name}'", array, given[name], bound, lengths, seen) for name, array in inputs.items()}
    targets = {name: _shaped(f"the target of '{name}'", array, wanted[name], bound, lengths, seen)
               for name, array in targets.items()}  # fmt: skip
    lengths = {symbol: length_vector(symbol, vector, bound[BATCH][0], bound[symbol][0]) if symbol in bound else vector
               for symbol, vector in lengths.items()}  # fmt: skip
    longest = {symbol: int(lengths[symbol].max()) if symbol in lengths else size for symbol, (size, _) in bound.items() if symbol}
    if beyond := unreached(spec, longest):
        raise DataError(f"No example is long enough: {beyond}.")
    weights = {name: for_target(spec, name, array, targets) for name, array in data.weights.items()}
    return replace(data, vocabularies=words, lengths=lengths, input_axes=given, target_axes=wanted, inputs=inputs,
                   targets=targets, weights=weights)  # fmt: skip


def _renamed(
    arrays: Mapping[str, Array], names: list[str], what: str, spec: str, *, partly: bool = False
) -> dict[str, Array]:
    if len(arrays) == len(names) == 1:
        return dict(zip(names, arrays.values(), strict=True))
    for name in arrays:
        if name not in names:
            has = f"its {what}s are {listed(names, 'and')}" if names else f"it has no {what}"
            raise DataError(f"The data gives '{name}', which is no {what} of '{spec}': {has}{nearest(name, names)}")
    missing = [] if partly else [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"The data does not give the {what} {listed(missing, 'and')} of '{spec}'; "
                        f"it gives {listed(arrays, 'and') or 'nothing'}.")  # fmt: skip
    return {name: arrays[name] for name in names if name in arrays}


def _shaped(what: str, array: Array, axes: Axes, bound: Bound, lengths: Mapping[str, Array], seen: bool) -> Array:
    """One array of a data set with the expected number of axes, its ids whole."""
    if array.ndim == len(axes.axes) and axes.real and axes.axes[-1] == 1:
        array = array[..., None]
    elif array.ndim > 2 and axes.real and axes.axes == (int(np.prod(array.shape[1:])),):
        array = array.reshape(len(array), -1)
    misfit = misshapen(what, array, axes, bound, lengths)
    misfit = misfit or (None if seen and isinstance(array, np.memmap) else odd_number(array, axes))
    if misfit is not None:
        hint = _ignorable(array, axes, misfit) if what.startswith("the target") else ""
        raise DataError(f"The array of {what} {_of_examples(array, axes, misfit, bound)}{hint}")
    # What lies on the disk stays there; a batch of it is made ids when it is drawn.
    return array if isinstance(array, np.memmap) or axes.below is None or array.dtype.kind in "iu" else array.astype(np.int64)


def _of_examples(array: Array, axes: Axes, misfit: Misfit, bound: Bound) -> str:
    """Say what is wrong with an array of a data set, by its examples."""
    fault, at = misfit
    wanted = "numbers" if axes.below is None else f"ids from 0 to {axes.below - 1}"
    shape = f"has the shape {list(array.shape)}"
    if fault in ("rank", "size"):
        return f"{shape}, expected {axes}."
    if fault == "symbol":
        symbol = str(axes.axes[at[0] - 1])
        return f"{shape}, which makes '{symbol}' {array.shape[at[0]]}, expected the {bound[symbol][0]} of {bound[symbol][1]}."
    if fault == "empty":
        return f"{shape} and holds nothing, expected at least one example and one step."
    if fault == "type":
        return f"holds {held(array)}, expected {wanted}."
    if fault == "infinite":
        return f"holds NaN or infinity, first in example {at[0]}; expected {wanted}."
    return f"holds {shown(array[at])} in example {at[0]}, expected {wanted}{_counted(array, axes)}."


def _counted(array: Array, axes: Axes) -> str:
    """Say how ids that are all there, but counted otherwise, are to be counted."""
    if axes.below is None or not np.isfinite(low := array.min()) or (array != np.floor(array)).any():
        return ""
    if low == 1 and array.max() == axes.below:
        return ": they count from 1 here, so subtract 1"
    return ": write 0 for -1" if axes.below == 2 and low == -1 and not (np.abs(array) != 1).any() else ""


def _ignorable(array: Array, axes: Axes, misfit: Misfit) -> str:
    """Say how a target that stands for none is told to a spec, where one may be meant."""
    if axes.ignore is not None or misfit.fault not in ("infinite", "fraction", "range"):
        return ""
    found = array[misfit.at]
    if axes.real:
        return "; where it stands for no target, 'ignore: nan' of the output leaves its position out" if np.isnan(found) else ""
    return f"; where it stands for no target, 'ignore: {shown(found)}' of the output leaves its position out" * bool(found < 0)


# -- a call --------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """The checked arrays of a call: ``inputs`` in the types that compiled functions take (ids int64, numbers the grid's dtype);
    ``extent`` is the batch and then every dimension's size, ``lengths`` ``[batch, symbols]``, both int64."""

    inputs: dict[str, Array]
    extent: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @property
    def batch(self) -> int:
        """How many examples."""
        return int(self.extent[0])

    def sizes(self, spec: GridSpec) -> dict[str, int]:
        """Look up the size of every symbol, and of ``BATCH``."""
        pairs = zip(spec.dimensions, self.extent[1:].tolist(), strict=True)
        return {BATCH: self.batch, **{d.size: size for d, size in pairs if isinstance(d.size, str)}}

    def part(self, first: int, most: int) -> Call:
        """Give the call of the examples from ``first`` on, and no more than so many."""
        some = slice(first, first + most)
        extent, lengths = self.extent.copy(), self.lengths[some]
        extent[0] = len(lengths)
        return Call({name: array[some] for name, array in self.inputs.items()}, extent, lengths)


def check(spec: GridSpec, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None, dtype: str) -> Call:
    """Check the inputs of a call before any work starts; DataError says which array does not fit, what came and what should.

    Lists of sequences that are not equally long are padded, and their lengths kept.  ``lengths`` maps a symbol to one length
    for each example; without them every example is as long as its arrays."""
    key = None if lengths else _alike(spec, inputs, dtype)
    if key in _fitted:
        axes, extent, full = _fitted[key]
        arrays = {name: inputs[name] for name in axes}
        if not any(map(odd_number, arrays.values(), axes.values())):
            return Call(arrays, extent, full)
    _complete("inputs", spec.inputs, inputs)
    if any(map(ragged, inputs.values())):
        filled = from_arrays(spec, inputs, lengths=lengths)
        inputs, lengths = filled.inputs, filled.lengths
    arrays, bound = dict[str, Array](), Bound()
    for name, axes in input_axes(spec).items():
        what = f"input '{name}'"
        array = as_array(what, inputs[name])
        misfit = misshapen(what, array, axes, bound) or odd_number(array, axes)
        if misfit is not None:
            raise DataError(f"{what}: {_of_call(array, axes, misfit, bound)}")
        arrays[name] = _converted(what, array, dtype if axes.real else "int64")
    sizes = {symbol: size for symbol, (size, _) in bound.items()}
    extent = np.array([sizes[BATCH], *spec.sizes(sizes)], np.int64)
    # Where examples say how long each is, those that are too short have nothing there, and a batch may hold no other.
    if beyond := unreached(spec, {symbol: size for symbol, size in sizes.items() if symbol not in (lengths or {})}):
        raise DataError(f"these inputs are too short: {beyond}")
    call = Call(arrays, extent, _lengths(spec, {} if lengths is None else lengths, sizes))
    if key is not None and all(array is inputs[name] for name, array in arrays.items()):
        _remember(_fitted, key, (input_axes(spec), call.extent, call.lengths))
    return call


REMEMBERED = 256
_fitted: dict[Any, tuple[dict[str, Axes], npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
"""What calls that fitted have found of their shapes, which holds for all arrays alike; only their numbers are to be looked at."""
_told: dict[Any, dict[str, Axes]] = {}
"""The same of targets."""
_counting: dict[Any, dict[str, tuple[int, ...]]] = {}
"""The shapes of the positions of outputs."""


def _remember(found: dict[Any, T], key: Any, value: T) -> None:
    if len(found) >= REMEMBERED:
        found.clear()
    found[key] = value


def _alike(spec: GridSpec, inputs: Any, dtype: str) -> Any:
    """Give what such calls have in common; None where something is no plain array in C order."""
    if not isinstance(inputs, Mapping):
        return None
    arrays = cast("Mapping[Any, Any]", inputs)
    if any(type(array) is not np.ndarray or not array.flags.c_contiguous for array in arrays.values()):
        return None
    return spec.digest, dtype, tuple([(name, array.shape, array.dtype) for name, array in arrays.items()])


def check_targets(spec: GridSpec, targets: Mapping[str, Any], call: Call, dtype: str) -> dict[str, Array]:
    """Check the targets of a call, ``[batch, *axes]`` or ``[batch, *axes, size]``; DataError for what does not fit.

    Classes come back as int64, all else in the grid's ``dtype``.  Positions past an example's end may hold anything but are
    still read as numbers."""
    alike = _alike(spec, targets, dtype)
    key = alike and (alike, call.extent.tobytes())
    if key in _told:
        known = {name: targets[name] for name in _told[key]}
        if not any(map(odd_number, known.values(), _told[key].values())):
            return known
    _complete("targets", spec.outputs, targets)
    sizes, result = call.sizes(spec), dict[str, Array]()
    for name, axes in output_axes(spec).items():
        what, kind = f"target '{name}'", spec.outputs[name].kind
        array = as_array(what, targets[name])
        misfit = misshapen(what, array, axes, {symbol: (size, "the inputs") for symbol, size in sizes.items()})
        if misfit is not None and misfit.fault != "type":
            raise DataError(f"{what}: found an array of shape {array.shape}; expected {axes.shape(sizes)}, "
                            f"[{', '.join(axes.words)}]")  # fmt: skip
        misfit = misfit or odd_number(array, axes)
        hint = "" if misfit is None else _ignorable(array, axes, misfit)
        if misfit is not None and kind == "binary" and misfit.fault != "type":
            raise DataError(f"{what}: found {shown(array[misfit.at])}; expected 0 or 1{hint}")
        if misfit is not None:
            raise DataError(f"{what}: {_of_call(array, axes, misfit, {}, 'classes')}{hint}")
        result[name] = _converted(what, array, "int64" if kind == "classes" else dtype)
    if key is not None and all(array is targets[name] for name, array in result.items()):
        _remember(_told, key, output_axes(spec))
    return result


def check_weights(spec: GridSpec, weights: Mapping[str, Any], call: Call, dtype: str) -> list[Array]:
    """Check what each position of each output counts in the loss; 1 where nothing is said.

    Each array comes back as ``[batch, *axes]`` in the grid's ``dtype``.  DataError for a name that is no output, and for what is
    neither a number, nor one for each example, nor of that shape."""
    weights = named("weights", weights, spec.outputs)
    key = spec.digest, call.extent.tobytes()
    if key not in _counting:
        sizes, axes = call.sizes(spec), output_axes(spec)
        _remember(_counting, key, {name: axes[name].shape(sizes)[: 1 + len(o.axes)] for name, o in spec.outputs.items()})
    return [for_positions(name, weights.get(name), shape, dtype) for name, shape in _counting[key].items()]


def _complete(part: Part, known: Mapping[str, Any], arrays: Any) -> None:
    """DataError where one part of a call does not give every array, or gives one that there is not."""
    arrays = named(part, arrays, known)
    for name in known:
        if name not in arrays:
            raise DataError(f"{part[:-1]} '{name}' is missing; found {', '.join(arrays) or 'none'}")


def _converted(what: str, array: Array, dtype: str) -> Array:
    """Convert an array to that type and to C order; DataError for a real number that is too large for it."""
    return np.asarray(array, dtype, order="C") if dtype == "int64" else np.ascontiguousarray(real(what, array, dtype))


def _of_call(array: Array, axes: Axes, misfit: Misfit, bound: Bound, things: str = "ids") -> str:
    """Say what is wrong with an array of a call, by its axes and places."""
    fault, at = misfit
    of_shape = f"of shape {array.shape}"
    if fault == "type":
        expected = "numbers" if array.dtype == object else "integers" if axes.below is not None else "real numbers"
        return f"found an array of {held(array)}; expected {expected}"
    if fault == "rank":
        return f"found an array {of_shape}; expected [{', '.join(axes.words)}]"
    if fault in ("size", "symbol", "empty"):
        (axis,) = at
        size, word, wanted = array.shape[axis], axes.words[axis], (BATCH, *axes.axes)[axis]
        if fault == "empty":
            return f"found no {word if axis else 'examples'}, shape {array.shape}; expected at least one"
        if isinstance(wanted, str):
            before, whose = bound[wanted]
            return f"found {size} on axis {axis} ({word}) {of_shape}; expected {before}, the {wanted or 'batch'} of {whose}"
        last = axes.real and axis == array.ndim - 1
        return f"found {size} {'features' if last else 'cells'} on axis {axis} {of_shape}; expected {wanted}"
    expected = {"infinite": "finite numbers", "fraction": "integers"}.get(fault, f"{things} from 0 to {(axes.below or 0) - 1}")
    return f"found {shown(array[at])} at {list(at)}; expected {expected}"


def _lengths(spec: GridSpec, lengths: Mapping[str, Any], sizes: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Every example's length along every symbol, ``[batch, symbols]``."""
    lengths = named("lengths", lengths, spec.symbols)
    matrix = np.empty((sizes[BATCH], len(spec.symbols)), np.int64)
    for column, symbol in enumerate(spec.symbols):
        matrix[:, column] = sizes[symbol]
        if symbol in lengths:
            vector = as_array(f"lengths of '{symbol}'", lengths[symbol])
            matrix[:, column] = length_vector(symbol, vector, sizes[BATCH], sizes[symbol])
    return matrix
