"""What all commands share: JSON on stdout, files written whole, sizes and settings from the command line."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from gridc.errors import ResourceError, UsageError, nearest, printable
from gridc.options import LARGEST, MOST_THREADS

F = TypeVar("F", bound=Callable[..., Any])


def as_json(function: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")(function)


def with_threads(function: F) -> F:
    """Add ``--threads N``, to which the process is held."""

    def held(ctx: click.Context, parameter: click.Parameter, value: int | None) -> None:
        from gridc import resources

        resources.hold(value)

    return click.option(
        "--threads", type=click.IntRange(1, MOST_THREADS), expose_value=False, callback=held,
        help="How many compute (default: one a core, or what OMP_NUM_THREADS says); the numbers are the same.",
    )(function)  # fmt: skip


def with_sizes(function: F) -> F:
    """Add ``--size SYMBOL=NUMBER``."""
    return click.option(
        "-s", "--size", "sizes", multiple=True, metavar="SYMBOL=NUMBER", help="The size of a symbol; may be repeated."
    )(function)


def with_schedule(function: F) -> F:
    """Add ``--schedule KEY=VALUE,…``."""
    return click.option(
        "--schedule", "asked", metavar="KEY=VALUE,...", help="What a page's schedule: would ask: order=levels,keep=100MB."
    )(function)


def print_json(value: Any) -> None:
    """One JSON document on stdout; what is not finite becomes null, since JSON has no such numbers."""
    echo(json.dumps(_plain(value), indent=2, ensure_ascii=False), "json")


def echo(content: str, kind: str) -> None:
    """Print a result: ``table`` and ``text`` for people, in what signs the stream has; ``json`` with escapes for those that it
    lacks; anything else as the file that it would be, in UTF-8."""
    encoding = sys.stdout.encoding or "utf-8"
    whole = content if content.endswith("\n") else f"{content}\n"
    if kind == "json":
        whole = re.sub("[^\x00-\x7f]", lambda found: _escaped(found.group(), encoding), whole)
    elif kind not in ("table", "text") and _lacks(encoding, whole):
        click.echo(whole.encode(), nl=False)
        return
    click.echo(whole, nl=False)


def _escaped(sign: str, encoding: str) -> str:
    return json.dumps(sign)[1:-1] if _lacks(encoding, sign) else sign


def _lacks(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return True
    return False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def say(line: str) -> None:
    """Print a message for people, on stderr."""
    click.echo(printable(line), err=True)


def write(content: str | bytes, path: str | None, kind: str = "text") -> None:
    """Write a result into a file, whole or not at all, or onto stdout as ``echo`` does."""
    if path is None or path == "-":
        if isinstance(content, bytes):
            if sys.stdout.isatty():
                raise UsageError("This would print bytes on the terminal; give a file with -o.")
            click.echo(content, nl=False)
        else:
            echo(content, kind)
        return
    from gridc.files import write_atomically
    from gridc.resources import located

    there = located(path)
    if not there.parent.is_dir():
        raise ResourceError(f"There is no folder {there.parent} to write {there.name} into.")
    write_atomically(there, content)


def sizes_of(given: Sequence[str]) -> dict[str, Any]:
    """``T=50`` as a mapping to whole numbers; UsageError for anything else."""
    sizes: dict[str, Any] = {}
    for word in given:
        for part in filter(None, re.split(r"[,\s]+", word)):
            name, equals, number = part.partition("=")
            if not equals or not re.fullmatch("[0-9]{1,10}", number) or not 1 <= int(number) <= LARGEST:
                limit = f", up to {LARGEST:,}" * bool(re.fullmatch("[0-9]{10,}", number))
                raise UsageError(f"--size: found '{part}'; expected SYMBOL=NUMBER, such as T=50{limit}.")
            sizes[name] = int(number)
    return sizes


def value_of(text: str) -> Any:
    """Read a value on the command line as YAML reads it: ``0.1``, ``true``, ``{accuracy: 0.9}``, ``adam``."""
    from gridc.errors import SpecError
    from gridc.language.page import parse

    try:
        return parse(text, "")[0]
    except SpecError:
        return text


def settings_of(given: Sequence[str]) -> dict[str, Any]:
    """``--set KEY=VALUE`` as a mapping."""
    found: dict[str, Any] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"--set: found '{word}'; expected KEY=VALUE, such as batch=64.")
        found[name.strip().replace("-", "_") if "." not in name else name.strip()] = value_of(value)
    return found


def extra_options(arguments: Sequence[str], command: click.Command) -> dict[str, Any]:
    """Options that the command does not declare, as settings: ``--learning-rate 0.1``, ``--bits=16``."""
    found: dict[str, Any] = {}
    own = [option for parameter in command.params for option in parameter.opts]
    i = 0
    while i < len(arguments):
        word = arguments[i]
        if re.fullmatch(r"[A-Za-z_][\w.]*=.+", word):  # what can only be a setting
            word = f"--{word}"
        if not word.startswith("--"):
            raise UsageError(f"{command.name} takes one spec; found '{word}' besides.")
        name, equals, value = word[2:].partition("=")
        i += 1
        if not equals:
            if i >= len(arguments) or (arguments[i].startswith("--")):
                raise UsageError(f"There is no option '{word}' without a value{nearest(word, own)}")
            value, i = arguments[i], i + 1
        found[name.replace("-", "_") if "." not in name else name] = value_of(value)
    return found


def shortened(number: float) -> str:
    """Say a duration, in seconds, as people do."""
    return f"{number * 1e3:.0f} ms" if number < 1 else f"{number:.1f} s" if number < 120 else f"{number / 60:.1f} min"
