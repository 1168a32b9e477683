"""One step of a training: loss, gradients, and the update of every parameter, wherever the grid computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gridc.data.datasets import Array
from gridc.training.optimizers import Optimizer, global_norm
from gridc.training.state import Trainable


class Step(NamedTuple):
    """What a step saw, all from before the update; there was none unless ``good``: loss and gradients are finite.

    ``gradients`` are empty where they stayed on a device."""

    loss: float
    norm: float
    outputs: Mapping[str, Array]
    good: bool
    gradients: Mapping[str, Array]


Update = Callable[..., Step]
"""``f(inputs, targets, lengths=None, weights=None)``."""


def updates(grid: Trainable, optimizer: Optimizer) -> Update:
    """A function that does one step and updates the grid's parameters: on the device, where the grid has them there."""
    made: Update | None = getattr(grid, "updates", _on_the_host)(optimizer)
    if made is not None:
        return made

    def update(
        inputs: Mapping[str, Array], targets: Mapping[str, Array], lengths: Mapping[str, Array] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> Step:  # fmt: skip
        loss, gradients, outputs = grid.loss_and_gradients(inputs, targets, lengths, weights)
        with np.errstate(over="ignore", invalid="ignore"):
            norm = global_norm(gradients)
        # A norm may be infinite where gradients are only very large.
        good = bool(np.isfinite(loss)) and (bool(np.isfinite(norm)) or all(np.isfinite(g).all() for g in gradients.values()))
        if good:
            optimizer.update(grid.parameters, gradients, norm=norm)
        return Step(float(loss), norm, outputs, good, gradients)

    return update


def _on_the_host(optimizer: Optimizer) -> None:
    """A grid that says nothing of a device has none."""
