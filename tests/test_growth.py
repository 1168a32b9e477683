"""What does not grow with the sizes of a grid: the PyTensor graph, the functions, the kernels."""

import numpy as np
import pytest

import gridc
from gridc.fusion import jobs, kernels

TEXT = """
name: growth
dimensions: {{time: T, depth: {depth}}}
transforms:
  time: {{cell: {cell}, hidden: {hidden}, tied: {tied}}}
  depth: {{cell: {cell}, hidden: {hidden}}}
priority: [time, depth]
inputs:
  x: {{features: 3, enters: depth}}
outputs:
  y: {{classes: 4, reads: [depth], at: {{time: last, depth: last}}}}
"""


def grid(depth=2, hidden=4, cell="lstm", tied="all", **options):
    return gridc.compile(TEXT.format(depth=depth, hidden=hidden, cell=cell, tied=tied), **options)


def nodes(grid):
    return {name: len(f.maker.fgraph.apply_nodes) for name, f in grid.functions._made.items()}


def call(grid, time, batch):
    random = np.random.default_rng(0)
    return grid.loss_and_gradients({"x": random.normal(size=(batch, time, 3))}, {"y": random.integers(0, 4, batch)})


@pytest.mark.parametrize("tied", ["all", "[time]"])
def test_the_graph_does_not_grow(tied):
    small, large = grid(2, 4, tied=tied), grid(30, 40, tied=tied)
    assert nodes(small) == nodes(large)
    assert set(nodes(small)) == {"predict", "gradients"}
    assert max(nodes(small).values()) < 150


def test_the_plain_graph_does_not_grow():
    counts = [nodes(grid(depth, hidden, lowering="plain")) for depth, hidden in ((2, 4), (9, 6))]
    assert counts[0] == counts[1]


def test_other_sizes_build_nothing():
    one = grid(3, 8)
    call(one, 2, 1)
    built = kernels.load.cache_info().misses, jobs._doing.cache_info().misses, dict(one.functions._made)
    seconds = dict(one.compile_seconds)
    for time, batch in ((7, 3), (40, 64), (1, 2)):
        call(one, time, batch)
    assert built == (kernels.load.cache_info().misses, jobs._doing.cache_info().misses, dict(one.functions._made))
    assert seconds == one.compile_seconds


def test_larger_grids_build_no_kernels():
    call(grid(3, 8), 4, 2)
    built = kernels.load.cache_info().misses, jobs._doing.cache_info().misses
    call(grid(17, 24, tied="[time]"), 9, 5)
    assert built == (kernels.load.cache_info().misses, jobs._doing.cache_info().misses)


def test_the_program_of_a_uniform_grid_grows_with_its_wavefronts_only():
    from gridc.scheduling.check import read
    from gridc.scheduling.plan import plan

    spec = read(TEXT.format(depth=10, hidden=4, cell="lstm", tied="all"))
    plans = [plan(spec, (time, 10), batch) for time, batch in ((20, 4), (40, 4), (40, 64))]
    batches = [len(each.sweep.segments[0].program.batches) for each in plans]
    assert batches == [2 * 29, 2 * 49, 2 * 49]
