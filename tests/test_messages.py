"""What a person reads who made a mistake in a spec: the exact sentence, and the place that it points at."""

from __future__ import annotations

import sys

import pytest

import gridc
from gridc import cli
from gridc.errors import SpecError
from gridc.scheduling import check

GOOD = """\
name: tiny
dimensions: {time: T, depth: 2}
transforms:
  depth: {cell: lstm, hidden: 4}
  time: {cell: lstm, hidden: 4, tied: [time]}
priority: [depth, time]
inputs:
  ids: {vocabulary: 5, enters: depth}
outputs:
  label: {classes: 2, reads: [time], at: {time: last, depth: last}}
training:
  task: {parity: {bits: 3}}
"""
TRANSFORM_KEYS = ("activation, along, attends, attention, bias, cell, direction, dropout, embeddings, forget_bias, hidden, init, "
                  "peepholes, reads, shares, start, tied or zoneout")  # fmt: skip
CELLS = "lstm, lstm-paper, gru, dense, highway, leaky-lstm, memory, pass"
TOP_KEYS = "cells, dimensions, inputs, name, outputs, priority, schedule, sweep, training or transforms"
AT = "a mapping of dimension to first, last, all, an index or a list of indices"

# What is changed in the good spec, line:column, and the sentence.
BROKEN = {
    "an unknown key": ("depth: {cell: lstm, hidden", "depth: {cell: lstm, hiden", "4:23",
        f"transform 'depth': unknown key 'hiden'; expected {TRANSFORM_KEYS} — did you mean 'hidden'?"),
    "an unknown section": ("outputs:", "outptus:", "9:1",
        f"the spec: unknown key 'outptus'; expected {TOP_KEYS} — did you mean 'outputs'?"),
    "an unknown cell": ("depth: {cell: lstm,", "depth: {cell: lstn,", "4:17",
        f"transform 'depth', cell: found 'lstn'; expected one of {CELLS} — did you mean 'lstm'?"),
    "a word for a number": ("hidden: 4}", "hidden: four}", "4:31",
        "transform 'depth', hidden: found 'four'; expected a positive integer"),
    "a fraction for an integer": ("hidden: 4}", "hidden: 4.5}", "4:31",
        "transform 'depth', hidden: found 4.5; expected a positive integer"),
    "YAML 1.1's yes": ("hidden: 4}", "hidden: yes}", "4:31",
        "transform 'depth', hidden: found 'yes'; expected a positive integer"),
    "no units": ("hidden: 4}", "hidden: 0}", "4:31", "transform 'depth', hidden: found 0; expected a positive integer"),
    "units left out": (", hidden: 4}", "}", "4:3", "transform 'depth' needs the key 'hidden': a positive integer"),
    "a list for a mapping": ("{time: T, depth: 2}", "[time, depth]", "2:13",
        "'dimensions': found ['time', 'depth']; expected a mapping of name to a positive integer or a symbol"),
    "no name": ("name: tiny\n", "", "1:1", "the spec needs the key 'name': a name"),
    "a key twice": ("name: tiny\n", "name: tiny\nname: again\n", "2:1",
        "found the key 'name' twice; expected each key once"),
    "a transform twice": ("  time: {cell", "  depth: {cell", "5:3", "found the key 'depth' twice; expected each key once"),
    "an undeclared transform entered": ("enters: depth", "enters: dept", "8:32",
        "input 'ids', enters: there is no transform 'dept'; expected depth or time — did you mean 'depth'?"),
    "an undeclared transform read": ("reads: [time]", "reads: [tiem]", "10:31",
        "output 'label', reads: there is no transform 'tiem'; expected depth or time — did you mean 'time'?"),
    "an undeclared transform in the priority": ("priority: [depth, time]", "priority: [depth, tme]", "6:19",
        "'priority': there is no transform 'tme'; expected depth or time — did you mean 'time'?"),
    "a transform twice in the priority": ("priority: [depth, time]", "priority: [depth, time, depth]", "6:25",
        "priority names 'depth' twice"),
    "an undeclared dimension to alternate over": ("hidden: 4}", "hidden: 4, direction: {over: dept, cycle: [forward]}}", "4:52",
        "transform 'depth', direction.over: there is no dimension 'dept'; expected time or depth — did you mean 'depth'?"),
    "a read of a misspelt memory": ("reads: [time]", "reads: [time.memry]", "10:31",
        "output 'label': found 'time.memry'; expected 'time.memory'"),
    "an output of a dimension that does not exist": ("at: {time: last", "at: {tim: last", "10:48",
        "output 'label', at.tim: there is no dimension 'tim'; expected time or depth — did you mean 'time'?"),
    "an index off the grid": ("depth: last}}", "depth: 7}}", "10:62",
        "output 'label', at: found the index 7; dimension 'depth' has 2 cells, 0 to 1"),
    "untied along a symbolic size": ("tied: [time]", "tied: none", "5:39",
        "transform 'time' is untied along 'time', whose size 'T' is known only at the call; expected a number for that size, "
        "or 'time' among the tied dimensions"),
    "a cycle inside a cell": ("hidden: 4}", "hidden: 4, reads: [{of: time, offset: {}}]}", "4:34",
        "these steps wait for each other: depth[0, 0] ← time[0, 0] ← depth[0, 0] ('←' is 'waits for')"),
    "a cycle across the grid": ("hidden: 4, tied: [time]}",
        "hidden: 4, reads: [{of: depth, offset: {}}, {of: time, offset: {time: 1}}]}",
        "5:33", "these steps wait for each other: time[0, 0] ← time[1, 0] ← time[0, 0] ('←' is 'waits for')"),
    "one class": ("classes: 2", "classes: 1", "10:20", "output 'label', classes: found 1; expected an integer of at least 2"),
    "no kind of output": ("classes: 2, ", "", "10:3",
        "output 'label' has no kind; expected one of classes, binary, features, raw"),
    "two kinds of output": ("classes: 2, ", "classes: 2, binary: true, ", "10:3",
        "output 'label' has classes and binary; expected one of classes, binary, features, raw"),
    "two kinds of input": ("vocabulary: 5", "vocabulary: 5, features: 3", "8:3",
        "input 'ids' has both features and vocabulary; expected one of them"),
    "an input that goes nowhere": (", enters: depth", "", "8:3",
        "input 'ids' has no place to go; expected enters, joins or facts"),
    "a name used twice": ("  ids:", "  time:", "8:3",
        "'time' is already the name of one of the transforms; parameters are named after transforms, inputs and outputs, so each "
        "needs its own"),
    "shared weights of another shape": ("hidden: 4}", "hidden: 4, shares: time}", "4:42",
        "transform 'depth' needs weights of 8 rows × 16 columns, and 'time' has 8 × 16 (untied 2)"),
    "shared peepholes of another number": ("hidden: 4}", "hidden: 4, tied: [time], peepholes: true, shares: time}", "4:73",
        "transform 'depth' has 12 numbers in its peepholes and 'time' has 0, so they cannot be shared"),
    "a cell along too many dimensions": ("depth: {cell: lstm, hidden: 4}",
        "depth: {cell: gru, hidden: 4, along: [time, depth]}", "4:40",
        "transform 'depth': a gru cell travels along 1 dimension, not along 2"),
    "an unknown option of a task": ("bits: 3", "bitz: 3", "12:19",
        "'training', task.parity: unknown key 'bitz'; expected bits, samples, target or values — did you mean 'bits'?"),
    "more units than can be counted": ("hidden: 4}", "hidden: 99999999999999999999999999}", "4:31",
        "transform 'depth', hidden: found 99999999999999999999999999; expected a positive integer, up to 2,147,483,647"),
    "more weights than an array can be": ("hidden: 4}", "hidden: 1500000000}", "4:31",
        "the weights 'depth.W' would be 1,500,000,004 × 6,000,000,000 numbers, more than any array can hold"),
    "an offset that leads far off": ("hidden: 4}", "hidden: 4, reads: [{of: depth, offset: {depth: -2147483648}}]}", "4:70",
        "transform 'depth', reads.offset.depth: found -2147483648; expected an integer, up to 2,147,483,647"),
    "an index that no grid has": ("at: {time: last", "at: {time: 3000000000", "10:49",
        "output 'label', at.time: found 3000000000; expected a mapping of dimension to first, last, all, an index or a list of "
        "indices under 'at', up to 2,147,483,647"),
    "a tab": ("outputs:\n", "outputs:\n\tx: 1\n", "10:1",
        "this is not YAML: found a tab at the start of a line; expected spaces"),
    "an open brace": ("time: T, depth: 2}", "time: T, depth: 2", "2:13",
        "this is not YAML: found a '{' that is never closed; expected '}' before line 3"),
    "an open brace behind closed ones": ("depth: last}}", "depth: last}", "10:10",
        "this is not YAML: found a '{' that is never closed; expected '}' before line 11"),
    "an open list": ("[time]}", "[time}", "5:39",
        "this is not YAML: found a '[' that is never closed; expected ']' before '}'"),
    "an open brace at the end": ("bits: 3}}", "bits: 3}", "12:9",
        "this is not YAML: found a '{' that is never closed; expected '}' before the end"),
    "a brace too many": ("depth: 2}", "depth: 2}}", "2:32", "this is not YAML: found a '}' that closes nothing"),
    "an open quote": ("name: tiny", "name: 'tiny", "1:7",
        "this is not YAML: found a quote that is never closed; expected ' where the text ends"),
    "a missing comma": ("cell: lstm, hidden: 4}", "cell: lstm hidden: 4}", "4:28",
        "this is not YAML: expected ',' or '}', but got ':'"),
    "cells by one word": ("at: {time: last, depth: last}", "at: last", "10:42",
        f"output 'label', at: found 'last'; expected {AT} — write at: {{time: last, depth: last}}"),
    "cells by an index": ("enters: depth}", "enters: depth, at: 0}", "8:43",
        f"input 'ids', at: found 0; expected {AT} — write at: {{time: 0, depth: 0}}"),
    "cells by a dimension": ("at: {time: last, depth: last}", "at: depth", "10:42",
        f"output 'label', at: found 'depth'; expected {AT} — write at: {{depth: last}}"),
    "a word for a list": ("reads: [time]", "reads: time", "10:30",
        "output 'label', reads: found 'time'; expected a list of TRANSFORM or TRANSFORM.memory — write reads: [time]"),
    "a word for a block": ("priority: [depth, time]", "schedule: levels", "6:11",
        "'schedule': found 'levels'; expected the schedule block — write schedule: {order: levels}"),
    "a task for a block": ("training:\n  task: {parity: {bits: 3}}", "training: parity", "11:11",
        "'training': found 'parity'; expected the training block — write training: {task: parity}"),
}  # fmt: skip


