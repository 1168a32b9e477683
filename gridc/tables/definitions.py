"""What a page says of a cell, checked: its gates, its formulas, and every name in them.

``define`` gives a frozen, hashable ``Definition``; ``rules.cell`` makes a mechanism of it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gridc.errors import listed, nearest
from gridc.tables import formulas, notation
from gridc.tables.constants import folded
from gridc.tables.formulas import FUNCTIONS, NAME, Call, Formula, Misread, Name, Negative, Number, Operation, parts, walk

ANY = 64
"""Along how many dimensions a cell can travel that names none of them."""
MOST = 250
"""Words, numbers and signs of all formulas of a cell."""
GATES = ("identity", *(word for word, arity in FUNCTIONS.items() if arity == (1, 1) and word != "sum"))
"""What may become of a pre-activation."""
STATES = {"h": "the own entering hidden vector", "m": "the own entering memory", "memory": "the new memory"}
WEIGHTS = ("W", "b", "p", "A", "C", "E", "start")
"""Names of parameters that vectors cannot bear."""
NUMBERED = re.compile(r"(.+)_([1-9][0-9]{0,2})")
_SHOWN = {"memory": "m'", "hidden": "h'"}
SECTIONS = ("gates", "vectors", "constants", "let")


@dataclass(frozen=True)
class Definition:
    """A cell as a page defines it; constants are put into the formulas.  Two are equal where they compute the same in the same
    words: the name that it bears, its source and the way in which it is written do not count."""

    name: str = field(compare=False)
    gates: tuple[tuple[str, str], ...]
    """Each gate and what becomes of its pre-activation."""
    hidden: Formula
    memory: Formula | None = None
    each: tuple[str, ...] = ()
    """The gates and vectors of which there is one for each dimension."""
    vectors: tuple[tuple[str, float], ...] = ()
    """Each learned vector, and what it starts at."""
    let: tuple[tuple[str, Formula], ...] = ()
    peepholes: tuple[tuple[str, Formula], ...] = ()
    """What a gate sees through a vector of its own, where a transform has chosen ``peepholes``."""
    sees: tuple[tuple[str, Literal["own", "others"]], ...] = ()
    bias: tuple[tuple[str, float], ...] = ()
    forget: tuple[str, ...] = ()
    init: tuple[str, float] | None = None
    dimensions: tuple[int, int] = (1, ANY)
    uses_hidden: bool = False
    source: str = field(default="", compare=False)
    written: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)
    """The page's own words."""
    shown: tuple[tuple[str, Formula], ...] = field(default=(), compare=False, repr=False)
    """The formulas with their constants as names, by what they give."""

    def indexed(self, formula: Formula) -> bool:
        """Tell whether a formula is another one for each dimension."""
        return _indexed(formula, self.each, dict(self.let))

    def activated(self) -> bool:
        """Tell whether a transform chooses a function of it, its ``activation``."""
        calls = (node for formula in self.every() for node in walk(formula) if isinstance(node, Call))
        return "activation" in dict(self.gates).values() or any(call.function == "activation" for call in calls)

    def every(self) -> Iterator[Formula]:
        """Give every formula of the cell."""
        yield self.hidden
        if self.memory is not None:
            yield self.memory
        for _, formula in (*self.let, *self.peepholes):
            yield formula

    def equation(self, style: notation.Style = notation.UNICODE) -> str:
        """Write gates and formulas in one line."""
        by: dict[str, list[str]] = {}
        for gate, function in self.gates:
            by.setdefault(function, []).append(f"{gate}_d" if gate in self.each else gate)
        given = Call("", (Name("zW + b"),))
        lines = [", ".join(notation.text(Name(gate), style) for gate in gates) + " = " +
                 ("zW + b" if function == "identity" else notation.text(replace(given, function=function), style))
                 for function, gates in by.items()]  # fmt: skip
        lines += [f"{_SHOWN.get(name, name)} = {notation.text(self.numbered(formula), style)}" for name, formula in self.shown]
        return (r", \quad " if style is notation.TEX else ";  ").join(lines)

    def numbered(self, formula: Formula, within: bool = False) -> Formula:
        """Give a formula in which, within a sum, ``m`` is ``m_d``, and so are gates and vectors of each dimension."""
        match formula:
            case Name() if within and (formula.word == "m" or formula.word in self.each):
                return Name(f"{formula.word}_d")
            case Call():
                inside = within or formula.function == "sum"
                return replace(formula, arguments=tuple(self.numbered(a, inside) for a in formula.arguments))
            case Operation():
                return replace(formula, left=self.numbered(formula.left, within), right=self.numbered(formula.right, within))
            case Negative():
                return replace(formula, of=self.numbered(formula.of, within))
            case _:
                return formula


def define(name: str, page: Mapping[str, Any]) -> Definition:
    """Check what a page says of the cell ``name``, its values being of the right kinds.

    Raises Misread at the first thing that makes no sense."""
    return _Defining(name, page).definition()


