"""The sections ``inputs`` and ``outputs`` of a page: what enters, joins and is read out, where, and in what shape."""

from __future__ import annotations

from typing import Any

from gridc.errors import listed
from gridc.language.grammar import InputPage, OutputPage, initialiser
from gridc.language.lookup import Page
from gridc.language.page import Path_
from gridc.language.spec import Input, Output, Selection, Tap, Transform
from gridc.tables.losses import DEFAULTS, LOSSES, Kind, fitting


def input(page: Page, name: str, section: InputPage, transforms: dict[str, Transform]) -> Input:
    """Read one input: what it holds, where it goes and the axes of its array; SpecError at whatever makes no sense."""
    roles = _roles(page, name, section)
    at = page.selection(("inputs", name, "at"), section.at)
    own, into = _entrance(page, name, section, transforms, at, "joins" in roles)
    joins = _joins(page, name, section, transforms)
    over = _over(page, name, section, at, own)
    kind: Any = "features" if section.features is not None else "vocabulary"
    return Input(name, kind, section.features or section.vocabulary or 0, section.embed, section.enters, into, joins, at, over,
                 section.facts, initialiser(section.init))  # fmt: skip


def _roles(page: Page, name: str, section: InputPage) -> list[str]:
    """Give the keys that say where an input goes, once what it holds and where it goes is one thing each."""
    path: Path_ = ("inputs", name)
    if (section.features is None) == (section.vocabulary is None):
        found = "both features and vocabulary" if section.features else "neither features nor vocabulary"
        page.fail(path, f"input '{name}' has {found}; expected one of them", key=True)
    if section.embed is not None and section.vocabulary is None:
        page.fail((*path, "embed"), f"input '{name}': only ids of a vocabulary are embedded", key=True)
    roles = [word for word in ("enters", "joins", "facts") if getattr(section, word)]
    if len(roles) != 1 and set(roles) != {"enters", "joins"}:
        found = listed(roles, "and") or "no place to go"
        page.fail(path, f"input '{name}' has {found}; expected enters, joins or facts", key=True)
    return roles


def _entrance(
    page: Page, name: str, section: InputPage, transforms: dict[str, Transform], at: tuple[Selection, ...], joined: bool
) -> tuple[int | None, tuple[Any, ...]]:
    """Give the dimension along which an input enters, None where it does not, and the vectors that it enters into."""
    path: Path_ = ("inputs", name)
    if section.enters is None:
        if section.into is not None:
            page.fail((*path, "into"), f"input '{name}': 'into' belongs to an input that enters", key=True)
        return None, ()
    of = transforms[page.known((*path, "enters"), section.enters, transforms, "transform")]
    own, *others = of.along
    if others:
        page.fail((*path, "enters"), f"input '{name}' cannot enter along '{of.name}', which travels along several "
                  "dimensions; expected 'joins'")  # fmt: skip
    if at[own] not in ("all", "first") and not joined:
        page.fail((*path, "at", page.axes[own]), f"input '{name}' enters before the first cell along "
                  f"'{page.axes[own]}'; expected the other dimensions only")  # fmt: skip
    into: tuple[Any, ...] = tuple(section.into) if section.into else (("hidden", "memory") if of.has_memory else ("hidden",))
    if "memory" in into and not of.has_memory:
        page.fail((*path, "into"), f"input '{name}': a {of.cell} cell keeps no memory; expected [hidden]")
    return own, into


def _joins(page: Page, name: str, section: InputPage, transforms: dict[str, Transform]) -> tuple[str, ...]:
    """Name the transforms that an input joins; SpecError at one that has no weights for it."""
    path: Path_ = ("inputs", name)
    joins = tuple(page.known((*path, "joins", i), w, transforms, "transform") for i, w in enumerate(section.joins or []))
    for i, word in enumerate(joins):
        if transforms[word].mechanism.reads != "any":
            page.fail((*path, "joins", i), f"input '{name}' cannot join '{word}': a {transforms[word].cell} cell has no "
                      "weights for it")  # fmt: skip
    return joins


def _over(page: Page, name: str, section: InputPage, at: tuple[Selection, ...], own: int | None) -> tuple[int, ...]:
    """Give the dimensions that an input's array has axes for: as told, all but its own if it enters, or those in full."""
    path: Path_ = ("inputs", name)
    if section.over is not None:
        over = tuple(page.axis((*path, "over", i), w) for i, w in enumerate(section.over))
        if len(set(over)) < len(over):
            page.fail((*path, "over"), f"input '{name}': over names a dimension twice")
        if own in over:
            page.fail((*path, "over"), f"input '{name}' enters along '{page.axes[own or 0]}' and has no axis for it")
        return over
    if section.facts:
        return ()
    if own is not None:
        return tuple(d for d in range(len(page.axes)) if d != own)
    return tuple(d for d in range(len(page.axes)) if at[d] == "all")


def output(page: Page, name: str, section: OutputPage, transforms: dict[str, Transform]) -> Output:
    """Read one output: its taps, the cells that it reads and its loss; SpecError at whatever makes no sense."""
    path: Path_ = ("outputs", name)
    taps: list[Tap] = []
    for i, word in enumerate(section.reads):
        head, dot, tail = word.partition(".")
        page.known((*path, "reads", i), head, transforms, "transform")
        if dot and (tail != "memory" or not transforms[head].has_memory):
            why = f"a {transforms[head].cell} cell keeps no memory" if tail == "memory" else f"expected '{head}.memory'"
            page.fail((*path, "reads", i), f"output '{name}': found '{word}'; {why}")
        taps.append(Tap(head, bool(dot)))
    kinds = [kind for kind in DEFAULTS if getattr(section, kind) is not None]
    if len(kinds) != 1:
        found = listed(kinds, "and") or "no kind"
        page.fail(path, f"output '{name}' has {found}; expected one of {', '.join(DEFAULTS)}", key=True)
    kind: Any = kinds[0]
    at = page.selection((*path, "at"), section.at)
    cells = 1
    for selection in at:
        cells *= len(selection) if isinstance(selection, tuple) else 1
    width = cells * sum(transforms[tap.transform].hidden for tap in taps)
    size = {"classes": section.classes, "features": section.features, "binary": 1, "raw": width}[kind]
    loss, given = _loss(page, name, section, kind)
    _check_ignored(page, name, section, kind)
    return Output(name, tuple(taps), at, kind, size or 0, loss, initialiser(section.init), given, section.ignore)


def _check_ignored(page: Page, name: str, section: OutputPage, kind: Kind) -> None:
    """SpecError where what is ignored can be no target of this kind."""
    whole = kind in ("classes", "binary")
    if section.ignore is not None and whole != isinstance(section.ignore, int):
        expected = "an integer, such as -1" if whole else "nan"
        page.fail(("outputs", name, "ignore"), f"output '{name}': ignore is {section.ignore}, and {kind} "
                  f"{'are' if kind != 'binary' else 'is'} told to ignore {expected}")  # fmt: skip


def _loss(page: Page, name: str, section: OutputPage, kind: Kind) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """Give an output's loss and the options that are not as they are by default; SpecError where it does not fit the kind."""
    if section.loss is None:
        return DEFAULTS[kind], ()
    loss = section.loss.name
    if kind not in LOSSES[loss].kinds:
        page.fail(("outputs", name, "loss"), f"output '{name}': {loss} does not fit {kind}; expected {listed(fitting(kind))}")
    given = section.loss.options
    return loss, tuple((o.name, given[o.name]) for o in LOSSES[loss].options if given[o.name] != o.default)
