"""The section ``transforms`` of a page: cells, directions, tying, starts and reads, with their defaults filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from gridc.errors import listed
from gridc.language.grammar import Alternating, ReadAt, TransformPage, Wrap
from gridc.language.lookup import Reading, initialiser
from gridc.language.page import Path_
from gridc.language.spec import Direction, Input, Read, Transform
from gridc.tables.cells import CELLS, OPTIONS
from gridc.tables.mechanisms import SHARED, Options


class TransformReading(Reading):
    """Reads transforms."""

    def transform(self, name: str, page: TransformPage, priority: tuple[tuple[str, ...], ...]) -> Transform:
        """Read one transform, its `pass` width still open (``widths``); SpecError at whatever makes no sense."""
        at: Path_ = ("transforms", name)
        cell = CELLS[page.cell]
        along = self.along(name, page)
        least, most = cell.dimensions
        if not least <= len(along) <= most:
            allowed = f"along {least} dimension{'s' * (least > 1)}" if least == most else f"along {least} or more dimensions"
            self.fail((*at, "along"), f"transform '{name}': a {page.cell} cell travels {allowed}, not along {len(along)}")
        for option in OPTIONS:
            if option.name in page.model_fields_set and option not in cell.options:
                able = [c.name for c in CELLS.values() if option in c.options]
                self.fail((*at, option.name), f"transform '{name}': a {page.cell} cell has no {option.name}; "
                          f"{listed(able)} {'has' if len(able) == 1 else 'have'}", key=True)  # fmt: skip
        start, wrap = self.start(name, page, along)
        if page.shares is not None:
            self.known((*at, "shares"), page.shares, self.page.transforms, "transform")
            if page.shares == name or self.page.transforms[page.shares].shares is not None:
                self.fail((*at, "shares"), f"transform '{name}': shares must name a transform with weights of its own")
        takes = "hands on" if cell.relays else "takes"
        if cell.reads == "one" and "reads" not in page.model_fields_set:
            self.fail(at, f"transform '{name}': a {page.cell} cell needs the key 'reads', with the one vector that it {takes}",
                      key=True)  # fmt: skip
        if cell.reads == "itself" and page.reads is not None:
            own = "its own vector and its facts" if cell.has("attends") else "its own vector"
            self.fail((*at, "reads"), f"transform '{name}': a {page.cell} cell reads {own}; leave 'reads' out", key=True)
        entering = (Read(name, (0,) * len(self.axes), along[0]),)
        reads = entering if cell.reads == "itself" else self.reads(name, page, priority, along)
        if cell.reads == "one" and len(reads) != 1:
            self.fail((*at, "reads"), f"transform '{name}': found {len(reads)} vectors; a {page.cell} cell {takes} exactly one")
        if not reads:
            self.fail((*at, "reads"), f"transform '{name}': found no reads; expected at least one vector")
        if (page.dropout or page.zoneout) and cell.relays:
            self.fail(at, f"transform '{name}': a {page.cell} cell has nothing to drop; set it on what it reads", key=True)
        init = initialiser(page.init)
        chosen = {option.name: getattr(page, option.name) for option in OPTIONS}
        own = tuple((option.name, chosen[option.name]) for option in cell.options if option not in SHARED)
        return Transform(
            name, page.cell, page.hidden or 0, along, self.directions(name, page, along), self.untied(name, page), reads,
            page.shares, start, wrap, page.bias and not cell.relays, page.forget_bias, init,
            Options(chosen["activation"], chosen["peepholes"], own), chosen["attends"], chosen["embeddings"],
            page.dropout, page.zoneout, mechanism=cell,
        )  # fmt: skip

    def along(self, name: str, page: TransformPage) -> tuple[int, ...]:
        """Give the dimensions that a transform travels along, by index: the one whose name it bears where none is given."""
        at: Path_ = ("transforms", name)
        if page.along is None:
            if name not in self.axes:
                self.fail(at, f"transform '{name}' needs the key 'along': it bears the name of no dimension "
                          f"({listed(self.axes)})", key=True)  # fmt: skip
            return (self.axes.index(name),)
        if isinstance(page.along, str):
            return (self.axis((*at, "along"), page.along),)
        if not page.along:
            self.fail((*at, "along"), f"transform '{name}': found an empty list; expected at least one dimension")
        result = tuple(self.axis((*at, "along", i), word) for i, word in enumerate(page.along))
        if len(set(result)) < len(result):
            self.fail((*at, "along"), f"transform '{name}': along names a dimension twice")
        return result

    def directions(self, name: str, page: TransformPage, along: tuple[int, ...]) -> tuple[Direction, ...]:
        """Give one direction for each dimension travelled; SpecError for any other, or for an ``over`` that is travelled, too."""
        at: Path_ = ("transforms", name, "direction")
        if isinstance(page.direction, dict):
            ways = {self.axis((*at, key), key): (key, way) for key, way in page.direction.items()}
            for axis in ways:
                if axis not in along:
                    self.fail((*at, self.axes[axis]), f"transform '{name}' does not travel along '{self.axes[axis]}'", key=True)
            pairs = [ways.get(axis, ("", "forward"))[1] for axis in along]
        else:
            pairs = [page.direction] * len(along)
        result: list[Direction] = []
        for way in pairs:
            if isinstance(way, Alternating):
                over = self.axis((*at, "over"), way.over)
                if over in along:
                    self.fail((*at, "over"), f"transform '{name}': its direction cannot alternate over '{way.over}', "
                              "a dimension that it travels along itself")  # fmt: skip
                result.append(Direction(tuple(1 if w == "forward" else -1 for w in way.cycle), over))
            else:
                result.append(Direction((1 if way == "forward" else -1,)))
        return tuple(result)

    def untied(self, name: str, page: TransformPage) -> tuple[int, ...]:
        """Give the dimensions along which weights differ; SpecError where the size of one is known only at the call."""
        at: Path_ = ("transforms", name, "tied")
        if page.tied == "all" or CELLS[page.cell].relays:
            return ()
        tied: set[int] = set() if page.tied == "none" else {self.axis((*at, i), w) for i, w in enumerate(page.tied)}
        untied = tuple(d for d in range(len(self.axes)) if d not in tied)
        for d in untied:
            size = self.page.dimensions[self.axes[d]]
            if isinstance(size, str):
                self.fail(at, f"transform '{name}' is untied along '{self.axes[d]}', whose size '{size}' is known only at the "
                          f"call; expected a number for that size, or '{self.axes[d]}' among the tied dimensions")  # fmt: skip
        return untied

    def start(
        self, name: str, page: TransformPage, along: tuple[int, ...]
    ) -> tuple[Literal["zeros", "learned", "wrap"], tuple[int, ...]]:
        """Give how a transform starts, and the offset of a wrap on each dimension, empty where it does not wrap."""
        if not isinstance(page.start, Wrap):
            return page.start, ()
        at: Path_ = ("transforms", name, "start", "wrap")
        own, *others = along
        if others:
            self.fail(at, f"transform '{name}' travels along several dimensions; only one that travels along one can wrap")
        offsets = {self.axis((*at, key), key): value for key, value in page.start.wrap.items()}
        if own in offsets:
            self.fail((*at, self.axes[own]), f"transform '{name}' wraps along '{self.axes[own]}' itself; the offset is "
                      "on another dimension", key=True)  # fmt: skip
        if not any(offsets.values()):
            self.fail(at, f"transform '{name}': wrap needs an offset other than 0")
        return "wrap", tuple(offsets.get(d, 0) for d in range(len(self.axes)))

    def reads(
        self, name: str, page: TransformPage, priority: tuple[tuple[str, ...], ...], along: tuple[int, ...]
    ) -> tuple[Read, ...]:
        """Give what a transform reads, in order: without an offset the new vector of one before it, else what enters the cell."""
        at: Path_ = ("transforms", name, "reads")
        rank = {word: i for i, group in enumerate(priority) for word in group}
        here = (0,) * len(self.axes)
        result: list[Read] = []
        entries = list(self.page.transforms) if page.reads is None else page.reads
        for i, entry in enumerate(entries):
            if isinstance(entry, ReadAt):
                of = self.known((*at, i, "of"), entry.of, self.page.transforms, "transform")
                offset = {self.axis((*at, i, "offset", d), d): value for d, value in entry.offset.items()}
                result.append(Read(of, tuple(offset.get(d, 0) for d in range(len(self.axes)))))
                continue
            of = self.known((*at, i), entry, self.page.transforms, "transform")
            if rank[of] < rank[name]:
                result.append(Read(of, here))
            else:
                result += [Read(of, here, d) for d in self.along(of, self.page.transforms[of])]
        return tuple(result)

    def widths(self, transforms: dict[str, Transform]) -> dict[str, Transform]:
        """Fill in the units of `pass` transforms, which follow from what they read."""
        result = dict(transforms)

        def width(name: str, trail: tuple[str, ...]) -> int:
            transform, page = transforms[name], self.page.transforms[name]
            at: Path_ = ("transforms", name)
            if not transform.mechanism.relays:
                if page.hidden is None:
                    self.fail(at, f"transform '{name}' needs the key 'hidden': a positive integer", key=True)
                return page.hidden
            source = transform.reads[0].of
            if source in (*trail, name):
                if page.hidden is not None:
                    return page.hidden
                self.fail(at, f"transform '{name}': the width of its vector follows from itself; expected the key 'hidden'",
                          key=True)  # fmt: skip
            found = width(source, (*trail, name))
            if page.hidden is not None and page.hidden != found:
                self.fail((*at, "hidden"), f"transform '{name}' hands on the {found} units of '{source}'; found {page.hidden}")
            return found

        for name, transform in transforms.items():
            result[name] = replace(transform, hidden=width(name, ()))
        return result

    def facts(self, name: str, page: TransformPage, transform: Transform, inputs: dict[str, Input]) -> None:
        """Refuse a cell that attends to no input of facts, or has adjacent embeddings and a number of hops left to the call."""
        at: Path_ = ("transforms", name)
        if not transform.mechanism.has("attends"):
            return
        if transform.attends is None:
            self.fail(at, f"transform '{name}' needs the key 'attends': the name of an input of facts", key=True)
        self.known((*at, "attends"), transform.attends, inputs, "input")
        if not inputs[transform.attends].facts:
            self.fail((*at, "attends"), f"transform '{name}' attends to '{transform.attends}', which has no 'facts: true'")
        size = self.page.dimensions[self.axes[transform.along[0]]]
        if transform.embeddings == "adjacent" and isinstance(size, str):
            self.fail((*at, "embeddings"), f"transform '{name}': adjacent embeddings are one a hop, and the number of hops "
                      f"'{size}' is known only at the call")  # fmt: skip
