"""The table of tasks: examples that are made, by seed, without a download.

A row makes one ``Dataset``; ``make`` splits it into what is trained on and what is held out.  Symbols are integer ids;
a task of sequences leaves its lengths under ``length`` where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gridc.arrays.dataset import SAMPLE, Array, Dataset
from gridc.errors import ResourceError, UsageError, listed, nearest
from gridc.options import Option, checked

Values = Mapping[str, Any]
ENUMERATED = 20
"""Up to this many bits, parity's examples are all the strings there are."""
PRINTED = 18
"""Up to so many digits, a problem is a number of NumPy's."""
LABELLED = 62
"""Up to this many bits, a string is a number of NumPy's; two equal longer ones are not to be expected."""


@dataclass(frozen=True)
class Task:
    """One task: its options, what makes its examples, and a sentence or two about it with the arrays' shapes.

    ``sizes`` says which sizes of a spec follow from the options: ``features``, ``vocabulary``, ``classes``, ``dimensions``.
    """

    name: str
    options: tuple[Option, ...]
    make: Callable[[np.random.Generator, Values], Dataset]
    help: str
    sizes: Callable[[Values], Mapping[str, int]] = lambda o: {}


def make(
    name: str, options: Values | None = None, *, held_out: float = 0.2, seed: int = 0
) -> tuple[Dataset, Dataset | None]:
    """Make the examples to train on and those held out, equal for equal seeds; UsageError for an unknown name or option."""
    if name not in TASKS:
        raise UsageError(f"There is no task '{name}', expected {listed(TASKS)}{nearest(name, TASKS)}")
    task = TASKS[name]
    values = checked(f"Task '{name}'", task.options, options or {})
    return task.make(np.random.default_rng([seed, SAMPLE]), values).split(held_out, seed)


def _parity(rng: np.random.Generator, o: Values) -> Dataset:
    bits: int = o["bits"]
    if bits <= LABELLED:
        # Each string once, so that none is both trained on and held out.
        numbers: Array
        if bits <= ENUMERATED:
            numbers = np.arange(1 << bits)
        else:
            numbers = cast(Array, rng.choice(1 << bits, min(o["samples"], 1 << bits), replace=False))
        ones = ((numbers[:, None] >> np.arange(bits)) & 1).astype(np.int8)
    else:
        ones = rng.integers(0, 2, (o["samples"], bits), dtype=np.int8)
    odd: Array = (ones.sum(axis=1, dtype=np.int64) % 2).astype(_type(1))
    target = odd if o["target"] == "odd" else 1 - odd
    return Dataset({"bits": ones * 2 - 1 if o["values"] == "signs" else ones}, {"parity": target})


