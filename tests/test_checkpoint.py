"""Model files and the folder of a training: what is damaged is told, what is good is never lost.

Training processes are real, and so are the signals, the full disk and the lock.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gridc import files, model_file
from gridc.errors import DataError, ResourceError, UsageError
from gridc.files import hash_of, write_atomically
from gridc.model_file import Model, load, save
from gridc.training.checkpoint import CHECKPOINTS, METRICS, MODEL, Folder, free_folder, last_folder
from small_grid import SmallGrid, spec_of

SCRIPT = [sys.executable, str(Path(__file__).with_name("train_small.py"))]
HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}


def model(**changes):
    given = {
        "parameters": {"a.W": np.arange(6, dtype="f4").reshape(2, 3), "b": np.float64([np.pi, -0.0]),
                       "none": np.zeros((0, 3), "f4")},
        "spec": "name: ä", "digest": "d", "record": {"seed": 1}, "vocabularies": {"x": ("a", "\n", "ß")},
        "arrays": {"optimizer/count": np.array(7)}, "kind": "checkpoint",
    }  # fmt: skip
    return Model(**(given | changes))


def test_a_model_comes_back_bit_for_bit(tmp_path):
    given = model()
    digest = save(tmp_path / "a.grid", given)
    found = load(tmp_path / "a.grid")
    for part in ("parameters", "arrays"):
        ours, theirs = getattr(given, part), getattr(found, part)
        assert list(ours) == sorted(theirs) or set(ours) == set(theirs)
        for name, array in ours.items():
            assert array.dtype == theirs[name].dtype
            assert array.shape == theirs[name].shape
            assert array.tobytes() == theirs[name].tobytes()
            assert theirs[name].flags.writeable
    assert (found.spec, found.record, found.vocabularies, found.kind) == (
        given.spec, given.record, given.vocabularies, given.kind)  # fmt: skip
    assert found.sha256 == digest
    assert found.format == model_file.FORMAT
    assert not list(tmp_path.glob(".*"))


def test_arrays_of_any_order_are_the_same_file(tmp_path):
    a = np.arange(6.0).reshape(2, 3)
    save(tmp_path / "a.grid", model(parameters={"W": a}))
    save(tmp_path / "b.grid", model(parameters={"W": np.asfortranarray(a)}))
    assert (tmp_path / "a.grid").read_bytes() == (tmp_path / "b.grid").read_bytes()
    assert hash_of({"W": a}) == hash_of({"W": np.asfortranarray(a).astype(">f8")}) != hash_of({"V": a})


def test_every_flipped_bit_and_every_truncation_is_told(tmp_path):
    path = tmp_path / "a.grid"
    save(path, model())
    whole = path.read_bytes()
    rng = random.Random(0)
    for place in [*range(40), *(rng.randrange(len(whole)) for _ in range(300))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"a\.grid") as caught:
            load(path)
        assert caught.value.exit_code == 3
        assert str(caught.value).endswith(".")
    for size in (0, 5, 8, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="not a whole model file"):
            load(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(DataError):
        load(path)


def test_other_files_and_newer_formats_are_told(tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    with pytest.raises(DataError, match="There is no file"):
        load(tmp_path / "none.grid")
    (tmp_path / "folder.grid").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "folder.grid")
    save_file({"W": np.zeros(3)}, tmp_path / "other.grid")
    with pytest.raises(DataError, match="without gridc's manifest"):
        load(tmp_path / "other.grid")
    monkeypatch.setattr(model_file, "FORMAT", 9)
    save(tmp_path / "new.grid", model(gridc_version="9.1"))
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"written by gridc 9.1 in format 9; .* upgrade gridc"):
        load(tmp_path / "new.grid")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A file size limit stands for the disk's end: the system refuses the write just so."""
    path = tmp_path / "a.grid"
    write_atomically(path, b"old")
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from gridc.errors import ResourceError
from gridc.model_file import write_atomically
try:
    write_atomically({str(path)!r}, b"x" * 5000)
