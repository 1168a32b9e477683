"""A grid cut along a dimension for several ranks: what may be cut, what crosses, and how long the pipeline takes, on paper."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import pytest
from click.testing import CliRunner

from gridc.cli import cli
from gridc.errors import ResourceError, UsageError
from gridc.insight import network
from gridc.insight.network import Network
from gridc.insight.sharding import BACKWARD, shard
from gridc.scheduling.check import parse
from gridc.scheduling.counts import call_bytes

FREE = Network(0.0, math.inf)
GRID = """
name: cut
dimensions: {time: T, depth: 6}
transforms:
  time: {cell: lstm, hidden: 5, TIED}
  depth: {cell: gru, hidden: 3, TIED}
priority: [time, depth]
inputs:
  x: {features: 2, enters: depth}
outputs:
  y: {classes: 2, reads: [depth], at: {time: last, depth: last}}
"""
SPEC = parse(GRID.replace("TIED", "tied: [time]"))


def cut(spec=SPEC, sizes=(12, 6), ranks=3, along="depth", tile=None, net=FREE, batch=4):
    return shard(spec, sizes, ranks, along, {"time": 4} if tile is None else tile, batch, net)


def test_a_pipeline_fills_and_drains():
    """With equal tiles that cost ``c``, and messages that cost nothing, ranks + tiles - 1 turns."""
    made = cut()
    ((forth, back),) = set(made.tile_seconds)
    assert made.forward == pytest.approx((3 + 3 - 1) * forth)
    assert made.backward == pytest.approx((3 + 3 - 1) * back)
    assert forth < back == pytest.approx(BACKWARD * forth), "what is done with weights, too"
    assert cut(net=replace(FREE, pace=2.0)).seconds == pytest.approx(2 * made.seconds)
    assert made.bubble == pytest.approx(1 - 3 / 5)
    late = cut(net=Network(1.0, math.inf))
    assert late.forward == pytest.approx(2 * 1.0 + made.forward), "every rank but the first is a latency later"
    slow = cut(net=Network(0.0, 4 * 3 * 4 * 4))  # a tile's boundary in a second
    assert slow.forward == pytest.approx(2 * 1.0 + made.forward)
    assert slow.summing == pytest.approx(2 * (2 / 3) * 4 * (2 * 3 + 3 + 3 * 2 + 2) / (4 * 3 * 4 * 4)), "of what all have"
    alone = cut(ranks=1, tile={"time": 12})
    assert alone.seconds == pytest.approx(alone.serial)
    assert alone.messages == {}


def test_what_crosses_is_each_vector_once():
    made = cut(net=FREE)
    # 4 cells of time, a GRU's 3 numbers, 4 examples of 4 bytes; three tiles cross each of two cuts.
    assert sorted(made.messages.values()) == [4 * 3 * 4 * 4] * 6
    assert [one.messages for one in made.each] == [3, 6, 3]
    along = cut(along="time", ranks=4, tile={"depth": 2})
    # The LSTM's hidden and memory, of 2 cells of depth.
    assert sorted(along.messages.values()) == [2 * 2 * 5 * 4 * 4] * 9
    tied = cut(parse(GRID.replace(", TIED", "")), net=Network(0.0, 1.0))
    shared = sum(rows * gates * hidden + gates * hidden for rows, gates, hidden in ((8, 4, 5), (8, 3, 3)))
    assert tied.summing == pytest.approx(2 * (2 / 3) * 4 * shared, rel=0.2), "a GRU's biases are two kinds"


def test_uneven_blocks_and_memory():
    made = cut(ranks=4, tile={"time": 5})
    assert [one.cells for one in made.each] == [1, 2, 1, 2]
    assert made.shape == (3, 4)
    whole = cut(ranks=1, tile={"time": 12})
    assert whole.each[0].peak == call_bytes(SPEC, (12, 6), 4, 4, True)
    assert made.each[0].peak < made.each[1].peak < whole.each[0].peak / 2


def test_the_best_tile_is_no_worse_than_any_other():
    net = Network(2e-6, 10e9)
    best = cut(sizes=(64, 6), tile={}, net=net)
    assert best.tile
    for size in (1, 2, 4, 8, 16, 32, 64):
        assert best.seconds <= cut(sizes=(64, 6), tile={"time": size}, net=net).seconds


BOTH = """
name: both
dimensions: {time: T, depth: 4}
transforms:
  there: {cell: lstm, hidden: 2, along: time, reads: [there, depth]}
  back: {cell: lstm, hidden: 2, along: time, direction: backward, reads: [back, depth]}
  depth: {cell: lstm, hidden: 2, reads: [there, back, depth]}
priority: [[there, back], depth]
inputs:
  x: {features: 2, enters: depth}
