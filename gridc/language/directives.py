"""The section ``schedule`` of a page, or the same words given at a call: what is asked of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from pydantic import ValidationError

from gridc.errors import SpecError, UsageError, listed, nearest
from gridc.language import grammar, mistakes
from gridc.language.grammar import SchedulePage
from gridc.language.page import Path_
from gridc.language.spec import Directives, GridSpec, Source

UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
AT: Path_ = ("schedule",)


class _Call(grammar.Page):
    """The section where it stands alone, so that mistakes in it are told as a page's."""

    schedule: SchedulePage


def directives(
    section: SchedulePage, transforms: Iterable[str], axes: Iterable[str], fail: Callable[[Path_, str], NoReturn]
) -> Directives:
    """Read the section; ``fail`` is called where it names no transform or dimension that there is."""
    names, dimensions = list(transforms), list(axes)

    def known(path: Path_, word: str, among: list[str], kind: str) -> int:
        if word not in among:
            fail(path, f"{mistakes.thing(path)}: there is no {kind} '{word}'; expected {listed(among)}{nearest(word, among)}")
        return among.index(word)

    hoist = None
    if section.hoist != "auto":
        words = [] if section.hoist == "none" else section.hoist
        hoist = tuple(names[known((*AT, "hoist", i), word, names, "transform")] for i, word in enumerate(words))
    tile = tuple(sorted((known((*AT, "tile", word), word, dimensions, "dimension"), n) for word, n in section.tile.items()))
    keep = section.keep
    return Directives(section.order, hoist, tile, section.threads, keep if keep == "all" or keep == "little" else _bytes(keep))


def asked(spec: GridSpec, schedule: Mapping[str, Any] | str) -> GridSpec:
    """Give a spec with this asked of its plan, beside what its page asks: ``{"order": "levels", "tile": {"time": 16}}``, or in
    one word ``order=levels,tile.time=16,keep=100MB,hoist=depth+time``.

    Raises UsageError for whatever a page's own section would be refused for."""
    values = _parsed(schedule) if isinstance(schedule, str) else dict(schedule)

    def fail(path: Path_, sentence: str) -> NoReturn:
        raise UsageError(sentence)

    try:
        section = _Call.model_validate({"schedule": values}).schedule
    except ValidationError as error:
        try:
            mistakes.explain(error, {"schedule": values}, Source())
        except SpecError as told:
            raise UsageError(told.sentence) from None
    told = directives(section, spec.transforms, (d.name for d in spec.dimensions), fail)
    return replace(spec, schedule=replace(spec.schedule, **{name: getattr(told, name) for name in values}))


def words(spec: GridSpec) -> dict[str, Any]:
    """Write what is asked of a spec's plan in a page's words, so that ``asked`` reads the same; nothing that is left open."""
    own, axes = spec.schedule, [d.name for d in spec.dimensions]
    found: dict[str, Any] = {} if own.order == "auto" else {"order": own.order}
    if own.hoist is not None:
        found["hoist"] = list(own.hoist) or "none"
    if own.tile:
        found["tile"] = {axes[d]: n for d, n in own.tile}
    if own.keep != "all":
        found["keep"] = own.keep if isinstance(own.keep, str) else amount(own.keep)
    return found


def _parsed(text: str) -> dict[str, Any]:
    """Read ``key=value,key=value`` as a mapping; a dotted key lies in a mapping of its own."""
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not value:
            raise UsageError(f"'schedule': found '{part}'; expected KEY=VALUE, as in order=levels,tile.time=16,keep=100MB")
        head, _, below = key.partition(".")
        number: Any = int(value) if value.isascii() and value.isdigit() else value
        if below:
            found[head] = {**(found[head] if isinstance(found.get(head), dict) else {}), below: number}
        elif head == "hoist" and value not in ("auto", "none"):
            found[head] = value.split("+")
        else:
            found[head] = number
    return found


def _bytes(amount: str) -> int:
    unit = amount[-2:]
    return round(float(amount[:-2]) * UNITS[unit])


def amount(keep: int) -> str:
    """Write so many bytes as a page would: ``200 MB``."""
    unit = max((u for u in UNITS if keep >= UNITS[u]), key=UNITS.__getitem__, default="kB")
    return f"{keep / UNITS[unit]:.15g} {unit}"
