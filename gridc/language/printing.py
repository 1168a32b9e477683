"""What ``print`` shows of a spec: every default spelled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from gridc.language.shapes import weights
from gridc.language.spec import Direction, GridSpec, Input, Output, Read, Selection, Transform
from gridc.plain_text import table
from gridc.tables.mechanisms import Cell


def spec_table(spec: GridSpec) -> str:
    """Write what a spec means, with every default spelled out."""
    extents = " × ".join(f"{d.name} {d.size}" for d in spec.dimensions)
    order = " → ".join(" ".join(group) for group in spec.priority) if len(spec.priority) > 1 else "none"
    parts = [f"{spec.name}: a grid of {extents}; priority {order}", ""]
    head = ("transform", "cell", "hidden", "along", "direction", "tied", "start", "reads")
    parts.append(table(head, (_transform_row(spec, t) for t in spec.transforms.values())))
    if spec.inputs:
        parts += ["", table(("input", "kind", "goes", "at", "axes"), (_input_row(spec, i) for i in spec.inputs.values()))]
    if spec.outputs:
        parts += ["", table(("output", "kind", "reads", "at", "loss"), (_output_row(spec, o) for o in spec.outputs.values()))]
    own = {t.cell: t.mechanism for t in spec.transforms.values() if not t.mechanism.shipped}
    for cell in own.values():
        parts += ["", cell_text(cell)]
    return "\n".join(parts)


def cell_text(cell: Cell) -> str:
    """Write what a cell is, its formulas as they were written."""
    least, most = cell.dimensions
    along = f"{least} dimension{'s' * (least > 1)}" if least == most else f"{least} dimension or more"
    lines = [f"{cell.name}: along {along}"]
    said = dict(cell.definition.written) if cell.definition is not None else {"equation": cell.equation, "source": cell.source}
    for key, value in said.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name}: {one}" for name, one in cast("Mapping[str, object]", value).items())
        elif isinstance(value, list | tuple):
            value = " ".join(map(str, cast("list[object]", value)))
        lines.append(f"  {key:<9}  {value}")
    return "\n".join(lines)


def _transform_row(spec: GridSpec, t: Transform) -> tuple[str, ...]:
    cell = t.cell + (f" ({t.options.activation})" if t.mechanism.has("activation") else "")
    reads = [*(read_text(spec, r) for r in t.reads), *(i.name for i in spec.joined(t.name))]
    return (
        t.name, cell + " +peepholes" * t.options.peepholes, str(t.hidden), " ".join(spec.names(t.along)),
        direction_text(spec, t), tied_text(spec, t), start_text(spec, t), ", ".join(reads),
    )  # fmt: skip


def direction_text(spec: GridSpec, t: Transform) -> str:
    """Write ``forward``, ``backward``, or arrows that alternate over a dimension; one for each dimension travelled."""

    def one(direction: Direction) -> str:
        if direction.over is None:
            return "forward" if direction.cycle[0] > 0 else "backward"
        return "".join("→" if way > 0 else "←" for way in direction.cycle) + f" over {spec.dimensions[direction.over].name}"

    ways = [one(direction) for direction in t.direction]
    return ways[0] if len(set(ways)) == 1 else ", ".join(ways)


def tied_text(spec: GridSpec, t: Transform) -> str:
    """Write along which dimensions weights are shared: ``all``, ``none``, ``not depth``, or a dash where there are none."""
    if not weights(spec, t):
        return "–"
    shared = f" (shares {t.shares})" if t.shares else ""
    if not t.untied:
        return f"all{shared}"
    return ("none" if len(t.untied) == len(spec.dimensions) else "not " + " ".join(spec.names(t.untied))) + shared


def start_text(spec: GridSpec, t: Transform) -> str:
    """Write how a transform starts: ``zeros``, ``learned``, or ``wrap`` and its offsets other than 0."""
    if t.start != "wrap":
        return t.start
    return "wrap " + " ".join(f"{d.name}{o:+d}" for d, o in zip(spec.dimensions, t.wrap, strict=True) if o)


def read_text(spec: GridSpec, read: Read) -> str:
    """Write ``time[here]``, ``time[time-1]``, or ``time[entering]`` for what enters along its own dimension."""
    offset = " ".join(f"{d.name}{o:+d}" for d, o in zip(spec.dimensions, read.offset, strict=True) if o)
    if read.via is None:
        return f"{read.of}[{offset or 'here'}]"
    several = len(spec.transforms[read.of].along) > 1
    via = f"entering along {spec.dimensions[read.via].name}" if several else "entering"
    return f"{read.of}[{via}{', ' + offset if offset else ''}]"


def at_text(spec: GridSpec, at: Sequence[Selection]) -> str:
    """Write the indices that are chosen, ``time last, depth 0 2``, or ``everywhere``."""
    chosen = [f"{d.name} {s if isinstance(s, str) else ' '.join(map(str, s))}"
              for d, s in zip(spec.dimensions, at, strict=True) if s != "all"]  # fmt: skip
    return ", ".join(chosen) or "everywhere"


def loss_text(o: Output) -> str:
    """Write a loss and what it was told: ``huber, delta 0.5``."""
    options = [f"{name.replace('_', ' ')} {value}" for name, value in o.loss_options]
    return ", ".join([o.loss.replace("_", " "), *options, *([f"ignores {o.ignore}"] if o.ignore is not None else [])])


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
    return o.name, kind, " ".join(map(str, o.reads)), at_text(spec, o.at), loss_text(o)
