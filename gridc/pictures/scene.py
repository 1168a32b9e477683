"""A picture as a list of shapes, written as SVG by hand or as PNG by matplotlib.  Units are SVG's pixels, y downwards."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gridc.errors import ResourceError
from gridc.resources import located

INK, SOFT, PAPER = "#1c2024", "#68717c", "#ffffff"
SHADE = "#f4f5f7"
"""The ground of what is drawn on the paper."""
ON_PALE, ON_DEEP = "#1b1f23", "#ffffff"
"""Text on a filled area, which is the same on a dark page."""
INPUT, OUTPUT = "#8a5a00", "#b3261e"
"""The colours of inputs and outputs."""
PALETTE = ("#2f6fce", "#3aa76d", "#7a52c7", "#45b0bd", "#8a5a2b", "#cf7590", "#6b7a1f", "#7d8ca0")
"""Colours of the transforms, in the order of declaration: neighbours differ in hue and in lightness, and none is the orange
that marks what happens now."""

DARK = {
    INK: "#e6e9ed", SOFT: "#9aa4b0", PAPER: "#14181e", SHADE: "#242a32", INPUT: "#e0b050", OUTPUT: "#ff8a80",
    **dict(zip(PALETTE, ("#7fb0ff", "#5fd096", "#b596ff", "#5fcbd8", "#d39b66", "#ee9db6", "#b3c953", "#a9b6c8"), strict=True)),
}  # fmt: skip
"""What stands for a colour where a reader's page is dark: the filled areas of a transform keep theirs."""


def _dark() -> str:
    """Write the style sheet that a dark page switches on; programs that know no media queries draw the light picture."""
    rules: list[str] = []
    for old, new in DARK.items():
        filled = ":is(rect,polygon)" if old == PAPER else ":is(text,path)" if old in PALETTE else ""
        rules.append(f".gridc {filled}[fill='{old}']{{fill:{new}}}.gridc [stroke='{old}']{{stroke:{new}}}")
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


@dataclass(frozen=True)
class Box:
    """A polygon, closed; ``radius`` rounds a rectangle's corners."""

    points: tuple[tuple[float, float], ...]
    fill: str = "none"
    stroke: str = INK
    width: float = 1.0
    radius: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A path through points, curved (two control points a stretch) or straight, with an arrow's head at its end."""

    points: tuple[tuple[float, float], ...]
    colour: str = INK
    width: float = 1.3
    dashed: bool = False
    head: bool = True
    curved: bool = False


@dataclass(frozen=True)
class Text:
    """A line of text at a point, ``anchor`` its start, middle or end; ``turn`` is degrees clockwise.

    ``tex`` is the same with formulas as TeX, between dollars: set where a picture can, else said to whoever points at it."""

    x: float
    y: float
    text: str
    size: float = 12.0
    colour: str = INK
    anchor: Literal["start", "middle", "end"] = "middle"
    bold: bool = False
    turn: float = 0.0
    tex: str = ""


Shape = Box | Line | Text


def rectangle(x: float, y: float, w: float, h: float, **style: Any) -> Box:
    """Make a box from its upper left corner, width and height; the style is that of ``Box``."""
    return Box(((x, y), (x + w, y), (x + w, y + h), (x, y + h)), **style)


