"""The benchmark: contestants that agree, the processor's own limit, products that are the sweep's, figures that are whole."""

import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gridc.benchmarks import cases, figures, libraries, limits, peak
from gridc.benchmarks.cases import CASES, Case, numpy_products, products, program
from gridc.commands import bench
from gridc.errors import NumbersError, UsageError

TINY = [
    Case("grid", "grid", (5, 3), 8, 3), Case("grid-untied", "grid", (3, 5), 8, 4, True),
    Case("stacked", "stacked", (5, 3), 8, 3, True),
    Case("depth", "depth", (4,), 8, 3), Case("depth-untied", "depth", (4,), 8, 3, True), Case("cube", "cube", (4, 3, 2), 8, 3),
    Case("plane", "plane", (4, 5), 8, 3),
]  # fmt: skip


def name(case):
    return case.name


@pytest.mark.parametrize("case", TINY, ids=name)
@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.filterwarnings("default")
def test_contestants_agree(case, peer):
    pytest.importorskip(bench.PEERS[peer])
    found = bench.contestants(case, [peer])
    assert [c.name for c in found][:: len(found) - 1] == ["gridc", figures.PRODUCTS]
    assert len(found) > 2
    for contestant in found:
        contestant.step()
        assert contestant.forward is not None
        contestant.forward()


@pytest.mark.parametrize(("case", "peer"), [(TINY[2], "torch"), (TINY[3], "jax")])
@pytest.mark.filterwarnings("default")
def test_contestants_agree_in_double_precision(case, peer, monkeypatch):
    pytest.importorskip(bench.PEERS[peer])
    monkeypatch.setattr(bench, "TOLERANCE", 1e-11)
    for contestant in bench.contestants(replace(case, dtype="float64"), [peer]):
        contestant.step()


def test_a_contestant_that_differs_is_refused():
    ours = (1.0, {"a": np.ones(3), "b": np.ones(2)})
    assert bench.disagreement(ours, (1.00001, {"a": np.ones(3), "b": np.ones(2) * 1.00001})) == ""
    assert "loss" in bench.disagreement(ours, (1.1, ours[1]))
    assert "of b" in bench.disagreement(ours, (1.0, {"a": np.ones(3), "b": np.zeros(2)}))
    assert "of b" in bench.disagreement(ours, (1.0, {"a": np.ones(3)}))
    assert "of a" in bench.disagreement(ours, (1.0, {"a": np.full(3, np.nan), "b": np.ones(2)}))


