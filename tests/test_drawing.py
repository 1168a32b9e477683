"""Pictures: every kind, of every spec, is sound SVG; PNG where matplotlib is; what notebooks show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import gridc
from gridc.pictures import drawing
from gridc.pictures.scene import DARK, ON_DEEP, ON_PALE, SHADE, Box, Line, Scene, Text

SPECS = sorted((Path(__file__).parent.parent / "specs").glob("*.yaml"))
SVG = "{http://www.w3.org/2000/svg}"

PRIORITISED = """
name: "two <grid>"
dimensions: {time: T, depth: 3}
transforms:
  time: {cell: lstm, hidden: 8}
  depth: {cell: lstm, hidden: 8}
priority: [time, depth]
inputs: {tokens: {features: 3, enters: depth}}
outputs: {label: {classes: 2, reads: [depth], at: {time: last, depth: last}}}
"""


def words(picture: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture).iter(f"{SVG}text")]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_picture_of_every_spec(path: Path):
    spec = gridc.read(path)
    for picture in drawing.PICTURES:
        scene = drawing.scene(spec, picture)
        text = scene.svg()
        root = ET.fromstring(text)
        assert spec.name in (root.findtext(f"{SVG}title") or "")
        assert not re.search(r"\b(nan|inf)\b", text)
        # Nothing lies outside the picture's frame.
        x, y, w, h = map(float, root.attrib["viewBox"].split())
        for element in root.iter(f"{SVG}text"):
            assert x <= float(element.attrib["x"]) <= x + w
            assert y <= float(element.attrib["y"]) <= y + h
        # On a dark page every word stands out from the page, unless it stands on a filled area, which stays as it is.
        for shape in scene.shapes:
            if isinstance(shape, Text) and shape.colour not in (ON_DEEP, ON_PALE):
                assert contrast(DARK[shape.colour], DARK[SHADE]) > 4.5
                assert f"[fill='{shape.colour}']{{fill:{DARK[shape.colour]}}}" in text


def test_the_unrolled_grid_has_its_inputs_and_outputs():
    said = words(gridc.schedule(PRIORITISED, T=5).to_svg())
    assert said.count("tokens") == 5
    assert said.count("label") == 1
    assert "two <grid>: time T = 5 × depth 3" in said


def test_a_cell_shows_priority_as_a_wire_from_one_transform_to_the_next():
    scene = drawing.scene(gridc.read(PRIORITISED), "cell")
    wires = [shape for shape in scene.shapes if isinstance(shape, Line) and shape.width == 2.2]
    assert len(wires) == 1
    texts = {shape.text: shape.x for shape in scene.shapes if isinstance(shape, Text)}
    assert texts["h time[entering]"] < texts["time"] < texts["depth"] < texts["h' depth"]


def test_the_wavefront_picture_numbers_every_step():
    plan = gridc.schedule(PRIORITISED, T=4)
    notes = [shape.note for shape in drawing.scene(plan, "wavefronts").shapes if isinstance(shape, Box)]
    assert notes == [f"{step}: wavefront {plan.levels[step]}" for step in plan.levels]


def test_large_grids_are_cut():
    plan = gridc.schedule(PRIORITISED, T=5000)
    for picture in drawing.PICTURES:
        if picture != "workers":
            assert len(plan.to_svg(picture)) < 400_000
    with pytest.raises(gridc.UsageError, match="at most 5,000"):
        plan.to_svg("workers")
    assert "time T = 5000 (6 drawn)" in plan.to_svg()


def test_the_workers_are_those_of_the_simulation():
    plan = gridc.schedule(PRIORITISED, T=4)
    bars = [shape for shape in drawing.scene(plan, "workers").shapes if isinstance(shape, Box) and shape.note]
    assert {bar.note for bar in bars} == {str(step) for step in plan.levels}
    runs = plan.simulate(4).timeline
    order = [str(step) for line in runs for _, _, step in line]
    assert [bar.note for bar in bars] == order
    assert "worker 5" in words(plan.to_svg("workers", 6))


def test_a_memory_attends_to_its_facts():
    for name, count in (("memory-network", 2), ("memory-network-adjacent", 2)):
        spec = gridc.read(SPECS[0].with_name(f"{name}.yaml"))
        (facts,) = (i.name for i in spec.inputs.values() if i.facts)
        assert facts in words(drawing.svg(spec, "cell"))
        assert facts in words(drawing.svg(spec, "grid"))
        assert spec.dimensions[0].size == count


def test_an_unknown_picture():
    with pytest.raises(gridc.UsageError, match="did you mean 'cell'"):
        gridc.schedule(PRIORITISED, T=2).to_svg("cells")


def test_text_is_escaped():
    scene = Scene("a < b")
    scene.add(Text(0, 0, "<script>"))
    assert "<script>" not in scene.svg()
    assert words(scene.svg()) == ["<script>"]


@pytest.mark.parametrize("picture", drawing.PICTURES)
def test_png(tmp_path: Path, picture: str):
    pytest.importorskip("matplotlib")
    drawing.png(gridc.read(PRIORITISED), tmp_path / "picture.png", picture, dpi=60)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_notebooks():
    spec = gridc.read(PRIORITISED)
    assert spec._repr_html_().count("<svg") == 2
    shown = gridc.schedule(spec, T=4)._repr_html_()
    assert shown.count("<svg") == 2
    assert "wavefronts (span)" in shown
    assert "two &lt;grid&gt;" in shown
    grid = gridc.compile(spec, lowering="fused")._repr_html_()
    assert grid.count("<svg") == 2
    assert grid.startswith("<pre")
    assert "two &lt;grid&gt;" in grid


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances, as the Web Content Accessibility Guidelines 2.2 count it."""
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
