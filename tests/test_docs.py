"""Every Python snippet of the documentation runs, page by page; and Sphinx builds the pages without a warning."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from gridc.symbolic.backends import BACKENDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDED = re.compile(r"^(?:import|from) (sklearn|torch|pymc)\b", re.MULTILINE)
"""What a snippet imports that is not everywhere: PyMC needs Python 3.12, and PyTorch is large."""
PAGES = sorted(DOCS.glob("*.md"))


@pytest.mark.parametrize("page", [p for p in PAGES if SNIPPET.search(p.read_text(encoding="utf-8"))], ids=lambda p: p.stem)
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    names: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    for found in SNIPPET.finditer(text):
        if not all(map(importlib.util.find_spec, NEEDED.findall(found.group(1)))):
            continue
        line = text.count("\n", 0, found.start(1))
        exec(compile("\n" * line + found.group(1), str(page), "exec"), names)


def test_pages_say_nothing_of_the_machine_that_they_were_written_on() -> None:
    for page in PAGES:
        assert not re.search(r"/work\b|\.\./shared|/tmp/", page.read_text(encoding="utf-8")), page.name


def test_every_backend_is_in_its_table() -> None:
    text = (DOCS / "backends.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(BACKENDS)


def test_sphinx_builds_the_pages(tmp_path: Path) -> None:
    for needed in ("sphinx", "myst_parser", "pydata_sphinx_theme"):
        pytest.importorskip(needed)
    where = [str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")]
    done = subprocess.run([sys.executable, "-m", "sphinx", "-qW", "--keep-going", "-d", *where], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lstm-paper" in (tmp_path / "html" / "language.html").read_text(encoding="utf-8")


def test_from_nothing_comes_to_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / "00_from_nothing.py"), run_name="__main__")
    assert "the same schedule" in capsys.readouterr().out


def test_the_notebook_runs() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "examples" / "parity.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "examples")}}).execute()
    assert notebook.cells[-1].outputs
