"""The cache of compiled kernels: damaged, or on a disk without room, it costs time and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import pytest

from gridc.fusion import gemm, kept, kernels, machine, native

ROOT = Path(__file__).parent.parent
SPEC = """
name: small
dimensions: {time: T}
transforms: {time: {cell: dense, hidden: 2}}
inputs: {x: {features: 1, joins: [time]}}
outputs: {y: {classes: 2, reads: [time], at: {time: last}}}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What makes one function anew, as another process would, with its files beside it."""
    path = tmp_path / "doubles.py"
    path.write_text("def double(x):\n    return 2 * x\n")

    def made() -> Any:
        names: dict[str, Any] = {"__name__": "doubles"}
        exec(compile(path.read_text(), str(path), "exec"), names)
        with kept.kept():
            function = numba.njit(cache=True)(names["double"])
        assert function(21) == 42
        return function

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(kept, "_told", set())
    return made


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def files(folder: Path, kind: str) -> list[Path]:
    found = list(folder.rglob(f"*.{kind}"))
    assert found
    return found


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {"empty": lambda c: b"", "cut": lambda c: c[: len(c) // 2], "garbage": lambda c: b"garbage" * 50, "a bit": flipped,
           "the last byte": lambda c: c[:-1]}  # fmt: skip


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_built_again_and_kept_again(kind, damage, module, tmp_path, capsys) -> None:
    assert hits(module()) == 0
    assert hits(module()) == 1
    for path in files(tmp_path, kind):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    module()
    assert hits(module()) == 1
    assert capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_said_once(module, tmp_path, capsys, monkeypatch) -> None:
    def full(self, name, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept.Entries, "_save_data", full)
    assert hits(module()) == 0
    assert hits(module()) == 0
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith(f"gridc: compiled kernels cannot be kept in {tmp_path}")
    assert "(No space left on device); they are built again in the next process." in told


def run(spec: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gridc", "compile", str(spec), *options]
    within = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=within, capture_output=True, text=True, check=False)


def test_a_command_with_a_damaged_cache(tmp_path: Path) -> None:
    """The damage that a power cut leaves, in the files of the cell alone, which are the quickest to build."""
    from gridc.resources import cache_folder

    spec, cache = tmp_path / "small.yaml", tmp_path / "cache"
    spec.write_text(SPEC)
    import gridc

    gridc.compile(SPEC)
    shutil.copytree(cache_folder("kernels"), cache / "kernels", ignore=lambda folder, names: [n for n in names if "tmp" in n])
    own = [path for kind in ("nbi", "nbc") for path in files(cache, kind) if path.name.startswith("gridc_cell_float32")]
    assert own
    for path in own:
        path.write_bytes(b"")
    for path in (cache / "kernels").glob("gridc_cell_float32*.py"):
        path.write_bytes(b"\xff\x00")
    done = run(spec, GRIDC_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"gridc: building {spec} …\n"


def test_without_compiled_code_the_plain_lowering_is_offered_and_works(tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(SPEC)
    done = run(spec, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 5
    assert "unset NUMBA_DISABLE_JIT, or take the plain lowering" in done.stderr
    assert "Traceback" not in done.stderr
    done = run(spec, "--lowering", "plain", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def full(tmp_path: Path):
    """A disk of its own in memory, with room for almost nothing."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "gridc-test", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a disk in memory cannot be mounted by this user")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.thorough
def test_a_command_with_a_cache_on_a_full_disk(full: Path, tmp_path: Path) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(SPEC)
    (full / "kernels").mkdir()
    (full / "filler").write_bytes(b"x" * (16 << 10))
    done = run(spec, GRIDC_CACHE_DIR=str(full))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_built_with_other_constants_is_not_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba looks at the time of the file that a function stands in, not of those that its constants come from: a grid would run
    instructions of one version by the numbers of another."""

    def folder() -> str:
        with kernels.cached(kernels.numbers_of(vars(machine))):
            return numba.config.CACHE_DIR

    before = folder()
    assert {"ATTEND", "COLUMN", "MEET", "CHUNKS", "KEPT"} <= {
        name for module in (machine, gemm, native) for name in vars(module) if f"('{name}'" in kernels.numbers_of(vars(module))
    }
    monkeypatch.setattr(machine, "COLUMN", machine.COLUMN + 1)  # where a block's column stands, which ``workspace`` says
    assert folder() != before
    monkeypatch.undo()
    assert folder() == before
