"""Writes the tables of ``docs/language.md`` and ``README.md`` from the code: ``make docs``; ``--check`` only compares."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import gridc
from gridc.cli import COMMANDS
from gridc.insight import report
from gridc.language.document import Document
from gridc.language.grammar import CellPage, InputPage, OutputPage, SchedulePage, TransformPage
from gridc.options import Option
from gridc.tables.cells import CELLS, PAGE
from gridc.tables.learning_rates import SCHEDULES
from gridc.tables.losses import DEFAULTS, LOSSES
from gridc.tables.sweep_block import PRUNERS, SAMPLERS, Range, Sweep
from gridc.tables.tasks import TASKS
from gridc.tables.training_block import Budget, Data, Every, Stop, Training
from gridc.tables.update_rules import OPTIMIZERS

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "language.md", ROOT / "docs" / "cells.md", ROOT / "docs" / "schedules.md", ROOT / "README.md")
MARK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rows(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *cells)]) + "\n"


def cells() -> str:
    def gates(cell: Any) -> str:
        least, most = cell.dimensions
        own = " ".join(cell.gates(least))
        if most == least or cell.gates(2) == cell.gates(least):
            return own
        return f"{own}; along two: {' '.join(cell.gates(2))}"

    return rows(("cell", "maps to", "gates, in the order of the weight's last axis", "source"),
                ((f"`{c.name}`", f"`{c.equation}`", gates(c) or "–", c.source) for c in CELLS.values()))  # fmt: skip


def own_cells() -> str:
    """The pages of ``specs/cells``: their formulas, and what their schedules come to at 50 steps."""

    def lines() -> Iterable[tuple[str, ...]]:
        for path in sorted((ROOT / "specs" / "cells").glob("*.yaml")):
            sizes: dict[str, Any] = dict.fromkeys(gridc.read(path).symbols, 50)
            plan = gridc.schedule(path, **sizes)
            t = next(t for t in plan.spec.transforms.values() if not t.mechanism.shipped)
            made, cell = plan.freed(16), t.mechanism
            products = f"{made[t.name][0]} for {made[t.name][1]}" if t.name in made else "each after the one before"
            written: Mapping[str, Any] = cell.definition.written if cell.definition else {}
            formulas = "<br>".join(f"`{key}: {written[key]}`" for key in ("memory", "hidden") if key in written)
            yield (f"`{path.stem}`", formulas, f"{plan.work:,}", f"{plan.span:,}", products, cell.source)

    return rows(("page", "formulas", "steps", "wavefronts", "products for batches", "source"), lines())


def page_of_cells() -> str:
    """The cells that come with gridc, as they are written."""
    text = PAGE.read_text(encoding="utf-8")
    return f"```yaml\n{text[text.index('cells:') :]}```\n"


def default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, {}, []) or value == ():
        return "–"
    if hasattr(value, "model_dump"):
        said = value.model_dump(exclude_defaults=True)
        return f"`{{{', '.join(f'{k}: {v}' for k, v in said.items())}}}`" if said else "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def keys(*models: Any) -> Callable[[], str]:
    def made() -> str:
        return rows(("key", "takes", "default", "meaning"), (
            (f"`{field.alias or name}`", field.title or "–", default(field), field.description or "–")
            for model in models for name, field in model.model_fields.items()))  # fmt: skip

    return made


def said(options: tuple[Option, ...]) -> str:
    return "; ".join(f"`{o.name}` {o.help} ({o.default})" for o in options) or "–"


MEASURED = {
    "S1": "Grid LSTM, time 50 × depth 4, 128 units, batch 32",
    "S1-untied": "the same with weights of its own at every depth",
    "S3": "Grid LSTM, 20 × 18, 64 units, batch 15",
    "3-D": "three dimensions, 14 × 14 × 4, 100 units, batch 16",
    "MD": "multi-dimensional LSTM, 32 × 32, 32 units, batch 8",
    "S1-stacked": "stacked LSTM, 50 × 4, 128 units, batch 32",
}
"""Sizes of the benchmark that the README begins with, in words."""


def losses() -> str:
    """The losses, with the kinds of output that each is for, in bold where it is the default."""
    return rows(("loss", "for", "at a position", "options (default)", "source"), (
        (f"`{one.name}`", ", ".join(f"**{kind}**" if DEFAULTS[kind] == one.name else kind for kind in one.kinds),
         f"`{one.equation}`", said(one.options), one.source) for one in LOSSES.shipped.values()))  # fmt: skip


def speed() -> str:
    """The first lines of the README's table of PyTorch and JAX at all sizes, which `make bench` measures."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    peer = r" ([^|,\n]+), ([^|\n]+?) \| (\S+) \("  # behind whatever else is said of gridc
    lines = re.findall(rf"^\| ([\w-]+) \| training \| (.+?) \|(?:[^|\n]*\|)*?{peer}", text, re.MULTILINE)
    found = {size: (f"{peer} {theirs}", ours, by) for size, ours, peer, theirs, by in lines}
    made = rows(("a training step on two cores", "gridc", "the fastest of PyTorch and JAX", "times as fast"),
                ((words, found[size][1], found[size][0], found[size][2]) for size, words in MEASURED.items()))
    return made.replace("| --- | --- | --- | --- |", "| --- | ---: | ---: | ---: |")


