"""Arithmetic on the grid's coordinates, vectorised: where a transform travels, what a read finds.

Points are integer arrays ``[n, dimensions]``; ``extent`` is the grid's size, ``[dimensions]`` or, where examples differ
in length, ``[n, dimensions]``: the size of the grid that each point belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridc.language.spec import Direction, GridSpec, Output, Read, Selection, Transform

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Wait(NamedTuple):
    """What one read of a transform, or one state that it carries, finds from ``n`` points.

    ``inside`` and ``wrapped`` are where it waits for a step, that of ``of`` at ``points``; ``entering`` is where it finds what
    enters the grid, which adds to a state that wraps; elsewhere it finds the start alone."""

    of: Transform
    by: int
    """Which of the reader's reads, in order; -1 for a state carried along its own dimension."""
    looked: Ints
    """The points looked at, ``[n, dimensions]``; they may lie off the grid."""
    points: Ints
    """The same with the far end in place of a point that wraps."""
    inside: Mask
    entering: Mask
    wrapped: Mask

    @property
    def steps(self) -> Mask:
        """Where there is a step to wait for, ``[n]``."""
        return self.inside | self.wrapped


def points(sizes: tuple[int, ...]) -> Ints:
    """Give every cell of a grid, ``[cells, dimensions]``, the last dimension fastest."""
    return np.indices(sizes, dtype=np.int64).reshape(len(sizes), -1).T


def way(direction: Direction, at: Ints) -> Ints:
    """Give +1 or -1 for each point: the direction of travel there."""
    cycle = np.asarray(direction.cycle, np.int64)
    if direction.over is None:
        return np.full(len(at), cycle[0])
    return cycle[at[:, direction.over] % len(cycle)]


def source(spec: GridSpec, read: Read, at: Ints) -> Ints:
    """Give the points that a read looks at from the points ``at``."""
    looked = at + np.asarray(read.offset, np.int64)
    if read.via is not None:
        transform = spec.transforms[read.of]
        looked[:, read.via] -= way(transform.direction[transform.along.index(read.via)], at)
    return looked


def carried(transform: Transform, at: Ints) -> list[Ints]:
    """Give the points whose state enters ``at`` along each of the transform's own dimensions."""
    before: list[Ints] = []
    for axis, direction in zip(transform.along, transform.direction, strict=True):
        point = at.copy()
        point[:, axis] -= way(direction, at)
        before.append(point)
    return before


def waits(spec: GridSpec, transform: Transform, at: Ints, extent: Ints) -> Iterator[Wait]:
    """Give what a transform's steps at the points ``at`` wait for: the states that it carries, then its reads in order."""
    for looked in carried(transform, at) if transform.carries else ():
        yield find(transform, -1, looked, extent)
    for by, read in enumerate(transform.reads):
        yield find(spec.transforms[read.of], by, source(spec, read, at), extent)


def find(of: Transform, by: int, looked: Ints, extent: Ints) -> Wait:
    """Give what looking at ``of`` finds at the points ``looked``, which may lie off the grid.

    Behind the first cell of the transform's own dimension, and nowhere else off the grid, it finds what enters there."""
    within = (looked >= 0) & (looked < extent)
    inside: Mask = np.all(within, axis=1)
    entering = np.zeros_like(inside)
    for axis, direction in zip(of.along, of.direction, strict=True):
        others = np.delete(within, axis, axis=1).all(axis=1)
        last = np.broadcast_to(extent, looked.shape)[:, axis] - 1
        entering |= others & np.where(way(direction, looked) > 0, looked[:, axis] < 0, looked[:, axis] > last)
    if of.start != "wrap" or not entering.any():
        return Wait(of, by, looked, looked, inside, entering, np.zeros_like(inside))
    end, there = far_end(of, looked, extent)
    wrapped = entering & there
    return Wait(of, by, looked, np.where(wrapped[:, None], end, looked), inside, entering, wrapped)