outputs:
  y: {classes: 2, reads: [depth], at: {time: all, depth: last}}
"""


def test_a_dimension_whose_dependences_run_both_ways_is_refused_by_name():
    both = parse(BOTH)
    words = r"along 'time': back\[\d, \d\] waits for back\[\d, \d\], which lies on a later rank, while there\[\d, \d\] waits for"
    with pytest.raises(UsageError, match=words):
        cut(both, (8, 4), 2, "time", {})
    with pytest.raises(UsageError, match=r"'both' cannot go on in tiles of time=2: .* waits for .*neither tile could end"):
        cut(both, (8, 4), 2, "depth", {"time": 2})
    assert cut(both, (8, 4), 2, "depth", {}).tile == {}, "whole levels of it can"
    back = parse(BOTH.replace("along: time, reads: [there", "along: time, direction: backward, reads: [there"))
    made = cut(back, (8, 4), 2, "time", {"depth": 2})
    assert {(int(made.rank[tile]), to) for tile, to in made.messages} == {(1, 0)}, "from the last rank to the first"
    wrapped = parse(GRID.replace("TIED", "tied: [time]").replace("hidden: 3,", "hidden: 3, start: {wrap: {time: -1}},"))
    with pytest.raises(UsageError, match="'cut' cannot be cut along 'depth'"):
        cut(wrapped, (12, 6), 2, "depth", {})


@pytest.mark.parametrize(("given", "words"), [
    ({"along": "dept"}, "no dimension 'dept'; expected time or depth — did you mean 'depth'"),
    ({"ranks": 7}, "'depth' has 6 cells, fewer than the 7 ranks"),
    ({"tile": {"depth": 2}}, "'depth' is cut into a block for each rank"),
])  # fmt: skip
def test_what_cannot_be_asked(given, words):
    with pytest.raises(UsageError, match=words):
        cut(**given)
    with pytest.raises(ResourceError, match="dependences are looked at one by one"):
        cut(sizes=(10_000_000, 6))


def test_on_the_command_line(tmp_path, monkeypatch):
    page = tmp_path / "cut.yaml"
    page.write_text(GRID.replace("TIED", "tied: [time]"))
    words = ["schedule", str(page), "--size", "T=32", "--ranks", "2", "--shard", "depth", "--tile", "time=8"]
    monkeypatch.setattr(network, "cache_folder", lambda: tmp_path)
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "cut along depth for 2 ranks, in tiles of time 8" in done.output
    assert "2 µs and 10 GB/s, assumed (gridc doctor --mpi measures)" in done.output
    network.keep(3e-6, 5e9)
    told = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert told["network"] == {"latency": 3e-6, "bandwidth": 5e9, "measured": True, "pace": 1.0}
    assert told["tile"] == {"time": 8}
    assert [one["cells"] for one in told["each"]] == [3, 3]
    trace = tmp_path / "cut.trace"
    assert CliRunner().invoke(cli, [*words, "-o", str(trace)]).exit_code == 0
    events = json.loads(trace.read_text())["traceEvents"]
    assert [e["args"]["name"] for e in events if e["name"] == "thread_name"] == ["rank 0, depth 0:3", "rank 1, depth 3:6"]
    for track in (1, 2):
        slices = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == track)
        assert len(slices) == 4 + 4 + 1, "tiles forward and back, and the sum"
        assert all(end <= start + 1e-6 for (_, end), (start, _) in itertools.pairwise(slices))
    assert {e["args"]["bytes"] for e in events if e["ph"] == "b"} == {8 * 3 * 16 * 4}
    assert sum(e["ph"] == "b" for e in events) == sum(e["ph"] == "f" for e in events) == 8
    (tmp_path / network.FILE).write_text('{"latency": -1, "bandwidth": 0}')
    assert not network.recalled().measured
    with pytest.raises(UsageError, match="give both"):
        CliRunner().invoke(cli, ["schedule", str(page), "--size", "T=32", "--ranks", "2"], catch_exceptions=False)
    with pytest.raises(UsageError, match="--tile: found 'time'; expected DIMENSION=NUMBER"):
        CliRunner().invoke(cli, [*words[:-1], "time"], catch_exceptions=False)


def test_messages_are_measured_between_two_processes(tmp_path, monkeypatch):
    pytest.importorskip("mpi4py", reason="messages need mpi4py: pip install 'gridc[mpi]'")
    from gridc.benchmarks import messages

    monkeypatch.setattr(network, "cache_folder", lambda: tmp_path)
    found = messages.measure()
    assert found == network.recalled()
    assert 0 < found.latency < 10
    assert found.bandwidth > 0
    assert found.pace > 0
