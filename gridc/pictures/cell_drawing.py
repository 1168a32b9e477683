"""The inside of a cell as a picture, and the colours that transforms have in all pictures."""

from __future__ import annotations

from gridc.insight.timing import Timing
from gridc.language import printing
from gridc.language.spec import GridSpec
from gridc.pictures.scene import INK, INPUT, PALETTE, PAPER, SHADE, SOFT, Line, Scene, Text, rectangle
from gridc.tables.rules import tex


def colours(spec: GridSpec) -> dict[str, str]:
    """Give every transform its colour."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(spec.transforms)}


def cell_scene(plan: Timing) -> Scene:
    """Draw the inside of a cell, from left to right in the order of computation: what enters, each transform, what leaves."""
    spec, colour = plan.spec, colours(plan.spec)
    result = Scene(f"{spec.name}: inside a cell")
    rank = _ranks(spec)
    ports: list[tuple[str, str]] = []  # label, transform
    wires: list[tuple[str, str, bool]] = []  # port or transform, reader, memory
    for name, t in spec.transforms.items():
        for read in t.reads:
            if read.via is None and not any(read.offset) and read.of != name:
                wires.append((read.of, name, False))
                continue
            label = "h " + printing.read_text(spec, read)
            ports.append((label, read.of))
            wires.append((label, name, False))
        if t.carries:
            for axis in t.along:
                several = f" along {spec.dimensions[axis].name}" if len(t.along) > 1 else ""
                label = f"{'m' if t.has_memory else 'h'} {name}[entering{several}]"
                ports.append((label, name))
                wires.append((label, name, t.has_memory))
        for joins in (*(i.name for i in spec.joined(name)), *([t.attends] if t.attends else [])):
            ports.append((joins, ""))
            wires.append((joins, name, False))
    ports = list(dict.fromkeys(ports))
    wide, tall, step = 150.0, 54.0, 250.0
    left = max([7.0 * len(label) for label, _ in ports] + [60.0]) + 110.0
    order = sorted(spec.transforms, key=lambda n: rank[n])
    high = max(len(ports) * 30.0, len(order) * (tall + 34.0))
    place = {n: (left + rank[n] * step, (i + 0.5) * high / len(order) - tall / 2) for i, n in enumerate(order)}
    right = left + max(rank.values()) * step + wide + 60.0
    result.add(rectangle(left - 62, -26, right - left + 32, high + 52, fill=SHADE, stroke=SOFT, width=1.5, radius=12))
    # Beside the last box that reads it: a wire then passes below the boxes before that one, which stand higher.
    ports.sort(key=lambda p: max(order.index(reader) for origin, reader, _ in wires if origin == p[0]))
    port = {label: (left - 78.0, (i + 0.5) * high / len(ports)) for i, (label, _) in enumerate(ports)}
    arrivals = {name: [w for w in wires if w[1] == name] for name in order}
    for name, own in arrivals.items():
        x, y = place[name]
        own.sort(key=lambda w: port[w[0]][1] if w[0] in port else place[w[0]][1])
        for i, (origin, _, memory) in enumerate(own):
            end = (x, y + (i + 1) * tall / (len(own) + 1))
            inner = origin in place
            start = (place[origin][0] + wide, place[origin][1] + tall / 3) if inner else port[origin]
            tint = colour[origin] if inner else colour.get(dict(ports)[origin], INPUT)
            bend = max(30.0, (end[0] - start[0]) * 0.45)
            path = (start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end)
            result.add(Line(path, tint, 2.2 if inner else 1.3, dashed=memory, curved=True))
    for label, of in ports:
        x, y = port[label]
        result.add(Text(x - 6, y, label, 11.5, colour.get(of, INPUT), "end"))
    for name, (x, y) in place.items():
        t = spec.transforms[name]
        for j, vector in enumerate(("h'", "m'")[: 1 + t.has_memory]):
            out = y + (j + 1) * tall / 3
            result.add(Line(((x + wide, out), (right + 6, out)), colour[name], 1.3, dashed=vector == "m'"))
            result.add(Text(right + 12, out, f"{vector} {name}", 11.5, colour[name], "start"))
        result.add(rectangle(x, y, wide, tall, fill=PAPER, stroke=colour[name], width=2, radius=7))
        result.add(Text(x + wide / 2, y + tall * 0.34, name, 14, INK, bold=True))
        result.add(Text(x + wide / 2, y + tall * 0.7, f"{t.cell}, {t.hidden}", 11, SOFT))
    result.add(Text(left - 62, -44, f"{spec.name}: inside a cell, in the order of computation", 13, INK, "start", bold=True))
    for i, cell in enumerate(dict.fromkeys(t.mechanism for t in spec.transforms.values())):
        formula = f"{cell.name}: ${tex(cell)}$" if cell.definition else ""
        result.add(Text(left - 62, high + 44 + 17 * i, f"{cell.name}: {cell.equation}", 11, SOFT, "start", tex=formula))
    return result


def _ranks(spec: GridSpec) -> dict[str, int]:
    """How many transforms of the same cell must come before each: the longest chain of reads at offset nought."""
    here = {n: [r.of for r in t.reads if r.via is None and not any(r.offset) and r.of != n] for n, t in spec.transforms.items()}
    rank: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in rank:
            rank[name] = 1 + max((of(u) for u in here[name]), default=-1)
        return rank[name]

    for name in spec.transforms:
        of(name)
    return rank
