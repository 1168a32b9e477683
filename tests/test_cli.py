"""The command line: exit codes, what goes to stdout and what to stderr, and the way from a spec to predictions."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gridc import cli
from gridc.commands.start import KINDS, schema_text
from gridc.model_file import load
from gridc.scheduling import check

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
SPEC = """
name: small
dimensions: {depth: 2}
transforms:
  depth: {cell: lstm, hidden: 6}
inputs:
  bits: {features: 3, enters: depth}
outputs:
  odd: {classes: 2, reads: [depth, depth.memory], at: {depth: last}}
training:
  task: {parity: {bits: 3}}
  optimizer: {adam: {learning_rate: 0.05}}
  batch: 4
  held_out: 0.0
  budget: {epochs: 40}
  stop: {accuracy: 1.0}
"""


@pytest.fixture
def gridc(capsys):
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = cli.run([str(a) for a in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def there(tmp_path, monkeypatch):
    """An empty folder with one small spec, where the process is."""
    (tmp_path / "small.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that was trained from the command line, in its folder."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SPEC)
    code = cli.run(["train", str(folder / "small.yaml"), "--folder", str(folder / "run"), "--progress", "none", "--json"])
    assert code == 0
    return folder / "run" / "model.grid"


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, **options)


# -- cheap and quiet ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["import gridc", "from gridc.cli import run; assert run(['--help']) == 0"])
def test_importing_and_asking_for_help_load_next_to_nothing(code):
    done = python(f"""
import sys
before = set(sys.modules)
{code}
loaded = set(sys.modules) - before
heavy = {{"numpy", "pydantic", "ruamel", "networkx", "pytensor", "numba", "scipy", "safetensors"}} & loaded
assert not heavy, heavy
own = [name for name in loaded if name.startswith("gridc")]
assert len(own) < 10 and len(loaded) < 150, (own, len(loaded))
""")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_looking_at_a_spec_never_imports_pytensor():
    done = python("""
import sys
from gridc.cli import run
spec, size = "specs/source-2grid.yaml", "--size=T=4"
for words in (["check", spec], ["show", spec], ["show", spec, "--at", "graph", size], ["show", spec, "--at", "schedule", size],
              ["schedule", spec, size], ["schedule", spec, size, "--json"], ["schema"]):
    assert run(words) == 0, words
    heavy = {"pytensor", "numba", "jax", "sklearn", "matplotlib", "scipy"} & set(sys.modules)
    assert not heavy, (words, heavy)
