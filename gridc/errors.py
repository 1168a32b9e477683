"""The errors that a user meets, each with the exit code of the command line.

Every message is a sentence about the user's own text or data: what was found, what was expected, and the nearest
right word.  The classes derive from the built-in exception that a caller would expect to catch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GridcError(Exception):
    """Any error that gridc raises on purpose; ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class SpecError(GridcError, ValueError):
    """A spec that means nothing, with its place: ``path``, ``line`` and ``column`` (1-based) and the line's text."""

    exit_code = 2

    def __init__(
        self, sentence: str, *, path: str = "<spec>", line: int = 0, column: int = 0, text: str = "", width: int = 1
    ):
        # YAML and Python do not agree on every character that ends a line: the caret stays on the text that is shown.
        column = min(column, len(text) + 1) if text else column
        self.sentence, self.path, self.line, self.column, self.text, self.width = (
            sentence, path, line, column, text, max(1, width))  # fmt: skip
        super().__init__(self._render())

    def _render(self) -> str:
        if not self.line:
            return f"{self.path}: {self.sentence}"
        where = f"{self.path}:{self.line}:{self.column}: {self.sentence}"
        if not self.text:
            return where
        # A long line is cut around the caret, so that the excerpt stays one line of a terminal.
        start = max(0, self.column - 60)
        excerpt = self.text[start : start + 100]
        column = self.column - start
        caret = "^" * max(1, min(self.width, len(excerpt) - column + 1))
        return f"{where}\n{self.line:5} | {excerpt}\n      | {' ' * (column - 1)}{caret}"

    def __reduce__(self):
        state = {k: getattr(self, k) for k in ("path", "line", "column", "text", "width")}
        return (_spec_error, (self.sentence, state))


class SpecWarning(UserWarning):
    """Something in a spec that means nothing where it stands, told as a ``SpecError`` is."""


def _spec_error(sentence: str, state: dict[str, object]) -> SpecError:
    return SpecError(sentence, **state)  # type: ignore[arg-type]  # the state is what __reduce__ wrote


class UsageError(GridcError, ValueError):
    """An argument that the call or the command line cannot take."""

    exit_code = 2


class DataError(GridcError, ValueError):
    """An array, a file or a model that does not fit: which one, what came, what was expected."""

    exit_code = 3


class NumbersError(GridcError, ArithmeticError):
    """NaN or infinity where a number should be."""

    exit_code = 4


class ResourceError(GridcError, RuntimeError):
    """Something the machine lacks: memory, disk, an optional package."""

    exit_code = 5


class TooLarge(ResourceError):
    """A grid, or a call of it, that needs more memory than is left."""


def nearest(word: object, known: Iterable[str]) -> str:
    """``" — did you mean 'x'?"`` for the nearest of the known words, or nothing where none is near."""
    known = list(known)
    same = [name for name in known if name.lower() == str(word).lower()]
    near = same or difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f" — did you mean '{near[0]}'?" if near else ""


def printable(text: object) -> str:
    """Give the text with an escape for every character that would do something to a terminal; lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text))


def listed(words: Iterable[object], conjunction: str = "or") -> str:
    """Join words to an English list: ``a, b or c``."""
    items = [str(w) for w in words]
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"
