"""How a data file is read for a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gridc.data.text import By
from gridc.errors import UsageError, listed, nearest
from gridc.language.spec import GridSpec

Names = Mapping[str, str | list[str]]



@dataclass(frozen=True)
class Reading:
    """How a file is read; what a spec's ``data`` block says, and the vocabularies of a model that was trained before."""

    spec: GridSpec
    inputs: Names = field(default_factory=dict[str, "str | list[str]"])
    outputs: Names = field(default_factory=dict[str, "str | list[str]"])
    lengths: Mapping[str, str] = field(default_factory=dict[str, str])
    by: By = "character"
    window: int = 64
    size: tuple[int, int] | None = None
    colour: bool = False
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    targets: bool = True
    """Whether targets must be there: not so for predictions."""

    def __post_init__(self) -> None:
        for what, given, known in (("input", self.inputs, self.spec.inputs), ("output", self.outputs, self.spec.outputs),
                                   ("symbol", self.lengths, self.spec.symbols)):  # fmt: skip
            for name in given:
                if name not in known:
                    raise UsageError(f"The data names '{name}', which is no {what} of '{self.spec.name}', expected "
                                     f"{listed(known) or 'none'}{nearest(name, known)}")  # fmt: skip
