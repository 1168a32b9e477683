"""What a thread does of a sweep in one direction, as one call of compiled code: its *job*, and where threads are given theirs.

A job is a row of words, addresses for the most part.  A thread that has done one *lingers*: it looks for the next one at its
*post* for a while before it sleeps, since the next part of a training step is only some Python away, and to wake a thread
takes longer than many a sweep.  Nothing of this holds the interpreter's lock.
"""

# pyright: basic

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types

from gridc.fusion import kernels, machine, moves, native
from gridc.fusion.gemm import CALLS
from gridc.fusion.native import breathe, intrinsic, invoke, observe, pointer, publish, word
from gridc.fusion.workspace import BLOCK
from gridc.scheduling.program import Array
from gridc.scheduling.shares import STEP

JOB = ("does", "steps", "count", "records", "transforms", "blocks", "reads", "unit", "room", "calls", "forgets", "back", "behind",
       "adds", "gate", "moves", "thread", "threads", "patience", "before", "befores", "share_before", "after", "afters",
       "share_after")  # fmt: skip
(DOES, STEPS, COUNT, RECORDS, TRANSFORMS, BLOCKS, READS, UNIT, ROOM, CALLED, FORGETS, BACK, BEHIND, ADDS, GATE, MOVES, THREAD,
 THREADS, PATIENCE, BEFORE, BEFORES, SHARE_BEFORE, AFTER, AFTERS, SHARE_AFTER) = range(len(JOB))  # fmt: skip
"""Words of a job: the function that does it; arrays with their lengths; what the machine is told; two gates and who meets there;
what is moved before and after, and whether threads share that."""
POST = 16
"""Words of a post, on lines of the cache of its own: the state of its thread, and whether it shall linger."""
STATE, CREDIT = 0, 1  # and one for what follows the way back
IDLE, LINGERS, WORKS = range(3)
"""States: nobody is there, a thread looks for a job, it does one; before that the address of the job stands there."""
VAIN = 4
"""Ways forward, or back, after which a thread does not linger, once it has lingered for nothing behind one."""
_move: Any = moves._move
_meet: Any = machine._meet
_await: Any = machine._await


_kept: list[Any] = []
"""All that was built, also where two threads have built the same: jobs have their addresses."""


@functools.cache
def doing(dtype: str) -> tuple[int, int]:
    """Give the addresses of what does a job on numbers of a type, forward and back; built at the first call, and kept."""
    return tuple(each.address for each in _doing(dtype))  # type: ignore[return-value]


@functools.cache
def _doing(dtype: str) -> tuple[Any, Any]:
    with kernels.cached(_within()):
        made = _built(np.dtype(dtype).type)
    _kept.extend(made)
    return made


@functools.cache
def _within() -> str:
    """Write out what is compiled into the functions of this module, besides what stands in it."""
    texts = [Path(each.__file__ or "").read_text(encoding="utf-8") for each in (machine, moves)]
    return "".join([*texts, *(kernels.numbers_of(names) for names in (globals(), vars(machine), vars(moves)))])


def _built(F) -> tuple[Any, Any]:  # type: ignore[no-untyped-def]
    @numba.cfunc(types.void(types.intp), cache=True, error_model="numpy")
    def ahead(at):  # type: ignore[no-untyped-def]
        unit = numba.carray(pointer(word(at, UNIT)), word(at, ROOM), F)
        times = _before(at, unit)
        machine.forward(_steps(at), _records(at), _blocks(at), unit, _calls(at), word(at, FORGETS), word(at, GATE),
                        word(at, THREAD), word(at, THREADS), word(at, PATIENCE))  # fmt: skip
        _after(at, unit, times)

    @numba.cfunc(types.void(types.intp), cache=True, error_model="numpy")
    def back(at):  # type: ignore[no-untyped-def]
        unit = numba.carray(pointer(word(at, UNIT)), word(at, ROOM), F)
        times = _before(at, unit)
        machine.backward(_steps(at), _records(at), _blocks(at), unit, _calls(at), word(at, GATE), word(at, THREAD),
                         word(at, THREADS), word(at, PATIENCE))  # fmt: skip
        _after(at, unit, times)
        machine.weights(_records(at), unit, _calls(at), word(at, THREAD), word(at, THREADS), word(at, BEHIND), word(at, ADDS))

    return ahead, back


@numba.njit(error_model="numpy")
def _steps(at: int) -> Any:
    return numba.carray(pointer(word(at, STEPS)), word(at, COUNT), STEP)


@numba.njit(error_model="numpy")
def _records(at: int) -> Any:
    return numba.carray(pointer(word(at, RECORDS)), (word(at, TRANSFORMS), len(native.RECORD)), np.int64)


