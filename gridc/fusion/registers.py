"""What is written for the processor's registers: the tile of a product, panels as they are laid and added up, rows that become
columns.

A tile holds ``TALLEST`` rows of two vectors each, all of whose sums stay in registers (Goto and van de Geijn 2008).
"""

# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import platform
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils, types

from gridc.fusion import bfloat16
from gridc.fusion.native import DATA, FIRST_LEVEL, PREFETCH, WRITES, intrinsic


def _features() -> set[str]:
    """Name what the processor can do for which Numba compiles: this one, or another that ``NUMBA_CPU_FEATURES`` describes."""
    told: str | None = numba.config.CPU_FEATURES
    if told is not None:
        return {word[1:] for word in told.split(",") if word.startswith("+")}
    return {word for word, there in llvm.get_host_cpu_features().items() if there}


FEATURES = _features()
BYTES = 64 if "avx512f" in FEATURES else 32 if "avx" in FEATURES else 16
"""Of the widest vector register."""
FUSES = "fma" in FEATURES or platform.machine().lower() in ("arm64", "aarch64")
"""Whether there is one instruction that multiplies and adds; without it LLVM's would be a call of a function for each number."""
DOTS = BYTES == 64 and "avx512bf16" in FEATURES
"""Whether there is one that multiplies pairs in bfloat16."""
TALLEST = 8 if BYTES == 64 else 6
"""Rows of a tile: with two vectors a row, its sums leave registers for a row of the panel (32 registers, or 16)."""


