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
from numba.core import types

from gridc import resources
from gridc.fusion import kernels
from gridc.fusion.native import intrinsic
from gridc.fusion.threads import together
from gridc.language.noise import Array, Drawing, draw_in_numpy

FACTOR, MODULUS = 0x2360ED051FC65DA44385DF649FCCF645, 1 << 128
LARGE = 1 << 17
"""Numbers for each thread, at least, where several share the draws."""
LANES = 4
"""Stretches of the stream that a thread draws at a time: each number waits for the one before."""
BLOCK = 512
"""States of each stretch whose numbers are looked at together, as vectors."""
BITS = 24
"""Of a random number in single precision."""


def draw(generator: np.random.Generator, drawings: Sequence[Drawing], total: int, threads: int | None = None) -> None:
    """Draw masks as ``noise.draw_in_numpy`` does; no more than so many ``threads`` share it, None for as many as there are
    cores."""
    state = generator.bit_generator.state
    if state.get("bit_generator") != "PCG64" or numba.config.DISABLE_JIT:
        draw_in_numpy(generator, drawings, total)
        return
    size = sum(one.mask.size for one in drawings)
    most = size // LARGE
    count = 1 if most < 2 else max(1, min(resources.threads() if threads is None else threads, most))
    # What Python does for them is done here: another thread would wait for the interpreter.
    together([_part(state, drawings, k * size // count, (k + 1) * size // count) for k in range(count)])
    generator.bit_generator.state = _later(state, total)


def _part(state: Any, drawings: Sequence[Drawing], first: int, end: int) -> Callable[[], None]:
    """Give what draws the numbers ``first:end`` of all masks, one after the other."""
    before, fill, calls = 0, _compiled(), list[tuple[Any, ...]]()
    for one in drawings:
        low, high = max(first - before, 0), min(end - before, one.mask.size)
        if low < high:
            begin = _later(state, one.before + low)
            mask, at = one.mask[low:high], 0
            if begin["has_uint32"]:
                mask[0] = one.chosen if begin["uinteger"] >> (32 - BITS) < _limit(one.rate) else one.other
                at = 1
            if at < len(mask):
                calls.append(_call(begin["state"], mask[at:], one))
        before += one.mask.size

    def run() -> None:
        for call in calls:
            fill(*call)

    return run


def _call(state: Any, mask: Array, one: Drawing) -> tuple[Any, ...]:
    """Give what ``_fill`` takes to draw a mask in lanes, from where no half of a number is left over."""
    each = len(mask) // (2 * LANES)
    starts = np.empty((LANES, 2), np.uint64)
    for lane in range(LANES):
        begin = _jumped(state["state"], state["inc"], lane * each)
        starts[lane] = begin >> 64, begin & 0xFFFFFFFFFFFFFFFF
    increment = np.array([state["inc"] >> 64, state["inc"] & 0xFFFFFFFFFFFFFFFF], np.uint64)
    given = np.empty((LANES, BLOCK), "<u8")  # of which the lower half is the first number
    chosen, other = mask.dtype.type(one.chosen), mask.dtype.type(one.other)
    return mask, starts, increment, each, np.uint32(_limit(one.rate)), chosen, other, given, given.view("<u4")


def _limit(rate: float) -> int:
    """Give the least number of so many bits that is not below a rate."""
    return math.ceil(float(np.float32(rate)) * (1 << BITS))


def _jumped(state: int, increment: int, steps: int) -> int:
    """Give the state after so many steps."""
    total, sum_ = _jump(increment, steps)
    return (total * state + sum_) % MODULUS


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
    after = _jumped(own["state"], own["inc"], (left + 1) // 2)
    half = _given(after) >> 32 if left % 2 else state["uinteger"] if left == 0 else _given(after) >> 32
    return {**state, "state": {"state": after, "inc": own["inc"]}, "has_uint32": left % 2, "uinteger": half}


@intrinsic
def _step(typing, high, low, plus_high, plus_low):  # type: ignore[no-untyped-def]
    """Give the next state, its upper and its lower half, and what it gives out."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wide, word = ir.IntType(128), ir.IntType(64)

        def whole(upper: Any, lower: Any) -> Any:
            return builder.or_(builder.shl(builder.zext(upper, wide), wide(64)), builder.zext(lower, wide))

        state = builder.add(builder.mul(whole(*arguments[:2]), wide(FACTOR)), whole(*arguments[2:]))
        upper, lower = builder.trunc(builder.lshr(state, wide(64)), word), builder.trunc(state, word)
        value, turn = builder.xor(upper, lower), builder.lshr(upper, word(58))
        left = builder.and_(builder.neg(turn), word(63))
        found = builder.or_(builder.lshr(value, turn), builder.shl(value, left))
        return context.make_tuple(builder, signature.return_type, [upper, lower, found])

    return types.UniTuple(types.uint64, 3)(high, low, plus_high, plus_low), code


@functools.cache
def _compiled() -> Any:
    with kernels.cached(kernels.numbers_of(globals())):
        return numba.njit(nogil=True, cache=True, error_model="numpy")(_fill)


def _fill(
    mask: Array, starts: Array, increment: Array, each: int, limit: Any, chosen: Any, other: Any, given: Array, halves: Array
) -> None:  # fmt: skip
    """Fill a mask in ``LANES`` stretches of so many pairs ``each``, and what is left after them from where the last one ends;
    ``given`` is room for what a block of states gives out, of which ``halves`` are the two numbers."""
    p, q = increment[0], increment[1]
    a, b, c, d, e, f, g, h = (starts[0, 0], starts[0, 1], starts[1, 0], starts[1, 1], starts[2, 0], starts[2, 1], starts[3, 0],
                              starts[3, 1])  # fmt: skip
    eight = np.uint32(8)
    for first in range(0, each, BLOCK):
        count = min(BLOCK, each - first)
        for k in range(count):
            a, b, given[0, k] = _step(a, b, p, q)
            c, d, given[1, k] = _step(c, d, p, q)
            e, f, given[2, k] = _step(e, f, p, q)
            g, h, given[3, k] = _step(g, h, p, q)
        for lane in range(LANES):
            part, own = mask[2 * (lane * each + first) : 2 * (lane * each + first + count)], halves[lane]
            for k in range(2 * count):
                part[k] = chosen if own[k] >> eight < limit else other
    for k in range(2 * LANES * each, mask.shape[0], 2):
        g, h, given[0, 0] = _step(g, h, p, q)
        for half in range(min(2, mask.shape[0] - k)):
            mask[k + half] = chosen if halves[0, half] >> eight < limit else other
