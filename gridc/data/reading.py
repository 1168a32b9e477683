"""How a data file is read for a spec."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gridc.arrays.signature import Form, Signature
from gridc.data.text import By
from gridc.errors import DataError, UsageError, listed, nearest
from gridc.language.spec import GridSpec

Names = Mapping[str, str | list[str]]


class Series(NamedTuple):
    """How a table whose rows are moments is cut: windows of so many rows, each of which predicts what comes ``ahead`` rows later,
    begun every ``stride`` rows; ``by`` is the column that tells one series from another."""

    window: int = 64
    ahead: int = 1
    stride: int = 1
    by: str | None = None


@dataclass(frozen=True)
class Reading:
    """How a file is read: what a spec's ``data`` block says, and what a training before fixed, which is then not asked of the
    file again: its ``signature`` (None where there was no training) and its ``vocabularies``.  ``words`` are the inputs and
    outputs whose cells are words, whatever they look like.  A table without a ``heading`` has columns 0, 1, 2 … instead."""

    spec: GridSpec
    inputs: Names = field(default_factory=dict[str, "str | list[str]"])
    outputs: Names = field(default_factory=dict[str, "str | list[str]"])
    lengths: Mapping[str, str] = field(default_factory=dict[str, str])
    by: By = "character"
    window: int = 64
    size: tuple[int, int] | None = None
    colour: bool = False
    heading: bool = True
    series: Series | None = None
    words: tuple[str, ...] = ()
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    signature: Signature | None = None
    targets: bool = True
    """Whether targets must be there: not so for predictions."""

    def __post_init__(self) -> None:
        for what, given, known in (("input", self.inputs, self.spec.inputs), ("output", self.outputs, self.spec.outputs),
                                   ("symbol", self.lengths, self.spec.symbols)):  # fmt: skip
            for name in given:
                if name not in known:
                    raise UsageError(f"The data names '{name}', which is no {what} of '{self.spec.name}', expected "
                                     f"{listed(known) or 'none'}{nearest(name, known)}")  # fmt: skip
        able = [name for name, one in (*self.spec.inputs.items(), *self.spec.outputs.items())
                if one.kind in ("vocabulary", "classes", "binary")]  # fmt: skip
        for name in self.words:
            if name not in able:
                raise UsageError(f"'words' names '{name}', which takes no words in '{self.spec.name}', expected "
                                 f"{listed(able) or 'none'}{nearest(name, able)}")  # fmt: skip

    def lengths_in(self, held: Collection[str], path: Path) -> dict[str, str]:
        """Find the column or array of the lengths along each symbol that has one in the file, by the symbol.

        DataError where a training before had one that the file has not: its sequences would seem to be as long as they lie."""
        found = {symbol: self.lengths.get(symbol, symbol) for symbol in self.spec.symbols}
        for symbol, name in (self.signature or Signature()).lengths.items():
            if name not in held:
                raise DataError(f"{path} has no lengths '{name}' of its examples along '{symbol}', which the model was trained "
                                f"with; it has {listed(held, 'and')}{nearest(name, held)}")  # fmt: skip
        return {symbol: name for symbol, name in found.items() if name in held or symbol in self.lengths}

    def fixed(self, name: str) -> Form | None:
        """Say in which form an input or output of ids stands in the file, where that is settled before it is looked at.

        A training that left a vocabulary read words (or symbols), and one that left none read numbers."""
        held = None if self.signature is None else self.signature.forms.get(name)
        if held is not None or name in self.words:
            return held or "words"
        if name in self.vocabularies:
            return "words"
        return None if self.signature is None else "numbers"
