"""Early stopping: which weights of a training are the best, and when they are good enough, or have long not become better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gridc.tables.training_block import Stop
from gridc.training.history import Record
from gridc.training.metrics import measure

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec


@dataclass(frozen=True)
class EarlyStopping:
    """A stopping rule, and the figure whose improvements it waits for."""

    rule: Stop
    monitor: Literal["loss", "accuracy"]

    def better(self, record: Record, best: Record) -> bool:
        """Tell whether an evaluation improved on the best before it."""
        rule = self.rule
        if self.monitor == "accuracy":
            # Of equally accurate weights the surer ones are better.
            ours, theirs = record.accuracy(rule.output), best.accuracy(rule.output)
            tied = ours == theirs and not rule.min_delta
            return ours > theirs + rule.min_delta or (tied and record.shown_loss < best.shown_loss)
        return self._loss(record) < self._loss(best) - rule.min_delta or math.isnan(self._loss(best))

    def met(self, record: Record, waited: int) -> str:
        """Say why the rule ends the training at its last evaluation, so many after the best one; or nothing."""
        if reached := self.reached(record):
            return reached
        if self.rule.patience is not None and waited >= self.rule.patience:
            return f"The {self.monitor} did not improve for {self.rule.patience} evaluations."
        return ""

    def reached(self, record: Record) -> str:
        """Say which figure that was asked for these weights have, or nothing."""
        rule = self.rule
        if rule.accuracy is not None and record.accuracy(rule.output) >= rule.accuracy:
            return f"It reached the accuracy of {rule.accuracy:g}."
        if rule.loss is not None and self._loss(record) <= rule.loss:
            return f"It reached the loss of {rule.loss:g}."
        return ""

    def _loss(self, record: Record) -> float:
        return record.shown[self.rule.output]["loss"] if self.rule.output else record.shown_loss


def monitor(spec: GridSpec, stop: Stop, held_out: bool, weighed: bool) -> Literal["loss", "accuracy"]:
    """Say what tells the best weights: what the rule says, else accuracy where a single output decides on held-out examples that
    are not ``weighed``, else loss."""
    counted = [stop.output] if stop.output else list(spec.outputs)
    decides = held_out and len(counted) == 1 and measure(spec.outputs[counted[0]]) == "accuracy" and not weighed
    return stop.monitor or ("accuracy" if decides else "loss")
