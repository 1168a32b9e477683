"""The threads of gridc's own, beside which BLAS keeps to one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from gridc import resources
from gridc.fusion import blas
from gridc.fusion.workspace import LINE, address, aligned
from gridc.locks import Lock
from gridc.options import MOST_THREADS

PATIENCE = 2000, 20
"""Looks at the others' progress before a thread lets others run: where each has a core, and where they have not."""
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
        self._threads, self._patience = threads, PATIENCE[threads > 1 and threads > resources.threads()]
        self._at, self._other = address(self._words), lines * LINE // 8

    def of(self, thread: int) -> tuple[int, int, int, int]:
        """Give what tells compiled code where it meets the others, and how long it looks for them."""
        return self._at, thread, self._threads, self._patience

    @property
    def moves(self) -> tuple[int, int]:
        """The same of another gate beside it, for what is done before and after."""
        return self._at + 8 * self._other, self._patience

    def open(self) -> None:
        """Let everybody through from now on: somebody will not come."""
        self._words[0] = self._words[self._other] = 1


_ALONE = Gate(1)
"""Of a thread that has nobody to meet, and so neither looks at it nor writes to it."""


def meeting(count: int, run: Callable[[int, Gate], None]) -> None:
    """Run ``run(k, gate)`` in so many threads that wait for each other at the gate, the first here.

    Where one of them fails the others are let through, and end.  One such group runs at a time: two that each had some of the
    threads that it needs would wait for ever."""
    if count == 1:
        run(0, _ALONE)
        return
    gate = Gate(count)

    def guarded(k: int) -> None:
        try:
            run(k, gate)
        except BaseException:
            gate.open()
            raise

    with _together:
        together([functools.partial(guarded, k) for k in range(count)], gate.open)


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
