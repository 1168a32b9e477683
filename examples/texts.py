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
PARTS = ("train", "train", "train", "validation", "test")
"""Which part a module's text belongs to, in turn."""


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
    """Pieces of prose (0) and of code (1), as many of both, white space evened out: ``train``, and a quarter as many for
    ``validation`` and ``test``, each of modules of its own."""
    rng = np.random.default_rng(seed)
    pieces: dict[tuple[str, int], list[str]] = defaultdict(list)
    for number, (_, source) in enumerate(modules()):
        for kind, text in _parts(source):
            text = " ".join(text.split())
            while len(text) >= shortest:
                length = int(rng.integers(shortest, longest + 1))
                pieces[PARTS[number % len(PARTS)], kind].append(text[:length])
                text = text[length:].lstrip()
    result: dict[str, list[tuple[str, int]]] = {}
    for part, count in (("train", per_class), ("validation", per_class // 4), ("test", per_class // 4)):
        both = [(text, kind) for kind in (0, 1) for text in rng.permutation(pieces[part, kind])[:count]]
        result[part] = [(str(both[i][0]), both[i][1]) for i in rng.permutation(len(both))]
    return result


def documentation() -> str:
    """The reference that ``help()`` shows, one topic after the other."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


class Counts:
    """A count model: what followed the last ``order`` characters, smoothed as Chen and Goodman do.

    That is Kneser and Ney's interpolated estimate with three discounts: a count gives up a part that falls to the shorter
    context, whose counts are of the different characters that stood before."""

    def __init__(self, text: np.ndarray, order: int, size: int) -> None:
        self.order, self.size = order, size
        self.tables: list[dict[tuple[int, ...], dict[int, int]]] = [defaultdict(dict) for _ in range(order + 1)]
        ids = text.tolist()
        for i in range(order, len(ids)):
            seen = self.tables[order][tuple(ids[i - order : i])]
            seen[ids[i]] = seen.get(ids[i], 0) + 1
        for n in range(order, 0, -1):
            for before, seen in self.tables[n].items():
                shorter = self.tables[n - 1][before[1:]]
                for letter in seen:
                    shorter[letter] = shorter.get(letter, 0) + 1
        self.discounts = [self._discounts(table) for table in self.tables]

    @staticmethod
    def _discounts(table: dict[tuple[int, ...], dict[int, int]]) -> tuple[float, float, float]:
        """What a count of one, of two and of more gives up."""
        found = np.bincount([min(count, 5) for seen in table.values() for count in seen.values()], minlength=6).astype(float)
        n = np.maximum(found[1:5], 1)
        y = n[0] / (n[0] + 2 * n[1])
        return tuple(float(np.clip(k + 1 - (k + 2) * y * n[k + 1] / n[k], 0.05, k + 0.95)) for k in range(3))  # type: ignore[return-value]

    def probability(self, before: tuple[int, ...], letter: int) -> float:
        """Of a character after others."""
        p = 1 / self.size
        for n in range(min(self.order, len(before)) + 1):
            seen = self.tables[n].get(before[len(before) - n :])
            if not seen:
                break
            given = self.discounts[n]
            left = sum(given[min(count, 3) - 1] for count in seen.values())
            mine = seen.get(letter, 0)
            p = (max(mine - given[min(mine, 3) - 1], 0) * (mine > 0) + left * p) / sum(seen.values())
        return p

    def bits(self, text: np.ndarray) -> float:
        """Bits per character."""
        ids = text.tolist()
        each = [-np.log2(self.probability(tuple(ids[max(0, i - self.order) : i]), letter)) for i, letter in enumerate(ids)]
        return float(np.mean(each))