@numba.njit(error_model="numpy")
def _blocks(at: int) -> Any:
    return numba.carray(pointer(word(at, BLOCKS)), (word(at, READS), len(BLOCK)), np.int64)


@numba.njit(error_model="numpy")
def _calls(at: int) -> Any:
    return numba.carray(pointer(word(at, CALLED)), len(CALLS), np.int64)


@numba.njit(error_model="numpy")
def _before(at: int, unit: Array) -> int:
    """Do a thread's part of what is moved before; give how often it has met the others for that."""
    if word(at, BEFORES) == 0:
        return 0
    words = numba.carray(pointer(word(at, BEFORE)), (word(at, BEFORES), len(moves.WORDS)), np.int64)
    gate, thread, threads, patience = word(at, MOVES), word(at, THREAD), word(at, THREADS), word(at, PATIENCE)
    if word(at, SHARE_BEFORE):
        return _move(words, unit, thread, threads, gate, patience, 0)
    if thread == 0:
        _move(words, unit, 0, 1, gate, patience, 0)
    if threads > 1:
        _meet(gate, thread, threads, patience, 1)
    return 1


@numba.njit(error_model="numpy")
def _after(at: int, unit: Array, times: int) -> None:
    """Do a thread's part of what is moved after, when it has met the others so many ``times``."""
    if word(at, AFTERS) == 0:
        return
    words = numba.carray(pointer(word(at, AFTER)), (word(at, AFTERS), len(moves.WORDS)), np.int64)
    gate, thread, threads, patience = word(at, MOVES), word(at, THREAD), word(at, THREADS), word(at, PATIENCE)
    if word(at, SHARE_AFTER):
        _move(words, unit, thread, threads, gate, patience, times)
    elif (threads == 1 or not _meet(gate, thread, threads, patience, times + 1)) and thread == 0:
        _move(words, unit, 0, 1, gate, patience, 0)


# -- posts -------------------------------------------------------------------------------------------------------------


@functools.cache
def posts() -> tuple[Any, Any, Any, Any]:
    """Give the functions ``do(job)``, ``hand(posts, jobs, threads)``, ``serve(post, job, patience)`` and ``wait(posts, jobs,
    threads, patience, failed)``, which Python calls without its lock; built at the first call."""
    with kernels.cached(_within()):
        built = [numba.cfunc(types.intp(*[types.intp] * count), cache=True, error_model="numpy")(function)
                 for function, count in ((_do, 1), (_hand, 3), (_serve, 3), (_wait, 5))]  # fmt: skip
    do, hand, serve, wait = [each.ctypes for each in built]
    _kept.extend(built)
    return do, hand, serve, wait


@intrinsic
def _exchange(typing, address, before, after):  # type: ignore[no-untyped-def]
    """Write a word where another one is at that moment; 1 where it was, and 0 where a third one is, which stays."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        found = builder.cmpxchg(place, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.zext(builder.extract_value(found, 1), ir.IntType(64))

    return types.intp(types.intp, types.intp, types.intp), code


def _do(at):  # type: ignore[no-untyped-def]
    """Do a job."""
    invoke(word(at, DOES), (at,))
    return 0


def _hand(posts, jobs, threads):  # type: ignore[no-untyped-def]
    """Give their jobs, which follow each other, to those of the threads but the first that linger; how many that are."""
    found = 0
    for k in range(1, threads):
        found += _exchange(posts + k * POST * 8, LINGERS, jobs + k * len(JOB) * 8)
    return found


def _serve(post, at, patience):  # type: ignore[no-untyped-def]
    """Do a job, and those that come while the thread lingers: it looks for one so often, and not at all where that is 0."""
    while at > WORKS and _exchange(post, at, WORKS):  # unless it has been taken back
        account = post + (CREDIT + word(at, BACK)) * 8
        invoke(word(at, DOES), (at,))
        credit = word(account, 0)
        if patience == 0 or credit < 0:
            publish(account, min(0, credit + 1))
            publish(post, IDLE)
            return 0
        publish(post, LINGERS)
        looks = 0
        while looks < patience and observe(post) == LINGERS:
            looks += 1
            breathe()
        if looks == patience:
            publish(account, -VAIN)
            if _exchange(post, LINGERS, IDLE):
                return 0
            publish(account, 0)
        at = observe(post)
    return 0


def _wait(posts, jobs, threads, patience, failed):  # type: ignore[no-untyped-def]
    """Wait until all threads but the first have done their jobs; where something ``failed``, take back what none has begun."""
    for k in range(1, threads):
        post = posts + k * POST * 8
        if failed:
            _exchange(post, jobs + k * len(JOB) * 8, IDLE)
        looks = 0
        while observe(post) > LINGERS:
            looks += 1
            if looks > patience:
                native.give_way(machine.NAP if looks > patience + machine.YIELDS else 0)
            else:
                breathe()
    return 0
