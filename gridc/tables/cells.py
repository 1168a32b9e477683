"""The table of cells that come with gridc: a page of formulas (``cells.yaml``), and what no formula says.

``CELLS`` maps each name to its mechanism.  Adding one is adding its formulas to the page, or a row here for what is not
unit by unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridc.tables.definitions import define
from gridc.tables.mechanisms import (
    ATTENDS,
    ATTENTION,
    EMBEDDINGS,
    SHARED,
    Arrays,
    Cell,
    State,
    Taken,
    Units,
    Weight,
)  # fmt: skip
from gridc.tables.rules import cell

PAGE = Path(__file__).with_name("cells.yaml")


def _defined() -> dict[str, Cell]:
    """Read the page of cells."""
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    page: Mapping[str, Mapping[str, Any]] = yaml.load(PAGE.read_text(encoding="utf-8"))["cells"]
    return {name: cell(replace(define(name, words), written=words), name, True) for name, words in page.items()}


def named(name: str) -> Cell:
    """Give the row of the table of this name.  Raises KeyError."""
    return CELLS[name]


def _embedding(u: Units) -> dict[str, Weight]:
    if u.embeddings == "adjacent":
        assert u.hops is not None
        return {"E": Weight((u.hops + 1, u.facts, u.hidden), facts=True)}
    bias = {"b": Weight((u.hidden,), drawn=False)} if u.bias else {}
    fact = Weight((u.facts, u.hidden), facts=True)
    return {"W": Weight((u.hidden, u.hidden)), **bias, "A": fact, "C": fact}


def _attention(x: Arrays, t: Taken) -> State:
    if "E" in t.weights:
        keys, values = t.weights["E"][t.chosen], t.weights["E"][t.chosen + 1]
    else:
        keys, values = t.weights["A"][None], t.weights["C"][None]
    weight = x.sum(t.z[:, :, None, :] * keys, axis=-1)
    if t.options.attention == "softmax":
        weight = x.exp(weight - x.max(weight, axis=-1, keepdims=True))
        weight = weight / x.sum(weight, axis=-1, keepdims=True)
    return (t.z if t.a is None else t.a) + x.sum(weight[..., None] * values, axis=-2), None


def _handed_on(x: Arrays, t: Taken) -> State:
    return t.z, None


# A formula is of one unit's gates and states: `memory` looks at a set of facts, and `pass` has no gates at all.
ROWS = (
    Cell("memory", lambda n: (), None, "p = softmax(h·A(facts));  h' = hW + b + Σ p·C(facts)",
         "Sukhbaatar et al. 2015, section 2", uses_hidden=True, options=(ATTENDS, EMBEDDINGS, ATTENTION), update=_attention, attention=True,
         weights=_embedding, reads="itself", flops=lambda u: 2 * u.hidden**2, shipped=True,
         again=(named, ("memory",))),
    Cell("pass", lambda n: (), None, "h' = z", "hands a vector on unchanged", update=_handed_on, weights=lambda u: {},
         reads="one", relays=True, shipped=True, again=(named, ("pass",))),
)  # fmt: skip
CELLS: dict[str, Cell] = {**_defined(), **{row.name: row for row in ROWS}}
OPTIONS = tuple(dict.fromkeys((*SHARED, *(option for cell in CELLS.values() for option in cell.options))))
"""What transforms may choose about their cells."""
