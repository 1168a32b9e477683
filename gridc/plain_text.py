"""Plain text for people: columns, bars, amounts."""

from __future__ import annotations

import codecs
import io
import itertools
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from gridc.errors import printable

BARS = " ▁▂▃▄▅▆▇█"
SIGNS = {
    "×": "x", "…": "...", "→": "->", "←": "<-", "·": ".", "∘": "*", "²": "2", "–": "-", "—": "-", "λ": "lambda", "Σ": "sum",
    "µ": "u", "√": "sqrt", "≥": ">=", "≤": "<=", "γ": "gamma", "✓": "yes", "✗": "no", **dict(zip(BARS, " .:-=+*#@", strict=True)),
}  # fmt: skip
"""What stands for a sign of ours where a stream's encoding lacks it."""


def _sign(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacked = error.object[error.start : error.end]
    plain = (SIGNS.get(sign) or unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?" for sign in lacked)
    return "".join(plain), error.end


codecs.register_error("gridc.signs", _sign)


def lenient(stream: object) -> None:
    """Have a stream of text write plainer signs, letters without their accents and question marks for what its encoding lacks."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="gridc.signs")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 2) -> str:
    """Columns two spaces apart; a column of numbers stands to the right."""
    lines = [[printable(entry) for entry in row] for row in rows]
    widths = [max(len(line[i]) for line in (list(head), *lines)) for i in range(len(head))]
    right = [bool(lines) and all(_is_number(line[i]) for line in lines) for i in range(len(head))]

    def line(entries: Sequence[str]) -> str:
        cells = [e.rjust(w) if r else e.ljust(w) for e, w, r in zip(entries, widths, right, strict=True)]
        return (" " * indent + "  ".join(cells)).rstrip()

    return "\n".join([line(head), *(line(entries) for entries in lines)])


def times(sizes: Iterable[object]) -> str:
    """Write sizes as a product: ``3 × 4``."""
    return " × ".join(map(str, sizes))


def _is_number(text: str) -> bool:
    return text == "–" or text.replace(",", "").replace(".", "").isdigit()


def sparkline(values: Sequence[float], length: int = 60) -> str:
    """Draw the values as bars, the largest of each stretch where there are more than ``length``."""
    if len(values) > length:
        ends = [i * len(values) // length for i in range(length + 1)]
        values = [max(values[a:e]) for a, e in itertools.pairwise(ends)]
    top = max(values, default=1) or 1
    return "".join(BARS[max(1, round(8 * v / top)) if v else 0] for v in values)


MARKS = "*o+x#@%&"


def plot(series: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str, width: int = 64, height: int = 14) -> str:
    """Draw lines of points ``(x, y)`` with a sign for each, and say which is whose; what is not finite is left out."""
    known = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in series.items()}
    every = [point for points in known.values() for point in points]
    if not every:
        return f"nothing to draw: no {y} is a number"
    (left, right), (low, high) = ((min(side), max(side)) for side in zip(*every, strict=True))
    across, up = (right - left) or 1.0, (high - low) or 1.0
    rows = [[" "] * width for _ in range(height)]
    for mark, points in zip(itertools.cycle(MARKS), known.values(), strict=False):
        for at, value in points:
            rows[height - 1 - round((value - low) / up * (height - 1))][round((at - left) / across * (width - 1))] = mark
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    edge = max(map(len, labels))
    lines = [f"{label:>{edge}} |{''.join(row).rstrip()}" for label, row in zip(labels, rows, strict=True)]
    ends = f"{left:,.0f}", f"{right:,.0f}"
    told = [f"  {mark} {printable(name)}" for mark, name in zip(itertools.cycle(MARKS), known, strict=False)]
    below = [f"{'':>{edge}} +{'-' * width}", f"{'':>{edge}}  {ends[0]}{ends[1]:>{width - len(ends[0])}} {x}"]
    return "\n".join([y, *lines, *below, *told])


def amount(value: float) -> str:
    """Three digits and a prefix: ``1.23 M`` (thousands, not 1,024s)."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g} "


def sizes(of: Iterable[tuple[str, int]]) -> str:
    """Write the sizes of a grid's dimensions: ``time 50 × depth 3``."""
    return " × ".join(f"{name} {size}" for name, size in of)


def figure(figures: Mapping[str, float]) -> str:
    """How good an output's predictions are: ``97.50 % right``, or ``R² 0.9312``."""
    return f"{100 * figures['accuracy']:.2f} % right" if "accuracy" in figures else f"R² {figures['r2']:.4f}"
