"""How the product of a turn is cut into tiles, one for each multiprocessor or more: by a rough model of what each cut takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

MOST_THREADS = 512
"""Of a block: each then has 128 registers."""
LATENCY, BYTES = 1500, 16
"""Cycles until rows begin to come from the second level of the cache, and how many bytes of them a cycle: what tiles are compared
by, no more, and set so that what was best on an H200 comes first."""

UNITS, ROWS, EACH = (1, 2, 4, 8, 16, 32, 64), (2, 4, 8, 16, 24, 32, 48, 64, 96), (8, 4, 2)
"""The sizes of tiles that are tried: units, rows, and rows of a thread."""


@dataclass(frozen=True)
class Card:
    """What a kernel is made for: multiprocessors, the bytes of shared memory that a block may have, the architecture, and the
    most threads of a block."""

    blocks: int
    shared: int
    architecture: str = "sm_90"
    threads: int = MOST_THREADS


@dataclass(frozen=True)
class Tiles:
    """How a product is cut.

    Attributes:
        units: Units of a block, ``UT`` in ``persistent.cuh``.
        rows: Rows that it takes at a time, ``RT``.
        each: Rows of a thread, ``TR``.
        sums: Ranges of the inputs that are added up apart, ``KS``.
        parts: Blocks that share the rows of a slot.
        passes: Parts that a block has to do, one after the other; the weights stay where it is one.
        threads: Of a block.
        weights: Bytes of shared memory for a block's weights.
        room: Bytes for its rows, and then for their sums.
        cycles: What the model says that a turn takes.
    """

    units: int
    rows: int
    each: int
    sums: int
    parts: int
    passes: int
    threads: int
    weights: int
    room: int
    cycles: float


def stride(inputs: int) -> int:
    """Give the numbers between rows in shared memory: in fours an odd number, so that rows lie in different banks."""
    fours = -(-inputs // 4)
    return 4 * (fours + 1 - fours % 2)


def cuts(card: Card, slots: int, rows: int, units: int, columns: int, inputs: int) -> Iterator[Tiles]:
    """Go through the ways in which a product ``[slots, rows, inputs]`` by ``[slots, inputs, units × columns]`` can be cut."""
    four = -(-inputs // 4) * 4
    for unit, row, each in itertools.product(UNITS, ROWS, EACH):
        lanes = row // each * unit
        if unit >= 2 * units > 2 or row >= 2 * rows > 4 or row % each or each * columns > 64 or lanes > card.threads:
            continue
        sums = min(card.threads // lanes, four // 4)
        threads = -(-lanes * sums // 32) * 32
        pairs, count = slots * -(-units // unit), -(-rows // row)
        parts = min(count, max(1, card.blocks // pairs))
        passes = -(-pairs * parts // card.blocks)
        weights = 4 * four * unit * columns
        room = 4 * max(row * stride(inputs), sums * row * unit * columns)
        if weights + room > card.shared:
            continue
        warps = threads / 32
        cycles = max(each * columns, 3 * (each + columns)) * (four / 4 / sums) * max(8, warps)
        cycles += LATENCY + 4 * row * four / BYTES + 3 * sums * row * unit * columns / 32
        cycles *= passes * -(-count // parts)
        if passes > 1:
            cycles += passes * weights / BYTES
        yield Tiles(unit, row, each, sums, parts, passes, threads, weights, room, cycles + 4 * min(pairs * parts, card.blocks))


def tiles(card: Card, slots: int, rows: int, units: int, columns: int, inputs: int) -> Tiles | None:
    """Choose how a product is cut; None where no part of it has room."""
    return min(cuts(card, slots, rows, units, columns, inputs), key=lambda cut: cut.cycles, default=None)
