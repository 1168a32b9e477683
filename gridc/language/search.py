"""The section ``sweep`` of a page: which places its words stand for, and whether its ranges mean anything."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from gridc.errors import UsageError, listed, nearest
from gridc.language import mistakes
from gridc.language.document import Document
from gridc.language.lookup import Page
from gridc.language.mistakes import shown, thing
from gridc.language.page import Path_
from gridc.language.rewriting import Keys, place_in_training
from gridc.language.spec import Source
from gridc.tables.sweep_block import Range, Sweep
from gridc.tables.training_block import Training

MOST = 100_000
"""Combinations that a grid may have."""
KEPT: Mapping[Keys, str] = {
    ("training", "seed"): "'seeds' says which are trained with",
    ("training", "save"): "a sweep has a folder for every trial",
    ("name",): "the trials of a sweep are of one grid",
    ("sweep",): "a sweep cannot search itself",
}
"""Places that a sweep leaves alone, and why."""


def check(page: Page, values: Mapping[str, Any]) -> None:
    """Refuse a section that searches for nothing, for what the page has no place for, or over a range that is none."""
    document = page.document
    if not isinstance(document, Document):
        return
    sweep, block = document.sweep, document.training
    if sweep is None:
        return
    if block is None:
        page.fail(("sweep",), "'sweep' searches for what trains best, and the page has no training block; add one, such as "
                  "'training: {task: parity}'", key=True)  # fmt: skip
    if not sweep.space:
        page.fail(("sweep",), "'sweep' searches for nothing; expected a key of the page and what to try, such as "
                  "training.learning_rate: {low: 1e-4, high: 1e-2, log: true}", key=True)  # fmt: skip
    taken: dict[Keys, str] = {}
    for word, tried in sweep.space.items():
        for place in places(values, block, page.source, word):
            if place in taken:
                page.fail(("sweep", word), f"'sweep': '{word}' and '{taken[place]}' are the same place of the page", key=True)
            taken[place] = word
        if isinstance(tried, Range):
            _range(page, word, tried)
        else:
            _distinct(page, word, tried)
    if sweep.sampler.name == "grid":
        _enumerable(page, sweep)


def places(values: Mapping[str, Any], block: Training, source: Source, word: str) -> list[Keys]:
    """Find the places of the page that a word of the sweep stands for, several where it has a ``*``; SpecError where there are
    none."""
    path: Path_ = ("sweep", word)
    first, _, rest = word.partition(".")
    if first == "training" and rest and "*" not in rest:
        try:
            found: list[Keys] = [place_in_training(block, rest)]
        except UsageError as error:
            sentence = str(error)
            mistakes.fail(source, path, f"'sweep', {word}: {sentence[0].lower()}{sentence[1:]}", key=True)
    else:
        found = [tuple(word.split("."))]
    found = [whole for keys in found for whole in _found(values, source, path, (), keys)]
    for keys in found:
        if keys[:1] == ("sweep",) or keys in KEPT:
            mistakes.fail(source, path, f"'sweep': '{word}' cannot be searched: {KEPT.get(keys) or KEPT[keys[:1]]}", key=True)
    return found


def _found(here: Any, source: Source, path: Path_, above: Keys, left: Keys) -> Iterator[Keys]:
    """Go down the page key by key: each is one that it has there, or one that the grammar has."""
    if not left:
        yield above
        return
    there: Mapping[str, Any] = cast("dict[str, Any]", here) if isinstance(here, dict) else {}
    grammar = mistakes.keys(above)
    if left[0] == "*" and not grammar and there:
        for key in there:
            yield from _found(there[key], source, path, (*above, key), left[1:])
        return
    known = [*there, *sorted(grammar - set(there))]
    if left[0] not in known:
        words = [*known, *Sweep.model_fields] if not above else known
        where = thing(above) if above else "the page"
        offer = nearest(left[0], words) or (f"; expected {listed(known)}" if known else "; it holds no keys")
        mistakes.fail(source, path, f"'sweep', {path[1]}: there is no '{left[0]}' in {where}{offer}", key=True)
    yield from _found(there.get(left[0]), source, path, (*above, left[0]), left[1:])


def _range(page: Page, word: str, tried: Range) -> None:
    path: Path_ = ("sweep", word)
    whole = isinstance(tried.low, int) and isinstance(tried.high, int)
    if tried.low >= tried.high:
        page.fail((*path, "low"), f"'sweep', {word}: found low {tried.low} and high {tried.high}; expected low to be below high")
    if tried.log and tried.low <= 0:
        page.fail((*path, "low"), f"'sweep', {word}: found low {tried.low} with log: true; expected a positive number")
    if tried.step is None:
        return
    if tried.log:
        page.fail((*path, "step"), f"'sweep', {word}: found both log and step; expected one of them", key=True)
    if whole and not isinstance(tried.step, int):
        page.fail((*path, "step"), f"'sweep', {word}: found the step {tried.step} between whole numbers; expected a whole "
                  f"number, or low and high with a point, such as {float(tried.low)}")  # fmt: skip
    if tried.step > tried.high - tried.low:
        page.fail((*path, "step"), f"'sweep', {word}: found the step {tried.step}; expected one that leads from {tried.low} to "
                  f"{tried.high} at most")  # fmt: skip


def _distinct(page: Page, word: str, tried: list[Any]) -> None:
    for i, value in enumerate(tried):
        # As Python compares them, to which 1, 1.0 and true are one: nobody could tell later which it was.
        if value in tried[:i]:
            said = shown(value) if not isinstance(value, dict | list) else json.dumps(value)
            page.fail(("sweep", word, i), f"'sweep', {word}: found {said} twice; expected each value once")


def _enumerable(page: Page, sweep: Sweep) -> None:
    for word, tried in sweep.space.items():
        if isinstance(tried, Range) and count(tried) is None:
            page.fail(("sweep", word), f"'sweep', {word}: a grid has no end of numbers from {tried.low} to {tried.high}; "
                      "expected a list, whole numbers or a step, or another sampler")  # fmt: skip
    combinations = math.prod(count(tried) or 1 for tried in sweep.space.values())
    if combinations > MOST:
        page.fail(("sweep", "sampler"), f"'sweep': the grid has {combinations:,} combinations; expected {MOST:,} at most")


def count(tried: Range | list[Any]) -> int | None:
    """Count the values that are tried; None where there is no end of them."""
    if not isinstance(tried, Range):
        return len(tried)
    whole = isinstance(tried.low, int) and isinstance(tried.high, int)
    step = tried.step or (1 if whole else None)
    return None if step is None else int((tried.high - tried.low) / step + 1e-9) + 1
