"""Pictures of grids and schedules, as SVG or PNG, and what a notebook shows of them.

``grid`` is the unrolled grid with its inputs and outputs, ``cell`` the inside of a cell in its order of computation,
``wavefronts`` every step with its number, ``widths`` the steps of each wavefront, ``alive`` the vectors alive at each,
``workers`` what each simulated worker does when.  Large grids are drawn at smaller sizes, or as stretches.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gridc.errors import UsageError, listed, nearest
from gridc.insight import arithmetic
from gridc.insight.simulation import simulate
from gridc.insight.timing import Timing
from gridc.language.spec import GridSpec
from gridc.pictures.cell_drawing import cell_scene, colours
from gridc.pictures.scene import INK, ON_DEEP, ON_PALE, OUTPUT, SHADE, SOFT, Line, Scene, Text, rectangle
from gridc.pictures.unrolled_drawing import caption, columns_of, cut, example, grid_scene


def scene(thing: GridSpec | Timing, picture: str = "grid", workers: int = 4) -> Scene:
    """Draw a picture by name, ``workers`` of so many.  Raises UsageError for a name that is none of ``PICTURES``."""
    if picture not in PICTURES:
        raise UsageError(f"there is no picture '{picture}'; expected {listed(PICTURES)}{nearest(picture, PICTURES)}")
    plan = thing if isinstance(thing, Timing) else example(thing)
    return workers_scene(plan, workers) if picture == "workers" else PICTURES[picture](plan)


def svg(thing: GridSpec | Timing, picture: str = "grid", workers: int = 4) -> str:
    """Draw a picture as an SVG document."""
    return scene(thing, picture, workers).svg()


def png(thing: GridSpec | Timing, path: str | Path, picture: str = "grid", workers: int = 4, dpi: int = 200) -> None:
    """Write a picture as PNG.  Raises ResourceError where matplotlib is not installed."""
    scene(thing, picture, workers).png(path, dpi)


# -- wavefronts and widths -----------------------------------------------------------------------------------------------


def _shade(p: float) -> str:
    """Give a colour from early (pale yellow) to late (deep blue), monotone in lightness."""
    stops = ((255, 247, 217), (199, 226, 190), (115, 196, 190), (55, 137, 187), (36, 65, 134))
    at = min(max(p, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(at), len(stops) - 2)
    mixed = [round(a + (b - a) * (at - i)) for a, b in zip(stops[i], stops[i + 1], strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def wavefront_scene(plan: Timing) -> Scene:
    """Every step with the number of its wavefront; a third dimension as planes side by side."""
    spec = plan.spec
    small = cut(plan, (24, 16, 4))
    result = Scene(f"{spec.name}: wavefronts of {caption(plan, small)}")
    names = list(spec.transforms)
    columns = columns_of(len(names))
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
        result.add(Text(left + edge / 2, top + edge / 2, str(level), 0.42 * edge, ON_DEEP if p > 0.55 else ON_PALE))
    left, top, _, height = result.bounds(0)
    result.add(Text(left, top - 18, f"{spec.name}: {plan.work:,} steps in {plan.span:,} wavefronts", 13, INK, "start", bold=True))
    result.add(Text(left + nx * (w + 5) / 2, top + height + 14, f"{spec.dimensions[0].name} →", 12, SOFT))
    if len(small.sizes) > 1:
        result.add(Text(left - 14, top + ny * (h + 5) / 2, f"{spec.dimensions[1].name} →", 12, SOFT, turn=-90))
    for z in range(small.sizes[2] if len(small.sizes) > 2 else 0):
        middle = left + z * (nx * (w + 5) + 40) + nx * (w + 5) / 2
        result.add(Text(middle, top + height + 30, f"{spec.dimensions[2].name} {z}", 11, SOFT))
    legend = f"in each cell, row by row: {listed(names, 'and')}; drawn: {caption(plan, small)}"
    result.add(Text(left, top + height + 48, legend, 11, SOFT, "start"))
    return result


def _bars(result: Scene, values: Sequence[int], colour: str, kind: str) -> tuple[float, float]:
    """Draw the values of all wavefronts as bars, the largest of each stretch where there are many; the width and height."""
    wide, high, top, count = 560.0, 170.0, max(values), len(values)
    stretches = [(i * count // BARS, (i + 1) * count // BARS) for i in range(BARS)] if count > BARS else None
    shown = [max(values[a:e]) for a, e in stretches] if stretches else list(values)
    bar = wide / len(shown)
    for i, value in enumerate(shown):
        tall = high * value / top
        note = "" if stretches else f"wavefront {i}: {value} {kind}"
        result.add(rectangle(i * bar, high - tall, bar * 0.86, tall, fill=colour, stroke="none", note=note))
    result.add(Line(((0, high), (wide, high)), INK, 1.0, head=False))
    result.add(Text(0, high + 13, "0", 11, SOFT, "start"), Text(wide, high + 13, f"{count - 1:,}", 11, SOFT, "end"))
    result.add(Text(wide / 2, high + 13, "wavefront", 12, SOFT), Text(-8, 6, f"{top:,}", 11, SOFT, "end"))
    return wide, high


BARS = 280
"""Bars that a chart of wavefronts has at most."""


def widths_scene(plan: Timing) -> Scene:
    """Draw the steps of every wavefront as bars, and their mean."""
    result = Scene(f"{plan.spec.name}: steps of each of {plan.span} wavefronts")
    wide, high = _bars(result, plan.widths, "#3789bb", "steps")
    mean = high - high * plan.parallelism / plan.width
    result.add(Line(((0, mean), (wide, mean)), OUTPUT, 1.2, dashed=True, head=False))
    result.add(Text(wide + 6, mean, f"mean {plan.parallelism:.1f}", 11, OUTPUT, "start"))
    result.add(Text(0, -20, f"{plan.spec.name}: {plan.work:,} steps in {plan.span:,} wavefronts", 13, INK, "start", bold=True))
    return result


def alive_scene(plan: Timing) -> Scene:
    """Draw the vectors alive at every wavefront of a forward sweep as bars."""
    result = Scene(f"{plan.spec.name}: vectors alive at each of {plan.span} wavefronts")
    vectors = arithmetic.lifetimes(plan).vectors.tolist()
    _bars(result, vectors, "#5b8c5a", "vectors")
    said = f"{plan.spec.name}: at most {max(vectors):,} vectors alive, going forward"
    result.add(Text(0, -20, said, 13, INK, "start", bold=True))
    return result


def workers_scene(plan: Timing, workers: int = 4) -> Scene:
    """Draw what each simulated worker does when: a bar a step, in the colour of its transform."""
    if plan.work > MOST_BARS:
        raise UsageError(f"grid '{plan.spec.name}' has {plan.work:,} steps, and a drawing of workers shows at most "
                         f"{MOST_BARS:,}; the page (html) and the trace show more")  # fmt: skip
    if workers > MOST_LINES:
        raise UsageError(f"there are {workers:,} workers, and a drawing of them shows at most {MOST_LINES:,}, a line each; the "
                         "trace shows more")  # fmt: skip
    made, colour = simulate(plan, workers), colours(plan.spec)
    result = Scene(f"{plan.spec.name}: the steps of {workers} simulated workers")
    wide, high = 640.0, 26.0
    for worker, line in enumerate(made.timeline):
        y = worker * (high + 6)
        result.add(Text(-8, y + high / 2, f"worker {worker}", 11, SOFT, "end"))
        result.add(rectangle(0, y, wide, high, fill=SHADE, stroke="none"))
        for start, end, step in line:
            x, w = wide * start / made.seconds, wide * (end - start) / made.seconds
            result.add(rectangle(x, y, max(w - 0.6, 0.3), high, fill=colour[step.transform], stroke="none", note=str(step)))
            if w > 6.5 * len(str(step)):
                result.add(Text(x + w / 2, y + high / 2, str(step), 9.5, ON_DEEP))
    under = workers * (high + 6) + 8
    result.add(Text(0, under, "0", 11, SOFT, "start"), Text(wide, under, f"{made.seconds * 1e6:.0f} µs", 11, SOFT, "end"))
    for i, name in enumerate(plan.spec.transforms):
        result.add(rectangle(i * 130.0, under + 16, 10, 10, fill=colour[name], stroke="none", radius=2))
        result.add(Text(i * 130.0 + 16, under + 21, name, 11, SOFT, "start"))
    said = (f"{plan.spec.name}: {made.speedup:.2f} times as fast on {workers} workers, busy {made.busy:.0%} of the time, "
            f"{made.moved:,} vectors moved")  # fmt: skip
    result.add(Text(0, -18, said, 13, INK, "start", bold=True))
    return result


MOST_BARS = 5_000
"""Steps beyond which the workers' bars would be hairs."""
MOST_LINES = 1_000
"""Workers beyond which their drawing would be as high as a house."""


PICTURES: Mapping[str, Callable[[Timing], Scene]] = {
    "grid": grid_scene, "cell": cell_scene, "wavefronts": wavefront_scene, "widths": widths_scene,
    "alive": alive_scene, "workers": workers_scene,
}  # fmt: skip


# -- notebooks -----------------------------------------------------------------------------------------------------------


def notebook(thing: Any) -> str:
    """Write what a notebook shows: a spec its unrolled grid, the inside of a cell and its table, a schedule its figures
    and pictures, a compiled grid the same as its spec, and its own description first."""
    if isinstance(thing, Timing):
        return _figure(svg(thing, "wavefronts")) + _figure(svg(thing, "widths")) + _pre(str(thing))
    if isinstance(thing, GridSpec):
        return _figure(svg(thing, "grid")) + _figure(svg(thing, "cell")) + _pre(str(thing))
    return _pre(str(thing)) + notebook(thing.spec)


def _pre(text: str) -> str:
    return f'<pre style="line-height: 1.35; overflow-x: auto">{html.escape(text)}</pre>'


def _figure(picture: str) -> str:
    return f'<div style="max-width: 100%; overflow-x: auto">{picture}</div>'
