"""The house stands on its floors: every import goes down, late and type-only ones too, and the front end is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest

import gridc

ROOT = Path(gridc.__file__).parent
FLOORS = [
    *("errors", "synonyms", "locks", "resources", "options", "plain_text", "files", "model_file"),  # what everything uses
    *("arrays", "tables"),  # examples, and rows of what varies; neither knows a spec
    *("language", "parameters", "scheduling"),  # what a spec means, and when and where each of its steps runs
    *("data", "fusion", "symbolic", "training"),  # files as arrays, kernels, PyTensor's graph, the loop
    "cuda",  # kernels for a GPU
    "device",  # the sweep and a training's steps under JAX
    *("insight", "pictures", "scheduler"),  # what people ask of a grid on paper
    "onnx",  # a grid for other programs
    *("grid", "compiler", "stream", "experiment", "search", "sklearn", "torch", "aeon", "predictor"),  # what people call
    *("benchmarks", "commands", "cli", "__main__"),
]
"""Packages and modules from the ground up; each imports from those that stand before it, and from itself without a circle."""
EXCEPTIONS = {
    ("language.spec", "language.printing"): "print(spec) must find what it prints",
    ("language.spec", "pictures.drawing"): "a notebook must find the picture of a spec",
    ("grid", "stream"): "grid.stream() is a door to what is built on a grid",
}
"""Imports that go up, each with its reason; all of them are late."""
LIGHT = [
    *("errors", "synonyms", "locks", "resources", "options", "plain_text", "files", "model_file", "arrays", "tables", "language"),
    "scheduling",
    *("insight", "pictures", "scheduler", "commands", "cli", "__main__"),
]
HEAVY = {"pytensor", "numba", "jax", "scipy", "sklearn", "matplotlib", "pandas", "pyarrow", "torch", "onnx", "aeon", "mpi4py",
         "optuna"}  # fmt: skip
DRIVES = {"insight.calibration", "insight.measure", "insight.scaling", "insight.steps", "commands.bench"}
"""Front-end modules that run the sweep itself, and are imported late for it."""


def modules():
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not name.endswith("__init__"):
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imported(tree):
    """Every dotted name that a module imports: at its top, inside functions and for type checkers alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_the_top(tree):
    """The imports that run when the module is imported: not those inside functions or for type checkers alone."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(ast.Module([node], []))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]


def inside(names):
    """The modules of gridc among what is imported; a name that is neither a module nor in one fails."""
    public = set(gridc.__all__) | {"__version__"}
    for name in names:
        if name == "gridc" or not name.startswith("gridc."):
            continue
        # "from gridc.errors import DataError" and "from gridc.scheduling import graph" both name a module.
        inner = [m for m in (name[6:], name[6:].rpartition(".")[0]) if m in MODULES]
        assert inner or name[6:] in public or (ROOT / name[6:].partition(".")[0]).is_dir(), f"there is no {name}"
        yield from inner[:1]


IMPORTS = {name: sorted(set(inside(imported(tree)))) for name, tree in MODULES.items()}


def floor(name):
    return FLOORS.index(name.partition(".")[0])


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    assert name.partition(".")[0] in FLOORS, f"gridc.{name} stands on no floor yet: give it one in FLOORS"
    for target in IMPORTS[name]:
        if (name, target) not in EXCEPTIONS:
            assert floor(target) <= floor(name), f"gridc.{name} imports gridc.{target}, which stands above it"


def test_nothing_imports_in_a_circle():
    pairs = [(name, target) for name, targets in IMPORTS.items() for target in targets if (name, target) not in EXCEPTIONS]
    circles = [sorted(c) for c in nx.strongly_connected_components(nx.DiGraph(pairs)) if len(c) > 1]
    assert circles == []


def test_the_plan_of_the_house_is_current():
    assert {name.partition(".")[0] for name in MODULES} == set(FLOORS), "a floor that is no module or package"
    for name, target in EXCEPTIONS:
        assert target in IMPORTS[name], f"gridc.{name} no longer imports gridc.{target}: the exception can go"
        late = set(inside(at_the_top(MODULES[name])))
        assert target not in late, f"gridc.{name} imports gridc.{target} at its top, where an exception is late"
    assert set(MODULES) >= DRIVES


@pytest.mark.parametrize("name", [m for m in MODULES if m.partition(".")[0] in LIGHT and m not in DRIVES])
def test_the_front_end_is_light(name):
    assert not {found.partition(".")[0] for found in at_the_top(MODULES[name])} & HEAVY


def test_the_front_end_runs_without_what_is_heavy():
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ImportError(name + " is heavy")
sys.meta_path.insert(0, Refuse())
import gridc
plan = gridc.schedule("specs/text-classifier.yaml", T=5)
print(plan, plan.to_svg(), plan.to_html(), plan.to_json(), plan.to_dot(), plan.to_trace())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_a_catch_all():
    assert not {"utils", "helpers", "core", "base", "manager", "common", "misc"} & {n.rpartition(".")[2] for n in MODULES}
