"""The part of a sweep that one of several ranks computes: its tiles as segments, and the messages between them and others'.

Rows are numbered for the whole grid by every rank, so that two ranks know, without a word, what a message holds: of each vector
that crosses the numbers once, with the memory where a state is carried on.  On the way back the same messages go the other way,
with gradients.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from gridc.language.lattice import Ints
from gridc.language.spec import GridSpec
from gridc.scheduling import graph, order
from gridc.scheduling import threads as sharing
from gridc.scheduling.layout import Layout
from gridc.scheduling.passes import assemble, wrap
from gridc.scheduling.plan import VERIFIED, Plan
from gridc.scheduling.segments import Cutter, Handover, Segment, Sweep, homes
from gridc.scheduling.tiles import Cut, Tiles


@dataclass(frozen=True)
class Delivery:
    """Where a part of a message goes: its rows ``at`` to the ``places`` among what an own ``segment`` lives on."""

    segment: int
    places: Ints
    at: Ints


@dataclass(frozen=True)
class Part:
    """Rows of one storage in a message, its memories or its hidden vectors: where the sender has them, and where they go."""

    storage: int
    memory: bool
    rows: Ints
    width: int
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True)
class Message:
    """What a tile hands to another rank, all at once: of the ``number`` by which both know it, between this rank and ``peer``."""

    peer: int
    number: int
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return sum(len(part.rows) * part.width for part in self.parts)


@dataclass(frozen=True)
class Piece(Sweep):
    """The sweep of one rank; ``arrivals`` must have come before each of its segments, ``departures`` go after it."""

    arrivals: tuple[tuple[Message, ...], ...] = ()
    departures: tuple[tuple[Message, ...], ...] = ()
    givers: tuple[int | None, ...] = ()
    """Of each read of the outputs the rank that has all of it; None where several have parts."""
    again: bool = False
    """Whether segments are run again on the way back, in one room."""

    @property
    def whole(self) -> bool:
        """Say that it keeps what other ranks' segments live on, however few its own are."""
        return False

    @functools.cached_property
    def room(self) -> tuple[int, int]:
        """How many numbers its tape and its slopes hold: what its segments live on and, unless they run again, all of them."""
        each = [(0, 0), *(segment.program.sizes for segment in self.segments)]
        tapes = [tape for tape, _ in each]
        return self.lived + (max(tapes) if self.again else sum(tapes)), max(slopes for _, slopes in each)

    @property
    def lived(self) -> int:
        """How many numbers its segments live on."""
        return sum(n * p.state for s in self.segments for n, p in zip(s.live, s.program.transforms, strict=True))


def piece(
    spec: GridSpec, sizes: tuple[int, ...], batch: int, extents: Ints | None, cut: Cut, rank: int, threads: int = 1,
    again: bool = False,
) -> Plan:  # fmt: skip
    """Plan what a rank computes of a sweep over a mini-batch, as ``plan.plan`` does the whole of one; its tiles run ``again`` on
    the way back where they are not to be kept.

    Raises UsageError where the dependences forbid the cut, with the steps that do."""
    steps = graph.build(spec, sizes, extents)
    tiles = Tiles.of(steps, cut)
    within = tiles.ordered
    chosen = order.cheapest(steps, batch, within)
    layout = Layout(steps, batch, extents, chosen, tiles.own_weights)
    program = wrap(assemble(layout.transforms, layout.batches, layout.wraps))
    owner = [np.full(p.extent, -1, np.int64) for p in program.transforms]
    for own, (cell, _) in zip(owner, layout.rows, strict=True):
        own[: len(cell)] = within.number[cell]
    turns = np.unique(np.concatenate(owner))  # tiles beyond every example's end have no rows
    turns = turns[turns >= 0]
    owner = [np.where(own < 0, -1, np.searchsorted(turns, own)) for own in owner]
    cutter = Cutter(program, layout, owner, len(turns))
    made = _piece(cutter, layout, tiles.rank[tiles.turns][turns], rank, again)
    shared = sharing.share(steps, chosen, batch, threads, spec.schedule.threads)
    shared = sharing.ALONE if shared.way == "weights" else shared  # a second thread begins with a weight's gradient anew
    found = Plan(spec, sizes, batch, chosen, made, shared)
    return found.verify() if VERIFIED else found


def _piece(cutter: Cutter, layout: Layout, rank_of: Ints, rank: int, again: bool) -> Piece:
    """Make the segments of a rank and its messages; ``rank_of`` is the rank of every segment."""
    own = np.flatnonzero(rank_of == rank).tolist()
    index = {s: n for n, s in enumerate(own)}
    handed: dict[int, list[Handover]] = defaultdict(list)
    crossing: dict[tuple[int, int], list[Handover]] = defaultdict(list)  # by giver and receiving rank
    for later in range(len(rank_of)):
        to = int(rank_of[later])
        for s, hand in cutter.handovers(later):
            if to == rank == rank_of[s]:
                handed[s].append(Handover(hand.storage, hand.rows, index[later], hand.places))
            elif rank in (to, rank_of[s]):
                crossing[s, to].append(hand)
    arrivals: list[list[Message]] = [[] for _ in own]
    departures: list[list[Message]] = [[] for _ in own]
    for (s, to), hands in sorted(crossing.items()):
        comes = to == rank
        message = Message(int(rank_of[s]) if comes else to, s, _parts(cutter, hands, index if comes else {}))
        if comes:
            arrivals[min(index[hand.later] for hand in hands)].append(message)
        else:
            departures[index[s]].append(message)
    segments: list[Segment] = [cutter.segment(s, tuple(handed[s])) for s in own]
    givers: list[int | None] = []
    for reading in layout.outputs:
        flat = reading.rows[reading.rows >= 0]
        having = np.unique(rank_of[homes(cutter.owner[reading.storage], cutter.wrapped[reading.storage])[flat]])
        givers.append(int(having[0]) if len(having) == 1 else None)
    return Piece(
        tuple(segments), tuple(reading.rows.shape for reading in layout.outputs), tuple(map(tuple, arrivals)),
        tuple(map(tuple, departures)), tuple(givers), again,
    )  # fmt: skip


def _parts(cutter: Cutter, hands: list[Handover], index: dict[int, int]) -> tuple[Part, ...]:
    """Put together what crosses: the hidden vectors of every row once, and the memories that are looked at."""
    found: list[Part] = []
    for u in sorted({hand.storage for hand in hands}):
        mine = [hand for hand in hands if hand.storage == u]
        for memory in (False, True):
            chosen = [(hand, cutter.remembered(hand) if memory else np.ones(len(hand.rows), bool)) for hand in mine]
            rows = np.unique(np.concatenate([hand.rows[which] for hand, which in chosen]))
            if len(rows):
                deliveries = tuple(Delivery(index[hand.later], hand.places[which], np.searchsorted(rows, hand.rows[which]))
                                   for hand, which in chosen if hand.later in index)  # fmt: skip
                found.append(Part(u, memory, rows, cutter.program.transforms[u].hidden, deliveries))
    return tuple(found)
