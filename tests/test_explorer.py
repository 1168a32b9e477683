"""The explorer: one page that loads nothing, driven in a real headless Chromium by clicks and keys, and read."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import browser
import gridc
from gridc.pictures import explorer
from gridc.scheduling.check import asked
from gridc.scheduling.graph import Step

TWO = """
name: "two </script><b>"
dimensions: {time: T, depth: 3}
transforms:
  time: {cell: lstm, hidden: 8, tied: [time]}
  depth: {cell: lstm, hidden: 8}
priority: [time, depth]
inputs: {tokens: {features: 3, enters: depth}}
outputs: {label: {classes: 2, reads: [depth], at: {time: last, depth: last}}}
"""
STACKED = """
name: stacked
dimensions: {time: T, depth: 2}
transforms:
  time: {cell: lstm, hidden: 256, tied: [time]}
  depth: {cell: pass, reads: [time]}
priority: [time, depth]
inputs: {x: {features: 3, joins: [time], at: {depth: first}}}
outputs: {y: {classes: 2, reads: [time], at: {depth: last}}}
"""
FOUR = """
name: four
dimensions: {x: 4, y: 4, z: 3, depth: 2}
transforms:
  x: {cell: lstm, hidden: 4}
  y: {cell: lstm, hidden: 4}
  z: {cell: lstm, hidden: 4}
  depth: {cell: lstm, hidden: 4}
