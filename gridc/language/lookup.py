"""One page being read: looks its names up, and fails at the place of a name that is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast

from pydantic import ValidationError

from gridc.errors import listed, nearest
from gridc.language import mistakes
from gridc.language.grammar import GridPage
from gridc.language.mistakes import shown, thing
from gridc.language.own_cells import Cells
from gridc.language.page import Path_
from gridc.language.spec import Selection, Source


class Page:
    """A page that the grammar admits, with its dimensions in order as ``axes``."""

    def __init__(self, values: Any, source: Source, cells: Mapping[str, Mapping[str, Any]] | None = None, files: bool = True):
        self.source = source
        if not isinstance(values, dict):
            self.fail((), f"found {shown(values)}; expected a mapping with name, dimensions and transforms")
        try:
            self.document = _grammar(cast("dict[str, Any]", values)).model_validate(values)
        except ValidationError as error:
            mistakes.explain(error, values, source)
        self.axes = list(self.document.dimensions)
        self.cells = Cells(cast("dict[str, Any]", values), source, cells, files)

    def fail(self, path: Path_, sentence: str, *, key: bool = False) -> NoReturn:
        """Raise SpecError at a place of this page; see ``mistakes.fail``."""
        mistakes.fail(self.source, path, sentence, key=key)

    def known(self, path: Path_, word: str, among: Iterable[str], kind: str) -> str:
        """Give back a word that is among those declared; SpecError at its place, with the nearest of them, where it is not."""
        among = list(among)
        if word not in among:
            self.fail(path, f"{thing(path)}: there is no {kind} '{word}'; expected {listed(among) or 'one to be declared'}"
                      f"{nearest(word, among)}")  # fmt: skip
        return word

    def axis(self, path: Path_, word: str) -> int:
        """Give the index of the dimension that a word names; SpecError at its place where there is none."""
        return self.axes.index(self.known(path, word, self.axes, "dimension"))

    def selection(self, path: Path_, at: Mapping[str, Any]) -> tuple[Selection, ...]:
        """Give for each dimension the indices that ``at`` chooses, all where it says nothing.

        Raises SpecError for an unknown dimension, and for an index that lies outside its size or is there twice."""
        chosen: list[Selection] = ["all"] * len(self.axes)
        for word, value in at.items():
            axis = self.axis((*path, word), word)
            indices: list[Any] = [value] if isinstance(value, int | str) else value
            if isinstance(value, str):
                chosen[axis] = value  # type: ignore[call-overload]  # the grammar allows three words
                continue
            size = self.document.dimensions[self.axes[axis]]
            for index in indices:
                if index < 0 or (isinstance(size, int) and index >= size):
                    self.fail((*path, word), f"{thing(path)}: found the index {index}; dimension '{word}' has "
                              + (f"{size} cells, 0 to {size - 1}" if isinstance(size, int) else "indices from 0"))  # fmt: skip
            if not indices or len(set(indices)) < len(indices):
                self.fail((*path, word), f"{thing(path)}: found {shown(value)}; expected each index once, and at least one")
            chosen[axis] = tuple(indices)
        return tuple(chosen)


def _grammar(values: Mapping[str, Any]) -> type[GridPage]:
    """Give the grammar of a page, which is that of a grid alone where it says nothing of training or of a sweep."""
    if not {"training", "sweep"} & values.keys():
        return GridPage
    from gridc.language.document import Document

    return Document
