"""Trainings on several ranks: real processes under a real mpiexec, with signals, a full disk and kills."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gridc.arrays.dataset import Dataset
from gridc.errors import DataError, UsageError
from gridc.files import hash_of
from gridc.language import noise
from gridc.model_file import load
from gridc.scheduling.check import read
from gridc.training.checkpoint import METRICS, MODEL, Folder
from gridc.training.metrics import meters
from gridc.training.ranks import ALONE
from gridc.training.world import joined, launched
from small_grid import spec_of
from train_on_ranks import SPEC

pytest.importorskip("mpi4py", reason="ranks need mpi4py: pip install 'gridc[mpi]'")
HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OPENBLAS_NUM_THREADS": "1"}
LAUNCHER = Path(sys.executable).with_name("mpiexec")


def start(ranks, script, *arguments):
    """Several ranks, or for 1 a process that no mpiexec started."""
    words = [sys.executable, str(HERE / script), *map(str, arguments)]
    launcher = [str(LAUNCHER), "-n", str(ranks)] if ranks > 1 else []
    return subprocess.Popen([*launcher, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def ended(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def weights(result):
    with np.load(result) as found:
        return dict(found)


def test_any_number_of_ranks_trains_the_same(tmp_path):
    """Ragged lengths, masks, weights of outputs, classes and examples, a last mini-batch smaller than the ranks, held-out
    figures; two ranks resumed are two ranks unbroken to the bit, and three that are killed go on as one."""
    results = {n: tmp_path / f"{n}.npz" for n in (1, 2, 3)}
    two, three = tmp_path / "two", tmp_path / "three"
    ended(start(2, "train_on_ranks.py", results[2], two))
    _, err = ended(start(3, "train_on_ranks.py", results[3], three, "--kill", 2, 22), code=9)
    last = Folder(three).checkpoints()[0]
    assert last.name == "step-000000000020.grid"
    assert f"The last good checkpoint is {last}: the same command with --resume goes on" in err
    assert not results[3].exists()
    ended(start(1, "train_on_ranks.py", results[3], three, "--resume"))
    ended(start(1, "train_on_ranks.py", results[1]))
    alone = weights(results[1])
    told = {n: json.loads(path.with_suffix(".json").read_text()) for n, path in results.items()}
    for n in (2, 3):
        for name, array in weights(results[n]).items():
            np.testing.assert_allclose(array, alone[name], rtol=0, atol=1e-12, err_msg=f"{n} ranks, {name}")
        for record, expected in zip(told[n]["records"], told[1]["records"], strict=True):
            assert record["outputs"] == {k: pytest.approx(v, rel=1e-9) for k, v in expected["outputs"].items()}
            assert record["held_out"] == {k: pytest.approx(v, rel=1e-9) for k, v in expected["held_out"].items()}

    # As a kill after step 24 leaves the folder.
    for path in Folder(two).checkpoints():
        if path.name > "step-000000000024.grid":
            path.unlink()
    (two / MODEL).unlink()
    ended(start(2, "train_on_ranks.py", tmp_path / "again.npz", two, "--resume"))
    assert json.loads((tmp_path / "again.json").read_text()) == told[2]
    assert hash_of(load(two / MODEL).parameters) == told[2]["weights"]


# -- what ends a training, on the small stand-in for a grid -----------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken():
    """What two ranks come to that nobody interrupts, without a folder."""
    return found(start(2, "train_small.py"))


def found(process):
    return json.loads(ended(process)[0].splitlines()[-1])


def pids(process, ranks=2):
    """The processes of the ranks, once all of them are there."""
    there = {}
    while len(there) < ranks:
        word, rank, pid = process.stdout.readline().split()
        assert word == "ready"
        there[int(rank)] = int(pid)
    return there


def trains(process, folder):
    """Waits until the training has been evaluated once."""
    while process.poll() is None and (not (folder / METRICS).exists() or not (folder / METRICS).read_text()):
        time.sleep(0.01)


def test_ctrl_c_is_agreed_and_a_full_disk_ends_all(unbroken, tmp_path):
    process = start(2, "train_small.py", tmp_path, "--slow", "--lines")
    pids(process)
    trains(process, tmp_path)
    process.send_signal(signal.SIGTERM)  # which mpiexec hands on; a Ctrl-C goes the same way
    _, err = ended(process, 130)
    step = int(re.search(r"Interrupted after step (\d+)\.", err)[1])
    assert load(Folder(tmp_path).checkpoints()[0]).record["state"]["step"] == step
    _, err = ended(start(2, "train_small.py", tmp_path, "--resume", "--limit", 9_000), 5)
    assert err.count("the disk is full") == 1
    assert "--resume" not in err, "all ranks ended in order"
    assert all(load(path) for path in Folder(tmp_path).checkpoints())
    assert found(start(2, "train_small.py", tmp_path, "--resume")) == unbroken


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.thorough)])
def test_ranks_killed_at_random_moments_go_on_bit_for_bit(unbroken, tmp_path, kills):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng, killed, number = random.Random(seed), 0, 0
    while killed < kills:
        number += 1
        place, resume, done = tmp_path / str(number), [], False
        while not done:
            process = start(2, "train_small.py", place, "--slow", *resume)
            there, resume = pids(process), ["--resume"]
            if killed < kills:
                time.sleep(rng.uniform(0.0, 0.9))
                if process.poll() is None:
                    victim = rng.choice([*there.values()])
                    try:
                        os.kill(victim, signal.SIGKILL)
                        killed += 1
                    except ProcessLookupError:
                        pass  # it had ended
            _, err = process.communicate(timeout=120)
            done = process.returncode == 0
            if not done:
                assert process.returncode == 9, err
        assert found(start(2, "train_small.py", place, "--resume")) == unbroken


# -- parts ------------------------------------------------------------------------------------------------------------


def test_without_mpi4py_a_sentence_says_what_to_install(tmp_path):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('none here')")
    spec = HERE.parent / "specs" / "parity.yaml"
    place = os.pathsep.join([str(tmp_path), str(HERE.parent)])
    environment = {**ENVIRONMENT, "PYTHONPATH": place, "PMI_SIZE": "4", "PMI_RANK": "1"}
    words = [sys.executable, "-m", "gridc", "train", str(spec), "--folder", str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 5
    assert done.stderr.endswith('gridc: mpiexec started 4 processes, and a training that they share needs mpi4py and an MPI: '
                                'pip install "gridc[mpi]" brings both.\n')  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_who_trains(monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert joined() is joined("alone") is joined(ALONE) is ALONE
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    assert launched() == 3
    assert joined("alone") is ALONE
    with pytest.raises(UsageError, match="'ranks' is 2, expected 'auto', 'alone' or a communicator"):
        joined(2)


@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 0, 7), (0, 7, 7), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_meters_of_shares_merge_to_those_of_the_whole(cuts):
    rng = np.random.default_rng(0)
    spec = spec_of(label="classes: 3", y="features: 2")
    targets = {"label": rng.integers(0, 3, 7), "y": rng.normal(50, 3, (7, 2))}
    outputs = {"label": rng.dirichlet(np.ones(3), 7), "y": targets["y"] + rng.normal(size=(7, 2))}
    whole, merged = meters(spec), meters(spec)
    for name in targets:
        whole[name].add(targets[name], outputs[name], {})
        for first, end in zip((*cuts, 7), (*cuts[1:], 7), strict=False):
            part = meters(spec)[name]
            if first < end:
                part.add(targets[name][first:end], outputs[name][first:end], {})
            merged[name].merge(part.state())
        assert merged[name].result() == pytest.approx(whole[name].result(), rel=1e-12)


def test_a_share_of_the_masks_is_that_of_the_whole():
    spec = read(SPEC)
    whole = noise.draw(spec, 7, (5, 2), np.random.default_rng(3), "float64")
    for first, batch in ((0, 3), (3, 4), (6, 1)):
        generator = np.random.default_rng(3)
        part = noise.draw(spec, batch, (5, 2), generator, "float64", share=(first, 7))
        for name, mask in whole.items():
            np.testing.assert_array_equal(part[name], mask[first : first + batch])
        after = np.random.default_rng(3)
        noise.draw(spec, 7, (5, 2), after, "float64")
        assert generator.bit_generator.state == after.bit_generator.state


def test_rows_are_cut_as_all_of_the_mini_batch_is():
    spec = read(SPEC)
    from gridc.data.fitting import for_spec
    from train_on_ranks import data

    batch = for_spec(data(5, 0), spec)
    batch = Dataset(batch.inputs, batch.targets, {"T": np.array([2, 4, 1, 1, 3])}, input_axes=batch.input_axes,
                    target_axes=batch.target_axes, weights=batch.weights)  # fmt: skip
    assert batch.ready("float64", slice(2, 4)).inputs["x"].shape == (2, 4, 3)
    np.testing.assert_array_equal(batch.ready("float64", slice(2, 4)).inputs["x"], batch.ready("float64").inputs["x"][2:4])


def test_ranks_agree_and_one_that_cannot_go_on_ends_all():
    _, err = ended(start(2, "ranks_talk.py"), DataError.exit_code)
    assert sorted(re.findall(r"rank \d goes on", err)) == ["rank 0 goes on", "rank 1 goes on"]
    assert "gridc: Rank 1 ends the training of all 2: Only here." in err
