"""Programs: what they print, what is unsound in them, and what they compute, interpreted, on the machine and by the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import gridc
from gridc import resources
from gridc.fusion import run as runs
from gridc.fusion.moves import Moves
from gridc.fusion.run import Inputs
from gridc.scheduling import check, counts, graph, order, passes, segments
from gridc.scheduling.plan import PASSES, plan
from gridc.scheduling.program import CELL, KINDS, PRODUCT, WRAP, Program
from gridc.scheduling.verify import Unsound, verify
from gridc.symbolic import backends, indices

backends.prepare()
from gridc.symbolic import lowerings  # noqa: E402
from interpreter import interpret  # noqa: E402
from strategies import Case, grids  # noqa: E402
from test_grid import run_unchanged  # noqa: E402
from test_masks import drawn  # noqa: E402

SPECS = sorted((Path(gridc.__file__).parent.parent / "specs").glob("*.yaml"))


def fusable(spec: gridc.GridSpec) -> bool:
    return lowerings.resolve(spec, "auto").name == "fused"


ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def extents_of(case: Case, spec: gridc.GridSpec) -> tuple[tuple[int, ...], np.ndarray | None]:
    sizes = spec.sizes(case.sizes)
    lengths = {symbol: np.full(case.batch, n) for symbol, n in case.sizes.items()} | (case.lengths or {})
    rows = np.array([lengths[symbol] for symbol in spec.symbols], np.int64).reshape(-1, case.batch).T
    return sizes, indices.extents(spec, sizes, rows)


def any_grids() -> st.SearchStrategy[Case]:
    """With noise or without, and some attend to facts."""
    return st.integers(0, 5).flatmap(lambda k: grids(memory=k in (0, 5), noise=k > 2))


# -- sound, whatever is drawn --------------------------------------------------------------------------------------------


@settings(ROOM, max_examples=60)
@given(any_grids(), st.integers(1, 9))
def test_every_plan_of_every_order_is_sound(case: Case, count: int) -> None:
    spec = gridc.read(case.text)
    sizes, extents = extents_of(case, spec)
    for each in order.orders(graph.build(spec, sizes, extents)):
        for recompute in (False, True):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(segments, "number", lambda program: min(count, len(program.batches)))
                asked = check.asked(spec, None, recompute)
                made = plan(asked, sizes, case.batch, extents, chosen=each).verify()
            event(f"{min(len(made.sweep.segments), 3)} segments")
            wraps = [s for s in made.sweep.segments if (s.program.instructions["kind"] == WRAP).any()]
            event("wraps" * bool(wraps) or "no wraps")


def interpreted(inputs: Inputs) -> list[np.ndarray]:
    """What outputs read, every segment interpreted instead of run."""

    def ahead(run, s, forgets, gives):
        space, before, after, parameters = run.workspace(s), Moves(), Moves(), run.weights(s)
        run.enter(s, space, before)
        before.ready().run(space.tape)
        for t, own in enumerate(space.program.transforms):
            space.h[t][: own.rows] = np.nan
        interpret(space.program, space.h, space.m, space.joined, parameters.w, parameters.b, parameters.p,
                  space.dropped, space.kept, space.facts)  # fmt: skip
        run.give(s, space, after)
        after.ready().run(space.tape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, "ahead", ahead)
        return run_forward(inputs)


def run_forward(inputs: Inputs) -> list[np.ndarray]:
    tape, _, packed = inputs.rooms
    return runs.forward(inputs, np.full(tape, np.nan), np.zeros(packed))


@settings(ROOM, max_examples=40)
@given(any_grids(), st.integers(1, 5))
def test_interpreted_on_the_machine_and_by_the_oracle(case: Case, count: int) -> None:
    """The oracle's own comparison with the machine is in ``test_grid``; here the interpreter stands between them."""
    seen: list[tuple[Inputs, list[np.ndarray]]] = []
    real = runs.forward

    def watched(inputs, tape, packed, forgets=False):
        seen.append((inputs, real(inputs, tape, packed, forgets)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indices, "_memory", resources.Memory())
        patch.setattr(segments, "number", lambda program: min(count, len(program.batches)))
        patch.setattr(runs, "forward", watched)
        run_unchanged(case, "float64", "fused", drawn(case, "float64"), count > 1)
    inputs, machine = seen[0]
    inputs.plan.verify()
    for mine, theirs in zip(interpreted(inputs), machine, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-11, atol=1e-11)


# -- what is unsound is named ----------------------------------------------------------------------------------------------

WRAPPED = """
name: wrapped
dimensions: {rows: 3, columns: 2}
transforms:
  b: {cell: lstm, hidden: 2, along: columns, reads: [b]}
  a: {cell: dense, hidden: 2, along: rows, start: {wrap: {columns: -1}}, reads: [{of: b, offset: {rows: 0}}]}
  p: {cell: pass, along: rows, reads: [a]}
inputs:  {x: {features: 1, joins: [a, b]}}
outputs: {y: {raw: true, reads: [p]}}
"""


def small() -> tuple[Program, list[np.ndarray]]:
    spec = gridc.read(WRAPPED)
    segment = plan(spec, spec.sizes({}), 2).verify().sweep.segments[0]
    return segment.program, segment.read()


def test_a_wrap_that_is_dropped_is_named() -> None:
    """What the fused lowering did: a wrap after the last batch never became an instruction."""
    program, read = small()
    assert program.instructions["kind"][-1] == WRAP, "the wrap comes after the last batch"
    row = int(program.instructions["target"][-1])
    with pytest.raises(Unsound, match=rf"what is read afterwards reads row {row} of transform 1 before it is there: it never is"):
        verify(replace(program, instructions=program.instructions[:-1]), read)


def changed(program: Program, which: int, **fields: int) -> Program:
    steps = program.instructions.copy()
    for name, value in fields.items():
        steps[which][name] = value
    return replace(program, instructions=steps)


def test_what_else_is_unsound_is_named() -> None:
    program, read = small()
    kinds = program.instructions["kind"].tolist()
    product, cell, wrap = kinds.index(PRODUCT), kinds.index(CELL), kinds.index(WRAP)
    steps, end = program.instructions, int(program.instructions["end"][cell])
    cases = {
        "is never computed": changed(program, cell, end=end - 1),
        "which was there before": replace(program, instructions=np.append(steps, steps[cell : cell + 1])),
        "comes before all that row": replace(program, instructions=np.delete(steps, cell - 1)),
        "that were not made before": changed(program, product, adds=1),
        "was multiplied before|pre-activations of row": replace(
            program, instructions=np.insert(steps, product, steps[product])),
        "where nothing, or something else, should": changed(program, wrap, source=0),
        "before it is there: it is by instruction": replace(program, instructions=np.roll(steps, 1)),
    }  # fmt: skip
    for sentence, broken in cases.items():
        with pytest.raises(Unsound, match=sentence):
            verify(broken, read)
    lstm = program.transforms[0]
    for own in (replace(lstm, kept_rows=np.full(lstm.rows, -1)), replace(lstm, mask_rows=(np.zeros(1, np.int64),))):
        with pytest.raises(ValueError, match=r"transform 0 \(lstm\) of this program has rows.* out of bounds"):
            verify(replace(program, transforms=(own, *program.transforms[1:])), read)
    with pytest.raises(ValueError, match="out of bounds"):
        verify(changed(program, cell, end=999), read)
    with pytest.raises(ValueError, match="out of bounds"):
        verify(changed(program, wrap, target=999), read)


# -- text ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in SPECS if fusable(gridc.read(path))], ids=lambda path: path.stem)
def test_golden_programs(path: Path, golden_text: Callable[[str, str], None]) -> None:
    """A change of order, of products made ahead or of wraps shows in a diff; specs of facts have no program."""
    spec = gridc.read(path)
    made = plan(spec, spec.sizes(dict.fromkeys(spec.symbols, 4)), 2).verify()
    golden_text(f"{path.stem}.program", "\n".join([str(made), "", *made.listing()]))


def test_the_passes_are_named_in_their_order() -> None:
    assert list(PASSES) == ["contract", "order", "lay out", "segment", "assemble", "wrap", "hoist"]
    for text in PASSES.values():
        module, _, name = text[text.rindex("(") + 1 : -1].partition(".")
        assert hasattr({"order": order, "segments": segments, "passes": passes}.get(module) or __import__(
            f"gridc.scheduling.{module}", fromlist=[name]), name)  # fmt: skip


# -- counted ---------------------------------------------------------------------------------------------------------------


@settings(ROOM, max_examples=40)
@given(grids())
def test_the_counter_counts_what_a_program_keeps(case: Case) -> None:
    spec = gridc.read(case.text)
    sizes = spec.sizes(case.sizes)
    program = plan(spec, sizes, case.batch).sweep.segments[0].program
    kept = counts.kept(spec, sizes, case.batch)
    assert kept.tape == program.sizes[0]
    assert 0 <= program.sizes[1] - kept.slopes == program.scratch + max(p.hidden * p.dimensions for p in program.transforms)
    adds = 0
    for step in program.instructions[program.instructions["kind"] == KINDS.index("product")]:
        own, start = program.transforms[step["transform"]], program.block_starts[step["transform"]]
        widths = program.widths(step["transform"])[step["low"] - start : step["high"] - start]
        adds += int(step["end"] - step["first"]) * sum(widths) * own.width
    assert adds == counts.multiply_adds(spec, sizes, case.batch)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_everyone_counts_alike(path: Path) -> None:
    spec = gridc.read(path)
    bound = dict.fromkeys(spec.symbols, 7)
    grid = gridc.compile(spec, eager=False)
    summary, told = grid.summary(batch=16, **bound), gridc.schedule(spec, **bound)
    from gridc.insight.arithmetic import arithmetic

    sums = arithmetic(told, 16)
    assert summary.flops == sums.flops
    assert summary.training_bytes == sums.training_bytes or not fusable(spec), "the plain lowering keeps more"
    assert summary.parameters == counts.parameters(spec)