inputs: {i: {features: 3, enters: depth}}
outputs: {o: {classes: 2, reads: [depth]}}
"""


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_holds_the_order_that_runs_and_its_blocks():
    spec = asked(gridc.read(STACKED), "order=levels,tile.time=4")
    data = _data(gridc.schedule(spec, T=6).to_html())
    turns = np.frombuffer(base64.b64decode(data["turns"]), "<i4").reshape(2, 6, 2)
    # The first four cells along time of the lower level, then those of the upper one, then the last two of each.
    assert turns[0].tolist() == [[0, 4], [1, 5], [2, 6], [3, 7], [8, 10], [9, 11]]
    assert turns[1].tolist() == turns[0].tolist(), "what is handed on is there with what it is"
    assert data["turnWidths"] == [2] * 12
    assert data["tile"] == [4, 0]
    assert data["order"].endswith("level by level along depth, in blocks of time 4")


def test_the_page_holds_the_schedule_and_loads_nothing():
    plan = gridc.schedule(TWO, T=6)
    page = plan.to_html()
    assert not re.search(r'(src|href)\s*=\s*"', page)
    assert not re.search(r"https?://", page)
    assert "default-src 'none'" in page
    data = _data(page)
    assert data["name"] == 'two </script><b>'
    assert data["widths"] == list(plan.widths)
    assert np.frombuffer(base64.b64decode(data["levels"]), "<i4").tolist() == plan.level_numbers.tolist()
    found = np.frombuffer(base64.b64decode(data["transforms"][1]["blocks"][0]["found"]), "<i4")
    assert found.tolist() == list(range(18))  # depth reads the new time vector of its own cell


def test_a_grid_that_is_too_large_is_refused():
    with pytest.raises(gridc.UsageError, match="at most 400,000"):
        gridc.schedule(TWO, T=100_000).to_html()


@pytest.mark.parametrize("size", [1, 2])
def test_every_spec_has_a_page(size: int):
    for path in sorted((Path(__file__).parent.parent / "specs").glob("*.yaml")):
        spec = gridc.read(path)
        plan = gridc.schedule(spec, **dict.fromkeys(spec.symbols, size))
        assert _data(explorer.page(plan))["transforms"]


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = browser.chromium(tmp_path_factory.mktemp("profile"), 1280, 860)
    yield driver
    driver.quit()


class Page:
    """The page in the browser, and what people do with it."""

    def __init__(self, driver: Any, folder: Path, plan: gridc.Schedule):
        self.browser = driver
        path = folder / "page.html"
        path.write_text(plan.to_html(), encoding="utf-8")
        driver.get(path.as_uri())
        self.names = list(plan.spec.transforms)
        self.plan = plan

    def __getitem__(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def run(self, script: str) -> Any:
        return self.browser.execute_script(f"return {script}")

    @property
    def wavefront(self) -> int:
        return self.run("explorer.wavefront")

    def press(self, keys: str) -> None:
        self.browser.find_element("tag name", "body").send_keys(keys)
        self.drawn()

    def drawn(self) -> None:
        """Wait for the next frame: the page draws what changed in it, not in the handler of a key."""
        self.browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));")

    def click(self, x: float, y: float, on: str = "grid") -> None:
        """Click at a place of a canvas, from its upper left corner."""
        from selenium.webdriver import ActionChains

        canvas = self[on]
        w, h = canvas.size["width"], canvas.size["height"]
        ActionChains(self.browser).move_to_element_with_offset(canvas, round(x - w / 2), round(y - h / 2)).click().perform()
        self.drawn()

    def click_step(self, transform: str, cell: tuple[int, ...]) -> None:
        self.click(*self.run(f"explorer.place({self.plan.number((transform, cell))})"))

    def buttons(self, name: str) -> set[str]:
        return {button.text for button in self[name].find_elements("tag name", "button")}

    def complaints(self) -> list[Any]:
        return self.browser.get_log("browser")


@pytest.fixture
def two(chromium: Any, tmp_path: Path) -> Page:
    return Page(chromium, tmp_path, gridc.schedule(TWO, T=6))


def test_a_click_on_a_step_lights_what_it_reads_and_who_waits_for_it(two: Page):
    two.click_step("depth", (2, 1))
    assert two["chosen"].text == "depth[2, 1]"
    assert two.buttons("reads") == {"time[2, 1]", "depth[2, 0]"}
    assert two.buttons("readers") == {"depth[2, 2]", "time[2, 2]"}
    # The page says why: the time vector of the same cell comes later than what enters along depth.
    assert two["why"].text == "In wavefront 5 because time[2, 1] is done only in wavefront 4."
    assert two.plan.levels[Step("depth", (2, 1))] == 5 == two.plan.levels[Step("time", (2, 1))] + 1
    assert [found.text for found in two["reads"].find_elements("class name", "late")] == ["wavefront 4"]
    assert "16 × 32" in two["weights"].text
    assert two["equation"].text.splitlines()[0] == "z = concat(time[here], depth[entering])"
    two.click_step("time", (0, 2))
    assert "time.W[2]" in two["weights"].text
    assert "start: zeros" in two["reads"].text
    assert two.complaints() == []


def test_an_entering_vector_says_what_enters(two: Page):
    two.click_step("depth", (3, 0))
    assert "start: zeros + tokens" in two["reads"].text


def test_the_first_step_waits_for_nothing_and_the_last_is_read_by_the_output(two: Page):
    two.click_step("time", (0, 0))
    assert two["why"].text == "In the first wavefront: it waits for no other step."
    two.click_step("depth", (5, 2))
    assert two["readers"].text == "output label"


def test_the_critical_path_is_told_in_words(two: Page):
    two["path"].click()
    assert "11 steps" in two["pathtext"].text
    assert two["pathtext"].text.rstrip().endswith(str(two.plan.critical_path[-1]))
    two["path"].click()
    assert not two.browser.find_elements("id", "pathtext")


def test_hovering_names_a_step(two: Page):
    from selenium.webdriver import ActionChains

    x, y = two.run(f"explorer.place({two.plan.number(('depth', (2, 1)))})")
    size = two["grid"].size
    ActionChains(two.browser).move_to_element_with_offset(
        two["grid"], round(x - size["width"] / 2), round(y - size["height"] / 2)
    ).perform()
    assert two["tip"].text == "depth[2, 1] · wavefront 5"


def test_following_a_read_chooses_it(two: Page):
    two.click_step("depth", (2, 1))
    two["reads"].find_element("tag name", "button").click()
    assert two["chosen"].text == "time[2, 1]"
    two["jump"].click()
    assert two.wavefront == two.plan.levels[Step("time", (2, 1))]


def test_keys(two: Page):
    from selenium.webdriver import Keys

    two.press(Keys.ARROW_RIGHT * 3)
    assert two.wavefront == 3
    assert two["where"].text.startswith(f"wavefront 3 of 0–{two.plan.span - 1}: {two.plan.widths[3]} steps")
    two.press(Keys.END)
    assert two.wavefront == two.plan.span - 1
    two.press(Keys.HOME + "n")
    assert two["chosen"].text == "time[0, 0]"
    two.press("c")
    assert two["path"].get_attribute("aria-pressed") == "true"
    two.press(Keys.ESCAPE)
    assert two.run("explorer.chosen") is None
    scale = two.run("explorer.scale")
    two.press("+")
    assert two.run("explorer.scale") > scale
    before = two.run("document.documentElement.dataset.theme")
    two.press("d")
    assert two.run("document.documentElement.dataset.theme") != before
    assert two.complaints() == []


def test_the_widths_are_the_slider(two: Page):
    wide = two["widths"].size["width"]
    two.click(wide * 0.999, 20, "widths")
    assert two.wavefront == two.plan.span - 1
    two.click(1, 20, "widths")
    assert two.wavefront == 0


def test_the_order_that_runs_is_played_like_the_wavefronts(two: Page):
    data = _data(two.plan.to_html())
    turns = np.frombuffer(base64.b64decode(data["turns"]), "<i4")
    two["running"].click()
    assert two["running"].get_attribute("aria-pressed") == "true"
    two["last"].click()
    assert two["where"].text == f"turn {turns.max()} of 0–{turns.max()}: {data['turnWidths'][-1]} steps"
    two.press("n")
    assert two["why"].text == f"In turn {turns.max()} of {data['order']}."
    two["running"].click()
    assert two["where"].text.startswith(f"wavefront {two.plan.span - 1} of")
    assert two["why"].text.startswith("In wavefront ")


def test_play_goes_through_the_wavefronts(two: Page):
    from selenium.webdriver.support.ui import WebDriverWait

    two["play"].click()
    WebDriverWait(two.browser, 20).until(lambda _: two.wavefront == two.plan.span - 1)
    WebDriverWait(two.browser, 5).until(lambda _: "Play" in two["play"].text)


def test_the_timeline_chooses_the_step_that_a_worker_runs(two: Page):
    two.click(3, 3, "lanes")
    assert two["chosen"].text == "time[0, 0]"
    assert "4 workers" in two["lanecaption"].text


def test_names_are_text(two: Page):
    assert two["title"].text == "two </script><b>"


def test_four_dimensions_by_choosing_axes(chromium: Any, tmp_path: Path):
    from selenium.webdriver.support.ui import Select

    page = Page(chromium, tmp_path, gridc.schedule(FOUR))
    page.click_step("y", (1, 2, 1, 0))
    assert page["chosen"].text == "y[1, 2, 1, 0]"
    assert page.run(f"explorer.place({page.plan.number(('y', (1, 2, 1, 1)))})") is None
    Select(page["axis-z"]).select_by_visible_text("depth")
    assert page.run(f"explorer.place({page.plan.number(('y', (1, 2, 0, 1)))})") is not None
    page.click_step("y", (1, 2, 0, 1))
    assert page["chosen"].text == "y[1, 2, 0, 1]"
    assert page.complaints() == []


COUNTED = """
const painter = CanvasRenderingContext2D.prototype; window.painted = 0;
for (const [name, {value}] of Object.entries(Object.getOwnPropertyDescriptors(painter)))
  if (typeof value === "function") painter[name] = function(...words) { window.painted += 1; return value.apply(this, words); };
