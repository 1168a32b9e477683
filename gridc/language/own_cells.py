"""Cells that do not come with gridc: on the page, in the files that it names, given in Python, registered, or installed.

A name is looked for in this order.  What a page uses from elsewhere is written among its own cells in ``Source.page``, so that a
model file needs nothing but itself.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from gridc.errors import SpecError, UsageError
from gridc.language import mistakes
from gridc.language import page as pages
from gridc.language.grammar import CellPage, CellsPage, initialiser
from gridc.language.mistakes import shown
from gridc.language.spec import Source
from gridc.resources import located
from gridc.synonyms import of_value
from gridc.tables.cells import CELLS
from gridc.tables.definitions import define
from gridc.tables.formulas import Misread
from gridc.tables.mechanisms import Cell
from gridc.tables.rules import cell

GROUP = "gridc.cells"
"""The group of entry points by which an installed package brings cells."""
REGISTERED: dict[str, Cell] = {}
"""Cells by name, as ``register_cell`` puts them in."""


def register_cell(name: str, page: Mapping[str, Any]) -> None:
    """Make a cell known to every page that is read from now on in this process.

    Args:
        name: The word for it; a page's own cell of that name comes first.
        page: Its gates and formulas, in a page's words: ``{"gates": {"a": "tanh"}, "hidden": "a"}``.

    Raises:
        SpecError: The words make no sense.
        UsageError: It is the name of a cell that comes with gridc.
    """
    if name in CELLS:
        raise UsageError(f"there is a cell '{name}' already; expected another name")
    REGISTERED.update(_given({name: page}, f"<register_cell '{name}'>"))


def installed() -> dict[str, Any]:
    """Give the entry points that bring cells, by the cell's name; none of them is loaded."""
    from importlib.metadata import entry_points  # late, since few ask for what is not gridc's

    return {point.name: point for point in entry_points(group=GROUP)}


def names() -> list[str]:
    """List the cells that any page knows: what is registered, what is installed, what comes with gridc."""
    return list(dict.fromkeys((*REGISTERED, *installed(), *CELLS)))


def named(name: str) -> Cell:
    """Give a cell that any page knows.  Raises KeyError; SpecError where an installed one makes no sense."""
    for table in (REGISTERED, CELLS):
        if name in table:
            return table[name]
    return _loaded(name, installed()[name])


class Cells:
    """The cells that one page knows; the ``files`` that it names are opened only where it may.

    Raises SpecError for a definition that makes no sense, where it stands."""

    def __init__(
        self, values: Mapping[str, Any], source: Source, given: Mapping[str, Mapping[str, Any]] | None = None, files: bool = True
    ):
        self.values, self.source = values, source
        said: Any = values.get("cells") or {}
        self.own: dict[str, Cell] = {}
        if isinstance(said, list):
            if not files:
                mistakes.fail(source, ("cells",), "'cells': found the names of files, of which the page of a model has none; "
                              "expected a mapping of name to cell")  # fmt: skip
            for i, name in enumerate(cast("list[str]", said)):
                self.add(_of_file(i, name, source), ("cells", i))
        else:
            self.own = _defined(said, source)
        self.add(_given(given or {}, "<cells>"), ("cells",))

    def add(self, found: Mapping[str, Cell], path: pages.Path_) -> None:
        """Take in cells from elsewhere; SpecError where the page knows another one of a name."""
        for name, one in found.items():
            if name in self.own and self.own[name].definition != one.definition:
                mistakes.fail(self.source, path, f"cell '{name}' is defined twice, in different ways; expected one of them")
            self.own[name] = one

    def find(self, transform: str, name: str) -> Cell:
        """Give the cell that a transform names; SpecError, with the nearest name, where there is none."""
        if name in self.own:
            return self.own[name]
        try:
            return named(name)
        except KeyError:
            known = list(dict.fromkeys((*self.own, *names())))
            mistakes.fail(self.source, ("transforms", transform, "cell"), f"transform '{transform}', cell: found {shown(name)}; "
                          f"expected one of {', '.join(known)}{of_value(name, known)}")  # fmt: skip

    def whole(self, used: Mapping[str, Cell]) -> Source:
        """Give the page's source, with what it ``used`` from elsewhere among its own cells."""
        said: Any = self.values.get("cells") or {}
        inline = dict(cast("Mapping[str, Any]", said)) if isinstance(said, Mapping) else {}
        others = {name: one.definition.written for name, one in used.items()
                  if one.definition is not None and not one.shipped and name not in inline}  # fmt: skip
        if not others and not isinstance(said, list):
            return self.source
        from ruamel.yaml import YAML

        yaml: Any = YAML(typ="safe", pure=True)
        yaml.allow_unicode, yaml.sort_base_mapping_type_on_output, text = True, False, io.StringIO()
        yaml.dump({**self.values, "cells": inline | _plain(others)}, text)
        return replace(self.source, own=text.getvalue())


