"""A training's figures for TensorBoard: a callback of ``fit``, an extra (``pip install 'gridc[tensorboard]'``)."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

from gridc.errors import ResourceError
from gridc.training.history import Record


class Board:
    """Writes every record's losses and figures as scalars under ``folder``: ``fit(..., callbacks=[Board("runs/board")])``.

    Raises ResourceError where TensorBoard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        # Without stubs, so its types are open.
        try:
            writer: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer")
            self._event: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
            self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        except ImportError as error:
            raise ResourceError("Figures for TensorBoard need it: pip install 'gridc[tensorboard]'.") from error
        self._writer = writer.EventFileWriter(os.fspath(folder))

    def __call__(self, record: Record) -> None:
        """One evaluation, at its step."""
        figures = {"loss/training": record.loss, "learning rate": record.rate}
        if record.held_out_loss is not None:
            figures["loss/held out"] = record.held_out_loss
        for part, outputs in (("training", record.outputs), ("held out", record.held_out)):
            figures |= {f"{name}/{kind}/{part}": v for name, one in outputs.items() for kind, v in one.items()}
        values = [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()]
        self._writer.add_event(self._event.Event(
            wall_time=time.time(), step=record.step, summary=self._summary.Summary(value=values)))  # fmt: skip
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
