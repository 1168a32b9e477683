"""The sections ``inputs`` and ``outputs`` of a page: what enters, joins and is read out, where, and in what shape."""

from __future__ import annotations

from typing import Any

from gridc.errors import listed
from gridc.language.grammar import InputPage, OutputPage
from gridc.language.lookup import Reading, initialiser
from gridc.language.page import Path_
from gridc.language.spec import Input, Output, Selection, Tap, Transform

LOSSES = {"classes": "cross_entropy", "binary": "binary_cross_entropy", "features": "squared_error", "raw": "squared_error"}


class PortReading(Reading):
    """Reads inputs and outputs."""

    def input(self, name: str, page: InputPage, transforms: dict[str, Transform]) -> Input:
        """Read one input: what it holds, where it goes and the axes of its array; SpecError at whatever makes no sense."""
        roles = self._roles(name, page)
        at = self.selection(("inputs", name, "at"), page.at)
        own, into = self._entrance(name, page, transforms, at, "joins" in roles)
        joins = self._joins(name, page, transforms)
        over = self._over(name, page, at, own)
        kind: Any = "features" if page.features is not None else "vocabulary"
        return Input(name, kind, page.features or page.vocabulary or 0, page.embed, page.enters, into, joins, at, over,
                     page.facts, initialiser(page.init))  # fmt: skip

    def _roles(self, name: str, page: InputPage) -> list[str]:
        """Give the keys that say where an input goes, once what it holds and where it goes is one thing each."""
        path: Path_ = ("inputs", name)
        if (page.features is None) == (page.vocabulary is None):
            found = "both features and vocabulary" if page.features else "neither features nor vocabulary"
            self.fail(path, f"input '{name}' has {found}; expected one of them", key=True)
        if page.embed is not None and page.vocabulary is None:
            self.fail((*path, "embed"), f"input '{name}': only ids of a vocabulary are embedded", key=True)
        roles = [word for word in ("enters", "joins", "facts") if getattr(page, word)]
        if len(roles) != 1 and set(roles) != {"enters", "joins"}:
            found = listed(roles, "and") or "no place to go"
            self.fail(path, f"input '{name}' has {found}; expected enters, joins or facts", key=True)
        return roles

    def _entrance(
        self, name: str, page: InputPage, transforms: dict[str, Transform], at: tuple[Selection, ...], joined: bool
    ) -> tuple[int | None, tuple[Any, ...]]:
        """Give the dimension along which an input enters, None where it does not, and the vectors that it enters into."""
        path: Path_ = ("inputs", name)
        if page.enters is None:
            if page.into is not None:
                self.fail((*path, "into"), f"input '{name}': 'into' belongs to an input that enters", key=True)
            return None, ()
        of = transforms[self.known((*path, "enters"), page.enters, transforms, "transform")]
        own, *others = of.along
        if others:
            self.fail((*path, "enters"), f"input '{name}' cannot enter along '{of.name}', which travels along several "
                      "dimensions; expected 'joins'")  # fmt: skip
        if at[own] not in ("all", "first") and not joined:
            self.fail((*path, "at", self.axes[own]), f"input '{name}' enters before the first cell along "
                      f"'{self.axes[own]}'; expected the other dimensions only")  # fmt: skip
        into: tuple[Any, ...] = tuple(page.into) if page.into else (("hidden", "memory") if of.has_memory else ("hidden",))
        if "memory" in into and not of.has_memory:
            self.fail((*path, "into"), f"input '{name}': a {of.cell} cell keeps no memory; expected [hidden]")
        return own, into

    def _joins(self, name: str, page: InputPage, transforms: dict[str, Transform]) -> tuple[str, ...]:
        """Name the transforms that an input joins; SpecError at one that has no weights for it."""
        path: Path_ = ("inputs", name)
        joins = tuple(self.known((*path, "joins", i), w, transforms, "transform") for i, w in enumerate(page.joins or []))
        for i, word in enumerate(joins):
            if transforms[word].mechanism.reads != "any":
                self.fail((*path, "joins", i), f"input '{name}' cannot join '{word}': a {transforms[word].cell} cell has no "
                          "weights for it")  # fmt: skip
        return joins

    def _over(self, name: str, page: InputPage, at: tuple[Selection, ...], own: int | None) -> tuple[int, ...]:
        """Give the dimensions that an input's array has axes for: as told, all but its own if it enters, or those in full."""
        path: Path_ = ("inputs", name)
        if page.over is not None:
            over = tuple(self.axis((*path, "over", i), w) for i, w in enumerate(page.over))
            if len(set(over)) < len(over):
                self.fail((*path, "over"), f"input '{name}': over names a dimension twice")
            if own in over:
                self.fail((*path, "over"), f"input '{name}' enters along '{self.axes[own or 0]}' and has no axis for it")
            return over
        if page.facts:
            return ()
        if own is not None:
            return tuple(d for d in range(len(self.axes)) if d != own)
        return tuple(d for d in range(len(self.axes)) if at[d] == "all")

    def output(self, name: str, page: OutputPage, transforms: dict[str, Transform]) -> Output:
        """Read one output: its taps, the cells that it reads and its loss; SpecError at whatever makes no sense."""
        path: Path_ = ("outputs", name)
        taps: list[Tap] = []
        for i, word in enumerate(page.reads):
            head, dot, tail = word.partition(".")
            self.known((*path, "reads", i), head, transforms, "transform")
            if dot and (tail != "memory" or not transforms[head].has_memory):
                why = f"a {transforms[head].cell} cell keeps no memory" if tail == "memory" else f"expected '{head}.memory'"
                self.fail((*path, "reads", i), f"output '{name}': found '{word}'; {why}")
            taps.append(Tap(head, bool(dot)))
        kinds = [kind for kind in LOSSES if getattr(page, kind) is not None]
        if len(kinds) != 1:
            found = listed(kinds, "and") or "no kind"
            self.fail(path, f"output '{name}' has {found}; expected one of {', '.join(LOSSES)}", key=True)
        kind: Any = kinds[0]
        at = self.selection((*path, "at"), page.at)
        cells = 1
        for selection in at:
            cells *= len(selection) if isinstance(selection, tuple) else 1
        width = cells * sum(transforms[tap.transform].hidden for tap in taps)
        size = {"classes": page.classes, "features": page.features, "binary": 1, "raw": width}[kind]
        loss: Any = page.loss or LOSSES[kind]
        if page.loss is not None and page.loss != LOSSES[kind] and not (kind == "binary" and loss == "squared_error"):
            self.fail((*path, "loss"), f"output '{name}': {page.loss} does not fit {kind}; expected {LOSSES[kind]}")
        return Output(name, tuple(taps), at, kind, size or 0, loss, initialiser(page.init))
