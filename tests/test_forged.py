"""Files whose hash is right and whose content is not: every one is a sentence, and what is whole beside it is used."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as decoded
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


# --- any value of any type anywhere in a manifest ---------------------------------------------------------------------

OTHERS = (None, True, 5, -1, 1.5, 1e300, "x", "", [], [1], ["a"], {}, {"a": 1}, {"a": None})
DRAWN = 60 if int(os.environ.get("GRIDC_EXAMPLES", "200")) <= 200 else 1000


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a manifest, itself left out."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return [place for key, one in inner for place in ((*path, key), *places(one, (*path, key)))]


def retyped(manifest: dict[str, Any], draw: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """A copy with something of another type, or nothing, in one place."""
    manifest = json.loads(json.dumps(manifest))
    path = draw.choice([place for place in places(manifest) if place != ("sha256",)])
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    if draw.random() < 0.1:
        del inner[path[-1]]
    else:
        inner[path[-1]] = draw.choice([one for one in OTHERS if type(one) is not type(inner[path[-1]])])
    return manifest, path


def written(raw: bytes, draw: random.Random) -> tuple[bytes, tuple[Any, ...]]:
    """A model file's bytes with such a manifest, and a hash that fits it."""
    tensors = decoded(raw)
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    manifest, path = retyped(json.loads(header["__metadata__"][KEY]), draw)
    del manifest["sha256"]
    digest = files.sha256_of(model_file._canonical(manifest), tensors)
    return encoded(tensors, {KEY: json.dumps(manifest | {"sha256": digest}, ensure_ascii=False)}), path


def test_any_other_type_in_a_model_is_taken_or_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training(tmp_path / "run", 4)
    whole, path = (tmp_path / "run" / "model.grid").read_bytes(), tmp_path / "forged.grid"
    draw = random.Random(5)
    for _ in range(DRAWN):
        content, place = written(whole, draw)
        path.write_bytes(content)
        for words in (["inspect", str(path)], ["inspect", str(path), "--json"]):
            code = cli.run(words)
            told = capsys.readouterr()
            assert code in (0, 2, 3), (place, told.err)
            assert "Traceback" not in told.err, place


def test_any_other_type_in_a_checkpoint_is_taken_or_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training(tmp_path / "run", 2, noise=0.1)
    newest = Folder(tmp_path / "run").checkpoints()[0]
    whole, draw = newest.read_bytes(), random.Random(6)
    for _ in range(DRAWN):
        content, _ = written(whole, draw)
        newest.write_bytes(content)
        with contextlib.suppress(DataError):  # anything else that is raised fails the test
            training(tmp_path / "run", 2, resume=True, noise=0.1)
        newest.write_bytes(whole)
