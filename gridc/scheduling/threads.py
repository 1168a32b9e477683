"""How many threads share a sweep, and how: the *examples*, each thread its own; the *wavefront*, the steps of every turn; or
the *weights*, whose gradients a second thread makes behind the first.

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
MEETING = 2e-6, 0.1e-6
"""Seconds of a meeting, and more for each thread: 0.1 µs for two that wait at the same time, and the rest for what one of them
then fetches from the other's cache, and for the one that is late.  Constants, not measured here: a measurement beside other
programs would be wrong by more, and the plan is the same every time."""
FETCHED = 1.1
"""How much slower a product is whose rows come from another core's cache, as those of a shared wavefront do."""
PANEL = 32
"""Columns of a product that one thread takes at least."""


@dataclass(frozen=True)
class Sharing:
    """How many threads share a sweep, and what."""

    way: Literal["examples", "wavefront", "weights"]
    threads: int

    def __str__(self) -> str:
        if self.threads == 1:
            return "one thread"
        if self.way == "weights":
            return "a second thread makes the weights' gradients"
        return f"{self.threads} threads share the {self.way}"


ALONE, BEHIND = Sharing("examples", 1), Sharing("weights", 2)


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
    able += [BEHIND] * (threads > 1 and asked == "auto")
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
        """Give the seconds of a training step: a third of it forward, and two threads begin twice."""
        n, wavefront, behind = sharing.threads, sharing.way == "wavefront", sharing.way == "weights"
        share = 1.0 if behind else -(-self.batch // n) / self.batch
        total = wavefront * self.turns * meeting(n)
        for rows, inner, columns in self.products:
            each = -(-rows // n) if wavefront else rows * share
            total += float(np.sum(product_seconds(each, inner, columns))) * (FETCHED if wavefront else 1.0)
        start = (n > 1) * START[0] + START[1] * max(0, n - 2)
        return (3 - behind) * total + (2 - behind) * start
