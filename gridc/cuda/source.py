"""The CUDA source of a plan's persistent kernels: what ``persistent.cuh`` runs, said for every block of every phase.

A kernel takes one structure of pointers, ``fields`` in order.  Whoever launches it gives as many blocks as stand on the card at
once, since they wait for each other.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gridc.cuda.statements import Lines, Statements, traced
from gridc.cuda.tiles import Card, Tiles, stride, tiles
from gridc.scheduling.padded import Block, Phase, Plan


@dataclass(frozen=True)
class Kernel:
    """A kernel's source, and that it runs as ``blocks`` of ``threads`` threads, with so many bytes of ``shared`` memory each."""

    text: str
    blocks: int
    threads: int
    shared: int


@dataclass
class Writer:
    """Writes one kernel of a plan for a card, and notes what it takes of it."""

    plan: Plan
    card: Card
    say: Statements
    threads: int = 32
    blocks: int = 1
    shared: int = 0

    # -- forward -------------------------------------------------------------------------------------------------------

    def forward(self, name: str, g: int, block: Block, number: int) -> tuple[str, Tiles] | None:
        """Write the product of a turn forward and its rule."""
        group, found = self.plan.groups[g], traced(self.plan.groups[g])
        assert found is not None
        ahead = g in self.say.ahead
        widths = [*group.widths, *(() if ahead else group.joined)]
        inputs, every = sum(widths), sum(group.widths) + sum(group.joined)
        n, hidden, gates = len(group.sources), group.hidden, group.gates
        columns = gates if gates in (1, 2, 4) else 4 * -(-gates // 4)
        cut = tiles(self.card, block.slots, block.rows, hidden, columns, inputs)
        if cut is None:
            return None
        where: list[str] = []
        lines: list[str] = []
        at = 0
        for j, width in enumerate(widths):
            if j >= n:
                row = f"args.joined{g}_{j - n} + (long long)look(args.join{g}_{j - n} + row) * {width}"
            else:
                row = self.say.row(group.sources[j], f"look(args.read{g} + row * {n} + {j})")
            where.append(f"const float* const from{j} = {row};")
            plain = j >= n or not (group.wraps or self.say.mask(g, j, ""))
            seen = "" if j >= n else self.say.seen(g, j, "k", f"from{j}")
            by_number = f"for (int k = lane; k < {width}; k += 32) to[{at} + k] = {seen};"
            lines.append(_copied(at, width, f"from{j}", hidden) if plain else by_number)
            at += width
        sums = [f"sums[{k}]" for k in range(gates)]
        before = [f"sums[{k}] += given(args.b{g} + (long long)which * {gates * hidden} + {k * hidden} + unit);"
                  for k in range(gates) if g in self.say.biased]  # fmt: skip
        for j, rows in enumerate(self.say.ahead.get(g, ())):
            before.append(f"{{ const float* ahead = args.ahead{g}_{j} + ((long long)look(args.join{g}_{j} + row) + "
                          f"(long long)which * {rows}) * {gates * hidden} + unit;")  # fmt: skip
            before += [f"sums[{k}] += given(ahead + {k * hidden});" for k in range(gates)] + ["}"]
        outputs = [found.hidden, *([found.memory] if found.memory is not None else [])]
        code, names = Lines(self.say.known(g, found, sums)).code(*outputs)
        stored = [f"put(to + {k * hidden}, {text});" for k, text in enumerate(names)]
        stored += [f"put(to + {(group.front + k) * hidden}, sums[{k}]);" for k in range(gates)]
        text = self._product(name, cut, block, number, inputs, columns, hidden, [
            self.say.kept_type(g),
            "static DEVICE float weight(const Args& args, int which, int k, int unit, int column) {",
            f"  return unit < {hidden} && column < {gates} ? given(args.W{g} + ((long long)which * {every} + k) * "
            f"{gates * hidden} + column * {hidden} + unit) : 0.0f; }}",
            "static DEVICE void read(const Args& args, float* to, int row, int lane) {", *where, *lines, "}",
            self.say.soon(f"args.read{g}", n, group.rows),
            "static DEVICE void early(const Args& args, int row, int unit, Early& kept) {", *self.say.early(g), "}",
            "static DEVICE void finish(const Args& args, int row, int which, int unit, float* sums, const Early& kept) {",
            *before, *code, f"float* to = {self.say.row(g, f'{group.base} + row')} + unit;", *stored, "}",
        ])  # fmt: skip
        return text, cut

    def _product(
        self, name: str, cut: Tiles, block: Block, number: int, inputs: int, columns: int, units: int, lines: Sequence[str]
    ) -> str:  # fmt: skip
        groups = -(-units // cut.units)
        sizes = {"K": inputs, "KP": stride(inputs), "GP": columns, "UT": cut.units, "RT": cut.rows, "TR": cut.each,
                 "KS": cut.sums, "ROWS": block.rows, "SLOTS": block.slots, "UNITS": groups, "PARTS": cut.parts,
                 "OFFSET": block.offset, "ALL": units}  # fmt: skip
        self.threads = max(self.threads, cut.threads)
        self.blocks = max(self.blocks, min(self.card.blocks, block.slots * groups * cut.parts))
        head = ", ".join(f"{letter} = {value}" for letter, value in sizes.items())
        return "\n  ".join([
            f"struct {name} {{", f"static constexpr int {head}, THREADS = ALL_THREADS;",
            f"static constexpr bool RESIDENT = {'true' if self.resident(block.group, cut) else 'false'};",
            f"static DEVICE int which(const Args& args, int turn, int slot) {{ "
            f"return {self.say.which(block, number, 'turn', 'slot')}; }}", *lines,
        ]) + "\n};\n"  # fmt: skip

    def passed(self, name: str, g: int, block: Block) -> str:
        """Write a turn of a group that hands on what it reads."""
        group = self.plan.groups[g]
        return self._each(name, block, group.hidden, [
            self.say.soon(f"args.read{g}", len(group.sources), group.rows),
            "static DEVICE void each(const Args& args, int row, int unit) {",
            f"put({self.say.row(g, f'{group.base} + row')} + unit, {self.say.seen(g, 0, 'unit')});", "}",
        ])  # fmt: skip

    def _each(self, name: str, block: Block, units: int, lines: Sequence[str]) -> str:
        self.blocks = max(self.blocks, min(self.card.blocks, -(-block.size * units // 256)))
        return "\n  ".join([
            f"struct {name} {{", f"static constexpr int SIZE = {block.size}, OFFSET = {block.offset}, UNITS = {units};", *lines,
        ]) + "\n};\n"  # fmt: skip

    # -- back ----------------------------------------------------------------------------------------------------------

    def resident(self, g: int, cut: Tiles) -> bool:
        """Tell whether the weights of a block stay where they are for a phase."""
        return cut.passes == 1 and not self.plan.groups[g].chosen

    def pulled(self, name: str, g: int, block: Block, number: int) -> str:
        """Write what makes the gradients of a turn's pre-activations; of a group without gates, what it hands back."""
        group = self.plan.groups[g]
        every = group.base + group.rows
        lines = ["const long long at = " + f"{group.base} + row;", "float dh = 0.0f, dm = 0.0f;"]
        for r, c, most in group.readers:
            for i in range(most):
                index = f"look(args.readers{g}_{r}_{c} + {i * every} + at)"
                lines.append(f"dh += fetch(args.handed{r}_{c} + (long long){index} * {group.hidden} + unit);")
        for i in range(group.carried):
            index = f"look(args.carried{g} + {i * every} + at)"
            lines.append(f"{{ const float* from = args.S{g} + (long long){index} * {group.hidden} + unit;")
            lines.append(f"{'dm' if group.memory else 'dh'} += fetch(from);")
            lines += [f"dh += fetch(from + {group.hidden});"] * group.besides + ["}"]
        for n, most in group.tapped:
            into = "dm" if self.plan.taps[n].memory else "dh"
            for i in range(most):
                index = f"look(args.tapped{g}_{n} + {i * every} + at)"
                lines.append(f"{into} += given(args.given{n} + (long long){index} * {group.hidden} + unit);")
        soon = ["static DEVICE void soon(const Args& args, int row) {", f"if (row < 0 || row >= {group.rows}) return;"]
        soon += [f"::soon(args.readers{g}_{r}_{c} + {i * every + group.base} + row);"
                 for r, c, most in group.readers for i in range(most)]  # fmt: skip
        soon += [f"::soon(args.carried{g} + {i * every + group.base} + row);" for i in range(group.carried)]
        soon += [f"::soon(args.own{g} + (long long)row * {group.entering});"] * (group.entering > 0) + ["}"]
        if not group.gates:
            channel = f"args.handed{g}_0 + (long long)row * {group.widths[0]} + unit"
            lines.append(f"put({channel}, dh{self.say.mask(g, 0, 'unit')});")
            return self._each(name, block, group.hidden, [
                *soon, "static DEVICE void each(const Args& args, int row, int unit) {", *lines, "}"])  # fmt: skip
        found = traced(group)
        assert found is not None
        turn, slot = f"(row - {block.offset}) / {block.size}", f"(row - {block.offset}) % {block.size} / {block.rows}"
        lines += [f"const int which = {self.say.which(block, number, turn, slot)};", "Early kept;", *self.say.early(g)]
        lines.append(f"float* to = {self.say.row(g, 'at')} + unit;")
        lines += [f"const float a{k} = fetch(to + {(group.front + k) * group.hidden});" for k in range(group.gates)]
        leaves = [*(f"m_{d}" for d in range(group.entering if group.memory else 0)), *["h"] * group.looks]
        leaves += [f"a_{k}" for k in range(group.gates)]
        holes = [f"p_{k}" for k in range(found.peepholes)]
        there = [name for name in (*leaves, *holes) if name in found.gradients]
        code, names = Lines(self.say.known(g, found, [f"a{k}" for k in range(group.gates)])).code(
            *(found.gradients[name] for name in there))  # fmt: skip
        made = dict(zip(there, names, strict=True))
        lines += code
        lines += [f"put(to + {(1 + k) * group.hidden}, {made.get(name, '0.0f')});" for k, name in enumerate(leaves)]
        lines += [f"args.dp{g}[(long long)row * {len(holes) * group.hidden} + {k * group.hidden} + unit] = "
                  f"{made.get(name, '0.0f')};" for k, name in enumerate(holes)]  # fmt: skip
        head = "static DEVICE void each(const Args& args, int row, int unit) {"
        return self._each(name, block, group.hidden, [self.say.kept_type(g), *soon, head, *lines, "}"])

    def back(self, name: str, g: int, block: Block, number: int) -> tuple[str, Tiles] | None:
        """Write the product of a turn back: what is handed to those who were read."""
        group = self.plan.groups[g]
        inputs, every = group.gates * group.hidden, sum(group.widths) + sum(group.joined)
        width = every if group.chosen else sum(group.widths)  # what joins follows after all turns, unless its weights are chosen
        quads = -(-width // 4)
        cut = tiles(self.card, block.slots, block.rows, quads, 4, inputs)
        if cut is None:
            return None
        lines: list[str] = []
        at = 0
        place = {j: (c, k, len(channel)) for c, channel in enumerate(group.channels) for k, j in enumerate(channel)}
        for j, each in enumerate(group.widths):
            c, k, count = place[j]
            to = f"args.handed{g}_{c} + ((long long)row * {count} + {k}) * {each} + column - {at}"
            lines.append(f"if (column >= {at} && column < {at + each}) "
                         f"put({to}, sums[k]{self.say.mask(g, j, f'column - {at}')});")  # fmt: skip
            at += each
        if at < width:
            lines.append(f"if (column >= {at} && column < {width}) "
                         f"put(args.joined{g} + (long long)row * {width - at} + column - {at}, sums[k]);")  # fmt: skip
        source = self.say.row(g, f"{group.base} + row", str(group.front))
        text = self._product(name, cut, block, number, inputs, 4, quads, [
            "struct Early {};",
            "static DEVICE float weight(const Args& args, int which, int k, int unit, int column) {",
            f"  const int at = unit * 4 + column; return at < {width} ? given(args.W{g} + ((long long)which * {every} + at) * "
            f"{inputs} + k) : 0.0f; }}",
            "static DEVICE void read(const Args& args, float* to, int row, int lane) {",
            f"const float* const from = {source};", _copied(0, inputs, "from", group.hidden), "}",
            "static DEVICE void soon(const Args&, int) {}",
            "static DEVICE void early(const Args&, int, int, Early&) {}",
            "static DEVICE void finish(const Args& args, int row, int, int unit, float* sums, const Early&) {",
            "#pragma unroll", "for (int k = 0; k < 4; k++) {", "const int column = unit * 4 + k;", *lines, "}", "}",
        ])  # fmt: skip
        return text, cut

    # -- whole ---------------------------------------------------------------------------------------------------------

    def kernel(self, backwards: bool, fields: Sequence[tuple[str, str]], begin: Sequence[str]) -> Kernel | None:
        """Write the kernel: what begins it, and then every turn of every phase; None where something has no room."""
        structures: list[str] = []
        body: list[str] = []
        for number, phase in _in_order(self.plan.phases, backwards):
            made = self._phase(number, phase, backwards)
            if made is None:
                return None
            structures += made[0]
            body += made[1]
        arguments = "\n".join(f"  {kind} {name};" for name, kind in fields)
        name = "back" if backwards else "forward"
        text = "\n".join([
            library(), f"struct Args {{\n{arguments}\n  unsigned* arrived;\n}};",
            f"constexpr int ALL_THREADS = {self.threads};", *structures,
            f"KERNEL __launch_bounds__({self.threads}, 1) {name}(const Args args) {{",
            "SHARED(shared);", "float* const memory = (float*)shared;", "unsigned goal = 0;", *begin, *body, "}\n"])  # fmt: skip
        return Kernel(text, self.blocks, self.threads, self.shared)

    def _phase(self, number: int, phase: Phase, backwards: bool) -> tuple[list[str], list[str]] | None:
        structures: list[str] = []
        products: list[tuple[str, Tiles, bool]] = []
        turn: list[tuple[str, Tiles | None]] = []
        for block in reversed(phase.blocks) if backwards else phase.blocks:
            g, name = block.group, f"Step{number}_{block.group}"
            gated = self.plan.groups[g].gates > 0
            if backwards or not gated:
                alone = f"{name}_pull" if backwards else f"{name}_pass"
                structures.append(self.pulled(alone, g, block, number) if backwards else self.passed(alone, g, block))
                turn.append((alone, None))
            if gated:
                made = self.back(name, g, block, number) if backwards else self.forward(name, g, block, number)
                if made is None:
                    return None
                structures.append(made[0])
                turn.append((name, made[1]))
                products.append((name, made[1], self.resident(g, made[1])))
        at: dict[str, int] = {}
        used = 0
        for name, cut, stays in products:
            if stays:
                at[name] = used
                used += -(-cut.weights // 16) * 16
        rows = used + -(-max((cut.weights for _, cut, stays in products if not stays), default=0) // 16) * 16
        room = rows + max((cut.room for _, cut, _ in products), default=0)
        if room > self.card.shared:
            return None
        self.shared = max(self.shared, room)
        lines = [f"Product<{name}>::begin(args, memory + {place // 4});" for name, place in at.items()]
        lines += ["meet(args.arrived, goal);"]
        step = -1 if backwards else 1
        loop = f"for (int turn = {phase.turns - 1}; turn >= 0; turn--) {{" if backwards else (
            f"for (int turn = 0; turn < {phase.turns}; turn++) {{")  # fmt: skip
        lines.append(loop)
        for name, cut in turn:
            if cut is None:
                lines.append(f"  Each<{name}>::run(args, turn, {step});")
            else:
                w = at.get(name, used) // 4
                lines.append(f"  Product<{name}>::run(args, memory + {w}, memory + {rows // 4}, turn, {step});")
            lines.append("  meet(args.arrived, goal);")
        return structures, [*lines, "}"]


def _copied(at: int, width: int, source: str, hidden: int) -> str:
    """Write that a warp copies numbers to a row from number ``at`` on; 16 bytes at a time where vectors are made of such."""
    if at % 4 == 0 and width % 4 == 0 and hidden % 4 == 0:
        return f"for (int k = 4 * lane; k < {width}; k += 128) copy16(to + {at} + k, {source} + k);"
    return f"for (int k = lane; k < {width}; k += 32) to[{at} + k] = fetch({source} + k);"


def _in_order(phases: Sequence[Phase], backwards: bool) -> Iterator[tuple[int, Phase]]:
    numbered = list(enumerate(phases))
    return iter(numbered[::-1] if backwards else numbered)


def library() -> str:
    """Read what all kernels share."""
    return importlib.resources.files("gridc.cuda").joinpath("persistent.cuh").read_text()
