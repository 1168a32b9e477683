"""The choice of one row of a table in a page: by name alone, or with options, ``{huber: {delta: 0.5}}``.

The grammar and its JSON Schema hold the rows that come with gridc.  Those that are registered, or that installed packages bring,
are looked up when a page names one, so that nothing is decided when the grammar is made; the schema takes any such name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Protocol, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from gridc.errors import listed, nearest
from gridc.options import STRICT, Option, model
from gridc.tables.rows import NAME, Rows


class Block(BaseModel):
    """Keys that are not declared are refused; numbers are not made from strings."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Choice(Block):
    """One row of a table with its options: ``{parity: {bits: 12}}``."""

    @property
    def name(self) -> str:
        """Which row."""
        return self._chosen()[0]

    @property
    def options(self) -> dict[str, Any]:
        """Its options, defaults filled in."""
        return self._chosen()[1].model_dump()

    def _chosen(self) -> tuple[str, BaseModel]:
        fields = type(self).model_fields
        name = next(iter(self.model_fields_set))
        return fields[name].alias or name, getattr(self, name)

    @model_validator(mode="after")
    def _one(self) -> Choice:
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("one_of", "expected one of {names}, not {count}", {
                "names": listed(one.alias or name for name, one in type(self).model_fields.items()),
                "count": len(self.model_fields_set) or "none"})  # fmt: skip
        return self


class Row(Protocol):
    """What a row of a table has; options, and some text."""

    @property
    def options(self) -> tuple[Option, ...]:
        """What it can be told."""
        ...


class _Table(NamedTuple):
    title: str
    rows: Mapping[str, Any]
    text: Callable[[Any], str]

    def field(self, name: str) -> tuple[Any, Any]:
        """Make the field that chooses a row."""
        row, text = self.rows[name], self.text(self.rows[name])
        return model(f"{self.title} {name}", row.options, text), Field(
            default=None, alias=name, title=f"options of {name}", description=text, validate_default=False)  # fmt: skip

    def more(self) -> list[str]:
        """Name the rows that do not come with gridc."""
        return [name for name in self.rows if name not in _shipped(self.rows)]


_TABLES: dict[type[BaseModel], _Table] = {}


def _shipped(rows: Mapping[str, Any]) -> Mapping[str, Any]:
    return rows.shipped if isinstance(rows, Rows) else rows


def fields(made: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Give the fields that a model has now: a choice has one for every row of its table."""
    table = _TABLES.get(made)
    if table is None:
        return made.model_fields
    whole = _widened(made, more) if (more := table.more()) else made
    return {one.alias or name: one for name, one in whole.model_fields.items()}


def _widened(made: type[BaseModel], names: list[str]) -> type[BaseModel]:
    """Make a choice that has fields for these rows, too."""
    table = _TABLES[made]
    more: dict[str, Any] = {_key(name): table.field(name) for name in names}
    return create_model(table.title, __base__=made, **more)


def _key(name: str) -> str:
    return name.replace("-", "_")


def choice(title: str, rows: Mapping[str, Any], text: Callable[[Any], str]) -> Any:
    """Make the type of a field that chooses one row of a table, by name alone or with options; ``text`` says what a row is."""
    table, shipped = _Table(title, rows, text), _shipped(rows)
    own: dict[str, Any] = {_key(name): table.field(name) for name in shipped}
    made = create_model(title, __base__=Choice, __doc__=f"One {title.lower()} with its options.", **own)
    made.model_config.update(STRICT)
    _TABLES[made] = table

    def expanded(value: Any) -> Any:
        """``digits`` and ``{digits: }`` both say ``{digits: {}}``."""
        if isinstance(value, str):
            if value not in rows:
                raise PydanticCustomError("no_such_row", "there is no {what} '{name}', expected {names}{near}", {
                    "what": title.lower(), "name": value, "names": listed(rows), "near": nearest(value, rows)})  # fmt: skip
            value = {value: {}}
        if not isinstance(value, Mapping):
            return value
        given: dict[Any, Any] = {name: {} if one is None else one for name, one in cast("Mapping[Any, Any]", value).items()}
        more = [name for name in given if isinstance(name, str) and name not in shipped and name in rows]
        return _widened(made, more).model_validate(given) if more else given

    names: Any = Literal[tuple(shipped)]  # type: ignore[valid-type]  # the rows of the table
    if isinstance(rows, Rows):  # an editor knows nothing of those registered, and completes those that come with gridc
        pattern = f"^{NAME.pattern}$"
        names = names | Annotated[str, Field(pattern=pattern)]
        options: Any = {"anyOf": [{"type": "object"}, {"type": "null"}]}
        made.model_config["json_schema_extra"] = {"additionalProperties": options, "propertyNames": {"pattern": pattern}}
    made.model_rebuild(force=True)
    return Annotated[made, BeforeValidator(expanded, json_schema_input_type=names | made)]


def either(names: Mapping[str, object]) -> str:
    """Say what a field that chooses a row expects, for people."""
    return f"{listed(_shipped(names))}, alone or as {{NAME: {{OPTION: VALUE}}}}"


def expected(kind: type[BaseModel]) -> str | None:
    """Say the same of the type of such a field, with all rows that there are now; None of any other type."""
    table = _TABLES.get(kind)
    return None if table is None else either(dict.fromkeys(table.rows))
