"""What goes into a sweep's states before it runs and out of them after it, as instructions that its threads share: rows that
are copied, added or summed up, which may lie anywhere.

Threads share the rows of what is copied, and the columns of what is added, since a row may be added to several times; so every
number is made in one order by one thread, whatever their number.
"""

# pyright: basic

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numba
import numpy as np

from gridc.fusion import kernels, machine
from gridc.fusion.native import copy, peek, poke, word
from gridc.fusion.registers import BYTES
from gridc.fusion.workspace import address

Array = np.ndarray[Any, Any]
Rows = Any
"""Rows of an array ``[rows, width]``: a slice, or their numbers."""

WORDS = ("kind", "count", "width", "to", "to_rows", "of", "of_rows", "of_step", "plus", "mask", "mask_rows")
KIND, COUNT, WIDTH, TO, TO_ROWS, OF, OF_ROWS, OF_STEP, PLUS, MASK, MASK_ROWS = range(len(WORDS))
COPY, ADD, SUM, MEET = range(4)
SHARED = 1 << 15
"""Numbers from which on threads share moves."""
_meet: Any = machine._meet


class Moves:
    """A list of moves.  It holds the numbers of rows, and neither what they are moved from nor where to."""

    def __init__(self) -> None:
        self._words: list[tuple[int, ...]] = []
        self._owners: list[Array] = []

    def copy(
        self, to: Array, rows: Rows, of: Array | None, places: Rows = slice(None), plus: Array | None = None,
        mask: Array | None = None, masks: Array | None = None,
    ) -> None:  # fmt: skip
        """Make ``to[rows] = of[places] + plus``: a single row ``of`` stands for all, None for zeros.

        Where there is a ``mask``, row ``masks[i]`` of it is multiplied with, unless that is negative."""
        self._add(COPY, to, rows, of, places, plus, mask, masks)

    def add(
        self, to: Array, rows: Rows, of: Array, places: Rows = slice(None), mask: Array | None = None, masks: Array | None = None
    ) -> None:  # fmt: skip
        """Add ``of[places]`` to ``to[rows]``, row by row; behind a mask as in ``copy``."""
        self._add(ADD, to, rows, of, places, None, mask, masks)

    def sum(self, to: Array, of: Array, places: Rows) -> None:
        """Add every row of ``of[places]`` to the vector ``to``."""
        self._add(SUM, to.reshape(1, -1), slice(0, 1), of, places, None, None, None)

    def meet(self) -> None:
        """Have all threads come here before any goes on."""
        self._words.append((MEET, *[0] * (len(WORDS) - 1)))

    def _add(
        self, kind: int, to: Array, rows: Rows, of: Array | None, places: Rows, plus: Array | None, mask: Array | None,
        masks: Array | None,
    ) -> None:  # fmt: skip
        width, size = to.shape[1], to.itemsize
        target, to_rows, count = self._where(to, rows)
        source, of_rows, step = 0, 0, width * size
        if of is not None and of.ndim == 1:
            source, step = address(of), 0
        elif of is not None:
            source, of_rows, found = self._where(of, places)
            count = found if kind == SUM else count
        if count and width:
            at = (address(mask), self._held(masks)) if mask is not None and masks is not None else (0, 0)
            self._words.append((kind, count, width, target, to_rows, source, of_rows, step, address(plus), *at))

    def _where(self, array: Array, rows: Rows) -> tuple[int, int, int]:
        """Give the address of some rows, that of their numbers unless they follow each other, and how many they are."""
        if isinstance(rows, slice):
            first, end, _ = rows.indices(len(array))
            return address(array) + first * array.shape[1] * array.itemsize, 0, max(0, end - first)
        return address(array), self._held(rows), len(rows)

    def _held(self, rows: Any) -> int:
        self._owners.append(np.ascontiguousarray(rows, np.int64))
        return address(self._owners[-1])

    def ready(self) -> Ready:
        """Give what runs them."""
        words = np.array(self._words, np.int64).reshape(-1, len(WORDS))
        return Ready(words, int((words[:, COUNT] * words[:, WIDTH]).sum()) >= SHARED, tuple(self._owners))


