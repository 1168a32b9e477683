"""``gridc curve``: what it draws of the figures that trainings left, and what it says of folders that hold none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gridc import cli
from gridc.plain_text import plot
from gridc.training.fit import fit
from small_grid import SmallGrid, spec_of


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype("f4")
    for name, rate in (("slow", 0.001), ("quick", 0.05)):
        fit(SmallGrid(spec_of(y="classes: 2")), ({"x": x}, {"y": (x[:, 0] > 0).astype(int)}), 0.2, folder=name, budget=12,
            optimizer={"adam": {"learning_rate": rate}}, progress="none")  # fmt: skip
    return tmp_path


def test_runs_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("loss", "accuracy"):
        assert cli.run(["curve", "slow", "quick", "--of", what]) == 0
        told = capsys.readouterr().out
        rows = {row.split()[0]: row.split() for row in told.splitlines() if row.strip().startswith(("slow", "quick"))}
        for name in ("slow", "quick"):
            records = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
            figures = [one["held_out_loss"] if what == "loss" else one["held_out"]["y"]["accuracy"] for one in records]
            best = min(figures) if what == "loss" else max(figures)
            assert rows[name][1] == "12"
            assert rows[name][3:] == [f"{best:.4g}", str(records[figures.index(best)]["step"]), f"{figures[-1]:.4g}"]
        assert "* slow" in told
        assert "o quick" in told
    assert cli.run(["curve", "quick", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]["quick"]) == 12


def test_a_picture_of_several(runs: Path) -> None:
    pytest.importorskip("matplotlib")
    assert cli.run(["curve", "slow", "quick", "-o", "both.png"]) == 0
    assert (runs / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("content", "words"), [
    (None, "nothing is no folder that a training left"), (b"", "holds no evaluation yet"), (b"x", "line 1: it is no JSON"),
    (b"3", "line 1: The training record cannot be read"), (b"\xff", "bytes that are no text"),
])  # fmt: skip
def test_what_is_no_training_is_said(
    content: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "nothing").mkdir()
        (tmp_path / "nothing" / "metrics.jsonl").write_bytes(content)
    assert cli.run(["curve", "nothing"]) == 3
    assert words in capsys.readouterr().err


def test_a_plot_puts_points_where_they_are() -> None:
    lines = plot({"a": [(0, 0.0), (10, 1.0), (5, float("nan"))], "b": [(10, 0.5)]}, x="x", y="y", width=11, height=3).splitlines()
    assert lines == ["y", "1 |          *", "  |          o", "0 |*", "  +-----------", "   0        10 x", "  * a", "  o b"]
    assert plot({"a": [(0, float("nan"))]}, x="x", y="loss") == "nothing to draw: no loss is a number"
