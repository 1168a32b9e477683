"""``schedule:`` of a page: what it says, what it is refused for, that it changes no number, and that memory stays within it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import gridc
import oracle
from gridc.language.spec import Directives
from gridc.scheduling import counts, graph, order
from gridc.scheduling.check import asked
from gridc.scheduling.plan import plan
from gridc.symbolic import plans
from strategies import Case, grids
from test_grid import equal_gradients, run_unchanged

ROOM = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
SPECS = Path(gridc.__file__).parent.parent / "specs"
PAGE = """
name: two
dimensions: {time: T, depth: 2}
transforms:
  depth: {cell: lstm, hidden: 3}
  time: {cell: lstm, hidden: 3}
inputs: {x: {features: 2, enters: depth}}
outputs: {y: {classes: 2, reads: [time], at: {time: last, depth: last}}}
"""
BOTH_WAYS = """
name: both
dimensions: {time: T}
transforms:
  forth: {cell: lstm, hidden: 3, along: time, reads: [forth, {of: back, offset: {time: 0}}]}
  back: {cell: lstm, hidden: 3, along: time, direction: backward, reads: [back]}
priority: [back, forth]
inputs: {x: {features: 2, joins: [back]}}
outputs: {y: {classes: 2, reads: [forth], at: {time: last}}}
"""


# -- words ---------------------------------------------------------------------------------------------------------------


def test_a_page_says_it_and_a_call_comes_before_the_page() -> None:
    spec = gridc.read(PAGE + "schedule: {order: levels, hoist: [depth], tile: {time: 4}, keep: 200 MB}")
    assert spec.schedule == Directives("levels", ("depth",), ((0, 4),), "auto", 200_000_000)
    assert spec.digest == gridc.read(PAGE).digest, "a schedule is no part of what a spec means"
    called = Directives("cells", None, ((0, 4),), "auto", 1_500_000_000)
    assert asked(spec, "order=cells,keep=1.5GB,hoist=auto").schedule == called
    assert asked(spec, {"hoist": "none", "tile": {}}).schedule == Directives("levels", (), (), "auto", 200_000_000)
    assert asked(spec, "hoist=depth+time,tile.depth=1").schedule.tile == ((1, 1),)


@pytest.mark.parametrize(("section", "said"), [
    ("{order: level}", "'schedule', order: found 'level'; expected auto, cells, steps or levels — did you mean 'levels'?"),
    ("{ordre: levels}", "'schedule': unknown key 'ordre'; expected hoist, keep, order, threads or tile — did you mean 'order'?"),
    ("{tile: {tim: 3}}", "'schedule', tile.tim: there is no dimension 'tim'; expected time or depth — did you mean 'time'?"),
    ("{tile: {time: 0}}", "'schedule', tile.time: found 0; expected a positive integer"),
    ("{tile: 16}", "'schedule', tile: found 16; expected a mapping of dimension to a positive integer — "
     "write tile: {time: 16}"),
    ("{hoist: [deph]}", "'schedule', hoist: there is no transform 'deph'; expected depth or time — did you mean 'depth'?"),
    ("{hoist: depth}", "'schedule', hoist: found 'depth'; expected auto, none or a list of transforms — write hoist: [depth]"),
    ("{keep: 200}", "'schedule', keep: found 200; expected all, little or an amount of memory such as 200 MB"),
    ("{keep: 200 MiB}", "'schedule', keep: found '200 MiB'; expected all, little or an amount of memory such as 200 MB"),
    ("{keep: -1 MB}", "'schedule', keep: found '-1 MB'; expected all, little or an amount of memory such as 200 MB"),
    ("levels", "'schedule': found 'levels'; expected the schedule block — write schedule: {order: levels}"),
])  # fmt: skip
def test_what_a_page_cannot_say_is_one_sentence_at_its_place(section: str, said: str) -> None:
    with pytest.raises(gridc.SpecError) as caught:
        gridc.read(f"{PAGE}schedule: {section}")
    assert caught.value.sentence == said
    assert caught.value.line == PAGE.count("\n") + 1


@pytest.mark.parametrize(("text", "said"), [
    ("order", "'schedule': found 'order'; expected KEY=VALUE, as in order=levels,tile.time=16,keep=100MB"),
    ("order=level", "'schedule', order: found 'level'; expected auto, cells, steps or levels — did you mean 'levels'?"),
    ("tile.tim=3", "'schedule', tile.tim: there is no dimension 'tim'; expected time or depth — did you mean 'time'?"),
    ("speed=9", "'schedule': unknown key 'speed'; expected hoist, keep, order, threads or tile"),
])  # fmt: skip
def test_nor_can_a_call(text: str, said: str) -> None:
    with pytest.raises(gridc.UsageError) as caught:
        gridc.compile(PAGE, schedule=text)
    assert str(caught.value) == said


@pytest.mark.parametrize(("page", "section", "said"), [
    ((SPECS / "bidirectional.yaml").read_text(), "{order: cells}",
     "'schedule', order: whole cells wait for each other: back[0, 0] waits for back[1, 0], and forth[1, 0] waits for "
     "forth[0, 0]"),
    (BOTH_WAYS, "{order: levels}", "'schedule', order: along time back[0] waits for back[1], which is on a later level"),
    (BOTH_WAYS, "{tile: {time: 4}}", "'schedule', tile: back[1] waits for back[2], which is in a later block"),
    (PAGE, "{order: cells, hoist: [depth]}",
     "'schedule', hoist: no product of 'depth' can be made ahead of it: depth[2, 1] waits for time[1, 1] within the same "
     "stretch"),
])  # fmt: skip
def test_what_a_dependence_forbids_is_refused_with_its_name(page: str, section: str, said: str) -> None:
    with pytest.raises(gridc.SpecError) as caught:
        gridc.read(f"{page}\nschedule: {section}")
    assert caught.value.sentence == said
    assert caught.value.line == page.count("\n") + 2


def test_only_the_fused_lowering_has_a_schedule_of_ones_own() -> None:
    with pytest.raises(gridc.UsageError, match="the plain lowering runs every step as early as it can; a schedule of one's own"):
        gridc.compile(PAGE, lowering="plain", schedule="order=levels")


# -- numbers -------------------------------------------------------------------------------------------------------------


@st.composite
def schedules(draw: Any, case: Case) -> dict[str, Any]:
    names, axes = list(case.spec["transforms"]), list(case.spec["dimensions"])
    found: dict[str, Any] = {"order": draw(st.sampled_from(["auto", "cells", "steps", "levels"]))}
    if draw(st.booleans()):
        found["hoist"] = draw(st.sampled_from(["none", *([name] for name in names), names]))
    found["tile"] = {axis: draw(st.integers(1, 3)) for axis in axes if draw(st.booleans())}
    found["keep"] = draw(st.sampled_from(["all", "all", "little", "10 kB"]))
    return found


def forbidden(case: Case, schedule: dict[str, Any]) -> bool:
    """Whether the oracle's own edges forbid this, at the case's sizes: no block, no level or no cell before what waits for it."""
    sizes = [case.sizes.get(n, n) for n in case.spec["dimensions"].values()]
    edges = [(a[1], b[1]) for b, before in oracle.steps(case.spec, case.sizes).items() for a in before]
    tile = [(list(case.spec["dimensions"]).index(axis), n) for axis, n in schedule["tile"].items()]

    def block(cell: tuple[int, ...], ways: tuple[int, ...]) -> list[int]:
        return [way * (cell[d] // n) for (d, n), way in zip(sorted(tile), ways, strict=True)]

    if tile and not any(
        all(block(a, ways) <= block(b, ways) for a, b in edges) for ways in itertools.product((1, -1), repeat=len(tile))
    ):
        return True
    if schedule["order"] == "cells":
        among = nx.DiGraph([(a, b) for a, b in edges if a != b])
        return not nx.is_directed_acyclic_graph(among)
    long = [d for d, n in enumerate(sizes) if n > 1]
    return schedule["order"] == "levels" and bool(long) and all(any(a[d] > b[d] for a, b in edges) for d in long)


@settings(ROOM, max_examples=40)
@given(st.data(), grids())
def test_a_schedule_changes_no_number_and_what_is_refused_is_illegal(data: st.DataObject, case: Case) -> None:
    schedule = data.draw(schedules(case))
    spec = gridc.read(case.text)
    sizes = spec.sizes(case.sizes)
    try:
        own = asked(spec, {k: v for k, v in schedule.items() if k != "keep"})
        order.check(graph.build(own, sizes))
    except (gridc.UsageError, order.Refused) as refused:
        event(f"refused: {str(refused)[:25]}")
        if "ahead of it" in str(refused):
            return
        # Pages are looked at in a few small blocks; the case's own sizes may be too small to show it.
        small = {**case.sizes}
        assert forbidden(case, schedule) or forbidden_at(case, schedule, small)
        return
    event(f"{schedule['order']}, {'blocks' if schedule['tile'] else 'no blocks'}, {schedule['keep']}")
    if data.draw(st.integers(0, 3)):  # building functions takes the time
        plan(own, sizes, case.batch).verify()
        return
    known, found = (run_unchanged(case, "float64", "fused", schedule=one) for one in (None, schedule))
    assert found[0] == pytest.approx(known[0], rel=1e-12, abs=1e-12)
    for name, array in known[1].items():
        np.testing.assert_allclose(found[1][name], array, rtol=1e-11, atol=1e-12, err_msg=name)
    equal_gradients(found[2], known[2], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("hidden", "batch"), [(3, 1), (33, 16)])
def test_where_the_same_products_are_made_ahead_every_order_has_the_same_bits(hidden: int, batch: int) -> None:
    page = PAGE.replace("hidden: 3", f"hidden: {hidden}").replace("{classes: 2, reads: [time], at: {time: last, depth: last}}",
                                                                  "{raw: true, reads: [time, depth]}")  # fmt: skip
    x = np.random.default_rng(0).normal(size=(batch, 9, 2))
    orders = [f"order={order}{tile}" for order in ("cells", "steps", "levels") for tile in ("", ",tile.time=2")]
    known = gridc.compile(page, schedule="hoist=none", eager=False).predict({"x": x})["y"]
    for asked_for in orders:
        found = gridc.compile(page, schedule=f"{asked_for},hoist=none", eager=False).predict({"x": x})["y"]
        np.testing.assert_array_equal(found, known, err_msg=asked_for)


def forbidden_at(case: Case, schedule: dict[str, Any], sizes: dict[str, int]) -> bool:
    """The same in blocks of two cells at most, at sizes of five where these are free, as pages are looked at."""
    page = {**case.spec, "dimensions": dict.fromkeys(case.spec["dimensions"], 5)}
    fixed = {name: n for name, n in case.spec["dimensions"].items() if isinstance(n, int) and name not in schedule["tile"]}
    page["dimensions"] |= {name: min(n, 3) for name, n in fixed.items()}
    small = {**schedule, "tile": {axis: min(n, 2) for axis, n in schedule["tile"].items()}}
    untied = {name: {**t, "tied": "all"} for name, t in page["transforms"].items()}
    return forbidden(Case({**page, "transforms": untied}, {}, {}, {}, {}, None, 1), small)


# -- memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_what_is_kept_fits_the_budget_in_as_few_segments_as_it_can(share: float) -> None:
    spec = gridc.read(SPECS / "two-grid.yaml")
    sizes, batch = spec.sizes(dict.fromkeys(spec.symbols, 200)), 8
    whole = counts.call_bytes(spec, sizes, batch, 4, True)
    keep = int(share * whole)
    own = asked(spec, {"keep": f"{keep / 1e6:.3f} MB"})
    held = counts.call_bytes(own, sizes, batch, 4, True, True)
    assert held <= 1.05 * keep
    made = plan(own, sizes, batch, room=counts.room(own, sizes, batch, 4)).verify()
    segments = made.sweep.segments
    assert len(segments) > 1
    fewer = plan(own, sizes, batch, room=2 * counts.room(own, sizes, batch, 4))
    assert len(fewer.sweep.segments) <= len(segments)
    assert sum(made.sweep.room) * 4 <= keep


def test_where_nothing_fits_the_least_is_said() -> None:
    grid = gridc.compile(PAGE, schedule="keep=20kB", eager=False)
    x, y = np.zeros((64, 50, 2), np.float32), np.zeros(64, np.int64)
    with pytest.raises(gridc.ResourceError, match=r"'schedule', keep: found 20 kB; a training step with 64 examples of 50 × 2 "
                                                  r"cells holds at least \d+\.\d MB"):  # fmt: skip
        grid.loss_and_gradients({"x": x}, {"y": y})
    assert grid.predict({"x": x})["y"].shape == (64, 2), "a prediction keeps nothing"


def test_the_plan_of_a_call_is_that_of_its_schedule() -> None:
    spec = asked(gridc.read(PAGE), "order=levels,tile.time=4")
    made = plans.planned(spec, np.array([2, 9, 2]), np.array([[9], [9]]), 4)
    assert made.order.name.startswith("wavefronts of cells, level by level along")
    assert made.order.name.endswith("in blocks of time 4")