def _digits(rng: np.random.Generator, o: Values) -> Dataset:
    try:
        from sklearn.datasets import load_digits  # pyright: ignore  # it has no stubs
    except ImportError as error:
        raise ResourceError("Task 'digits' needs scikit-learn, whose scans it reads: pip install 'gridc[data]'.") from error
    scans: Any = cast(Any, load_digits)()
    side = o["patch"]
    if 8 % side:
        raise UsageError(f"Task 'digits': 'patch' is {side}, expected a divisor of 8: 1, 2, 4 or 8.")
    images = (scans.images / 16.0).astype(np.float32)
    patches = images.reshape(-1, 8 // side, side, 8 // side, side).transpose(0, 1, 3, 2, 4)
    return Dataset({"image": patches.reshape(len(images), 8 // side, 8 // side, side * side)},
                   {"digit": scans.target.astype(_type(9))})  # fmt: skip


def _type(highest: int) -> type[np.signedinteger[Any]]:
    """Give the type that ids up to the highest are held in: a whole data set of them stays in memory."""
    return np.int8 if highest < 1 << 7 else np.int16 if highest < 1 << 15 else np.int64


def _distinct(rng: np.random.Generator, below: int, count: int) -> Array:
    """Draw so many different whole numbers from 0, in random order; all of them where there are no more."""
    if 4 * count >= below:
        return cast(Array, rng.permutation(below)[:count])
    found: Array = np.empty(0, np.int64)
    while len(found) < count:
        both = np.concatenate([found, rng.integers(0, below, count - len(found) + 16)])
        found = both[np.sort(np.unique(both, return_index=True)[1])]  # in the order in which they came
    return found[:count]


def _addition(rng: np.random.Generator, o: Values) -> Dataset:
    digits, samples, blank = int(o["digits"]), int(o["samples"]), 10
    if 2 * digits <= PRINTED:
        # Each problem once, so that none is both trained on and held out.
        problems = _distinct(rng, 100**digits, samples)
        samples = len(problems)
        both = np.empty((samples, 2 * digits), np.int8)
        for place in range(2 * digits):
            both[:, place] = problems // 10 ** (2 * digits - 1 - place) % 10
        first, second = both[:, :digits], both[:, digits:]
    else:
        first, second = (rng.integers(0, 10, (samples, digits)).astype(np.int8) for _ in range(2))
    total = np.zeros((samples, digits + 1), np.int8)
    carry = np.zeros(samples, np.int8)
    for place in range(digits - 1, -1, -1):
        column = first[:, place] + second[:, place] + carry
        total[:, place + 1], carry = column % 10, column // 10
    total[:, 0] = carry
    steps = 3 * digits + 4
    given, wanted = np.full((2, samples, steps), blank, _type(blank))
    given[:, 1 : digits + 1] = first
    given[:, digits + 2 : 2 * digits + 2] = second
    wanted[:, -digits - 1 :] = total
    return Dataset({"symbols": given}, {"sum": wanted}, vocabularies={"symbols": DIGITS, "sum": DIGITS})


DIGITS = (*"0123456789", "-")


def _sequences(change: Callable[[Array], Array]) -> Callable[[np.random.Generator, Values], Dataset]:
    """Make a task that gives a sequence back, changed: after it was read whole, or in place."""

    def build(rng: np.random.Generator, o: Values) -> Dataset:
        samples, longest, symbols = int(o["samples"]), int(o["length"]), int(o["symbols"])
        shortest = longest if o["shortest"] is None else int(o["shortest"])
        if shortest > longest:
            raise UsageError(f"'shortest' is {shortest}, expected at most the {longest} of 'length'.")
        lengths: Array = rng.integers(shortest, longest + 1, samples)
        factor = 2 if o["after"] else 1
        given, wanted = np.full((2, samples, factor * longest), symbols if o["after"] else 0, _type(symbols))
        for row, length in enumerate(lengths.tolist()):
            sequence: Array = rng.integers(0, symbols, int(length))
            given[row, :length] = sequence
            wanted[row, (factor - 1) * length : factor * length] = change(sequence)
        ragged: dict[str, Array] = {"length": factor * lengths} if shortest < longest else {}
        return Dataset({"symbols": given}, {"symbols": wanted}, ragged)

    return build


def _random_diagonal(rng: np.random.Generator, o: Values) -> Dataset:
    size, samples, step = int(o["size"]), int(o["samples"]), int(o["distance"])
    if step >= size:
        raise UsageError(f"Task 'random-diagonal': 'distance' is {step}, expected less than the {size} of 'size'.")
    square = rng.uniform(0.0, o["noise"], (samples, size, size, 1)).astype(np.float32)
    row, column = rng.integers(0, size - step, (2, samples))
    wanted = np.zeros((samples, size, size), _type(1))
    every: Array = np.arange(samples)
    square[every, row, column] = 1.0
    wanted[every, row + step, column + step] = 1
    return Dataset({"square": square}, {"mark": wanted})


PEOPLE = ("mary", "john", "daniel", "sandra", "julie", "bill", "fred", "jeff")
THINGS = ("football", "apple", "milk", "lamp", "book", "box", "cup", "key")
PLACES = ("kitchen", "garden", "hallway", "office", "bathroom", "bedroom", "cinema", "park")


def _two_facts(rng: np.random.Generator, o: Values) -> Dataset:
    people, samples, shown, places = (int(o[name]) for name in ("people", "samples", "shown", "places"))
    if shown > people:
        raise UsageError(f"Task 'two-facts': 'shown' is {shown}, expected at most the {people} of 'people'.")
    words = (*PEOPLE[:people], *THINGS[:people], *PLACES[:places], "went", "took")
    went, took = len(words) - 2, len(words) - 1
    facts = np.empty((samples, 2 * shown, 3), _type(len(words)))
    question, answer = np.empty((2, samples), _type(len(words)))
    for row in range(samples):
        who = rng.permutation(people)[:shown]
        what = people + rng.permutation(people)[:shown]
        where: Array = rng.integers(0, places, shown)
        told = np.concatenate([
            np.stack([who, np.full(shown, went), 2 * people + where], axis=1),
            np.stack([who, np.full(shown, took), what], axis=1),
        ])  # fmt: skip
        facts[row] = rng.permutation(told)
        asked = int(rng.integers(shown))
        question[row], answer[row] = what[asked], where[asked]
    vocabularies = {"facts": words, "question": words, "place": PLACES[:places]}
    return Dataset({"facts": facts, "question": question}, {"place": answer}, vocabularies=vocabularies)


def _samples(default: int) -> Option:
    return Option("samples", "int", default, "examples that are made, the held-out ones included", low=2, high=10**8)


def _sequence_options(length: int, symbols: int, samples: int, after: bool) -> tuple[Option, ...]:
    return (
        Option("length", "int", length, "symbols in the longest sequence", low=1, high=100_000),
        Option("shortest", "int", None, "symbols in the shortest sequence (default: all equally long)", low=1, optional=True),
        Option("symbols", "int", symbols, "different symbols", low=2, high=1_000_000),
        Option("after", "bool", after, "whether the answer comes after the sequence was read (blank until then)"),
        _samples(samples),
    )  # fmt: skip


def _alphabet(o: Values) -> Mapping[str, int]:
    size = o["symbols"] + bool(o["after"])
    return {"vocabulary": size, "classes": size}


_SHAPES = ("symbols [n, 2·length] ids of symbols + 1 (the last is the blank) and the same as targets; "
           "after: false makes both [n, length] without a blank")  # fmt: skip

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("parity",
             (Option("bits", "int", 12, "length of the strings", low=1, high=100_000),
              Option("target", "str", "odd", "what 1 stands for: an odd sum (the sum modulo 2) or an even one",
                     choices=("odd", "even")),
              Option("values", "str", "signs", "bits as -1 and 1, or as 0 and 1", choices=("signs", "bits")),
              _samples(100_000)),
             _parity,
             "Whether a string of bits has an odd sum: bits [n, bits] to parity [n].  All strings up to "
             "20 bits, 'samples' different ones beyond.",
             lambda o: {"features": o["bits"]}),
        Task("digits", (Option("patch", "int", 1, "pixels on a side of what one cell reads", low=1, high=8),),
             _digits,
             "The 1,797 scanned digits of scikit-learn: image [n, 8/patch, 8/patch, patch²] from 0 to 1 to digit [n].",
             lambda o: {"dimensions": 8 // o["patch"], "features": o["patch"] ** 2}),
        Task("addition",
             (Option("digits", "int", 15, "digits of each number", low=1, high=10_000), _samples(100_000)),
             _addition,
             "Two numbers read digit by digit, then their sum: -123-989----- to --------01112, symbols and sum "
             "[n, 3·digits + 4] ids of 11 (arXiv 1507.01526, section 4.2).  'samples' different problems, or all there are."),
        Task("memorisation", _sequence_options(20, 64, 100_000, True), _sequences(lambda s: s),
             f"A sequence read, then given back (arXiv 1507.01526, section 4.3): {_SHAPES}.", _alphabet),
        Task("reverse", _sequence_options(10, 8, 20_000, False), _sequences(lambda s: s[::-1]),
             f"A sequence given back from its end: {_SHAPES}.", _alphabet),
        Task("sort", _sequence_options(10, 8, 20_000, True), _sequences(np.sort),
             f"A sequence given back in ascending order: {_SHAPES}.", _alphabet),
        Task("random-diagonal",
             (Option("size", "int", 10, "cells on a side of the square", low=2, high=10_000),
              Option("distance", "int", 1, "how far down the diagonal the second mark lies", low=1),
              Option("noise", "float", 0.1, "the other cells hold numbers below this", low=0, high=0.9),
              _samples(5_000)),
             _random_diagonal,
             "Where the second mark on a diagonal is, the first being seen: square [n, size, size, 1] to mark "
             "[n, size, size] of 0 and 1 (after philipperemy/tensorflow-multi-dimensional-lstm).",
             lambda o: {"dimensions": o["size"]}),
        Task("two-facts",
             (Option("people", "int", 6, "people, and things that they take", low=1, high=8),
              Option("places", "int", 6, "places that they go to", low=2, high=8),
              Option("shown", "int", 4, "people in one story", low=1, high=8),
              _samples(10_000)),
             _two_facts,
             "A question that two facts answer, in the style of bAbI's second task: facts [n, 2·shown, 3] word ids "
             "('mary went kitchen', 'mary took milk'), question [n] the thing, place [n] where it is."),
    )
}  # fmt: skip
