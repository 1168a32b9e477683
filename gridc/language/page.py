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
from typing import Any

from gridc.errors import SpecError, nearest
from gridc.language import malformed
from gridc.language.spec import Source
from gridc.resources import located

LARGEST = 1 << 18
DEEPEST = 64
MOST = 2500  # keys and values, fifty times what most pages hold; with these limits any text is refused within 100 ms
MANY = f"{MOST:,} keys and values; a spec is a page of YAML"
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""What moves a terminal's cursor, turns the direction of the text around it, or is no character: in no text of a spec."""
BREAK = re.compile("[\t\n\r\u2028\u2029]")
"""What no value may hold besides: each is one line, as names and messages are."""

Path_ = tuple[str | int, ...]


def fetch(where: str | os.PathLike[str]) -> tuple[str, str]:
    """Fetch the text of a spec and the name to call it by; ``where`` is a file's path or the YAML itself."""
    if isinstance(where, str) and ("\n" in where or re.search(r":\s|[{}]|:$", where)):
        return checked(where, "<spec>"), "<spec>"
    path = located(where)
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
        line, column = _place(raw[: error.start].decode("utf-8", "replace"))
        raise SpecError(f"found bytes that are not UTF-8 text, at byte {error.start}; expected YAML", path=name, line=line,
                        column=column) from None  # fmt: skip
    odd = FORBIDDEN.search(text)
    if odd:
        line, column = _place(text[: odd.start()])
        raise SpecError(f"found the control character {odd.group()!a}; expected YAML text", path=name, line=line,
                        column=column)  # fmt: skip
    return text


def _place(before: str) -> tuple[int, int]:
    """Give the line and the column, from 1, of what follows this text."""
    lines = f"{before}|".splitlines()
    return len(lines), len(lines[-1])


def parse(text: str, name: str) -> tuple[Any, Source]:
    """Parse the page: its values, and its source with the position of every key and item."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    lines = text.splitlines() or [""]

    def error(sentence: str, mark: Any, width: int = 1) -> SpecError:
        line, column = (mark.line, mark.column) if mark is not None else (0, 0)
        if line >= len(lines):  # behind the last line: at its end
            line, column = len(lines) - 1, len(lines[-1])
        return SpecError(sentence, path=name, line=line + 1, column=column + 1, text=lines[line], width=width)

    for place, what in ((_too_deep(text), f"{DEEPEST} levels of nesting"), (_too_many(text), MANY)):
        if place is not None:
            line, column = _place(text[:place])
            raise SpecError(f"found more than {what}", path=name, line=line, column=column, text=lines[line - 1])
    yaml = YAML(typ="safe", pure=True)  # the values are made here, so that nothing but what a spec knows is ever made
    try:
        _scan(yaml, text, error)
        root: Any = yaml.compose(text)
    except MarkedYAMLError as caught:
        sentence, mark = malformed.told(caught, text)
        raise error(f"this is not YAML: {sentence}", mark) from None
    except YAMLError as caught:
        raise error(f"this is not YAML: {str(caught).splitlines()[0]}", None) from None
    return _Values(yaml.constructor, error).page(root, text, name)


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


TAGS = "tag:yaml.org,2002:"
PLAIN = ("int", "float", "bool", "null")
"""What a word that is not quoted may stand for besides itself; a date is text, since no key takes one."""


class _Values:
    """Nodes as plain values; ``positions`` gets a place for every key (its path) and value (the path and '=')."""

    def __init__(self, constructor: Any, error: Any):
        self.constructor, self.error = constructor, error
        self.positions: dict[Path_, tuple[int, int, int]] = {}

    def page(self, root: Any, text: str, name: str) -> tuple[Any, Source]:
        self.positions[()] = (1, 1, 1)
        value = None
        if root is not None:
            self._note((), root)
            value = self._value(root, ())
        return value, Source(text, name, self.positions)

    def _note(self, path: Path_, node: Any) -> None:
        place = self.error("", node.start_mark)
        width = len(node.value) if isinstance(node.value, str) else 1
        self.positions[path] = (place.line, place.column, width)

    def _value(self, node: Any, at: Path_) -> Any:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        if isinstance(node, SequenceNode):
            for i, item in enumerate(node.value):
                self._note((*at, i), item)
                self._note((*at, i, "="), item)
            return [self._value(item, (*at, i)) for i, item in enumerate(node.value)]
        if not isinstance(node, MappingNode):
            return self._scalar(node)
        result: dict[str | int, Any] = {}
        for held, item in node.value:
            key = self._key(held)
            if key in result:
                raise self.error(f"found the key '{key}' twice; expected each key once", held.start_mark, len(str(key)))
            self._note((*at, key), held)
            self._note((*at, key, "="), item)
            result[key] = self._value(item, (*at, key))
        return result

    def _key(self, node: Any) -> str | int:
        if isinstance(node.value, list):
            kind = "list" if node.id == "sequence" else "mapping"
            raise self.error(f"found a {kind} as a key; expected a name", node.start_mark)
        if node.tag == f"{TAGS}merge":
            raise self.error("found the merge key '<<'; a spec repeats itself in full", node.start_mark, 2)
        key = self._scalar(node)
        if isinstance(key, str) or type(key) is int:
            return key
        found = f"{node.value}, which to YAML is no text," if node.value else "nothing"
        raise self.error(f"found {found} as a key; expected a name", node.start_mark, len(node.value))

    def _scalar(self, node: Any) -> Any:
        odd = FORBIDDEN.search(node.value) or BREAK.search(node.value)
        if odd:
            raise self.error(f"found the control character {odd.group()!a} in a value; expected plain text", node.start_mark)
        if str(node.tag).removeprefix(TAGS) in PLAIN:
            try:
                return self.constructor.construct_object(node)
            except (ValueError, OverflowError):  # a number of more digits than Python reads is as good as a word
                return node.value
        return node.value
