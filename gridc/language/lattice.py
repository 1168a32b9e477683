"""Arithmetic on the grid's coordinates, vectorised: where a transform travels, what a read finds.

Points are integer arrays ``[n, dimensions]``; ``extent`` is the grid's size, ``[dimensions]`` or, where examples differ
in length, ``[n, dimensions]``: the size of the grid that each point belongs to.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gridc.language.spec import Direction, GridSpec, Output, Read, Selection, Transform

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Found(NamedTuple):
    """What a read finds: the point itself where ``inside``; what enters the grid where ``entering``; else the start."""

    inside: Mask
    entering: Mask


def points(sizes: tuple[int, ...]) -> Ints:
    """Every cell of a grid, the last dimension fastest."""
    return np.indices(sizes, dtype=np.int64).reshape(len(sizes), -1).T


def way(direction: Direction, at: Ints) -> Ints:
    """+1 or -1 for each point: the direction of travel there."""
    cycle = np.asarray(direction.cycle, np.int64)
    if direction.over is None:
        return np.full(len(at), cycle[0])
    return cycle[at[:, direction.over] % len(cycle)]


def source(spec: GridSpec, read: Read, at: Ints) -> Ints:
    """The points that a read looks at from the points ``at``."""
    looked = at + np.asarray(read.offset, np.int64)
    if read.via is not None:
        transform = spec.transforms[read.of]
        looked[:, read.via] -= way(transform.direction[transform.along.index(read.via)], at)
    return looked


def carried(transform: Transform, at: Ints) -> list[Ints]:
    """The points whose state enters ``at`` along each of the transform's own dimensions."""
    before: list[Ints] = []
    for axis, direction in zip(transform.along, transform.direction, strict=True):
        point = at.copy()
        point[:, axis] -= way(direction, at)
        before.append(point)
    return before


def locate(transform: Transform, at: Ints, extent: Ints) -> Found:
    """What a read of this transform finds at the points ``at``, which may lie off the grid.

    Behind the first cell of the transform's own dimension, and nowhere else off the grid, it finds what enters there."""
    within = (at >= 0) & (at < extent)
    inside: Mask = np.all(within, axis=1)
    entering = np.zeros_like(inside)
    for axis, direction in zip(transform.along, transform.direction, strict=True):
        others = np.delete(within, axis, axis=1).all(axis=1)
        behind = np.where(way(direction, at) > 0, at[:, axis] < 0, at[:, axis] >= np.broadcast_to(extent, at.shape)[:, axis])
        entering |= others & behind
    return Found(inside, entering)


def far_end(transform: Transform, at: Ints, extent: Ints) -> tuple[Ints, Mask]:
    """For points where a wrapped transform enters: the points that it left last, and whether they lie on the grid."""
    axis, direction = transform.along[0], transform.direction[0]
    point = at + np.asarray(transform.wrap, np.int64)
    last = np.broadcast_to(extent, at.shape)[:, axis] - 1
    point[:, axis] = np.where(way(direction, point) > 0, last, 0)
    return point, np.all((point >= 0) & (point < extent), axis=1)


def home(spec: GridSpec, name: str) -> str:
    """The transform among whose vectors a transform's lie: its own, or for one that is relayed that of what it hands on."""
    seen: list[str] = []
    while spec.transforms[name].relayed and name not in seen:
        seen.append(name)
        name = spec.transforms[name].reads[0].of
    return name


def weights(spec: GridSpec, transform: Transform, at: Ints, sizes: tuple[int, ...]) -> Ints:
    """Which of a transform's weights each of the points ``at`` uses: the flat index over its untied dimensions."""
    if not transform.untied:
        return np.zeros(len(at), np.int64)
    return np.ravel_multi_index([at[:, d] for d in transform.untied], [sizes[d] for d in transform.untied])


def selected(spec: GridSpec, at: tuple[Selection, ...], sizes: tuple[int, ...], where: Ints, extent: Ints) -> np.ndarray:
    """Which of the points an input's ``at`` reaches: first and last in the order of the index."""
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


def output_points(
    spec: GridSpec, output: Output, transform: Transform, sizes: tuple[int, ...], extents: Ints
) -> tuple[Ints, np.ndarray]:
    """The cells that an output reads of a transform: points ``[batch, *axes, cells, dimensions]`` and which of them exist.

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
    exists = (where < extent).all(axis=-1)
    lead = (batch, *(sizes[d] for d in axes))
    return where.reshape(*lead, -1, count), exists.reshape(*lead, -1)
