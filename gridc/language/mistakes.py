"""Mistakes in a page, each told as one sentence at its place: what was found, what was expected, the nearest right word."""

# A page under reading holds values of any shape, and pydantic's annotations are types of any kind.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gridc.errors import SpecError, listed, nearest
from gridc.language.page import Path_
from gridc.language.spec import Source
from gridc.options import LARGEST, LARGEST_WEIGHT
from gridc.synonyms import in_page, of_value
from gridc.tables.choices import Choice, expected, fields

TOO_LARGE = {"less_than_equal": "le", "greater_than_equal": "ge"}
"""pydantic's names of a number outside of its bounds, and of the bound."""


LONGEST = 120
"""Characters of a word from which a message shows the beginning alone."""


def fail(
    source: Source, path: Path_, sentence: str, *, key: bool = False, at: int | None = None, width: int = 1
) -> NoReturn:
    """Raise at the value under ``path`` (or at its key), or at the nearest place above it that the page has.

    With ``at`` the place is that character of the value, and what is marked is so wide."""
    raise mistake(source, path, sentence, key=key, at=at, width=width)


def mistake(
    source: Source, path: Path_, sentence: str, *, key: bool = False, at: int | None = None, width: int = 1
) -> SpecError:
    """Make the error that ``fail`` raises."""
    sentence = re.sub(rf"\S{{{LONGEST},}}", lambda word: f"{word.group()[: LONGEST // 2]}…", sentence)
    positions = source.positions
    for end in range(len(path), -1, -1):
        whole = end == len(path)
        for place in ((path[:end],) if key or not whole else ((*path, "="), path)):
            if place in positions:
                line, column, whole = positions[place]
                if at is not None:
                    line, column, whole = *_within(source, line, column, at), width
                text = (source.text.splitlines() or [""])[line - 1]
                return SpecError(sentence, path=source.path, line=line, column=column, text=text, width=whole)
    return SpecError(sentence, path=source.path)


def _within(source: Source, line: int, column: int, at: int) -> tuple[int, int]:
    """Give the line and column of a character of the value that begins there: behind a quote, or folded over several lines."""
    lines = source.text.splitlines()
    text = lines[line - 1]
    if text[column - 1 : column] in (">", "|") and line < len(lines):
        line, text = line + 1, lines[line]
        column = len(text) - len(text.lstrip()) + 1
    column += text[column - 1 : column] in ("'", '"')
    while line < len(lines) and column + at > len(text) + 1:
        at -= len(text[column - 1 :].rstrip()) + 1  # a break is folded to a space
        line, text = line + 1, lines[line]
        column = len(text) - len(text.lstrip()) + 1
        if at < 0:
            at = 0
    return line, column + at


FILES: Mapping[Path_, str] = {("training", "held_out"): "; a file of examples goes into 'data: {file: …, held_out: FILE}'"}
"""What to say where a number is asked for and the name of a file may be meant."""


def explain(error: ValidationError, values: Any, source: Source) -> NoReturn:
    """Raise SpecError for pydantic's complaints: one sentence about the one that is deepest in the page, the first of them."""
    told = [(*_landed(e, values), e) for e in error.errors()]
    # A key that one arm of a union lacks and another has is no unknown key.
    told = [(path, missing, e) for path, missing, e in told
            if e["type"] != "extra_forbidden" or path[-1] not in keys(path[:-1])] or told  # fmt: skip
    depth = {i: len(path) for i, (path, _, _) in enumerate(told)}
    places = source.positions
    first = min(range(len(told)), key=lambda i: (-_specific(told[i][2]), places.get(told[i][0], (9**9,))[0], -depth[i]))
    same = [i for i in range(len(told)) if told[i][0][: len(told[first][0])] == told[first][0][: len(told[i][0])]]
    path, missing, e = told[max(same, key=lambda i: (depth[i], _specific(told[i][2])))]
    what = thing(path)
    if e["type"] == "extra_forbidden":
        known = sorted(keys(path[:-1]))
        fail(source, path, f"{thing(path[:-1])}: unknown key '{path[-1]}'; expected {listed(known)}"
                  f"{in_page(path, known) if path[1:] else nearest(path[0], known)}", key=True)  # fmt: skip
    if missing:
        fail(source, path, f"{what} needs the key '{missing}': {_expected((*path, missing))}", key=True)
    value: Any = values
    for part in path:
        value = value[part]
    if isinstance(brought := e.get("ctx", {}).get("error"), SpecError):  # a row that an installed package brings
        fail(source, path, f"{what}: {brought.sentence}")
    if "[key]" in e["loc"]:
        fail(source, path, f"{thing(path[:-1])}: found the name {path[-1]!r}; expected letters, digits, _ and -", key=True)
    wanted = _expected(path)
    bounds = [abs(one.get("ctx", {})[TOO_LARGE[one["type"]]]) for where, _, one in told
              if one["type"] in TOO_LARGE and where == path]  # fmt: skip
    if (most := max(bounds, default=0)) in (LARGEST, LARGEST_WEIGHT):
        wanted += f", up to {most:,}" if most == LARGEST else f", up to {most:g}"
    fail(source, path, f"{what}: found {shown(value)}; expected {wanted}{_hint(path, value, values) if path else ''}")


def _hint(path: Path_, value: Any, values: Any) -> str:
    """Say what may be meant by a value that is not as expected; nothing where nobody knows."""
    axes = values.get("dimensions")
    hint = _put_right(path, value, [name for name in axes if isinstance(name, str)] if isinstance(axes, dict) else [])
    hint = hint or (FILES.get(path, "") or of_value(value, _choices(path)) if isinstance(value, str) else "")
    known = keys(path[:-1])
    if known and path[-1] not in known:  # the path of a key where other keys may stand, too: perhaps one of those is meant
        hint = hint or nearest(path[-1], known)
    return hint


