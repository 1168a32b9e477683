"""Files whose hash is right and whose content is not: every one is a sentence, and what is whole beside it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as encoded

from gridc import cli, files, model_file
from gridc.errors import DataError
from gridc.model_file import KEY, Model, load, save
from gridc.scheduling.check import read
from gridc.training.checkpoint import Folder
from gridc.training.fit import fit
from small_grid import SmallGrid

SPEC = """
name: small
dimensions: {depth: 2}
transforms: {depth: {cell: dense, hidden: 3}}
inputs: {x: {features: 2, enters: depth}}
outputs: {y: {classes: 2, reads: [depth], at: {depth: last}}}
"""
WEIGHTS = {"depth.W": np.zeros((3, 3), "f4")}
GONE = object()


def forge(path: Path, change: dict[str, Any], model: Model, tensors: dict[str, Any] | None = None) -> Path:
    """A model file with these keys of its manifest changed or gone, and the hash of what it then holds."""
    save(path, model)
    held = load(path)
    manifest: dict[str, Any] = {
        "format": 1, "kind": held.kind, "gridc": held.gridc_version, "spec": held.spec, "digest": held.digest,
        "record": dict(held.record), "vocabularies": {name: list(words) for name, words in held.vocabularies.items()},
    }  # fmt: skip
    manifest = {name: value for name, value in (manifest | change).items() if value is not GONE}
    arrays = {f"parameters/{n}": a for n, a in (tensors or held.parameters).items()}
    arrays |= {f"arrays/{n}": a for n, a in held.arrays.items()}
    digest = files.sha256_of(model_file._canonical(manifest), arrays)
    path.write_bytes(encoded(arrays, {KEY: json.dumps({"sha256": digest} | manifest, ensure_ascii=False)}))
    return path


LIES = {
    "kind": [GONE, 5, "x", "\x1b[2J"], "gridc": [GONE, 5, "\x1b[2J", ""], "spec": [GONE, 5, None], "digest": [GONE, 5],
    "record": [GONE, 5, [1], None], "vocabularies": [GONE, [1], {"y": 5}, {"y": [1]}, {"y": "ab"}],
    "format": [GONE, "x", "1", 99.5, -1, 0, True, None, [1]], "sha256": [5, None, "x"],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in LIES.items() for value in values])
def test_a_manifest_that_lies(key: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = forge(tmp_path / "a.grid", {key: value}, Model(WEIGHTS, SPEC))
    with pytest.raises(DataError):
        load(path)
    assert cli.run(["inspect", str(path)]) == 3
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "\x1b" not in told


@pytest.mark.parametrize("dtype", ["c8", "i4", "?"])
def test_parameters_that_are_no_real_numbers(dtype: str, tmp_path: Path) -> None:
    path = forge(tmp_path / "a.grid", {}, Model(WEIGHTS, SPEC), {"depth.W": np.zeros((3, 3), dtype)})
    with pytest.raises(DataError, match=r"the parameter 'depth\.W' is an array of (complex64|int32|bool), expected real numbers"):
        load(path)


@pytest.mark.parametrize("record", [{"best": {"step": "x"}}, {"record": {"step": 1}}])
def test_a_record_that_is_none(record: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = forge(tmp_path / "a.grid", {"record": record}, Model(WEIGHTS, SPEC))
    assert cli.run(["inspect", str(path)]) == 3
    assert "The training record cannot be read: its '" in capsys.readouterr().err


def test_what_is_written_is_escaped_where_it_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = forge(tmp_path / "a.grid", {"vocabularies": {"\x1b[2J": ["\x1b[2J"]}}, Model(WEIGHTS, SPEC))
    assert cli.run(["inspect", str(path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/urandom"])
def test_a_file_without_an_end(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path(name).exists():
        pytest.skip(f"this system has no {name}")
    assert cli.run(["inspect", name]) == 3
    assert "is not a whole model file of gridc" in capsys.readouterr().err
    assert cli.run(["predict", "model.grid", name]) == 3


# --- checkpoints ------------------------------------------------------------------------------------------------------


def training(folder: Path, steps: int, resume: bool = False, **options: Any) -> SmallGrid:
    spec = read(SPEC)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype("f4")
    grid = SmallGrid(spec, **options)
    fit(grid, ({"x": x}, {"y": (x[:, 0] > 0).astype(np.int64)}), batch=10, budget={"steps": steps}, folder=folder, resume=resume,
        checkpoint={"steps": 2}, evaluate={"steps": 2}, progress="lines")  # fmt: skip
    return grid


FORGED = {
    "record": {}, "settings": GONE, "state": {"step": 4}, "records": [1], "best": -1, "meters": {"y": {"count": "x"}},
    "random_state": 5,
}  # fmt: skip


@pytest.mark.parametrize("key", FORGED)
def test_a_checkpoint_that_lies_is_passed_over(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = training(tmp_path / "whole", 6)
    training(tmp_path / "run", 4)
    newest = Folder(tmp_path / "run").checkpoints()[0]
    held = load(newest)
    record = {} if key == "record" else {k: v for k, v in (dict(held.record) | {key: FORGED[key]}).items() if v is not GONE}
    forge(newest, {"record": record}, held)
    found = training(tmp_path / "run", 6, resume=True)
    told = capsys.readouterr().err
    assert f"{newest}: The checkpoint's '" in told
    assert "Going on from the checkpoint before it." in told
    assert all(np.array_equal(found.parameters[name], expected.parameters[name]) for name in expected.parameters)


def test_a_model_in_the_newest_checkpoints_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = training(tmp_path / "whole", 6)
    training(tmp_path / "run", 4)
    newest = Folder(tmp_path / "run").checkpoints()[0]
    newest.write_bytes((tmp_path / "run" / "model.grid").read_bytes())
    found = training(tmp_path / "run", 6, resume=True)
    assert f"{newest} is a model, not a checkpoint" in capsys.readouterr().err
    assert all(np.array_equal(found.parameters[name], expected.parameters[name]) for name in expected.parameters)


def test_what_is_built_otherwise_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training(tmp_path / "run", 4)
    newest = Folder(tmp_path / "run").checkpoints()[0]
    held = load(newest)
    forge(newest, {"record": dict(held.record) | {"built": {"dtype": "float64", "lowering": "plain"}}}, held)
    training(tmp_path / "run", 6, resume=True)
    assert "The training was begun with dtype 'float64', now 'float32': it goes on, but" in capsys.readouterr().err
