"""Everything that a training needs to go on exactly as if it had never stopped, to a model file and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gridc.errors import DataError, listed
from gridc.model_file import Array, Model
from gridc.training.history import Record
from gridc.training.metrics import Meter, Predictor
from gridc.training.optimizers import Optimizer

if TYPE_CHECKING:
    from gridc.language.spec import GridSpec


class Trainable(Predictor, Protocol):
    """What training needs of a grid.

    ``parameters`` are changed in place.  A grid that draws random numbers while training (dropout, zoneout) also has
    ``random_state``, a plain mapping that can be read and set.  ``compile_seconds``, where there is one, maps what was
    built to the time that it took.
    """

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Arrays that the updates are made in."""
        ...

    def loss_and_gradients(
        self, inputs: Mapping[str, Array], targets: Mapping[str, Array], lengths: Mapping[str, Array] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:  # fmt: skip
        """``Grid.loss_and_gradients``: the loss, the gradient for every parameter, and the outputs."""
        ...


@dataclass
class State:
    """Where a training stands.

    ``seconds`` is the time spent training so far; ``best`` the best record, ``best_parameters`` its weights, ``waited``
    the evaluations since; ``evaluated`` and ``saved`` the seconds at the last evaluation and checkpoint; ``settings``
    what must be the same for a resumed training to equal an unbroken one.
    """

    settings: Mapping[str, Any]
    step: int = 0
    samples: int = 0
    epoch: float = 0.0
    seconds: float = 0.0
    records: list[Record] = field(default_factory=list[Record])
    best: Record | None = None
    best_parameters: dict[str, Array] = field(default_factory=dict[str, Array])
    waited: int = 0
    evaluated: float = 0.0
    saved: float = 0.0

    def keep_best(self, record: Record, parameters: Mapping[str, Array]) -> None:
        """Make these weights the best so far."""
        self.best, self.waited = record, 0
        if not self.best_parameters:
            self.best_parameters = {name: array.copy() for name, array in parameters.items()}
        for name, array in parameters.items():
            np.copyto(self.best_parameters[name], array)


def compile_seconds(grid: Trainable) -> float:
    """Sum up the seconds that building this grid's functions has taken so far."""
    return float(sum(getattr(grid, "compile_seconds", {}).values()))


def spec_text(spec: GridSpec) -> str:
    """Return the spec as the user wrote it."""
    return spec.source.text


def to_model(
    grid: Trainable, state: State, optimizer: Optimizer, meters: Mapping[str, Meter], vocabularies: Mapping[str, Any]
) -> Model:
    """Make a checkpoint: the parameters, and besides them all that ``from_model`` takes back."""
    arrays = {f"optimizer/{name}": array for name, array in optimizer.state.items()}
    arrays |= {f"best/{name}": array for name, array in state.best_parameters.items()}
    record: dict[str, Any] = {
        "settings": dict(state.settings),
        "state": {name: getattr(state, name) for name in _NUMBERS},
        "records": [record.to_json() for record in state.records],
        "best": None if state.best is None else asdict(state.best),
        "meters": {name: meter.state() for name, meter in meters.items()},
        "random_state": getattr(grid, "random_state", None),
    }
    return Model(dict(grid.parameters), spec_text(grid.spec), grid.spec.digest, record, vocabularies, arrays, "checkpoint")


_NUMBERS = ("step", "samples", "epoch", "seconds", "waited", "evaluated", "saved")


def from_model(
    model: Model, grid: Trainable, optimizer: Optimizer, meters: Mapping[str, Meter], settings: Mapping[str, Any]
) -> State:
    """Put the grid, the optimiser and the meters where the checkpoint left them.

    DataError where it belongs to another spec, or to a training with other settings: nothing is changed then.
    """
    if model.kind != "checkpoint":
        raise DataError("The file is a model, not a checkpoint: there is no training in it to resume.")
    check_spec(model, grid.spec)
    before = {"standardize": False, **model.record["settings"]}  # which the first checkpoints did not say
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        told = (f"'{name}' was {before.get(name)!r} and is now {settings[name]!r}" for name in changed)
        raise DataError(f"The training cannot be resumed with other settings: {listed(told, 'and')}.")
    load_parameters(grid.parameters, model.parameters)
    optimizer.load(grid.parameters, _within(model.arrays, "optimizer/"))
    for name, meter in meters.items():
        meter.restore(model.record["meters"][name])
    if model.record["random_state"] is not None:
        grid.random_state = model.record["random_state"]  # type: ignore[attr-defined]  # the grid had one when it was saved
    state = State(settings, **model.record["state"])
    state.records = [Record(**record) for record in model.record["records"]]
    state.best = None if model.record["best"] is None else Record(**model.record["best"])
    state.best_parameters = _within(model.arrays, "best/")
    return state


def check_spec(model: Model, spec: GridSpec) -> None:
    """DataError where the file belongs to a grid that means something else."""
    if model.digest == spec.digest:
        return
    # Another version of gridc may hash the same meaning otherwise: its text decides.
    from gridc.errors import SpecError
    from gridc.scheduling.check import parse

    try:
        if parse(model.spec).digest == spec.digest:
            return
    except SpecError:
        pass
    raise DataError(f"The checkpoint belongs to another spec than '{spec.name}': its grid differs from this one.")


def load_parameters(parameters: Mapping[str, Array], saved: Mapping[str, Array]) -> None:
    """Copy saved parameters into a grid's, in place; DataError where names or shapes differ."""
    for name in sorted({*parameters, *saved}):
        if name not in saved or name not in parameters:
            holder, lacker = ("grid", "file") if name in parameters else ("file", "grid")
            raise DataError(f"The {holder} has the parameter '{name}', which the {lacker} does not have.")
        if parameters[name].shape != saved[name].shape:
            raise DataError(f"The saved parameter '{name}' has the shape {list(saved[name].shape)}, "
                            f"expected {list(parameters[name].shape)}.")  # fmt: skip
    for name, array in parameters.items():
        np.copyto(array, saved[name], casting="same_kind")


def _within(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
