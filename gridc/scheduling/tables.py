"""Plain-text tables: columns, bars, amounts, and what ``print`` shows of a spec."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from gridc.errors import printable
from gridc.language.spec import Direction, GridSpec, Input, Output, Read, Selection, Transform

BARS = " ▁▂▃▄▅▆▇█"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 2) -> str:
    """Columns two spaces apart; a column of numbers stands to the right."""
    lines = [[printable(entry) for entry in row] for row in rows]
    widths = [max(len(line[i]) for line in (list(head), *lines)) for i in range(len(head))]
    right = [bool(lines) and all(_is_number(line[i]) for line in lines) for i in range(len(head))]

    def line(entries: Sequence[str]) -> str:
        cells = [e.rjust(w) if r else e.ljust(w) for e, w, r in zip(entries, widths, right, strict=True)]
        return (" " * indent + "  ".join(cells)).rstrip()

    return "\n".join([line(head), *(line(entries) for entries in lines)])


def _is_number(text: str) -> bool:
    return text == "–" or text.replace(",", "").replace(".", "").isdigit()


# -- specs -------------------------------------------------------------------------------------------------------------


def spec_table(spec: GridSpec) -> str:
    """What a spec means, with every default spelled out."""
    extents = " × ".join(f"{d.name} {d.size}" for d in spec.dimensions)
    order = " → ".join(" ".join(group) for group in spec.priority) if len(spec.priority) > 1 else "none"
    parts = [f"{spec.name}: a grid of {extents}; priority {order}", ""]
    head = ("transform", "cell", "hidden", "along", "direction", "tied", "start", "reads")
    parts.append(table(head, (_transform_row(spec, t) for t in spec.transforms.values())))
    if spec.inputs:
        parts += ["", table(("input", "kind", "goes", "at", "axes"), (_input_row(spec, i) for i in spec.inputs.values()))]
    if spec.outputs:
        parts += ["", table(("output", "kind", "reads", "at", "loss"), (_output_row(spec, o) for o in spec.outputs.values()))]
    return "\n".join(parts)


def _transform_row(spec: GridSpec, t: Transform) -> tuple[str, ...]:
    cell = t.cell + (f" ({t.options.activation})" if "activation" in t.mechanism.options else "")
    reads = [*(read_text(spec, r) for r in t.reads), *(i.name for i in spec.joined(t.name))]
    return (
        t.name, cell + " +peepholes" * t.options.peepholes, str(t.hidden), " ".join(spec.names(t.along)),
        direction_text(spec, t), tied_text(spec, t), start_text(spec, t), ", ".join(reads),
    )  # fmt: skip


def direction_text(spec: GridSpec, t: Transform) -> str:
    """``forward``, ``backward``, or arrows that alternate over a dimension; one for each dimension travelled."""

    def one(direction: Direction) -> str:
        if direction.over is None:
            return "forward" if direction.cycle[0] > 0 else "backward"
        return "".join("→" if way > 0 else "←" for way in direction.cycle) + f" over {spec.dimensions[direction.over].name}"

    ways = [one(direction) for direction in t.direction]
    return ways[0] if len(set(ways)) == 1 else ", ".join(ways)


def tied_text(spec: GridSpec, t: Transform) -> str:
    if not t.gates and t.cell != "memory":
        return "–"
    shared = f" (shares {t.shares})" if t.shares else ""
    if not t.untied:
        return f"all{shared}"
    return ("none" if len(t.untied) == len(spec.dimensions) else "not " + " ".join(spec.names(t.untied))) + shared


def start_text(spec: GridSpec, t: Transform) -> str:
    if t.start != "wrap":
        return t.start
    return "wrap " + " ".join(f"{d.name}{o:+d}" for d, o in zip(spec.dimensions, t.wrap, strict=True) if o)


def read_text(spec: GridSpec, read: Read) -> str:
    """``time[here]``, ``time[time-1]``, or ``time[entering]`` for what enters along its own dimension."""
    offset = " ".join(f"{d.name}{o:+d}" for d, o in zip(spec.dimensions, read.offset, strict=True) if o)
    if read.via is None:
        return f"{read.of}[{offset or 'here'}]"
    several = len(spec.transforms[read.of].along) > 1
    via = f"entering along {spec.dimensions[read.via].name}" if several else "entering"
    return f"{read.of}[{via}{', ' + offset if offset else ''}]"


def at_text(spec: GridSpec, at: Sequence[Selection]) -> str:
    chosen = [f"{d.name} {s if isinstance(s, str) else ' '.join(map(str, s))}"
              for d, s in zip(spec.dimensions, at, strict=True) if s != "all"]  # fmt: skip
    return ", ".join(chosen) or "everywhere"


def _input_row(spec: GridSpec, i: Input) -> tuple[str, ...]:
    embedded = f", embedded in {i.embed}" if i.embed else ""
    kind = f"{i.size} features" if i.kind == "features" else f"ids below {i.size}{embedded}"
    goes: list[str] = []
    if i.enters:
        goes.append(f"enters {i.enters} ({' and '.join(i.into)})")
    if i.joins:
        goes.append(f"joins {' '.join(i.joins)}")
    axes = ["batch", *spec.names(i.over), *(["facts"] if i.facts else [])]
    return i.name, kind, "; ".join(goes) or "facts", at_text(spec, i.at), " × ".join(axes)


def _output_row(spec: GridSpec, o: Output) -> tuple[str, ...]:
    kind = {"binary": "binary", "raw": "raw"}.get(o.kind, f"{o.size} {o.kind}")
    return o.name, kind, " ".join(map(str, o.reads)), at_text(spec, o.at), o.loss.replace("_", " ")


# -- numbers -----------------------------------------------------------------------------------------------------------


def sparkline(values: Sequence[float], length: int = 60) -> str:
    """The values as bars, the largest of each stretch where there are more than ``length``."""
    if len(values) > length:
        ends = [i * len(values) // length for i in range(length + 1)]
        values = [max(values[a:e]) for a, e in itertools.pairwise(ends)]
    top = max(values, default=1) or 1
    return "".join(BARS[max(1, round(8 * v / top)) if v else 0] for v in values)


def amount(value: float) -> str:
    """Three digits and a prefix: ``1.23 M`` (thousands, not 1,024s)."""
    for limit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {prefix}"
    return f"{value:.3g} "
