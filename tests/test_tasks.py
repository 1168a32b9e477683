"""The tasks against what they claim, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from gridc.arrays.dataset import Dataset
from gridc.data.fitting import for_spec
from gridc.errors import UsageError
from gridc.scheduling.check import read
from gridc.tables.tasks import DIGITS, TASKS, make
from gridc.training.fit import fit
from small_grid import SmallGrid, spec_of

SMALL = {"addition": {"samples": 50}, "memorisation": {"samples": 50}, "reverse": {"samples": 50},
         "sort": {"samples": 50}, "random-diagonal": {"samples": 50}, "two-facts": {"samples": 50}}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_gives_the_same_examples_and_another_others(name):
    (a, held), (b, _), (c, _) = (make(name, SMALL.get(name), seed=seed) for seed in (1, 1, 2))
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert held is not None
    assert len(held) == round(0.2 * (len(a) + len(held)))


@pytest.mark.parametrize("name", TASKS)
def test_ids_take_a_byte_where_that_is_enough(name):
    data, _ = make(name, SMALL.get(name))
    for array in (*data.inputs.values(), *data.targets.values()):
        assert array.itemsize == 1 or array.dtype == np.float32


@pytest.mark.parametrize(("symbols", "size"), [(127, 1), (128, 2), (32_767, 2), (32_768, 8)])
def test_the_blank_has_an_id_of_its_own_however_many_symbols_there_are(symbols, size):
    data, _ = make("memorisation", {"length": 400, "symbols": symbols, "samples": 200}, held_out=0.0)
    given, wanted = data.inputs["symbols"], data.targets["symbols"]
    assert given.itemsize == wanted.itemsize == size
    assert (given[:, 400:] == symbols).all()
    assert (wanted[:, :400] == symbols).all()
    assert np.array_equal(given[:, :400], wanted[:, 400:])
    assert 0 <= given.min() < given[:, :400].max() < symbols


def test_narrow_ids_train_what_wide_ones_do_and_go_on_with_what_those_began(tmp_path):
    spec = read("""
name: ids
dimensions: {time: 8}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {x: {vocabulary: 2, joins: [time]}}
outputs: {label: {classes: 2, reads: [time], at: {time: last}}}
""")
    narrow = for_spec(make("parity", {"bits": 8, "values": "bits"}, held_out=0.0)[0], spec)
    wide = for_spec(Dataset(*({name: array.astype(np.int64) for name, array in part.items()}
                              for part in (narrow.inputs, narrow.targets))), spec)  # fmt: skip
    assert narrow.fingerprint == wide.fingerprint
    weights = []
    for data, began in ((wide, wide), (narrow, narrow), (narrow, wide)):
        grid = SmallGrid(spec)
        options = {"batch": 8, "folder": tmp_path / str(len(weights)), "progress": "none"}
        fit(grid, began, budget={"steps": 3}, **options)
        fit(grid, data, budget={"steps": 6}, resume=True, **options)
        weights.append(grid.parameters)
    for name, array in weights[0].items():
        assert all(np.array_equal(array, one[name]) for one in weights[1:])


def test_parity_is_the_whole_population_cut_in_two():
    train, held = make("parity", {"bits": 8})
    both = np.concatenate([train.inputs["bits"], held.inputs["bits"]])
    assert both.shape == (256, 8)
    assert len(np.unique(both, axis=0)) == 256
    assert set(np.unique(both)) == {-1, 1}
    assert len(held) == 51
    for part in (train, held):
        assert np.array_equal(part.targets["parity"], (part.inputs["bits"] == 1).sum(axis=1) % 2)


def test_parity_options():
    even, _ = make("parity", {"bits": 5, "target": "even", "values": "bits"})
    assert np.array_equal(even.targets["parity"], 1 - even.inputs["bits"].sum(axis=1) % 2)
    long, held = make("parity", {"bits": 60, "samples": 100}, held_out=0.1)
    assert long.inputs["bits"].shape == (90, 60)
    assert len(held) == 10


def test_no_long_string_of_parity_is_both_trained_on_and_held_out():
    train, held = make("parity", {"bits": 22, "samples": 50_000})
    both = np.concatenate([train.inputs["bits"], held.inputs["bits"]])
    assert both.shape == (50_000, 22)
    assert len(np.unique(both, axis=0)) == 50_000  # 50,000 independent draws would hold about 300 pairs
    every, _ = make("parity", {"bits": 21, "samples": 10**7}, held_out=0.0)
    assert len(every) == 1 << 21


def test_parity_fits_a_vector_a_sequence_and_ids():
    data, _ = make("parity", {"bits": 6})
    assert for_spec(data, spec_of(6, label="classes: 2")).inputs["x"].shape == (51, 6)
    text = """