except ResourceError as error:
    print(error); sys.exit(error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 5
    assert "the disk is full; what was there before is untouched" in done.stdout
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_gives_up_old_checkpoints_first(tmp_path, monkeypatch):
    with Folder(tmp_path, keep=5) as folder:
        for step in (1, 2, 3):
            folder.save(step, model())
        real = files.write_atomically
        room = {"full": 1}

        def limited(path, content):
            if len(folder.checkpoints()) > room["full"]:
                raise files.DiskFull(f"{path} could not be written: the disk is full; what was there is untouched.")
            real(path, content)

        monkeypatch.setattr(model_file, "write_atomically", limited)
        folder.save(4, model())
        assert [p.name[-6:-5] for p in folder.checkpoints()] == ["4", "3"]
        room["full"] = 0
        with pytest.raises(ResourceError, match="disk is full"):
            folder.save(5, model())
        assert [p.name[-6:-5] for p in folder.checkpoints()] == ["4"], "the newest is never given up"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="could not be made"):
        Folder(tmp_path / "file" / "run").open()
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(ResourceError, match="read-only"):
            Folder(tmp_path / "locked" / "run").open()


def test_two_trainings_in_one_folder(tmp_path):
    code = f"""
import sys
from gridc.training.checkpoint import Folder
from gridc.errors import UsageError
try:
    Folder({str(tmp_path)!r}).open()
except UsageError as error:
    print(error); sys.exit(error.exit_code)
"""
    with Folder(tmp_path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
        assert done.returncode == 2
        assert f"Another training (process {os.getpid()}) is using {tmp_path}" in done.stdout
        with pytest.raises(UsageError):
            Folder(tmp_path).open()
    Folder(tmp_path).open().close()


def test_the_last_few_are_kept_and_stale_temporaries_go(tmp_path):
    with Folder(tmp_path, keep=2) as folder:
        for step in (9, 10, 100):
            folder.save(step, model(record={"step": step}))
        assert [int(p.stem[5:]) for p in folder.checkpoints()] == [100, 10]
        stale = tmp_path / CHECKPOINTS / f".step-1.grid.123{files.TEMPORARY}"
        stale.write_bytes(b"half")
    with Folder(tmp_path) as folder:
        assert not stale.exists()
        assert len(folder.checkpoints()) == 2
        newest = folder.checkpoints()[0]
        newest.write_bytes(newest.read_bytes()[:-9])
        told = []
        assert folder.latest(told.append).record == {"step": 10}
        assert "not a whole model file" in told[0]
        assert "checkpoint before it" in told[0]
        folder.checkpoints()[1].write_bytes(b"")
        with pytest.raises(DataError, match=r"No checkpoint in .* can be used"):
            folder.latest()


def test_names_of_folders(tmp_path):
    first = free_folder("my grid/2", tmp_path)
    assert first == tmp_path / "my-grid-2"
    with pytest.raises(DataError, match="no training of 'my grid/2' to resume"):
        last_folder("my grid/2", tmp_path)
    with Folder(first) as folder:
        assert free_folder("my grid/2", tmp_path) == tmp_path / "my-grid-2-2", "it is locked"
        folder.save(1, model())
    second = free_folder("my grid/2", tmp_path)
    assert second == tmp_path / "my-grid-2-2"
    assert last_folder("my grid/2", tmp_path) == first


# --- whole trainings -------------------------------------------------------------------------------------------------


def start(*arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    return subprocess.Popen([*SCRIPT, *map(str, arguments)], **pipes)


def finished(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def unbroken():
    """What the training gives that nobody interrupts, and without a folder."""
    return finished()


def steps_in(folder):
    return [json.loads(line)["step"] for line in (folder / METRICS).read_text().splitlines()]


def test_a_folder_changes_nothing(unbroken, tmp_path):
    assert finished(tmp_path) == unbroken
    assert hash_of(load(tmp_path / MODEL).parameters) == unbroken["weights"]
    assert steps_in(tmp_path) == [step for step, _, _ in unbroken["losses"]]
    assert len(Folder(tmp_path).checkpoints()) == 3
    assert finished(tmp_path, "--resume") == unbroken, "a training that is done stays what it is"


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.thorough)])
def test_killed_at_random_moments_it_goes_on_bit_for_bit(unbroken, tmp_path, kills):
    """SIGKILL, again and again, each at another moment, until the training is through."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng, killed, folder = random.Random(seed), 0, 0
    while killed < kills:
        folder += 1
        place = tmp_path / str(folder)
        for attempt in range(100):
            process = start(place, "--slow", *(["--resume"] if attempt else []))
            process.stdout.readline()
            try:
                out, err = process.communicate(timeout=rng.uniform(0.0, 0.9) if killed < kills else 60)
                break
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += 1
        assert process.returncode == 0, err
        found = json.loads(out.splitlines()[-1])
        assert found == unbroken
        assert steps_in(place) == [step for step, _, _ in unbroken["losses"]]
        assert hash_of(load(place / MODEL).parameters) == unbroken["weights"]
        assert not list(place.rglob(f"*{files.TEMPORARY}"))


def test_ctrl_c_finishes_the_step_saves_and_goes_on(unbroken, tmp_path):
    process = start(tmp_path, "--slow", "--lines")
    process.stdout.readline()
    while not (tmp_path / METRICS).exists() or not steps_in(tmp_path):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted after step" in err
    assert "--resume" in err
    assert "Traceback" not in err
    told = int(err.split("Interrupted after step ")[1].split(".")[0])
    assert load(Folder(tmp_path).checkpoints()[0]).record["state"]["step"] == told
    assert finished(tmp_path, "--resume") == unbroken


def test_a_second_training_in_the_folder_is_refused_and_harms_nothing(tmp_path, unbroken):
    process = start(tmp_path, "--slow")
    process.stdout.readline()
    while not (tmp_path / "lock").exists():
        time.sleep(0.01)
    second = start(tmp_path)
    _, err = second.communicate(timeout=30)
    assert second.returncode == 2
    assert "Another training" in err
    out, _ = process.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1]) == unbroken
    again = start(tmp_path)
    _, err = again.communicate(timeout=30)
    assert again.returncode == 2
    assert "already holds a training" in err
    assert "--resume" in err
    assert hash_of(load(tmp_path / MODEL).parameters) == unbroken["weights"]


def test_a_disk_that_fills_up_ends_in_a_sentence_and_resumes(tmp_path, unbroken):
    process = start(tmp_path, "--limit", 9_000)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "the disk is full" in err
    assert "Traceback" not in err
    assert Folder(tmp_path).checkpoints()
    assert all(load(path) for path in Folder(tmp_path).checkpoints())
    assert finished(tmp_path, "--resume") == unbroken


def test_resuming_something_else_is_refused(tmp_path):
    from gridc.training.fit import fit
    from test_training import data

    train, held_out = data()
    options = {"batch": 4, "budget": 1, "folder": tmp_path, "progress": "none"}
    fit(SmallGrid(spec_of(label="classes: 2")), train, held_out, **options)
    for grid, changes, words in (
        (SmallGrid(spec_of(label="classes: 2")), {"batch": 5, "seed": 2}, "'batch' was 4 and is now 5 and 'seed' was 0"),
        (SmallGrid(spec_of(label="classes: 2")), {"optimizer": "sgd"}, "'optimizer' was 'adam"),
        (SmallGrid(spec_of(label="binary: true")), {}, "another spec than 'small'"),
    ):
        before = hash_of(grid.parameters)
        with pytest.raises(DataError, match=words):
            fit(grid, train, held_out, resume=True, **(options | changes))
        assert hash_of(grid.parameters) == before
    assert fit(SmallGrid(spec_of(label="classes: 2"), seed=5), train, held_out, resume=True,
               **(options | {"budget": 3})).steps == 3 * 8  # fmt: skip