@dataclass
class Scene:
    """Shapes, the earlier ones behind; ``title`` is read to those who cannot see it."""

    title: str
    shapes: list[Shape] = field(default_factory=list[Shape])

    def add(self, *shapes: Shape) -> None:
        """Put shapes in front of those that are there."""
        self.shapes.extend(shapes)

    def bounds(self, margin: float = 10.0) -> tuple[float, float, float, float]:
        """Left, top, width and height of everything."""
        xs: list[float] = []
        ys: list[float] = []
        for shape in self.shapes:
            if isinstance(shape, Text):
                # These shares of its size are wider than an average letter of the fonts that browsers take for sans-serif.
                long, high = (0.66 if shape.bold else 0.58) * shape.size * len(shape.text), 0.7 * shape.size
                left = {"start": 0.0, "middle": long / 2, "end": long}[shape.anchor]
                if shape.turn:
                    xs += [shape.x - high, shape.x + high]
                    ys += [shape.y - long / 2, shape.y + long / 2]
                else:
                    xs += [shape.x - left, shape.x - left + long]
                    ys += [shape.y - high, shape.y + high]
            else:
                xs += [x for x, _ in shape.points]
                ys += [y for _, y in shape.points]
        if not xs:
            return 0.0, 0.0, 1.0, 1.0
        return min(xs) - margin, min(ys) - margin, max(xs) - min(xs) + 2 * margin, max(ys) - min(ys) + 2 * margin

    def svg(self) -> str:
        """Write the picture as an SVG document, without a script, a font or anything else from elsewhere; dark on a dark page."""
        x, y, w, h = (round(value, 1) for value in self.bounds())
        title = html.escape(self.title)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="{x} {y} {w} {h}" role="img" '
            f'class="gridc" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{title}</title>",
            f"<style>{_dark()}</style>",
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="{PAPER}"/>',
            *(_svg(shape) for shape in self.shapes),
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    def png(self, path: str | Path, dpi: int = 200) -> None:
        """Write the picture as PNG.  Raises ResourceError where matplotlib is not installed."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise ResourceError("PNG pictures need matplotlib: pip install 'gridc[plots]'; SVG needs nothing") from None
        x, y, w, h = self.bounds()
        figure: Any = Figure(figsize=(w / 96, h / 96), dpi=dpi, facecolor=PAPER)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(x, x + w)
        axes.set_ylim(y + h, y)
        axes.axis("off")
        for order, shape in enumerate(self.shapes):
            _png(axes, shape, order)
        figure.savefig(located(path), format="png")


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _svg(shape: Shape) -> str:
    if isinstance(shape, Text):
        weight = ' font-weight="bold"' if shape.bold else ""
        note = f"<title>{html.escape(shape.tex)}</title>" if shape.tex else ""
        turn = f' transform="rotate({_n(shape.turn)} {_n(shape.x)} {_n(shape.y)})"' if shape.turn else ""
        return (
            f'<text x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" fill="{shape.colour}" '
            f'text-anchor="{shape.anchor}" dominant-baseline="central"{weight}{turn}>{note}{html.escape(shape.text)}</text>'
        )
    if isinstance(shape, Box):
        note = f"<title>{html.escape(shape.note)}</title>" if shape.note else ""
        style = f'fill="{shape.fill}" stroke="{shape.stroke}" stroke-width="{_n(shape.width)}"'
        if shape.radius:
            (x, y), (right, bottom) = shape.points[0], shape.points[2]
            return (f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(right - x)}" height="{_n(bottom - y)}" '
                    f'rx="{_n(shape.radius)}" {style}>{note}</rect>')  # fmt: skip
        return f'<polygon points="{" ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)}" {style}>{note}</polygon>'
    start, *rest = [f"{_n(x)} {_n(y)}" for x, y in shape.points]
    path = f"M{start} " + ("C" if shape.curved else "L") + " ".join(rest)
    dashes = ' stroke-dasharray="4 3"' if shape.dashed else ""
    line = f'<path d="{path}" fill="none" stroke="{shape.colour}" stroke-width="{_n(shape.width)}"{dashes}/>'
    if not shape.head:
        return line
    corners = "L".join(f"{_n(x)} {_n(y)}" for x, y in _head(shape).points)
    return line + f'<path d="M{corners}Z" fill="{shape.colour}"/>'


def _head(line: Line) -> Box:
    """Draw the arrow's head, as a triangle: SVG markers cannot take the line's colour everywhere."""
    (ax, ay), (bx, by) = line.points[-2:]
    long = max(((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5, 1e-9)
    ux, uy, size = (bx - ax) / long, (by - ay) / long, 4.5 + line.width
    corners = ((bx, by), (bx - size * ux - 0.42 * size * uy, by - size * uy + 0.42 * size * ux),
               (bx - size * ux + 0.42 * size * uy, by - size * uy - 0.42 * size * ux))  # fmt: skip
    return Box(corners, fill=line.colour, stroke="none")


def _png(axes: Any, shape: Shape, order: int) -> None:
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path as Curve

    if isinstance(shape, Text):
        axes.text(shape.x, shape.y, shape.tex or shape.text, fontsize=shape.size * 0.74, color=shape.colour, va="center_baseline",
                  ha={"start": "left", "middle": "center", "end": "right"}[shape.anchor], rotation=-shape.turn,
                  fontweight="bold" if shape.bold else "normal", zorder=order)  # fmt: skip
    elif isinstance(shape, Box):
        style: dict[str, Any] = {"facecolor": shape.fill, "edgecolor": shape.stroke, "zorder": order}
        style["linewidth"] = 0.0 if shape.stroke == "none" else shape.width * 0.75
        if shape.radius:
            (x, y), (right, bottom) = shape.points[0], shape.points[2]
            rounded = f"round,pad=0,rounding_size={shape.radius}"
            axes.add_patch(FancyBboxPatch((x, y), right - x, bottom - y, boxstyle=rounded, **style))
        else:
            axes.add_patch(Polygon(shape.points, closed=True, **style))
    else:
        codes: list[Any] = [Curve.MOVETO] + [Curve.CURVE4 if shape.curved else Curve.LINETO] * (len(shape.points) - 1)
        dashes: Any = (0, (4, 3)) if shape.dashed else "solid"
        axes.add_patch(PathPatch(Curve(shape.points, codes), facecolor="none", edgecolor=shape.colour, linestyle=dashes,
                                 linewidth=shape.width * 0.75, zorder=order))  # fmt: skip
        if shape.head:
            _png(axes, _head(shape), order)
