"""The parameters of a grid: a flat mapping of name to array, the same in every backend and in a saved file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gridc.errors import DataError, TooLarge, nearest
from gridc.language.shapes import Shape, effective_blocks, parameter_shapes, weights
from gridc.language.spec import GridSpec, Transform
from gridc.resources import available_memory

Array = npt.NDArray[np.floating]


def initial(
    spec: GridSpec, seed: int, dtype: str, own: Mapping[str, tuple[slice, ...]] | None = None
) -> dict[str, Array]:  # fmt: skip
    """Fresh parameters: weights by ``init``, a gate at a time; biases 0 but for forget gates and what a cell asks for.

    Of those that ``own`` indexes only that part is kept, as soon as the whole is drawn.

    Raises TooLarge, before anything is drawn, where they need more memory than is left."""
    own = own or {}
    _check_room(spec, dtype, own)
    generator = np.random.default_rng(seed)
    owners = {**spec.transforms, **spec.inputs, **spec.outputs}
    result: dict[str, Array] = {}
    for name, shape in parameter_shapes(spec).items():
        owner, _, rest = name.partition(".")
        thing = owners[owner]
        drawn = weights(spec, thing) if isinstance(thing, Transform) else {}
        if isinstance(thing, Transform) and rest == "b" and thing.gates:
            value = np.zeros(shape) + _initial_bias(thing)
        elif drawn[rest].drawn if rest in drawn else rest.endswith(("W", "embed")):
            gates = len(thing.gates) if isinstance(thing, Transform) and rest == "W" and thing.gates else 1
            # Signs count the inputs that differ from them: in a unit's hidden and memory number the same count.
            shared = result.get(f"{owner}.hidden.W") if rest == "memory.W" and thing.init[0] == "signs" else None
            value = _drawn(generator, shape, gates, thing.init, dtype) if shared is None else shared.copy()
            if isinstance(thing, Transform) and rest == "W":
                _mask(spec, thing, value)
        else:
            value = np.full(shape, drawn[rest].start if rest in drawn else 0.0)
        result[name] = np.array(value[own[name]], dtype) if name in own else np.ascontiguousarray(value, dtype)
    return result


def _mask(spec: GridSpec, t: Transform, value: Array) -> None:
    """Write zeros where a transform's weights must be zero."""
    mask = effective_blocks(spec, t)
    if mask is not None:
        np.multiply(value, mask, out=value, casting="same_kind")


def _check_room(spec: GridSpec, dtype: str, own: Mapping[str, tuple[slice, ...]]) -> None:
    """TooLarge where drawing the parameters takes more memory than is left."""
    counts = {name: math.prod(shape) for name, shape in parameter_shapes(spec).items()}
    parts = {name: np.empty((0, *shape))[(slice(None), *own.get(name, ()))] for name, shape in parameter_shapes(spec).items()}
    held = sum(math.prod(part.shape[1:]) for part in parts.values())
    size = np.dtype(dtype).itemsize
    owners = {**spec.transforms, **spec.inputs, **spec.outputs}

    def at_work(name: str) -> int:
        """Bytes besides: an orthogonal start in double precision (what is drawn, a copy of it, both factors), or a mask."""
        owner = owners[name.partition(".")[0]]
        split = isinstance(owner, Transform) and bool(owner.mechanism.sees)
        besides = 8 * max(counts[name] * max(4 * (owner.init[0] == "orthogonal"), split), 2 * min(counts[name], CHUNK))
        return besides + size * counts[name] * (name in own)

    needed = size * held + max(map(at_work, counts), default=0)
    available = available_memory()
    if available is not None and needed > available:
        largest = max(counts, key=lambda name: counts[name])
        shape = " × ".join(f"{n:,}" for n in parameter_shapes(spec)[largest])
        raise TooLarge(f"the {sum(counts.values()):,} parameters of '{spec.name}' need {needed / 1e9:,.1f} GB of memory and "
                            f"{available / 1e9:,.1f} GB are available; the largest is '{largest}', {shape} numbers")  # fmt: skip


def _initial_bias(t: Transform) -> Array:
    n = len(t.along)
    start = {**dict.fromkeys(t.mechanism.forget_gates(n), t.forget_bias), **t.mechanism.bias(n)}
    return np.repeat([start.get(gate, 0.0) for gate in t.gates], t.hidden)


CHUNK = 1 << 18
"""Numbers drawn at a time, in double precision, so that large parameters do not take three times their memory."""


def _drawn(generator: np.random.Generator, shape: Shape, gates: int, init: tuple[str, float], dtype: str) -> Array:
    kind, scale = init
    *lead, rows, columns = shape
    width = columns // gates
    if kind == "diagonal":
        found = np.zeros((*lead, rows, gates, width), dtype)
        every = np.arange(rows)
        found[..., every, :, every % width] = generator.choice((-scale, scale), (rows, *lead, gates))
        return found.reshape(shape)
    if kind != "orthogonal":
        limit = math.sqrt(6.0 / (rows + width)) if kind == "glorot" else scale
        found = np.empty(math.prod(shape), dtype)
        for start in range(0, found.size, CHUNK):
            part = found[start : start + CHUNK]
            if kind == "normal":
                part[:] = generator.normal(0.0, scale, part.size)
            else:
                part[:] = generator.uniform(-limit, limit, part.size)
                if kind == "signs":
                    np.copysign(scale, part, out=part)
        return found.reshape(shape)
    square = generator.normal(size=(*lead, gates, max(rows, width), min(rows, width)))
    q, r = np.linalg.qr(square)
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    blocks = q if rows >= width else np.swapaxes(q, -1, -2)
    return np.moveaxis(blocks, -3, -2).reshape(shape)


class Shared(Protocol):
    """What holds an array: PyTensor's shared variable."""

    def get_value(self, borrow: bool = False) -> Array:
        """Return the array: itself to ``borrow`` it, else a copy."""
        ...


class Parameters(MutableMapping[str, Array]):
    """The parameters of a compiled grid: the arrays that its functions read.

    Assigning checks name and shape and copies; the names are fixed.  An array that is taken out may be changed in place, until
    the grid trains on.  ``watch`` is called before anybody looks, as the numbers may be elsewhere: on a device."""

    def __init__(self, shared: Mapping[str, Shared], watch: Callable[[], None] | None = None):
        self._shared, self.watch = shared, watch

    def __getitem__(self, name: str) -> Array:
        if self.watch is not None:
            self.watch()
        try:
            return self._shared[name].get_value(borrow=True)
        except KeyError:
            raise KeyError(f"there is no parameter '{name}'{nearest(name, self._shared)}") from None

    def __setitem__(self, name: str, value: npt.ArrayLike) -> None:
        if name not in self._shared:
            raise DataError(f"there is no parameter '{name}'{nearest(name, self._shared)}")
        mine = self[name]
        given = np.asarray(value)
        if given.shape != mine.shape:
            raise DataError(f"parameter '{name}': found an array of shape {given.shape}; expected {mine.shape}")
        if not np.isfinite(given).all():
            raise DataError(f"parameter '{name}': found NaN or infinity; expected finite numbers")
        mine[...] = given

    def __delitem__(self, name: str) -> None:
        raise DataError(f"parameter '{name}' belongs to the grid and cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._shared)

    def __len__(self) -> int:
        return len(self._shared)

    def __repr__(self) -> str:
        return "\n".join(f"{name}  {array.shape}  {array.dtype}" for name, array in self.items())
