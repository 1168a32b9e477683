"""Words as ids: the vocabulary that a training made of all its words, or the one that it left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import numpy as np

from gridc.arrays.dataset import Array
from gridc.errors import DataError, listed, nearest

Fail = Callable[[int, str], NoReturn]
"""Raises DataError about the entry of that number, with the rest of a sentence."""


def known(words: Iterable[str], held: tuple[str, ...] | None, size: int, where: str) -> tuple[str, ...]:
    """Give the vocabulary that is held, or one of all these words in the order of the alphabet; DataError beyond ``size``."""
    found = held or tuple(sorted(set(words)))
    if len(found) > size:
        raise DataError(f"{where} {len(found)} different words, expected at most {size}.")
    return found


def looked_up(entries: Sequence[str], words: tuple[str, ...], fail: Fail) -> Array:
    """Look up the id of every word, ``[entries]`` int64; ``fail`` says which is missing."""
    table = {word: number for number, word in enumerate(words)}
    for number, entry in enumerate(entries):
        if entry not in table:
            fail(number, f"{entry!r}, expected {listed(words[:12])}{' …' * (len(words) > 12)}{nearest(entry, words)}")
    return np.array([table[entry] for entry in entries], np.int64)


def advice(name: str) -> str:
    """Say what to do where ids do not count from 0, or where what looks like a number is a name."""
    return f"; ids count from 0; where these are names of classes, say so in the spec: 'data: {{file: …, words: [{name}]}}'"
