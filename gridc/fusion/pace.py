"""Whether threads share a run of a sweep at this moment: not where other programs keep them waiting for each other.

Threads that meet at every turn go at the pace of the one that another program has just sent away, for as long as its turn on a
core lasts: thousands of times what a meeting costs.  Nobody knows beforehand, so it is found out.  The bits of a sweep do not
depend on who makes it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Callable

from gridc.locks import Lock

if sys.platform != "win32":
    import resource

RUNS = 3
"""Runs whose times are compared."""
SENT_AWAY, OFTEN = 2, 100.0
"""How often a run's threads are sent away, at least, and how often a second, for it to be doubted that they should share the
next: where nothing else computes it is some tens of times a second, beside another program every few thousandths."""
FEWEST, MOST = 4, 256
"""Runs until it is asked again whether what was found still holds: twice as many each time that it does."""


def switches() -> int:
    """Count how often the system has taken a core from a thread of this process so far; 0 where it does not say."""
    return 0 if sys.platform == "win32" else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class Pace:
    """Of the runs of one program by several threads: whether all of them share the next one, or one thread does it alone.

    Runs in which threads were sent away are followed by some of one thread.  What took less time goes on, and is tried against
    the other again after more and more runs."""

    def __init__(self) -> None:
        self.shares = True
        self._seconds = {True: deque[float](maxlen=RUNS), False: deque[float](maxlen=RUNS)}
        self._trying, self._left, self._pause = False, 0, FEWEST
        self._lock = Lock()

    def __call__(self, run: Callable[[bool], None]) -> None:
        """Run, shared or not, and learn from what it took."""
        shared, before, start = self.shares, switches(), time.perf_counter()
        run(shared)
        self.took(shared, time.perf_counter() - start, switches() - before)

    def took(self, shared: bool, seconds: float, sent_away: int) -> None:
        """Learn that a run took so many seconds, in which threads were sent away so often."""
        with self._lock:
            own = self._seconds[shared]
            own.append(seconds)
            self._left -= 1
            self._learn(shared, own, seconds, sent_away)

    def _learn(self, shared: bool, own: deque[float], seconds: float, sent_away: int) -> None:
        if self._trying:
            if shared != self.shares:
                return  # it was begun before the trial, by another caller
            if len(own) == RUNS or not self._less(shared):  # which may be many times slower: once is enough
                self._decide(shared)
        elif self._left <= 0 and (not shared or (sent_away >= max(SENT_AWAY, OFTEN * seconds) and len(own) == RUNS)):
            self._trying, self.shares = True, not shared
            self._seconds[not shared].clear()

    def _decide(self, tried: bool) -> None:
        """End a trial of the other way: whichever took less goes on."""
        better = self._less(tried)
        self.shares, self._trying = tried if better else not tried, False
        self._pause = max(FEWEST, self._pause // 2) if better else min(MOST, 2 * self._pause)
        self._left = self._pause

    def _less(self, shared: bool) -> bool:
        """Tell whether runs that were shared, or were not, took less time than the others."""
        return statistics.median(self._seconds[shared]) < statistics.median(self._seconds[not shared])
