"""A page is read and checked: what no section can tell alone, such as steps that wait for each other."""

from __future__ import annotations

import copyreg
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gridc.errors import SpecError, SpecWarning, UsageError, listed
from gridc.language import directives, noise, reader
from gridc.language.lattice import filled, flat, output_points
from gridc.language.mistakes import fail, mistake
from gridc.language.page import Path_, checked, fetch
from gridc.language.spec import Directives, GridSpec
from gridc.scheduling import graph, order

MOST = 4096
"""Cells of the grid on which steps that wait for each other are looked for."""


def read(where: str | os.PathLike[str], cells: Mapping[str, Mapping[str, Any]] | None = None) -> GridSpec:
    """Read a spec from a file, or from YAML text.

    Args:
        where: The path of a page, or its text: whatever has more than one line, or a key with its colon, is text.
        cells: Cells of one's own, in a page's words by name, beside those of the page.

    Raises:
        SpecError: The language cannot make sense of it; with file, line and column, and the nearest word.

    Warns:
        SpecWarning: Dropout changes nothing where it stands.
    """
    text, name = fetch(where)
    spec = check(reader.parse(text, name, cells))
    for transform in unseen_dropout(spec):
        why = (f"dropout of '{transform}' hides nothing: it hides units from the transforms that read them, and no step that an "
               "output depends on is one; leave 'dropout' out")  # fmt: skip
        told = mistake(spec.source, ("transforms", transform, "dropout"), why, key=True)
        warnings.warn(SpecWarning(str(told)), stacklevel=2)
    return spec


def parse(text: str, name: str = "<spec>") -> GridSpec:
    """Read the page that a model holds: YAML text, even where it is one line that might be a path; it can open no file.

    Raises SpecError, as ``read``."""
    return check(reader.parse(checked(text, name), name, files=False))


def asked(spec: GridSpec, schedule: Mapping[str, Any] | str | None, recompute: bool = False) -> GridSpec:
    """Give a spec with this asked of its plan, beside what its page asks; to ``recompute`` is to keep little.

    Raises UsageError for what no page could say, and for what the dependences forbid."""
    if recompute and not spec.schedule.recompute:
        spec = replace(spec, schedule=replace(spec.schedule, keep="little"))
    if schedule is None:
        return spec
    spec = directives.asked(spec, schedule)
    try:
        _allowed(spec)
    except SpecError as error:
        raise UsageError(error.sentence) from None
    return spec


def _read_again(text: str, path: str, schedule: Directives) -> GridSpec:
    return replace(parse(text, path), schedule=schedule)


def _pickled(spec: GridSpec) -> tuple[Any, ...]:
    return _read_again, (spec.source.page, spec.source.path, spec.schedule)


copyreg.pickle(GridSpec, _pickled)  # as its page, since the functions of its cells and the blocks of its training have no names


def check(spec: GridSpec) -> GridSpec:
    """Give a spec back that can be scheduled and compiled.

    Raises SpecError where zoneout has no old value to keep, or where steps wait for each other."""
    for name, transform in spec.transforms.items():
        why = noise.refusal(spec, transform)
        if why is not None:
            fail(spec.source, ("transforms", name, "zoneout"), why, key=True)
    try:
        _ = graph.build(spec, _large_enough(spec)).levels
    except graph.Cycle as cycle:
        name = cycle.steps[0].transform
        path: Path_ = ("transforms", name, "reads")
        path = path if path in spec.source.positions else path[:2]
        shown = str(cycle) if len(cycle.steps) < 9 else f"{listed(cycle.steps[:8], 'and')} …"
        fail(spec.source, path, f"these steps wait for each other: {shown} ('←' is 'waits for')", key=True)
    if spec.schedule != Directives():
        _allowed(spec)
    return spec


def unseen_dropout(spec: GridSpec) -> list[str]:
    """Name the transforms whose dropout changes no output: no other transform that one depends on reads them."""
    noisy = [name for name, t in spec.transforms.items() if t.dropout]
    if not noisy:
        return []
    reach = sum(abs(o) for t in spec.transforms.values() for r in t.reads for o in (*r.offset, *t.wrap))
    turns = [len(d.cycle) for t in spec.transforms.values() for d in t.direction]
    picked = [i for o in spec.outputs.values() for at in o.at if isinstance(at, tuple) for i in at]
    largest = min(reach + max(2, *turns, *picked, 0) + 1, MOST)
    sizes = tuple(min(d.size, largest) if isinstance(d.size, int) else largest for d in spec.dimensions)
    if np.prod(sizes) > MOST:
        return []  # too much to look at; it is harmless
    steps = graph.build(spec, sizes)
    live = np.zeros(steps.count, bool)
    for output in spec.outputs.values():
        for tap in output.reads:
            where, exist = output_points(output, spec.transforms[tap.transform], sizes, filled(sizes, 1))
            live[spec.numbers[tap.transform] * steps.cells + flat(where[exist], sizes)] = True
    count = -1
    while count != (count := int(live.sum())):
        live[steps.before[live[steps.after]]] = True
    reader, read = steps.after // steps.cells, steps.before // steps.cells
    seen = set(read[live[steps.after] & (reader != read)].tolist())
    return [name for name in noisy if spec.numbers[name] not in seen]


def _allowed(spec: GridSpec) -> None:
    """Raise SpecError where the dependences forbid what the page's schedule asks for: looked at in a few small blocks, since
    what they allow depends on which way steps wait alone."""
    small = {d: min(n, 2) for d, n in spec.schedule.tile}
    sizes = tuple(2 * small[d] + 1 if d in small else n for d, n in enumerate(_large_enough(spec)))
    asked = replace(spec, schedule=replace(spec.schedule, tile=tuple(small.items())))
    try:
        order.check(graph.build(asked, sizes))
    except order.Refused as refused:
        fail(spec.source, ("schedule", refused.key), f"'schedule', {refused.key}: {refused}")


def _large_enough(spec: GridSpec) -> tuple[int, ...]:
    """Choose sizes at which every offset takes part, as far as there is room."""
    reach = [abs(o) for t in spec.transforms.values() for r in t.reads for o in (*r.offset, *t.wrap)]
    turns = [len(d.cycle) for t in spec.transforms.values() for d in t.direction]
    largest = min(max(2, *reach, *turns, 0) + 1, MOST)
    while largest > 2 and largest ** len(spec.dimensions) > MOST:
        largest -= 1
    return tuple(min(d.size, largest) if isinstance(d.size, int) else largest for d in spec.dimensions)
