"""A grid on a device: its functions, the parameters that lie there from call to call, and the steps of its training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gridc.data.fitting import Array, Call
from gridc.device.functions import Functions
from gridc.device.updates import Mirror, Updates
from gridc.language.spec import GridSpec
from gridc.parameters import Parameters
from gridc.symbolic.lowerings import Target
from gridc.symbolic.masks import Masks
from gridc.training.optimizers import Optimizer


class Placement:
    """Where a grid is on a device: its ``functions``, and the ``parameters`` that stand there for the host's.

    ``look`` gives the host's arrays by name, ``timed`` a context for what is being built."""

    def __init__(
        self, spec: GridSpec, target: Target, look: Callable[[], Mapping[str, np.ndarray]], timed: Callable[[str], Any]
    ):  # fmt: skip
        self.functions = Functions(spec, target.dtype, target.backend.mode, timed, target.devices, target.products)
        self.parameters = Mirror(look, self.functions.shards.whole)

    def run(self, name: str, parameters: Parameters, call: Call, told: Sequence[Array]) -> list[Array]:
        """Call a function by name, as ``symbolic.functions.Functions.run`` does.

        Parameters that nobody watches are another grid's, which a stream runs: they may change, and are copied every time."""
        return self.functions.run(name, parameters if parameters.watch is None else self.parameters.arrays(), call, told)

    def updates(
        self, optimizer: Optimizer, masks: Masks, lock: contextlib.AbstractContextManager[Any],
        check: Callable[..., tuple[Call, Sequence[np.ndarray]]],
    ) -> Updates:  # fmt: skip
        """Make what does the steps of a training with their updates here, under a ``lock``, once a call is ``check``ed."""
        return Updates(self.functions, self.parameters, optimizer, lock, check, masks.draw_to_undo)
