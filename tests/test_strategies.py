"""What the strategies draw, counted: a kind of grid that is never drawn is a kind that no test looks at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import oracle
from strategies import Case, grids

DRAWN = 120
MANY = settings(derandomize=True, database=None, deadline=None, max_examples=DRAWN, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck))  # fmt: skip
"""The same grids at every run."""


def wrapped(grid: oracle.Grid, name: str, sizes: oracle.Coordinate) -> set[oracle.Source]:
    """What a transform reads that wraps around: the state that left the far end."""
    t = grid.transforms[name]
    found = {grid.found(read, p, sizes) for p in oracle.cells(sizes) for read in t.reads}
    return {source for source in found if source.step is not None and source.entry is not None}


def weighted_reads(grid: oracle.Grid) -> set[str]:
    """The transforms whose vectors go into products, be it through passes."""
    seen = [read.of for t in grid.transforms.values() if t.cell != "pass" for read in t.reads]
    for name in seen:
        if grid.transforms[name].cell == "pass":
            seen += [read.of for read in grid.transforms[name].reads if read.of not in seen]
    return set(seen)


def kinds(case: Case) -> Iterator[str]:
    """The words for what is in a drawn call."""
    grid = oracle.Grid(case.spec)
    ragged = case.lengths is not None and any(len(set(n.tolist())) > 1 for n in case.lengths.values())
    sizes, read_out = grid.sizes(case.sizes), {name for o in grid.outputs.values() for name, _ in o.taps}
    in_products = weighted_reads(grid)
    for name, t in grid.transforms.items():
        if t.peepholes:
            yield f"peepholes along {'several' if len(t.along) > 1 else 'one'}"
        if any(over is not None for _, over in t.ways):
            yield "alternating directions"
        if t.zoneout:
            yield "zoneout"
        if t.weights != name:
            yield "shared weights"
        if t.cell == "memory" and grid.inputs[str(t.attends)].embed is not None:
            yield "embedded facts"
        around = wrapped(grid, name, sizes) if t.cell == "pass" else set()
        if around:
            yield "a pass reads what wraps"
        if name in read_out and any(source.of not in in_products for source in around):
            yield "a wrap after the last product"
            if ragged:
                yield "a wrap after the last product at ragged lengths"
    if any("dropout" in entry for entry in case.spec["transforms"].values()):
        yield "dropout"
    if ragged:
        yield "ragged lengths"


@pytest.mark.parametrize(
    ("strategy", "least"),
    [
        (grids(), {"peepholes along one": 5, "peepholes along several": 2, "alternating directions": 10, "ragged lengths": 10,
                   "shared weights": 1, "a pass reads what wraps": 8, "a wrap after the last product": 5,
                   "a wrap after the last product at ragged lengths": 1}),
        (grids(memory=True), {"embedded facts": 15}),
        (grids(noise=True), {"zoneout": 60, "dropout": 30}),
    ],
    ids=["all", "memory", "noise"],
)  # fmt: skip
def test_what_no_other_test_would_miss_is_drawn(strategy: st.SearchStrategy[Case], least: dict[str, int]) -> None:
    counts: Counter[str] = Counter()

    @MANY
    @given(strategy)
    def draw(case: Case) -> None:
        counts.update(set(kinds(case)))

    draw()
    assert not {kind: counts[kind] for kind, n in least.items() if counts[kind] < n}
