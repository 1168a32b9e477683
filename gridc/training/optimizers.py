"""Optimisers: an update rule of the table with its state, the learning rate's schedule and the clipping of gradients.

Everything happens in place, without temporaries.  A rule that is elementwise is compiled to one loop over all parameters, which
reads and writes each number once (``gridc.fusion.updates``); few parameters, and rules that are not, are done in NumPy, in blocks
that stay in the cache, to the same bits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gridc import resources
from gridc.errors import DataError, UsageError, listed, nearest
from gridc.fusion import blas, updates
from gridc.fusion.buffers import fresh
from gridc.fusion.threads import together
from gridc.options import checked, plain
from gridc.tables.learning_rates import Schedule
from gridc.tables.update_rules import OPTIMIZERS, Array, Block, Rule

BLOCK = 131072
"""Elements updated at a time: the block, its state and the scratch stay in the cache over all passes."""
SMALL = 8192
"""Parameters with fewer elements are gathered into one vector, since each NumPy call costs half a microsecond."""
FEW = 1 << 14
"""Parameters with fewer elements in all are not worth the tenths of a second that compiling a rule takes once."""
MANY = 1 << 17
"""Gradients of as many elements in all are squared and summed up by compiled code."""
LARGE = 1 << 20
"""Elements for each thread, at least, where several share the work: one does not move memory as fast as the machine can."""


@dataclass
class _Unit:
    """Parameters that are updated together: one large one in place, or several small ones gathered into a vector."""

    names: tuple[str, ...]
    slots: tuple[Array, ...]
    gathered: tuple[_Gathered, _Gathered] | None
    """Parameters and gradients as one vector each, where the unit holds several small parameters."""


@dataclass
class _Gathered:
    """Several arrays as one vector, and the part of it that is each one, in its shape."""

    whole: Array
    parts: tuple[Array, ...]

    def take(self, arrays: Mapping[str, Array], names: tuple[str, ...]) -> Array:
        for name, part in zip(names, self.parts, strict=True):
            np.copyto(part, arrays[name])
        return self.whole

    def give_back(self, arrays: Mapping[str, Array], names: tuple[str, ...]) -> None:
        for name, part in zip(names, self.parts, strict=True):
            np.copyto(arrays[name], part)


def _parts(vector: Array, names: Sequence[str], parameters: Mapping[str, Array]) -> tuple[Array, ...]:
    """Cut the vector into views, one for each of these parameters, in their shapes."""
    ends = np.cumsum([parameters[name].size for name in names])[:-1].tolist()
    return tuple(part.reshape(parameters[name].shape) for name, part in zip(names, np.split(vector, ends), strict=True))


class Optimizer:
    """An update rule with its state; ``update`` changes the parameters in place.

    ``state`` is a flat mapping of name to array, ``count`` and ``SLOT/PARAMETER``: what a checkpoint keeps.
    ``clip`` is the largest global norm of the gradients (``optax.clip_by_global_norm``, Pascanu et al. 2013);
    ``schedule`` maps the number of steps done to the learning rate, and replaces the option ``learning_rate``.
    """

    def __init__(
        self, rule: Rule, options: Mapping[str, Any], *, schedule: Schedule | None = None, clip: float | None = None
    ):
        clip = plain(clip)
        if clip is not None and not (isinstance(clip, int | float) and clip > 0):  # pyright: ignore
            raise UsageError(f"The gradients' largest norm ('clip') is {clip!r}, expected a number above 0.")
        self.rule, self.options, self.schedule, self.clip = rule, dict(options), schedule, clip
        self._state: dict[str, Array] = {}
        self.watch: Callable[[], None] | None = None
        """Called before anybody looks at the state, which may be elsewhere: on a device."""
        self.norm = 0.0
        """The gradients' global norm at the last step, before clipping."""
        self._units: list[_Unit] = []
        self._compiled: dict[np.dtype[Any], updates.Update | None] = {}
        self._rows: tuple[list[Array], Array] | None = None
        """The parameters of the last update that was compiled, and the rows of their arrays and the state's."""
        self._scratch: dict[tuple[np.dtype[Any], int], tuple[Array, Array, Array]] = {}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items() if value is not None)
        return f"{self.rule.name}({options})"

    @property
    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps."""
        if self.watch is not None:
            self.watch()
        return self._state

    @property
    def slots(self) -> dict[str, Array]:
        """The arrays of the state, whether anybody watches or not."""
        return {name: array for name, array in self._state.items() if name != "count"}

    @property
    def started(self) -> bool:
        """Whether it has a state."""
        return bool(self._state)

    @property
    def count(self) -> int:
        """How many updates were made."""
        return int(self._state["count"]) if self._state else 0

    def counted(self, updates: int) -> None:
        """Count updates that somebody else makes, or where they were none after all, a negative number of them."""
        self._state["count"] += updates

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return float(self.schedule(self.count)) if self.schedule else float(self.options["learning_rate"])

    def start(self, parameters: Mapping[str, Array]) -> None:
        """Make the state for these parameters: every slot at its initial value."""
        initial = self.rule.slots(self.options)
        if self.watch is not None:
            self.watch()
        self._state = {"count": np.zeros((), np.int64)}
        self._units, self._rows = [], None
        small: dict[np.dtype[Any], list[str]] = {}
        for name, p in parameters.items():
            if p.size < SMALL:
                small.setdefault(p.dtype, []).append(name)
        groups = [[name] for name, p in parameters.items() if p.size >= SMALL] + list(small.values())
        for names in groups:
            size, dtype = sum(parameters[name].size for name in names), parameters[names[0]].dtype
            slots = tuple(np.full(size, value, dtype) for value in initial.values())
            vectors = [fresh(size, dtype) for _ in range(2 if len(names) > 1 else 0)]
            gathered = [_Gathered(vector, _parts(vector, names, parameters)) for vector in vectors]
            self._units.append(_Unit(tuple(names), slots, (gathered[0], gathered[1]) if gathered else None))
            for slot, vector in zip(initial, slots, strict=True):
                # Views: the state that a checkpoint sees is the one that the update works on.
                for name, part in zip(names, _parts(vector, names, parameters), strict=True):
                    self._state[f"{slot}/{name}"] = part

    def load(self, parameters: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Take over a saved state, bit for bit; DataError where it belongs to other parameters or another rule."""
        self.start(parameters)
        if set(state) != set(self.state):
            odd = listed(sorted(set(state) ^ set(self.state))[:3], "and")
            raise DataError(f"The saved optimiser state is not that of '{self.rule.name}' for this grid: it differs in {odd}.")
        for name, array in self.state.items():
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise DataError(
                    f"The saved optimiser state '{name}' is {state[name].dtype} {list(state[name].shape)}, "
                    f"expected {array.dtype} {list(array.shape)}.")  # fmt: skip
            array[...] = state[name]

    def update(
        self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], *, norm: float | None = None,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        """One step: parameters and state are changed in place, the gradients are left as they are.

        ``norm`` is the gradients' ``global_norm``, where the caller has it already.  No more than so many ``threads`` share it,
        None for as many as there are cores; their number changes no bit.
        """
        if not self.started:
            self.start(parameters)
        rate = self.rate
        self.state["count"] += 1
        count = self.count
        scale = 1.0
        if self.clip is not None:
            self.norm = global_norm(gradients, threads) if norm is None else norm
            scale = self.clip / self.norm if self.norm >= self.clip else 1.0
        if self._at_once(parameters, gradients, rate, count, scale, threads):
            return
        for unit in self._units:
            if unit.gathered is not None:
                p, g = (one.take(arrays, unit.names) for one, arrays in zip(unit.gathered, (parameters, gradients), strict=True))
                self._update(p, g, unit.slots, rate, count, scale, threads)
                unit.gathered[0].give_back(parameters, unit.names)
                continue
            array = parameters[unit.names[0]]
            p = array.reshape(-1)
            self._update(p, gradients[unit.names[0]].reshape(-1), unit.slots, rate, count, scale, threads)
            if not np.may_share_memory(p, array):
                np.copyto(array, p.reshape(array.shape))  # not contiguous, so `p` was a copy

    def _at_once(
        self, parameters: Mapping[str, Array], gradients: Mapping[str, Array], rate: float, count: int, scale: float,
        threads: int | None,
    ) -> bool:  # fmt: skip
        """Update everything in compiled code; False, with nothing done, where that does not pay or cannot be."""
        into, of = [*parameters.values()], [gradients[name] for name in parameters]
        size = sum([p.size for p in into])
        if size < FEW:
            return False
        dtype = into[0].dtype
        if any(array.dtype != dtype or not array.flags.c_contiguous for array in (*into, *of)):
            return False
        if dtype not in self._compiled:
            self._compiled[dtype] = updates.trace(dtype, self._traced)
        update = self._compiled[dtype]
        if update is None:
            return False
        if self._rows is None or any(p is not q for p, q in zip(into, self._rows[0], strict=True)):
            slots = [[self._state[f"{slot}/{name}"] for name in parameters] for slot in self.rule.slots(self.options)]
            self._rows = into, updates.rows([of, into, *slots])
        rows = updates.moved(self._rows[1], of)
        numbers = update.numbers({"rate": rate, "count": count, "scale": scale})

        def run(number: int, first: int, end: int) -> None:
            update(rows, numbers, first, end)

        cut(run, size, sharers(size, threads))
        return True

    def _traced(self, tracing: updates.Tracing) -> None:
        g, p, *slots = (tracing.vector() for _ in range(2 + len(self.rule.slots(self.options))))
        rate, count, scale = (updates.Number(operator.itemgetter(name)) for name in ("rate", "count", "scale"))
        scratch: Any = [tracing.scratch() for _ in range(3)]
        apply_rule(self, p, g, slots, scratch, rate, count, None if self.clip is None else scale)  # type: ignore[arg-type]

    def _update(
        self, p: Array, g: Array, slots: Sequence[Array], rate: float, count: int, scale: float, threads: int | None
    ) -> None:
        def run(number: int, cut: range) -> None:
            self._update_part(p, g, slots, rate, count, scale, number, cut)

        shared(run, p.size, threads)

    def _update_part(
        self, p: Array, g: Array, slots: Sequence[Array], rate: float, count: int, scale: float, number: int, cut: range
    ) -> None:
        """Update the blocks that start at the elements ``cut``, in the scratch of one thread."""
        if (p.dtype, number) not in self._scratch:
            self._scratch[p.dtype, number] = fresh(BLOCK, p.dtype), fresh(BLOCK, p.dtype), fresh(BLOCK, p.dtype)
        for start in cut:
            part = slice(start, min(start + BLOCK, p.size))
            scratch = [vector[: part.stop - start] for vector in self._scratch[p.dtype, number]]
            own = [slot[part] for slot in slots]
            apply_rule(self, p[part], g[part], own, scratch, rate, count, None if scale == 1.0 else scale)


