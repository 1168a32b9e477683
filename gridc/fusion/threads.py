"""The threads of gridc's own, beside which BLAS keeps to one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from gridc.fusion import blas


@functools.cache
def workers() -> ThreadPoolExecutor:
    """Give the one pool for all that gridc does, made at its first use."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="gridc")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.cache_clear)  # threads do not survive a fork


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Run the first task here and the others in threads, with one BLAS thread each where there are several.

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
        finally:
            wait_for(others)
    for other in others:
        other.result()


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
