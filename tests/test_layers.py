"""Modules import only downwards, and the front end knows nothing of PyTensor."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gridc

ROOT = Path(gridc.__file__).parent
LAYERS = {
    "words and numbers that everything uses":
        "errors options resources training.interrupts fusion.blas fusion.threads fusion.buffers cells pictures.scene",
    "what a spec means, and data and models as files":
        "language.spec language.lattice model_file data.conversion data.datasets training.history data.text training.checkpoint "
        "data.columns data.files data.mini_batches language.arrays language.parameters language.noise data.sampling "
        "training.board",
    "the tables: tasks, optimisers, metrics, and the training block that names them":
        "data.tasks training.learning_rates training.update_rules training.optimizers training.metrics training.progress "
        "training.experiment",
    "reading: from YAML to a spec":
        "language.document language.page language.mistakes language.lookup language.transforms language.ports scheduling.graph "
        "language.reader",
    "when: the schedule, what it costs, how it is shown":
        "scheduling.tables scheduling.hyperplane scheduling.wavefronts scheduling.order scheduling.program "
        "scheduling.layout scheduling.padded scheduling.readers scheduling.addresses "
        "scheduling.schedule scheduling.costs scheduling.changes scheduling.critical_path "
        "scheduling.report pictures.exports pictures.drawing pictures.cell_drawing pictures.unrolled_drawing pictures.explorer",
    "how: programs, kernels and PyTensor's graph":
        "symbolic.backends symbolic.accumulators symbolic.device device.sweep device.adjoint device.functions "
        "symbolic.ufuncs fusion.native fusion.gemm fusion.tracer symbolic.indices symbolic.wiring "
        "fusion.kernels fusion.workspace fusion.machine fusion.sweep fusion.recompute symbolic.fused "
        "symbolic.splitting symbolic.slots symbolic.plain symbolic.lowering summary fusion.segments",
    "training":
        "training.state training.step training.standardizing training.setup training.loop training.fit device.updates",
    "what people call":
        "stream grid compiler training.runner sklearn torch torch_weights benchmarks.measure benchmarks.cases "
        "benchmarks.peers_jax benchmarks.peers_torch benchmarks.bench benchmarks.gpu",
    "the command line":
        "commands.output commands.predictions commands.look commands.start commands.doctor commands.use commands.learn "
        "cli __main__",
}  # fmt: skip
"""From the bottom to the top; a module imports from its own layer and those below it, and never in a circle."""
FRONT_END = ["words and numbers that everything uses",
             "the tables: tasks, optimisers, metrics, and the training block that names them",
             "what a spec means, and data and models as files", "reading: from YAML to a spec",
             "when: the schedule, what it costs, how it is shown", "the command line"]  # fmt: skip
HEAVY = {"pytensor", "numba", "jax", "scipy", "sklearn", "matplotlib", "pandas", "pyarrow", "torch"}


def modules():
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not name.endswith("__init__"):
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def at_the_top(tree):
    """The imports that run when the module is imported: not those inside functions or for type checkers alone."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler)]


MODULES = modules()
HEIGHT = {name: height for height, names in enumerate(LAYERS.values()) for name in names.split()}


def inside(name):
    """The modules of gridc that a module imports."""
    for imported in at_the_top(MODULES[name]):
        if imported.startswith("gridc."):
            # "from gridc.errors import DataError" and "from gridc import graph" both name a module.
            yield from (m for m in (imported[6:], imported[6:].rpartition(".")[0]) if m in MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    assert name in HEIGHT, f"gridc.{name} has no layer yet: give it one in LAYERS"
    for target in inside(name):
        assert HEIGHT.get(target, 0) <= HEIGHT[name], f"gridc.{name} imports gridc.{target}, which lies above it"


def test_nothing_imports_in_a_circle():
    done: set[str] = set()

    def visit(name, path):
        assert name not in path, " → ".join([*path, name])
        if name not in done:
            for target in inside(name):
                visit(target, [*path, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])


@pytest.mark.parametrize("name", [m for layer in FRONT_END for m in LAYERS[layer].split() if m in MODULES])
def test_the_front_end_is_light(name):
    roots = {imported.partition(".")[0] for imported in at_the_top(MODULES[name])}
    assert not roots & HEAVY


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
