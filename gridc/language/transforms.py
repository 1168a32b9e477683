"""The section ``transforms`` of a page: cells, directions, tying, starts and reads, with their defaults filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from gridc.errors import listed
from gridc.language.grammar import Alternating, ReadAt, TransformPage, Wrap, initialiser
from gridc.language.lookup import Page
from gridc.language.page import Path_
from gridc.language.spec import Direction, Input, Read, Transform
from gridc.tables.cells import CELLS, OPTIONS
from gridc.tables.mechanisms import SHARED, Options


def transform(page: Page, name: str, section: TransformPage, priority: tuple[tuple[str, ...], ...]) -> Transform:
    """Read one transform, its `pass` width still open (``widths``); SpecError at whatever makes no sense."""
    at: Path_ = ("transforms", name)
    cell = page.cells.find(name, section.cell)
    along = _along(page, name, section)
    least, most = cell.dimensions
    if not least <= len(along) <= most:
        allowed = f"along {least} dimension{'s' * (least > 1)}" if least == most else f"along {least} or more dimensions"
        page.fail((*at, "along"), f"transform '{name}': a {section.cell} cell travels {allowed}, not along {len(along)}")
    for option in OPTIONS:
        if option.name in section.model_fields_set and option not in cell.options:
            able = [c.name for c in (*page.cells.own.values(), *CELLS.values()) if option in c.options]
            page.fail((*at, option.name), f"transform '{name}': a {section.cell} cell has no {option.name}; "
                      f"{listed(able)} {'has' if len(able) == 1 else 'have'}", key=True)  # fmt: skip
    start, wrap = _start(page, name, section, along)
    if section.shares is not None:
        page.known((*at, "shares"), section.shares, page.document.transforms, "transform")
        if section.shares == name or page.document.transforms[section.shares].shares is not None:
            page.fail((*at, "shares"), f"transform '{name}': shares must name a transform with weights of its own")
    takes = "hands on" if cell.relays else "takes"
    if cell.reads == "one" and "reads" not in section.model_fields_set:
        page.fail(at, f"transform '{name}': a {section.cell} cell needs the key 'reads', with the one vector that it {takes}",
                  key=True)  # fmt: skip
    if cell.reads == "itself" and section.reads is not None:
        own = "its own vector and its facts" if cell.has("attends") else "its own vector"
        page.fail((*at, "reads"), f"transform '{name}': a {section.cell} cell reads {own}; leave 'reads' out", key=True)
    entering = (Read(name, (0,) * len(page.axes), along[0]),)
    reads = entering if cell.reads == "itself" else _reads(page, name, section, priority)
    if cell.reads == "one" and len(reads) != 1:
        page.fail((*at, "reads"), f"transform '{name}': found {len(reads)} vectors; a {section.cell} cell {takes} exactly one")
    if not reads and not any(name in (x.joins or ()) for x in page.document.inputs.values()):
        page.fail((*at, "reads"), f"transform '{name}': found no reads; expected at least one vector, or an input that joins")
    if (section.dropout or section.zoneout) and cell.relays:
        page.fail(at, f"transform '{name}': a {section.cell} cell has nothing to drop; set it on what it reads", key=True)
    init = cell.init if cell.init is not None and "init" not in section.model_fields_set else initialiser(section.init)
    chosen = {option.name: getattr(section, option.name) for option in OPTIONS}
    own = tuple((option.name, chosen[option.name]) for option in cell.options if option not in SHARED)
    return Transform(
        name, section.cell, section.hidden or 0, along, _directions(page, name, section, along), _untied(page, name, section),
        reads, section.shares, start, wrap, section.bias and not cell.relays, section.forget_bias, init,
        Options(chosen["activation"], chosen["peepholes"], own), chosen["attends"], chosen["embeddings"],
        section.dropout, section.zoneout, mechanism=cell,
    )  # fmt: skip


def _along(page: Page, name: str, section: TransformPage) -> tuple[int, ...]:
    """Give the dimensions that a transform travels along, by index: the one whose name it bears where none is given."""
    at: Path_ = ("transforms", name)
    if section.along is None:
        if name not in page.axes:
            page.fail(at, f"transform '{name}' needs the key 'along': it bears the name of no dimension "
                      f"({listed(page.axes)})", key=True)  # fmt: skip
        return (page.axes.index(name),)
    if isinstance(section.along, str):
        return (page.axis((*at, "along"), section.along),)
    if not section.along:
        page.fail((*at, "along"), f"transform '{name}': found an empty list; expected at least one dimension")
    result = tuple(page.axis((*at, "along", i), word) for i, word in enumerate(section.along))
    if len(set(result)) < len(result):
        page.fail((*at, "along"), f"transform '{name}': along names a dimension twice")
    return result


def _directions(page: Page, name: str, section: TransformPage, along: tuple[int, ...]) -> tuple[Direction, ...]:
    """Give one direction for each dimension travelled; SpecError for any other, or for an ``over`` that is travelled, too."""
    at: Path_ = ("transforms", name, "direction")
    if isinstance(section.direction, dict):
        ways = {page.axis((*at, key), key): (key, way) for key, way in section.direction.items()}
        for axis in ways:
            if axis not in along:
                page.fail((*at, page.axes[axis]), f"transform '{name}' does not travel along '{page.axes[axis]}'", key=True)
        pairs = [ways.get(axis, ("", "forward"))[1] for axis in along]
    else:
        pairs = [section.direction] * len(along)
    result: list[Direction] = []
    for way in pairs:
        if isinstance(way, Alternating):
            over = page.axis((*at, "over"), way.over)
            if over in along:
                page.fail((*at, "over"), f"transform '{name}': its direction cannot alternate over '{way.over}', "
                          "a dimension that it travels along itself")  # fmt: skip
            result.append(Direction(tuple(1 if w == "forward" else -1 for w in way.cycle), over))
        else:
            result.append(Direction((1 if way == "forward" else -1,)))
    return tuple(result)


def _untied(page: Page, name: str, section: TransformPage) -> tuple[int, ...]:
    """Give the dimensions along which weights differ; SpecError where the size of one is known only at the call."""
    at: Path_ = ("transforms", name, "tied")
    if section.tied == "all" or page.cells.find(name, section.cell).relays:
        return ()
    tied: set[int] = set() if section.tied == "none" else {page.axis((*at, i), w) for i, w in enumerate(section.tied)}
    untied = tuple(d for d in range(len(page.axes)) if d not in tied)
    for d in untied:
        size = page.document.dimensions[page.axes[d]]
        if isinstance(size, str):
            page.fail(at, f"transform '{name}' is untied along '{page.axes[d]}', whose size '{size}' is known only at the "
                      f"call; expected a number for that size, or '{page.axes[d]}' among the tied dimensions")  # fmt: skip
    return untied


def _start(
    page: Page, name: str, section: TransformPage, along: tuple[int, ...]
) -> tuple[Literal["zeros", "learned", "wrap"], tuple[int, ...]]:
    """Give how a transform starts, and the offset of a wrap on each dimension, empty where it does not wrap."""
    if not isinstance(section.start, Wrap):
        return section.start, ()
    at: Path_ = ("transforms", name, "start", "wrap")
    own, *others = along
    if others:
        page.fail(at, f"transform '{name}' travels along several dimensions; only one that travels along one can wrap")
    offsets = {page.axis((*at, key), key): value for key, value in section.start.wrap.items()}
    if own in offsets:
        page.fail((*at, page.axes[own]), f"transform '{name}' wraps along '{page.axes[own]}' itself; the offset is "
                  "on another dimension", key=True)  # fmt: skip
    if not any(offsets.values()):
        page.fail(at, f"transform '{name}': wrap needs an offset other than 0")
    return "wrap", tuple(offsets.get(d, 0) for d in range(len(page.axes)))


def _reads(page: Page, name: str, section: TransformPage, priority: tuple[tuple[str, ...], ...]) -> tuple[Read, ...]:
    """Give what a transform reads, in order: without an offset the new vector of one before it, else what enters the cell."""
    at: Path_ = ("transforms", name, "reads")
    rank = {word: i for i, group in enumerate(priority) for word in group}
    here = (0,) * len(page.axes)
    result: list[Read] = []
    entries = list(page.document.transforms) if section.reads is None else section.reads
    for i, entry in enumerate(entries):
        if isinstance(entry, ReadAt):
            of = page.known((*at, i, "of"), entry.of, page.document.transforms, "transform")
            offset = {page.axis((*at, i, "offset", d), d): value for d, value in entry.offset.items()}
            result.append(Read(of, tuple(offset.get(d, 0) for d in range(len(page.axes)))))
            continue
        of = page.known((*at, i), entry, page.document.transforms, "transform")
        if rank[of] < rank[name]:
            result.append(Read(of, here))
        else:
            result += [Read(of, here, d) for d in _along(page, of, page.document.transforms[of])]
    return tuple(result)


def widths(page: Page, transforms: dict[str, Transform]) -> dict[str, Transform]:
    """Fill in the units of `pass` transforms, which follow from what they read."""
    result = dict(transforms)

    def width(name: str, trail: tuple[str, ...]) -> int:
        transform, section = transforms[name], page.document.transforms[name]
        at: Path_ = ("transforms", name)
        if not transform.mechanism.relays:
            if section.hidden is None:
                page.fail(at, f"transform '{name}' needs the key 'hidden': a positive integer", key=True)
            return section.hidden
        source = transform.reads[0].of
        if source in (*trail, name):
            if section.hidden is not None:
                return section.hidden
            page.fail(at, f"transform '{name}': the width of its vector follows from itself; expected the key 'hidden'",
                      key=True)  # fmt: skip
        found = width(source, (*trail, name))
        if section.hidden is not None and section.hidden != found:
            page.fail((*at, "hidden"), f"transform '{name}' hands on the {found} units of '{source}'; found {section.hidden}")
        return found

    for name, transform in transforms.items():
        result[name] = replace(transform, hidden=width(name, ()))
    return result


def facts(page: Page, name: str, section: TransformPage, transform: Transform, inputs: dict[str, Input]) -> None:
    """Refuse a cell that attends to no input of facts, or has adjacent embeddings and a number of hops left to the call."""
    at: Path_ = ("transforms", name)
    if not transform.mechanism.has("attends"):
        return
    if transform.attends is None:
        page.fail(at, f"transform '{name}' needs the key 'attends': the name of an input of facts", key=True)
    page.known((*at, "attends"), transform.attends, inputs, "input")
    if not inputs[transform.attends].facts:
        page.fail((*at, "attends"), f"transform '{name}' attends to '{transform.attends}', which has no 'facts: true'")
    size = page.document.dimensions[page.axes[transform.along[0]]]
    if transform.embeddings == "adjacent" and isinstance(size, str):
        page.fail((*at, "embeddings"), f"transform '{name}': adjacent embeddings are one a hop, and the number of hops "
                  f"'{size}' is known only at the call")  # fmt: skip
