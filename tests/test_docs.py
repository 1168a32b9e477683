"""Every Python snippet of the documentation runs, page by page; and Sphinx builds the pages without a warning."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gridc
from gridc.arrays.dataset import padded
from gridc.cli import COMMANDS
from gridc.insight.simulation import Model, Simulation, SpeedUp
from gridc.insight.summary import Summary
from gridc.language.spec import Transform
from gridc.parameters import Parameters
from gridc.scheduling.plan import Plan
from gridc.search.results import Sweep, Trial
from gridc.stream import Stream
from gridc.symbolic.backends import BACKENDS, Backend
from gridc.symbolic.lowering import Symbols
from gridc.tables.losses import LOSSES
from gridc.tables.mechanisms import Cell
from gridc.tables.update_rules import OPTIMIZERS
from gridc.training.board import Board
from gridc.training.fit import fit
from gridc.training.history import History, Record
from gridc.training.optimizers import Optimizer, optimizer
from gridc.training.step import TrainingStep

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDED = re.compile(r"^(?:import|from) (aeon|sklearn|torch|onnxruntime|pymc|tensorboard|mlflow)\b", re.MULTILINE)
"""What a snippet imports that is not everywhere: PyMC needs Python 3.12, PyTorch is large, and MLflow is no part of the tests."""
PAGES = sorted(DOCS.glob("*.md"))


@pytest.mark.parametrize("page", [p for p in PAGES if SNIPPET.search(p.read_text(encoding="utf-8"))], ids=lambda p: p.stem)
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (LOSSES, OPTIMIZERS):
        monkeypatch.setattr(table, "registered", {})
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


def test_sphinx_builds_the_pages_and_all_is_in_them(tmp_path: Path) -> None:
    """One test, as the pages take a while to build: without a warning, with every name, command and network."""
    for needed in ("sphinx", "myst_parser", "pydata_sphinx_theme", "sklearn", "torch"):
        pytest.importorskip(needed)
    where = [str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")]
    done = subprocess.run([sys.executable, "-m", "sphinx", "-qW", "--keep-going", "-d", *where], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for looked_for in (_public_names, _commands_and_networks, _words_to_search_for, _names_of_columns):
        looked_for(tmp_path / "html")


CLASSES = (
    gridc.Grid, gridc.Schedule, gridc.GridSpec, gridc.Dataset, History, Record, Optimizer, Board, Cell, Backend, Parameters,
    Stream, Sweep, TrainingStep, Trial, Summary, Symbols, Model, Simulation, SpeedUp, Plan, Transform,
)  # fmt: skip
"""What people hold in their hands: all that it can do is in the reference."""
ELSEWHERE = (
    "gridc.sklearn.GridClassifier.predict_proba", "gridc.sklearn.GridRegressor.fit", "gridc.torch.GridModule",
    "gridc.torch.load_torch", "gridc.training.fit.fit", "gridc.training.optimizers.optimizer",
    "gridc.arrays.dataset.padded", "gridc.symbolic.backends.backend",
)  # fmt: skip


def _public_names(site: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in site.glob("api*.html"))
    named = set(re.findall(r'<dt class="sig sig-object py" id="([\w.]+)"', pages))
    wanted = {f"gridc.{name}" for name in gridc.__all__} | set(ELSEWHERE)
    for cls in CLASSES:
        own = f"gridc.{cls.__name__}" if cls.__name__ in gridc.__all__ else f"{cls.__module__}.{cls.__name__}"
        members = (name for base in cls.__mro__[:-1] if base.__module__.startswith("gridc") for name in vars(base))
        wanted |= {own} | {f"{own}.{name}" for name in members
                           if name[0] != "_" and (inspect.isroutine(it := getattr(cls, name, None)) or _made_late(cls, name))
                           and (inspect.getdoc(it) or it is None)}  # fmt: skip
    assert not wanted - named
    from gridc.sklearn import GridClassifier, GridRegressor

    page = (DOCS / "api-elsewhere.md").read_text(encoding="utf-8")
    for estimator in (GridClassifier(), GridRegressor()):
        for name, default in estimator.get_params().items():
            (row,) = (line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1])
            names, defaults = (re.sub("`", "", part).strip().split(", ") for part in row.split("|")[1:3])
            assert dict(zip(names, defaults, strict=True))[name] == str(default)


@pytest.mark.parametrize("thing", [
    gridc.read, gridc.schedule, gridc.compile, gridc.load, gridc.lower, gridc.Grid.predict, gridc.Grid.loss_and_gradients,
    gridc.Grid.fit, gridc.Grid.training_step, fit, padded, optimizer, gridc.Dataset, History, Record, SpeedUp,
], ids=lambda thing: thing.__name__)  # fmt: skip
def test_every_argument_and_attribute_is_explained(thing: Any) -> None:
    fields = {field.name for field in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else None
    wanted = fields or {name for name in inspect.signature(thing).parameters if name != "self"}
    text = inspect.getdoc(thing) or ""
    section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    assert section is not None
    assert wanted <= set(re.findall(r"^    (\w+): ", section[1], re.MULTILINE))


def _made_late(cls: type, name: str) -> bool:
    """Whether it is a property, of whatever kind."""
    return isinstance(inspect.getattr_static(cls, name), property | functools.cached_property)


def _commands_and_networks(site: Path) -> None:
    commands = (site / "commands.html").read_text(encoding="utf-8")
    assert all(f"gridc {command}" in commands for command in COMMANDS)
    assert "--overwrite" in commands
    gallery = (site / "gallery.html").read_text(encoding="utf-8")
    for path in (ROOT / "specs").glob("*.yaml"):
        assert f'id="{path.stem}"' in gallery
        for picture in re.findall(rf'src="([^"]*/{path.stem}-\w+\.svg)"', gallery):
            assert (site / picture).exists()


WORDS = ("bidirectional", "early stopping", "GPU", "TensorBoard", "MLflow", "CSV", "Keras", "PyTorch", "FLOPs", "glossary")


def _words_to_search_for(site: Path) -> None:
    from sphinx.search.en import SearchEnglish

    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    titles, stem = " ".join(index["alltitles"]).lower(), SearchEnglish({}).stem
    for words in WORDS:
        assert words.lower() in titles  # what stands in a title comes first
        assert all(stem(word.lower()) in index["terms"] | index["titleterms"] for word in words.split())


def _names_of_columns(site: Path) -> None:
    page = (site / "language.html").read_text(encoding="utf-8")
    assert "lstm-paper" in page
    assert '<span class="column-name">meaning: </span>' in page


def test_every_whole_spec_of_the_pages_can_be_read() -> None:
    for page in PAGES:
        for text in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            if text.startswith("name:"):
                gridc.read(text)


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
