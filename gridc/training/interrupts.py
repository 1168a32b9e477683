"""Ctrl-C and SIGTERM that let the step in hand finish."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """While the block runs, the first Ctrl-C or SIGTERM, which schedulers of clusters send, only sets ``asked``; a second one
    interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupts:
        # Python lets only the main thread handle signals; in another one Ctrl-C stays what it was.
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one, handler in self._before.items():
            if handler is not None:  # which a handler that is none of Python's is told as
                signal.signal(one, handler)  # pyright: ignore[reportArgumentType]  # what signal() gave back

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
