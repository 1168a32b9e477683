"""A home folder written as ``~`` in every path, copies of a grid, and a compile folder that cannot be written to."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gridc
from gridc import cli
from gridc.errors import DataError
from gridc.resources import cache_folder, located

ROOT = Path(__file__).parent.parent
SPEC = """
name: small
dimensions: {time: T, depth: 2}
transforms: {time: {cell: gru, hidden: 4}, depth: {cell: lstm, hidden: 4, tied: [time] NOISE}}
inputs: {x: {features: 2, enters: depth}}
outputs: {y: {classes: 2, reads: [depth], at: {depth: last, time: last}}}
training: {data: {file: ~/x.npz}, budget: {steps: 1}, save: ~/run}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, with another to work in, where no ``~`` may appear."""
    cache_folder("kernels")  # found before home is another
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_every_path_may_begin_at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    np.savez(home / "x.npz", x=rng.normal(size=(10, 3, 2)), y=rng.integers(0, 2, 10))
    (home / "s.yaml").write_text(SPEC.replace("NOISE", ""))
    model = "~/run/model.grid"
    for words in (
        ["check", "~/s.yaml"], ["schedule", "~/s.yaml", "-s", "T=3", "-o", "~/s.svg"], ["train", "~/s.yaml"],
        ["train", "~/s.yaml", "--folder=~/other", "--set", "data.file=~/x.npz"], ["inspect", model],
        ["predict", model, "~/x.npz", "-o", "~/p.csv"], ["init", "table", "-o", "~/t.yaml"],
    ):  # fmt: skip
        assert cli.run(words) == 0, words
    assert sorted(path.name for path in home.iterdir() if path.name[0] != ".") == sorted([
        "flowers.csv", "gridc.schema.json", "other", "p.csv", "run", "s.svg", "s.yaml", "t.yaml", "x.npz"])  # fmt: skip
    grid = gridc.load(model)
    grid.save("~/m.grid")
    assert (home / "m.grid").exists()
    assert not list(Path().iterdir())
    monkeypatch.setenv("GRIDC_CACHE_DIR", "~/cache")
    assert cache_folder.__wrapped__("kernels") == home / "cache" / "kernels"
    assert located("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


COPIES = {"pickle": lambda grid: pickle.loads(pickle.dumps(grid)), "copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_computes_the_same_and_shares_nothing(way: str) -> None:
    grid = gridc.compile(SPEC.replace("NOISE", ""), dtype="float64", seed=np.int64(4), eager=False)
    rng = np.random.default_rng(0)
    x, y = {"x": rng.normal(size=(5, 3, 2))}, {"y": rng.integers(0, 2, 5)}
    grid.vocabularies["y"] = ("no", "yes")
    before = grid.predict(x)["y"]
    other = COPIES[way](grid)
    assert (other.backend, other.lowering, other.dtype, other.seed) == (grid.backend, grid.lowering, grid.dtype, 4)
    assert other.vocabularies == grid.vocabularies
    assert other.signature == grid.signature
    assert list(other.parameters) == list(grid.parameters)
    np.testing.assert_array_equal(other.predict(x)["y"], before)
    other.fit(x, y, budget=1, progress="none")
    assert not np.array_equal(other.predict(x)["y"], before)
    np.testing.assert_array_equal(grid.predict(x)["y"], before)


def test_a_copy_draws_the_same_masks() -> None:
    grid = gridc.compile(SPEC.replace("NOISE", ", dropout: 0.4"), eager=False)
    grid.random_state = np.random.default_rng(99).bit_generator.state
    for make in COPIES.values():
        assert make(grid).random_state == grid.random_state


def test_a_grid_in_joblib_s_file_and_a_spec_that_is_pickled(tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    grid = gridc.compile(SPEC.replace("NOISE", ""), eager=False)
    joblib.dump(grid, tmp_path / "grid.joblib")
    again = joblib.load(tmp_path / "grid.joblib")
    np.testing.assert_array_equal(again.parameters["time.W"], grid.parameters["time.W"])
    spec = pickle.loads(pickle.dumps(grid.spec))
    assert spec.digest == grid.spec.digest
    assert spec.transforms["time"].mechanism is grid.spec.transforms["time"].mechanism
    content = bytearray(pickle.dumps(grid))
    content[content.index(b"\x00\x00\x00\x00" * 4) + 2] ^= 1  # among the parameters that are zero
    with pytest.raises(DataError, match="The pickled grid is damaged"):
        pickle.loads(bytes(content))


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_spec_can_be_pickled_and_copied(path: Path) -> None:
    spec = gridc.read(path)
    for make in COPIES.values():
        again = make(spec)
        assert (again.digest, again.training, again.source.path) == (spec.digest, spec.training, str(path))


@pytest.mark.parametrize(("flags", "what"), [
    ("base_compiledir=/proc/nope", "/proc/nope"), ("mode=NOSUCH", "NOSUCH"), ("floatX=float7", "float7"),
])  # fmt: skip
def test_settings_of_pytensor_with_which_it_does_not_start(flags: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPEC.replace("NOISE", "").replace("data: {file: ~/x.npz}", "task: parity"))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTENSOR_FLAGS": flags}
    command = [sys.executable, "-m", "gridc", "compile", str(tmp_path / "s.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
    assert done.returncode == 5, done.stderr
    assert "gridc: PyTensor does not start: " in done.stderr
    assert what in done.stderr
    assert "Traceback" not in done.stderr
