"""The ``training:`` block of a spec: the task or data, the optimiser, the budget and when to stop.

The choices of task, optimiser and schedule, with their options, come from their tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from gridc.tables.choices import Block, Choice, choice, either
from gridc.tables.learning_rates import SCHEDULES
from gridc.tables.tasks import TASKS
from gridc.tables.update_rules import OPTIMIZERS


def _name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Column = Annotated[str, BeforeValidator(_name, json_schema_input_type=str | int)]
"""A column's name; one that is a number need not stand in quotes."""
Columns = Column | list[Column]


if TYPE_CHECKING:
    Task: TypeAlias = Choice
    Optimiser: TypeAlias = Choice
    Scheduled: TypeAlias = Choice
else:
    Task = choice("Task", TASKS, lambda row: row.help)
    Optimiser = choice("Optimizer", OPTIMIZERS, lambda row: row.equation)
    Scheduled = choice("Schedule", SCHEDULES, lambda row: row.help)


class Text(Block):
    """How a text file becomes sequences: every window of symbols predicts the same window one symbol later."""

    by: Literal["character", "byte", "word"] = Field(
        default="character", title="character, byte or word", description="What a symbol is."
    )
    window: int = Field(default=64, ge=1, title="a positive integer", description="Symbols in a sequence.")


class Series(Block):
    """How a table whose rows are moments becomes sequences: every window of rows predicts what comes later."""

    window: int = Field(default=64, ge=1, title="a positive integer", description="Rows in a sequence.")
    ahead: int = Field(default=1, ge=0, title="an integer from 0", description="How many rows later what is predicted stands.")
    stride: int = Field(default=1, ge=1, title="a positive integer", description="Rows from one window's start to the next.")
    by: Column | None = Field(default=None, title="a column", description="Which tells one series from another.")


class Images(Block):
    """How a folder of images, one folder a class, becomes arrays."""

    size: tuple[int, int] = Field(
        default=(28, 28), strict=False, title="a list of rows and columns", description="What images are scaled to."
    )
    colour: bool = Field(False, title="true or false", description="Three numbers a pixel instead of one.")


class Data(Block):
    """Where the examples are: a file, and which of its columns or arrays each input and output takes."""

    file: str = Field(title="a path", description=".npz, .npy (a folder of them), .csv, .parquet, .txt, .ts, .arff, or images.")
    held_out: str | None = Field(default=None, title="a path", description="A file of examples held out of training.")
    inputs: dict[str, Columns] = Field(
        default_factory=dict, title="a mapping of input to column or list of columns",
        description="Where the names in the file differ from the spec's.",
    )  # fmt: skip
    outputs: dict[str, Columns] = Field(
        default_factory=dict, title="a mapping of output to column or list of columns",
        description="Where the names in the file differ from the spec's.",
    )  # fmt: skip
    lengths: dict[str, Column] = Field(
        default_factory=dict, title="a mapping of symbol to column", description="Each example's own length."
    )
    heading: bool = Field(
        default=True, title="true or false", description="Whether a table's first row names its columns; else they are 0, 1, 2 …"
    )
    words: list[str] = Field(
        default_factory=list, title="a list of inputs and outputs",
        description="Whose cells are words, also where all of them look like numbers.",
    )  # fmt: skip
    text: Text | None = Field(default=None, title="a mapping such as {by: character, window: 64}", description="For a text file.")
    series: Series | None = Field(
        default=None, title="a mapping such as {window: 24, ahead: 1}", description="For a table whose rows are moments in order."
    )
    images: Images | None = Field(default=None, title="a mapping such as {size: [28, 28]}", description="For a folder of images.")


def _file(value: Any) -> Any:
    return {"file": value} if isinstance(value, str) else value


Endless = Annotated[float, Field(allow_inf_nan=True)]
"""A number that may be infinite: a limit that is never reached.  (NaN is in no bounds.)"""
FromZero = Annotated[float, Field(ge=0, title="a number from 0")]


class Budget(Block):
    """How long to train; the first limit that is reached ends it."""

    epochs: Endless | None = Field(default=None, gt=0, title="a positive number", description="Passes over the examples.")
    samples: int | None = Field(default=None, ge=1, title="a positive integer", description="Examples seen.")
    steps: int | None = Field(default=None, ge=1, title="a positive integer", description="Updates of the weights.")
    seconds: Endless | None = Field(default=None, gt=0, title="a positive number", description="Time, without compiling.")


