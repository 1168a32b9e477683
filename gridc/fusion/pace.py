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
SHORT = 0.005
"""Seconds of a run that is always doubted: its meetings may cost as much as they gain, in one moment and not in the next, since
what they cost depends on which cores of a machine a virtual one has at that time."""
SLOW = 2.0
"""Times as long as usual that a run takes which ends a trial at once."""
BUSY = 1.0
"""Seconds, at most, for which one thread that is sent away goes on before it is looked again whether it still is."""
FEWEST, SOON, LOST = 16, 0.05, 0.03
"""Runs between trials, at least, or seconds of them, and the share of the time that trials may lose."""


def switches() -> int:
    """Count how often the system has taken a core from a thread of this process so far; 0 where it does not say."""
    return 0 if sys.platform == "win32" else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class Pace:
    """Of the runs of one program by several threads, forward and back: whether all of them share the next one, or one thread does
    it alone.

    Runs in which threads were sent away, or that are short, are followed by some of the other way.  What took less time goes on,
    and is tried against the other again when all that trials have lost is a small part of the time since.  Forward and back go
    together: what one thread has just written is far from another, and a run that follows one of the other way shows it."""

    def __init__(self) -> None:
        self.shares = True
        self._seconds = {shared: (deque[float](maxlen=RUNS), deque[float](maxlen=RUNS)) for shared in (True, False)}
        self._tried: list[float] | None = None
        """Seconds of all runs of a trial, of which the first, forward and back, are not counted otherwise."""
        self._begun = [0, 0]
        self._rest, self._since, self._away = 0.0, 0.0, 0
        """Seconds of runs until the next trial, and since the last one; and how often threads have been sent away since."""
        self._lock = Lock()

    def __call__(self, back: bool, run: Callable[[bool], None]) -> None:
        """Run forward or back, shared or not, and learn from what it took."""
        shared, before, start = self.shares, switches(), time.perf_counter()
        run(shared)
        self.took(back, shared, time.perf_counter() - start, switches() - before)

    def took(self, back: bool, shared: bool, seconds: float, sent_away: int) -> None:
        """Learn that a run took so many seconds, in which threads were sent away so often."""
        with self._lock:
            if self._tried is not None:
                if shared == self.shares:  # one that was begun before the trial is another caller's
                    self._try(back, seconds)
                return
            self._seconds[shared][back].append(seconds)
            self._rest, self._since, self._away = self._rest - seconds, self._since + seconds, self._away + sent_away
            if self._rest > 0 or len(self._seconds[shared][back]) < RUNS or (shared and not _doubted(seconds, sent_away)):
                return
            if not shared and self._away > OFTEN * self._since:  # whoever is sent away alone would be waited for by others
                self._rest, self._since, self._away = min(BUSY, self._since), 0.0, 0
                return
            self.shares, self._tried, self._begun = not shared, [], [0, 0]
            for each in self._seconds[not shared]:
                each.clear()

    def _try(self, back: bool, seconds: float) -> None:
        assert self._tried is not None
        self._tried.append(seconds)
        self._begun[back] += 1
        usual = self._seconds[not self.shares][back]
        if self._begun[back] > 1:
            self._seconds[self.shares][back].append(seconds)
        slow = usual and seconds > SLOW * statistics.median(usual)
        if slow and (self._begun[back] > 1 or seconds > SHORT):  # the first has woken threads
            self._decide(False)
        elif self._begun[back] > RUNS and not 0 < self._begun[not back] <= RUNS:
            own, others = self._both()
            self._decide(own < others)

    def _both(self) -> tuple[float, float]:
        """Give the seconds of a run forward and one back as they are tried, and as they are otherwise; of one of them, where the
        other has not been tried or not been run."""
        pairs = list(zip(self._seconds[self.shares], self._seconds[not self.shares], strict=True))
        known = [[statistics.median(each) for each in pair] for pair in pairs if all(pair)]
        return sum(own for own, _ in known), sum(other for _, other in known)

    def _decide(self, better: bool) -> None:
        """End a trial: whichever took less goes on."""
        assert self._tried is not None
        usual = [statistics.median(each) if each else 0.0 for each in self._seconds[not self.shares]]
        lost = sum(self._tried) - sum(count * each for count, each in zip(self._begun, usual, strict=True))
        self._rest = max(min(FEWEST * sum(usual), SOON), lost / LOST)
        self.shares, self._tried, self._since, self._away = self.shares == better, None, 0.0, 0


def _doubted(seconds: float, sent_away: int) -> bool:
    return seconds < SHORT or sent_away >= max(SENT_AWAY, OFTEN * seconds)
