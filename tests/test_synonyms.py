"""Words of other libraries, in pages and in calls: each is answered with what gridc calls it, and what is answered is true."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

import gridc
from gridc import cli, synonyms
from gridc.errors import SpecError, UsageError
from gridc.language.grammar import InputPage, OutputPage, TransformPage
from gridc.synonyms import KEYS, OPTIONS, TRAINING, VALUES, Written
from gridc.tables.cells import CELLS
from gridc.tables.learning_rates import SCHEDULES
from gridc.tables.training_block import Training
from gridc.tables.update_rules import OPTIMIZERS
from gridc.training import fit as fitting
from gridc.training.optimizers import optimizer
from gridc.training.setup import arguments

PAGE = """
name: words
dimensions: {time: T, depth: 2}
transforms: {depth: {cell: lstm, hidden: 4}, time: {cell: lstm, hidden: 4}}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {classes: 2, reads: [depth], at: {depth: last, time: last}}}
training: {task: parity}
"""
FITTED = set(inspect.signature(fitting.fit).parameters)


def mistake(old: str, new: str) -> str:
    with pytest.raises(SpecError) as caught:
        gridc.read(PAGE.replace(old, new, 1))
    error = caught.value
    assert error.line
    assert new.split(":")[0].strip("{ ") in error.text[error.column - 1 :] or error.column > 1
    return error.sentence


@pytest.mark.parametrize("word", sorted(TRAINING))
def test_an_option_of_a_training(word: str) -> None:
    row = TRAINING[word]
    if word in FITTED or word in Training.model_fields:
        assert word == "seconds" or isinstance(row, Written)
        return
    with pytest.raises(UsageError) as caught:
        fitting.check_options({word: 1})
    sentence = mistake("task: parity", f"task: parity, {word}: 1")
    if isinstance(row, str):
        assert row in str(caught.value)
        assert row in sentence
        return
    assert f"write {row.in_call()}." in str(caught.value)
    assert sentence.endswith(f" — write '{row.in_page()}'")
    # What is written instead is right, in a call and in a page.
    value = {name.replace("OUTPUT", "y"): one for name, one in row.value.items()} if isinstance(row.value, dict) else row.value
    assert row.key in FITTED
    if row.key in ("class_weights", "weights", "batch", "clip", "seed", "standardize"):
        arguments(**{row.key: value})
    read = gridc.read(PAGE.replace("task: parity", f"task: parity, {row.in_page().replace('OUTPUT', 'y')}"))
    assert read.training is not None


@pytest.mark.parametrize(("section", "word"), [(section, word) for section, words in KEYS.items() for word in words])
def test_a_key_of_a_section(section: str, word: str) -> None:
    model = {"transforms": TransformPage, "inputs": InputPage, "outputs": OutputPage}[section]
    meant = KEYS[section][word]
    assert meant in model.model_fields
    if word not in model.model_fields:
        old = {"transforms": "hidden: 4}, time", "inputs": "features: 3", "outputs": "classes: 2"}[section]
        assert mistake(old, f"{word}: 1, {old}").endswith(f" — did you mean '{meant}'?")


@pytest.mark.parametrize("word", sorted(OPTIONS))
def test_an_option_of_an_optimizer(word: str) -> None:
    meant = OPTIONS[word]
    rows = [*OPTIMIZERS.values(), *SCHEDULES.values()]
    owners = [row for row in rows if meant in {option.name for option in row.options}]
    if not owners and meant == "learning_rate":
        pytest.fail("nothing has a learning rate")
    for row in owners[:1]:
        if row.name not in OPTIMIZERS or word in {option.name for option in row.options}:
            continue
        with pytest.raises(UsageError, match=f"has no option '{word}' — did you mean '{meant}'"):
            optimizer(row.name, **{word: 0.1})
        assert mistake("task: parity", f"task: parity, optimizer: {{{row.name}: {{{word}: 0.1}}}}").endswith(
            f" — did you mean '{meant}'?")  # fmt: skip


@pytest.mark.parametrize("word", sorted(VALUES))
def test_a_word_for_a_choice(word: str) -> None:
    meant = VALUES[word]
    old, new = next((old, new) for choices, old, new in (
        (CELLS, "cell: lstm", f"cell: {word}"), (("first", "last"), "time: last", f"time: '{word}'"),
        (("glorot",), "hidden: 4", f"hidden: 4, init: {word}"), ((meant,), "classes: 2", f"classes: 2, loss: {word}"),
    ) if meant in choices)  # fmt: skip
    assert mistake(old, new).endswith(f" — did you mean '{meant}'?")


@pytest.mark.parametrize(("old", "new", "meant"), [
    ("time: last", "time: lst", "last"), ("cell: lstm", "cell: lst", "lstm"), ("cell: lstm", "cell: LSTM", "lstm"),
    ("task: parity", "task: parity, optimizer: Adam", "adam"), ("hidden: 4", "hidden: 4, direction: backwards", "backward"),
])  # fmt: skip
def test_the_nearest_word_is_one_that_may_stand_there(old: str, new: str, meant: str) -> None:
    assert mistake(old, new).endswith(f" — did you mean '{meant}'?")


def test_no_word_is_answered_with_prose() -> None:
    for word in ("list", "mapping", "index", "indices", "dimension"):
        assert f"did you mean '{word}'" not in mistake("time: last", f"time: {word}x")
    assert re.search(r"write budget=\{'epochs': 10\}\.$", synonyms.in_call("epochs", []))


def test_sizes_and_settings_that_can_be_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(PAGE)
    assert cli.run(["schedule", "s.yaml", "T=7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["work"] == 7 * 2 * 2
    assert cli.run(["train", "s.yaml", "batch=none"]) == 2
    assert "'training', batch: found 'none'; expected a positive integer" in capsys.readouterr().err
