"""Runs a rank's piece of a sweep: tile after tile, between messages of what crosses to other ranks; back the other way.

Nobody waits for a message to be taken: its numbers stay until the sweep's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np

from gridc.fusion import back, run
from gridc.fusion.buffers import fresh
from gridc.fusion.moves import Moves
from gridc.fusion.run import Inputs, Totals, part_of
from gridc.fusion.workspace import Array
from gridc.scheduling.pipeline import Message, Part, Piece
from gridc.scheduling.tiles import Cut


class Post(Protocol):
    """Carries vectors of numbers between the ranks."""

    def send(self, to: int, number: int, numbers: Array) -> None:
        """Begin to send; the numbers must stay as they are until ``sent``."""
        ...

    def receive(self, source: int, number: int, numbers: Array) -> None:
        """Wait for the message of that number, and fill the numbers with it."""
        ...

    def sent(self) -> None:
        """Wait until all that was sent has been taken."""
        ...

    def share(self, numbers: Array, giver: int | None) -> None:
        """Let all ranks have the numbers of the one that gives them, or the sum of all."""
        ...


@dataclass(frozen=True)
class Stage:
    """One rank's place in a pipeline: how the grid is cut, which rank it is, and how it talks to the others."""

    cut: Cut
    rank: int
    post: Post = field(compare=False, repr=False)


def forward(inputs: Inputs, post: Post, tape: Array, packed: Array, forgets: bool = False) -> list[Array]:
    """Compute this rank's tiles, fill the tape with what ``backward`` needs, unless it ``forgets``, and give what outputs read of
    all ranks' tiles, as ``run.forward``."""
    taps = run.empty_taps(inputs)
    made = _Forward(inputs, tape, tape[:0], packed, taps)
    made.post, made.forgets = post, forgets
    made.forward(forgets)
    post.sent()
    for tap, giver in zip(taps, made.piece.givers, strict=True):
        post.share(tap, giver)
    return taps


def backward(
    inputs: Inputs, post: Post, tape: Array, slopes: Array, packed: Array, taps: Sequence[Array], out: Totals,
    asked: Callable[[str], bool],
) -> None:  # fmt: skip
    """Given the gradients of what outputs read, fill ``out`` with what this rank's tiles add to those of the arrays of every
    role; uses up the tape."""
    back.clear(inputs, out)
    made = _Backward(inputs, tape, slopes, packed, [np.ascontiguousarray(tap) for tap in taps], out, asked)
    made.post = post
    made.run()
    post.sent()


class _Tiles(run.Run):
    """The rooms of a rank's segments, and its messages."""

    post: Post
    forgets = False

    @property
    def piece(self) -> Piece:
        """What this rank runs."""
        return cast(Piece, self.swept)

    def tape(self, s: int) -> Array:
        """Give what a segment works in: a room of its own, unless nothing goes back or all are run again."""
        if self.forgets or self.piece.again:
            return self.room
        sizes = [segment.program.sizes[0] for segment in self.swept.segments[:s]]
        return self.room[sum(sizes) :]

    def parts(self, message: Message, numbers: Array) -> Iterator[tuple[Part, Array]]:
        """Give every part of a message with its rows, ``[rows, width]``: views."""
        at = 0
        for part in message.parts:
            size = len(part.rows) * part.width
            yield part, numbers[at : at + size].reshape(-1, part.width)
            at += size

    def kept_at(self, part: Part, segment: int) -> Array:
        """Give the rows on which a segment lives in a part's storage."""
        found = self.kept[segment][part.storage][part.memory]
        assert found is not None
        return found

    def state(self, part: Part, hidden: list[Array], memories: list[Array | None]) -> Array:
        """Give the vectors among which a part's rows are."""
        found = memories[part.storage] if part.memory else hidden[part.storage]
        assert found is not None
        return found

    def fresh(self, message: Message) -> Array:
        """Make room for a message."""
        return fresh(message.size, self.inputs.dtype)


class _Forward(_Tiles):
    """The way forward."""

    def arrive(self, s: int) -> None:
        """Wait for what other ranks hand over."""
        for message in self.piece.arrivals[s]:
            numbers = self.fresh(message)
            self.post.receive(message.peer, message.number, numbers)
            for part, rows in self.parts(message, numbers):
                for one in part.deliveries:
                    self.kept_at(part, one.segment)[one.places] = rows[one.at]

    def depart(self, s: int) -> None:
        """Hand on what other ranks live on."""
        space = self.workspace(s)
        for message in self.piece.departures[s]:
            numbers = self.fresh(message)
            for part, rows in self.parts(message, numbers):
                self.state(part, space.h, space.m).take(part.rows, axis=0, out=rows, mode="clip")
            self.post.send(message.peer, message.number, numbers)


class _Backward(back.Backward, _Tiles):
    """The way back."""

    def run(self) -> None:
        """Go back through the segments; the weights' gradients are added to those of all."""
        total, last = self.inputs.parameters(self.out), len(self.swept.segments) - 1
        for array in total.all():
            array.fill(0)
        for s in range(last, -1, -1):
            if self.piece.again and s < last:
                self.ahead(s, forgets=False, gives=False)
            self.settle(s)
            self.back(s, part_of(total, self.swept.segments[s].weights), adds=True, settled=True)
            self.handed_back(s)

    def settle(self, s: int) -> None:
        """Add up the gradients of what outputs, later segments and other ranks read."""
        space, moves = self.slopes_of(s), Moves()
        self.receive(s, space, moves)
        moves.ready().run(space.tape)
        for message in self.piece.departures[s]:
            numbers = self.fresh(message)
            self.post.receive(message.peer, message.number, numbers)
            for part, rows in self.parts(message, numbers):
                self.state(part, space.dh, space.dm)[part.rows] += rows

    def handed_back(self, s: int) -> None:
        """Hand the gradients of what the segment lived on back to other ranks."""
        for message in self.piece.arrivals[s]:
            numbers = self.fresh(message)
            numbers.fill(0)
            for part, rows in self.parts(message, numbers):
                for one in part.deliveries:
                    rows[one.at] += self.kept_at(part, one.segment)[one.places]
            self.post.send(message.peer, message.number, numbers)
