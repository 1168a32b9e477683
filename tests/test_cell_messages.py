"""Broken cells: one sentence at its place, with a caret under what is wrong; hostile ones are refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gridc

PAGE = """\
name: broken
cells:
  mine:
    gates: {f: sigmoid, c: tanh}
    vectors: {gain: 1.0}
    constants: {alpha: 0.9}
    each: []
    let: {kept: alpha*f*m}
    memory: kept + (1 - f)*c
    hidden: gain*tanh(memory)
    peepholes: {f: m}
    sees: {c: others}
    bias: {f: 1.0}
    forget: [f]
dimensions: {time: T}
transforms:
  time: {cell: mine, hidden: 4}
inputs: {x: {features: 2, joins: [time]}}
outputs: {y: {features: 1, reads: [time]}}
"""
FORMULAS = {
    "«tahn»(f)": "there is no function 'tahn'",
    "f + «g»": "there is nothing called 'g'",
    "f «f»": "expected an operator",
    "f*«»": "found the end; expected a name",
    "«(»f + 1": "this bracket is not closed",
    "f + 1«)»": "found ')'; expected an operator",
    "f «>» 0": "a comparison stands in where",
    "where(f«,» 1, 2)": "expected a comparison",
    "f + «@»": "found '@'",
    "«max»(f)": "max takes 2 or more arguments; found 1",
    "«tanh»(f, c)": "tanh takes 1 argument; found 2",
    "«where»(f > 0, c)": "where takes 3 arguments; found 2",
    "f «**» c": "an exponent that is no number",
    "f*(1 «/» 0)": "no finite number",
    "f + «log»(0)": "no finite number",
    "«sum»(f)": "sum adds what there is one of for each dimension",
    "«٣»*f": "found '٣'",
    "f + «1e999»": "larger than any number",
    "f«[»0]": "found '['",
    "«__import__»(f)": "there is no function '__import__'",
    "f«.»c": "found '.'",
    "f + «tanh»": "a function takes its arguments in brackets",
    "f + «hidden»": "there is nothing called 'hidden'",
    "f «2»": "a product is written with *",
    "f + «,» c": "found ','; expected a name",
    "«F» + f": "did you mean 'f'",
    "f + «m_x»": "there is nothing called 'm_x'",
    "«$»f": "found '$'",
    "f «!»= c": "found '!'",
    "f + 2«c»": "found 'c'; expected an operator or the end; a product is",
    "f + 1.«.2»": "found '.2'; expected an operator or the end; a product is",
    "f + «'»c'": "found \"'\"; expected a name, a number, a bracket or one of +",
    "tanh(«)»": "found ')'; expected a name, a number or a bracket",
    "tanh«(»f": "this bracket is not closed; expected ')'",
    "tanh «f»": "found 'f'; expected an operator or the end; a product is",
    "f +«»": "found the end; expected a name, a number or a bracket",
    "f ** -0.5*c «*»* f": "found an exponent that is no number",
    "f «=»= c": "found '='; expected a name, a number, a bracket or one of +",
    "f «=» c": "found '='; expected a name, a number, a bracket or one of +",
    "f «&»& c": "found '&'; expected a name, a number, a bracket or one of +",
    "f «and» c": "found 'and'; expected an operator or the end; a product is",
    "not «f»": "found 'f'; expected an operator or the end; a product is",
    "f «if» c else f": "found 'if'; expected an operator or the end; a product is",
    "f«;» c": "found ';'; expected a name, a number, a bracket or one of +",
    "f*«sigmiod»(c)": "did you mean 'sigmoid'",
    "min(«)»": "found ')'; expected a name, a number or a bracket",
    "«abs»(f, c)": "abs takes 1 argument; found 2",
    "«norm»(f, c)": "norm takes 1 argument; found 2",
    "norm(«)»": "found ')'; expected a name, a number or a bracket",
    "«where»(f > 0, c, f, 1)": "where takes 3 arguments; found 4",
    "where(f«,» c, f)": "found ','; expected a comparison, where(a > b, x, y)",
    "where(f > 0 «>» c, f, c)": "found '>'; expected ')'",
    "exp(«tanh»)": "there is nothing called 'tanh'",
    "f «%» c": "found '%'; expected a name, a number, a bracket or one of +",
    "f /«/» c": "found '/'; expected a name, a number or a bracket",
    "«~»f": "found '~'; expected a name, a number, a bracket or one of +",
    "f «|» c": "found '|'; expected a name, a number, a bracket or one of +",
    "softplus(f,«)»": "found ')'; expected a name, a number or a bracket",
    "«kept»(f)": "there is no function 'kept'",
    "f*«alhpa»": "did you mean 'alpha'",
    "«gian»*f": "did you mean 'gain'",
    "f + gain «gain»": "found 'gain'; expected an operator or the end; a product is",
    "1«/»0": "this comes to no finite number",
    "«sqrt»(-1)": "this comes to no finite number",
    "«log»(-2)": "this comes to no finite number",
    "f**«1e400»": "found '1e400', which is larger than any number",
    "0«*»*-1": "this comes to no finite number",
    "«h_1» + f": "there is nothing called 'h_1'",
    "max(f, «)»": "found ')'; expected a name, a number or a bracket",
    "«(»(f)": "this bracket is not closed; expected ')'",
    "f + «\\»c": "found '\\\\'; expected a name, a number, a bracket or one of",
    "«α»*f": "there is nothing called 'α'",
    "f + 1«e»": "found 'e'; expected an operator or the end; a product is",
    "f + 0«x10»": "found 'x10'; expected an operator or the end; a product is",
    "f + 1«_000»": "found '_000'; expected an operator or the end; a product is",
    "f + h «m»": "found 'm'; expected an operator or the end; a product is",
    "where(f < «,» c, f)": "found ','; expected a name, a number or a bracket",
    "where(«<» f, c, f)": "found '<'; expected a name, a number or a bracket",
    "f + «norm»": "there is nothing called 'norm'",
    "f + «sum»": "there is nothing called 'sum'",
    "f + «where»": "there is nothing called 'where'",
    "«f»(c)": "there is no function 'f'",
    "2«(»f)": "found '('; expected an operator or the end; a product is",
    "f + «(»c": "this bracket is not closed; expected ')'",
    "f + «)»c(": "found ')'; expected a name, a number or a bracket",
    "f + «{»c}": "found '{'; expected a name, a number, a bracket or one of +",
    "f + c«!»": "found '!'; expected a name, a number, a bracket or one of +",
    "f +« »#c": "found the end; expected a name, a number or a bracket",
    "(«)»": "found ')'; expected a name, a number or a bracket",
    "f«,»c": "found ','; expected an operator or the end",
}
LINES = {
    "gates": {
        "{f: «sigmod», c: tanh}": "found 'sigmod'; a gate is its pre-activation through one of",
        "{f: sigmoid, c: tanh, «unused»: tanh}": "'unused' is used nowhere",
        "{f: sigmoid, c: tanh, «h»: tanh}": "'h' is the own entering hidden vector",
        "{f: sigmoid, c: tanh, «m»: tanh}": "'m' is the own entering memory",
        "{f: sigmoid, c: tanh, «tanh»: tanh}": "'tanh' is the name of a function",
        "{f: sigmoid, c: tanh, «a-b»: tanh}": "expected letters, digits and _",
        "{f: sigmoid, c: tanh, «c_1»: tanh}": "'c_1' is how the 'c' of one dimension is called",
        "{f: sigmoid, c: tanh, «hidden»: tanh}": "'hidden' is the new hidden vector",
        "{f: sigmoid, c: tanh, «memory»: tanh}": "'memory' is the new memory",
        "{f: «sum», c: tanh}": "found 'sum'",
        "«{}»": "at least one gate",
        "{f: «3», c: tanh}": "found 3; expected a mapping of gate to identity, tanh,",
        "{f: «[»sigmoid], c: tanh}": "found ['sigmoid']",
        "{«3»: sigmoid, c: tanh}": "found the name 3; expected letters, digits, _ and -",
        "{f: sigmoid, c: «Tanh»}": "did you mean 'tanh'",
        "«[»f, c]": "found ['f', 'c']",
        "«sigmoid»": "found 'sigmoid'",
        "{f: «logistic», c: tanh}": "found 'logistic'",
        "{f: sigmoid, c: «true»}": "found true; expected a mapping of gate to identity, tanh,",
    },
    "vectors": {
        "{gain: 1.0, «other»: 1.0}": "'other' is used nowhere",
        "{gain: «one»}": "found 'one'; expected a mapping of name to number",
        "{gain: 1.0, «f»: 0.0}": "the name 'f' is given twice",
        "{gain: 1.0, «W»: 0.0}": "'W' is the name of other weights",
        "«[gain]»": "expected a mapping of name to number",
        "{gain: «true»}": "found true; expected a mapping of name to number under 'vectors'",
        "{gain: «1e400»}": "found inf; expected a mapping of name to number under 'vectors'",
        "{gain: «.nan»}": "found nan; expected a mapping of name to number under 'vectors'",
        "{gain: 1.0, «tanh»: 1.0}": "'tanh' is the name of a function; expected another",
        "{gain: 1.0, «h»: 1.0}": "'h' is the own entering hidden vector; expected another name",
        "{gain: 1.0, «a»-b: 1.0}": "found the name 'a-b'",
        "{gain: 1.0, «b»: 1.0}": "'b' is the name of other weights; expected another",
        "«3»": "found 3; expected a mapping of name to number",
        "{gain: «[»1.0]}": "found [1.0]; expected a mapping of name to number under",
    },
    "constants": {
        "{alpha: 0.9, «beta»: 1.0}": "'beta' is used nowhere",
        "{alpha: «x»}": "found 'x'",
        "{alpha: 0.9, «exp»: 2.0}": "'exp' is the name of a function",
        "{alpha: «.inf»}": "found inf; expected a mapping of name to number under",
        "{alpha: «true»}": "found true; expected a mapping of name to number under",
        "{alpha: 0.9, «f»: 2.0}": "the name 'f' is given twice; expected another",
        "{alpha: 0.9, «h»: 2.0}": "'h' is the own entering hidden vector; expected another name",
        "«[»alpha]": "found ['alpha']; expected a mapping of name to number",
        "{alpha: 0.9, «memory»: 1.0}": "'memory' is the new memory; expected another name",
        "{alpha: 0.9, «gain»: 1.0}": "the name 'gain' is given twice; expected another",
    },
    "let": {
        "{kept: 3, «4»}": "found the name 4; expected letters, digits, _ and -",
        "«[»kept]": "found ['kept']; expected a mapping of name to formula",
        "{kept: alpha*f*m, «f»: 1}": "the name 'f' is given twice; expected another",
        "{kept: alpha*f*m, «unused»: f}": "'unused' is used nowhere; expected it in a formula, or left out",
        "{kept: alpha*f*m, «tanh»: f}": "'tanh' is the name of a function; expected another",
        "{kept: alpha*f*m, «hidden»: f}": "'hidden' is the new hidden vector; expected another name",
        "{kept: «[»f]}": "found ['f']; expected a formula",
        "{kept: «true»}": "found true; expected a formula",
    },
    "each": {
        "[«g»]": "there is no gate or vector 'g'", "[«kept»]": "there is no gate or vector 'kept'",
        "«f»": "write each: [f]",
        "«{»f: 1}": "found a mapping; expected a list of gates and vectors",
        "[«F»]": "did you mean 'f'",
        "[«alpha»]": "there is no gate or vector 'alpha'; expected f, c or gain",
        "[«h»]": "there is no gate or vector 'h'; expected f, c or gain",
        "[«3»]": "found 3; expected a list of gates and vectors under 'each'",
    },
    "peepholes": {
        "{«g»: m}": "there is no gate 'g'", "{f: «n»}": "there is nothing called 'n'",
        "{f: «memori»}": "did you mean 'memory'",
        "{f: h*«}»": "found the end; expected a name, a number or a bracket",
        "«[»f]": "found ['f']; expected a mapping of gate to formula",
        "{f: «true»}": "found true; expected a formula",
        "{«F»: m}": "did you mean 'f'",
    },
    "sees": {
        "{«g»: own}": "there is no gate 'g'", "{c: «other»}": "found 'other'",
        "{c: «both»}": "did you mean 'others'",
        "{c: «[»own]}": "found ['own']; expected a mapping of gate to own or others",
        "«own»": "found 'own'; expected a mapping of gate to own or others",
        "{«gain»: own}": "there is no gate 'gain'; expected f or c",
        "{c: «Own»}": "did you mean 'own'",
    },
    "bias": {
        "{«g»: 1.0}": "there is no gate 'g'", "{f: «high»}": "found 'high'",
        "{f: «true»}": "found true; expected a mapping of gate to number under 'bias'",
        "{f: «.nan»}": "found nan; expected a mapping of gate to number under 'bias'",
        "{«gain»: 1.0}": "there is no gate 'gain'; expected f or c",
        "«[»f]": "found ['f']; expected a mapping of gate to number",
        "{«F»: 1.0}": "did you mean 'f'",
    },
    "forget": {
        "[«g»]": "there is no gate 'g'", "[f, «gain»]": "there is no gate 'gain'",
        "«f»": "write forget: [f]",
        "«{»f: 1}": "found a mapping; expected a list of gates",
        "[«F»]": "did you mean 'f'",
        "[f, c, «g»]": "there is no gate 'g'; expected f or c",
        "[«3»]": "found 3; expected a list of gates under 'forget'",
    },
}
CASES = [(key, text, said) for key in ("memory", "hidden") for text, said in FORMULAS.items()]
CASES += [("let", f"{{kept: {text}}}", said) for text, said in FORMULAS.items() if not set(",[]{}@#") & set(text)]
CASES += [(key, text, said) for key, lines in LINES.items() for text, said in lines.items()]


@pytest.mark.parametrize(("key", "marked", "said"), CASES, ids=[f"{key}: {text}" for key, text, _ in CASES])
def test_a_broken_cell_is_one_sentence_at_its_place(key: str, marked: str, said: str) -> None:
    lines = PAGE.splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith(f"    {key}: "))
    head, _, rest = marked.partition("«")
    wrong, _, tail = rest.partition("»")
    lines[number] = f"    {key}: {head}{wrong}{tail}"
    with pytest.raises(gridc.SpecError) as caught:
        gridc.read("\n".join(lines))
    error = caught.value
    assert said in error.sentence, error
    assert "\n" not in error.sentence
    assert error.sentence.startswith("cell 'mine'"), error
    assert (error.line, error.column) == (number + 1, len(f"    {key}: {head}") + 1), str(error)
    assert str(error).splitlines()[2].strip(" |").startswith("^")


def test_there_are_more_than_a_hundred_and_fifty_that_differ() -> None:
    assert len(FORMULAS) + sum(map(len, LINES.values())) > 150


@pytest.mark.parametrize(("change", "place", "said"), [
    (("let: {kept: alpha*f*m}", "let: {kept: alpha*f*other, other: kept + m}"), "8:39", "from itself: kept ← other ← kept"),
    (("memory: kept + (1 - f)*c", "memory: kept + (1 - f)*c + memory"), "9:32", "'memory' follows from itself"),
    (("peepholes: {f: m}", "peepholes: {c: memory}"), "9:28", "follows from itself"),
    (("    memory: kept + (1 - f)*c\n", ""), "8:25", "'m' is the own entering memory, and this cell keeps none"),
    (("memory: kept + (1 - f)*c", "memory: kept + (1 - f)*m_2*c"), "9:28", "'m_2' is of one of several dimensions"),
    (("hidden: gain*tanh(memory)", "hidden: 2**3"), "10:13", "this is a number"),
    (("  mine:", "  lstm:"), "3:3", "there is a cell 'lstm' already"),
    (("cell: mine", "cell: mien"), "17:16", "expected one of mine, lstm"),
    (("hidden: gain*tanh(memory)", "hidden: >-\n      gain\n      * tanh(memroy)"), "12:14", "there is nothing called 'memroy'"),
    (("hidden: gain*tanh(memory)", "hidden: 'gain*tanh(memroy)'"), "10:24", "there is nothing called 'memroy'"),
])  # fmt: skip
def test_what_no_line_alone_has_wrong(change: tuple[str, str], place: str, said: str) -> None:
    assert change[0] in PAGE
    with pytest.raises(gridc.SpecError) as caught:
        gridc.read(PAGE.replace(*change))
    assert said in caught.value.sentence, caught.value
    assert f"{caught.value.line}:{caught.value.column}" == place, str(caught.value)


HOSTILE: dict[str, Any] = {
    "brackets": "(" * 10_000 + "f" + ")" * 10_000,
    "brackets within the limit": "(" * 499 + "f" + ")" * 499,
    "signs": "-" * 900 + "f",
    "a name of a megabyte": "f" * 1_000_000,
    "Python": "__import__('os').system('true')",
    "a lambda": "(lambda: f)()",
    "digits of another script": "f*١٢٣",
    "full-width letters": "ｔａｎｈ(f)",
    "an attribute": "f.__class__",
    "powers": "**".join("9" * 9),
    "powers of f": "(f" + "**9" * 60 + ")",
    "a product": "*".join("f" * 499),
    "norms": "norm(" * 60 + "f" + ")" * 60,
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_formulas_are_refused_at_once(text: str) -> None:
    with pytest.raises(gridc.SpecError) as caught:
        gridc.read(PAGE.replace("cell: mine", "cell: own"), cells={"own": {"gates": {"f": "tanh"}, "hidden": text}})
    assert len(str(caught.value)) < 1000


def test_a_definition_of_many_parts_is_refused() -> None:
    parts = {f"p{k}": f"{' + '.join(['f'] * 90)}" for k in range(20)}
    with pytest.raises(gridc.SpecError, match="found more than 250 words"):
        gridc.read(PAGE, cells={"own": {"gates": {"f": "tanh"}, "let": parts, "hidden": " + ".join(parts)}})


def test_files_of_cells(tmp_path: Path) -> None:
    page = PAGE[: PAGE.index("cells:")] + "cells: [mine.yaml]\n" + PAGE[PAGE.index("dimensions:") :]
    (tmp_path / "page.yaml").write_text(page)
    with pytest.raises(gridc.SpecError, match=r"page.yaml:2:9: the file of cells .*mine.yaml: there is no such file"):
        gridc.read(tmp_path / "page.yaml")
    (tmp_path / "mine.yaml").write_text("cell: {}\n")
    with pytest.raises(gridc.SpecError, match="a file of cells has the key 'cells'"):
        gridc.read(tmp_path / "page.yaml")
    broken = PAGE[PAGE.index("cells:") : PAGE.index("dimensions:")].replace("tanh(memory)", "tanh(memroy)")
    (tmp_path / "mine.yaml").write_text(broken)
    with pytest.raises(gridc.SpecError, match=r"mine.yaml:9:23: cell 'mine', hidden: there is nothing called 'memroy'"):
        gridc.read(tmp_path / "page.yaml")
    (tmp_path / "mine.yaml").write_text(broken.replace("memroy", "memory"))
    assert gridc.read(tmp_path / "page.yaml").digest == gridc.read(PAGE).digest
