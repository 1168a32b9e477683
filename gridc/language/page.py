"""YAML text to plain Python values, with the place of every key, and nothing hostile on the way.

Aliases, tags, deep nesting, duplicate keys, binary and oversized text are refused while the events are scanned, before
any value is built.
"""

# ruamel.yaml has no stubs.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import io
import itertools
import os
import re
from pathlib import Path
from typing import Any

from gridc.errors import SpecError, nearest
from gridc.language.spec import Source

LARGEST = 1 << 18
DEEPEST = 64
MOST = 2500  # keys and values, fifty times what most pages hold; with these limits any text is refused within 100 ms
MANY = f"{MOST:,} keys and values; a spec is a page of YAML"
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")

Path_ = tuple[str | int, ...]


def fetch(where: str | os.PathLike[str]) -> tuple[str, str]:
    """Fetch the text of a spec and the name to call it by; ``where`` is a file's path or the YAML itself."""
    if isinstance(where, str) and ("\n" in where or re.search(r":\s|[{}]|:$", where)):
        return checked(where, "<spec>"), "<spec>"
    path = Path(where)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        folder = path.parent
        names = [p.name for p in folder.glob("*.y*ml")] if folder.is_dir() else []
        raise SpecError(f"there is no such file{nearest(path.name, names)}", path=str(path)) from None
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", path=str(path)) from None
    return _decoded(raw, str(path)), str(path)


def checked(text: str, name: str) -> str:
    """Give back text that was given as such, refused as a file's would be."""
    return _decoded(text.encode("utf-8", "surrogatepass"), name)


def _decoded(raw: bytes, name: str) -> str:
    if len(raw) > LARGEST:
        raise SpecError("found more than 256 KiB of text; a spec is a page of YAML", path=name)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"found bytes that are not UTF-8 text, at byte {error.start}; expected YAML", path=name) from None
    odd = FORBIDDEN.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        column = odd.start() - text.rfind("\n", 0, odd.start())
        raise SpecError(f"found the control character {odd.group()!r}; expected YAML text", path=name, line=line, column=column)
    return text


def parse(text: str, name: str) -> tuple[Any, Source]:
    """Parse the page: its values, and its source with the position of every key and item."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    lines = text.splitlines()

    def error(sentence: str, mark: Any, width: int = 1) -> SpecError:
        line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
        place = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        return SpecError(sentence, path=name, line=place[0], column=place[1], text=line, width=width)

    yaml = YAML(typ="rt", pure=True)
    for place, what in ((_too_deep(text), f"{DEEPEST} levels of nesting"), (_too_many(text), MANY)):
        if place is not None:
            line = text.count("\n", 0, place)
            column = place - text.rfind("\n", 0, place)
            raise SpecError(f"found more than {what}", path=name, line=line + 1, column=column, text=lines[line])
    try:
        _scan(yaml, text, error)
        loaded = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as caught:
        key = re.search(r'duplicate key "([^"]*)"', str(caught.problem))
        word = key.group(1) if key else "a key"
        raise error(f"found the key '{word}' twice; expected each key once", caught.problem_mark, len(word)) from None
    except MarkedYAMLError as caught:
        problem = (caught.problem or caught.context or "it does not parse").replace("\n", " ")
        raise error(f"this is not YAML: {problem}", caught.problem_mark or caught.context_mark) from None
    except SpecError:
        raise
    except (YAMLError, ValueError) as caught:
        raise SpecError(f"this is not YAML: {str(caught).splitlines()[0]}", path=name) from None
    positions: dict[Path_, tuple[int, int, int]] = {}
    return _plain(loaded, (), positions), Source(text, name, positions)


def _too_deep(text: str) -> int | None:
    """Find where brackets nest too deep, seen before the scanner, whose time grows with the square of their depth."""
    depth = 0
    for found in re.finditer(r"[\[{\]}]", text):
        depth = depth + 1 if found.group() in "[{" else max(0, depth - 1)
        if depth > DEEPEST:
            return found.start()
    return None


def _too_many(text: str) -> int | None:
    """Find where there are too many separators, of which no page has more than keys and values: also seen before the scanner,
    which takes 50 µs for each."""
    separators = re.finditer(r"""#[^\n]*|"[^"\n]*"|'[^'\n]*'|(,|:\s|-\s)""", text)
    return next((found.start() for found in itertools.islice((m for m in separators if m.group(1)), MOST, None)), None)


def _scan(yaml: Any, text: str, error: Any) -> None:
    from ruamel.yaml import events

    depth = documents = 0
    for count, event in enumerate(yaml.parse(io.StringIO(text))):
        if count > MOST:
            raise error(f"found more than {MANY}", event.start_mark)
        if isinstance(event, events.AliasEvent):
            raise error(f"found the alias '*{event.anchor}'; a spec repeats itself in full", event.start_mark)
        if getattr(event, "anchor", None):
            raise error(f"found the anchor '&{event.anchor}'; a spec has no aliases to use it", event.start_mark)
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) not in ("None", "!"):
            raise error(f"found the tag '{tag}'; a spec holds plain values only", event.start_mark)
        if isinstance(event, events.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise error("found a second document; a file holds one spec", event.start_mark)
        if isinstance(event, events.MappingStartEvent | events.SequenceStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise error(f"found more than {DEEPEST} levels of nesting", event.start_mark)
        elif isinstance(event, events.MappingEndEvent | events.SequenceEndEvent):
            depth -= 1


def _plain(value: Any, at: Path_, positions: dict[Path_, tuple[int, int, int]]) -> Any:
    """Make plain values of ruamel's annotated ones; ``positions`` gets a place for every key (path) and value (path, '=')."""
    noted: Any = value  # a mapping or list knows where its items stand
    if isinstance(value, dict):
        result: dict[Any, Any] = {}
        for key, item in value.items():
            _note(positions, (*at, key), noted.lc.key(key), len(str(key)))
            width = len(str(item)) if not isinstance(item, dict | list) else 1
            _note(positions, (*at, key, "="), noted.lc.value(key), width)
            result[str(key) if isinstance(key, str) else key] = _plain(item, (*at, key), positions)
        return result
    if isinstance(value, list):
        for i, item in enumerate(value):
            width = len(str(item)) if not isinstance(item, dict | list) else 1
            for path in ((*at, i), (*at, i, "=")):
                _note(positions, path, noted.lc.item(i), width)
        return [_plain(item, (*at, i), positions) for i, item in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _note(positions: dict[Path_, tuple[int, int, int]], path: Path_, place: Any, width: int) -> None:
    positions[path] = (place[0] + 1, place[1] + 1, width)