@intrinsic(prefer_literal=True)
def tile(typing, like, narrow, height, k, a, row, column, b, c, ldc, adds):  # type: ignore[no-untyped-def]
    """Set ``C = A B``, or add that to it, for at most ``TALLEST`` rows and one whole panel; addresses, and distances in bytes.

    ``A[r, i]`` is at ``a + r * row + i * column``; where ``narrow``, ``A`` and ``B`` are words."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, height, *given = arguments
        end = builder.append_basic_block("end")
        choice = builder.switch(height, end)
        for count in range(1, TALLEST + 1):
            called = _tile_of(builder.module, context.get_data_type(like.dtype), like.dtype.bitwidth, narrow.literal_value, count)
            with builder.goto_block(builder.append_basic_block(f"rows.{count}")):
                choice.add_case(count, builder.block)
                builder.call(called, given)
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.none(like, narrow, *[types.intp] * 9), code


def _tile_of(module: ir.Module, number: Any, bits: int, narrow: bool, count: int) -> ir.Function:
    """Give the function of tiles of so many rows, in a module: one of its own each, which has all registers for its loop."""
    name = f"gridc.tile.{bits}.{'words' if narrow else 'numbers'}.{count}"
    if name in module.globals:
        return module.globals[name]
    word, size = ir.IntType(64), bits // 8
    lanes = BYTES // size
    vector, places = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(32), lanes)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 8), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    k, a, row, column, b, c, ldc, adds = function.args
    entry, body, after = (function.append_basic_block(name) for name in ("entry", "body", "after"))
    builder = ir.IRBuilder(entry)
    fma = cgutils.get_or_insert_function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{bits}")
    add = lambda x, y, z: builder.call(fma, [x, y, z]) if FUSES else builder.fadd(builder.fmul(x, y), z)  # noqa: E731
    at = lambda address, kind: builder.inttoptr(address, kind.as_pointer())  # noqa: E731
    with builder.if_then(builder.icmp_signed("==", adds, word(0))):  # what is only written may be far: it comes meanwhile
        fetched, many = cgutils.get_or_insert_function(module, PREFETCH, "llvm.prefetch.p0i8"), ir.IntType(32)
        for n in range(2 * count):
            target = builder.add(builder.add(c, builder.mul(ldc, word(n // 2))), word(BYTES * (n % 2)))
            builder.call(fetched, [at(target, ir.IntType(8)), many(WRITES), many(FIRST_LEVEL), many(DATA)])
    start = builder.block
    zero, undefined = ir.Constant(vector, [0.0] * lanes), ir.Constant(vector, ir.Undefined)
    builder.cbranch(builder.icmp_signed(">", k, word(0)), body, after)

    builder.position_at_end(body)
    left, line, place = (builder.phi(word) for _ in range(3))
    sums = [builder.phi(vector) for _ in range(2 * count)]
    halves = [builder.load(at(builder.add(line, word(BYTES * h)), vector), align=size) for h in range(2)]
    totals: list[Any] = []
    for r in range(count):
        one = builder.load(at(builder.add(place, builder.mul(row, word(r))), number), align=size)
        first = builder.insert_element(undefined, one, ir.IntType(32)(0))
        spread = builder.shuffle_vector(first, undefined, ir.Constant(places, [0] * lanes))
        for h in range(2):
            given = spread, halves[h], sums[2 * r + h]
            totals.append(bfloat16.dot(builder, *given, DOTS, add) if narrow else add(*given))
    less = builder.sub(left, word(1))
    following = [less, builder.add(line, word(2 * BYTES)), builder.add(place, column), *totals]
    more = builder.cbranch(builder.icmp_signed(">", less, word(0)), body, after)
    # Unrolled by LLVM, the addresses would not have registers enough.
    plain = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    itself = ir.MDValue(module, [plain], name=str(len(module.metadata)))
    itself.operands = (itself, plain)  # the first names the loop
    more.set_metadata("llvm.loop", itself)
    for phi, before, again in zip([left, line, place, *sums], [k, b, a, *[zero] * len(sums)], following, strict=True):
        phi.add_incoming(before, start)
        phi.add_incoming(again, body)

    builder.position_at_end(after)
    made = [builder.phi(vector) for _ in sums]
    for phi, total in zip(made, totals, strict=True):
        phi.add_incoming(zero, start)
        phi.add_incoming(total, body)
    with builder.if_else(builder.icmp_signed("!=", adds, word(0))) as branches:
        for branch, adding in zip(branches, (True, False), strict=True):
            with branch:
                for n, value in enumerate(made):
                    target = at(builder.add(builder.add(c, builder.mul(ldc, word(n // 2))), word(BYTES * (n % 2))), vector)
                    value = builder.fadd(value, builder.load(target, align=size)) if adding else value
                    builder.store(value, target, align=size)
    builder.ret_void()
    return function


@intrinsic
def lay(typing, like, source, stride, rows, to, sums):  # type: ignore[no-untyped-def]
    """Lay rows of one whole panel, ``stride`` bytes apart, one after the other at ``to``, and add them in that order to the two
    vectors at ``sums``; addresses."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, source, stride, rows, to, sums = arguments
        number, word, size = context.get_data_type(like.dtype), ir.IntType(64), like.dtype.bitwidth // 8
        vector = ir.VectorType(number, BYTES // size)
        at = lambda address, h: builder.inttoptr(builder.add(address, word(h * BYTES)), vector.as_pointer())  # noqa: E731
        totals = [cgutils.alloca_once(builder, vector) for _ in range(2)]
        for h, total in enumerate(totals):
            builder.store(builder.load(at(sums, h), align=size), total)
        with cgutils.for_range(builder, rows) as loop:
            line = builder.add(source, builder.mul(loop.index, stride))
            target = builder.add(to, builder.mul(loop.index, word(2 * BYTES)))
            for h, total in enumerate(totals):
                value = builder.load(at(line, h), align=size)
                builder.store(value, at(target, h), align=size)
                builder.store(builder.fadd(builder.load(total), value), total)
        for h, total in enumerate(totals):
            builder.store(builder.load(total), at(sums, h), align=size)
        return context.get_dummy_value()

    return types.none(like, *[types.intp] * 5), code


@intrinsic
def sums_room(typing):  # type: ignore[no-untyped-def]
    """Give the address of room for the sums of a tile, for the time of a function."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        with builder.goto_entry_block():  # not cleared, as Numba's own would be
            room = builder.alloca(ir.ArrayType(ir.VectorType(ir.IntType(8), BYTES), 2 * TALLEST))
        return builder.ptrtoint(room, ir.IntType(64))

    return types.intp(), code


@intrinsic(prefer_literal=True)
def transpose(typing, like, narrow, source, stride, target):  # type: ignore[no-untyped-def]
    """Turn as many rows (``stride`` numbers apart) of one vector each into columns, the rows of a panel at ``target``.

    Rows whose numbers differ in one bit exchange halves, quarters, …: no number goes through memory on its own.  Where ``narrow``
    two vectors of each row become one of words."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, source, stride, target = arguments
        number, word, size = context.get_data_type(like.dtype), ir.IntType(64), like.dtype.bitwidth // 8
        lanes = BYTES // size
        vector, places = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(32), lanes)
        at = lambda address: builder.inttoptr(address, vector.as_pointer())  # noqa: E731
        step = builder.mul(stride, word(size))

        def load(r: int, half: int = 0) -> Any:
            return builder.load(at(builder.add(source, builder.add(builder.mul(step, word(r)), word(half * BYTES)))), align=size)

        def words(r: int) -> Any:
            both = load(r), load(r, 1)
            each = (builder.shuffle_vector(*both, ir.Constant(places, [*range(start, 2 * lanes, 2)])) for start in (0, 1))
            return bfloat16.pairs(builder, *each)

        rows = [words(r) if narrow.literal_value else load(r) for r in range(lanes)]
        s = 1
        while s < lanes:
            for i in range(lanes):
                if not i & s:
                    a, b = rows[i], rows[i + s]
                    low = [n if not n & s else lanes + n - s for n in range(lanes)]
                    high = [n + s if not n & s else lanes + n for n in range(lanes)]
                    rows[i] = builder.shuffle_vector(a, b, ir.Constant(places, low))
                    rows[i + s] = builder.shuffle_vector(a, b, ir.Constant(places, high))
            s *= 2
        for r, row in enumerate(rows):
            builder.store(row, at(builder.add(target, word(2 * BYTES * r))), align=size)
        return context.get_dummy_value()

    return types.none(like, narrow, *[types.intp] * 3), code
