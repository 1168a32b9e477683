"""A grid cut along a dimension, each block computed by a rank: equal to one process, on paper, in threads and in processes."""

from __future__ import annotations

import queue
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gridc
from gridc import experiment
from gridc.cli import cli
from gridc.errors import UsageError
from gridc.fusion.pipeline import Stage
from gridc.insight.sharding import shard
from gridc.model_file import load
from gridc.scheduling import pipeline, tiles
from gridc.scheduling.check import parse, read
from gridc.scheduling.tiles import Cut, Tiles, named
from gridc.training.checkpoint import BEST, CHECKPOINTS, MODEL, Folder
from gridc.training.ranks import Ranks
from strategies import Case, grids
from test_grid import EXAMPLES
from test_ranks import ENVIRONMENT, HERE, LAUNCHER, ended

PAGE = """
name: cut
dimensions: {time: T, depth: 3}
transforms:
  time: {cell: lstm, hidden: 5, tied: [time], zoneout: 0.1}
  depth: {cell: gru, hidden: 4, dropout: 0.2}
inputs:
  x: {features: 3, over: [time], enters: depth}
  also: {features: 2, over: [time], joins: [time]}
outputs:
  word: {classes: 3, reads: [depth], at: {depth: last}, ignore: -1}
  last: {binary: true, reads: [time, depth], at: {time: last, depth: last}}
  each: {features: 1, reads: [time.memory], at: {time: last, depth: all}}
training:
  data: {file: examples.npz, lengths: {T: n}}
  optimizer: {adam: {learning_rate: 0.02}}
  batch: 6
  clip: 0.5
  standardize: true
  held_out: 0.25
  budget: {steps: 36}
  evaluate: {steps: 9}
  checkpoint: {steps: 10}
"""


class Office:
    """Stands in for an MPI between threads of one process: mail boxes, and what all have to say."""

    def __init__(self, ranks: int):
        self.boxes: dict[tuple[int, ...], queue.Queue[Any]] = {}
        self.said: dict[int, Any] = {}
        self.lock, self.meeting, self.sizes = threading.Lock(), threading.Barrier(ranks), Counter[tuple[int, ...]]()

    def box(self, *key: int) -> queue.Queue[Any]:
        with self.lock:
            return self.boxes.setdefault(key, queue.Queue())


