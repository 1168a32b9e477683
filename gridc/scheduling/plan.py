"""The plan of a sweep: what runs, for given sizes; the passes that make it stand below in their order.

``str(plan)`` says which order was chosen and how it lies; ``plan.listing()`` is the programs themselves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.scheduling import graph, order, segments
from gridc.scheduling import threads as sharing
from gridc.scheduling.layout import Layout
from gridc.scheduling.program import KINDS, listing
from gridc.scheduling.segments import Sweep
from gridc.scheduling.threads import ALONE, Sharing
from gridc.scheduling.verify import verify

VERIFIED = os.environ.get("GRIDC_VERIFY", "0") not in ("", "0")
"""Whether every plan is verified as it is made."""
SLOWER = 1.1
"""How much slower than the fastest an order may be, by the cost model, for the sake of memory."""
PASSES = {
    "contract": "whoever reads a `pass` waits for what it hands on instead (order.contract)",
    "order": "in which turns the steps run: the cheapest of the valid orders (order.cheapest)",
    "lay out": "a row for every step and example, and the row that each read finds (layout.Layout)",
    "segment": "consecutive batches as programs of their own, where little is to be kept (segments.cut)",
    "assemble": "a product and a cell for each batch (passes.assemble)",
    "wrap": "what wraps around is added to what enters, as soon as it is there (passes.wrap)",
    "hoist": "products of what is read early are made ahead, many rows at once (passes.hoist)",
}
"""What happens between a spec and a program, in this order."""


@dataclass(frozen=True)
class Plan:
    """A sweep over a mini-batch: the order of its steps, one program or several segments, and the threads that share them."""

    spec: GridSpec
    sizes: tuple[int, ...]
    batch: int
    order: order.Order
    sweep: Sweep
    sharing: Sharing = ALONE
    """Changes nothing of what is computed, to the last bit."""

    def __str__(self) -> str:
        sizes = " × ".join(f"{d.name} {n}" for d, n in zip(self.spec.dimensions, self.sizes, strict=True))
        lines = [f"{self.spec.name}: {sizes}, batch {self.batch}, {self.order.name}"]
        tape, slopes = self.sweep.room
        lines.append(f"{tape:,} numbers kept, {slopes:,} more backward; {self.sharing}")
        for n, segment in enumerate(self.sweep.segments):
            kinds = np.bincount(segment.program.instructions["kind"], minlength=len(KINDS))
            told = ", ".join(f"{count:,} {kind}" for count, kind in zip(kinds, KINDS, strict=True) if count)
            handed = f", lives on {sum(segment.live):,} rows" if n else ""
            lines.append(f"  segment {n}: {len(segment.program.instructions):,} instructions ({told}){handed}")
        return "\n".join(lines)

    def listing(self) -> Iterator[str]:
        """List every instruction of every program, a line each."""
        names = list(self.spec.transforms)
        yield f"examples 0:{self.batch}, {self.order.name}"
        for n, segment in enumerate(self.sweep.segments):
            if not self.sweep.whole:
                yield f"segment {n}"
            yield from listing(segment.program, names)

    def verify(self) -> Plan:
        """Give the plan back if its programs are sound.  Raises ``verify.Unsound``."""
        for segment in self.sweep.segments:
            verify(segment.program, segment.read())
        return self


def plan(
    spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None = None, threads: int = 1, room: float = math.inf,
    chosen: order.Order | None = None,
) -> Plan:  # fmt: skip
    """Plan a sweep, in the cheapest order that the page's schedule allows unless one is ``chosen``.

    ``extents`` is ``[batch, dimensions]``, each example's own sizes, or None: all alike.  No more than so many ``threads`` share
    it, which changes nothing but the time.  Where the schedule keeps less than all, it is cut into segments: for ``little``, in
    the order in which they keep least; for a number of bytes, as few as hold no more than ``room`` numbers an example."""
    steps = graph.build(spec, sizes, extents)
    keep = spec.schedule.keep
    if chosen is None:
        chosen = (order.cheapest if keep == "all" else frugal)(steps, batch)
    count = {"all": 1, "little": None}[keep] if isinstance(keep, str) else within(steps, chosen, room)
    layout = Layout(steps, batch, extents, chosen)
    made = segments.one(layout) if count == 1 else segments.cut(layout, count)
    found = Plan(spec, sizes, batch, chosen, made, sharing.share(steps, chosen, batch, threads, spec.schedule.threads))
    return found.verify() if VERIFIED else found


def frugal(steps: graph.StepGraph, batch: float) -> order.Order:
    """Choose, of the orders that are nearly as fast as the fastest, the one whose segments keep least."""
    timed = [(order.seconds(steps, each, batch), each) for each in order.orders(steps)]
    limit = SLOWER * min(seconds for seconds, _ in timed)
    able = [each for seconds, each in sorted(timed, key=lambda pair: pair[0]) if seconds <= limit]
    return able[0] if len(able) == 1 else min(able, key=lambda each: sum(single(steps, each).room))


def within(steps: graph.StepGraph, chosen: order.Order, room: float) -> int:
    """Choose the fewest segments whose tape and slopes hold no more than ``room`` numbers for one example; where none do, those
    that hold least."""
    layout = Layout(steps, 1, None, chosen)

    def held(count: int) -> int:
        return sum((segments.one(layout) if count == 1 else segments.cut(layout, count)).room)

    fewest, most = 1, segments.least(layout)
    if held(most) > room:
        return most
    while fewest < most:  # what is held falls until there are ``most``
        middle = (fewest + most) // 2
        fewest, most = (fewest, middle) if held(middle) <= room else (middle + 1, most)
    return most


def single(steps: graph.StepGraph, chosen: order.Order, room: float | None = None) -> Sweep:
    """Give the segments of one example that fills the grid: those that keep little, or the fewest within so much ``room``."""
    return segments.cut(Layout(steps, 1, None, chosen), None if room is None else within(steps, chosen, room))
