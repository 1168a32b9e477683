"""The unrolled grid as a picture: a box a cell, arrows that carry states, inputs where they enter, outputs where they read."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridc.insight.timing import Timing
from gridc.language import lattice, printing
from gridc.language.lattice import Ints, carried, points, source
from gridc.language.spec import GridSpec, Input, Output, Selection, Transform
from gridc.pictures.cell_drawing import colours
from gridc.pictures.scene import INK, INPUT, OUTPUT, PAPER, SHADE, SOFT, Line, Scene, Text, rectangle

SMALL, SOLID = (6, 4), (4, 3, 2)
"""How many cells of each dimension the unrolled grid shows, in two dimensions and in three."""
CELL, PITCH, WIDE_PITCH = 46.0, 86.0, 118.0
"""A cell's side, and from one cell to the next: in three dimensions there must be room for the next plane's cells between."""


def example(spec: GridSpec) -> Timing:
    """Make a schedule to draw where only a spec is given: symbols are as large as the picture has room for."""
    room = _room(spec)
    return Timing(spec, tuple(room[min(i, len(room) - 1)] if isinstance(d.size, str) else d.size
                                for i, d in enumerate(spec.dimensions)))  # fmt: skip


def _room(spec: GridSpec) -> tuple[int, ...]:
    return SMALL if len(spec.dimensions) < 3 else SOLID


def cut(plan: Timing, most: tuple[int, ...]) -> Timing:
    """Make the grid no larger than there is room for; dimensions after the third at one cell."""
    room = [most[d] if d < len(most) else 1 for d in range(len(plan.sizes))]
    return Timing(plan.spec, tuple(min(n, r) for n, r in zip(plan.sizes, room, strict=True)))


def caption(plan: Timing, shown: Timing) -> str:
    """Say how large a grid is, and how much of it is drawn: ``time T = 50 (6 drawn) × depth 3``."""
    parts: list[str] = []
    for d, n, m in zip(plan.spec.dimensions, plan.sizes, shown.sizes, strict=True):
        size = f"{d.size} = {n}" if isinstance(d.size, str) else str(n)
        parts.append(f"{d.name} {size}" + (f" ({m} drawn)" if m < n else ""))
    return " × ".join(parts)


# -- the unrolled grid ---------------------------------------------------------------------------------------------------


def grid_scene(plan: Timing) -> Scene:
    """Draw the grid unrolled: a box a cell, an arrow a state that travels (double where a memory goes with it),
    explicit reads from other cells dashed, inputs where they enter or join, outputs where they are read."""
    spec, small = plan.spec, cut(plan, _room(plan.spec))
    result = Scene(f"{spec.name}, unrolled: {caption(plan, small)}")
    colour, at = colours(spec), points(small.sizes)
    # Farther planes first, so that nearer ones cover them.
    order = sorted(range(len(at)), key=lambda i: tuple(-x for x in at[i][2:].tolist()))
    behind, front = Scene(""), Scene("")
    for t in spec.transforms.values():
        _states(behind, small, t, colour[t.name])
        _far_reads(behind, small, t, colour[t.name])
    for i in order:
        x, y = _corner(at[i])
        note = ", ".join(f"{d.name} {n}" for d, n in zip(spec.dimensions, at[i].tolist(), strict=True))
        front.add(rectangle(x, y, CELL, CELL, fill=SHADE, stroke=INK, width=1.2, radius=5, note=note))
        _inside(front, spec, x, y)
    _inputs(front, small)
    _outputs(front, small)
    result.add(*behind.shapes, *front.shapes)
    left, top, _, height = result.bounds(0)
    _legend(result, spec, left, top + height + 22)
    result.add(Text(left, top - 22, f"{spec.name}: {caption(plan, small)}", 13, INK, "start", bold=True))
    return result


def columns_of(count: int) -> int:
    """Into how many columns the transforms of a cell are put."""
    return count if count <= 3 else int(np.ceil(np.sqrt(count)))


def _corner(at: Any) -> tuple[float, float]:
    """Find the upper left corner of a cell: the first dimension to the right, the second upwards, the third into the depth."""
    pitch = PITCH if len(at) < 3 else WIDE_PITCH
    x, y = float(at[0]) * pitch, -float(at[1]) * pitch if len(at) > 1 else 0.0
    if len(at) > 2:
        x, y = x + float(at[2]) * 0.52 * pitch, y - float(at[2]) * 0.5 * pitch
    return x, y


def _middle(at: Any) -> tuple[float, float]:
    x, y = _corner(at)
    return x + CELL / 2, y + CELL / 2


def _edge(at: Any, towards: Any, shift: float) -> tuple[float, float]:
    """Where the line from a cell towards another one leaves its box, moved sideways by ``shift``."""
    (ax, ay), (bx, by) = _middle(at), _middle(towards)
    dx, dy = bx - ax, by - ay
    long = max(abs(dx), abs(dy), 1e-9)
    reach = CELL / 2 / long
    norm = max((dx * dx + dy * dy) ** 0.5, 1e-9)
    return ax + dx * reach - dy / norm * shift, ay + dy * reach + dx / norm * shift


def _lane(spec: GridSpec, t: Transform) -> float:
    """How far to the side a transform's arrows run, so that those along one dimension do not cover each other."""
    peers = [u.name for u in spec.transforms.values() if set(u.along) & set(t.along)]
    return 9.0 * (peers.index(t.name) - (len(peers) - 1) / 2)


