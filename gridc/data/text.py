"""Text as ids: by character, byte or word, with the vocabulary that a model file keeps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from gridc.arrays.dataset import Array
from gridc.errors import DataError

By = Literal["character", "byte", "word"]
UNKNOWN = "<unknown>"
"""Stands for words that the vocabulary has no room for."""
_WORD = re.compile(r"\w+|[^\w\s]|\n")


def symbols(text: str, by: By) -> Sequence[str]:
    """Cut a text into symbols; words are runs of letters and digits, or single other signs, or line ends."""
    if by == "character":
        return text
    if by == "byte":
        return [f"{byte:02x}" for byte in text.encode()]
    return _WORD.findall(text)


def joined(words: Iterable[str], by: By) -> str:
    """Join symbols to text again; between words stand spaces."""
    if by == "character":
        return "".join(words)
    if by == "byte":
        return bytes(int(word, 16) for word in words).decode(errors="replace")
    return re.sub(r" ([^\w\s<]|\n)", r"\1", " ".join(words)).replace("\n ", "\n")


def vocabulary(texts: Iterable[Sequence[str]], size: int, by: By, where: str) -> tuple[str, ...]:
    """List the symbols in use, in order; of words the most frequent, with ``UNKNOWN`` for the rest.

    DataError where characters or bytes are more than ``size``.
    """
    if by == "byte" and size >= 256:
        return tuple(f"{byte:02x}" for byte in range(256))
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    if len(counts) <= size:
        return tuple(sorted(counts))
    if by == "word":
        # Ties are settled by the alphabet, so that the same text gives the same ids everywhere.
        common = sorted(counts, key=lambda word: (-counts[word], word))[: size - 1]
        return (UNKNOWN, *sorted(common))
    raise DataError(f"{where} has {len(counts)} different {by}s, but the spec's vocabulary has room for {size}.")


def ids(text: Sequence[str], words: Sequence[str], where: str) -> Array:
    """Look up the id of every symbol, ``[symbols]`` int64; DataError for one that the vocabulary does not know."""
    table = {word: number for number, word in enumerate(words)}
    unknown = table.get(UNKNOWN)
    found = [table.get(symbol, unknown) for symbol in text]
    if None in found:
        place = found.index(None)
        raise DataError(f"{where} has {text[place]!r} as symbol {place + 1}, which is not in the model's vocabulary.")
    return np.array(found, np.int64)
