"""What the README and the documentation say works, word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gridc.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def environment():
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def test_the_generated_tables_are_current():
    done = subprocess.run([sys.executable, "docs/tables.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"make docs {done.stderr}"


def test_the_first_screen_says_what_for_whom_and_how():
    first = README.splitlines()[:40]
    text = "\n".join(first)
    assert text.count("](docs/pictures/") == 1
    assert "pip install ." in text
    assert "make demo" in text
    assert "| times as fast |" in text
    # Everything counts from 0, as the picture does.
    picture = (ROOT / "docs" / "pictures" / "wavefronts.svg").read_text(encoding="utf-8")
    assert "from 0 to 25" in text
    assert {"depth[0, 0]: wavefront 0", "time[11, 2]: wavefront 25"} <= set(re.findall(r"<title>(.*?)</title>", picture))


def test_it_says_nothing_of_an_index_that_has_no_gridc():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert not re.search(r"pip install gridc\b", page.read_text(encoding="utf-8")), page.name


def test_the_spec_is_the_one_in_specs():
    spec = (ROOT / "specs" / "text-classifier.yaml").read_text(encoding="utf-8")
    assert blocks("yaml")[0] in spec


def test_the_five_lines_of_python_run():
    code = blocks("python")[0]
    assert len(code.splitlines()) == 5
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "text-classifier: 6 steps, 192 samples" in done.stdout
    assert done.stdout.rstrip().endswith("]]")


def test_the_commands_of_a_new_user_run(tmp_path):
    if not shutil.which("gridc", path=environment()["PATH"]):
        pytest.skip("gridc is not installed as a command here")
    (shown,) = (block for block in blocks("sh") if "gridc init" in block)
    lines = [line.partition("#")[0].strip() for line in shown.splitlines()]
    assert [line.split()[1] for line in lines] == ["init", "train", "score", "predict"]
    for line in lines:
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path / "kinds.csv").read_text().startswith("kind,kind=setosa,kind=versicolor,kind=virginica\n")


def test_the_make_targets_that_it_names_are_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / page).read_text())) <= targets


def test_the_message_that_it_shows_is_the_real_one(tmp_path, capsys):
    from gridc import cli

    (shown,) = (block for block in blocks("text") if "hiden" in block)
    spec = (ROOT / "specs" / "text-classifier.yaml").read_text(encoding="utf-8")
    path = tmp_path / "text-classifier.yaml"
    path.write_text(spec.replace("depth: {cell: lstm, hidden", "depth: {cell: lstm, hiden"), encoding="utf-8")
    assert cli.run(["check", str(path)]) == 2
    told = capsys.readouterr().err.replace(str(tmp_path), "specs")
    # What the README leaves out of a long line it marks with three dots.
    for part in re.split(r" … |\n", shown.strip()):
        assert part in told


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_every_command_is_named():
    for command in COMMANDS:
        assert f"`gridc {command}`" in README


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there(command, capsys):
    from gridc import cli

    assert cli.run([command, "--help"]) == 0
    assert f"Usage: gridc {command}" in capsys.readouterr().out


def test_ci_runs_what_the_readme_says():
    assert any(block.startswith("make test ") for block in blocks("sh"))
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("make test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_drawings_are_current():
    done = subprocess.run([sys.executable, "docs/pictures.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
