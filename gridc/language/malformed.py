"""Text that is no YAML: what is wrong with it, at the bracket or quote that is open rather than where a parser gave up."""

# ruamel.yaml has no stubs.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import re
from typing import Any

ENDS = {"{": "}", "[": "]"}
TOKEN = re.compile(r"""(?:^|(?<=\s))#[^\n]*|"(?:\\.|[^"\\])*"|'(?:''|[^'])*'|[\[{\]}]""")
"""What a search for a bracket's end must see: comments and quoted texts, to pass them over, and brackets."""


def told(caught: Any, text: str) -> tuple[str, Any]:
    """Say what a ``MarkedYAMLError`` means, and give the mark that it is about."""
    problem = (caught.problem or caught.context or "it does not parse").replace("\n", " ")
    context, opened, noticed = str(caught.context or ""), caught.context_mark, caught.problem_mark
    if opened is not None and "while parsing a flow" in context:
        bracket = text[opened.index : opened.index + 1]
        end = _end(text, opened.index)
        if bracket in ENDS and (end is None or text[end] != ENDS[bracket]):
            return f"found a '{bracket}' that is never closed; expected '{ENDS[bracket]}'{_before(text, noticed, end)}", opened
    if opened is not None and "quoted scalar" in context and noticed.index >= len(text.rstrip()):
        quote = text[opened.index : opened.index + 1]
        return f"found a quote that is never closed; expected {quote} where the text ends", opened
    if closing := re.search(r"but found '([\]}])'", problem):
        return f"found a '{closing.group(1)}' that closes nothing", noticed
    if r"'\t' that cannot start" in problem:
        return "found a tab at the start of a line; expected spaces", noticed
    return problem, noticed or opened


def _end(text: str, start: int) -> int | None:
    """Find the bracket that ends the one at ``start``, or the first that ends another than it should; None where none does."""
    open_: list[str] = []
    for found in TOKEN.finditer(text, start):
        token = found.group()
        if token in ENDS:
            open_.append(token)
        elif token in ENDS.values():
            wrong = not open_ or ENDS[open_.pop()] != token
            if wrong or not open_:
                return found.start()
    return None


def _before(text: str, noticed: Any, end: int | None) -> str:
    if end is not None and text.count("\n", 0, end) <= noticed.line:
        return f" before '{text[end]}'"
    return f" before line {noticed.line + 1}" if noticed.index < len(text.rstrip()) else " before the end"