def test_the_good_spec_is_good():
    assert gridc.read(GOOD).name == "tiny"


@pytest.mark.parametrize("name", BROKEN)
def test_every_mistake_is_one_sentence_at_its_place(name):
    old, new, place, sentence = BROKEN[name]
    assert old in GOOD
    with pytest.raises(SpecError) as caught:
        gridc.read(GOOD.replace(old, new, 1))
    error = caught.value
    assert error.sentence == sentence
    assert (f"{error.line}:{error.column}" if error.line else "") == place
    assert error.exit_code == 2
    if place:
        head, line, carets = str(error).split("\n")
        assert head == f"<spec>:{place}: {sentence}"
        assert line[carets.index("^") :].startswith(error.text[error.column - 1 :][:10])


def test_a_bracket_that_is_left_open_is_told_on_its_own_line():
    for end, bracket in enumerate(GOOD):
        if bracket in "}]":
            with pytest.raises(SpecError, match="that is never closed") as caught:
                gridc.read(GOOD[:end] + GOOD[end + 1 :])
            assert caught.value.line == GOOD.count("\n", 0, end) + 1
            assert caught.value.text[caught.value.column - 1] in "{["


def test_offsets_that_lead_off_the_grid_are_read_like_any_other(monkeypatch):
    largest: list[int] = []
    built = check.graph.build
    monkeypatch.setattr(check.graph, "build", lambda spec, sizes: largest.append(max(sizes)) or built(spec, sizes))
    gridc.read(GOOD.replace("hidden: 4}", "hidden: 4, reads: [{of: depth, offset: {depth: -2147483647}}]}", 1))
    assert max(largest) <= check.MOST