class Clerk:
    """A rank's ``Post`` there."""

    def __init__(self, office: Office, rank: int):
        self.office, self.rank = office, rank

    def send(self, to: int, number: int, numbers: np.ndarray) -> None:
        self.office.sizes[self.rank, to, number] = numbers.nbytes
        self.office.box(self.rank, to, number).put(numbers.copy())

    def receive(self, source: int, number: int, numbers: np.ndarray) -> None:
        numbers[:] = self.office.box(source, self.rank, number).get(timeout=60)

    def sent(self) -> None:
        pass

    def share(self, numbers: np.ndarray, giver: int | None) -> None:
        self.office.said[self.rank] = numbers.copy()
        self.office.meeting.wait(60)
        said = [self.office.said[rank] for rank in range(self.office.meeting.parties)]
        numbers[...] = sum(said) if giver is None else said[giver]
        self.office.meeting.wait(60)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What each gives in a thread of its own."""
    found: list[Any] = [None] * len(calls)
    wrong: list[BaseException] = []

    def run(k: int) -> None:
        try:
            found[k] = calls[k]()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    return found


def near(found: np.ndarray, expected: np.ndarray, tolerance: float, name: str) -> None:
    """They are equal but for rounding, whatever the size of the largest number among them."""
    most = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * most, err_msg=name)


class Cutting:
    """A grid, and the same cut for ranks that are threads."""

    def __init__(self, whole: Any, cut: Cut, threads: int = 1):
        self.whole, self.office = whole, Office(cut.ranks)
        self.parts = [tiles.mine(whole.spec, cut, rank) for rank in range(cut.ranks)]
        self.ranks = [gridc.compile(whole.spec, dtype="float64", eager=False, threads=threads,
                                    stage=Stage(cut, rank, Clerk(self.office, rank))) for rank in range(cut.ranks)]  # fmt: skip
        for grid, part in zip(self.ranks, self.parts, strict=True):
            for name, array in whole.parameters.items():
                grid.parameters[name] = array[part.get(name, ...)]

    def agrees(self, *call: Any) -> Counter[tuple[int, ...]]:
        """Loss, outputs and gradients are those of the one grid; gives the bytes of every message."""
        self.office.sizes.clear()
        for grid in self.ranks if self.whole.random_state is not None else ():
            grid.random_state = self.whole.random_state
        loss, gradients, outputs = self.whole.loss_and_gradients(*call)
        found = at_once([lambda grid=grid: grid.loss_and_gradients(*call) for grid in self.ranks])
        for theirs, _, made in found:
            assert theirs == pytest.approx(loss, rel=1e-12, abs=1e-13)
            for name, array in outputs.items():
                near(made[name], array, 1e-12, name)
        for name, array in gradients.items():
            each = [one[1][name] for one in found]
            if name.partition(".")[0] in self.whole.spec.outputs:  # all make the whole of a read-out's
                each = each[-1:]
            elif name in self.parts[0]:
                each = [np.concatenate(each, axis=len(self.parts[0][name]) - 1)]
            near(sum(each), array, 1e-11, name)
        return Counter(self.office.sizes)


def legal(spec: Any, sizes: tuple[int, ...]) -> list[Cut]:
    """Every way to cut a grid for two or three ranks, in one tile or in tiles of one other dimension."""
    found: list[Cut] = []
    axes = [d for d, n in enumerate(sizes) if n > 1]
    for d in axes:
        each = [(), *(((other, n),) for other in axes if other != d for n in range(1, sizes[other]))]
        for ranks, tile in [(ranks, tile) for ranks in range(2, min(3, sizes[d]) + 1) for tile in each]:
            try:
                _ = Tiles(spec, sizes, d, ranks, dict(tile)).levels
                found.append(named(spec, ranks, spec.dimensions[d].name, {spec.dimensions[k].name: n for k, n in tile}))
            except UsageError:
                continue
    return found


@settings(deadline=None, max_examples=4 if EXAMPLES <= 200 else EXAMPLES // 10, suppress_health_check=list(HealthCheck))
@given(grids(memory=True, noise=True), st.sampled_from(["all", "little"]), st.integers(1, 2), st.data())
def test_random_grids_that_are_cut_are_those_that_are_not(case: Case, keep: str, threads: int, data: st.DataObject) -> None:
    whole = gridc.compile(case.text, dtype="float64", eager=False, schedule={"keep": keep}, threads=1)
    cuts = legal(whole.spec, whole.spec.sizes(case.sizes))
    assume(cuts and whole.lowering == "fused")
    Cutting(whole, data.draw(st.sampled_from(cuts)), threads).agrees(case.inputs, case.targets, case.lengths)


def test_what_is_sent_is_what_was_predicted() -> None:
    """A message a tile and neighbour, of the bytes that a prediction says, forward and back; tied weights, joined inputs and
    ragged lengths, whose messages are smaller."""
    spec, rng, steps = parse(PAGE), np.random.default_rng(0), 7
    inputs = {"x": rng.normal(size=(4, steps, 3)), "also": rng.normal(size=(4, steps, 2))}
    targets = {"word": rng.integers(-1, 3, (4, steps)), "last": rng.integers(0, 2, 4), "each": rng.normal(size=(4, 3, 1))}
    whole = gridc.compile(spec, dtype="float64", eager=False, threads=1)
    for along, ranks, tile in (("depth", 3, {"time": 3}), ("time", 2, {"depth": 1})):
        cutting = Cutting(whole, named(spec, ranks, along, tile))
        sizes = cutting.agrees(inputs, targets)
        made = shard(spec, (steps, 3), ranks, along, tile, batch=4)
        predicted = Counter(2 * size for size in made.messages.values())  # of four bytes, where these have eight
        for forth in (True, False):
            assert Counter(size for (source, to, _), size in sizes.items() if (source < to) == forth) == predicted
        shorter = cutting.agrees(inputs, targets, {"T": np.array([7, 2, 5, 1])})
        assert sum(shorter.values()) < sum(sizes.values())


class Two(Ranks):
    """One of two ranks, alone."""

    size = 2


def examples(folder: Path) -> None:
    """Write ragged ones, some of whose targets are ignored."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 8, 20)
    lengths[0] = 7
    np.savez(folder / "examples.npz", x=rng.normal(2, 3, (20, 7, 3)), also=rng.normal(-1, 2, (20, 7, 2)), n=lengths,
             word=rng.integers(-1, 3, (20, 7)), last=rng.integers(0, 2, 20), each=rng.normal(5, 2, (20, 3, 1)))  # fmt: skip


