"""The one step of a training: loss, gradients, and the update of every parameter, wherever the grid computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gridc.arrays.conversion import Array
from gridc.errors import NumbersError
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
"""``f(inputs, targets, lengths=None, weights=None)``, the arrays of ``Grid.loss_and_gradients``.

It updates every parameter of a grid once, in place, and nothing where it raises or the step is not ``good``."""


def updates(grid: Trainable, optimizer: Optimizer) -> Update:
    """Make a function that does one step: on the device, where the grid's sweep runs on one, else here."""
    made: Update | None = getattr(grid, "updates", _on_the_host)(optimizer)
    if made is not None:
        return made

    def update(
        inputs: Mapping[str, Any], targets: Mapping[str, Any], lengths: Mapping[str, Any] | None = None,
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
    """Stand in for the method of a grid that says nothing of a device: it has none."""


class TrainingStep:
    """One update of every parameter per call; keeps the optimiser's state.  Made by ``Grid.training_step``."""

    def __init__(self, grid: Trainable, optimizer: Optimizer):
        self.grid, self.optimizer = grid, optimizer
        self._update = updates(grid, optimizer)

    def __call__(
        self, inputs: Mapping[str, Any], targets: Mapping[str, Any], lengths: Mapping[str, Any] | None = None
    ) -> float:
        """Update the parameters and return the loss before; NumbersError where loss or gradients are not finite, or DataError."""
        done = self._update(inputs, targets, lengths)
        if not done.good:
            raise NumbersError(f"at update {self.optimizer.count + 1} the loss is {done.loss:g} and the gradients' norm "
                               f"{done.norm:g}; a smaller learning rate or clip=1.0 may help")  # fmt: skip
        return done.loss
