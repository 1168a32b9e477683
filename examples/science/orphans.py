"""Worker processes that end when the one that started them is gone, however it ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

GRACE = 60.0
"""Seconds for a training to save what it has."""


def end_with_parent() -> None:
    """Watches the process that started this one: the ``initializer`` of a pool."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # a training ends after the step in hand, with all saved
    time.sleep(GRACE)
    os._exit(1)  # a pool's worker would wait for another job
