"""What compiled code is made of: memory by address, calls by address, the nonlinearities.

Addresses are plain integers in compiled code.  ``peek`` and ``poke`` declare to LLVM which streams of memory never overlap,
so that rows vectorise without run-time checks.
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import os
import platform
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

intrinsic: Any = extending.intrinsic  # typed here as what it is: compiled code calls the result with other arguments

# Words of a transform's record.
RECORD = ("hidden", "columns", "inputs", "h", "m", "z", "g", "w", "b", "p", "dh", "dm", "dw", "db", "dp", "rows",
          "packed", "slots", "forward", "adjoint", "scratch", "weights", "ends", "turns", "moved", "kept", "kept_h",
          "kept_m", "kept_step", "vectors", "dp_rows", "chunk", "facts", "keys", "values", "dkeys", "dvalues", "sets",
          "scores")  # fmt: skip
(HIDDEN, COLUMNS, INPUTS, H, M, Z, G, W, B, P, DH, DM, DW, DB, DP, ROWS,
 PACKED, SLOTS, FORWARD, ADJOINT, SCRATCH, WEIGHTS, ENDS, TURNS, MOVED, KEPT, KEPT_H, KEPT_M,
 KEPT_STEP, VECTORS, DP_ROWS, CHUNK, FACTS, KEYS, VALUES, DKEYS, DVALUES, SETS, SCORES) = range(len(RECORD))  # fmt: skip
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz"}}
SIGNATURE = types.void(types.intp, types.intp, types.intp, types.intp)
WORDS = {types.float64: types.int64, types.float32: types.int32}
"""The integers that have as many bits as a number."""
NUMBERS = {word: number for number, word in WORDS.items()}
_STREAMS = 64
PREFETCH = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), *[ir.IntType(32)] * 3])
"""LLVM's: an address, what is done there, into the cache of which level, and of what."""
READS, WRITES, SECOND_LEVEL, FIRST_LEVEL, DATA = 0, 1, 2, 3, 1


def _stream_metadata(builder: ir.IRBuilder, instruction: ir.Instruction, stream: int) -> None:
    """Mark an access that never overlaps one of another stream (LLVM's scoped aliasing)."""
    if 0 <= stream < _STREAMS:
        module = builder.module
        domain = module.add_metadata([ir.MetaDataString(module, "gridc")])
        scopes = [module.add_metadata([ir.MetaDataString(module, f"stream {k}"), domain]) for k in range(_STREAMS)]
        instruction.set_metadata("alias.scope", module.add_metadata([scopes[stream]]))
        instruction.set_metadata("noalias", module.add_metadata([s for k, s in enumerate(scopes) if k != stream]))


@intrinsic(prefer_literal=True)
def peek(typing, like, address, index, stream):  # type: ignore[no-untyped-def]
    """Read number ``index`` of the array of ``like.dtype`` at this address."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[1], context.get_data_type(like.dtype).as_pointer())
        value = builder.load(builder.gep(pointer, [arguments[2]], inbounds=True))
        _stream_metadata(builder, value, stream.literal_value)
        return value

    return like.dtype(like, types.intp, types.intp, stream), code


@intrinsic(prefer_literal=True)
def poke(typing, like, address, index, value, stream):  # type: ignore[no-untyped-def]
    """Write ``value`` as number ``index`` of the array of ``like.dtype`` at this address."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[1], context.get_data_type(like.dtype).as_pointer())
        stored = builder.store(arguments[3], builder.gep(pointer, [arguments[2]], inbounds=True))
        _stream_metadata(builder, stored, stream.literal_value)
        return context.get_dummy_value()

    return types.none(like, types.intp, types.intp, like.dtype, stream), code


@intrinsic
def word(typing, address, index):  # type: ignore[no-untyped-def]
    """Read the 64-bit integer number ``index`` at this address."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load(builder.gep(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), [arguments[1]]))

    return types.intp(types.intp, types.intp), code


@intrinsic
def copy(typing, target, source, size):  # type: ignore[no-untyped-def]
    """Copy so many bytes."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointers = [builder.inttoptr(a, ir.IntType(8).as_pointer()) for a in arguments[:2]]
        cgutils.raw_memcpy(builder, *pointers, arguments[2], 1)
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.intp), code


@intrinsic
def publish(typing, address, value):  # type: ignore[no-untyped-def]
    """Write a word for another thread, which then sees all that was written before it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.none(types.intp, types.intp), code


@intrinsic
def observe(typing, address):  # type: ignore[no-untyped-def]
    """Read the word at this address as another thread published it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load_atomic(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), "acquire", 8)

    return types.intp(types.intp), code


