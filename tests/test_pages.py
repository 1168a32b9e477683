"""Half-written and mangled pages: whatever is read is a spec, or one sentence at its place, at once."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from gridc.errors import SpecError
from gridc.scheduling.check import read

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.yaml"))
PIECES = (
    "{", "}", "[", "]", ":", ": ", ",", "- ", "? ", "#", "&a ", "*a", "!!int ", "<<: ", "'", '"', "|", "> ", "\n", "\n  ", "%",
    "@", "`", "~", "null", "true", "1e999", ".nan", "-1", "0", "9" * 30, "9" * 5000, "2024-13-45", "0x", "\\", "\\e", "\\ud800",
    "{a: 1}", "[1, 2]", "? {a: b}\n: c", "{? a}", "{[a]: 1}", "{null: 1}", "{2024-11-27: 1}", "12:30:45", "!!set {a}", "= ",
    "<<: {cell: lstm}", "x" * 300, "[" * 70, "lstm", "last", "depth", "- ", "-1.5e300", "yes",
    "\t", "\r", "\x85", "\u2028", "\u202e", "²", "---\n", "...\n", "%YAML 1.1\n", "''", "{}", "[]",
)  # fmt: skip


def told(text: str) -> None:
    """Reads a page; fails where what is wrong with it is no sentence with a place, or takes its time."""
    start, error = time.process_time(), None
    try:
        read(text if "\n" in text else text + "\n")
    except SpecError as caught:
        error = caught
    assert time.process_time() - start < 5, text  # one takes 4 ms; this is about those that would take minutes
    if error is not None:
        assert error.line >= 1, (error, text)
        assert not error.text or 1 <= error.column <= len(error.text) + 1, (error, text)
        assert "\n" not in error.sentence
        assert len(error.sentence) < 600, error



def mangled(text: str, rng: random.Random) -> str:
    """The text with a few of its characters replaced, taken out, put in or said again."""
    for _ in range(rng.randrange(1, 4)):
        first, second = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0:
                text = text[:first] + rng.choice(PIECES) + text[first:]
            case 1:
                text = text[:first] + text[first + rng.randrange(1, 8) :]
            case 2:
                text = text[:first] + rng.choice(PIECES) + text[first + rng.randrange(1, 6) :]
            case 3 | 4:  # a whole word, where something of another kind was expected
                words = list(re.finditer(r"[\w.-]+", text)) or [re.search("", text)]
                word = rng.choice(words)
                text = text[: word.start()] + rng.choice(PIECES) + text[word.end() :]
            case _:
                text = text[:second] + text[first : first + rng.randrange(60)] + text[second:]
    return text


def half_written(path: Path, every: int) -> None:
    """Every page that there was while this one was written: cut after a line, or behind a key's colon."""
    text = path.read_text(encoding="utf-8")
    ends = [m.end() for m in re.finditer(r"\n|[\w\"']:", text)]
    for end in ends[::every]:
        for space in ("", "\n", " ", "\n\n"):
            told(text[:end] + space)


def mangle(seed: int, count: int) -> None:
    rng = random.Random(seed)
    texts = [path.read_text(encoding="utf-8") for path in SPECS]
    for _ in range(count):
        told(mangled(rng.choice(texts), rng))


@pytest.mark.parametrize("path", SPECS[::6], ids=lambda path: path.stem)
def test_a_page_half_written(path: Path) -> None:
    half_written(path, every=3)


@pytest.mark.thorough
@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_page_half_written(path: Path) -> None:
    half_written(path, every=1)


def test_mangled_pages() -> None:
    mangle(seed=20, count=500)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(8))
def test_many_mangled_pages(seed: int) -> None:
    mangle(seed, count=5000)


@pytest.mark.parametrize(("text", "place", "sentence"), [
    ("name: x\ndimensions:\n", "2:12",
        "'dimensions': found nothing; expected a mapping of name to a positive integer or a symbol"),
    ("name: x\n? {a: {b: 1}}\n: 2", "2:3", "found a mapping as a key; expected a name"),
    ("name: x\n? [a]\n: 2", "2:3", "found a list as a key; expected a name"),
    ("r: [<<: {1}]\n", "1:5", "found the merge key '<<'; a spec repeats itself in full"),
    ("<<: {a}\nname: x\n", "1:1", "found the merge key '<<'; a spec repeats itself in full"),
    ("#\n> #", "2:1", "found ''; expected a mapping with name, dimensions and transforms"),
    ("", "1:1", "found nothing; expected a mapping with name, dimensions and transforms"),
    ("\n\n", "1:1", "found nothing; expected a mapping with name, dimensions and transforms"),
    ("name: x\n: 1\n", "2:1", "found nothing as a key; expected a name"),
    ("name: x\ntrue: 1\n", "2:1", "found true, which to YAML is no text, as a key; expected a name"),
    ("name: 2024-13-45\n", "1:1", "the spec needs the key 'dimensions': a mapping of name to a positive integer or a symbol"),
    ('name: "a\\nb"\n', "1:7", "found the control character '\\n' in a value; expected plain text"),
    ('name: "\\e[2Ja"\n', "1:7", "found the control character '\\x1b' in a value; expected plain text"),
    ('name: x\n"\\e": 1\n', "2:1", "found the control character '\\x1b' in a value; expected plain text"),
    ('name: "\\u202e"\n', "1:7", "found the control character '\\u202e' in a value; expected plain text"),
    ("name: x\nin\u202eputs: 1\n", "2:3", "found the control character '\\u202e'; expected YAML text"),
    ("name: \x85x\n", "1:7", "found the control character '\\x85'; expected YAML text"),
])  # fmt: skip
def test_the_place_of_what_is_odd(text: str, place: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        read(path)
    assert caught.value.sentence == sentence
    assert f"{caught.value.line}:{caught.value.column}" == place


def test_bytes_that_are_no_text_have_a_place(tmp_path: Path) -> None:
    path = tmp_path / "page.yaml"
    path.write_bytes("name: é\ninputs: ".encode() + b"\xff\n")
    with pytest.raises(SpecError, match="bytes that are not UTF-8 text, at byte 17") as caught:
        read(path)
    assert (caught.value.line, caught.value.column) == (2, 9)