@pytest.mark.parametrize("size", ["0", "-3", "2.5"])
def test_a_dimension_of_no_size(size):
    with pytest.raises(SpecError, match=rf"dimension 'depth': found {size}; expected a positive integer or a symbol") as caught:
        gridc.read(GOOD.replace("depth: 2", f"depth: {size}"))
    assert (caught.value.line, caught.value.column) == (2, 30)


HOSTILE = {
    "aliases": (b"a: &a [x, x]\nb: &b [*a, *a]\nname: *b\n", "found the anchor '&a'"),
    "a bomb of aliases": (
        "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]).encode(),
        "found the anchor"),
    "3,000 levels in brackets": (b"name: " + b"[" * 3000, "more than 64 levels of nesting"),
    "3,000 levels of mappings": (b"{a: " * 3000, "more than 64 levels of nesting"),
    "3,000 levels of lines": ("\n".join(" " * i + "a:" for i in range(600)).encode(), "more than 64 levels of nesting"),
    "a Python tag": (b"name: !!python/object/apply:os.system ['true']\n", "found the tag"),
    "a tag": (b"name: !secret x\n", "found the tag '!secret'"),
    "10 MB": (b"# a comment\n" * 900_000, "more than 256 KiB of text"),
    "10 MB on one line": (b"name: " + b"x" * 10_000_000, "more than 256 KiB of text"),
    "100,000 values": (b"name: [" + b"a," * 100_000 + b"]\n", "more than 2,500 keys and values"),
    "25,000 keys": (b"".join(b"k%d: 1\n" % i for i in range(25_000)), "more than 2,500 keys and values"),
    "an endless string": (b'name: "' + b"x" * 250_000, "this is not YAML"),
    "binary": (bytes(range(256)) * 40, "expected YAML"),
    "UTF-16": ("name: x".encode("utf-16"), "expected YAML"),
    "a NUL": (b"name: a\x00b\n", "control character"),
    "two documents": (b"name: a\n---\nname: b\n", "a second document"),
    "duplicate keys": (b"name: a\nname: b\n", "found the key 'name' twice"),
    "nothing": (b"", "found nothing; expected a mapping"),
    "a number": (b"12", "expected a mapping"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_before_much_is_done(name, tmp_path, capsys):
    content, words = HOSTILE[name]
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError):  # what is imported at the first call is not counted
        gridc.read("name: [\n")
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event.endswith("call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        code = cli.run(["check", str(path)])
    finally:
        sys.setprofile(before)
    told = capsys.readouterr()
    assert code == 2
    assert calls < 300_000, "a page of 256 KiB may be looked at once, letter by letter"
    assert words in told.err
    assert "Traceback" not in told.err
    assert len(told.err) < 3000