def _loaded(name: str, point: Any) -> Cell:
    """Give the cell that an entry point brings: a mapping in a page's words, or a function that gives one."""
    try:
        page = point.load()
        page = page() if callable(page) else page
    except Exception as error:  # whatever the package raises
        raise SpecError(f"the cell '{name}' of the entry point {point.value} cannot be loaded: {error}",
                        path=f"<{GROUP}>") from error  # fmt: skip
    return _given({name: page}, f"<{point.value}>")[name]


def _plain(value: Any) -> Any:
    """Give mappings and lists as YAML writes them, and texts as one line, as which a page has them."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("list[Any]", value)]
    return " ".join(value.split()) if isinstance(value, str) else value


def _of_file(i: int, name: str, source: Source) -> dict[str, Cell]:
    """Define the cells of a file, whose name is relative to the page that names it."""
    folder = Path(source.path).parent if not source.path.startswith("<") else Path()
    path = folder / located(name)
    try:
        text, told = pages.fetch(path)
    except SpecError as error:
        mistakes.fail(source, ("cells", i), f"the file of cells {path}: {error.sentence}")
    values, own = pages.parse(text, told)
    if not isinstance(values, dict) or not isinstance(cast("dict[str, Any]", values).get("cells"), dict):
        mistakes.fail(own, ("cells",), "a file of cells has the key 'cells': a mapping of name to cell", key=True)
    return _defined(cast("dict[str, Any]", values)["cells"], own)


def _given(cells: Mapping[str, Any], told: str) -> dict[str, Cell]:
    return _defined(_plain(cells), Source(path=told))


def _defined(cells: Any, source: Source) -> dict[str, Cell]:
    """Define cells from plain values of any shape."""
    try:
        read = CellsPage.model_validate({"cells": cells}).cells
    except ValidationError as error:
        mistakes.explain(error, {"cells": cells}, source)
    return {name: _cell(name, one, cells[name], source) for name, one in read.items()}


def _cell(name: str, page: CellPage, written: Mapping[str, Any], source: Source) -> Cell:
    if name in CELLS:
        mistakes.fail(source, ("cells", name), f"there is a cell '{name}' already; expected another name", key=True)
    odd = pages.FORBIDDEN.search(page.source or "")
    if odd:
        mistakes.fail(source, ("cells", name, "source"), f"cell '{name}', source: found the control character {odd.group()!a}; "
                      "expected plain text")  # fmt: skip
    words = page.model_dump(exclude_unset=True)
    if page.init is not None:
        words["init"] = initialiser(page.init)
    try:
        definition = replace(define(name, words), written=written)
    except Misread as error:
        path = ("cells", name, *error.path)
        mistakes.fail(source, path, f"{mistakes.thing(path)}: {error.sentence}", key=error.key, at=error.at, width=error.width)
    return cell(definition, name)


