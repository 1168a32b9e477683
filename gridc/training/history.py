"""What a training was: one record an evaluation, and why it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gridc.errors import DataError, ResourceError
from gridc.files import write_atomically

Figures = Mapping[str, Mapping[str, float]]
"""Output → loss and accuracy (or r2)."""
FIGURES = {"accuracy": "accuracy", "r2": "R²"}
"""What people call the figures of an output."""


@dataclass(frozen=True)
class Record:
    """One evaluation.

    Attributes:
        step: Updates so far.
        samples: Examples seen so far.
        epoch: Passes over the training data so far.
        seconds: Seconds spent training, without compiling.
        rate: The learning rate.
        loss: The weighted sum over outputs, of the examples trained on since the last evaluation, while the weights moved.
        outputs: Of the same examples, for each output its ``loss`` and ``accuracy`` or ``r2``.
        held_out_loss: The loss of the held-out examples with the weights of this step; None where there are none.
        held_out: Of those, for each output its ``loss`` and ``accuracy`` or ``r2``.
    """

    step: int
    samples: int
    epoch: float
    seconds: float
    rate: float
    loss: float
    outputs: Figures
    held_out_loss: float | None = None
    held_out: Figures = field(default_factory=dict[str, Mapping[str, float]])

    @property
    def shown(self) -> Figures:
        """The figures that count: held out, or of the training where nothing is."""
        return self.held_out or self.outputs

    @property
    def shown_loss(self) -> float:
        """The loss that counts."""
        return self.loss if self.held_out_loss is None else self.held_out_loss

    def accuracy(self, output: str | None = None) -> float:
        """Return the accuracy (or R²) that counts: an output's, or the worst over all of them."""
        figures = {name: next(v for k, v in one.items() if k != "loss") for name, one in self.shown.items()}
        return figures[output] if output else min(figures.values(), default=float("nan"))

    def to_json(self) -> dict[str, Any]:
        """Make a plain mapping, one line of ``metrics.jsonl``."""
        return asdict(self)

    def line(self) -> str:
        """One line for people."""
        figures = " ".join(f"{name} {_figures(one)}" for name, one in self.shown.items())
        where = "held out" if self.held_out else "training"
        return (f"step {self.step:,}  epoch {self.epoch:.4g}  samples {self.samples:,}  loss {self.loss:.4g}  "
                f"{where}: loss {self.shown_loss:.4g} {figures}")  # fmt: skip


def _figures(one: Mapping[str, float]) -> str:
    return " ".join(f"{FIGURES[k]} {v:.4f}" for k, v in one.items() if k != "loss")


def read_record(value: Any) -> Record:
    """Read a record as ``to_json`` wrote it, out of a file; DataError where it is none."""
    from pydantic import TypeAdapter, ValidationError

    try:
        # By way of JSON, in whose strict mode a mapping may stand for a record, and nothing else for anything else.
        return TypeAdapter(Record).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        why = f"its '{key}' is not what a training leaves" if key else "it is no mapping"
        raise DataError(f"The training record cannot be read: {why}.") from None


@dataclass(frozen=True)
class History:
    """A training, as ``fit`` returns it; print it, go through ``records``, or draw it with ``to_png``.

    Attributes:
        name: The grid's.
        records: One for each evaluation.
        reason: Why it ended, a sentence.
        best: The best evaluation, by what is monitored.
        monitor: What tells the best: ``accuracy`` or ``loss``.
        restored: Whether the grid was given back the best weights, and does not have the last ones.
        steps: Updates.
        samples: Examples seen.
        seconds: Seconds spent training.
        compile_seconds: Seconds spent compiling before and in between.
        folder: Where everything is, or None.
    """

    name: str
    records: tuple[Record, ...]
    reason: str
    best: Record | None = None
    monitor: str = "loss"
    restored: bool = False
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def kept(self) -> Record | None:
        """The record of the weights that the training left: the best, where those were given back, else the last."""
        return self.best if self.restored and self.best else self.records[-1] if self.records else None

    def __str__(self) -> str:
        compiled = "" if not self.compile_seconds else f", after {self.compile_seconds:.1f} s of compiling"
        rate = self.samples / self.seconds if self.seconds else 0.0
        lines = [f"{self.name}: {self.steps:,} steps, {self.samples:,} samples in {self.seconds:.1f} s{compiled} "
                 f"({rate:,.0f} samples/s). {self.reason}"]  # fmt: skip
        if self.best is not None:
            kept = f" (the best {self.monitor}; these weights were kept)" * self.restored
            lines.append(f"Best: {self.best.line()}{kept}")
        if self.records and self.records[-1] != self.best:
            lines.append(f"Last: {self.records[-1].line()}")
        if self.folder is not None:
            lines.append(f"In {self.folder}.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Make a plain mapping with every record."""
        return {
            "name": self.name, "reason": self.reason, "steps": self.steps, "samples": self.samples,
            "seconds": self.seconds, "compile_seconds": self.compile_seconds,
            "folder": None if self.folder is None else str(self.folder),
            "best": None if self.best is None else self.best.to_json(),
            "records": [record.to_json() for record in self.records],
        }  # fmt: skip

    def to_png(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """Draw the learning curve as a PNG, also written to ``path``; ResourceError where matplotlib is missing."""
        content = curve(self.name, self.records)
        if path is not None:
            write_atomically(path, content)
        return content

    def _repr_png_(self) -> bytes | None:
        try:
            return self.to_png()
        except ResourceError:
            return None


def curve(name: str, records: tuple[Record, ...]) -> bytes:
    """Loss and accuracy over the samples seen, as a PNG of 900 × 600."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ResourceError("A picture of the curve needs matplotlib: pip install 'gridc[plots]'; gridc curve FOLDER draws it as "
                            "text.") from error  # fmt: skip
    import io

    # Its stubs leave half of the types open.
    figure: Any = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    samples = [r.samples for r in records]
    top.plot(samples, [r.loss for r in records], label="training", color="0.55")
    if any(r.held_out_loss is not None for r in records):
        top.plot(samples, [r.held_out_loss for r in records], label="held out", color="C0")
    top.set(ylabel="loss", title=name)
    for number, output in enumerate(records[-1].outputs if records else ()):
        kind = next(k for k in records[-1].outputs[output] if k != "loss")
        bottom.plot(samples, [r.outputs[output][kind] for r in records], color=f"C{number}", alpha=0.4,
                    label=f"{output}, training")  # fmt: skip
        if all(r.held_out for r in records):
            bottom.plot(samples, [r.held_out[output][kind] for r in records], color=f"C{number}", label=f"{output}, held out")
        bottom.set(ylabel=FIGURES[kind])
    bottom.set(xlabel="samples")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        if records:
            axes.legend(loc="best")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