"""


def test_of_a_hundred_thousand_steps_a_frame_paints_few(chromium: Any, tmp_path: Path):
    page = Page(chromium, tmp_path, gridc.schedule(TWO.replace("depth: 3", "depth: 100"), T=500))
    assert page.plan.work == 100_000
    chromium.execute_script(COUNTED)

    def painted() -> int:
        """Calls of the canvas for one frame."""
        return page.run("(window.painted = 0, explorer.draw(), window.painted)")

    page.run("explorer.draw()")
    page.press("c")
    far = painted()
    for _ in range(12):
        page.press("+")
    assert page.run("explorer.scale") > 50
    near = painted()
    assert 100 < far < 10_000
    assert 100 < near < 10_000
    assert page.complaints() == []


def test_an_address_says_where_to_open(two: Page):
    address = two.browser.current_url
    two.browser.get("about:blank")
    two.browser.get(f"{address}#wavefront=7&step=depth[2,1]&path&theme=dark")
    assert (two.wavefront, two["chosen"].text) == (7, "depth[2, 1]")
    assert two["path"].get_attribute("aria-pressed") == "true"
    assert two.run("document.documentElement.dataset.theme") == "dark"
    two.browser.get("about:blank")
    two.browser.get(f"{address}#wavefront=999&step=nobody[9]&theme=pink")
    assert two.wavefront == two.plan.span - 1
    assert two.run("explorer.chosen") is None
    assert two.complaints() == []


def test_a_long_grid_fills_its_stage_and_its_colours_are_in_the_legend(chromium: Any, tmp_path: Path):
    page = Page(chromium, tmp_path, gridc.schedule(TWO.replace("depth: 3", "depth: 4"), T=1000))
    places = [page.run(f"explorer.place({page.plan.number(('time', cell))})") for cell in ((0, 0), (999, 3))]
    stage = page["stage"].size
    assert abs(places[0][0] - places[1][0]) > 0.8 * stage["width"]
    assert abs(places[0][1] - places[1][1]) > 0.5 * stage["height"]
    # From afar a block of steps that are done has the mean of their colours, and the legend has it.
    page.press(_keys().END)
    page.run("explorer.draw()")
    said = page["mixed"].text, page.run("getComputedStyle(document.querySelector('#mixed i')).backgroundColor")
    x, y = (round(at) for at in page.run(f"explorer.place({page.plan.number(('time', (300, 1)))})"))
    seen = page.run(f"[...document.getElementById('grid').getContext('2d').getImageData({x}, {y}, 1, 1).data].slice(0, 3)")
    assert said[0] == "both done, from afar"
    assert max(abs(a - b) for a, b in zip(seen, map(float, re.findall(r"[\d.]+", said[1])), strict=True)) <= 1.5
    # n chooses a step and goes so near that it can be seen.
    page.press(_keys().HOME + "n")
    assert page["chosen"].text == "time[0, 0]"
    assert page.run("explorer.scale") >= 44
    assert not page["mixed"].is_displayed()
    page.press("0")
    assert page["mixed"].is_displayed()
    assert page.complaints() == []


def test_whatever_can_be_used_has_a_name_of_its_own(chromium: Any, tmp_path: Path):
    page = Page(chromium, tmp_path, gridc.schedule(FOUR))
    parts = page.browser.find_elements("css selector", "canvas, select, input, button")
    names = [part.accessible_name for part in parts if part.is_displayed()]
    assert all(names)
    choices = [page[f"axis-{axis}"].find_element("xpath", "..").text.splitlines()[0] for axis in "xyz"]
    assert len(set(choices)) == 3
    assert not set(choices) & {d.name for d in page.plan.spec.dimensions}


def _keys() -> Any:
    from selenium.webdriver import Keys

    return Keys


def test_planes_stand_in_several_stacks(chromium: Any, tmp_path: Path):
    page = Page(chromium, tmp_path, gridc.schedule(FOUR.replace("z: 3", "z: 9")))
    places = [page.run(f"explorer.place({page.plan.number(('x', (0, 0, z, 0)))})") for z in range(9)]
    assert len({round(x) for x, _ in places}) > 1
    for z in (0, 4, 8):
        page.click_step("x", (2, 1, z, 0))
        assert page["chosen"].text == f"x[2, 1, {z}, 0]"


def test_on_a_phone(tmp_path: Path):
    driver = browser.chromium(tmp_path / "profile", 390, 844, phone=True)
    try:
        page = Page(driver, tmp_path, gridc.schedule(TWO, T=6))
        assert page.run("innerWidth") == 390
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        # Everything is there: the figures, the bars, the workers, and no text smaller than 12 pixels.
        for name in ("figures", "widths", "slider", "lanes"):
            box = page[name].rect
            assert box["width"] > 100
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        assert page.run("Math.min(...[...document.querySelectorAll('button, p, span, li, output')].map("
                        "e => parseFloat(getComputedStyle(e).fontSize)))") >= 12
        page.click_step("depth", (2, 1))
        assert page["chosen"].text == "depth[2, 1]"
        # A finger finds everything that can be touched.
        for part in driver.find_elements("css selector", "button, select, input"):
            if part.is_displayed():
                assert min(part.size["height"], part.size["width"]) >= 44, part.accessible_name
    finally:
        driver.quit()
