"""What goes wrong around a real training: a disk that is really full, a folder that is really read-only, damaged files.

Each is one sentence and its exit code, and what was good is still there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gridc import cli
from gridc.files import hash_of
from gridc.model_file import load

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
OLD = Path(__file__).with_name("written")
NOBODY = 65534
SPEC = """
name: small
dimensions: {time: T, depth: 2}
transforms: {time: {cell: gru, hidden: 24}, depth: {cell: lstm, hidden: 24}}
inputs: {symbols: {vocabulary: 4, enters: depth}}
outputs: {symbols_out: {classes: 4, reads: [depth], at: {depth: last}}}
training:
  task: {sort: {length: 3, symbols: 3, samples: 160}}
  budget: {epochs: 6}
  checkpoint: {steps: 2}
  stop: {patience: 50}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own in memory, 150 kB small."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=150k", "gridc-test", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a disk in memory cannot be mounted by this user")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def gridc(*words: object, code: str = "from gridc.cli import main; main()") -> tuple[int, str, str]:
    """A command in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_full_disk(spec: Path, disk: Path, tmp_path: Path) -> None:
    code, _, err = gridc("train", spec, "--folder", disk / "run")
    assert code == 5
    assert "could not be written: the disk is full; what was there before is untouched." in err
    kept = sorted((disk / "run" / "checkpoints").glob("step-*.grid"))
    assert kept, "a checkpoint fits"
    assert all(load(path).record["state"]["step"] for path in kept)
    assert not list(disk.rglob(".*")), "half a file was left"
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    assert gridc("train", spec, "--folder", disk / "run", "--resume")[0] == 0
    assert gridc("train", spec, "--folder", tmp_path / "whole")[0] == 0
    found, expected = (hash_of(load(folder / "model.grid").parameters) for folder in (disk / "run", tmp_path / "whole"))
    assert found == expected


def test_a_disk_that_is_read_only(spec: Path, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, _, err = gridc("train", spec, "--folder", disk / "run")
    assert (code, "read-only for this user" in err) == (5, True), err


def test_a_folder_of_someone_else(spec: Path, tmp_path: Path) -> None:
    """Root may write everywhere, so the command gives up being root first, where it is."""
    place = tmp_path / "theirs"
    place.mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    spec.chmod(0o644)
    code, _, err = gridc("train", "small.yaml", "--folder", "theirs/run", code=f"""
import os, sys
os.chdir({str(tmp_path)!r})
from gridc.training.checkpoint import Folder
opened = Folder.open
def less(folder):
    if os.geteuid() == 0:  # only now: what is imported until here may lie where root alone can read
        os.setegid({NOBODY})
        os.seteuid({NOBODY})
    return opened(folder)
Folder.open = less
from gridc.cli import main
try:
    main()
finally:
    os.seteuid(os.getuid())  # at its exit PyTensor looks at its own folder once more
""")  # fmt: skip
    assert code == 5, err
    assert "theirs/run/lock could not be made: the folder theirs/run is read-only for this user." in err
    assert not list(place.iterdir())


def test_files_that_are_damaged_or_of_another_spec(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert cli.run(["train", str(spec), "--folder", str(run), "--progress", "none"]) == 0
    whole = (run / "model.grid").read_bytes()
    for name, content, words in (
        ("short.grid", whole[:-100], "it ends too early"),
        ("bit.grid", whole[:-50] + bytes([whole[-50] ^ 4]) + whole[-49:], "does not match its sha256"),
    ):
        (tmp_path / name).write_bytes(content)
        for command in ("inspect", "score", "predict"):
            capsys.readouterr()
            assert cli.run([command, str(tmp_path / name), *["x.npz"] * (command == "predict")]) == 3
            assert words in capsys.readouterr().err
    # A checkpoint that was cut off is passed over, and the training goes on from the one before, to the same end.
    expected = load(run / "model.grid")
    newest = sorted((run / "checkpoints").glob("step-*.grid"))[-1]
    newest.write_bytes(newest.read_bytes()[:-7])
    assert cli.run(["train", str(spec), "--folder", str(run), "--resume", "--progress", "lines"]) == 0
    assert "Going on from the checkpoint before it." in capsys.readouterr().err
    assert hash_of(load(run / "model.grid").parameters) == hash_of(expected.parameters)
    spec.write_text(SPEC.replace("hidden: 24", "hidden: 23"), encoding="utf-8")
    assert cli.run(["train", str(spec), "--folder", str(run), "--resume"]) == 3
    assert "The checkpoint belongs to another spec than 'small'" in capsys.readouterr().err
    assert hash_of(load(run / "model.grid").parameters) == hash_of(expected.parameters)


def test_numbers_that_run_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(64, 3)), y=1e3 * rng.normal(size=(64, 1)))
    (tmp_path / "away.yaml").write_text("""
name: away
dimensions: {depth: 2}
transforms: {depth: {cell: dense, activation: identity, hidden: 8}}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {features: 1, reads: [depth], at: {depth: last}}}
training: {data: data.npz, batch: 8, budget: {epochs: 100}, optimizer: {sgd: {learning_rate: 0.5}}}
""")
    code = cli.run(["train", str(tmp_path / "away.yaml"), "--folder", str(tmp_path / "run"), "--json"])
    told = capsys.readouterr()
    assert code == 4
    error = json.loads(told.out)
    assert error["exit_code"] == 4
    for words in ("At step ", "(batch ", " of epoch ", "'", "holds NaN or infinity", "The last good checkpoint is "):
        assert words in error["error"]
    (good,) = re.findall(r"checkpoint is (.*)\.$", error["error"])
    kept = load(good)
    assert all(np.isfinite(array).all() for array in kept.parameters.values())


def test_a_model_that_an_older_gridc_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``format-1.grid`` was written by gridc 0.1.0, on another machine than this one, perhaps."""
    (tmp_path / "words.csv").write_text("letters\nabba\nabc\ncdd\n")
    for backend in ("python", "jax"):
        code = cli.run(["predict", str(OLD / "format-1.grid"), str(tmp_path / "words.csv"), "--json", "--backend", backend])
        out = capsys.readouterr().out
        assert code == 0
        rows = json.loads(out)
        assert [row["kind"] for row in rows] == ["even", "odd", "odd"]
        assert [row["kind=odd"] for row in rows] == pytest.approx([0.00869014, 0.987485, 0.996946], rel=1e-4)
    assert cli.run(["inspect", str(OLD / "format-1.grid")]) == 0
    assert "written by gridc 0.1.0" in capsys.readouterr().out
