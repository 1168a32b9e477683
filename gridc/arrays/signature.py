"""What a training fixed about its files, so that every later file is read as the first was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Form = Literal["numbers", "words", "symbols"]
"""What the cells of an input or output are: ids or real numbers; words, one at each place; text that is cut into symbols."""


@dataclass(frozen=True)
class Signature:
    """What is known of every input and output that came from a file: which columns of a table it takes, in their order, and in
    which form it stands there; and which column or array holds the ``lengths`` along a symbol.  The words themselves are a data
    set's vocabularies."""

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    forms: Mapping[str, Form] = field(default_factory=dict[str, Form])
    lengths: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        """Tell whether anything is known."""
        return bool(self.columns or self.forms or self.lengths)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and mappings, as ``from_json`` takes them."""
        columns = {name: list(columns) for name, columns in self.columns.items()}
        return {"columns": columns, "forms": dict(self.forms), "lengths": dict(self.lengths)}

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Signature:
        """Make what ``to_json`` gave; nothing is known where the mapping is empty, as older model files have it."""
        columns = {name: tuple(found) for name, found in held.get("columns", {}).items()}
        return cls(columns, dict(held.get("forms", {})), dict(held.get("lengths", {})))