def far_end(transform: Transform, at: Ints, extent: Ints) -> tuple[Ints, Mask]:
    """Give, for points where a wrapped transform enters, the points that it left last, and whether they lie on the grid."""
    axis, direction = transform.along[0], transform.direction[0]
    point = at + np.asarray(transform.wrap, np.int64)
    last = np.broadcast_to(extent, at.shape)[:, axis] - 1
    point[:, axis] = np.where(way(direction, point) > 0, last, 0)
    return point, np.all((point >= 0) & (point < extent), axis=1)


def home(spec: GridSpec, name: str) -> str:
    """Name the transform among whose vectors a transform's lie: its own, or for one that is relayed that of what it hands on."""
    while spec.relayed(spec.transforms[name]):
        name = spec.transforms[name].reads[0].of
    return name


def flat(at: Ints, sizes: Sequence[int], axes: Sequence[int] | None = None, lead: Ints | int = 0) -> Ints:
    """Give the row-major index of points ``[n, dimensions]``, over all their dimensions or some ``axes``, as ``[n]``.

    ``lead`` is an index that comes before these, such as the example's."""
    index = np.zeros(len(at), np.int64) + lead
    for d in range(len(sizes)) if axes is None else axes:
        index = index * sizes[d] + at[:, d]
    return index


def filled(sizes: Sequence[int], batch: int, extents: Ints | None = None) -> Ints:
    """Give every example's own sizes, ``[batch, dimensions]``: ``extents``, or those of the grid where all fill it."""
    return np.tile(np.asarray(sizes, np.int64), (batch, 1)) if extents is None else extents


def weights(transform: Transform, at: Ints, sizes: tuple[int, ...]) -> Ints:
    """Give which of a transform's weights each of the points ``at`` uses: the flat index over its untied dimensions."""
    return flat(at, sizes, transform.untied)


def selected(at: tuple[Selection, ...], where: Ints, extent: Ints) -> Mask:
    """Give which of the points ``where`` an input's ``at`` reaches: first and last in the order of the index."""
    chosen = np.ones(len(where), bool)
    extent = np.broadcast_to(extent, where.shape)
    for d, selection in enumerate(at):
        if selection == "first":
            chosen &= where[:, d] == 0
        elif selection == "last":
            chosen &= where[:, d] == extent[:, d] - 1
        elif selection != "all":
            chosen &= np.isin(where[:, d], selection)
    return chosen


def output_points(output: Output, transform: Transform, sizes: tuple[int, ...], extents: Ints) -> tuple[Ints, Mask]:
    """Give the cells that an output reads of a transform: points ``[batch, *axes, cells, dimensions]``, which of them exist.

    ``first`` and ``last`` are in the transform's own direction, and an example's own."""
    axes, batch, count = output.axes, len(extents), len(sizes)
    ranges: list[Ints] = [np.arange(sizes[d]) for d in axes]
    picked = [d for d in range(count) if isinstance(output.at[d], tuple)]
    ranges += [np.asarray(output.at[d], np.int64) for d in picked]
    mesh = np.meshgrid(*ranges, indexing="ij") if ranges else ()
    shape = tuple(len(r) for r in ranges)
    where = np.zeros((batch, *shape, count), np.int64)
    for d, values in zip((*axes, *picked), mesh, strict=True):
        where[..., d] = values
    extent = extents.reshape(batch, *(1,) * len(shape), count)
    # The indices chosen by number come first: an alternating direction depends on another dimension's index.
    named = [d for d in range(count) if output.at[d] in ("first", "last")]
    for d in sorted(named, key=lambda d: d in transform.along and transform.direction[transform.along.index(d)].over is not None):
        last: np.ndarray | bool = output.at[d] == "last"
        if d in transform.along:
            direction = transform.direction[transform.along.index(d)]
            cycle = np.asarray(direction.cycle)
            way = cycle[where[..., direction.over] % len(cycle)] if direction.over is not None else cycle[0]
            last = (way > 0) == last
        where[..., d] = np.where(last, extent[..., d] - 1, 0)
    exists = ((where >= 0) & (where < extent)).all(axis=-1)  # the last of none is nowhere
    lead = (batch, *(sizes[d] for d in axes))
    return where.reshape(*lead, -1, count), exists.reshape(*lead, -1)