def _put_right(path: Path_, value: Any, dimensions: list[str]) -> str:
    """Say how to write a value that is right but for the list or the mapping around it; nothing where it is none."""
    key, choices = str(path[-1]), _choices(path)
    kinds = [kind for one in _walk(path) for kind in _models(one)]
    if key in ("at", "tile") and (chosen := _by_dimension(key, value, dimensions or ["DIMENSION"])):
        return f" — write {key}: {{{chosen}}}"
    if not isinstance(value, str):
        return ""
    if any(get_origin(kind) is list for kind in kinds) and (value in (*choices, *dimensions) or not choices):
        return f" — write {key}: [{value}]"
    options = [name for kind in kinds if isinstance(kind, type) for name in fields(kind)]
    option = next((name for name in options if value in _choices((*path, name))), None)
    return f" — write {key}: {{{option}: {value}}}" if option else ""


def _by_dimension(key: str, value: Any, dimensions: list[str]) -> str:
    """Write a selection of cells, or their number in a tile, under the dimensions that it may be meant for."""
    if key == "at" and value in dimensions:
        return f"{value}: last"
    one = isinstance(value, int) and not isinstance(value, bool)
    if key == "tile":
        return f"{dimensions[0]}: {value}" if one else ""
    several = isinstance(value, list) and bool(value) and all(type(index) is int for index in value)
    return ", ".join(f"{name}: {value}" for name in dimensions) if one or several or value in ("first", "last", "all") else ""


def _specific(error: Any) -> int:
    """Rank unknown and missing keys, which say more than one arm of a union that did not match, above all else."""
    return 1 if error["type"] in ("extra_forbidden", "missing") else 0


def _landed(error: Any, values: Any) -> tuple[Path_, str]:
    """Find where in the page an error stands (the parts of its location that are no union's arms), and the key missing there."""
    path: list[str | int] = []
    here: Any = values
    for part in error["loc"]:
        if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            path.append(part)
            here = here[part]
    return tuple(path), str(error["loc"][-1]) if error["type"] == "missing" else ""


def _models(annotation: Any) -> list[Any]:
    """List the shapes that a type admits: models, mappings and lists, looked for through unions and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        return [m for arm in get_args(annotation) for m in _models(arm)]
    return [annotation] if get_origin(annotation) in (dict, list) else []


def _walk(path: Path_) -> list[Any]:
    """List the types that the grammar has at a path."""
    from gridc.language.document import Document  # where there is a mistake: making it takes a while

    here: list[Any] = [Document]
    for part in path:
        there: list[Any] = []
        for kind in here:
            for model in _models(kind):
                if get_origin(model) in (dict, list):
                    there.append(get_args(model)[-1])
                elif part in (known := fields(model)):
                    there.append(known[str(part)].annotation)
                elif (others := getattr(model, "others", None)) is not None:
                    there.append(others)
        here = there
    return here


def _choices(path: Path_) -> list[str]:
    """List the words that may stand at a path."""

    def literals(kind: Any) -> list[str]:
        if get_origin(kind) is Literal:
            return [word for word in get_args(kind) if isinstance(word, str)]
        if get_origin(kind) in (dict, type):
            return []
        return [word for arm in get_args(kind) for word in literals(arm)]

    rows = [field.alias or name for kind in _walk(path) for model in _models(kind)
            if isinstance(model, type) and issubclass(model, Choice) for name, field in fields(model).items()]  # fmt: skip
    return [*rows, *(word for kind in _walk(path) for word in literals(kind))]


def keys(path: Path_) -> set[str]:
    """Name the keys that the grammar has at a path; none where a page names them itself."""
    return {f for kind in _walk(path) for m in _models(kind) if hasattr(m, "model_fields") for f in fields(m)}


def _expected(path: Path_) -> str:
    """Give the title of the field at a path, or of the nearest one above it."""
    for end in range(len(path), 0, -1):
        for kind in _walk(path[: end - 1]):
            for model in _models(kind):
                field = fields(model).get(str(path[end - 1])) if hasattr(model, "model_fields") else None
                rows = next((rows for one in _models(field.annotation) if (rows := expected(one))), None) if field else None
                if field is not None and (title := rows or field.title):
                    return title if end == len(path) or end < 2 else f"{title} under '{path[end - 1]}'"
        for kind in _walk(path[:end]):
            for note in getattr(kind, "__metadata__", ()):
                if getattr(note, "title", None):
                    return note.title
    return "something else"


def thing(path: Path_) -> str:
    """Say what a path names, in the user's words: ``transform 'depth', key 'tied'``."""
    singular = {"transforms": "transform", "inputs": "input", "outputs": "output", "dimensions": "dimension", "cells": "cell"}
    if not path:
        return "the spec"
    section, *below = path
    head = f"{singular[str(section)]} '{below[0]}'" if section in singular and below else f"'{section}'"
    rest = [part for part in below[section in singular :] if isinstance(part, str)]
    return f"{head}, {'.'.join(rest)}" if rest else head


def shown(value: Any) -> str:
    """Say what was found, for a message: values themselves, cut off after 60 characters; mappings and long lists by kind."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if len(value) > 6 or any(isinstance(v, dict | list) for v in value) else str(value)
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) < 60 else shown[:56] + "…'"
