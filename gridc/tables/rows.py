"""Tables that take more rows than they come with: what Python registers, and what installed packages bring.

A row is looked for in this order: those of gridc, those registered, those installed, which are loaded when they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from gridc.errors import SpecError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class Row(Protocol):
    """What a row has."""

    @property
    def name(self) -> str:
        """The word for it."""
        ...


T = TypeVar("T", bound=Row)


class Rows(Mapping[str, T]):
    """Rows by name; ``what`` is the word for one of them, ``kind`` their class, ``group`` the entry points that bring some."""

    def __init__(self, what: str, group: str, kind: type[T], rows: Iterable[T]):
        self.what, self.group, self.kind = what, group, kind
        self.shipped: Mapping[str, T] = {row.name: row for row in rows}
        self.registered: dict[str, T] = {}

    def register(self, row: T) -> None:
        """Put a row in, or another one in the place of one registered before; UsageError where gridc has one of that name."""
        if row.name in self.shipped:
            raise UsageError(f"there is {self._one} '{row.name}' already; expected another name")
        if not NAME.fullmatch(row.name):
            raise UsageError(f"{self._one} cannot be called {row.name!r}; expected letters, digits, _ and -")
        self.registered[row.name] = row

    def __getitem__(self, name: str) -> T:
        for table in (self.shipped, self.registered):
            if name in table:
                return table[name]
        return self._loaded(name, self._installed()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self.shipped, *self.registered, *self._installed())))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.shipped or name in self.registered or name in self._installed()

    @property
    def _one(self) -> str:
        return f"{'an' if self.what[0] in 'aeiou' else 'a'} {self.what}"

    def _installed(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points  # late, since few ask for what is not gridc's

        return {point.name: point for point in entry_points(group=self.group)}

    def _loaded(self, name: str, point: EntryPoint) -> T:
        """Give the row that an entry point brings: one of the class, or a function without arguments that gives one."""
        where = f"the {self.what} '{name}' of the entry point {point.value}"
        try:
            row = point.load()
            row = row() if callable(row) and not isinstance(row, self.kind) else row
        except Exception as error:  # whatever the package raises
            raise SpecError(f"{where} cannot be loaded: {error}", path=f"<{self.group}>") from error
        if not isinstance(row, self.kind) or row.name != name:
            found = f"one called '{row.name}'" if isinstance(row, self.kind) else repr(row)
            raise SpecError(f"{where} is {found}; expected a {self.kind.__name__} of that name", path=f"<{self.group}>")
        return row
