"""Everything that a training needs to go on exactly as if it had never stopped, to a model file and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gridc.errors import DataError, UsageError, listed, printable
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
        weights: Mapping[str, Any] | None = None, share: tuple[int, int] | None = None,
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:  # fmt: skip
        """``Grid.loss_and_gradients``: the loss, the gradient for every parameter, and the outputs.  A ``share`` is given only by
        several ranks, and only to a grid with a ``random_state``."""
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


def without_softmax(grid: Trainable) -> Trainable:
    """Make what a linear start trains: a grid with the same parameters whose memory cells attend linearly; UsageError where there
    is none."""
    made: Trainable | None = getattr(grid, "without_softmax", None)
    if made is None:
        raise UsageError(f"'linear_start' takes the softmax out of memory cells, which a {type(grid).__name__} has none of.")
    return made


def compile_seconds(grid: Trainable) -> float:
    """Sum up the seconds that building this grid's functions has taken so far."""
    return float(sum(getattr(grid, "compile_seconds", {}).values()))


def spec_text(spec: GridSpec) -> str:
    """Return the spec as the user wrote it, with all the cells that it uses."""
    return spec.source.page


def to_model(
    grid: Trainable, state: State, optimizer: Optimizer, meters: Mapping[str, Meter], vocabularies: Mapping[str, Any],
    signature: Mapping[str, Any],
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
        "built": built(grid),
    }
    return Model(dict(grid.parameters), spec_text(grid.spec), grid.spec.digest, record, vocabularies, arrays, "checkpoint",
                 signature=signature, products=narrow(grid))  # fmt: skip


def narrow(grid: Trainable) -> str:
    """Give what a grid's products take their operands in, where that is narrower than its numbers; else nothing."""
    dtype = getattr(grid, "dtype", "")
    kind = str(getattr(grid, "products", dtype))
    return kind if kind != dtype else ""


def built(grid: Trainable) -> dict[str, str]:
    """Tell what decides, besides settings and parameters, how a grid's numbers are rounded."""
    backend = getattr(getattr(grid, "backend", None), "name", None)
    dtype = narrow(grid) or getattr(grid, "dtype", None)
    found = {"lowering": getattr(grid, "lowering", None), "backend": backend, "dtype": dtype,
             "devices": getattr(grid, "devices", None)}  # fmt: skip
    return {name: str(value) for name, value in found.items() if value is not None}


def differences(model: Model, grid: Trainable) -> str:
    """Tell what is built otherwise than when the checkpoint was made, as a sentence; nothing where all is the same."""
    held: Any = model.record.get("built")
    now = built(grid)
    before = cast("dict[str, Any]", held) if isinstance(held, dict) else {}  # the first checkpoints did not say
    told = [f"{name} {shown(before[name])}, now {now[name]!r}" for name in now if before.get(name, now[name]) != now[name]]
    if not told:
        return ""
    return (f"The training was begun with {listed(told, 'and')}: it goes on, but not to the weights of an unbroken one, to the "
            "last bit.")  # fmt: skip



def from_model(
    model: Model, grid: Trainable, optimizer: Optimizer, meters: Mapping[str, Meter], settings: Mapping[str, Any]
) -> State:
    """Put the grid, the optimiser and the meters where the checkpoint left them.

    DataError where it belongs to another spec, or to a training with other settings: nothing is changed then.
    """
    if model.kind != "checkpoint":
        raise DataError("The file is a model, not a checkpoint: there is no training in it to resume.")
    check_spec(model, grid.spec)
    before = {"standardize": False, "linear_start": 0, **model.record["settings"]}  # which the first checkpoints did not say
    changed = [name for name in settings if before.get(name) != settings[name]]
    if changed:
        told = (f"'{name}' was {before.get(name)!r} and is now {settings[name]!r}" for name in changed)
        raise DataError(f"The training cannot be resumed with other settings: {listed(told, 'and')}.")
    best = _within(model.arrays, "best/")
    _comparable(grid.parameters, model.parameters)
    if best:
        _comparable(grid.parameters, best)
    state = saved_state(model, settings)
    if set(model.record["meters"]) != set(meters):
        raise DataError(f"The checkpoint has the sums of {listed(model.record['meters'], 'and') or 'nothing'}, expected those of "
                        f"{listed(meters, 'and')}.")  # fmt: skip
    optimizer.load(grid.parameters, _within(model.arrays, "optimizer/"))
    if model.record["random_state"] is not None:
        try:
            grid.random_state = model.record["random_state"]  # type: ignore[attr-defined]  # the grid had one when it was saved
        except (TypeError, ValueError, KeyError, OverflowError):
            raise DataError("The state of the checkpoint's random numbers is none of NumPy's generator.") from None
    load_parameters(grid.parameters, model.parameters)
    for name, meter in meters.items():
        meter.restore(model.record["meters"][name])
    state.best_parameters = best
    return state


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Numbers(_Strict):
    step: int = Field(ge=0)
    samples: int = Field(ge=0)
    epoch: float = Field(ge=0)
    seconds: float = Field(ge=0)
    waited: int = Field(ge=0)
    evaluated: float = Field(ge=0)
    saved: float = Field(ge=0)


_NUMBERS = tuple(_Numbers.model_fields)


class _Sums(_Strict):
    count: float
    right: float
    loss: float
    sums: list[list[float]]


class _Saved(_Strict):
    """What ``to_model`` writes into a checkpoint's record."""

    settings: dict[str, Any]
    state: _Numbers
    records: list[Record]
    best: Record | None
    meters: dict[str, _Sums]
    random_state: dict[str, Any] | None


def saved_state(model: Model, settings: Mapping[str, Any] | None = None) -> State:
    """Read what a checkpoint's record says of the training; DataError where it is not what ``to_model`` writes."""
    try:
        # By way of JSON, in whose strict mode a mapping may stand for a record, and nothing else for anything else.
        held = _Saved.model_validate_json(json.dumps(model.record), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key, missing = ".".join(map(str, first["loc"])), first["type"] == "missing"
        found = "missing" if missing else printable(repr(first["input"]))[:60]
        raise DataError(f"The checkpoint's '{key}' is {found}, which no training leaves") from None
    return State(held.settings if settings is None else settings, **held.state.model_dump(), records=held.records, best=held.best)


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
    _comparable(parameters, saved)
    for name, array in parameters.items():
        np.copyto(array, saved[name], casting="same_kind")


def _comparable(parameters: Mapping[str, Array], saved: Mapping[str, Array]) -> None:
    for name in sorted({*parameters, *saved}):
        if name not in saved or name not in parameters:
            holder, lacker = ("grid", "file") if name in parameters else ("file", "grid")
            raise DataError(f"The {holder} has the parameter '{name}', which the {lacker} does not have.")
        if parameters[name].shape != saved[name].shape:
            raise DataError(f"The saved parameter '{name}' has the shape {list(saved[name].shape)}, "
                            f"expected {list(parameters[name].shape)}.")  # fmt: skip


def shown(value: object) -> str:
    """Something out of a file, short enough for a message."""
    return printable(repr(value))[:60]


def _within(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
