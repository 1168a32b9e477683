"""A formula as text: in a page's own signs, in those of papers, or as TeX."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from gridc.tables.formulas import POWERS, SIGN, Call, Formula, Name, Negative, Number, Operation


class Style(NamedTuple):
    """How a formula is written: its signs, and what becomes of names and calls, as format strings."""

    signs: dict[str, str]
    names: dict[str, str]
    calls: dict[str, str]
    call: str
    fraction: str | None = None
    power: str = "{}**{}"


PLAIN = Style({sign: f" {sign} " for sign in "+-*/"}, {}, {}, "{}({})")
"""As a page has it, with brackets only where they change something."""
UNICODE = Style({"+": " + ", "-": " - ", "*": "∘", "/": " / "}, {"memory": "m'"}, {"sum": "Σ_d {}", "sigmoid": "σ({})"}, "{}({})",
                power="{}^{}")  # fmt: skip
_NAMES = {letter: unicodedata.name(letter).split()[-1] for letter in "αβγδεζηθικμνξπρστυφχψωΓΔΘΞΠΣΥΦΨΩ"}
_GREEK = {"λ": "lambda", "Λ": "Lambda"}  # of which Unicode's name is LAMDA
_GREEK.update((letter, name.lower() if letter.islower() else name.capitalize()) for letter, name in _NAMES.items())
TEX = Style({"+": " + ", "-": " - ", "*": r" \odot ", "/": " / "}, {"memory": "m'", "zW + b": "zW + b"},
            {"sum": r"\sum_d {}", "sigmoid": r"\sigma\left({}\right)", "sqrt": r"\sqrt{{{}}}", "abs": r"\left|{}\right|",
             "tanh": r"\tanh\left({}\right)", "exp": r"\exp\left({}\right)", "log": r"\log\left({}\right)"},
            r"\operatorname{{{}}}\left({}\right)", r"\frac{{{}}}{{{}}}", "{}^{{{}}}")  # fmt: skip


def text(formula: Formula, style: Style = PLAIN) -> str:
    """Write a formula in a style."""
    return _text(formula, style)[0]


def _text(formula: Formula, style: Style) -> tuple[str, int]:
    """Write a formula, and say how tightly its outermost sign binds."""
    match formula:
        case Number():
            return f"{formula.value:.15g}", 50 if formula.value >= 0 else SIGN
        case Name():
            return _name(formula.word, style), 50
        case Negative():
            return f"-{_within(formula.of, style, SIGN)}", SIGN
        case Call():
            return _call(formula, style)
        case Operation(sign="**"):
            exponent = text(formula.right, style) if style.power.count("{") > 2 else _within(formula.right, style, SIGN)
            return style.power.format(_within(formula.left, style, 41), exponent), 40
        case Operation(sign="/") if style.fraction:
            return style.fraction.format(text(formula.left, style), text(formula.right, style)), 50
        case Operation():
            power = POWERS.get(formula.sign, 5)
            sign = style.signs.get(formula.sign, f" {formula.sign} ")
            left, right = _within(formula.left, style, power), _within(formula.right, style, power + 1)
            return f"{left}{sign}{right}", power
        case _:
            raise TypeError(f"{formula!r} is no formula")


def _within(formula: Formula, style: Style, power: int) -> str:
    found, own = _text(formula, style)
    return f"({found})" if own < power else found


def _name(word: str, style: Style) -> str:
    if word in style.names:
        return style.names[word]
    if style is not TEX:
        return word
    head, _, tail = word.partition("_")
    letters = f"\\{_GREEK[head]}" if head in _GREEK else head if len(head) == 1 else rf"\mathrm{{{head}}}"
    return letters + (f"_{{{tail}}}".replace("_{_", "_{") if tail else "")


def _call(formula: Call, style: Style) -> tuple[str, int]:
    if formula.function == "sum" and "sum" in style.calls:
        return style.calls["sum"].format(_within(formula.arguments[0], style, 20)), 15
    given = ", ".join(text(argument, style) for argument in formula.arguments)
    if formula.function in style.calls:
        return style.calls[formula.function].format(given), 50
    return style.call.format(formula.function, given), 50