class Beginning(Block):
    """How long something is so at first; the first limit that is reached ends it."""

    epochs: float | None = Field(default=None, gt=0, title="a positive number", description="Passes over the examples.")
    samples: int | None = Field(default=None, ge=1, title="a positive integer", description="Examples seen.")
    steps: int | None = Field(default=None, ge=1, title="a positive integer", description="Updates of the weights.")


class Stop(Block):
    """When to stop before the budget is spent."""

    accuracy: float | None = Field(
        default=None, ge=0, le=1, title="a number from 0 to 1", description="Held-out accuracy (or R²) that is enough."
    )
    loss: float | None = Field(default=None, title="a number", description="Held-out loss that is enough.")
    patience: int | None = Field(
        default=None, ge=1, title="a positive integer",
        description="Evaluations without improvement before stopping.",
    )  # fmt: skip
    min_delta: float = Field(default=0.0, ge=0, title="a number from 0", description="What counts as an improvement.")
    monitor: Literal["loss", "accuracy"] | None = Field(
        default=None, title="loss or accuracy",
        description="By what the best weights are told, which are kept (default: accuracy where an output decides, else loss).",
    )  # fmt: skip
    output: str | None = Field(default=None, title="the name of an output", description="Which output counts (default: all).")


class Every(Block):
    """How often; the first that is reached counts."""

    epochs: Endless | None = Field(default=None, gt=0, title="a positive number", description="Passes over the examples.")
    samples: int | None = Field(default=None, ge=1, title="a positive integer", description="Examples seen.")
    steps: int | None = Field(default=None, ge=1, title="a positive integer", description="Updates of the weights.")
    seconds: Endless | None = Field(default=None, ge=0, title="a number from 0", description="Time.")


class Training(Block):
    """What ``gridc train`` does with this spec."""

    task: Task | None = Field(default=None, title=either(TASKS), description="Examples that are made.")
    data: Annotated[Data, BeforeValidator(_file, json_schema_input_type=str | Data)] | None = Field(
        default=None, title="a path, or {file: PATH, ...}", description="Examples that are read."
    )
    optimizer: Optimiser = Field(
        default="adam",  # type: ignore[assignment]  # validated into a Choice
        validate_default=True, title=either(OPTIMIZERS), description="How the weights are updated.",
    )  # fmt: skip
    schedule: Scheduled | None = Field(
        default=None, title=either(SCHEDULES), description="How the learning rate changes."
    )
    batch: int = Field(default=32, ge=1, title="a positive integer", description="Examples in an update.")
    budget: Budget = Field(default=Budget(epochs=10), title="a mapping such as {epochs: 10}", description="How long to train.")
    linear_start: Beginning | None = Field(
        default=None, title="a mapping such as {epochs: 5}",
        description="How long memory cells attend without their softmax at first.",
    )  # fmt: skip
    stop: Stop = Field(default=Stop(), title="a mapping such as {accuracy: 1.0}", description="When to stop sooner.")
    held_out: float = Field(
        default=0.2, ge=0, lt=1, title="a number from 0 to below 1",
        description="The share of the examples that is held out of training and evaluated on.",
    )  # fmt: skip
    seed: int = Field(default=0, ge=0, title="an integer from 0", description="Of the weights, the data and their order.")
    standardize: bool = Field(
        default=False, title="true or false",
        description="Real inputs and outputs are learned with mean 0 and deviation 1; the model takes and gives their own units.",
    )  # fmt: skip
    clip: Endless | None = Field(
        default=None, gt=0, title="a positive number", description="The largest global norm of the gradients."
    )
    weights: dict[str, FromZero] = Field(
        default_factory=dict, title="a mapping of output to a number from 0", description="What each output's loss counts."
    )
    class_weights: dict[str, Literal["balanced"] | list[FromZero]] = Field(
        default_factory=dict, title="a mapping of output to balanced or a list of numbers from 0",
        description="What each class of an output counts in the loss.",
    )  # fmt: skip
    evaluate: Every = Field(default=Every(epochs=1), title="a mapping such as {epochs: 1}", description="How often to evaluate.")
    checkpoint: Every = Field(
        default=Every(seconds=10), title="a mapping such as {seconds: 10}",
        description="How often to save what a resumed training needs.",
    )  # fmt: skip
    keep: int = Field(default=3, ge=1, title="a positive integer", description="How many checkpoints are kept.")
    save: str | None = Field(
        default=None, title="a folder", description="Where models, curves and checkpoints go (default: runs/NAME)."
    )

    @model_validator(mode="after")
    def _examples(self) -> Training:
        if (self.task is None) == (self.data is None):
            raise PydanticCustomError("one_of", "expected either 'task' or 'data'", {})
        return self
