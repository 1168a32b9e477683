"""A whole page, with its ``training:`` and ``sweep:`` blocks.

Apart from the grid's own grammar, since who only predicts needs no table of tasks and optimisers, which take long to make."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gridc.language.grammar import GridPage
from gridc.tables.sweep_block import Sweep
from gridc.tables.training_block import Training


class Document(GridPage):
    """A recurrent grid: its dimensions, transforms, priority, inputs and outputs."""

    training: Training | None = Field(None, title="the training block", description="What `gridc train` does.")
    sweep: Sweep | None = Field(None, title="the sweep block", description="What `gridc sweep` searches.")


def json_schema() -> dict[str, Any]:
    """Make the JSON Schema of a spec, for editors (draft 7 vocabulary where pydantic's own default allows)."""
    schema = Document.model_json_schema()
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "gridc spec", **_draft_7(schema)}


def _draft_7(value: Any) -> Any:
    """Put draft 7's ``definitions``, at home in editors' YAML servers, for the ``$defs`` of 2020-12 that pydantic writes."""
    if isinstance(value, dict):
        return {("definitions" if k == "$defs" else k): _draft_7(v) for k, v in value.items()}  # type: ignore[misc]
    if isinstance(value, list):
        return [_draft_7(v) for v in value]  # type: ignore[misc]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return value.replace("#/$defs/", "#/definitions/")
    return value