def test_a_disagreement_ends_the_benchmark(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(bench, "TOLERANCE", -1.0)
    with pytest.raises(NumbersError, match="do not agree"):
        bench.contestants(TINY[0], ["torch"])


@pytest.mark.parametrize("case", [*TINY, CASES["S1"], CASES["S3-untied"], CASES["3-D"], CASES["MD"]], ids=name)
def test_what_is_multiplied_is_what_the_program_does(case):
    spec = case.read()
    found = products(program(case))
    cells = math.prod(case.sizes)
    inner = {t: spec.rows(t) for t in spec.transforms}
    each = {t: len(row.gates) * row.hidden for t, row in spec.transforms.items()}
    forward = sum(2 * case.batch * cells * inner[t] * each[t] for t in each)
    assert sum(2 * math.prod(s) for s in found.forward) == forward
    assert sum(2 * math.prod(s) for s in found.weights) == forward
    unread = 32 if case.kind == "plane" else 0  # the gradient of a joined input is not asked for
    backward = sum(2 * case.batch * cells * (inner[t] - unread) * each[t] for t in each)
    assert sum(2 * math.prod(s) for s in found.backward) == backward
    assert found.flops == sum(2 * math.prod(s) for s in (*found.forward, *found.backward, *found.weights))


def test_the_shapes_multiplied_are_the_wavefronts():
    case = TINY[0]
    found = products(program(case))
    widths = [3, 6, 9, 9, 9, 6, 3]  # cells of each anti-diagonal of 5 × 3, times 3 examples
    assert found.forward == tuple((rows, 16, 32) for rows in widths for _ in range(2))
    assert found.backward == tuple((rows, 32, 16) for rows in reversed(widths) for _ in range(2))
    assert found.weights == ((16, 45, 32),) * 2
    numpy_products(case).step()


def test_the_sizes_are_those_of_the_contract():
    assert {n: (c.sizes, c.hidden, c.batch) for n, c in CASES.items() if len(n) == 2 and n[0] == "S"} == {
        "S1": ((50, 4), 128, 32), "S2": ((100, 6), 256, 16), "S3": ((20, 18), 64, 15), "S4": ((32, 32), 32, 1),
        "S5": ((50,), 512, 64),
    }  # fmt: skip
    assert {"S1-untied", "S5-untied", "S1-stacked", "S2-stacked", "3-D", "MD"} <= set(CASES)
    for case in CASES.values():
        x, y = case.data()
        assert x.dtype == np.float32
        assert len(x) == len(y) == case.batch
        case.read()


@pytest.mark.thorough
@pytest.mark.parametrize("case", [CASES[name] for name in ("S1", "S2", "S3", "S4", "S5", "S3-untied", "S1-stacked")], ids=name)
def test_fused_is_plain_on_the_sizes_of_the_benchmark(case):
    found = [case.grid(lowering=lowering, eager=False) for lowering in ("fused", "plain")]
    x, y = case.data()
    one, other = (grid.loss_and_gradients({"x": x}, {"y": y})[:2] for grid in found)
    assert not bench.disagreement(one, other)


def test_numbers_of_threads_stand_side_by_side(monkeypatch, capsys):
    monkeypatch.setattr(cases, "CASES", {"tiny": TINY[0]})
    bench.command.main(["tiny", "--threads", "1,2", "--rounds", "1", "--seconds", "0", "--dtype", "float64", "--json", "-"],
                       standalone_mode=False)  # fmt: skip
    report = json.loads(capsys.readouterr().out)
    found = report["threads"]["tiny"]
    assert report["surroundings"]["dtype"] == "float64"
    assert list(found) == ["1", "2"]
    assert found["1"]["times"] == 1
    with pytest.raises(UsageError, match="--threads is '1,0', expected numbers from 1 to"):
        bench.command.main(["tiny", "--threads", "1,0"], standalone_mode=False)


def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")

    monkeypatch.setattr(cases, "CASES", {"tiny": TINY[0], "stacked": TINY[2]})
    out, page, image = tmp_path / "figures.json", tmp_path / "table.md", tmp_path / "ratios.png"
    bench.command.main(["--sizes", "tiny,stacked", "--peers", "", "--rounds", "1", "--seconds", "0", "--no-start",
                        "--json", str(out), "--markdown", str(page), "--png", str(image)], standalone_mode=False)  # fmt: skip
    report = json.loads(out.read_text())
    assert report["sizes"]["tiny"]["training"]["gridc"]["times_gridc"] == 1
    assert set(report["sizes"]["stacked"]) == {"training", "forward"}
    assert report["surroundings"]["blas"][0] == libraries.blas()[0]
    for what, flops in (("training", products(program(TINY[2])).flops), ("forward", products(program(TINY[2])).forward_flops)):
        rows = report["sizes"]["stacked"][what]
        assert set(rows) == {"gridc", figures.PRODUCTS, figures.PEAK}
        for row in rows.values():
            assert row["gflops"] * row["ms"] * 1e6 == pytest.approx(flops)
            assert row["share"] == pytest.approx(row["gflops"] / rows[figures.PEAK]["gflops"])
    assert [line.split(" | ")[:2] for line in page.read_text().splitlines()[2:]] == [
        ["| tiny", "training"], ["| stacked", "training"], ["| stacked", "forward"]]  # fmt: skip
    assert image.read_bytes().startswith(b"\x89PNG")
    captured = capsys.readouterr()
    assert "of peak" in captured.out
    assert f"Matrix products by {libraries.blas()[0]}" in captured.err


def test_in_bfloat16_the_table_is_of_gridc_and_its_own_peak(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cases, "CASES", {"tiny": TINY[0]})
    given = ["tiny", "--dtype", "bfloat16", "--rounds", "1", "--seconds", "0", "--no-start"]
    bench.command.main([*given, "--json", "-", "--markdown", str(tmp_path / "table.md")], standalone_mode=False)
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    rows = report["sizes"]["tiny"]["training"]
    assert (set(rows), report["surroundings"]["dtype"]) == ({"gridc", figures.PEAK}, "bfloat16")
    assert "| – | – | – |" in (tmp_path / "table.md").read_text()
    assert f"The peak is that of {peak.told('bfloat16')}." in captured.err
    assert "tiny, bfloat16, training" in captured.err
    with pytest.raises(UsageError, match=r"--peers jax,torch with --dtype bfloat16: .*. Expected no peers, or another dtype"):
        bench.command.main([*given, "--peers", "jax,torch"], standalone_mode=False)


def test_the_table_says_where_threads_were_farther_from_each_other_in_some_rounds():
    times = {figures.PEAK: [1.0, 1.0], "gridc": [2.0, 3.0]}
    for met, apart in (([], None), ([0.1, 0.12], False), ([0.1, 0.5], True)):
        found = {**figures.table(times, 100)}
        found["gridc"]["meetings_us"] = met
        last = figures.lines("tiny", found)[-1]
        assert ("threads meet in" in last) == (apart is not None)
        assert (f"({min(met, default=0):.2f} – {max(met, default=0):.2f} before its turns)" in last) == (apart is not None)
        assert ("only in some rounds" in last) == (apart is True)


def test_a_turn_begins_when_what_came_before_sleeps(monkeypatch):
    """Whoever has left threads that compute is waited for, and no longer than a while."""
    clock, order = [0.0, 0.0], []
    busy_until = [0.11]

    def sleep(seconds):
        clock[0] += seconds
        clock[1] += seconds * (clock[0] < busy_until[0])

    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(bench.time, "process_time", lambda: clock[1])
    monkeypatch.setattr(bench.time, "sleep", sleep)
    bench.take_turns({"one": lambda: order.append("run")}, 1, 0, order.append)
    assert order == ["one", "run", "run"]
    assert 0.11 < clock[0] < 0.11 + 2 * bench.SETTLED
    busy_until[0] = np.inf
    bench.take_turns({"one": lambda: order.append("run")}, 1, 0)
    assert clock[0] < 0.2 + bench.MOST_SETTLING + bench.SETTLED


def test_on_jax_the_table_says_the_device(monkeypatch, capsys):
    pytest.importorskip("jax")
    monkeypatch.setattr(cases, "CASES", {"tiny": TINY[0]})
    bench.command.main(["tiny", "--backend", "jax", "--peers", "jax", "--rounds", "1", "--seconds", "0", "--no-start"],
                       standalone_mode=False)  # fmt: skip
    out = capsys.readouterr().out
    assert out.startswith("tiny, gridc on jax (1 × cpu), training\n")
    assert "jax wavefronts" in out


def test_what_the_processor_can_do_is_its_widest_multiply_adds():
    for dtype in ("float32", "float64", *["bfloat16"] * peak.pairs()):
        width, sums = peak.registers()
        run = peak.Peak(2, dtype)
        run()
        dots = dtype == "bfloat16"
        for room in run.rooms:  # x = x / 2 + 1 / 2, from 1 / 2 on
            assert room.nbytes == (sums + 2) * width
            found = room[: sums * width // room.itemsize]
            assert np.array_equal(found, np.full_like(found, 0.5 + peak.TURNS * 2.0**-23 if dots else 1.0))
        assert run.flops == 2 * 2 * peak.TURNS * sums * width // room.itemsize * (2 if dots else 1)
        code = [line.strip() for line in peak.assembly(dtype).splitlines()]
        if platform.machine() == "x86_64" and peak.fuses():
            (start,) = (n for n, line in enumerate(code) if line.startswith(".LBB0_1:"))
            (end,) = (n for n, line in enumerate(code) if line.startswith("j") and ".LBB0_1" in line)
            begins = "vdpbf16ps" if dots else "vfmadd"
            loop = [line for line in code[start:end] if line.startswith(begins)]
            register = {64: "%zmm", 32: "%ymm"}[width]
            assert len(loop) == sums
            assert all(line.count(register) == 3 for line in loop)
            assert not any(line.startswith("v") for line in code[start:end] if line not in loop)


def test_kernels_of_another_processor_are_taken_away():
    done = subprocess.run(
        [sys.executable, "-m", "gridc", "bench", "S1-staked"], capture_output=True, text=True, check=False,
        env={**os.environ, "OPENBLAS_CORETYPE": "Prescott", "MKL_CBWR": ""})  # fmt: skip
    warning, error = done.stderr.splitlines()
    assert warning == libraries.warning({"OPENBLAS_CORETYPE": "Prescott"})
    assert "holds OpenBLAS to other kernels" in warning
    assert "did you mean 'S1-stacked'" in error
    assert done.returncode == 2


def test_a_size_that_does_not_exist():
    from gridc.errors import UsageError

    with pytest.raises(UsageError, match="did you mean 'S1-stacked'"):
        bench.command.main(["--sizes", "S1-staked"], standalone_mode=False)


def test_the_bytes_of_a_step_and_its_limits():
    case = cases.Case("tiny", "depth", (3,), 4, 2, untied=True)
    learnt = sum(array.nbytes for array in case.grid(eager=False).parameters.values())
    moved = limits.step_bytes(cases.program(case), learnt // 4, 4)
    assert {moved[what] for what in moved if not what.startswith("vectors")} == {learnt}
    rows, entering = 3 * 2, 2 + 2  # of hidden vector, memory and what was read (each of 4), and pre-activations (16)
    assert moved["vectors, read"] == moved["vectors, written"] == 4 * ((rows + entering) * 8 + rows * (4 + 16))
    stream = limits.Stream(3, 1000)
    stream.array[:] = np.arange(1000)
    stream()
    assert (stream.bytes, stream.array.tolist()) == (8000, list(range(1000)))
    assert limits.bandwidth(2, 10_000) > 0
    found = limits.limits(case, cases.program(case), 3.0, 1.5, sum(moved.values()) / 2.0)
    assert (found["memory_s"], found["times_the_larger"]) == (2.0, 1.5)
    assert limits.line(found).endswith("take 2000 ms, the arithmetic 1500 ms; the step takes 1.50 times the larger")
