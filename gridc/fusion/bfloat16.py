"""Operands of products in bfloat16, the upper half of a float32: rounded to the nearest, ties to even, and laid in pairs.

A *word* of 32 bits has two numbers that follow each other along the sum: of a row of ``A``, or of a column of ``B``, the first in
its lower half.  A product of words is made as one of float32 is, and adds both of their products to a sum in float32: by
``vdpbf16ps`` where the processor has it, else by two float32 products of the same numbers.
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from gridc.fusion.native import intrinsic, peek, poke

F = np.float32
Value = Any  # of LLVM, whose types are partly unknown
_HALF, _UPPER, _QUIET = 16, 0xFFFF0000, 0x00400000


def _like(value: Value, number: int) -> ir.Constant:
    """Give an integer as often as a value has lanes."""
    kind = value.type
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def _bits(builder: Any, x: Value) -> Value:
    word, kind = ir.IntType(32), x.type
    return builder.bitcast(x, ir.VectorType(word, kind.count) if isinstance(kind, ir.VectorType) else word)


def _rounded(builder: Any, x: Value) -> Value:
    """Give the bits of float32 numbers rounded to bfloat16, in their upper halves; the lower are to be dropped."""
    bits = _bits(builder, x)
    last = builder.and_(builder.lshr(bits, _like(bits, _HALF)), _like(bits, 1))
    near = builder.add(bits, builder.add(last, _like(bits, 0x7FFF)))
    return builder.select(builder.fcmp_unordered("uno", x, x), builder.or_(bits, _like(bits, _QUIET)), near)


def pairs(builder: Any, low: Value, high: Value) -> Value:
    """Give words of two float32 numbers each, or of vectors of them, as what has the type of these."""
    below = builder.lshr(bits := _rounded(builder, low), _like(bits, _HALF))
    above = builder.and_(bits := _rounded(builder, high), _like(bits, _UPPER))
    return builder.bitcast(builder.or_(above, below), low.type)


def dot(
    builder: Any, one: Value, other: Value, before: Value, has: bool, add: Callable[..., Value]
) -> Value:  # fmt: skip
    """Add the products of two vectors of words to sums, by the instruction where the processor ``has`` it, else by twice what
    ``add``s the product of two vectors to a third."""
    vector, words = before.type, [_bits(builder, one), _bits(builder, other)]
    if has:
        kind = ir.FunctionType(vector, [vector, words[0].type, words[0].type])
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * vector.count}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [before, *words])
    high = [builder.bitcast(builder.and_(each, _like(each, _UPPER)), vector) for each in words]
    low = [builder.bitcast(builder.shl(each, _like(each, _HALF)), vector) for each in words]
    return add(*low, add(*high, before))


@intrinsic
def pair(typing, low, high):  # type: ignore[no-untyped-def]
    """Give the word of two float32 numbers, as a float32 that only carries it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return pairs(builder, *arguments)

    return types.float32(types.float32, types.float32), code


@intrinsic
def operand(typing, narrow, x):  # type: ignore[no-untyped-def]
    """Give what a product takes of a number: that, or where ``narrow`` is not None what bfloat16 holds of it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if isinstance(narrow, types.NoneType):
            return arguments[1]
        bits = _rounded(builder, arguments[1])
        return builder.bitcast(builder.and_(bits, _like(bits, _UPPER)), arguments[1].type)

    return x(narrow, x), code


@numba.njit(error_model="numpy")
def side_by_side(source, count, odd, to):  # type: ignore[no-untyped-def]
    """Lay ``count`` numbers that follow each other as words at ``to``, behind a zero where there is an ``odd`` one before."""
    if odd:
        poke(F, to, 0, pair(F(0), peek(F, source, 0, 0)), 1)
    first, whole = source + 4 * odd, (count - odd) // 2
    for q in range(whole):
        poke(F, to, odd + q, pair(peek(F, first, 2 * q, 0), peek(F, first, 2 * q + 1, 0)), 1)
    if count > odd + 2 * whole:
        poke(F, to, odd + whole, pair(peek(F, first, 2 * whole, 0), F(0)), 1)


@numba.njit(error_model="numpy")
def one_below_another(upper, lower, count, to):  # type: ignore[no-untyped-def]
    """Lay two rows of ``count`` numbers as a row of words at ``to``; nothing but zeros where ``lower`` is 0."""
    if lower:
        for j in range(count):
            poke(F, to, j, pair(peek(F, upper, j, 0), peek(F, lower, j, 0)), 1)
    else:
        for j in range(count):
            poke(F, to, j, pair(peek(F, upper, j, 0), F(0)), 1)