name: sequence
dimensions: {time: T}
transforms: {time: {cell: lstm, hidden: 4}}
inputs: {bit: {%s, joins: [time]}}
outputs: {odd: {binary: true, reads: [time], at: {time: last}}}
"""
    assert for_spec(data, read(text % "features: 1")).inputs["bit"].shape == (51, 6, 1)
    ids, _ = make("parity", {"bits": 6, "values": "bits"})
    assert for_spec(ids, read(text % "vocabulary: 2")).inputs["bit"].shape == (51, 6)


def test_digits_are_scans_and_their_patches_are_in_place():
    whole, _ = make("digits", held_out=0.0)
    patched, _ = make("digits", {"patch": 2}, held_out=0.0)
    assert len(whole) == 1797
    assert whole.inputs["image"].shape == (1797, 8, 8, 1)
    assert 0 <= whole.inputs["image"].min() < whole.inputs["image"].max() == 1
    assert patched.inputs["image"].shape == (1797, 4, 4, 4)
    assert np.array_equal(patched.inputs["image"][:, 1, 2], whole.inputs["image"][:, 2:4, 4:6, 0].reshape(-1, 4))
    with pytest.raises(UsageError, match="divisor of 8"):
        make("digits", {"patch": 3})


def test_addition_adds():
    data, _ = make("addition", {"digits": 7, "samples": 40})
    assert data.inputs["symbols"].shape == (32, 3 * 7 + 4)
    for given, wanted in zip(data.inputs["symbols"], data.targets["sum"], strict=True):
        text = "".join(DIGITS[i] for i in given)
        first, second = text.strip("-").split("-")
        answer = "".join(DIGITS[i] for i in wanted)
        assert answer.strip("-") == f"{int(first) + int(second):08d}"
        assert set(text[-8:]) == set(answer[:-8]) == {"-"}


@pytest.mark.parametrize(("digits", "samples"), [(2, 20_000), (3, 300_000), (3, 2_000)])
def test_no_problem_of_addition_is_held_out_and_trained_on(digits: int, samples: int) -> None:
    train, held = make("addition", {"digits": digits, "samples": samples}, held_out=0.25)
    assert held is not None
    given = np.concatenate([part.inputs["symbols"] for part in (train, held)])
    assert len(np.unique(given, axis=0)) == len(given) == min(samples, 100**digits)
    assert np.bincount(given[:, 1], minlength=11)[:10] == pytest.approx(len(given) / 10, rel=0.3)


def test_addition_of_15_digits_is_the_49_steps_of_the_paper():
    data, _ = make("addition", {"samples": 2}, held_out=0.0)
    assert data.inputs["symbols"].shape[1] == 49


@pytest.mark.parametrize(("name", "change"), [("memorisation", list), ("reverse", lambda s: s[::-1]), ("sort", sorted)])
@pytest.mark.parametrize("after", [True, False])
def test_sequences(name, change, after):
    data, _ = make(name, {"length": 6, "shortest": 2, "symbols": 5, "after": after, "samples": 30}, held_out=0.0)
    for given, wanted, length in zip(data.inputs["symbols"], data.targets["symbols"], data.lengths["length"], strict=True):
        given, wanted = given[:length].tolist(), wanted[:length].tolist()
        half = length // 2 if after else length
        assert wanted[half if after else 0 :] == change(given[:half])
        if after:
            assert given[half:] == wanted[:half] == [5] * half
    assert len(set(data.lengths["length"])) > 1


def test_random_diagonal_has_its_second_mark_down_the_diagonal():
    data, _ = make("random-diagonal", {"size": 6, "distance": 2, "samples": 30}, held_out=0.0)
    assert data.inputs["square"].shape == (30, 6, 6, 1)
    first, second = np.argwhere(data.inputs["square"][..., 0] == 1), np.argwhere(data.targets["mark"] == 1)
    assert np.array_equal(first + np.array([0, 2, 2]), second)


def test_two_facts_answer_the_question():
    data, _ = make("two-facts", {"samples": 40}, held_out=0.0)
    words, places = data.vocabularies["facts"], data.vocabularies["place"]
    for facts, question, place in zip(*data.inputs.values(), data.targets["place"], strict=True):
        told = [tuple(words[i] for i in fact) for fact in facts]
        (who,) = [fact[0] for fact in told if fact[1:] == ("took", words[question])]
        (where,) = [fact[2] for fact in told if fact[:2] == (who, "went")]
        assert where == places[place]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("partiy", {}, "no task 'partiy'.*did you mean 'parity'"),
        ("parity", {"bit": 3}, "no option 'bit' — did you mean 'bits'"),
        ("parity", {"bits": "12"}, "'bits' is '12', expected a whole number from 1"),
        ("parity", {"target": "uneven"}, "expected 'odd' or 'even'"),
        ("sort", {"length": 3, "shortest": 5}, "'shortest' is 5, expected at most the 3"),
        ("random-diagonal", {"size": 3, "distance": 3}, "less than the 3"),
        ("two-facts", {"people": 3, "shown": 4}, "at most the 3"),
    ],
)
def test_messages(name, options, words):
    with pytest.raises(UsageError, match=words):
        make(name, options)
