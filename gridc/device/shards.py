"""The batch over several devices: each has some of the examples with index arrays of its own, and all the parameters.

A loss is a mean over the positions of the whole batch.  Each device counts its own, so what they count in the loss is scaled by
its share of all positions: then the sum of the devices' losses is the batch's, and the sum of their gradients its gradient.
"""

# JAX says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gridc.data.fitting import Array
from gridc.errors import ResourceError, UsageError

AXIS = "examples"
WHOLE, SPLIT = PartitionSpec(), PartitionSpec(AXIS)


def found(count: int) -> list[Any]:
    """Give so many of JAX's devices; ResourceError where there are fewer, UsageError where other processes have the rest."""
    devices = jax.devices()
    kind = devices[0].platform
    if count > len(devices):
        more = f"; XLA_FLAGS=--xla_force_host_platform_device_count={count} makes a processor look like {count}" * (kind == "cpu")
        have = f"{len(devices)} {kind} device{'s' * (len(devices) > 1)}"
        raise ResourceError(f"devices={count} asks for more devices than JAX has here: {have}{more}")
    if count < len(devices) and jax.process_count() > 1:
        raise UsageError(f"found devices={count}; expected devices={len(devices)}, those of all {jax.process_count()} processes")
    return devices[:count]


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Products in the type of their factors, and double precision where it is asked for, whatever JAX is set to."""
    chosen = getattr(jax.config, "jax_default_matmul_precision", None) or "highest"
    with jax.enable_x64(True), jax.default_matmul_precision(chosen):
        yield


class Shards:
    """How a batch lies on so many devices; on one it stays whole."""

    def __init__(self, count: int = 1):
        self.count = count
        self.mesh = Mesh(np.array(found(count)), (AXIS,)) if count > 1 else None

    @property
    def platform(self) -> str:
        """The kind of its devices: ``cpu``, ``gpu`` or ``tpu``."""
        return str(jax.devices()[0].platform)

    def parts(self, batch: int) -> list[slice]:
        """Give the examples of each device: equally many, or one more in the first of them."""
        each = [batch // self.count + (k < batch % self.count) for k in range(self.count)]
        ends = itertools.accumulate(each)
        return [slice(end - size, end) for end, size in zip(ends, each, strict=True)]

    def whole(self, array: Any) -> Any:
        """Put a copy of an array on every device."""
        return self._placed([array], WHOLE)[0]

    def handed(self, arrays: Sequence[Array]) -> list[Any]:
        """Give arrays of one call as ``split`` lays them; on one device as they are, since what is compiled takes them there."""
        return list(arrays) if self.mesh is None else self.split(arrays)

    def handed_whole(self, array: Array) -> Any:
        """Give an array of one call as every device is to have it; on one device as it is."""
        return array if self.mesh is None else self.whole(array)

    def split(self, arrays: Sequence[Array]) -> list[Any]:
        """Put arrays there, cut along their first axis into equally many rows for each device.

        On a processor JAX may take an array as it is: nobody may change it from now on."""
        return self._placed(arrays, SPLIT)

    def _placed(self, arrays: Sequence[Any], how: PartitionSpec) -> list[Any]:
        if self.mesh is None:
            return jax.device_put(list(arrays))
        sharding = NamedSharding(self.mesh, how)
        if jax.process_count() == 1:
            return jax.device_put(list(arrays), sharding)
        return [jax.make_array_from_callback(a.shape, sharding, functools.partial(operator.getitem, a)) for a in arrays]

    def filled(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Give ``[devices × batch, …]`` with each device's examples and zeros behind them, for ``shape`` ``[batch, …]``.

        It is always a copy: whoever gave the array may fill it again while the device still reads it."""
        whole = (self.count * shape[0], *shape[1:])
        if array.shape == whole:
            return array.copy()
        result = np.zeros(whole, array.dtype)
        for k, part in enumerate(self.parts(len(array))):
            rows = array[part]
            result[k * shape[0] :][tuple(map(slice, rows.shape))] = rows
        return result

    def cut(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Give the examples, ``[batch, …]`` of this shape, of what ``filled`` laid out or a function made of it."""
        inside = tuple(map(slice, shape[1:]))
        if self.count == 1:
            return array[(slice(shape[0]), *inside)]
        room = len(array) // self.count
        parts = self.parts(shape[0])
        return np.concatenate([array[k * room :][: p.stop - p.start][(slice(None), *inside)] for k, p in enumerate(parts)])

    def over(self, function: Callable[..., Any], parameters: int, summed: Sequence[bool]) -> Callable[..., Any]:
        """Make of a function of one device's arrays, the first so many ``parameters``, one of all devices' arrays.

        Of its results those that are ``summed`` are added up, the others are laid side by side."""
        mesh = self.mesh
        if mesh is None:
            return function
        apart = jax.process_count() > 1  # no process can look at what lies on the others' devices

        def beside(result: Any) -> Any:
            return lax.all_gather(result, AXIS, tiled=True) if apart else result

        def one(*arrays: Any) -> list[Any]:
            pairs = zip(function(*arrays), summed, strict=True)
            return [lax.psum(result, AXIS) if add else beside(result) for result, add in pairs]

        def run(*arrays: Any) -> list[Any]:
            taken = tuple(WHOLE if k < parameters else SPLIT for k in range(len(arrays)))
            given = [WHOLE if add or apart else SPLIT for add in summed]
            # The loops begin with zeros, which are the same everywhere; what they come to is not.
            return jax.shard_map(one, mesh=mesh, in_specs=taken, out_specs=given, check_vma=False)(*arrays)

        return jax.jit(run)