def _states(scene: Scene, plan: Timing, t: Transform, colour: str) -> None:
    at = points(plan.sizes)
    extent = np.asarray(plan.sizes)
    lane = _lane(plan.spec, t)
    for before in carried(t, at):
        inside: list[bool] = np.all((before >= 0) & (before < extent), axis=1).tolist()
        cells: tuple[list[list[int]], list[list[int]]] = at.tolist(), before.tolist()
        for here, there, within in zip(*cells, inside, strict=True):
            # An arrow's own direction decides its left and right; a fixed sign keeps a lane on one side of the boxes.
            sign = 1.0 if sum(h - b for h, b in zip(here, there, strict=True)) > 0 else -1.0
            end = _edge(here, there, -lane * sign)
            if within:
                start = _edge(there, here, lane * sign)
            else:
                (ax, ay), (bx, by) = _middle(here), _middle(there)
                start = (end[0] + (bx - ax) * 0.3, end[1] + (by - ay) * 0.3)
            _double(scene, start, end, colour, t.has_memory)


def _double(scene: Scene, start: tuple[float, float], end: tuple[float, float], colour: str, memory: bool) -> None:
    dx, dy = end[0] - start[0], end[1] - start[1]
    long = max((dx * dx + dy * dy) ** 0.5, 1e-9)
    nx, ny = -dy / long, dx / long
    for side in (-2.0, 2.0) if memory else (0.0,):
        scene.add(Line(((start[0] + side * nx, start[1] + side * ny), (end[0] + side * nx, end[1] + side * ny)), colour, 1.2))


def _far_reads(scene: Scene, plan: Timing, t: Transform, colour: str) -> None:
    at, extent = points(plan.sizes), np.asarray(plan.sizes)
    aside = 20.0 * (plan.spec.numbers[t.name] - (len(plan.spec.numbers) - 1) / 2)
    for read in t.reads:
        if read.via is not None or not any(read.offset):
            continue
        looked = source(plan.spec, read, at)
        own = [p for u in (plan.spec.transforms[read.of],) for p in carried(u, at)]
        if any(np.array_equal(looked, p) for p in own):
            continue  # the arrow of the state that travels says so already
        inside = ((looked >= 0) & (looked < extent)).all(axis=1)
        for here, there in zip(at[inside].tolist(), looked[inside].tolist(), strict=True):
            scene.add(Line((_edge(there, here, aside), _edge(here, there, -aside)), colour, 1.0, dashed=True))


