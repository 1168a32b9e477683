"""Live progress of a training: a bar on a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from gridc.errors import UsageError, nearest
from gridc.training.history import FIGURES, Record

if TYPE_CHECKING:
    from rich.progress import Progress

Style = Literal["auto", "bar", "lines", "none"]
WINDOW = 20.0
"""Seconds of training that the pace is measured over."""


def duration(seconds: float) -> str:
    """``0:07``, ``12:30``, ``3:02:10``."""
    minutes, s = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


class Display:
    """Shows nothing; what the other displays have in common.

    ``step`` is called after every update: the share of the budget that is spent, the samples seen, the time spent in
    training and the last loss.  ``record`` is called after every evaluation.
    """

    def __init__(self, name: str):
        self.name = name
        self._recent: deque[tuple[float, float, int]] = deque()
        self._shown = 0.0
        self._last = ""

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def step(self, share: float, samples: int, seconds: float, loss: float) -> None:
        """Show that an update was made."""

    def record(self, record: Record) -> None:
        """Show that an evaluation was made."""

    def say(self, line: str) -> None:
        """Show a message, whole on its line."""

    def _rates(self, share: float, samples: int, seconds: float) -> tuple[float, float | None]:
        """Estimate samples a second, and seconds left, at the pace of the last ``WINDOW`` seconds: a pause is soon forgotten."""
        recent = self._recent
        if not recent or seconds >= recent[-1][1] + WINDOW / 100:
            recent.append((share, seconds, samples))
        while len(recent) > 2 and recent[1][1] <= seconds - WINDOW:
            recent.popleft()
        share_0, seconds_0, samples_0 = recent[0]
        if seconds <= seconds_0:
            return 0.0, None
        rate = (samples - samples_0) / (seconds - seconds_0)
        left = (1 - share) * (seconds - seconds_0) / (share - share_0) if share > share_0 else None
        return rate, left


class Lines(Display):
    """A line an evaluation; the longer the training, the fewer, at most one a second, and the last one in any case."""

    def __init__(self, name: str):
        super().__init__(name)
        self._rate: tuple[float, float | None] = (0.0, None)
        self._pending: str | None = None
        self._began = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._pending is not None:
            line, self._pending = self._pending, None
            self.say(line)

    def step(self, share: float, samples: int, seconds: float, loss: float) -> None:
        """Note the pace, for the next line."""
        self._rate = self._rates(share, samples, seconds)

    def record(self, record: Record) -> None:
        """Print the line of an evaluation, now or before the next message."""
        rate, left = self._rate
        line = f"{record.line()}  {rate:,.0f} samples/s{'' if left is None else f'  {duration(left)} left at most'}"
        now = time.monotonic()
        # A tenth of the time so far between two lines: an hour's training is some 70 of them.
        if now - self._shown < max(1.0, (now - self._began) / 10):
            self._pending = line
            return
        self._shown, self._pending = now, None
        self.say(line)

    def say(self, line: str) -> None:
        """Print a message on stderr, after the evaluation that is still to be printed."""
        self._flush()
        print(line, file=sys.stderr, flush=True)


class Bar(Display):
    """A bar with time left, samples a second, loss and accuracy, drawn ten times a second."""

    def __init__(self, name: str):
        super().__init__(name)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._progress: Progress = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(None), TaskProgressColumn(),
            TextColumn("{task.fields[told]}"), console=Console(stderr=True), auto_refresh=False,
        )  # fmt: skip
        self._task: Any = None
        self._at: tuple[float, int, float, float, float | None] | None = None
        self._figures = ""

    def __enter__(self) -> Display:
        self._progress.start()
        self._task = self._progress.add_task(self.name, total=1.0, told="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._draw()
        self._progress.stop()

    def step(self, share: float, samples: int, seconds: float, loss: float) -> None:
        """Draw the bar anew where the last time is a tenth of a second ago."""
        self._at = (share, samples, loss, *self._rates(share, samples, seconds))
        now = time.monotonic()
        if now - self._shown >= 0.1:
            self._shown = now
            self._draw()

    def _draw(self) -> None:
        if self._at is None:
            return
        share, samples, loss, rate, left = self._at
        told = f"{samples:,} samples  {rate:,.0f}/s  loss {loss:.4g}{self._figures}"
        if left is not None:
            told += f"  {duration(left)} left"
        self._progress.update(self._task, completed=min(share, 1.0), told=told, refresh=True)

    def record(self, record: Record) -> None:
        """Show accuracy (or R²) from now on."""
        kinds = {key for figures in record.shown.values() for key in figures}
        self._figures = f"  {FIGURES['r2' if 'r2' in kinds else 'accuracy']} {record.accuracy():.4f}"

    def say(self, line: str) -> None:
        """Print a message above the bar."""
        self._progress.console.print(line, markup=False, highlight=False)


def display(style: Style, name: str) -> Display:
    """Make the display of that style; ``auto`` is a bar on a terminal and lines elsewhere."""
    if style == "auto":
        style = "bar" if sys.stderr.isatty() else "lines"
    styles: dict[str, type[Display]] = {"bar": Bar, "lines": Lines, "none": Display}
    if style not in styles:
        raise UsageError(f"'progress' is {style!r}, expected 'auto', 'bar', 'lines' or 'none'{nearest(style, styles)}")
    return styles[style](name)
