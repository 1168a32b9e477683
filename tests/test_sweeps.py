"""``gridc sweep``: trials are trainings, workers are processes that may die, and what is left is taken up where it stood."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import browser
import gridc
from gridc import cli
from gridc.files import hash_of
from gridc.model_file import load
from gridc.search import space

optuna = pytest.importorskip("optuna")
from gridc.search import report, study  # noqa: E402
from gridc.search.results import Sweep, read_results  # noqa: E402
from gridc.search.worker import Curve  # noqa: E402
from gridc.training.history import Record  # noqa: E402

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
SHUFFLED = 1
"""A seed of the grid that has the learning rate which learns first."""
PAGE = """
name: "sorts </script><b>"
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 6, tied: [time]}
  depth: {cell: gru, hidden: 6}
priority: [depth, time]
inputs: {symbols: {vocabulary: 4, enters: depth}}
outputs: {symbols_out: {classes: 4, reads: [depth], at: {depth: last}}}
training:
  task: {sort: {length: 3, symbols: 3, samples: 120}}
  optimizer: {adam: {learning_rate: 0.01}}
  budget: {steps: STEPS}
  evaluate: {steps: 10}
  checkpoint: {steps: 5}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A small sweep over every value once, with one that learns nothing and one whose numbers become infinite."""
    folder = tmp_path_factory.mktemp("sweeps") / "done"
    return gridc.sweep(PAGE.replace("STEPS", "30"), {
        "training.learning_rate": [0.05, 1e-9, 1e30], "training.optimizer": [{"adam": {"b1": 0.8}}], "sampler": "grid",
        "seeds": [3, 4], "pruner": {"median": {"startup": 1}}, "monitor": "loss", "seed": SHUFFLED}, folder=folder,
        progress="none")  # fmt: skip


def test_every_combination_is_a_trial_and_its_value_the_mean_over_the_seeds(done: Sweep) -> None:
    assert sorted(one.values["training.learning_rate"] for one in done.trials) == [1e-9, 0.05, 1e30]
    for one in done.trials:
        if one.state == "finished":
            kept = []
            for seed in (3, 4):
                lines = (one.folder / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()
                kept.append(min(json.loads(line)["held_out_loss"] for line in lines))
            assert list(one.seeds.values()) == kept
            assert one.value == statistics.fmean(kept)
            assert one.spread == statistics.stdev(kept)
            assert [step for step, _ in one.curve] == [10, 20, 30]
        else:
            assert one.why
    finished = [one for one in done.trials if one.value is not None]
    assert done.best is not None
    assert done.value == min(one.value for one in finished)
    assert done.best.values == {"training.learning_rate": 0.05, "training.optimizer": {"adam": {"b1": 0.8}}}
    why = {one.values["training.learning_rate"]: f"{one.state}: {one.why}" for one in done.trials}
    assert why[1e-9] == "pruned: Worse than the median of the others at step 10."
    assert why[1e30].startswith("pruned: At step 2 ")
    with pytest.raises(AttributeError):
        done.monitor = "accuracy"  # type: ignore[misc]


def test_a_trial_is_what_gridc_train_makes_of_its_page(done: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert done.best is not None
    page = str(done.best.folder / "trial.yaml")
    assert cli.run(["train", page, "--seed", "4", "--folder", str(tmp_path / "alone"), "--progress", "none"]) == 0
    capsys.readouterr()
    alone, trial = (load(folder / "model.grid") for folder in (tmp_path / "alone", done.best.folder / "seed-4"))
    assert hash_of(alone.parameters) == hash_of(trial.parameters)


class Worker:
    """A ``gridc sweep`` in a process of its own."""

    def __init__(self, *words: str):
        self.process = subprocess.Popen([sys.executable, "-m", "gridc", "sweep", *words], env=ENVIRONMENT, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> str:
        out, err = self.process.communicate()
        assert self.process.returncode == 0, err
        return out


def left_behind(folder: Path) -> dict[str, Any]:
    """What a sweep came to: of every trial its state, value, curve and the hash of its weights."""
    results = read_results(study.Search(folder))
    weights = {one.number: hash_of(load(one.folder / "seed-0" / "model.grid").parameters) for one in results.trials}
    return {one.folder.name: (one.state, one.value, one.curve, dict(one.values), weights[one.number]) for one in results.trials}


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(("kills", "steps", "trials"), [
    pytest.param(2, 60, 2, id="2 kills"), pytest.param(20, 400, 4, id="20 kills", marks=pytest.mark.thorough)])  # fmt: skip
def test_a_sweep_whose_workers_are_killed_ends_as_one_whose_are_not(kills: int, steps: int, trials: int, tmp_path: Path) -> None:
    """Two workers; one is killed while it trains, the other once a trial is finished, and a third goes on."""
    page = tmp_path / "page.yaml"
    page.write_text(PAGE.replace("STEPS", str(steps)) + "sweep:\n  training.learning_rate: {low: 1e-3, high: 1e-1, log: true}\n"
                    f"  transforms.*.hidden: [5, 6]\n  sampler: random\n  pruner: none\n  trials: {trials}\n")  # fmt: skip
    Worker(str(page), "--folder", str(tmp_path / "whole")).end()
    expected = left_behind(tmp_path / "whole")
    assert len(expected) == trials

    rng, killed, folder = random.Random(0), 0, tmp_path / "killed"
    study.begin(folder, gridc.read(page))
    search = study.Search(folder)
    untouched: dict[str, dict[Path, int]] = {}
    workers: list[Worker] = []

    def saved() -> set[Path]:
        return set(folder.glob("trials/*/seed-*/checkpoints/step-*.grid"))

    def finished() -> int:
        return sum(one.state.is_finished() for one in search.trials())

    try:
        while killed < kills and finished() < trials:
            workers = workers or [Worker("--join", str(folder)) for _ in range(2)]
            before, last = saved(), killed == kills - 1
            while not (finished() if last else saved() - before or finished() == trials):
                assert any(one.process.poll() is None for one in workers), workers[0].process.communicate()
                time.sleep(0.005)
            workers.pop(rng.randrange(len(workers))).kill()
            killed += 1
            for one in search.trials():
                if one.state.is_finished():
                    untouched.setdefault(f"{one.number:04d}", stamps(search.where(one.number)))
    finally:
        for one in workers:
            one.kill()
    told = Worker("--resume", str(folder), "--json").end()
    assert len(json.loads(told)["trials"]) == trials
    assert left_behind(folder) == expected
    assert untouched
    for name, before in untouched.items():
        assert stamps(folder / "trials" / name) == before, "a finished trial was touched"
    assert gridc.read(folder / "best.yaml").sweep is None


@pytest.fixture
def fresh(tmp_path: Path) -> study.Search:
    spec = gridc.read(PAGE.replace("STEPS", "30") + "sweep: {training.batch: {low: 8, high: 64, step: 8}, trials: 6, seed: 7}\n")
    study.begin(tmp_path / "fresh", spec)
    return study.Search(tmp_path / "fresh")


@pytest.fixture
def take() -> Iterator[Callable[[study.Search], study.Held]]:
    """Takes a trial, which is let go in the end."""
    taken: list[study.Held] = []

    def one(search: study.Search) -> study.Held:
        held = search.take()
        assert held is not None
        taken.append(held)
        return held

    yield one
    for held in taken:
        held.lock.close()


Take = Callable[[study.Search], study.Held]


def test_who_holds_a_trial_has_it_alone_and_leaves_it_when_its_lock_goes(fresh: study.Search, take: Take) -> None:
    other = study.Search(fresh.folder)
    mine, theirs = take(fresh), take(other)
    assert (mine.number, theirs.number) == (0, 1)
    mine.lock.close()  # as the system does for one who dies
    again = take(other)
    assert (again.number, dict(again.chosen)) == (0, dict(mine.chosen))


def test_a_worker_that_died_while_it_asked_leaves_a_trial_whose_values_are_drawn_later(fresh: study.Search, take: Take) -> None:
    fresh.study.ask()  # the trial is there, and has no values
    held = take(fresh)
    assert held.number == 0
    assert held.chosen["training.batch"] in range(8, 65, 8)


def test_what_no_worker_survives_is_given_up(fresh: study.Search, take: Take) -> None:
    for _ in range(study.LIVES):
        held = take(fresh)
        assert held.number == 0
        held.lock.close()
    assert take(fresh).number == 1
    first = read_results(fresh).trials[0]
    assert (first.state, first.why) == ("failed", "5 workers died of it, one after the other, without a checkpoint in between.")


def test_nothing_is_reported_to_a_trial_that_somebody_finished(fresh: study.Search, take: Take) -> None:
    curve = Curve(fresh, take(fresh))
    assert not curve(Record(5, 5, 1.0, 0.1, 0.1, 0.5, {"y": {"loss": 0.5, "accuracy": 0.75}}))
    study.Search(fresh.folder).finish(0, 0.9)
    assert curve(Record(6, 6, 1.0, 0.1, 0.1, 0.4, {"y": {"loss": 0.4, "accuracy": 0.8}}))
    fresh.finish(0, 0.1)
    fresh.give_up(0, "late")
    one = read_results(fresh).trials[0]
    assert (one.state, one.value, one.curve) == ("finished", 0.9, ((5, 0.75),))


@pytest.mark.parametrize(("values", "state", "why"), [
    ({"training.batch": [64]}, "finished", ""),
    ({"transforms.time.hidden": [40_000_000]}, "failed", "GB of memory"),
    ({"training.schedule": [{"warmup_cosine_decay_schedule": {"decay_steps": 5}}]}, "failed", "'decay_steps' is 5, which"),
    ({"inputs.symbols.vocabulary": [2]}, "failed", "symbols"),
])  # fmt: skip
def test_values_that_do_not_go_together_end_their_trial_alone(
    values: dict[str, Any], state: str, why: str, tmp_path: Path
) -> None:
    found = gridc.sweep(PAGE.replace("STEPS", "2"), {**values, "sampler": "grid"}, folder=tmp_path / "one", progress="none")
    (one,) = found.trials
    assert one.state == state
    assert why in one.why


def test_a_machine_that_does_not_see_the_data_trains_nothing(tmp_path: Path) -> None:
    data = tmp_path / "table.csv"
    data.write_text("symbols,symbols_out\n1,2\n")
    spec = gridc.read(re.sub("task: .*", f"data: {data}", PAGE.replace("STEPS", "2")) + "sweep: {training.batch: [1, 2]}\n")
    study.begin(tmp_path / "sweep", spec)
    data.unlink()
    with pytest.raises(gridc.DataError, match=r"There is no .*table\.csv here"):
        gridc.sweep("", folder=tmp_path / "sweep", resume=True, progress="none")
    assert study.Search(tmp_path / "sweep").trials() == []


def test_a_journal_whose_last_writer_was_killed_goes_on(fresh: study.Search, take: Take) -> None:
    journal = fresh.folder / study.JOURNAL
    good = journal.read_bytes()
    for torn in (b'{"op_code":4,"wor', b"x" * 100_000):
        journal.write_bytes(good + torn)
        (fresh.folder / f"{study.JOURNAL}.lock").touch()  # what Optuna's own lock leaves behind
        turn = study.Turn(str(journal))
        turn.grace_period = 0
        turn.acquire()
        assert journal.read_bytes() == good
        turn.release()
    assert take(study.Search(fresh.folder)).number == 0


def test_optuna_reads_the_journal_as_its_own(done: Sweep) -> None:
    journal = optuna.storages.journal
    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(done.folder / study.JOURNAL)))
    (name,) = [one.study_name for one in storage.get_all_studies()]
    loaded = optuna.load_study(study_name=name, storage=storage)
    assert done.best is not None
    assert (loaded.best_trial.number, loaded.best_value) == (done.best.number, done.value)


def test_what_is_drawn_is_of_the_block_and_what_mattered_is_told(fresh: study.Search, take: Take) -> None:
    for number in range(5):
        held = take(fresh)
        assert held.chosen["training.batch"] in range(8, 65, 8)
        fresh.finish(number, held.chosen["training.batch"] / 64)
    assert report.importances(fresh, read_results(fresh)) == {"training.batch": 1.0}
    best = read_results(fresh).best
    assert best is not None
    assert best.value == max(one.value or 0 for one in read_results(fresh).trials)
    fresh.ask_for(4)
    assert study.Search(fresh.folder).total == 4
    assert fresh.take() is None


@pytest.mark.parametrize(("words", "code", "told"), [
    ([], 2, "takes one of SPEC, --join FOLDER, --resume FOLDER and --report FOLDER; found none."),
    (["--join", "a", "--report", "b"], 2, "found --join and --report."),
    (["--join", "nowhere"], 3, "nowhere is no folder of a sweep: there is no spec.yaml in it."),
    (["--join", "a", "--folder", "b"], 2, "--folder is where a new sweep goes; --join names the folder itself."),
    (["plain.yaml"], 2, "'plain' has no sweep block; add one, such as 'sweep: {training.learning_rate:"),
    (["page.yaml", "--folder", "taken"], 2, "taken already holds a sweep; go on with it (--resume), or give another folder"),
    (["--join", "changed"], 3, "searches for something else than when the sweep began"),
])  # fmt: skip
def test_what_no_sweep_can_be_made_of_is_said(
    words: list[str], code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGE.replace("STEPS", "9")
    Path("plain.yaml").write_text(page.replace('"sorts </script><b>"', "plain"))
    Path("page.yaml").write_text(f"{page}sweep: {{training.batch: [8, 16]}}\n")
    for name in ("taken", "changed"):
        study.begin(Path(name), gridc.read("page.yaml"))
    study.Search("changed")
    Path("changed/spec.yaml").write_text(f"{page}sweep: {{training.batch: [8, 32]}}\n")
    assert cli.run(["sweep", *words]) == (code if words else 2)
    assert told in capsys.readouterr().err.replace("\n", " ") or not words


def test_without_optuna_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ("import sys; sys.modules['optuna'] = None\nfrom gridc import cli\n"
            f"sys.exit(cli.run(['sweep', '--join', {str(tmp_path)!r}]))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (5, "gridc: A sweep needs Optuna: pip install 'gridc[sweep]'.\n")


@pytest.fixture
def page_of(done: Sweep, tmp_path: Path) -> Iterator[Any]:
    written = report.write_report(done.folder)
    driver = browser.chromium(tmp_path / "profile", 1200, 900)
    try:
        driver.get(written["report"].as_uri())
        yield driver
    finally:
        driver.quit()


def test_the_page_loads_nothing_and_holds_the_best_spec(done: Sweep) -> None:
    written = report.write_report(done.folder)
    text = written["report"].read_text(encoding="utf-8")
    assert not re.search(r"https?://|(src|href)\s*=\s*\"", text.replace("http://www.w3.org/2000/svg", ""))
    held = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    assert done.best is not None
    assert held["page"] == written["best spec"].read_text(encoding="utf-8")
    assert gridc.read(held["page"]) == space.page(study.Search(done.folder).spec, done.best.values)
    assert [one["value"] for one in held["trials"]] == [one.value for one in done.trials]


def test_the_page_of_a_sweep_is_driven(done: Sweep, page_of: Any) -> None:
    def rows() -> list[str]:
        return page_of.execute_script("return [...document.querySelectorAll('#rows tr')].map(row => row.dataset.trial)")

    assert done.best is not None
    ranked = [str(one.number) for one in done.ranked()]
    assert rows()[0] == str(done.best.number) == ranked[0]
    assert page_of.find_element("id", "title").text == "sorts </script><b>: sweep"
    page_of.find_element("css selector", "#head th:first-child button").click()
    assert rows() == [str(n) for n in range(len(done.trials))]
    other = next(one for one in done.trials if one.state == "pruned")
    page_of.find_element("css selector", f"#rows tr[data-trial='{other.number}']").click()
    assert other.why in page_of.find_element("id", "chosen").text
    page_of.find_element("id", "close").click()
    assert not page_of.find_element("id", "chosensection").is_displayed()
    assert [line for line in page_of.get_log("browser") if line["level"] == "SEVERE"] == []
