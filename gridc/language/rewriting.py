"""A page with other values at some of its keys: its text, comments and all."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gridc.errors import UsageError, listed, nearest
from gridc.options import Option
from gridc.tables import tasks
from gridc.tables.training_block import Budget, Stop, Training
from gridc.tables.update_rules import OPTIMIZERS

Keys = tuple[str, ...]


def rewritten(text: str, values: Mapping[Keys, Any], block: Training | None, dropped: Iterable[Keys] = ()) -> str:
    """Write a page anew with values at these places, which are made where it has none, and without the keys that are ``dropped``.

    Sizes of inputs and outputs that follow from an option of the task in ``block``, the training as it was, change with it.
    UsageError for a place inside something that has none."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096
    yaml.preserve_quotes = True
    page: Any = yaml.load(text)  # pyright: ignore[reportUnknownMemberType]  # it has no stubs
    for at, value in values.items():
        _put(page, at, value)
    for *above, last in dropped:
        inner: Any = page
        for key in above:
            inner = inner.get(key, {})
        inner.pop(last, None)
    if block is not None:
        _resize(page, block)
    made = io.StringIO()
    yaml.dump(page, made)  # pyright: ignore[reportUnknownMemberType]  # it has no stubs
    return made.getvalue()


def _put(page: Any, at: Keys, value: Any) -> None:
    inner = page
    for depth, key in enumerate(at[:-1]):
        if isinstance(inner.get(key), str) and depth:  # a name alone, or a file: what it is short for
            inner[key] = {"file": inner[key]} if key == "data" else {inner[key]: {}}
        elif inner.get(key) is None:
            inner[key] = {}
        inner: Any = inner[key]
        if not hasattr(inner, "items"):
            word = ".".join(at).removeprefix("training.")
            raise UsageError(f"'{word}' names something inside '{key}', which is {inner!r} and has nothing in it.")
    inner[at[-1]] = value


def in_training(block: Training, changes: Mapping[str, Any]) -> dict[Keys, Any]:
    """Give the places of changes that are named by words; see ``place_in_training``."""
    limits = set(changes) & set(Budget.model_fields)
    whole: dict[Keys, Any] = {("training", "budget"): {}} if limits and "budget" not in changes else {}
    # A limit by its word alone stands for the whole budget.
    return {**whole, **{place_in_training(block, name): value for name, value in changes.items()}}


def place_in_training(block: Training, name: str) -> Keys:
    """Find the place under ``training`` that a word stands for: a key of the block (``batch``), a limit of the budget
    (``epochs``), a rule of ``stop`` (``accuracy``), or an option of the task (``bits``) or the optimizer (``learning_rate``).

    ``task.samples`` says which where two have one of that name.  UsageError for a word that nothing has."""
    first, _, rest = name.partition(".")
    options: dict[str, tuple[Option, ...] | None] = {
        "task": block.task and tasks.TASKS[block.task.name].options,
        "optimizer": OPTIMIZERS[block.optimizer.name].options,
    }
    chosen = {"task": block.task and block.task.name, "optimizer": block.optimizer.name}
    if rest and first in chosen and chosen[first] and rest in _names(options[first]):
        return ("training", first, str(chosen[first]), rest)
    if rest:
        return ("training", *name.split("."))
    if name in type(block).model_fields:
        return ("training", name)
    for key, fields in (("budget", Budget.model_fields), ("stop", Stop.model_fields)):
        if name in fields:
            return ("training", key, name)
    for key, found in options.items():
        if name in _names(found):
            return ("training", key, str(chosen[key]), name)
    known = [*type(block).model_fields, *Budget.model_fields, *Stop.model_fields,
             *(option for found in options.values() for option in _names(found))]  # fmt: skip
    offer = nearest(name, known) or f"; it has {listed(known, 'and')}"
    raise UsageError(f"The training block has no '{name}'{offer}")


def _names(options: Sequence[Option] | None) -> list[str]:
    return [option.name for option in options or ()]


def _resize(page: Any, block: Training) -> None:
    """Give the inputs, outputs and dimensions whose size was the task's the size that it has now."""
    if block.task is None:
        return
    task = tasks.TASKS[block.task.name]
    now = page["training"]["task"]
    if not isinstance(now, Mapping) or block.task.name not in now:
        return
    before = task.sizes(block.task.options)
    try:
        after = task.sizes({**{option.name: option.default for option in task.options}, **(now[block.task.name] or {})})
    except (TypeError, ValueError, ArithmeticError):
        return  # the option does not fit, which reading the page will say at its place
    for key, size in before.items():
        holders = [page["dimensions"]] if key == "dimensions" else [*page["inputs"].values(), *page["outputs"].values()]
        for holder in holders:
            for name in holder if key == "dimensions" else (key,):
                if holder.get(name) == size:
                    holder[name] = after[key]