def trained(folder: Path, ranks: int, *words: str, code: int = 0, launcher: tuple[str, ...] = ("-m", "gridc")) -> str:
    """What a training says on stderr, as the command line starts it."""
    start = [str(LAUNCHER), "-n", str(ranks)] if ranks > 1 else []
    command = [*start, sys.executable, *launcher, "train", str(folder.parent / "cut.yaml"), "--folder", str(folder), "--dtype",
               "float64", "--progress", "none", *words]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    return ended(process, code)[1]


def same_trainings(alone: Path, cut: Path) -> None:
    """Models, their figures and the last checkpoints are the same but for rounding."""
    for name in (MODEL, f"{CHECKPOINTS}/{BEST}"):
        one, other = load(alone / name), load(cut / name)
        assert one.parameters.keys() == other.parameters.keys()
        for key, array in one.parameters.items():
            np.testing.assert_allclose(other.parameters[key], array, rtol=0, atol=1e-11, err_msg=key)
        for where in ("outputs", "held_out"):
            for key, figures in one.record["record"][where].items():
                assert other.record["record"][where][key] == pytest.approx(figures, rel=1e-9)
    kept = load(Folder(cut).checkpoints()[0])
    for key, array in load(Folder(alone).checkpoints()[0]).arrays.items():
        np.testing.assert_allclose(kept.arrays[key], array, rtol=0, atol=1e-11, err_msg=key)


def test_processes_that_cut_a_grid_train_as_one_does(tmp_path: Path) -> None:
    """Two ranks, one of which is killed, and then three that go on from its checkpoint, cut otherwise, come to what one process
    comes to: ragged lengths, masks, clipping, figures on held-out examples, weights of each rank's own and of all."""
    pytest.importorskip("mpi4py", reason="ranks need mpi4py: pip install 'gridc[mpi]'")
    examples(tmp_path)
    (tmp_path / "cut.yaml").write_text(PAGE)
    alone, cut = tmp_path / "alone", tmp_path / "pieces"
    trained(alone, 1)
    told = trained(cut, 2, "--shard", "depth", "--tile", "time=2", code=9, launcher=(str(HERE / "one_rank_dies.py"), "1", "22"))
    last = Folder(cut).checkpoints()[0]
    assert last.name == "step-000000000020.grid"
    assert f"The last good checkpoint is {last}: the same command with --resume goes on" in told
    told = trained(cut, 3, "--shard", "depth", "--resume", "--progress", "lines")
    assert re.search(r"3 ranks of 1 thread each, cut along depth in tiles of time \d+\.", told)
    same_trainings(alone, cut)