def apply_rule(
    optimizer: Optimizer, p: Array, g: Array, slots: Sequence[Array], scratch: Sequence[Array], rate: Any, count: Any, scale: Any
) -> None:
    """Update parameters ``p`` and their state once, in place; the gradient ``g``, times ``scale`` unless None, is left as it
    is.  The arrays are NumPy's, or behave like them."""
    rule, decay = optimizer.rule, optimizer.options["weight_decay"]
    u, s, scaled = scratch
    if scale is not None:
        g = np.multiply(g, scale, out=scaled)
    if decay and not rule.decoupled:
        np.multiply(p, decay, out=s)
        g = np.add(g, s, out=scaled)
    rule.update(Block(g, slots, u, s, rate, count), optimizer.options)
    if decay and rule.decoupled:
        np.multiply(p, rate * decay, out=s)
        u += s
    p -= u


def optimizer(
    name: str = "adam", *, schedule: Schedule | None = None, clip: float | None = None, **options: Any
) -> Optimizer:
    """Make an optimiser.

    Args:
        name: A row of ``gridc.tables.update_rules.OPTIMIZERS``.
        schedule: Maps the number of updates done to the learning rate, in the place of ``learning_rate``.
        clip: The largest global norm of the gradients.
        options: The row's own: ``learning_rate=1e-3``.

    Raises:
        UsageError: The table has no such name or option, or a value is outside its range.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"There is no optimizer '{name}', expected {listed(OPTIMIZERS)}{nearest(name, OPTIMIZERS)}")
    rule = OPTIMIZERS[name]
    return Optimizer(rule, checked(f"Optimizer '{name}'", rule.options, options), schedule=schedule, clip=clip)


def sharers(size: int, threads: int | None) -> int:
    """Tell how many of so many threads, None for as many as there are cores, it pays to have share so many elements."""
    most = size // LARGE
    return 1 if most < 2 else max(1, min(resources.threads() if threads is None else threads, most))


def shared(run: Callable[[int, range], None], size: int, threads: int | None) -> None:
    """Call ``run`` with the number of a thread and the blocks, by their first elements, that it does."""
    count, blocks = sharers(size, threads), -(-size // BLOCK)
    ends = [k * blocks // count * BLOCK for k in range(count)] + [size]
    together([partial(run, k, range(ends[k], ends[k + 1], BLOCK)) for k in range(count)])


def cut(run: Callable[[int, int, int], None], size: int, threads: int) -> None:
    """Call ``run`` in so many threads with the number of each, and the first and the end of its part of so much."""
    together([partial(run, k, k * size // threads, (k + 1) * size // threads) for k in range(threads)])


def global_norm(gradients: Mapping[str, Array], threads: int | None = None) -> float:
    """Take the root of the sum of all squared gradients; NaN or infinity where any of them is.

    No more than so many ``threads`` share it, None for as many as there are cores; their number changes no bit."""
    if sum([g.size for g in gradients.values()]) < MANY or not updates.able():
        with blas.single_threaded():  # the number of its threads would change the last bits
            return sum([_squares(g.reshape(-1)) for g in gradients.values()]) ** 0.5
    total = 0.0
    for dtype in {g.dtype: None for g in gradients.values()}:
        own = [np.ascontiguousarray(g) for g in gradients.values() if g.dtype == dtype]
        rows, unit = updates.rows([own]), np.empty(0, dtype)
        sums = np.empty(updates.parts(own), np.float64)

        def run(number: int, first: int, end: int, rows: Array = rows, sums: Array = sums, unit: Array = unit) -> None:
            updates.squares(rows, sums, unit, first, end)

        cut(run, len(sums), sharers(sum(g.size for g in own), threads))
        total += float(sums.sum())
    return total**0.5


def _squares(flat: Array) -> float:
    """Sum up squares by BLAS, in blocks whose sums are added in double precision."""
    if flat.size <= SMALL:
        return float(np.dot(flat, flat))
    return sum([float(np.dot(b, b)) for b in (flat[k : k + BLOCK] for k in range(0, flat.size, BLOCK))])
