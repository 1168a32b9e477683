"""Pictures of grids and schedules, as SVG or PNG, and what a notebook shows of them.

``grid`` is the unrolled grid with its inputs and outputs, ``cell`` the inside of a cell in its order of computation,
``wavefronts`` every step with its number, ``widths`` the steps of each wavefront.  Large grids are drawn at smaller sizes.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gridc.errors import UsageError, listed, nearest
from gridc.language.lattice import carried, points, source
from gridc.language.spec import GridSpec, Selection, Transform
from gridc.pictures.cell_drawing import INPUT, cell_scene, colours
from gridc.pictures.scene import INK, SOFT, Box, Line, Scene, Text, rectangle
from gridc.scheduling import layout, tables
from gridc.scheduling.schedule import Schedule

SMALL = (6, 4, 2)
"""How many cells of each dimension the unrolled grid shows; two planes are as many as can be told apart."""
CELL, PITCH, WIDE_PITCH = 46.0, 86.0, 118.0
"""A cell's side, and from one cell to the next: in three dimensions there must be room for the next plane's cells between."""


def scene(thing: GridSpec | Schedule, picture: str = "grid") -> Scene:
    """A picture by name.  Raises UsageError for a name that is none of ``PICTURES``."""
    if picture not in PICTURES:
        raise UsageError(f"there is no picture '{picture}'; expected {listed(PICTURES)}{nearest(picture, PICTURES)}")
    return PICTURES[picture](thing if isinstance(thing, Schedule) else _example(thing))


def svg(thing: GridSpec | Schedule, picture: str = "grid") -> str:
    """A picture as an SVG document."""
    return scene(thing, picture).svg()


def png(thing: GridSpec | Schedule, path: str | Path, picture: str = "grid", dpi: int = 200) -> None:
    """Write a picture as PNG.  Raises ResourceError where matplotlib is not installed."""
    scene(thing, picture).png(path, dpi)


def _example(spec: GridSpec) -> Schedule:
    """A schedule to draw where only a spec is given: symbols are as large as the picture has room for."""
    return Schedule(spec, tuple(SMALL[min(i, 2)] if isinstance(d.size, str) else d.size for i, d in enumerate(spec.dimensions)))


def _cut(plan: Schedule, most: tuple[int, ...]) -> Schedule:
    """The same grid, no larger than there is room for; dimensions after the third at one cell."""
    room = [most[d] if d < len(most) else 1 for d in range(len(plan.sizes))]
    return Schedule(plan.spec, tuple(min(n, r) for n, r in zip(plan.sizes, room, strict=True)))


def _caption(plan: Schedule, shown: Schedule) -> str:
    parts: list[str] = []
    for d, n, m in zip(plan.spec.dimensions, plan.sizes, shown.sizes, strict=True):
        size = f"{d.size} = {n}" if isinstance(d.size, str) else str(n)
        parts.append(f"{d.name} {size}" + (f" ({m} drawn)" if m < n else ""))
    return " × ".join(parts)


# -- the unrolled grid ---------------------------------------------------------------------------------------------------


def grid_scene(plan: Schedule) -> Scene:
    """The grid unrolled: a box a cell, an arrow a state that travels (double where a memory goes with it), explicit reads from
    other cells dashed, inputs where they enter or join, outputs where they are read."""
    spec, small = plan.spec, _cut(plan, SMALL)
    result = Scene(f"{spec.name}, unrolled: {_caption(plan, small)}")
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
        front.add(rectangle(x, y, CELL, CELL, fill="#f4f5f7", stroke=INK, width=1.2, radius=5, note=note))
        _inside(front, spec, x, y)
    _inputs(front, small)
    _outputs(front, small)
    result.add(*behind.shapes, *front.shapes)
    left, top, _, height = result.bounds(0)
    _legend(result, spec, left, top + height + 22)
    result.add(Text(left, top - 22, f"{spec.name}: {_caption(plan, small)}", 13, INK, "start", bold=True))
    return result


def _columns(count: int) -> int:
    """Into how many columns the transforms of a cell are put."""
    return count if count <= 3 else int(np.ceil(np.sqrt(count)))


def _corner(at: Any) -> tuple[float, float]:
    """The upper left corner of a cell: the first dimension to the right, the second upwards, the third into the depth."""
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


def _states(scene: Scene, plan: Schedule, t: Transform, colour: str) -> None:
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


def _far_reads(scene: Scene, plan: Schedule, t: Transform, colour: str) -> None:
    at, extent = points(plan.sizes), np.asarray(plan.sizes)
    names = list(plan.spec.transforms)
    aside = 20.0 * (names.index(t.name) - (len(names) - 1) / 2)
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
    """A cell's transforms as coloured squares."""
    count, colour = len(spec.transforms), colours(spec)
    columns = _columns(count)
    rows, pad = -(-count // columns), 9.0
    w, h = (CELL - 2 * pad) / columns, (CELL - 2 * pad) / rows
    for i, name in enumerate(spec.transforms):
        left, top = x + pad + (i % columns) * w, y + pad + (i // columns) * h
        scene.add(rectangle(left + 1.5, top + 1.5, w - 3, h - 3, fill=colour[name], stroke="none", radius=2.5, note=name))


OUTPUT = "#b3261e"


def _inputs(scene: Scene, plan: Schedule) -> None:
    at, extent = points(plan.sizes), np.asarray([plan.sizes])
    for k, i in enumerate(plan.spec.inputs.values()):
        chosen = layout.selected(plan.spec, i.at, plan.sizes, at, extent)
        if i.enters:
            t = plan.spec.transforms[i.enters]
            before = carried(t, at)[0]
            enters = ~((before >= 0) & (before < extent)).all(axis=1)
            # What ``at`` says along the dimension that an input enters along is not asked: it enters before its first cell.
            free: tuple[Selection, ...] = tuple("all" if d in t.along else s for d, s in enumerate(i.at))
            enters &= layout.selected(plan.spec, free, plan.sizes, at, extent)
            for here, there in zip(at[enters].tolist(), before[enters].tolist(), strict=True):
                (ax, ay), (bx, by) = _middle(here), _middle(there)
                share = 0.86 if len(here) < 3 else 0.66  # in three dimensions the next plane's cell is near
                x, y = ax + (bx - ax) * share, ay + (by - ay) * share
                _tag(scene, x, y, i.name, INPUT)
        if i.joins:
            for here in at[chosen].tolist():
                x, y = _corner(here)
                scene.add(Line(((x - 13, y + CELL + 15 + 4 * k), (x + 3, y + CELL - 3)), INPUT, 1.1))
                if here == at[chosen][0].tolist():
                    _tag(scene, x - 18, y + CELL + 22 + 16 * k, i.name, INPUT)


def _outputs(scene: Scene, plan: Schedule) -> None:
    extents = np.asarray([plan.sizes], np.int64)
    for k, o in enumerate(plan.spec.outputs.values()):
        cells: set[tuple[int, ...]] = set()
        for tap in o.reads:
            transform = plan.spec.transforms[tap.transform]
            where, exists = layout.output_points(plan.spec, o, transform, plan.sizes, extents)
            cells |= {tuple(p) for p in where[exists].tolist()}
        for here in sorted(cells):
            x, y = _corner(here)
            end = (x + CELL + 15, y - 15 - 20 * k)
            scene.add(Line(((x + CELL - 3, y + 3), end), OUTPUT, 1.4))
            _tag(scene, end[0] + 6, end[1] - 8, o.name, OUTPUT)


def _tag(scene: Scene, x: float, y: float, text: str, colour: str) -> None:
    wide = 0.54 * 10 * len(text) + 10
    scene.add(rectangle(x - wide / 2, y - 8, wide, 16, fill="#ffffff", stroke=colour, radius=8), Text(x, y, text, 10, colour))


def _legend(scene: Scene, spec: GridSpec, x: float, y: float) -> None:
    for t in spec.transforms.values():
        scene.add(rectangle(x, y - 5, 10, 10, fill=colours(spec)[t.name], stroke="none", radius=2))
        text = f"{t.name}: {t.cell}, {t.hidden} units, along {' and '.join(spec.names(t.along))}"
        text += "" if tables.direction_text(spec, t) == "forward" else f", {tables.direction_text(spec, t)}"
        scene.add(Text(x + 16, y, text, 11, SOFT, "start"))
        y += 17
    if any(t.has_memory for t in spec.transforms.values()):
        scene.add(Text(x, y, "two lines: hidden and memory; one line: hidden alone", 11, SOFT, "start"))


# -- wavefronts and widths -----------------------------------------------------------------------------------------------


def _shade(p: float) -> str:
    """A colour from early (pale yellow) to late (deep blue), monotone in lightness."""
    stops = ((255, 247, 217), (199, 226, 190), (115, 196, 190), (55, 137, 187), (36, 65, 134))
    at = min(max(p, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(at), len(stops) - 2)
    mixed = [round(a + (b - a) * (at - i)) for a, b in zip(stops[i], stops[i + 1], strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def wavefront_scene(plan: Schedule) -> Scene:
    """Every step with the number of its wavefront; a third dimension as planes side by side."""
    spec = plan.spec
    small = _cut(plan, (24, 16, 4))
    result = Scene(f"{spec.name}: wavefronts of {_caption(plan, small)}")
    names = list(spec.transforms)
    columns = _columns(len(names))
    rows = -(-len(names) // columns)
    edge = 26.0 if small.work <= 600 else 18.0
    w, h = columns * edge, rows * edge
    nx, ny = small.sizes[0], small.sizes[1] if len(small.sizes) > 1 else 1
    # On a grid that is cut the numbers are those of its corner, which a uniform grid of any size shares.
    levels, last = small.level_numbers, max(small.span - 1, 1)
    for number in range(small.work):
        step = small.step(number)
        x = step.cell[0] * (w + 5) + (step.cell[2] * (nx * (w + 5) + 40) if len(step.cell) > 2 else 0)
        y = (ny - 1 - (step.cell[1] if len(step.cell) > 1 else 0)) * (h + 5)
        i, level = names.index(step.transform), int(levels[number])
        left, top, p = x + (i % columns) * edge, y + (i // columns) * edge, level / last
        result.add(rectangle(left, top, edge - 1, edge - 1, fill=_shade(p), stroke="none", note=f"{step}: wavefront {level}"))
        result.add(Text(left + edge / 2, top + edge / 2, str(level), 0.42 * edge, "#ffffff" if p > 0.55 else INK))
    left, top, _, height = result.bounds(0)
    result.add(Text(left, top - 18, f"{spec.name}: {plan.work:,} steps in {plan.span:,} wavefronts", 13, INK, "start", bold=True))
    result.add(Text(left + nx * (w + 5) / 2, top + height + 14, f"{spec.dimensions[0].name} →", 12, SOFT))
    if len(small.sizes) > 1:
        result.add(Text(left - 14, top + ny * (h + 5) / 2, f"{spec.dimensions[1].name} →", 12, SOFT, turn=-90))
    for z in range(small.sizes[2] if len(small.sizes) > 2 else 0):
        middle = left + z * (nx * (w + 5) + 40) + nx * (w + 5) / 2
        result.add(Text(middle, top + height + 30, f"{spec.dimensions[2].name} {z}", 11, SOFT))
    legend = f"in each cell, row by row: {listed(names, 'and')}; drawn: {_caption(plan, small)}"
    result.add(Text(left, top + height + 48, legend, 11, SOFT, "start"))
    return result


def widths_scene(plan: Schedule) -> Scene:
    """The steps of every wavefront as bars."""
    result = Scene(f"{plan.spec.name}: steps of each of {plan.span} wavefronts")
    wide, high, top = 560.0, 170.0, plan.width
    values = list(plan.widths)
    if len(values) > 280:
        cuts = [i * len(values) // 280 for i in range(281)]
        values = [max(plan.widths[a:e]) for a, e in itertools.pairwise(cuts)]
    bar = wide / len(values)
    for i, value in enumerate(values):
        tall = high * value / top
        note = f"wavefront {i}: {value} steps" if len(values) == plan.span else ""
        result.add(rectangle(i * bar, high - tall, bar * 0.86, tall, fill="#3789bb", stroke="none", note=note))
    mean = high - high * plan.parallelism / top
    result.add(Line(((0, mean), (wide, mean)), "#b3261e", 1.2, dashed=True, head=False))
    result.add(Text(wide + 6, mean, f"mean {plan.parallelism:.1f}", 11, "#b3261e", "start"))
    result.add(Line(((0, high), (wide, high)), INK, 1.0, head=False))
    result.add(Text(0, high + 13, "0", 11, SOFT, "start"), Text(wide, high + 13, f"{plan.span - 1:,}", 11, SOFT, "end"))
    result.add(Text(wide / 2, high + 13, "wavefront", 12, SOFT), Text(-8, 6, f"{top:,}", 11, SOFT, "end"))
    result.add(Text(0, -20, f"{plan.spec.name}: {plan.work:,} steps in {plan.span:,} wavefronts", 13, INK, "start", bold=True))
    return result


PICTURES: Mapping[str, Callable[[Schedule], Scene]] = {
    "grid": grid_scene, "cell": cell_scene, "wavefronts": wavefront_scene, "widths": widths_scene,
}  # fmt: skip


# -- notebooks -----------------------------------------------------------------------------------------------------------


def notebook(thing: Any) -> str:
    """What a notebook shows: a spec its unrolled grid and its table, a schedule its figures and pictures, a compiled grid its
    spec and its own description."""
    if isinstance(thing, Schedule):
        return _figure(svg(thing, "wavefronts")) + _figure(svg(thing, "widths")) + _pre(str(thing))
    if isinstance(thing, GridSpec):
        return _figure(svg(thing, "grid")) + _pre(str(thing))
    return notebook(thing.spec) + _pre(str(thing))


def _pre(text: str) -> str:
    return f'<pre style="line-height: 1.35; overflow-x: auto">{html.escape(text)}</pre>'


def _figure(picture: str) -> str:
    return f'<div style="max-width: 100%; overflow-x: auto">{picture}</div>'


__all__ = ["PICTURES", "Box", "colours", "notebook", "png", "scene", "svg"]
