"""Values that somebody tries: on the command line, as names, in files. Each is taken for what it is, or is one sentence."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gridc
from gridc import cli
from gridc.arrays.dataset import Dataset
from gridc.commands import predictions
from gridc.data.files import read as read_data
from gridc.data.reading import Reading
from gridc.errors import DataError, ResourceError, UsageError, printable
from gridc.insight import timing
from gridc.scheduling.check import read

ROOT = Path(__file__).parent.parent
SPEC = """
name: "NAME"
dimensions: {time: T, depth: 2}
transforms: {depth: {cell: lstm, hidden: 4}, time: {cell: lstm, hidden: 4}}
inputs: {x: {features: 3, enters: depth}}
outputs: {y: {classes: 3, reads: [depth], at: {depth: last, time: last}}}
training: {task: {parity: {bits: 3}}, batch: 32}
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.replace("NAME", "tried"), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("words", "sentence"), [
    (["-s", "T=²"], "--size: found 'T=²'; expected SYMBOL=NUMBER, such as T=50."),
    (["-s", "T=-1"], "--size: found 'T=-1'; expected SYMBOL=NUMBER"),
    (["-s", f"T={'9' * 5000}"], "--size: found 'T=999"),
    (["-s", "T=3000000000"], "up to 2,147,483,647."),
    (["-s", "T=5", "-b", "1" + "0" * 24], "is not in the range 1<=x<=2147483647"),
    (["-s", "T=5", "-w", "1" + "0" * 12], "is not in the range 1<=x<=100000"),
    (["-s", "T=5", "-w", "100000", "--picture", "workers", "-o", "FILE.svg"],
     "there are 100,000 workers, and a drawing of them shows at most 1,000, a line each; the trace shows more"),
    (["-s", "T=2000", "-w", "100000", "-o", "FILE.html"],
     "8,000 steps on 100,000 workers would take minutes to simulate; fewer workers or smaller sizes show the same shape"),
])  # fmt: skip
def test_numbers_of_a_schedule(
    words: list[str], sentence: str, spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["schedule", spec, *(word.replace("FILE", str(tmp_path / "x")) for word in words)]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x.svg").exists()


@pytest.mark.parametrize(("option", "sentence"), [
    ("batch=2024-13-45", "'training', batch: found '2024-13-45'; expected a positive integer"),
    ("batch=2024-11-27", "'training', batch: found '2024-11-27'; expected a positive integer"),
    ("batch={", "'training', batch: found '{'; expected a positive integer"),
    ("batch.x=3", "'batch.x' names something inside 'batch', which is 32 and has nothing in it."),
    ("batch=*a", "'training', batch: found '*a'; expected a positive integer"),
])  # fmt: skip
def test_settings(option: str, sentence: str, spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--set", option], [f"--{option}"]):
        assert cli.run(["train", spec, "--folder", str(tmp_path / "run"), *words]) == 2
        assert sentence in capsys.readouterr().err


def test_sizes_from_python() -> None:
    with pytest.raises(UsageError, match=r"size 'T': found 10{24}; expected a positive integer, up to 2,147,483,647"):
        gridc.schedule(SPEC, T=10**24)
    with pytest.raises(UsageError, match=r"workers: found 10{12}; expected a positive integer, up to 100,000"):
        gridc.schedule(SPEC, T=3).simulate(10**12)


WRAPPED = """
name: wrapped
dimensions: {time: T, depth: 2}
transforms: {depth: {cell: highway, hidden: 4, start: {wrap: {time: -1}}}}
inputs: {x: {features: 3, joins: [depth], at: {depth: first}}}
outputs: {y: {classes: 3, reads: [depth], at: {depth: last}}}
"""


def test_a_graph_that_takes_long_or_does_not_fit_is_said(tmp_path: Path, capsys, monkeypatch) -> None:
    path = tmp_path / "wrapped.yaml"
    path.write_text(WRAPPED)
    from gridc.commands import schedule

    monkeypatch.setattr(schedule, "SLOW", 5000)
    assert cli.run(["schedule", str(path), "-s", "T=3000"]) == 0
    assert "the wavefronts of 'wrapped' are no planes, so its 6,000 steps are visited one by one: about 0 s and 0.0 GB." in (
        capsys.readouterr().err)  # fmt: skip
    monkeypatch.setattr(timing, "available_memory", lambda: 1_000_000)
    with pytest.raises(ResourceError, match=r"6,000 steps, which take about 0\.0 GB, and 0\.0 GB are available"):
        _ = gridc.schedule(WRAPPED, T=3000).steps


@pytest.mark.parametrize("name", ["@DATA@", "@TITLE@", "@DATA@TITLE@DATA@", "</script>", "{{name}}", "%s", "$name", "\\\\1"])
def test_a_name_that_reads_like_a_place_of_a_template(name: str) -> None:
    plan = gridc.schedule(SPEC.replace("NAME", name), T=3)
    page = plan.to_html()
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert held is not None
    assert json.loads(held.group(1))["name"] == plan.spec.name
    for text in (plan.to_svg(), plan.to_dot(), plan.to_json(), plan.to_trace()):
        assert text


RESULTS = {
    "people": ["schedule SPEC -s T=12", "show SPEC", "doctor", "show SPEC --at graph -s T=3", "--help", "compile SPEC"],
    "json": ["schema", "show SPEC --json", "schedule SPEC -s T=3 --json", "show SPEC --at schedule -s T=3 --json"],
    "file": ["schedule SPEC -s T=3 -f html", "schedule SPEC -s T=3 -f svg", "schedule SPEC -s T=3 -f dot", "completion bash"],
}


@pytest.mark.parametrize(("encoding", "kind", "words"), [
    (("cp1252", "latin-1")[number % 2], kind, words) for kind, all_ in RESULTS.items() for number, words in enumerate(all_)
])  # fmt: skip
def test_results_in_an_encoding_with_fewer_characters(
    encoding: str, kind: str, words: str, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(spec).write_text(SPEC.replace("NAME", "größer × č"), encoding="utf-8")
    found: list[bytes] = []
    for one in (encoding, "utf-8"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=one, newline="\n")
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as left:
            cli.main([spec if word == "SPEC" else word for word in words.split()])
        assert left.value.code == 0
        stream.flush()
        found.append(raw.getvalue())
    few, all_ = found
    if kind == "json":
        ours, theirs = json.loads(few.decode(encoding)), json.loads(all_)
        assert ours == theirs
    elif kind == "file":
        assert few == all_
    else:
        assert few.decode(encoding).count("?") == all_.decode().count("?"), "a sign of ours has no plainer one"
        if "SPEC" in words:
            assert "größer × c".encode(encoding) in few


def test_a_process_whose_streams_hold_few_characters() -> None:
    command = [sys.executable, "-m", "gridc", "check", "none-\u0142-é.yaml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert "é.yaml: there is no such file".encode("cp1252") in done.stderr


def test_what_would_move_a_terminal_is_escaped() -> None:
    assert printable("a\x1b[2J\u202eb\x9b\n×é") == "a\\x1b[2J\\u202eb\\x9b\n×é"


def test_errors_about_a_file_whose_name_would_move_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", "no\x1b[2Jfile.yaml"]) == 2
    assert "\x1b" not in capsys.readouterr().err


# --- files ------------------------------------------------------------------------------------------------------------


def table(labels: tuple[str, ...]) -> list[list[str]]:
    one = read(SPEC)
    found = {"y": np.eye(len(labels), 3, dtype="float32")}
    data = Dataset({"x": np.zeros((len(labels), 1, 3), "float32")}, {})
    text: Any = predictions.written(one, found, data, {"y": labels}, "csv")
    return list(csv.reader(io.StringIO(text)))


def test_classes_that_a_spreadsheet_would_run_are_text_and_numbers_stay_numbers() -> None:
    head, *rows = table(("=cmd|' /C calc'!A0", "@sum", "-1"))
    assert head == ["y", "y==cmd|' /C calc'!A0", "y=@sum", "y=-1"]
    assert [row[0] for row in rows] == ["'=cmd|' /C calc'!A0", "'@sum", "-1"]
    assert [row[0] for row in table(("+a", "-b", "\tc"))[1:]] == ["'+a", "'-b", "'\tc"]
    assert [row[0] for row in table(("a=b", "+1.5e3", "c"))[1:]] == ["a=b", "+1.5e3", "c"]


def test_a_class_that_no_word_stands_for_is_never_predicted() -> None:
    assert [row[0] for row in table(("a", "b"))[1:]] == ["a", "b"]
    one = read(SPEC)
    data = Dataset({"x": np.zeros((1, 1, 3), "float32")}, {})
    text: Any = predictions.written(one, {"y": np.array([[0.1, 0.2, 0.7]], "float32")}, data, {"y": ("a", "b")}, "csv")
    assert text.splitlines() == ["y,y=a,y=b", "b,0.1,0.2"]


IMAGES = """
name: pictures
dimensions: {row: 2, column: 2}
transforms: {row: {cell: lstm, hidden: 2}, column: {cell: lstm, hidden: 2}}
inputs: {x: {features: 1, joins: [row]}}
outputs: {y: {classes: 2, reads: [row], at: {row: last, column: last}}}
"""


def test_a_picture_that_is_a_bomb_and_one_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        image.new("L", (40, 40)).save(tmp_path / label / "0.png")
    how = Reading(read(IMAGES), size=(2, 2))
    assert len(read_data(tmp_path, how)) == 2
    for most in (1000, 700):  # at more than the first Pillow warns, at more than twice the second it raises
        monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(DataError, match=rf"0\.png has more than {most:,} pixels, too many to be unpacked: scale it down"):
            read_data(tmp_path, how)
    monkeypatch.undo()
    (tmp_path / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(DataError, match=r"0\.png cannot be read as an image\."):
        read_data(tmp_path, how)


def test_a_device_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "x.csv").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is neither a file nor a folder but a device or a pipe"):
        read_data(tmp_path / "x.csv", Reading(read(SPEC)))


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_numpys_advice_to_trust_a_file_is_not_handed_on(name: str, tmp_path: Path) -> None:
    for content in (b"PK\x03\x04 no zip at all", b"PK" + b"\x80\x04K\x01.", b"\x93NUMPY\x01\x00garbage"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_data(tmp_path / name, Reading(read(SPEC)))
        assert "pickle" not in str(caught.value)
        assert "If you" not in str(caught.value)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.npy").write_bytes(b"no array")
    with pytest.raises(DataError) as caught:
        read_data(folder, Reading(read(SPEC)))
    assert "pickle" not in str(caught.value)