class _Defining:
    """One definition under check."""

    def __init__(self, name: str, page: Mapping[str, Any]):
        self.name, self.page = name, page
        self.sections: dict[str, Mapping[str, Any]] = {section: page.get(section) or {} for section in SECTIONS}
        self.each: tuple[str, ...] = tuple(page.get("each") or ())
        self.hints: dict[str, Mapping[str, Any]] = {key: page.get(key) or {} for key in ("peepholes", "sees", "bias")}
        self.declared = {word: section for section in SECTIONS for word in self.sections[section]}

    def definition(self) -> Definition:
        self.names()
        written = self.parsed()
        if sum(1 for formula in written.values() for _ in walk(formula)) > MOST:
            raise Misread(f"found more than {MOST} words, numbers and signs in its formulas", path=("hidden",))
        let = {key[1]: formula for key, formula in written.items() if key[0] == "let"}
        for key, formula in written.items():
            self.known(key, formula, let)
        self.acyclic(written)
        constants = self.sections["constants"]
        known = {key: at_path(key, functools.partial(folded, formula, constants)) for key, formula in written.items()}
        for key in (("hidden",), ("memory",)):
            if isinstance(known.get(key), Number):
                raise Misread("this is a number; expected something of gates, vectors or states", path=key)
        self.used(written)
        order = [(key[-1], formula) for key, formula in written.items() if key[0] != "peepholes"]
        gates = tuple((str(gate), str(function)) for gate, function in self.sections["gates"].items())
        return Definition(
            self.name, gates, known["hidden",], known.get(("memory",)), self.each,
            tuple((word, float(value)) for word, value in self.sections["vectors"].items()),
            tuple((word, known["let", word]) for word in self.sections["let"]),
            tuple((word, known["peepholes", word]) for word in self.hints["peepholes"]),
            tuple(self.hints["sees"].items()),
            tuple((word, float(value)) for word, value in self.hints["bias"].items()),
            tuple(self.page.get("forget") or ()), self.page.get("init"), self.dimensions(written, let),
            any(isinstance(node, Name) and node.word == "h" for formula in written.values() for node in walk(formula)),
            str(self.page.get("source") or ""), shown=tuple(order),
        )  # fmt: skip

    # -- names ----------------------------------------------------------------------------------------------------------

    def names(self) -> None:
        """Refuse a name that is none, is taken, or stands for something that is not there."""
        if not self.sections["gates"]:
            raise Misread("a cell has at least one gate", path=("gates",))
        seen: set[str] = set()
        for section in SECTIONS:
            for word in self.sections[section]:
                self.name_of(section, word, seen)
                seen.add(word)
        for gate, function in self.sections["gates"].items():
            if function not in GATES:
                raise Misread(f"found {function!r}; a gate is its pre-activation through one of {listed(GATES)}"
                              f"{nearest(function, GATES)}", path=("gates", gate))  # fmt: skip
        able = [word for word, section in self.declared.items() if section in ("gates", "vectors")]
        self.among("each", able, "gate or vector")
        gates = list(self.sections["gates"])
        for key in ("forget", "bias", "sees", "peepholes"):
            self.among(key, gates, "gate")

    def name_of(self, section: str, word: str, seen: set[str]) -> None:
        at = (section, word)
        if not NAME.fullmatch(word):
            raise Misread(f"found the name {word!r}; expected letters, digits and _, a letter first", path=at, key=True)
        if word in FUNCTIONS:
            raise Misread(f"'{word}' is the name of a function; expected another", path=at, key=True)
        if word in STATES or word == "hidden":
            raise Misread(f"'{word}' is {STATES.get(word, 'the new hidden vector')}; expected another name", path=at, key=True)
        if word in seen:
            raise Misread(f"the name '{word}' is given twice; expected another", path=at, key=True)
        if NUMBERED.fullmatch(word):
            raise Misread(f"'{word}' is how the '{word.rpartition('_')[0]}' of one dimension is called; expected another name",
                          path=at, key=True)  # fmt: skip
        if section == "vectors" and word in WEIGHTS:
            raise Misread(f"'{word}' is the name of other weights; expected another", path=at, key=True)

    def among(self, key: str, known: Iterable[str], kind: str) -> None:
        given = self.page.get(key) or ()
        known = list(known)
        for i, word in enumerate(given):
            if word not in known:
                place = (key, word) if isinstance(given, Mapping) else (key, i)
                raise Misread(f"there is no {kind} '{word}'; expected {listed(known)}{nearest(word, known)}", path=place,
                              key=isinstance(given, Mapping))  # fmt: skip

    # -- formulas -------------------------------------------------------------------------------------------------------

    def parsed(self) -> dict[tuple[str, ...], Formula]:
        """Parse every formula, by the keys that lead to it, in the order in which people read them."""
        found: dict[tuple[str, ...], Formula] = {}
        for section, given in (("let", self.sections["let"]), ("peepholes", self.hints["peepholes"])):
            for word, text in given.items():
                found[section, word] = at_path((section, word), functools.partial(formulas.parse, str(text)))
        for key in ("memory", "hidden"):
            if self.page.get(key) is not None:
                found[key,] = at_path((key,), functools.partial(formulas.parse, str(self.page[key])))
        return found

    def known(self, key: tuple[str, ...], formula: Formula, let: Mapping[str, Formula]) -> None:
        """Refuse names that stand for nothing here, and sums over what has no dimensions."""
        for node in walk(formula):
            if isinstance(node, Call) and node.function == "sum" and not _indexed(node.arguments[0], self.each, let):
                some = listed(f"'{word}'" for word in ("m" * ("memory" in self.page), *self.each) if word)
                raise Misread("sum adds what there is one of for each dimension; found nothing such in it"
                              f"{f', which would be {some}' * bool(some)}", node.at, node.width, key)  # fmt: skip
            if not isinstance(node, Name) or node.word in self.declared:
                continue
            word, numbered = node.word, NUMBERED.fullmatch(node.word)
            if numbered and (numbered[1] == "m" or numbered[1] in self.each):
                word = numbered[1]
            if word in ("m", "memory") and "memory" not in self.page:
                raise Misread(f"'{node.word}' is {STATES[word]}, and this cell keeps none; expected the key 'memory'",
                              node.at, node.width, key)  # fmt: skip
            if word not in STATES and word not in self.declared:
                here = [*self.declared, "h", *(["m", "memory"] if "memory" in self.page else [])]
                hint = f"; {FUNCTION_HINT}" if word in FUNCTIONS else ""
                raise Misread(f"there is nothing called '{node.word}'; expected {listed(here)}{hint}{nearest(node.word, here)}",
                              node.at, node.width, key)  # fmt: skip

    def used(self, written: Mapping[tuple[str, ...], Formula]) -> None:
        """Refuse what is declared and never used."""
        words = {node.word for formula in written.values() for node in walk(formula) if isinstance(node, Name)}
        words |= {found[1] for word in words if (found := NUMBERED.fullmatch(word))}
        for word, section in self.declared.items():
            if word not in words:
                raise Misread(f"'{word}' is used nowhere; expected it in a formula, or left out", path=(section, word), key=True)

    def acyclic(self, written: Mapping[tuple[str, ...], Formula]) -> None:
        """Refuse a name whose value follows from itself."""
        of: dict[str, tuple[tuple[str, ...], Formula]] = {key[-1]: (key, formula) for key, formula in written.items()}
        done: set[str] = set()

        def visit(word: str, trail: tuple[str, ...], place: tuple[Name, tuple[str, ...]] | None) -> None:
            if word in trail and place is not None:
                circle = " ← ".join((*trail[trail.index(word) :], word))
                raise Misread(f"'{word}' follows from itself: {circle}", place[0].at, place[0].width, place[1])
            if word in done or word not in of:
                return
            key, formula = of[word]
            for node in walk(formula):
                if isinstance(node, Name):
                    found = NUMBERED.fullmatch(node.word)
                    visit(found[1] if found else node.word, (*trail, word), (node, key))
            done.add(word)

        for word in of:
            visit(word, (), None)

    def dimensions(self, written: Mapping[tuple[str, ...], Formula], let: Mapping[str, Formula]) -> tuple[int, int]:
        """Give along how many dimensions the cell can travel: as many as it names, or one where it names none of several."""
        most, alone, place = 0, False, None
        for key, formula in written.items():
            for node in walk(formula):
                found = NUMBERED.fullmatch(node.word) if isinstance(node, Name) and node.word not in self.declared else None
                if found:
                    most, place = max(most, int(found[2])), (node, key)
            gate = key[-1] in self.each or key[0] == "peepholes"
            alone |= key[0] != "let" and not gate and _indexed(formula, self.each, let)
            alone |= any(isinstance(node, Name) and node.word == "h" for node in walk(formula))
        if most > ANY or (most > 1 and alone):
            node, key = place or (Name("m"), ("hidden",))
            why = f"found the dimension {most}; a grid has no more than {ANY}" if most > ANY else (
                f"'{getattr(node, 'word', '')}' is of one of several dimensions, and elsewhere the cell travels along one; "
                "expected each of them by number, or sum(…)")  # fmt: skip
            raise Misread(why, node.at, node.width, key)
        return (most, most) if most else (1, 1) if alone else (1, ANY)


FUNCTION_HINT = "a function takes its arguments in brackets"


def at_path(key: tuple[str, ...], make: Callable[[], Formula]) -> Formula:
    """Make something, and say of a mistake under which keys it is."""
    try:
        return make()
    except Misread as error:
        error.path = error.path or key
        raise


def _indexed(formula: Formula, each: tuple[str, ...], let: Mapping[str, Formula], seen: frozenset[str] = frozenset()) -> bool:
    match formula:
        case Name():
            if formula.word in let and formula.word not in seen:
                return _indexed(let[formula.word], each, let, seen | {formula.word})
            return formula.word == "m" or formula.word in each
        case Call(function="sum"):
            return False
        case _:
            return any(_indexed(part, each, let, seen) for part in parts(formula))
