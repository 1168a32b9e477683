"""From a page of YAML to a ``GridSpec``: defaults filled in, names resolved, every mistake one sentence at its place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from gridc.errors import listed
from gridc.language import ends, shapes, transforms
from gridc.language import page as pages
from gridc.language.directives import directives
from gridc.language.grammar import SchedulePage
from gridc.language.lookup import Page
from gridc.language.spec import Dimension, GridSpec
from gridc.plain_text import times

MOST_BYTES = 2**63 - 1
"""What an array's size, in bytes, is counted with."""


def parse(
    text: str, name: str, cells: Mapping[str, Mapping[str, Any]] | None = None, files: bool = True, training: bool = True
) -> GridSpec:
    """Work out what YAML text means; ``name`` is what mistakes call it by, ``cells`` are some more than the page has,
    and the ``files`` of cells that it names are opened only where it may.  Without ``training`` its block is passed over.

    Raises SpecError, with line and column, for whatever the language cannot make sense of."""
    values, read = pages.parse(text, name)
    if not training and isinstance(values, dict):
        some = cast("dict[str, Any]", values)
        values: Any = {key: one for key, one in some.items() if key not in ("training", "sweep")}
    page = Page(values, read, cells, files)
    document = page.document
    _distinct(page)
    priority = _priority(page)
    made = {name: transforms.transform(page, name, t, priority) for name, t in document.transforms.items()}
    made = transforms.widths(page, made)
    inputs = {name: ends.input(page, name, i, made) for name, i in document.inputs.items()}
    for name, t in document.transforms.items():
        transforms.facts(page, name, t, made[name], inputs)
    outputs = {name: ends.output(page, name, o, made) for name, o in document.outputs.items()}
    dimensions = tuple(Dimension(name, size) for name, size in document.dimensions.items())
    source = page.cells.whole({t.cell: t.mechanism for t in made.values()})
    schedule = directives(document.schedule or SchedulePage.model_validate({}), made, page.axes, page.fail)
    blocks: list[Any] = [getattr(document, block, None) for block in ("training", "sweep")]  # which a grid's page alone has not
    spec = GridSpec(document.name, dimensions, made, priority, inputs, outputs, blocks[0], schedule, source, blocks[1])
    _bound(page, spec)
    _shared(page, spec)
    _storable(page, spec)
    if spec.sweep is not None:
        from gridc.language import search  # late, as the grammar of a training is

        search.check(page, values)
    return spec


def _distinct(page: Page) -> None:
    """Refuse a name that two bear: transforms, inputs and outputs share those of the parameters."""
    seen: dict[str, str] = {}
    for section in ("transforms", "inputs", "outputs"):
        for name in getattr(page.document, section):
            if name in seen:
                page.fail((section, name), f"'{name}' is already the name of one of the {seen[name]}; parameters "
                          "are named after transforms, inputs and outputs, so each needs its own", key=True)  # fmt: skip
            seen[name] = section


def _priority(page: Page) -> tuple[tuple[str, ...], ...]:
    """Group the transforms as the page ranks them: those that it does not name are of the first group."""
    names = list(page.document.transforms)
    groups: list[list[str]] = []
    seen: set[str] = set()
    for i, entry in enumerate(page.document.priority or []):
        group = [entry] if isinstance(entry, str) else list(entry)
        for j, word in enumerate(group):
            path = ("priority", i) if isinstance(entry, str) else ("priority", i, j)
            page.known(path, word, names, "transform")
            if word in seen:
                page.fail(path, f"priority names '{word}' twice")
            seen.add(word)
        groups.append(group)
    unnamed = [name for name in names if name not in seen]
    if groups:
        groups[0] = [name for name in names if name in groups[0] or name in unnamed]
    else:
        groups = [unnamed]
    return tuple(tuple(group) for group in groups)


def _bound(page: Page, spec: GridSpec) -> None:
    """Refuse a symbol for which no input has an axis, since calls bind symbols by shapes."""
    axes = {spec.dimensions[d].size for i in spec.inputs.values() for d in i.over}
    for dimension in spec.dimensions:
        if isinstance(dimension.size, str) and dimension.size not in axes:
            page.fail(("dimensions", dimension.name), f"nothing tells the size '{dimension.size}' of dimension "
                      f"'{dimension.name}': no input has an axis for it; "
                      "expected a number, or an input 'over' it")  # fmt: skip


def _shared(page: Page, spec: GridSpec) -> None:
    """Refuse weights that are shared by transforms of which each needs others."""
    for name, transform in spec.transforms.items():
        if transform.shares is None:
            continue
        other = spec.transforms[transform.shares]
        ours, theirs = (
            (len(t.gates) * t.hidden, spec.rows(t.name), tuple(spec.dimensions[d].size for d in t.untied), t.bias)
            for t in (transform, other)
        )
        masks = [shapes.effective_blocks(spec, t) for t in (transform, other)]
        alike = (masks[0] is None) == (masks[1] is None) and (masks[0] is None or bool((masks[0] == masks[1]).all()))
        if ours == theirs and not alike:
            page.fail(("transforms", name, "shares"), f"transform '{name}' and '{other.name}' read their own vectors in "
                      "different places, so a gru's weights are zero in different places and cannot be shared")  # fmt: skip
        holes, others = (len(t.peephole_names()) * t.hidden for t in (transform, other))
        if ours == theirs and holes != others:
            page.fail(("transforms", name, "shares"), f"transform '{name}' has {holes} numbers in its peepholes and "
                      f"'{other.name}' has {others}, so they cannot be shared")  # fmt: skip
        if ours == theirs and transform.vectors != other.vectors:
            some, more = (listed(t.vectors, "and") or "none" for t in (transform, other))
            page.fail(("transforms", name, "shares"), f"transform '{name}' has other vectors ({some}) than '{other.name}' "
                      f"({more}), so they cannot be shared")  # fmt: skip
        own = shapes.weights(spec, transform)
        if ours != theirs or "W" not in own or any(weight.facts for weight in own.values()):
            page.fail(("transforms", name, "shares"), f"transform '{name}' needs weights of {ours[1]} rows × {ours[0]} "
                      f"columns{_untied(ours[2])}, and '{other.name}' has {theirs[1]} × {theirs[0]}"
                      f"{_untied(theirs[2])}")  # fmt: skip


def _storable(page: Page, spec: GridSpec) -> None:
    """No parameter may be larger than an array can be on any machine; one that this machine cannot hold is another matter."""
    for name, shape in shapes.parameter_shapes(spec).items():
        if 8 * math.prod(shape) > MOST_BYTES:
            owner = name.partition(".")[0]
            part = next(s for s in ("transforms", "inputs", "outputs") if owner in getattr(spec, s))
            section = getattr(page.document, part)[owner]
            keys = [key for key in ("hidden", "embed", "features", "vocabulary", "classes") if getattr(section, key, None)]
            shown = " × ".join(f"{n:,}" for n in shape)
            page.fail((part, owner, *keys[:1]), f"the weights '{name}' would be {shown} numbers, more than any array can "
                      "hold", key=not keys)  # fmt: skip


def _untied(sizes: tuple[object, ...]) -> str:
    return f" (untied {times(sizes)})" if sizes else ""
