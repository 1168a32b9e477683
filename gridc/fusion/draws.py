"""Masks drawn by NumPy's generator, compiled, and by several threads: each jumps to where its numbers stand in the one stream, so
that masks and the generator's state are those that ``numpy.random.Generator.random`` leads to, to the last bit.

The generator is PCG64 (O'Neill 2014): a linear congruential generator of 128 bits, of each of whose states 64 bits are given out,
and numbers in single precision take half of these each.
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import register_jitable

from gridc import resources
from gridc.fusion import kernels
from gridc.fusion.native import intrinsic, poke
from gridc.fusion.threads import together
from gridc.fusion.workspace import address
from gridc.language.noise import Drawing, draw_in_numpy
from gridc.scheduling.program import Array

FACTOR, MODULUS = 0x2360ED051FC65DA44385DF649FCCF645, 1 << 128
FACTORS = np.uint64(FACTOR >> 64), np.uint64(FACTOR & 0xFFFFFFFFFFFFFFFF)
LARGE = 1 << 17
"""Numbers for each thread, at least, where several share the draws."""
LANES = 4
"""Stretches of the stream that a thread draws at a time: each number waits for the one before."""
BLOCK = 512
"""States of each stretch whose numbers are looked at together, as vectors."""
BITS = 24
"""Of a random number in single precision."""
MASK, AT, COUNT, HALF, EACH = range(5)
"""Words of a row of what a thread draws."""
EVEN, ODD, OVER = range(3)
"""Which half of a state is the first number: the lower, the upper, or what is left over of the state before all."""


def draw(generator: np.random.Generator, drawings: Sequence[Drawing], total: int, threads: int | None = None) -> None:
    """Draw masks as ``noise.draw_in_numpy`` does; no more than so many ``threads`` share it, None for as many as there are
    cores."""
    state = generator.bit_generator.state
    if state.get("bit_generator") != "PCG64" or numba.config.DISABLE_JIT or not drawings:
        draw_in_numpy(generator, drawings, total)
        return
    size = sum(one.mask.size for one in drawings)
    most = size // LARGE
    count = 1 if most < 2 else max(1, min(resources.threads() if threads is None else threads, most))
    own, like = state["state"], tuple([(one.before, one.mask.size, *one[1:4]) for one in drawings])
    words = np.array([*_halves(own["state"]), *_halves(own["inc"]), state["uinteger"]], np.uint64)
    fill, places, dtype = _compiled(), np.array([address(one.mask) for one in drawings]), drawings[0].mask.dtype
    parts: list[Callable[[], None]] = []
    for rows, *numbers in _parts(own["inc"], bool(state["has_uint32"]), like, count, dtype):
        rows = rows.copy()
        rows[:, AT] += places[rows[:, MASK]]
        given = np.empty((LANES, BLOCK), "<u8")  # of which the lower half is the first number
        parts.append(functools.partial(fill, rows, *numbers, words, given, given.view("<u4")))
    together(parts)
    generator.bit_generator.state = _later(state, total)


@functools.lru_cache(maxsize=64)
def _parts(increment: int, left: bool, like: tuple[Any, ...], count: int, dtype: np.dtype[Any]) -> tuple[tuple[Array, ...], ...]:
    """Give for each of so many threads what it draws, the same for every mini-batch, where half a number is ``left`` over or not:
    rows of which mask, how many bytes behind its first number, how many numbers, which half of a state is the first, and how
    many states a lane goes through; what the generator's jumps there, and of a lane, multiply by and add; limits and values."""
    size, found = sum(each[1] for each in like), list[tuple[Array, ...]]()
    for k in range(count):
        first, end, before = k * size // count, (k + 1) * size // count, 0
        rows, jumps, limits, values = list[list[int]](), list[list[int]](), list[int](), list[tuple[float, float]]()
        for mask, (at, long, rate, chosen, other) in enumerate(like):
            low, high = max(first - before, 0), min(end - before, long)
            before += long
            if low >= high:
                continue
            number = at + low - left
            half, steps = (OVER, 0) if number < 0 else (number % 2, (number + 1) // 2)
            each = (high - low - (half != EVEN)) // (2 * LANES)
            rows.append([mask, low * dtype.itemsize, high - low, half, each])
            jumps.append([word for n in (steps, each) for number in _jump(increment, n) for word in _halves(number)])
            limits.append(_limit(rate))
            values.append((chosen, other))
        # Shaped where there is nothing to draw, too.
        words = np.array(rows, np.int64).reshape(-1, EACH + 1), np.array(jumps, np.uint64).reshape(-1, 8)
        found.append((*words, np.array(limits, np.uint32), np.array(values, dtype).reshape(-1, 2)))
    return tuple(found)


def _halves(number: int) -> tuple[int, int]:
    """Give the upper and the lower 64 bits of a number of 128."""
    return number >> 64, number & 0xFFFFFFFFFFFFFFFF


def _limit(rate: float) -> int:
    """Give the least number of so many bits that is not below a rate."""
    return math.ceil(float(np.float32(rate)) * (1 << BITS))


@functools.lru_cache(maxsize=256)
def _jump(increment: int, steps: int) -> tuple[int, int]:
    """Give what so many steps multiply a state by and add to it (Brown 1994): every mini-batch asks for the same."""
    factor, plus, total, sum_ = FACTOR, increment, 1, 0
    while steps:
        if steps & 1:
            total, sum_ = total * factor % MODULUS, (sum_ * factor + plus) % MODULUS
        factor, plus, steps = factor * factor % MODULUS, (factor + 1) * plus % MODULUS, steps >> 1
    return total, sum_


def _given(state: int) -> int:
    """Give the 64 bits that a state gives out."""
    high, low = state >> 64, state & 0xFFFFFFFFFFFFFFFF
    value, turn = high ^ low, state >> 122
    return (value >> turn | value << (64 - turn)) & 0xFFFFFFFFFFFFFFFF if turn else value


def _later(state: Any, numbers: int) -> Any:
    """Give the generator's state after so many numbers in single precision."""
    if not numbers:
        return state
    left = numbers - bool(state["has_uint32"])
    own = state["state"]
    factor, plus = _jump(own["inc"], (left + 1) // 2)
    after = (factor * own["state"] + plus) % MODULUS
    half = _given(after) >> 32 if left % 2 else state["uinteger"] if left == 0 else _given(after) >> 32
    return {**state, "state": {"state": after, "inc": own["inc"]}, "has_uint32": left % 2, "uinteger": half}


@intrinsic
def _moved(typing, jump, high, low):  # type: ignore[no-untyped-def]
    """Multiply a number in two halves by the one in the first two words of a jump, and add that in the other two."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wide, word = ir.IntType(128), ir.IntType(64)

        def whole(upper: Any, lower: Any) -> Any:
            return builder.or_(builder.shl(builder.zext(upper, wide), wide(64)), builder.zext(lower, wide))

        words = cgutils.unpack_tuple(builder, arguments[0])
        state = builder.add(builder.mul(whole(*arguments[1:]), whole(*words[:2])), whole(*words[2:]))
        found = [builder.trunc(builder.lshr(state, wide(64)), word), builder.trunc(state, word)]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.uint64, 2)(jump, high, low), code


@register_jitable
def _out(high, low):  # type: ignore[no-untyped-def]
    """Give the 64 bits that a state gives out."""
    value, turn = high ^ low, high >> np.uint64(58)
    return value >> turn | value << (-turn & np.uint64(63))


@functools.cache
def _compiled() -> Any:
    with kernels.cached(kernels.numbers_of(globals())):
        return numba.njit(nogil=True, cache=True, error_model="numpy")(_fill)


def _fill(rows: Array, jumps: Array, limits: Array, values: Array, words: Array, given: Array, halves: Array) -> None:
    """Draw the masks of some ``rows`` from a state's ``words``, in ``LANES`` stretches of so many pairs each, and what is left
    after them from where the last one ends; ``given`` is room for what a block of states gives out, of which ``halves`` are the
    two numbers."""
    step, eight = (FACTORS[0], FACTORS[1], words[2], words[3]), np.uint32(8)
    for r in range(rows.shape[0]):
        at, count, half, each = rows[r, AT], rows[r, COUNT], rows[r, HALF], rows[r, EACH]
        jump, limit, chosen, other = jumps[r], limits[r], values[r, 0], values[r, 1]
        lane = (jump[4], jump[5], jump[6], jump[7])
        a, b = _moved((jump[0], jump[1], jump[2], jump[3]), words[0], words[1])
        if half:
            given[0, 0] = words[4] if half == OVER else _out(a, b)
            poke(values, at, 0, chosen if halves[0, 1 if half == ODD else 0] >> eight < limit else other, 0)
            at, count = at + values.itemsize, count - 1
        c, d = _moved(lane, a, b)
        e, f = _moved(lane, c, d)
        g, h = _moved(lane, e, f)
        for first in range(0, each, BLOCK):
            states = min(BLOCK, each - first)
            for k in range(states):
                a, b = _moved(step, a, b)
                given[0, k] = _out(a, b)
                c, d = _moved(step, c, d)
                given[1, k] = _out(c, d)
                e, f = _moved(step, e, f)
                given[2, k] = _out(e, f)
                g, h = _moved(step, g, h)
                given[3, k] = _out(g, h)
            for n in range(LANES):
                to, own = at + 2 * (n * each + first) * values.itemsize, halves[n]
                for k in range(2 * states):
                    poke(values, to, k, chosen if own[k] >> eight < limit else other, 0)
        for k in range(2 * LANES * each, count, 2):
            g, h = _moved(step, g, h)
            given[0, 0] = _out(g, h)
            for n in range(min(2, count - k)):
                poke(values, at, k + n, chosen if halves[0, n] >> eight < limit else other, 0)
