"""Hypothesis strategies for cells of one's own, as a page has them, and for grids that use them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

import oracle
from own_cell import OwnCell
from strategies import Case, Draw, case_of, chance, one_of, some_of, specs

GATES = ("f", "i", "λ", "gate_c")
SAFE = ("tanh", "sigmoid", "identity", "softplus", "relu", "abs")
"""What is defined everywhere, and does not grow faster than its argument."""
WRAPPED = ("log(1 + {}**2)", "sqrt(1 + ({})**2)", "exp(-abs({}))", "({})/(1 + abs({}))", "where({} > {}, {}, {})",
           "max({}, {}, 0.25)", "min({}, {})", "where({} <= 0.1, {}, -{})", "norm({})", "({})**3/(2 + ({})**4)",
           "(1 + ({})**2)**-0.5", "(1.5 + ({})**2)**0.75")  # fmt: skip


def _formula(draw: Draw, atoms: list[str], depth: int) -> str:
    """A formula whose value and slope stay small where those of its atoms do."""
    kind = one_of(draw, ["atom", "+", "-", "*", "call", "wrapped", "call", "wrapped"]) if depth else "atom"
    if kind == "atom":
        return one_of(draw, [*atoms, *atoms, "0.3", "2"])
    if kind in "+-*":
        return f"({_formula(draw, atoms, depth - 1)} {kind} {_formula(draw, atoms, depth - 1)})"
    if kind == "call":
        return f"{one_of(draw, SAFE[:2] + SAFE[3:])}({_formula(draw, atoms, depth - 1)})"
    text = one_of(draw, WRAPPED)
    return text.format(*(_formula(draw, atoms, depth - 1) for _ in range(text.count("{}"))))


@st.composite
def cells(draw: Draw, memory: bool | None = None, hidden: bool | None = None, several: bool = False) -> dict[str, Any]:
    """A cell with a ``memory`` or without, which looks at the entering ``hidden`` vector or not; one for ``several`` dimensions
    adds up over them."""
    memory = draw(st.booleans()) if memory is None else memory
    hidden = draw(st.booleans()) if hidden is None else hidden
    words: dict[str, Any] = {"gates": {name: one_of(draw, SAFE) for name in some_of(draw, GATES, 1, 3)}}
    if chance(draw, 4):
        words["constants"] = {"alpha": 0.75}
    vectors = {name: value for name, value in (("gain", 1.0), ("shift", 0.0)) if chance(draw, 4)}
    if vectors:
        words["vectors"] = vectors
    names = [*words["gates"], *vectors, *words.get("constants", {})]
    each = some_of(draw, [*words["gates"], *vectors], 0, 2) if memory and several else []
    atoms = [name for name in names if name not in each]
    unused = list(names)
    if several:
        if memory:
            words["each"] = each
            atoms.append(f"sum({'*'.join([*each, 'm'])})")
    else:
        atoms += ["m"] * memory + ["h"] * hidden

    def said(atoms: list[str], rest: list[str]) -> str:
        return " + ".join([_formula(draw, atoms or ["0.5"], draw(st.integers(1, 3))), *rest])

    def used(text: str) -> None:
        unused[:] = [name for name in unused if name not in re.findall(r"\w+", text)]

    if chance(draw, 4) and atoms:
        words["let"] = {"part": said(atoms, [])}
        used(words["let"]["part"])
        atoms.append("part")
        unused.append("part")
    if memory:
        entering = f"sum({'*'.join([*each, 'm'])})" if several else "m"
        words["memory"] = said(atoms, [f"0.5*tanh({entering})"])
        used(words["memory"])
        atoms = [*atoms, "memory", "memory"]
    rest = [f"0.5*{name}" for name in unused if name not in each] + ["0.5*h"] * (hidden and not several)
    alone = [f"0.1*{name}" for name in words["gates"] if name not in each]
    words["hidden"] = said(atoms, [*rest, *(alone[:1] or ["0.1*memory"])])
    return words


REPLACED = {"lstm": (True, None), "lstm-paper": (True, None), "highway": (False, True), "dense": (False, False),
            "gru": (False, True)}  # fmt: skip


@st.composite
def grids_of_own_cells(draw: Draw) -> Case:
    """A random grid of which at least one transform, along one dimension or more, has a cell of the page's own."""
    spec, sizes = draw(specs())
    sharing = {t["shares"] for t in spec["transforms"].values() if "shares" in t}
    made: dict[str, Any] = {}
    for name, t in spec["transforms"].items():
        if t["cell"] not in REPLACED or name in sharing or "shares" in t:
            continue
        memory, hidden = REPLACED[t["cell"]]
        several = isinstance(t.get("along"), list) and len(t["along"]) > 1
        # What carries its hidden vector besides may not: a step would wait for more than what was drawn waits for.
        made[f"own-{name}"] = draw(cells(memory, False if several or (not memory and not hidden) else hidden, several))
        spec["transforms"][name] = {**{k: v for k, v in t.items() if k not in ("peepholes", "activation")}, "cell": f"own-{name}"}
    spec["cells"] = made
    case = case_of(spec, sizes, one_of(draw, [2, 1, 3]), None, draw(st.integers(0, 2**16)))
    return replace(case, parameters={name: 0.7 * array for name, array in case.parameters.items()})


def own_cells(case: Case) -> Mapping[str, OwnCell]:
    """The cells of a case's page by the transforms that have them."""
    return {name: t.own for name, t in oracle.Grid(case.spec).transforms.items() if t.own}
