"""A toy translation: numbers from 1 to 9,999 in English words, and in German ones, where units stand before tens.

*four thousand three hundred forty two* is *vier tausend drei hundert zwei und vierzig*.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gridc.arrays.dataset import Dataset

_ENGLISH = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand"""
_GERMAN = """ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn
neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig hundert tausend eins und"""
ENGLISH = tuple(_ENGLISH.split())
GERMAN = (".", *_GERMAN.split())
"""The full stop ends a translation, and stands before its first word."""
TRAINED, TESTED = 500, 5_000


def english(number: int) -> list[str]:
    """Words of a number, from 1 to 9,999."""
    if number >= 100:
        size, name = (1_000, "thousand") if number >= 1_000 else (100, "hundred")
        rest = number % size
        return [*english(number // size), name, *(english(rest) if rest else [])]
    if number < 20:
        return [ENGLISH[number - 1]]
    return [ENGLISH[17 + number // 10], *(english(number % 10) if number % 10 else [])]


def german(number: int, last: bool = True) -> list[str]:
    """Words of a number, from 1 to 9,999; ``last`` where nothing follows it."""
    if number >= 100:
        size, name = (1_000, "tausend") if number >= 1_000 else (100, "hundert")
        rest = number % size
        return [*german(number // size, last=False), name, *(german(rest) if rest else [])]
    if number < 20:
        return ["eins"] if number == 1 and last else [GERMAN[number]]
    units = [*german(number % 10, last=False), "und"] if number % 10 else []
    return [*units, GERMAN[18 + number // 10]]


def pairs(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Translations as ids, padded with 0: words, before and next with their lengths S and T; and both as one sequence.

    In the one sequence the words come first and then what ``before`` is, ids after those of the words, with ``answer`` -1 where
    nothing is to be said."""
    source = [[ENGLISH.index(word) for word in english(int(number))] for number in numbers]
    target = [[GERMAN.index(word) for word in [*german(int(number)), "."]] for number in numbers]
    longest = max(map(len, source)), max(map(len, target))
    made = {name: np.zeros((len(numbers), longest[kind]), np.int64) for name, kind in (("words", 0), ("before", 1), ("next", 1))}
    one, answer = np.zeros((len(numbers), sum(longest)), np.int64), np.full((len(numbers), sum(longest)), -1, np.int64)
    for row, (given, wanted) in enumerate(zip(source, target, strict=True)):
        shifted, begin, end = [0, *wanted[:-1]], len(given), len(given) + len(wanted)
        made["words"][row, :begin], made["before"][row, : len(wanted)], made["next"][row, : len(wanted)] = given, shifted, wanted
        one[row, :begin], one[row, begin:end], answer[row, begin:end] = given, [len(ENGLISH) + word for word in shifted], wanted
    lengths = {"S": np.array(list(map(len, source))), "T": np.array(list(map(len, target)))}
    return {**made, **lengths, "symbols": one, "answer": answer, "U": lengths["S"] + lengths["T"]}


def written(folder: Path) -> Path:
    """The file to train on, made once: other numbers than those that are tested on."""
    path = folder / "translation.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        drawn = 1 + np.random.default_rng(0).permutation(9_999)
        np.savez(path.with_name("test-" + path.name), **pairs(drawn[TRAINED : TRAINED + TESTED]))  # pyright: ignore
        np.savez(path, **pairs(drawn[:TRAINED]))  # pyright: ignore  # its stub takes allow_pickle for one of the arrays
    return path


def test(folder: Path, grid: bool) -> Dataset:
    """The numbers that are tested on, as the Reencoder takes them or as one sequence."""
    path = written(folder)
    held = np.load(path.with_name("test-" + path.name))
    if grid:
        return Dataset({name: held[name] for name in ("words", "before")}, {"next": held["next"]}, {n: held[n] for n in "ST"})
    return Dataset({"symbols": held["symbols"]}, {"answer": held["answer"]}, {"U": held["U"]})