def _inside(scene: Scene, spec: GridSpec, x: float, y: float) -> None:
    """Draw a cell's transforms as coloured squares."""
    count, colour = len(spec.transforms), colours(spec)
    columns = columns_of(count)
    rows, pad = -(-count // columns), 9.0
    w, h = (CELL - 2 * pad) / columns, (CELL - 2 * pad) / rows
    for i, name in enumerate(spec.transforms):
        left, top = x + pad + (i % columns) * w, y + pad + (i // columns) * h
        scene.add(rectangle(left + 1.5, top + 1.5, w - 3, h - 3, fill=colour[name], stroke="none", radius=2.5, note=name))


def entering(plan: Timing, i: Input) -> tuple[Ints, Ints]:
    """Find the cells where an input enters a transform, and the points off the grid that it comes from: [cells, dimensions]."""
    at, extent = points(plan.sizes), np.asarray([plan.sizes])
    if not i.enters:
        return at[:0], at[:0]
    t = plan.spec.transforms[i.enters]
    before = carried(t, at)[0]
    # What ``at`` says along the dimension that an input enters along is not asked: it enters before its first cell.
    free: tuple[Selection, ...] = tuple("all" if d in t.along else s for d, s in enumerate(i.at))
    enters = ~((before >= 0) & (before < extent)).all(axis=1) & lattice.selected(free, at, extent)
    return at[enters], before[enters]


def joined(plan: Timing, i: Input) -> Ints:
    """Find the cells where an input joins what transforms read, or a memory attends to it: [cells, dimensions]."""
    at = points(plan.sizes)
    if not i.joins and not any(t.attends == i.name for t in plan.spec.transforms.values()):
        return at[:0]
    return at[lattice.selected(i.at, at, np.asarray([plan.sizes]))]


def tapped(plan: Timing, o: Output) -> dict[str, Ints]:
    """Find the cells that an output reads, by transform: [cells, dimensions]."""
    extents = np.asarray([plan.sizes], np.int64)
    found: dict[str, Ints] = {}
    for tap in o.reads:
        where, exists = lattice.output_points(o, plan.spec.transforms[tap.transform], plan.sizes, extents)
        found[tap.transform] = np.unique(where[exists], axis=0)
    return found


def _inputs(scene: Scene, plan: Timing) -> None:
    for k, i in enumerate(plan.spec.inputs.values()):
        below = joined(plan, i).tolist()
        for here, there in zip(*(one.tolist() for one in entering(plan, i)), strict=True):
            (ax, ay), (bx, by) = _middle(here), _middle(there)
            if (ax, ay) == (bx, by):  # along a fourth dimension, which is not drawn
                below.append(here)
                continue
            share = 0.86 if len(here) < 3 else 0.66  # in three dimensions the next plane's cell is near
            _tag(scene, ax + (bx - ax) * share, ay + (by - ay) * share, i.name, INPUT)
        for n, here in enumerate(below):
            x, y = _corner(here)
            scene.add(Line(((x - 13, y + CELL + 15 + 4 * k), (x + 3, y + CELL - 3)), INPUT, 1.1))
            if n == 0:
                _tag(scene, x - 18, y + CELL + 22 + 16 * k, i.name, INPUT)


def _outputs(scene: Scene, plan: Timing) -> None:
    for k, o in enumerate(plan.spec.outputs.values()):
        cells = {tuple(cell) for own in tapped(plan, o).values() for cell in own.tolist()}
        few = len(plan.sizes) < 3 or len(cells) < 5
        for n, here in enumerate(sorted(cells)):
            x, y = _corner(here)
            end = (x + CELL + 15, y - 15 - 20 * k)
            scene.add(Line(((x + CELL - 3, y + 3), end), OUTPUT, 1.4))
            if few or n == len(cells) - 1:
                _tag(scene, end[0] + 6, end[1] - 8, o.name, OUTPUT)


def _tag(scene: Scene, x: float, y: float, text: str, colour: str) -> None:
    wide = 0.54 * 10 * len(text) + 10
    scene.add(rectangle(x - wide / 2, y - 8, wide, 16, fill=PAPER, stroke=colour, radius=8), Text(x, y, text, 10, colour))


def _legend(scene: Scene, spec: GridSpec, x: float, y: float) -> None:
    for t in spec.transforms.values():
        scene.add(rectangle(x, y - 5, 10, 10, fill=colours(spec)[t.name], stroke="none", radius=2))
        text = f"{t.name}: {t.cell}, {t.hidden} units, along {' and '.join(spec.names(t.along))}"
        text += "" if printing.direction_text(spec, t) == "forward" else f", {printing.direction_text(spec, t)}"
        scene.add(Text(x + 16, y, text, 11, SOFT, "start"))
        y += 17
    if any(t.has_memory for t in spec.transforms.values()):
        scene.add(Text(x, y, "two lines: hidden and memory; one line: hidden alone", 11, SOFT, "start"))
