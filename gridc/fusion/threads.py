"""The threads of gridc's own, beside which BLAS keeps to one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from gridc import resources
from gridc.fusion import blas, jobs
from gridc.fusion.workspace import LINE, address, aligned
from gridc.locks import Lock
from gridc.options import MOST_THREADS
from gridc.scheduling.program import Array

PATIENCE = 2000, 20
"""Looks at the others' progress before a thread lets others run: where each has a core, and where they have not."""
LINGER = 20_000
"""Looks for another job before a thread that has a core sleeps."""
_together = Lock()


@functools.cache
def workers() -> ThreadPoolExecutor:
    """Give the one pool for all that gridc does, made at its first use; its threads begin when they are needed."""
    return ThreadPoolExecutor(max_workers=2 * MOST_THREADS, thread_name_prefix="gridc")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.cache_clear)  # threads do not survive a fork


def together(tasks: Sequence[Callable[[], None]], failed: Callable[[], None] | None = None) -> None:
    """Run the first task here and the others in threads, with one BLAS thread each where there are several; ``failed`` is called
    where one of them does not begin or end as it should, before the others are waited for.

    None of them still runs when this returns or raises, Ctrl-C included."""
    if len(tasks) == 1:
        tasks[0]()
        return
    others: list[Future[None]] = []
    with blas.single_threaded():
        try:
            for task in tasks[1:]:
                others.append(workers().submit(task))
            tasks[0]()
        except BaseException:
            if failed is not None:
                failed()
            raise
        finally:
            wait_for(others)
    for other in others:
        other.result()


class Gate:
    """Where so many threads meet: what compiled code looks at."""

    def __init__(self, threads: int):
        lines = threads + 1
        self._words = aligned(np.zeros((2 * lines + 1) * LINE // 8, np.int64))
        self.at = address(self._words)
        self.moves = self.at + lines * LINE
        """Another one beside it, for what is done before and after."""
        self._other = lines * LINE // 8

    def close(self) -> None:
        """Begin anew: nobody has come."""
        self._words[:] = 0

    def open(self) -> None:
        """Let everybody through from now on: somebody will not come."""
        self._words[0] = self._words[self._other] = 1


_gates: dict[int, Gate] = {}


def gate(threads: int) -> Gate:
    """Give the gate of the one group of so many threads that runs at a time: always the same, since jobs hold its address."""
    return _gates[threads] if threads in _gates else _gates.setdefault(threads, Gate(threads))


class _Posts:
    """Where the threads of a group are given their jobs, one for each but the first, which is whoever calls."""

    def __init__(self) -> None:
        self.words = aligned(np.zeros(MOST_THREADS * jobs.POST + LINE // 8, np.int64))[: MOST_THREADS * jobs.POST]
        self.rows = self.words.reshape(-1, jobs.POST)
        self.at = address(self.words)

    def begin(self, k: int, job: int, lingers: int) -> None:
        """Have a thread that nobody waits for do a job, and those that come while it lingers."""
        self.rows[k, jobs.STATE] = job
        workers().submit(jobs.posts()[2], self.at + 8 * k * jobs.POST, job, lingers)


@functools.cache
def _posts() -> _Posts:
    return _Posts()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_posts.cache_clear)


def meeting(given: Array) -> None:
    """Do the ``jobs`` of threads that wait for each other at their ``gate``, ``[threads, words]``, the first here.

    Where one of them cannot begin the others are let through, and end.  One such group runs at a time: two that each had some of
    the threads that it needs would wait for ever.  None still runs when this returns or raises, Ctrl-C included."""
    do, hand, _, wait = jobs.posts()
    count, at = len(given), address(given)
    if count == 1:
        do(at)
        return
    with _together, blas.single_threaded():
        own, there = gate(count), _posts()
        crowded = count > resources.threads()
        own.close()
        given[:, jobs.PATIENCE] = PATIENCE[crowded]
        failed = True
        try:
            if hand(there.at, at, count) < count - 1:
                for k in np.flatnonzero(there.rows[1:count, jobs.STATE] == jobs.IDLE).tolist():
                    there.begin(k + 1, at + 8 * (k + 1) * given.shape[1], 0 if crowded else LINGER)
            do(at)
            failed = False
        finally:
            if failed:
                own.open()
            wait(there.at, at, count, PATIENCE[crowded], failed)


def wait_for(futures: Sequence[Future[None]]) -> None:
    """Wait until all have ended; what interrupts it is raised then: they work on memory that whoever waits takes away."""
    interruption: BaseException | None = None
    for future in futures:
        while not future.done():
            try:
                future.exception()
            except BaseException as error:
                interruption = error
    if interruption is not None:
        raise interruption
