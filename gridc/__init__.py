"""gridc: a symbolic graph compiler for Grid LSTMs.

Write a recurrent grid as a page of YAML, see how parallel it is before it runs, and run it at the speed of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridc.errors import DataError, GridcError, NumbersError, ResourceError, SpecError, UsageError

__version__ = "0.1.0"
_LATE = {
    "read": "scheduling.check", "schedule": "scheduler", "compile": "compiler", "lower": "compiler", "load": "compiler",
    "Schedule": "scheduler", "GridSpec": "language.spec", "Grid": "grid", "Dataset": "arrays.dataset",
    "from_torch": "torch.weights", "to_torch": "torch.weights", "register_cell": "language.own_cells",
    "register_loss": "tables.losses", "register_optimizer": "tables.update_rules",
    "sweep": "search.run",
}  # fmt: skip
__all__ = [
    "DataError", "Dataset", "Grid", "GridSpec", "GridcError", "NumbersError", "ResourceError", "Schedule", "SpecError",
    "UsageError", "compile", "from_torch", "load", "lower", "read", "register_cell", "register_loss",
    "register_optimizer", "schedule", "sweep", "to_torch",
]  # fmt: skip

if TYPE_CHECKING:
    from gridc.arrays.dataset import Dataset
    from gridc.compiler import compile, load, lower
    from gridc.grid import Grid
    from gridc.language.own_cells import register_cell
    from gridc.language.spec import GridSpec
    from gridc.scheduler import Schedule, schedule
    from gridc.scheduling.check import read
    from gridc.search.run import sweep
    from gridc.tables.losses import register_loss
    from gridc.tables.update_rules import register_optimizer
    from gridc.torch.weights import from_torch, to_torch


def __getattr__(name: str) -> Any:
    # Importing gridc takes milliseconds; PyTensor takes seconds and comes with what needs it.
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(f"gridc.{_LATE[name]}"), name)
    raise AttributeError(f"module 'gridc' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
