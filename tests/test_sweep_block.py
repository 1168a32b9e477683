"""The ``sweep:`` block of a page: what it may say, what is refused at its place, and the pages of its trials."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gridc
from gridc import cli
from gridc.errors import SpecError
from gridc.search import space

PAGE = """
name: sorts
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 8, tied: [time]}     # along the sequence
  depth: {cell: gru, hidden: 8}
priority: [depth, time]
inputs: {symbols: {vocabulary: 5, enters: depth}}
outputs: {symbols_out: {classes: 5, reads: [depth], at: {depth: last}}}
training:
  task: {sort: {length: 3, symbols: 4, samples: 300}}
  optimizer: {adam: {learning_rate: 0.01}}
  budget: {steps: 60, seconds: 100}
  seed: 5
  save: somewhere
"""
FIRST = 1 + PAGE.count("\n") + 1
"""The line of the first key of a sweep block behind the page."""


@pytest.mark.parametrize(("block", "place", "words"), [
    ("transforms.dept.hidden: [4]", (0, 3), "'sweep', transforms.dept.hidden: there is no 'dept' in 'transforms' — did you mean "
     "'depth'?"),
    ("transforms.depth.hiden: [4]", (0, 3), "there is no 'hiden' in transform 'depth' — did you mean 'hidden'?"),
    ("transfroms.depth.hidden: [4]", (0, 3), "there is no 'transfroms' in the page — did you mean 'transforms'?"),
    ("sampeler: [tpe]", (0, 3), "there is no 'sampeler' in the page — did you mean 'sampler'?"),
    ("sed: 3", (0, 8), "found 3; expected a list of values, or a range such as {low: 1e-4, high: 1e-2, log: true} — did you mean "
     "'seed'?"),
    ("training.lerning_rate: [1.0]", (0, 3), "the training block has no 'lerning_rate' — did you mean 'learning_rate'?"),
    ("training.optimizer.adam.bb1: [0.9]", (0, 3), "there is no 'bb1' in 'training', optimizer.adam — did you mean 'b1'?"),
    ("training.batch.size: [3]", (0, 3), "there is no 'size' in 'training', batch; it holds no keys"),
    ("training.seed: [1]", (0, 3), "'training.seed' cannot be searched: 'seeds' says which are trained with"),
    ("training.batch: {low: 3, high: 1}", (0, 25), "found low 3 and high 1; expected low to be below high"),
    ("training.batch: {low: 0, high: 9, log: true}", (0, 25), "found low 0 with log: true; expected a positive number"),
    ("training.batch: {low: 1, high: 9, step: 0.5}", (0, 43), "found the step 0.5 between whole numbers"),
    ("training.batch: {low: 1, high: 9, step: 10}", (0, 43), "expected one that leads from 1 to 9 at most"),
    ("training.batch: {low: 1, high: 9, step: 2, log: true}", (0, 37), "found both log and step; expected one of them"),
    ("training.batch: {lo: 1, high: 9}", (0, 20), "unknown key 'lo'; expected high, log, low or step — did you mean 'low'?"),
    ("training.batch: {low: 1}", (0, 3), "'sweep', training.batch needs the key 'high': a number"),
    ("training.batch: [8, 16, 8]", (0, 27), "found 8 twice; expected each value once"),
    ("training.standardize: [true, 1]", (0, 32), "found 1 twice"),
    ("training.batch: []", (0, 19), "found []; expected a list of values, or a range"),
    ("training.b1: [0.5]\n  training.optimizer.adam.b1: [0.9]", (1, 3), "are the same place of the page"),
    ("sampler: grid\n  training.learning_rate: {low: 0.1, high: 1}", (1, 27), "a grid has no end of numbers from 0.1 to 1"),
    ("sampler: tpee\n  training.batch: [1]", (0, 12), "found 'tpee'; expected tpe, random or grid, alone or as {NAME: {OPTION: "
     "VALUE}} — did you mean 'tpe'?"),
    ("seeds: 0\n  training.batch: [1]", (0, 10), "found 0; expected a positive integer, or a list of integers from 0"),
    ("seeds: 3", (-1, 1), "'sweep' searches for nothing; expected a key of the page and what to try"),
    # What the page itself would refuse, looked at before a trial is begun.
    ("transforms.depth.hidden: [8, 0]", (0, 32), "the page cannot take 0: transform 'depth', hidden: found 0; expected a "
     "positive integer"),
    ("training.batch: {low: -1, high: 9}", (0, 25), "the page cannot take -1: 'training', batch: found -1; expected a positive "
     "integer"),
    ("training.held_out: {low: 0.1, high: 1.5}", (0, 39), "the page cannot take 1.5: 'training', held_out: found 1.5"),
    ("training.optimizer: [adam, amad]", (0, 30), "the page cannot take amad: 'training', optimizer: found 'amad'"),
    ("training.optimizer: [adam, sgd]\n  training.b1: [0.8, 0.9]", (-1, 1), "cannot take training.optimizer sgd and training.b1 "
     "0.8 together"),
    ("transforms.*.cell: [gru, gur]", (0, 28), "the page cannot take gur: transform 'time', cell: found 'gur'"),
])  # fmt: skip
def test_a_block_that_means_nothing_is_refused_at_its_place(block: str, place: tuple[int, int], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        space.check(gridc.read(f"{PAGE}sweep:\n  {block}\n"))
    assert words in caught.value.sentence
    assert (caught.value.line - FIRST, caught.value.column) == place


def test_a_sweep_needs_a_training() -> None:
    with pytest.raises(SpecError, match="the page has no training block; add one"):
        gridc.read(PAGE[: PAGE.index("training:")] + "sweep: {transforms.depth.hidden: [2, 3]}\n")


def test_the_command_check_looks_at_the_pages(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for block, code in (("[4, 8]", 0), ("[4, 0]", 2)):
        (tmp_path / "page.yaml").write_text(f"{PAGE}sweep:\n  transforms.depth.hidden: {block}\n  training.batch: [8]\n")
        assert cli.run(["check", str(tmp_path / "page.yaml"), "--json"]) == code
        told = json.loads(capsys.readouterr().out)
        assert told.get("sweep", {}).get("pages checked") == (None if code else 2)


def test_a_page_that_names_files_beside_it_is_read_from_any_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "table.csv").write_text("x,y\n1,2\n3,4\n")
    page = tmp_path / "there" / "page.yaml"
    for told in ("data: table.csv", "data: {file: table.csv, held_out: table.csv}"):
        page.write_text(PAGE[: PAGE.index("  task:")] + f"  {told}\nsweep: {{training.batch: [1, 2]}}\n")
        monkeypatch.chdir(tmp_path / "there")
        moved = space.movable(gridc.read("page.yaml"))
        monkeypatch.chdir(tmp_path)
        block = gridc.read(moved).training
        assert block is not None
        assert block.data is not None
        assert block.data.file == str(tmp_path / "there" / "table.csv")
        assert block.data.held_out in (None, block.data.file)


NUMBER = st.floats(1e-6, 1e3, allow_nan=False)


@settings(max_examples=min(15, int(os.environ.get("GRIDC_EXAMPLES", "15"))), deadline=None)
@given(st.integers(1, 99), st.integers(1, 99), NUMBER, NUMBER, st.sampled_from(["sgd", "rmsprop", {"adamw": {"b1": 0.5}}]),
       st.integers(1, 9))  # fmt: skip
def test_the_page_of_a_trial_has_its_values_to_the_last_bit(
    hidden: int, batch: int, rate: float, clip: float, optimizer: Any, seed: int
) -> None:
    spec = gridc.read(PAGE + "sweep:\n" + "".join(f"  {word}: {{low: 1, high: 2}}\n" for word in (
        "transforms.*.hidden", "training.batch", "training.learning_rate", "training.clip"))
        + "  training.optimizer: [adam]\n  training.epochs: [1, 2]\n")  # fmt: skip
    chosen = {"transforms.*.hidden": hidden, "training.batch": batch, "training.learning_rate": rate, "training.clip": clip,
              "training.optimizer": optimizer, "training.epochs": 2}  # fmt: skip
    made = space.page(spec, chosen, seed)
    block = made.training
    assert block is not None
    assert [t.hidden for t in made.transforms.values()] == [hidden, hidden]
    assert (block.batch, block.clip, block.seed) == (batch, clip, seed)
    assert block.budget.model_dump(exclude_none=True) == {"epochs": 2.0}
    assert block.optimizer.name == (optimizer if isinstance(optimizer, str) else "adamw")
    assert block.optimizer.options["learning_rate"] == rate
    assert (made.sweep, block.save) == (None, None)
    assert "# along the sequence" in made.source.page
    assert gridc.read(made.source.page) == made


def test_what_is_tried_counts_once() -> None:
    spec = gridc.read(PAGE + """sweep:
  training.batch: {low: 8, high: 64, step: 8}
  training.learning_rate: {low: 0.1, high: 0.55, step: 0.2}
  transforms.depth.hidden: {low: 3, high: 5}
  training.clip: {low: 1, high: 2.5}
  seeds: 3
""")
    assert [axis.count for axis in space.axes(spec)] == [8, 3, 3, None]
    assert space.seeds(spec) == (5, 6, 7)
    assert space.monitor(spec) == "accuracy"