@pytest.mark.thorough
def test_ranks_killed_at_random_steps_go_on(tmp_path: Path) -> None:
    """Killed again and again, each time on as many ranks and cut as is drawn, a training comes to what an unbroken one does."""
    pytest.importorskip("mpi4py", reason="ranks need mpi4py: pip install 'gridc[mpi]'")
    examples(tmp_path)
    (tmp_path / "cut.yaml").write_text(PAGE)
    alone, cut = tmp_path / "alone", tmp_path / "pieces"
    trained(alone, 1)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng, resume = random.Random(seed), list[str]()
    for _ in range(8):
        ranks, along = rng.choice([(2, "depth"), (3, "depth"), (2, "time"), (3, "time")])
        dies = (str(HERE / "one_rank_dies.py"), str(rng.randrange(ranks)), str(rng.randrange(12)))
        told = trained(cut, ranks, "--shard", along, *resume, code=9, launcher=dies)
        kept = Folder(cut).checkpoints()
        assert (f"The last good checkpoint is {kept[0]}" if kept else "before the first checkpoint") in told
        resume = ["--resume"]
        if kept and kept[0].name > "step-000000000020.grid":  # which leaves too few steps to be killed at
            break
    trained(cut, 3, "--shard", "time", "--resume")
    same_trainings(alone, cut)


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "cut.yaml"
    page.write_text(PAGE)

    def refusal(*words: str) -> str:
        done = CliRunner().invoke(cli, ["train", str(page), *words])
        assert isinstance(done.exception, UsageError)
        return str(done.exception)

    assert refusal("--tile", "time=2") == (
        "--tile says where a grid that is cut hands vectors on, and --shard along which dimension: give both.")  # fmt: skip
    assert "start them with: mpiexec -n 2 gridc train" in refusal("--shard", "depth")
    assert "without --devices and --distributed" in refusal("--shard", "depth", "--devices", "2")
    spec, post = read(str(page)), Clerk(Office(2), 0)
    with pytest.raises(UsageError, match="'cut' has no dimension 'dept'; expected time or depth"):
        named(spec, 2, "dept", {})
    stage = Stage(named(spec, 2, "depth", {}), 0, post)
    with pytest.raises(UsageError, match="'cut' is cut for several ranks by the fused lowering on processors, and this is"):
        gridc.compile(spec, lowering="plain", eager=False, stage=stage)
    with pytest.raises(UsageError, match="keeps all or little of each tile, not 1 MB"):
        gridc.compile(spec, schedule="keep=1MB", eager=False, stage=stage)
    back = parse(PAGE.replace("hidden: 5, tied: [time], zoneout: 0.1", "hidden: 5, direction: backward"))
    assert pipeline.piece(back, (6, 3), 2, None, named(back, 2, "depth", {"time": 2}), 0).sweep.segments
    shares = parse("""
name: two
dimensions: {rows: 3, cols: 3}
transforms:
  a: {cell: lstm, hidden: 4, along: rows, tied: [rows], reads: [a, b]}
  b: {cell: lstm, hidden: 4, along: cols, tied: [cols], shares: a, reads: [b, a]}
priority: [[a, b]]
inputs:
  x: {features: 2, enters: a}
outputs:
  y: {binary: true, reads: [a], at: {rows: last, cols: last}}
""")
    with pytest.raises(UsageError, match="along 'rows': 'b' shares the weights of 'a', and they are untied along different"):
        named(shares, 2, "rows", {})
    both = parse(
        PAGE.replace("zoneout: 0.1}", "reads: [time, depth]}\n  back: {cell: lstm, hidden: 2, along: time, direction: backward, "
                     "reads: [back, depth]}")
        .replace("dropout: 0.2}", "reads: [time, back, depth]}\npriority: [[time, back], depth]"), str(page),
    )  # fmt: skip
    examples(tmp_path)
    words = r"'cut' cannot be cut along 'time': .* waits for .*vectors would have to run both ways"
    with pytest.raises(UsageError, match=words):
        pipeline.piece(both, (6, 3), 2, None, named(both, 2, "time", {}), 0)
    with pytest.raises(UsageError, match=words):
        experiment.run(both, shard="time", ranks=Two(), folder=tmp_path / "run")
    with pytest.raises(UsageError, match=r"'cut' cannot go on in tiles of time=2: .* waits for .*neither tile could end before"):
        experiment.run(both, shard="depth", tile={"time": 2}, ranks=Two(), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists(), "before anything is built"