""")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["chek"], 2, "There is no command 'chek' — did you mean 'check'?"),
        (["check", "nowhere.yaml"], 2, "there is no such file"),
        (["check", "smal.yaml"], 2, "there is no such file — did you mean 'small.yaml'?"),
        (["schedule", "small.yaml", "--size", "T"], 2, "--size: found 'T'; expected SYMBOL=NUMBER, such as T=50."),
        (["schedule", "small.yaml", "--size", "T=4"], 2, "has no symbol 'T'"),
        (["schedule", "small.yaml", "-o", "a.b"], 2, "does not say which format"),
        (["train", "small.yaml", "--bitz", "4"], 2, "The training block has no 'bitz' — did you mean 'bits'?"),
        (["train", "small.yaml", "--resmue"], 2, "There is no option '--resmue' without a value — did you mean '--resume'?"),
        (["train", "small.yaml", "--bits", "many"], 2, "found 'many'"),
        (["train", "small.yaml", "--backend", "torch"], 2, "there is no backend 'torch'"),
        (["inspect", "nowhere.grid"], 3, "nowhere.grid"),
        (["inspect", "small.yaml"], 3, "not a whole model file"),
        (["init", "table", "-o", "no/such/folder.yaml"], 5, "There is no folder"),
        (["init", "sequence", "-o", "small.yaml"], 2, "small.yaml is already there; --force replaces it"),
        (["train", "small.yaml", "--optimizer", "{sgd: {learning_rate: 1e30}}", "--stop", "{}"], 4, "At step"),
    ],
)
def test_errors_are_sentences_with_an_exit_code(gridc, there, words, code, sentence):
    found, out, err = gridc(*words)
    assert sentence in err
    assert found == code
    assert out == ""
    assert "Traceback" not in err


def test_an_error_is_told_to_programs_too(gridc, there):
    (there / "small.yaml").write_text(SPEC.replace("hidden", "hiden"))
    code, out, err = gridc("show", "small.yaml", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"], told["kind"], told["line"], told["column"]) == (2, 2, "SpecError", 5, 23)
    assert told["error"].startswith("transform 'depth': unknown key 'hiden'")
    assert "small.yaml:5:23" in err


def test_a_mistake_of_ours_says_so(gridc, monkeypatch, there):

    def broken(where):
        raise RuntimeError("a wheel came off")

    monkeypatch.setattr(check, "read", broken)
    code, _, err = gridc("check", "small.yaml")
    assert code == 1
    assert "a wheel came off" in err
    assert "This is a mistake in gridc" in err


def test_ctrl_c_saves_and_exits_with_130(there):
    command = [sys.executable, "-m", "gridc", "train", "small.yaml", "--stop", "{}", "--epochs", "1000000", "--progress", "lines"]
    training = subprocess.Popen(command, cwd=there, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        metrics = there / "runs" / "small" / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            assert time.monotonic() < deadline
            assert training.poll() is None, training.communicate()[1]
            time.sleep(0.05)
        training.send_signal(signal.SIGINT)
        out, err = training.communicate(timeout=60)
    finally:
        training.kill()
    assert training.returncode == 130
    assert "All is saved: the same command with --folder runs/small --resume goes on." in err
    assert "Traceback" not in err
    assert out == ""
    assert list((there / "runs" / "small" / "checkpoints").glob("step-*.grid"))


def test_whoever_reads_only_the_beginning_is_left_in_peace():
    words = f"{sys.executable} -m gridc show specs/source-2grid.yaml --at graph --size T=300 --json | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "{\n"
    assert done.stderr == ""


# -- looking -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_every_spec_means_something_and_says_where_it_is_from(gridc, path):
    code, out, _ = gridc("check", path, "--json")
    assert code == 0
    assert json.loads(out)["ok"]
    lines = path.read_text().splitlines()
    assert all(line.startswith("# ") for line in lines[:2])
    assert lines[2] == "# yaml-language-server: $schema=gridc.schema.json"


def test_check_looks_at_every_spec_and_says_what_is_wrong(gridc, there):
    (there / "bad.yaml").write_text(SPEC.replace("lstm", "lstn"))
    code, out, err = gridc("check", "small.yaml", "bad.yaml")
    assert code == 2
    assert out.startswith("small.yaml: good. 'small' is a grid of depth 2 with lstm 'depth'; ")
    assert "did you mean 'lstm'?" in err
    code, out, _ = gridc("check", "small.yaml", "bad.yaml", "--json")
    assert [one["ok"] for one in json.loads(out)] == [True, False]


@pytest.mark.parametrize("stage", ["spec", "graph", "schedule", "plan", "program"])
def test_show_stops_anywhere(gridc, stage):
    words = ("show", ROOT / "specs" / "source-2grid.yaml", "--at", stage, "--size", "T=4")
    code, out, err = gridc(*words)
    assert (code, err) == (0, "")
    assert ("source-2grid" in out) == (stage != "program")
    assert ("product" in out) == (stage in ("plan", "program"))
    code, out, _ = gridc(*words, "--json")
    assert json.loads(out)["name"] == "source-2grid"


def test_attention_is_an_instruction(gridc):
    code, out, _ = gridc("show", ROOT / "specs" / "memory-network.yaml", "--at", "program")
    assert code == 0
    found = [line.split()[1:] for line in out.splitlines() if "attend " in line]
    assert found == [["attend", "hops[0:16]"], ["attend", "hops[16:32]"]]


def test_show_the_pytensor_graph(gridc, there):
    code, out, _ = gridc("show", "small.yaml", "--at", "pytensor", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["nodes"] > 3
    assert set(told["outputs"]) == {"odd"}


@pytest.mark.parametrize(
    ("suffix", "begins"), [("json", "{"), ("dot", "digraph"), ("svg", "<svg"), ("html", "<!"), ("png", "\x89PNG"), ("trace", "")]
)
def test_schedules_in_every_format(gridc, there, suffix, begins):
    words = ["schedule", ROOT / "specs" / "text-classifier.yaml", "--size", "T=6", "-o", there / f"plan.{suffix}"]
    code, _, err = gridc(*words)
    assert (code, err) == (0, f"Wrote {there / f'plan.{suffix}'}.\n")
    content = (there / f"plan.{suffix}").read_bytes().decode("latin-1")
    assert content.lstrip().lower().startswith(begins.lower())
    if suffix in ("json", "trace"):
        json.loads(content)


def test_schedules_side_by_side(gridc):
    specs = [ROOT / "specs" / f"{name}.yaml" for name in ("two-grid", "source-2grid", "parity")]
    code, out, _ = gridc("schedule", *specs, "--size", "T=20")
    assert code == 0
    head, *rows = out.splitlines()
    assert head.split() == ["two-grid", "source-2grid", "parity"]
    assert [row.split()[1:] for row in rows if row.split()[0] == "wavefronts" and row.split()[1] != "of"] == [["22", "25", "5"]]
    code, out, _ = gridc("schedule", *specs, "--size", "T=20", "--json")
    assert json.loads(out)[0]["span"] == 22
    code, _, err = gridc("schedule", *specs, "--size", "T=20", "--size", "U=3")
    assert code == 2
    assert "no spec has a symbol 'U'; expected T." in err


def test_a_schedule_says_all_its_figures(gridc):
    spec = ROOT / "specs" / "text-classifier.yaml"
    code, out, _ = gridc("schedule", spec, "--size", "T=50", "--workers", "3", "--batch", "4")
    assert code == 0
    for said in ("300", "102", "1, 2, 3 × 98, 2, 1", "mini-batch of 4", "vectors alive", "3 workers, times as fast", "Brent",
                 "Graham", "what priority costs", "limits it most", "no priority", "untied along depth",
                 "tiles of 2"):  # fmt: skip
        assert said in out, said
    code, out, _ = gridc("schedule", spec, "--size", "T=3", "--path")
    assert [line.split()[1] for line in out.splitlines()[1:4]] == ["depth[0,", "time[0,", "depth[1,"]
    code, _, err = gridc("schedule", spec, spec, "--size", "T=3", "--path")
    assert (code, "--path is for one spec; found 2." in err) == (2, True)
    code, _, err = gridc("schedule", spec, "--size", "T=3", "--measure", "-f", "svg")
    assert (code, "--measure is a table, or JSON" in err) == (2, True)


def test_a_schedule_is_measured(gridc):
    spec = ROOT / "specs" / "two-grid.yaml"
    code, out, _ = gridc("schedule", spec, "--size", "T=6", "--measure", "--batch", "2", "--json")
    told = json.loads(out)
    assert (code, told["batch"], told["threads"]) == (0, 2, 1)
    assert sum(front["rows"] for front in told["turns"]) == 6 * 3 * 2 * 2
    assert all(front["measured"] > 0 and front["predicted"] > 0 for front in told["turns"])
    code, out, _ = gridc("schedule", spec, "--size", "T=6", "--measure", "--threads", "3", "--batch", "2", "--json")
    told = json.loads(out)
    assert (code, told["batch"], [row["threads"] for row in told["threads"]]) == (0, 2, [1, 2, 3])
    assert all(row["measured_speedup"] > 0 and row["simulated_speedup"] > 0 and row["listed"] > 0 for row in told["threads"])
    code, _, err = gridc("schedule", spec, "--size", "T=6", "--threads", "3")
    assert (code, "--threads is measured" in err) == (2, True)


def test_a_schedule_of_millions_of_steps_is_printed(gridc, there):
    text = (ROOT / "specs" / "two-grid-time-prioritised.yaml").read_text().replace("depth: 3", "depth: 1000", 1)
    (there / "large.yaml").write_text(text)
    code, out, _ = gridc("schedule", there / "large.yaml", "--size", "T=3000")
    assert code == 0
    assert "6,000,000" in out
    assert "not simulated" in out


# -- training and using ------------------------------------------------------------------------------------------------


def test_train_says_what_lies_where(gridc, there):
    code, out, err = gridc("train", "small.yaml", "--epochs", "2", "--accuracy", "null", "--set", "batch=2", "--seed", "3")
    assert code == 0, err
    assert "on the examples that it was trained on" in out
    assert "gridc: 'small' learns parity with batch 2, epochs 2, accuracy None, seed 3" in err
    for name in ("model.grid", "metrics.jsonl", "curve.png", "schedule.svg", "schedule.html"):
        assert (there / "runs" / "small" / name).stat().st_size > 100
        assert name in out
    assert "gridc score runs/small/model.grid" in out
    code, out, err = gridc("train", "small.yaml", "--folder", "runs/small")
    assert code == 2
    assert "already holds a training" in err


def test_train_says_which_weights_were_kept_and_what_to_do_with_them(gridc, there):
    rng = np.random.default_rng(0)
    rows = ["a,b,kind", *(f"{a:.2f},{b:.2f},{'xy'[int(a > 0)]}" for a, b in rng.normal(size=(60, 2)))]
    (there / "rows.csv").write_text("\n".join(rows))
    page = SPEC
    for ours, theirs in (("bits: {features: 3", "point: {features: 2"), ("odd:", "kind:"),
                         ("task: {parity: {bits: 3}}", "data: rows.csv"), ("held_out: 0.0", "held_out: 0.3"),
                         ("stop: {accuracy: 1.0}", "stop: {patience: 3}")):  # fmt: skip
        page = page.replace(ours, theirs)
    (there / "rows.yaml").write_text(page)
    code, out, err = gridc("train", "rows.yaml", "--epochs", "200", "--learning-rate", "0.3", "--folder", "run")
    assert code == 0, err
    best = json.loads(gridc("inspect", "run/model.grid", "--json")[1])["record"]["record"]["step"]
    assert f"The best weights, those of step {best} by their held-out accuracy, were kept." in out
    command = "gridc predict run/model.grid rows.csv -o predictions.csv"
    assert command in out
    assert gridc(*command.split()[1:])[0] == 0
    assert len((there / "predictions.csv").read_text().splitlines()) == 61


def test_train_for_tensorboard(gridc, there):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    code, out, err = gridc("train", "small.yaml", "--epochs", "3", "--stop", "{}", "--folder", "run", "--tensorboard")
    assert code == 0, err
    assert "run/tensorboard" in out
    drawn = events.EventAccumulator(str(there / "run" / "tensorboard")).Reload().Scalars("loss/training")
    told = [json.loads(line) for line in (there / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(event.step, event.value) for event in drawn] == [(one["step"], pytest.approx(one["loss"])) for one in told]


def test_a_folder_that_is_taken_is_said_before_anything_is_built(gridc, there, monkeypatch):
    (there / "run").mkdir()
    (there / "run" / "metrics.jsonl").write_text("")
    monkeypatch.setattr("gridc.compile", lambda *_, **__: pytest.fail("it was built"), raising=False)
    code, _, err = gridc("train", "small.yaml", "--folder", "run")
    assert code == 2
    assert "run already holds a training; resume it (--resume)" in err


def test_a_change_that_does_not_fit_is_shown_where_it_went(gridc, there):
    code, _, err = gridc("train", "small.yaml", "--set", "batch=many")
    assert code == 2
    assert err.startswith("gridc: small.yaml (as changed):")
    assert "batch: many" in err


@pytest.mark.parametrize("words", [[], ["init"], ["train"], ["predict"]])
def test_a_command_alone_shows_its_help(gridc, words):
    code, out, err = gridc(*words)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: gridc")
    assert err.rstrip().count("--help") == 1


def test_resume_equals_an_unbroken_training(gridc, there):
    words = ["train", "small.yaml", "--progress", "none", "--stop", "{}", "--set", "checkpoint={epochs: 1}"]
    assert gridc(*words, "--epochs", "6", "--folder", "whole")[0] == 0
    assert gridc(*words, "--epochs", "3", "--folder", "half")[0] == 0
    code, out, err = gridc(*words, "--epochs", "6", "--folder", "half", "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["steps"] == 12
    whole, half = (load(f"{folder}/model.grid") for folder in ("whole", "half"))
    assert {name: array.tobytes() for name, array in half.parameters.items()} == \
           {name: array.tobytes() for name, array in whole.parameters.items()}  # fmt: skip
    # Their hashes differ, since each file says how long its training took; all else that they say is the same.
    assert without_seconds(half.record) == without_seconds(whole.record)
    assert (half.spec, half.vocabularies, half.kind) == (whole.spec, whole.vocabularies, whole.kind)


def without_seconds(record):
    if not isinstance(record, dict):
        return record
    return {key: without_seconds(value) for key, value in record.items() if "seconds" not in key}


def test_inspect(gridc, model):
    code, out, err = gridc("inspect", model)
    assert (code, err) == (0, "")
    first, second, *rest = out.splitlines()
    found = load(model)
    assert first.startswith(f"{model}: a model of 'small', written by gridc {found.gridc_version}, ")
    assert second == f"  sha256 {found.sha256} (checked)"
    w = found.parameters["depth.W"]
    figures = [f"{number:.4f}" for number in (w.mean(), w.std(), abs(w).max())]
    assert ["depth.W", "6", "×", "24", "float32", *figures] in [line.split() for line in rest]
    assert f"  {sum(array.size for array in found.parameters.values())} numbers" in rest
    assert any(line.startswith("  training   adam(learning_rate=0.05, ") for line in rest)
    code, out, _ = gridc("inspect", model, "--spec")
    assert out == SPEC
    told = json.loads(gridc("inspect", model, "--json")[1])
    assert told["parameters"]["depth.W"]["shape"] == [6, 24]


def test_predict_from_file_to_file(gridc, model, tmp_path):
    bits = np.array([[-1, -1, 1], [1, 1, -1], [1, 1, 1]], "float32")
    np.savez(tmp_path / "bits.npz", bits=bits)
    code, out, err = gridc("predict", model, tmp_path / "bits.npz")
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["odd", "odd=0", "odd=1"]
    assert abs(float(rows[0]["odd=0"]) + float(rows[0]["odd=1"]) - 1) < 1e-4
    for suffix in ("csv", "json", "npz"):
        code, out, err = gridc("predict", model, tmp_path / "bits.npz", "-o", tmp_path / f"out.{suffix}")
        assert (code, out) == (0, "")
        assert "3 predictions" in err
    assert np.load(tmp_path / "out.npz")["odd"].shape == (3, 2)
    told = json.loads((tmp_path / "out.json").read_text())
    assert [str(one["odd"]) for one in told] == [row["odd"] for row in rows]
    np.savez(tmp_path / "wrong.npz", bits=bits[:, :2])
    code, _, err = gridc("predict", model, tmp_path / "wrong.npz")
    assert code == 3
    assert "expected [examples, 3]" in err
    assert gridc("predict", model, tmp_path / "bits.npz", "-o", "out.xls")[0] == 2
    assert gridc("predict", model, tmp_path / "nowhere.npz")[0] == 3


def test_score_with_a_confusion_matrix(gridc, model, tmp_path):
    code, out, err = gridc("score", model, "parity")
    assert code == 0, err
    assert "small on the task parity: 8 examples" in out
    assert "odd: true (rows) against predicted (columns)" in out
    told = json.loads(gridc("score", model, "--json")[1])
    assert told["examples"] == 8
    assert sum(map(sum, told["confusion"]["counts"])) == 8
    code, _, err = gridc("score", model, "pairity")
    assert code == 2
    assert "did you mean 'parity'?" in err


def test_compile_says_what_a_grid_costs(gridc, there):
    code, out, _ = gridc("compile", "small.yaml", "-o", "new.grid", "--batch", "10")
    assert code == 0
    assert "parameters" in out
    assert (there / "new.grid").exists()
    assert json.loads(gridc("compile", "small.yaml", "--json")[1])["shapes"]["depth.W"] == [6, 24]


# -- beginning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_init_writes_what_trains(gridc, there, kind):
    code, out, _ = gridc("init", kind)
    assert (code, out) == (0, f"gridc train {kind}.yaml\n")
    named = (there / f"{kind}.yaml").read_text().splitlines()[0].partition("$schema=")[2]
    assert (there / named).read_text() == schema_text(), "the file that its first line names is there"
    limit = ["--steps", "2"]
    if kind == "sequence":
        limit += ["--samples", "100", "--set", "task.samples=100"]
    code, _, err = gridc("train", f"{kind}.yaml", *limit, "--progress", "none")
    assert code == 0, err
    if kind == "sequence":
        code, out, err = gridc("score", "runs/sequence/model.grid", "sequences.csv", "--json")
        assert code == 0, err
        assert json.loads(out)["examples"] == 40
    if kind == "text":
        code, out, err = gridc("sample", "runs/text/model.grid", "--prompt", "This is", "-n", "5", "--json")
        assert code == 0, err
        assert len(json.loads(out)["text"]) == len("This is") + 5


def test_the_schema_in_specs_is_current_and_fits_every_spec(gridc):
    import jsonschema
    from ruamel.yaml import YAML

    assert gridc("schema")[1] == schema_text()
    assert (ROOT / "specs" / "gridc.schema.json").read_text() == schema_text(), "gridc schema > specs/gridc.schema.json"
    validator = jsonschema.Draft7Validator(json.loads(schema_text()))
    for path in SPECS:
        page = YAML(typ="safe", pure=True).load(path)
        assert not list(validator.iter_errors(page)), path
    assert list(validator.iter_errors({**page, "transfroms": {}}))


def test_doctor_looks_at_everything(gridc):
    code, out, _ = gridc("doctor", "--json")
    assert code == 0
    found = {one["what"]: one for one in json.loads(out)["findings"]}
    assert {"Python", "PyTensor", "BLAS", "cache folder", "memory", "disk", "backend python", "backend jax", "JAX"} <= set(found)
    assert found["a small grid"]["state"] == "good"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(gridc, shell):
    code, out, err = gridc("completion", shell)
    assert (code, err) == (0, "")
    assert "_GRIDC_COMPLETE" in out


def test_commands_are_completed():
    done = python("from gridc.cli import cli; cli(prog_name='gridc')", env={
        **os.environ, "_GRIDC_COMPLETE": "bash_complete", "COMP_WORDS": "gridc sc", "COMP_CWORD": "1"})  # fmt: skip
    assert done.stdout.split() == ["plain,schedule", "plain,score", "plain,schema"]


def test_every_command_can_be_called(capsys: pytest.CaptureFixture[str]) -> None:
    for name in cli.COMMANDS:
        assert cli.run([name, "--help"]) == 0
        assert f"gridc {name}" in capsys.readouterr().out