@intrinsic
def give_way(typing, seconds):  # type: ignore[no-untyped-def]
    """Let another thread run, for so many millionths of a second where that is not 0, where the system can be asked to."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if hasattr(os, "sched_yield"):
            word = ir.IntType(32)
            rest = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), "usleep")
            turn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, []), "sched_yield")
            with builder.if_else(builder.icmp_signed(">", arguments[0], ir.IntType(64)(0))) as (sleep, other):
                with sleep:
                    builder.call(rest, [builder.trunc(arguments[0], word)])
                with other:
                    builder.call(turn, [])
        return context.get_dummy_value()

    return types.none(types.intp), code


@intrinsic
def breathe(typing):  # type: ignore[no-untyped-def]
    """Tell the core that it only waits, where it can be told."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if "x86" in platform.machine().lower() or platform.machine().lower() == "amd64":
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.none(), code


@intrinsic
def fetch(typing, address):  # type: ignore[no-untyped-def]
    """Have the core fetch what lies at this address into its cache of the second level, and not wait for it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word, byte = ir.IntType(32), ir.IntType(8)
        called = cgutils.get_or_insert_function(builder.module, PREFETCH, "llvm.prefetch.p0i8")
        place = builder.inttoptr(arguments[0], byte.as_pointer())
        builder.call(called, [place, word(READS), word(SECOND_LEVEL), word(DATA)])
        return context.get_dummy_value()

    return types.none(types.intp), code


@intrinsic
def pointer(typing, address):  # type: ignore[no-untyped-def]
    """Give the address as ``numba.carray`` takes it."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), code


@intrinsic
def invoke(typing, function, arguments):  # type: ignore[no-untyped-def]
    """Call what lies at an address with a tuple of words."""

    def code(context, builder, signature, given):  # type: ignore[no-untyped-def]
        values = cgutils.unpack_tuple(builder, given[1])
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * len(values))
        builder.call(builder.inttoptr(given[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.none(types.intp, arguments), code


@numba.njit(**OPTIONS)
def tanh_float32(x):  # type: ignore[no-untyped-def]
    """Give tanh as a quotient of polynomials, which vectorises; error below 3e-7.

    Beyond its reach it is exactly 1, so that ``1 - t * t`` is 0 and large memories do not magnify what is left."""
    F = np.float32
    reach = F(7.90531110763549805)
    given = x
    x = reach if x > reach else x
    x = -reach if x < -reach else x
    y = x * x
    p = F(-2.76076847742355e-16) * y + F(2.00018790482477e-13)
    p = p * y + F(-8.60467152213735e-11)
    p = p * y + F(5.12229709037114e-08)
    p = p * y + F(1.48572235717979e-05)
    p = p * y + F(6.37261928875436e-04)
    p = p * y + F(4.89352455891786e-03)
    q = F(1.19825839466702e-06) * y + F(1.18534705686654e-04)
    q = q * y + F(2.26843463243900e-03)
    q = q * y + F(4.89352518554385e-03)
    t = x * p / q
    t = F(1.0) if given > reach else t
    return F(-1.0) if given < -reach else t


@numba.njit(**OPTIONS)
def tanh_float64(x):  # type: ignore[no-untyped-def]
    """Give tanh as ``e / (e + 2)``, which vectorises; error 1e-15.

    ``e = exp(2 |x|) - 1 = 2^k (exp(r) - 1) + 2^k - 1``, where ``|r| <= log(2) / 2``."""
    shift = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the nearest integer in the lowest bits
    y = 2.0 * (-x if x < 0.0 else x)
    y = 40.0 if y > 40.0 else y
    k = y * 1.4426950408889634 + shift
    r = y - (k - shift) * 6.93147180369123816490e-01 - (k - shift) * 1.90821492927058770002e-10
    p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r * r + r
    power = as_number((as_bits(k) << 52) + 0x3FF0000000000000)
    e = power * p + (power - 1.0)
    t = e / (e + 2.0)
    return -t if x < 0.0 else t


@intrinsic
def as_bits(typing, x):  # type: ignore[no-untyped-def]
    """Give the bits of a number as an integer."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return WORDS[x](x), code


@intrinsic
def as_number(typing, bits):  # type: ignore[no-untyped-def]
    """Give the number that these bits are."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return NUMBERS[bits](bits), code
