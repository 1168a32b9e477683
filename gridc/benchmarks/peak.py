"""The most that this machine's arithmetic can do: fused multiply-adds that touch nothing but registers.

It shares no code with the sweep, so that neither can flatter the other.  A loop keeps enough independent sums in vectors of the
processor's widest kind that every multiplier is busy in every cycle; as many threads as a training step may use run it at once.
In bfloat16 that is the instruction that adds two products to each sum, where the processor has it; elsewhere numbers in bfloat16
are multiplied as float32 ones are, and float32's peak is theirs.
"""

# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
import functools
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import codegen  # noqa: F401  # older versions of LLVM's binding have to be started, which Numba does

TURNS = 4_000_000
"""Of the loop in one run: some twenty milliseconds, beside which starting a thread is nothing."""
BITS = {"float32": 32, "float64": 64}
FACTOR = 0x39803980
"""2^-12 twice in bfloat16: every sum grows by 2^-23 a turn, exactly, and in one run not to 1."""


def registers() -> tuple[int, int]:
    """Give the bytes of the processor's widest vectors, and how many sums its registers hold beside two factors."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 24
    if features.get("avx"):
        return 32, 12
    return 16, 24 if platform.machine().lower() in ("arm64", "aarch64") else 12


def fuses() -> bool:
    """Tell whether the processor multiplies and adds in one instruction."""
    return platform.machine().lower() in ("arm64", "aarch64") or bool(llvm.get_host_cpu_features().get("fma"))


def pairs() -> bool:
    """Tell whether the processor adds two products of numbers in bfloat16 to a sum in one instruction."""
    return registers()[0] == 64 and bool(llvm.get_host_cpu_features().get("avx512bf16"))


def told(dtype: str) -> str:
    """Say what the peak of a dtype is that of."""
    if dtype != "bfloat16":
        return f"{dtype} multiply-adds"
    return "vdpbf16ps" if pairs() else "float32 multiply-adds: this processor has none of bfloat16"


def _numbers(dtype: str) -> str:
    """Give the type of the sums."""
    return "float32" if dtype == "bfloat16" else dtype


def flops(dtype: str = "float32") -> int:
    """Count the floating-point operations of one thread's run; a multiply-add is two."""
    width, sums = registers()
    return 2 * TURNS * sums * width * 8 // BITS[_numbers(dtype)] * (2 if dtype == "bfloat16" and pairs() else 1)


@functools.cache
def _compiled(dtype: str) -> tuple[Any, str]:
    """Compile the loop for this processor: the engine that holds it, and its assembly."""
    width, sums = registers()
    bits = BITS[_numbers(dtype)]
    lanes = width * 8 // bits
    number, word = {32: ir.FloatType(), 64: ir.DoubleType()}[bits], ir.IntType(64)
    vector, words = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(bits), lanes)
    module = ir.Module("peak")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word, vector.as_pointer()]), "peak")
    by_pairs = dtype == "bfloat16" and pairs()
    if by_pairs:
        once = ir.Function(module, ir.FunctionType(vector, [vector, words, words]), "llvm.x86.avx512bf16.dpbf16ps.512")
    else:
        once = ir.Function(module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f{bits}")
    turns, room = function.args
    start, loop, end = (function.append_basic_block(name) for name in ("start", "loop", "end"))
    builder = ir.IRBuilder(start)
    at = [builder.gep(room, [word(k)]) for k in range(sums + 2)]
    begin = [builder.load(each, align=8) for each in at]
    builder.branch(loop)
    builder.position_at_end(loop)
    turn = builder.phi(word)
    totals = [builder.phi(vector) for _ in range(sums)]
    factor, term = [builder.bitcast(each, words) for each in begin[-2:]] if by_pairs else begin[-2:]
    made = [builder.call(once, [total, factor, term]) if by_pairs or fuses()
            else builder.fadd(builder.fmul(total, factor), term) for total in totals]  # fmt: skip
    after = builder.add(turn, word(1))
    builder.cbranch(builder.icmp_signed("<", after, turns), loop, end)
    for phi, first, then in ((turn, word(0), after), *zip(totals, begin, made, strict=False)):
        phi.add_incoming(first, start)
        phi.add_incoming(then, loop)
    builder.position_at_end(end)
    for each, value in zip(at, made, strict=False):
        builder.store(value, each, align=8)
    builder.ret_void()
    text = str(module)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True)  # fmt: skip
    assembly = machine.emit_assembly(llvm.parse_assembly(text))
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    return engine, assembly


def assembly(dtype: str = "float32") -> str:
    """Give the loop as this processor's assembly."""
    return _compiled(dtype)[1]


class Peak:
    """The loop in so many threads at once: calling it runs it, and ``flops`` is how many operations that is.

    ``rooms`` holds each thread's sums and, behind them, factor and term, or two factors: words of two numbers in bfloat16."""

    def __init__(self, threads: int, dtype: str = "float32"):
        self.threads, self.flops = threads, threads * flops(dtype)
        self._engine = _compiled(dtype)[0]
        self._loop = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(self._engine.get_function_address("peak"))
        width, sums = registers()
        kind = np.dtype(_numbers(dtype))
        self.rooms = [np.full((sums + 2) * width // kind.itemsize, 0.5, kind) for _ in range(threads)]
        if dtype == "bfloat16" and pairs():
            for room in self.rooms:
                room[sums * width // kind.itemsize :].view(np.uint32)[:] = FACTOR
        self._pools = [ThreadPoolExecutor(1, "peak", _keep_to, (k,)) for k in range(threads)]

    def __call__(self) -> None:
        """Run the loop once in every thread."""
        for run in [pool.submit(self._loop, TURNS, room.ctypes.data) for pool, room in zip(self._pools, self.rooms, strict=True)]:
            run.result()


def _keep_to(core: int) -> None:
    """Hold the calling thread to one core: threads that just woke up may share one for longer than a run takes."""
    if hasattr(os, "sched_setaffinity"):  # of Linux, where 0 is the calling thread
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[core % len(mine)]})
