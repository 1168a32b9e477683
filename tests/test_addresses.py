"""No address outlives the array behind it: compiled code allocates nothing, and tables hold all that they lead to."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridc.benchmarks import cases
from gridc.fusion import gemm, kernels, machine, native, packing, sweep, workspace
from gridc.fusion.workspace import Parameters, Workspace
from gridc.scheduling.check import read
from gridc.scheduling.plan import plan
from gridc.scheduling.shares import STEP
from gridc.scheduling.threads import ALONE
from gridc.tables.cells import CELLS
from gridc.tables.mechanisms import Options
from strategies import grids

ALLOCATES = re.compile(r"NRT_(?:MemInfo_\w*alloc\w*|Allocate\w*)|\bmalloc\b|\bcalloc\b")
"""What compiled code calls for an array of its own."""
TABLES = np.zeros((0, 8), np.int64)
STEPS = {"forward": (np.zeros(0, STEP), TABLES, TABLES), "backward": (np.zeros(0, STEP), TABLES, TABLES), "weights": (TABLES,)}


def built_anew(function, *arguments):
    """What LLVM is given for a function that is not taken from the cache on the disk."""
    made = numba.njit(nogil=True, error_model="numpy")(function)
    made(*arguments)
    return "\n".join(made.inspect_llvm().values())


def test_an_allocation_would_be_seen():
    def lines(n):
        return np.empty(n)[0]

    assert ALLOCATES.search(built_anew(lines, 3))


@pytest.mark.parametrize("name", STEPS)
def test_the_machine_allocates_nothing(name):
    tables, unit = STEPS[name], np.zeros(gemm.panel_room("float32"), "float32")
    products = machine.products("float32")
    alone = {"forward": (0, 0, 0, 1, 0), "backward": (0, 0, 1, 0), "weights": (0, 1, False, False)}
    assert not ALLOCATES.search(built_anew(getattr(machine, name).py_func, *tables, unit, products, *alone[name]))


KERNELS = """
import sys
from gridc.tables.cells import CELLS
from gridc.tables.mechanisms import Options
from gridc.fusion import gemm, jobs, kernels, packing
made = [make(kind) for kind in ("float32", "bfloat16") for make in (gemm.panel_product, packing.panel_pack, gemm.few_rows)]
made.append(packing.lay_words())
jobs.posts()
jobs.doing("float32")
made += jobs._kept
for cell in CELLS.values():
    if cell.rule is not None:
        made += kernels.load(cell, Options(), cell.dimensions[0], "float32")
for one in made:
    assert not one.cache_hits, one
    sys.stdout.write(one.inspect_llvm())
"""


def test_kernels_allocate_nothing(tmp_path):
    environment = {"GRIDC_CACHE_DIR": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    text = subprocess.check_output([sys.executable, "-c", KERNELS], env=environment, text=True)
    kinds = sum(cell.rule is not None for cell in CELLS.values())
    assert text.count("target triple") == 7 + 2 + 4 + 2 * kinds
    assert not ALLOCATES.search(text)


def test_a_kernel_lives_as_long_as_its_address():
    one = kernels.load(CELLS["lstm"], Options(), 1, "float32")
    assert kernels.load(CELLS["lstm"], Options(), 1, "float32") is one
    assert gemm.panel_product("float32") is gemm.panel_product("float32")
    assert packing.panel_pack("float32") is packing.panel_pack("float32")


WHERE = [native.H, native.M, native.Z, native.G, native.W, native.B, native.P, native.DH, native.DM, native.DW, native.DB,
         native.DP, native.ROWS, native.PACKED, native.DP_ROWS, native.ENDS]  # fmt: skip


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(case=grids(), dtype=st.sampled_from(["float32", "float64"]))
def test_tables_hold_all_that_their_addresses_lead_to(case, dtype):
    spec = read(case.text)
    sizes = spec.sizes(case.sizes)
    program = plan(spec, sizes, case.batch).sweep.segments[0].program
    draw = lambda *shape: np.zeros(shape, dtype)  # noqa: E731
    counts = [len(p.weight_ends) - 1 for p in program.transforms]
    parameters = Parameters(
        [draw(n, sum(program.widths(t)), p.width) if p.gates else None
         for t, (p, n) in enumerate(zip(program.transforms, counts, strict=True))],
        [draw(n, p.width) if p.gates and t % 2 else None
         for t, (p, n) in enumerate(zip(program.transforms, counts, strict=True))],
        [None] * len(counts),
    )  # fmt: skip
    one, other = ((Workspace(program, dtype), parameters.empty()) for _ in range(2))
    _, same, tables = (work.tables(parameters, gradients) for work, gradients in (one, one, other))
    other[0].places.last.clear()  # of what lay where when tables were made last
    for found, (work, gradients) in ((same, one), (tables, other)):
        anew = work.tables(parameters, gradients)
        assert (found.records == anew.records).all()
        assert (found.blocks == anew.blocks).all()
    del parameters, one, other, work, gradients, anew, same
    spans = [(workspace.address(a), workspace.address(a) + a.nbytes) for a in tables.owners if isinstance(a, np.ndarray)]
    pointers = {int(n) for n in tables.records[:, WHERE].ravel()} | {int(n) for n in tables.blocks[:, 2:].ravel()}
    for t, own in enumerate(program.transforms):
        rows = int(tables.records[t, native.ROWS])
        pointers |= {native_word(rows, k) for k in range(len(own.memory_rows))}
    for pointer in pointers - {0}:
        assert any(low <= pointer <= high for low, high in spans), f"nobody holds what {pointer} leads to"


@numba.njit
def native_word(address, index):
    return native.word(address, index)


def test_callers_who_ask_at_once_get_the_same(monkeypatch):
    """What a loser of that race made would be freed, and what is bound for the program may lead to it."""
    program = cases.program(cases.Case("twice", "grid", (4, 2), 8, 2))
    both = threading.Barrier(2)

    def met(make):
        def made(*given):
            found = make(*given)
            both.wait(30)
            return found

        return made

    asked = [(workspace, "_placed", lambda: workspace.places(program, "float32")),
             (sweep, "share", lambda: sweep.crew_of(program, ALONE, "float32", np.dtype("float32")))]  # fmt: skip
    with ThreadPoolExecutor(2) as callers:
        for module, name, ask in asked:
            monkeypatch.setattr(module, name, met(getattr(module, name)))
            one, other = (each.result() for each in [callers.submit(ask) for _ in range(2)])
            monkeypatch.undo()
            assert one is other is ask()
