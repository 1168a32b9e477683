"""A grid run in pieces: what travels along one dimension leaves one call and enters the next.

A stream is two grids made from the spec.  The first also gives back the last state of whatever crosses from one piece to the
next; the other takes that state as inputs that enter, through identity matrices, and gives back the new one.  Both use the
grid's own parameters, so that a stream follows its training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gridc import parameters
from gridc.arrays.conversion import Array, named
from gridc.errors import DataError, UsageError, listed, nearest
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec, Input, Output, Selection, Tap, Transform

if TYPE_CHECKING:
    from gridc.grid import Grid

Vector = Literal["hidden", "memory"]
VECTORS: tuple[Vector, Vector] = ("hidden", "memory")


class Carried(NamedTuple):
    """One vector that crosses from piece to piece: a transform's, ``along`` the stream or wrapped around its own dimension."""

    transform: str
    vector: Vector
    wrapped: bool

    def __str__(self) -> str:
        return f"{self.transform} {self.vector}"  # no name of a spec holds a space


@dataclass(frozen=True)
class Fixed:
    """An array where a shared variable is expected."""

    array: Array

    def get_value(self, borrow: bool = False) -> Array:
        """Return the array itself, whether it is to be borrowed or not."""
        return self.array


class Stream:
    """Runs a grid piece by piece along one dimension, each piece of any length: ``stream(inputs)`` gives the outputs for it,
    equal to those of one run over everything so far.

    ``state`` is what is carried: a mapping of names to arrays ``[batch, *other dimensions, hidden]``, None before the first
    piece.  It may be kept, and set again; ``reset`` forgets it.  Made by ``Grid.stream``."""

    def __init__(self, grid: Grid, along: str | None = None):
        self.grid, spec = grid, grid.spec
        self.axis = _axis(spec, along)
        self.along = spec.dimensions[self.axis].name
        _check(spec, self.axis)
        self.carried = _carried(spec, self.axis)
        self.state: dict[str, Array] | None = None
        self._first = self._made(_with_outputs(spec, self.axis, self.carried))
        self._next = self._made(_with_inputs(self._first.spec, self.axis, self.carried))

    def __call__(self, inputs: Mapping[str, Any], lengths: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """Run the next piece and return its outputs; ``lengths`` are those of this piece.

        Inputs that enter along the stream, or at its first cell, are given with the first piece alone.
        Raises DataError where an array does not fit."""
        if self.state is None:
            return self._taken(self._first.predict(inputs, lengths))
        given = named("inputs", inputs, self.grid.spec.inputs)
        if not isinstance(self.state, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may set it
            raise DataError(f"the stream's state is {type(self.state).__name__}, expected a mapping that it had before, or None")
        for name in self.grid.spec.inputs:
            if name in given and name not in self._next.spec.inputs:
                raise DataError(f"input '{name}' begins the stream; leave it out after the first piece, or reset the stream")
            if name not in given and name in self._next.spec.inputs:
                raise DataError(f"input '{name}' is missing; found {', '.join(given) or 'none'}")
        for name in {*self.state} ^ {*map(str, self.carried)}:
            raise DataError(f"the stream's state {'has' if name in self.state else 'lacks'} '{name}'; expected "
                            f"{listed(self.carried, 'and')}")  # fmt: skip
        batch = next((len(np.atleast_1d(array)) for array in self.state.values()), 0)
        for name, value in given.items():
            if self.state and isinstance(value, Sized) and getattr(value, "ndim", 1) and len(value) != batch:
                raise DataError(f"input '{name}': found {len(value)} examples; expected {batch}, those of the pieces before")
        return self._taken(self._next.predict({**given, **self.state}, lengths))

    def reset(self) -> None:
        """Forget the state: the next piece is the first of new sequences."""
        self.state = None

    def _taken(self, found: dict[str, Array]) -> dict[str, Array]:
        self.state = {str(c): found.pop(str(c)) for c in self.carried}
        return found

    def _made(self, spec: GridSpec) -> Grid:
        """Make a grid of this spec, whose parameters are this grid's own arrays."""
        from gridc.grid import Grid

        grid = self.grid
        made = Grid(spec, grid.target, {}, grid.seed)
        held: dict[str, parameters.Shared] = {}
        for name, shape in parameter_shapes(spec).items():
            if name in grid.parameters:
                held[name] = _Held(grid, name)
                continue
            owner, _, rest = name.partition(".")
            if rest.endswith("W"):
                held[name] = Fixed(np.eye(shape[0], dtype=grid.dtype))
            else:  # a learned start is added to whatever enters, so it is taken off
                entered = spec.inputs[owner]
                start = f"{entered.enters}.start.{rest[0]}"
                held[name] = _Negative(grid, start) if start in grid.parameters else Fixed(np.zeros(shape, grid.dtype))
        made.parameters = parameters.Parameters(held)
        return made

    def __repr__(self) -> str:
        begun = "at its beginning" if self.state is None else "under way"
        return f"Stream of '{self.grid.spec.name}' along {self.along}, carrying {listed(self.carried, 'and')}; {begun}"


@dataclass(frozen=True)
class _Held:
    """A parameter of another grid, as it is now: training may go on."""

    grid: Grid
    name: str

    def get_value(self, borrow: bool = False) -> Array:
        return self.grid.parameters[self.name]


class _Negative(_Held):
    """The same with its sign changed."""

    def get_value(self, borrow: bool = False) -> Array:
        return -self.grid.parameters[self.name]


# -- which specs can be cut ----------------------------------------------------------------------------------------


def _axis(spec: GridSpec, along: str | None) -> int:
    """Find the dimension to stream along: by name, or the only one whose size is told at the call."""
    names = [d.name for d in spec.dimensions]
    open_ended = [d.name for d in spec.dimensions if isinstance(d.size, str)]
    if along is None:
        if len(open_ended) != 1:
            found = listed(open_ended, "and") or "no dimension"
            raise UsageError(
                f"'{spec.name}' has {found} whose size is known only at the call; name one, as in stream(along='time')"
            )
        along = open_ended[0]
    if along not in names:
        raise UsageError(f"there is no dimension '{along}' in '{spec.name}'; expected {listed(names)}{nearest(along, names)}")
    axis = spec.axis(along)
    size = spec.dimensions[axis].size
    if isinstance(size, int):
        raise UsageError(
            f"dimension '{along}' has the fixed size {size}, and pieces of it would have another; make its size a symbol"
        )
    twins = [d.name for d in spec.dimensions if d.size == size and d.name != along]
    if twins:
        raise UsageError(f"dimension '{along}' is as long as {listed(twins, 'and')}, so it cannot be cut into pieces of its own")
    return axis


def _check(spec: GridSpec, axis: int) -> None:
    """UsageError where a piece cannot be computed from the state that the one before it left."""
    for t in spec.transforms.values():
        _check_way(spec, t, axis)
        _check_reads(spec, t, axis)
    along = spec.dimensions[axis].name
    for name, x in spec.inputs.items():
        able = ("all",) if x.joins else ("all", "first")
        if x.at[axis] not in able and not (_begins(spec, x, axis) or x.facts):
            raise UsageError(f"input '{name}' reaches {along} {_shown(x.at[axis])}, and a piece does not know where it lies")
    for name, o in spec.outputs.items():
        if o.at[axis] not in ("all", "last"):
            raise UsageError(f"output '{name}' is read at {along} {_shown(o.at[axis])}, and a piece does not know where it lies; "
                             "expected all or last")  # fmt: skip
    if not any(axis in x.over and not _begins(spec, x, axis) for x in spec.inputs.values()):
        raise UsageError(f"no input of '{spec.name}' goes on along {along}, so nothing tells how long a piece is")


def _check_way(spec: GridSpec, t: Transform, axis: int) -> None:
    """UsageError where a transform travels or starts in a way that pieces have no part in."""
    along = spec.dimensions[axis].name
    why = f"transform '{t.name}' cannot be streamed along {along}: "
    for d, direction in zip(t.along, t.direction, strict=True):
        turns = len(set(direction.cycle)) > 1
        if d == axis and (turns or direction.cycle[0] < 0):
            raise UsageError(f"{why}it travels backward there, so the first piece would wait for the last")
        if direction.over == axis and turns:
            raise UsageError(f"{why}its direction alternates with the index on {along}, which a piece does not know")
    if axis in t.along and len(t.along) > 1:
        raise UsageError(f"{why}its one state travels along {listed(spec.names(t.along), 'and')} at once")
    if axis in t.along and t.start == "wrap":
        raise UsageError(f"{why}it starts from its own far end, which each piece would have of its own")
    if t.start == "wrap" and t.wrap[axis]:
        rest = [o for d, o in enumerate(t.wrap) if d != axis]
        if t.wrap[axis] != -1 or any(rest):
            raise UsageError(f"{why}its wrap goes further than one step back on {along} alone")


def _check_reads(spec: GridSpec, t: Transform, axis: int) -> None:
    """UsageError where a transform reads what no piece keeps for the next."""
    along = spec.dimensions[axis].name
    for read in t.reads:
        step = read.offset[axis]
        if step and (step != -1 or axis not in spec.transforms[read.of].along):
            where = f"{abs(step)} {'behind' if step < 0 else 'ahead'} on {along}"
            raise UsageError(f"transform '{t.name}' cannot be streamed along {along}: it reads '{read.of}' {where}; only what "
                             f"travels along {along} itself, one step behind, is carried over")  # fmt: skip


def _shown(selection: Selection) -> str:
    return selection if isinstance(selection, str) else listed(selection, "and")


def _enters_along(spec: GridSpec, x: Input, axis: int) -> bool:
    """Whether the transform that an input enters travels along the stream."""
    return x.enters is not None and axis in spec.transforms[x.enters].along


def _begins(spec: GridSpec, x: Input, axis: int) -> bool:
    """Whether an input belongs to the first piece alone."""
    return x.enters is not None and not x.joins and (_enters_along(spec, x, axis) or x.at[axis] == "first")


# -- the two specs -------------------------------------------------------------------------------------------------


def _carried(spec: GridSpec, axis: int) -> tuple[Carried, ...]:
    result: list[Carried] = []
    for name, t in spec.transforms.items():
        wrapped = t.start == "wrap" and t.wrap[axis] == -1
        if axis in t.along or wrapped:
            result += [Carried(name, vector, wrapped) for vector in VECTORS[: 1 + t.has_memory]]
    return tuple(result)


def _with_outputs(spec: GridSpec, axis: int, carried: tuple[Carried, ...]) -> GridSpec:
    """Return the spec with what is carried among its outputs."""
    outputs = dict(spec.outputs)
    for c in carried:
        t = spec.transforms[c.transform]
        ends = {axis, *(t.along if c.wrapped else ())}
        at: tuple[Selection, ...] = tuple("last" if d in ends else "all" for d in range(len(spec.dimensions)))
        outputs[str(c)] = Output(str(c), (Tap(c.transform, c.vector == "memory"),), at, "raw", t.hidden, "squared_error")
    return replace(spec, outputs=outputs)


def _with_inputs(spec: GridSpec, axis: int, carried: tuple[Carried, ...]) -> GridSpec:
    """Return the spec for all pieces but the first: what is carried enters, and what begins the sequences no longer does."""
    inputs: dict[str, Input] = {}
    for name, x in spec.inputs.items():
        if not _begins(spec, x, axis):
            inputs[name] = replace(x, enters=None, into=()) if _enters_along(spec, x, axis) else x
    dimensions = range(len(spec.dimensions))
    for c in carried:
        own = spec.transforms[c.transform].along[0]
        over = tuple(d for d in dimensions if d not in (own, axis))
        at: tuple[Selection, ...] = tuple("first" if c.wrapped and d == axis else "all" for d in dimensions)
        hidden = spec.transforms[c.transform].hidden
        inputs[str(c)] = Input(str(c), "features", hidden, None, c.transform, (c.vector,), (), at, over)
    return replace(spec, inputs=inputs)