def figures() -> str:
    """What ``gridc schedule`` prints of the README's grid, without what the cost model says of one machine."""
    plan = gridc.schedule(ROOT / "specs" / "text-classifier.yaml", T=50)
    said = report.report(plan, 8).partition("\n\n  one change, on ")[0]
    return "```text\n" + said + "\n```\n"


def comparison() -> str:
    plans = [gridc.schedule(ROOT / "specs" / f"{name}.yaml", T=50) for name in ("two-grid", "two-grid-time-prioritised")]
    return "```text\n" + report.comparison(plans, 8) + "\n```\n"


def commands() -> str:
    return rows(("command", "what it does"), ((f"`gridc {name}`", text) for name, (_, text) in COMMANDS.items()))


TABLES: dict[str, Callable[[], str]] = {
    "cells": cells,
    "cell": keys(CellPage),
    "own-cells": own_cells,
    "page-of-cells": page_of_cells,
    "speed": speed,
    "commands": commands,
    "figures": figures,
    "comparison": comparison,
    "document": keys(Document),
    "transform": keys(TransformPage),
    "input": keys(InputPage),
    "output": keys(OutputPage),
    "losses": losses,
    "schedule": keys(SchedulePage),
    "training": keys(Training),
    "data": keys(Data),
    "budget": keys(Budget),
    "stop": keys(Stop),
    "every": keys(Every),
    "sweep": keys(Sweep),
    "range": keys(Range),
    "samplers": lambda: rows(("sampler", "what it tries next", "options (default)"),
                             ((f"`{s.name}`", s.help, said(s.options)) for s in SAMPLERS.values())),
    "pruners": lambda: rows(("pruner", "what it does", "options (default)"),
                            ((f"`{p.name}`", p.help, said(p.options)) for p in PRUNERS.values())),
    "tasks": lambda: rows(("task", "what it makes", "options (default)"),
                          ((f"`{t.name}`", t.help, said(t.options)) for t in TASKS.values())),
    "optimizers": lambda: rows(("optimizer", "update", "options (default)"),
                               ((f"`{o.name}`", f"`{o.equation}`", said(o.options)) for o in OPTIMIZERS.shipped.values())),
    "schedules": lambda: rows(("schedule", "what it does", "options (default)"),
                              ((f"`{s.name}`", s.help, said(s.options)) for s in SCHEDULES.values())),
}  # fmt: skip


def written(text: str) -> str:
    """The page with every table made anew."""
    return MARK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> int:
    stale = 0
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = written(before)
        stale |= before != after
        if "--check" not in sys.argv:
            page.write_text(after, encoding="utf-8")
    return int(stale) if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
