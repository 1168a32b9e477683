"""What the steps of a persistent kernel read and write, and a cell's rule, as statements of C++."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gridc.fusion.tracer import Expression, Trace, Writer, trace
from gridc.scheduling.padded import Block, Group, Plan


def traced(group: Group) -> Trace | None:
    """Trace a group's rule; None where it is no formula of a unit's own numbers."""
    if group.attends is not None or not group.gates:
        return None
    try:
        found = trace(group.cell, group.options, group.dimensions, group.zoneout > 0)
        for output in (found.hidden, *([found.memory] if found.memory else []), *found.gradients.values()):
            Lines({}).known_by(output)
    except ValueError:
        return None
    return found


def covered(plan: Plan) -> bool:
    """Tell whether kernels can run this plan: all but attention and means over units."""
    for group in plan.groups:
        if group.gates:
            if traced(group) is None or not group.sources:
                return False
        elif group.attends is not None or group.joined or len(group.sources) != 1:
            return False
    return True


class Lines(Writer):
    """Writes expressions as C++."""

    def known_by(self, output: Expression) -> None:
        """Raise ValueError where an expression needs a mean over units."""
        waiting, seen = [output], set[Expression]()
        while waiting:
            node = waiting.pop()
            if node.operation == "mean":
                raise ValueError("a mean over units")
            waiting += [one for one in node.inputs if one not in seen]
            seen.update(node.inputs)

    def _text(self, node: Expression) -> str:
        if node.operation == "where":
            names = [self.names[argument] for argument in node.inputs]
            return f"{names[0]} {node.arguments[0]} {names[1]} ? {names[2]} : {names[3]}"
        return super()._text(node)

    def code(self, *outputs: Expression) -> tuple[list[str], list[str]]:
        """Give the statements that compute expressions, and their names."""
        names = self.write(*outputs)
        return [f"const float {line};" for line in self.lines], names


def leaves(found: Trace) -> dict[str, Expression]:
    """Give the leaves that a trace knows, by name."""
    nodes = found.hidden.graph.nodes
    return {str(node.arguments[0]): node for node in nodes.values() if node.operation == "leaf"}


@dataclass
class Statements:
    """What a step reads and writes, as C++, by the plan and by which optional arrays there are.

    ``ahead`` has by group the rows of what was multiplied before for each join; ``masks`` the groups whose dropout is drawn,
    ``kept`` by group whether zoneout's masks are."""

    plan: Plan
    ahead: Mapping[int, tuple[int, ...]]
    biased: frozenset[int]
    holes: Mapping[int, int]
    masks: frozenset[int]
    kept: Mapping[int, bool]

    def row(self, g: int, index: str, vector: str = "0") -> str:
        """Give the address of a vector of group ``g``'s storage row."""
        group = self.plan.groups[g]
        return f"args.S{g} + ((long long)({index}) * {group.vectors} + {vector}) * {group.hidden}"

    def seen(self, g: int, j: int, unit: str, found: str = "") -> str:
        """Give the number of what read ``j`` finds, at the address ``found``: what wrapped around added, behind dropout."""
        group, source = self.plan.groups[g], self.plan.groups[g].sources[j]
        n = len(group.sources)
        found = found or self.row(source, f"look(args.read{g} + row * {n} + {j})")
        text = f"fetch({found} + {unit})"
        if group.wraps:
            text = f"({text} + fetch({self.row(source, f'look(args.read{g}_far + row * {n} + {j})')} + {unit}))"
        return text + self.mask(g, j, unit)

    def mask(self, g: int, j: int, unit: str) -> str:
        """Give the factor of dropout on read ``j``; nothing where there is none."""
        group = self.plan.groups[g]
        if j not in group.masked or group.sources[j] not in self.masks:
            return ""
        row = f"look(args.masked{g} + row * {len(group.masked)} + {group.masked.index(j)})"
        return f" * given(args.dropped{group.sources[j]} + (long long){row} * {group.widths[j]} + {unit})"

    def own(self, g: int) -> list[str]:
        """Give what a step takes over along each of its dimensions, and its own hidden vector."""
        group = self.plan.groups[g]
        columns = [(d, int(group.memory)) for d in range(group.entering)] + [(0, 0)] * group.besides
        found: list[str] = []
        for d, vector in columns:
            text = f"fetch({self.row(g, f'look(args.own{g} + row * {group.entering} + {d})', str(vector))} + unit)"
            if group.wraps:
                text += f" + fetch({self.row(g, f'look(args.own{g}_far + row * {group.entering} + {d})', str(vector))} + unit)"
            found.append(text)
        return found

    def keeps(self, g: int) -> list[str]:
        """Give how much a step keeps of its old hidden vector and memory."""
        group = self.plan.groups[g]
        if not group.zoneout:
            return []
        row = f"(long long)look(args.kept{g} + row)" if self.kept[g] else "0LL"
        return [f"given(args.keep{g}_{k} + {row} * {group.hidden} + unit)" for k in range(1 + group.memory)]

    def known(self, g: int, found: Trace, gates: Sequence[str]) -> dict[Expression, str]:
        """Give the texts of a trace's leaves; the vector ``kept`` has what ``early`` read."""
        group = self.plan.groups[g]
        taken = group.entering + group.besides
        texts = {f"a_{k}": text for k, text in enumerate(gates)} | {"dh": "dh", "dm": "dm"}
        texts |= {f"m_{d}": f"kept.own[{d}]" for d in range(group.entering if group.memory else 0)}
        texts |= {"h": f"kept.own[{taken - 1}]", "k_h": "kept.keep[0]", "k_m": "kept.keep[1]"}
        at = f"args.P{g} + (long long)which * {self.holes.get(g, 0) * group.hidden}"
        texts |= {f"p_{k}": f"given({at} + {k * group.hidden} + unit)" for k in range(found.peepholes)}
        return {node: texts[name] for name, node in leaves(found).items() if name in texts}

    def early(self, g: int) -> list[str]:
        """Write what a step reads before its product is there."""
        own, keeps = self.own(g), self.keeps(g)
        lines = [f"kept.own[{k}] = {text};" for k, text in enumerate(own)]
        return lines + [f"kept.keep[{k}] = {text};" for k, text in enumerate(keeps)]

    def kept_type(self, g: int) -> str:
        """Write the structure of what is read early."""
        return f"struct Early {{ float own[{max(1, len(self.own(g)))}], keep[{max(1, len(self.keeps(g)))}]; }};"

    def soon(self, table: str, width: int, rows: int) -> str:
        """Write that the line of a table is fetched which has this row."""
        return (f"static DEVICE void soon(const Args& args, int row) {{ "
                f"if (row >= 0 && row < {rows}) ::soon({table} + (long long)row * {width}); }}")  # fmt: skip

    def which(self, block: Block, number: int, turn: str, slot: str) -> str:
        """Give the number of the weights that a slot has at a turn of the phase of this number."""
        chosen = self.plan.groups[block.group].chosen
        return f"look(args.chosen{block.group}_{number} + ({turn}) * {block.slots} + {slot})" if chosen else slot
