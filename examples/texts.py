"""Real text without a download: the Python distribution's own documentation and library."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

LETTERS = (*map(chr, range(32, 127)), "\n")
"""The vocabulary of characters: what can be printed, and the end of a line, which also stands for all else."""
_NUMBER = {letter: i for i, letter in enumerate(LETTERS)}
SKIPPED = ("test", "tests", "site-packages", "idlelib", "lib2to3", "__pycache__", "encodings", "pydoc_data", "turtledemo")


def numbers(text: str) -> np.ndarray:
    """A text as ids of characters."""
    return np.array([_NUMBER.get(letter, len(LETTERS) - 1) for letter in text], np.int64)


def letters(ids: np.ndarray) -> str:
    """Ids of characters as a text."""
    return "".join(LETTERS[i] for i in ids)


@cache
def modules() -> tuple[tuple[str, str], ...]:
    """Path and text of every module of the library, in the order of their paths."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = [p for p in sorted(root.rglob("*.py")) if not set(p.relative_to(root).parts) & set(SKIPPED)]
    return tuple((str(p.relative_to(root)), p.read_text(encoding="utf-8", errors="replace")) for p in found)


def _parts(source: str) -> Iterator[tuple[int, str]]:
    """The docstrings of a module (0) and its functions without them (1)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        told = ast.get_docstring(node)
        if told:
            yield 0, " ".join(line for line in told.splitlines() if not line.strip().startswith((">>>", "...")))
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if told else node.body
            if body:
                yield 1, ast.unparse(ast.Module(body, []))


def prose_and_code(per_class: int, shortest: int, longest: int, seed: int = 0) -> dict[str, list[tuple[str, int]]]:
    """Pieces of prose (0) and of code (1), as many of both, white space evened out; held out are pieces of other modules."""
    rng = np.random.default_rng(seed)
    pieces: dict[tuple[str, int], list[str]] = defaultdict(list)
    for number, (_, source) in enumerate(modules()):
        place = "held out" if number % 5 == 0 else "train"
        for kind, text in _parts(source):
            text = " ".join(text.split())
            while len(text) >= shortest:
                length = int(rng.integers(shortest, longest + 1))
                pieces[place, kind].append(text[:length])
                text = text[length:].lstrip()
    result: dict[str, list[tuple[str, int]]] = {}
    for place, count in (("train", per_class), ("held out", per_class // 4)):
        both = [(text, kind) for kind in (0, 1) for text in rng.permutation(pieces[place, kind])[:count]]
        result[place] = [(str(both[i][0]), both[i][1]) for i in rng.permutation(len(both))]
    return result


def documentation() -> str:
    """The reference that ``help()`` shows, one topic after the other."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


class Counts:
    """A count model: what followed the last ``order`` characters, backing off to fewer by Witten and Bell's estimate."""

    def __init__(self, text: np.ndarray, order: int, size: int) -> None:
        self.order, self.size = order, size
        self.tables: list[dict[tuple[int, ...], dict[int, int]]] = [{} for _ in range(order + 1)]
        ids = text.tolist()
        for i, letter in enumerate(ids):
            for n in range(min(order, i) + 1):
                seen = self.tables[n].setdefault(tuple(ids[i - n : i]), {})
                seen[letter] = seen.get(letter, 0) + 1

    def probability(self, before: tuple[int, ...], letter: int) -> float:
        """Of a character after others."""
        p = 1 / self.size
        for n in range(min(self.order, len(before)) + 1):
            seen = self.tables[n].get(before[len(before) - n :])
            if seen is None:
                break
            total, kinds = sum(seen.values()), len(seen)
            p = (seen.get(letter, 0) + kinds * p) / (total + kinds)
        return p

    def bits(self, text: np.ndarray) -> float:
        """Bits per character."""
        ids = text.tolist()
        each = [-np.log2(self.probability(tuple(ids[max(0, i - self.order) : i]), letter)) for i, letter in enumerate(ids)]
        return float(np.mean(each))
