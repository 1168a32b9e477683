"""The threads of gridc's own, beside which BLAS keeps to one."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from gridc.fusion import blas


@functools.cache
def workers() -> ThreadPoolExecutor:
    """One pool for all that gridc does, made at its first use."""
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="gridc")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.cache_clear)  # threads do not survive a fork


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Runs the first task here and the others in threads, with one BLAS thread each where there are several."""
    if len(tasks) == 1:
        tasks[0]()
        return
    with blas.single_threaded():
        others = [workers().submit(task) for task in tasks[1:]]
        try:
            tasks[0]()
        finally:
            errors = [other.exception() for other in others]
        for error in errors:
            if error is not None:
                raise error