class Ready:
    """Moves as words."""

    def __init__(self, words: Array, shared: bool, owners: tuple[Array, ...]):
        self.words, self.shared, self._owners = words, shared, owners

    def at(self, words: Array) -> Ready:
        """Give the same moves at other addresses."""
        return Ready(words, self.shared, self._owners)

    def run(self, unit: Array, thread: int = 0, threads: int = 1, gate: tuple[int, int] = (0, 0), times: int = 0) -> int:
        """Do one thread's part of them, on numbers of ``unit``'s type.  Threads meet at a gate (``threads.Gate.moves``), where
        they have met so many ``times``; gives how often they have in the end."""
        return _compiled()(self.words, unit, thread, threads, *gate, times) if len(self.words) else times


@functools.cache
def _compiled() -> Any:
    text = Path(machine.__file__).read_text(encoding="utf-8")  # whose code is in this
    with kernels.cached(kernels.numbers_of(globals()) + kernels.numbers_of(vars(machine)) + text):
        return numba.njit(nogil=True, cache=True, error_model="numpy")(_move.py_func)


@numba.njit(error_model="numpy")
def _copy(unit: Array, move: Array, first: int, end: int) -> None:
    size, width, step = unit.itemsize, move[WIDTH], move[OF_STEP]
    whole = move[TO_ROWS] == 0 and move[PLUS] == 0 and move[MASK] == 0
    if whole and move[OF] == 0:
        for j in range(first * width, end * width):
            poke(unit, move[TO], j, unit.dtype.type(0), 0)
        return
    if whole and move[OF_ROWS] == 0 and step:
        copy(move[TO] + first * width * size, move[OF] + first * step, (end - first) * width * size)
        return
    for r in range(first, end):
        to = move[TO] + (word(move[TO_ROWS], r) if move[TO_ROWS] else r) * width * size
        of = move[OF] + (word(move[OF_ROWS], r) if move[OF_ROWS] else r) * step
        if move[OF] == 0:
            for j in range(width):
                poke(unit, to, j, unit.dtype.type(0), 0)
        else:
            copy(to, of, width * size)
        if move[PLUS]:
            for j in range(width):
                poke(unit, to, j, peek(unit, to, j, 0) + peek(unit, move[PLUS], j, 1), 0)
        if move[MASK]:
            _hide(unit, move, to, r, 0, width)


@numba.njit(error_model="numpy")
def _hide(unit: Array, move: Array, at: int, r: int, low: int, high: int) -> None:
    seen = word(move[MASK_ROWS], r)
    if seen >= 0:
        mask = move[MASK] + seen * move[WIDTH] * unit.itemsize
        for j in range(low, high):
            poke(unit, at, j, peek(unit, at, j, 0) * peek(unit, mask, j, 1), 0)


@numba.njit(error_model="numpy")
def _add(unit: Array, move: Array, low: int, high: int) -> None:
    size, width = unit.itemsize, move[WIDTH]
    for r in range(move[COUNT]):
        to = move[TO]
        if move[KIND] == ADD:
            to += (word(move[TO_ROWS], r) if move[TO_ROWS] else r) * width * size
        of = move[OF] + (word(move[OF_ROWS], r) if move[OF_ROWS] else r) * move[OF_STEP]
        seen = word(move[MASK_ROWS], r) if move[MASK] else -1
        if seen >= 0:
            mask = move[MASK] + seen * width * size
            for j in range(low, high):
                poke(unit, to, j, peek(unit, to, j, 0) + peek(unit, of, j, 1) * peek(unit, mask, j, 2), 0)
        else:
            for j in range(low, high):
                poke(unit, to, j, peek(unit, to, j, 0) + peek(unit, of, j, 1), 0)


@numba.njit(error_model="numpy")
def _move(words: Array, unit: Array, thread: int, threads: int, gate: int, patience: int, times: int) -> int:
    for k in range(words.shape[0]):
        move = words[k]
        if move[KIND] == MEET:
            times += 1
            if threads > 1 and _meet(gate, thread, threads, patience, times):
                return times
        elif move[KIND] == COPY:
            count = move[COUNT]
            _copy(unit, move, thread * count // threads, (thread + 1) * count // threads)
        else:
            line = BYTES // unit.itemsize
            lines = (move[WIDTH] + line - 1) // line
            low, high = thread * lines // threads * line, (thread + 1) * lines // threads * line
            if low < move[WIDTH]:
                _add(unit, move, low, min(high, move[WIDTH]))
    return times
