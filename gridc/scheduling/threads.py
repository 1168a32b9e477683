"""How many threads share a sweep, and how: the *examples*, each thread its own; the *wavefront*, the steps of every turn; or
the *weights*, whose gradients a second thread makes behind the first, which it may help with the turns of the way forward.

Threads that share the examples hardly ever wait for each other.  Those that share the wavefront meet at every turn, which a mini-
batch of few examples needs.  The cost model weighs them; it changes nothing of what is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gridc.language import shapes
from gridc.scheduling.graph import StepGraph
from gridc.scheduling.order import Order, product_seconds

START = 65e-6, 10e-6
"""Seconds until another thread has begun, which sleeps until then, and more for each further one."""
LINGERING = 5e-6, 1e-6
"""The same of threads that have just shared the way forward, and look out for the way back."""
MEETING = 1e-6, 0.1e-6
"""Seconds of a meeting, and more for each thread: 0.1 µs for two that wait at the same time, and the rest for what one of them
then fetches from the other's cache, and for the one that is late.  Where cores have no cache in common it is twice as much, which
``fusion.pace`` finds out.  Constants, not measured here: a measurement beside other programs would be wrong by more, and the plan
is the same every time."""
FETCHED = 1.1
"""How much slower a product is whose rows come from another core's cache, as those of a shared wavefront do."""
GATE = 0.3e-9
"""Seconds of a gate of a unit, one way."""
PANEL = 32
"""Columns of a product that one thread takes at least."""


@dataclass(frozen=True)
class Sharing:
    """How many threads share a sweep, and what."""

    way: Literal["examples", "wavefront", "weights"]
    threads: int
    helps: bool = False
    """Whether the thread that makes the weights' gradients shares the wavefront of the way forward, too."""

    def __str__(self) -> str:
        if self.threads == 1:
            return "one thread"
        if self.way == "weights":
            return "a second thread makes the weights' gradients" + " and shares the wavefront before" * self.helps
        return f"{self.threads} threads share the {self.way}"


ALONE, BEHIND, HELPING = Sharing("examples", 1), Sharing("weights", 2), Sharing("weights", 2, True)


def meeting(threads: int) -> float:
    """Give the seconds that a meeting of so many threads costs."""
    return MEETING[0] + MEETING[1] * threads if threads > 1 else 0.0


def narrow(rows: int, inner: int, columns: int, threads: int) -> bool:
    """Tell whether a product goes faster where threads share its columns, and meet twice more, than where they share its rows."""
    share = -(-columns // PANEL // threads) * PANEL if columns >= PANEL else columns
    by_rows, by_columns = product_seconds(-(-rows // threads), inner, columns), product_seconds(rows, inner, share)
    return bool(by_rows > by_columns + 2 * meeting(threads))


def share(graph: StepGraph, order: Order, batch: int, threads: int, asked: str = "auto") -> Sharing:
    """Choose how no more than so many threads share a sweep: as the page ``asked``, or as the cost model prefers."""
    able = [Sharing("examples", n) for n in range(2, min(threads, batch) + 1)] if asked != "wavefront" else []
    able += [Sharing("wavefront", n) for n in range(2, threads + 1)] if asked != "examples" else []
    able += [BEHIND, HELPING] if threads > 1 and asked == "auto" else []
    work = _Work(graph, order, batch)
    return min([ALONE, *able], key=work.seconds)


class _Work:
    """The products of a forward sweep: rows, numbers read and columns of each, and whether all rows of one turn are in it."""

    def __init__(self, graph: StepGraph, order: Order, batch: int):
        self.batch = batch
        self.products: list[tuple[np.ndarray, int, int]] = []
        spec = graph.spec
        self.turns = 0
        for i, t in enumerate(spec.transforms.values()):
            columns, own = shapes.columns(spec, t), graph.weights[i]
            weights = int(own.max(initial=0)) + 1
            _, widths = np.unique(order.time[i] * weights + own, return_counts=True)
            self.turns += len(widths) * (not spec.relayed(t))
            if columns:
                self.products.append((widths * batch, spec.rows(t.name), columns))

    def seconds(self, sharing: Sharing) -> float:
        """Give the seconds of a training step: forward, back, as much arithmetic for the weights' gradients, which all threads
        share without meeting, and threads that begin forward and back."""
        n, behind = sharing.threads, sharing.way == "weights"
        start, again = ((n > 1) * each[0] + each[1] * max(0, n - 2) for each in (START, LINGERING))
        whole = self._swept(1, False)
        if not behind:
            return 2 * (self._swept(n, sharing.way == "wavefront") + self._gates(n)) + whole / n + start + again
        back = whole + self._gates(1)
        return back + (self._swept(n, True) + self._gates(n) + again if sharing.helps else back) + start

    def _swept(self, n: int, wavefront: bool) -> float:
        """Give the seconds of the products of a way forward that so many threads share."""
        total, share = wavefront * self.turns * meeting(n), -(-self.batch // n) / self.batch
        for rows, inner, columns in self.products:
            each = -(-rows // n) if wavefront else rows * share
            total += float(np.sum(product_seconds(each, inner, columns))) * (FETCHED if wavefront else 1.0)
        return total

    def _gates(self, n: int) -> float:
        """Give the seconds of all else that is computed of rows."""
        return GATE * sum(float(rows.sum()) * columns for rows, _, columns in self.products) / n
