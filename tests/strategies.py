"""Hypothesis strategies for random valid specs, as plain dicts, with everything that a call needs.

``grids()`` draws a ``Case``: a spec, sizes for its symbols, parameters, inputs, targets and perhaps lengths.
What is drawn is valid by construction: reads are added one by one, and one that would close a cycle is left
out.  The oracle says which those are, what shapes the arrays have and which blocks of the weights are zero.
``memory`` adds cells that attend to facts, ``noise`` dropout and zoneout.

Left out on purpose, where ``language.md`` leaves room: shared weights that are untied along different
dimensions, or whose `gru` blocks differ, and a `gru` that alternates and reads itself by an explicit offset.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

import oracle

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[Any]], Any]
Sizes = dict[str, int]
Array = np.ndarray

LARGEST = 64  # cells
NAMES = ("time", "depth", "rows", "cols")
SINGLE = ("lstm", "lstm-paper", "gru", "dense", "highway", "pass")
JOINT = ("lstm", "lstm-paper", "dense")
WRAPS, PASSES = "w", "p"
"""A transform that wraps and does not read itself, and a `pass` that reads it: nothing else need ever see what wraps."""


@dataclass(frozen=True, repr=False)
class Case:
    """A spec and one call of it."""

    spec: dict[str, Any]
    sizes: Sizes
    parameters: dict[str, Array]
    inputs: dict[str, Array]
    targets: dict[str, Array]
    lengths: dict[str, Array] | None
    batch: int
    facts: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The spec as a page to be read: JSON, which is YAML too."""
        return json.dumps(self.spec, indent=1)

    def __repr__(self) -> str:
        lengths = None if self.lengths is None else {k: n.tolist() for k, n in self.lengths.items()}
        return (
            f"Case(sizes={self.sizes}, batch={self.batch}, lengths={lengths}, spec={json.dumps(self.spec)})"
        )


def case_of(
    spec: dict[str, Any],
    sizes: Sizes | None = None,
    batch: int = 2,
    lengths: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    facts: int = 2,
    words: int = 2,
) -> Case:
    """A call of a given spec, with random arrays."""
    sizes = sizes or {}
    rng = np.random.default_rng(seed)
    shapes = oracle.parameter_shapes(spec, sizes)
    parameters = {name: 0.6 * rng.standard_normal(shape) for name, shape in shapes.items()}
    for name, free in oracle.parameter_masks(spec, sizes).items():
        parameters[name] = np.where(free, parameters[name], 0.0)
    inputs: dict[str, Array] = {}
    for name, shape in oracle.input_shapes(spec, sizes, batch, facts, words).items():
        ids = spec["inputs"][name].get("vocabulary")
        inputs[name] = rng.standard_normal(shape) if ids is None else rng.integers(0, ids, shape)
    targets: dict[str, Array] = {}
    for name, shape in oracle.target_shapes(spec, sizes, batch).items():
        classes = 2 if "binary" in spec["outputs"][name] else spec["outputs"][name].get("classes")
        targets[name] = rng.standard_normal(shape) if classes is None else rng.integers(0, classes, shape)
    vectors = (
        None if lengths is None else {symbol: np.array(n, dtype=np.int64) for symbol, n in lengths.items()}
    )
    return Case(
        spec, dict(sizes), parameters, inputs, targets, vectors, batch, {"facts": facts, "words": words}
    )


def acyclic(spec: Mapping[str, Any], sizes: Sizes, thorough: bool = False) -> bool:
    """Whether no steps wait for each other, at these sizes and at others of the symbols."""
    bindings = [sizes, dict.fromkeys(sizes, 3)] if sizes else [{}]
    if thorough and sizes:
        bindings += [dict.fromkeys(sizes, n) for n in (1, 2, 4)]
        bindings += [{**sizes, symbol: n} for symbol in sizes for n in (1, 2, 3, 4)]
    unique = {tuple(binding.items()): binding for binding in bindings}
    try:
        for binding in unique.values():
            oracle.levels(spec, binding)
    except ValueError:
        return False
    return True


# -- small draws ---------------------------------------------------------------------------------------------


def chance(draw: Draw, tenths: int) -> bool:
    """True so many times in ten."""
    return bool(draw(st.sampled_from([False] * (10 - tenths) + [True] * tenths)))


def one_of(draw: Draw, options: Iterable[T]) -> T:
    found: T = draw(st.sampled_from(list(options)))
    return found


def some_of(draw: Draw, options: Sequence[T], least: int = 0, most: int | None = None) -> list[T]:
    """Some of the options, each once, in any order."""
    most = len(options) if most is None else min(most, len(options))
    order = draw(st.permutations(list(options)))
    return list(order[: draw(st.integers(min(least, most), most))])


def selection(draw: Draw, size: int, words: Sequence[str] = ("all", "first", "last")) -> Any:
    """``first``, ``last``, ``all``, an index or a list of them."""
    kind = one_of(draw, [*words, *words, "index", "list"])
    if kind == "index":
        return draw(st.integers(0, size - 1))
    if kind == "list":
        return some_of(draw, range(size), 1, 3)
    return kind


# -- dimensions ----------------------------------------------------------------------------------------------


def extents(spec: Mapping[str, Any], sizes: Sizes) -> Sizes:
    """The size of every dimension, symbols looked up."""
    return {d: sizes[e] if isinstance(e, str) else e for d, e in spec["dimensions"].items()}


def own_axes(spec: Mapping[str, Any], name: str) -> list[str]:
    """The dimensions that a transform travels along."""
    along = spec["transforms"][name].get("along", name)
    return [along] if isinstance(along, str) else list(along)


def draw_dimensions(draw: Draw) -> tuple[dict[str, int | str], Sizes]:
    names = some_of(draw, NAMES, 1)
    dimensions: dict[str, int | str] = {}
    sizes: Sizes = {}
    cells = 1
    for name in names:
        known = [s for s, n in sizes.items() if cells * n <= LARGEST]
        if known and chance(draw, 3):
            symbol = one_of(draw, known)
            dimensions[name] = symbol
            cells *= sizes[symbol]
            continue
        n = one_of(draw, [n for n in (2, 3, 1, 4, 3) if n == 1 or cells * n <= LARGEST])
        cells *= n
        if chance(draw, 5):
            symbol = name[0].upper()
            sizes[symbol] = n
            dimensions[name] = symbol
        else:
            dimensions[name] = n
    return dimensions, sizes


# -- transforms ----------------------------------------------------------------------------------------------


def draw_direction(draw: Draw, axes: Sequence[str], along: Sequence[str], plain: bool = False) -> Any:
    """A direction, or None for the default."""
    others = [d for d in axes if d not in along]
    kind = one_of(
        draw, ["default", "forward", "backward", *(["alternating"] if others and not plain else [])]
    )
    if kind == "alternating":
        cycle = draw(st.lists(st.sampled_from(["forward", "backward"]), min_size=2, max_size=3))
        return {"over": one_of(draw, others), "cycle": cycle}
    return None if kind == "default" else kind


def draw_start(draw: Draw, axes: Sequence[str], along: Sequence[str]) -> Any:
    others = [d for d in axes if d not in along]
    can_wrap = len(along) == 1 and bool(others)
    kind = one_of(draw, ["default", "zeros", "learned", *(["wrap"] if can_wrap else [])])
    if kind == "wrap":
        offsets = {d: one_of(draw, [-1, -1, 1, -2]) for d in some_of(draw, others, 1, 2)}
        return {"wrap": offsets}
    return None if kind == "default" else kind


def draw_transform(
    draw: Draw, dimensions: Mapping[str, int | str], along: list[str], cell: str, hidden: int
) -> dict[str, Any]:
    """All of a transform but its reads; keys left out where the default is meant."""
    axes = list(dimensions)
    entry: dict[str, Any] = {"cell": cell, "hidden": hidden, "along": along if len(along) > 1 else along[0]}
    if cell == "memory":
        fixed = isinstance(dimensions[along[0]], int)
        entry["attends"] = "story"
        entry["embeddings"] = one_of(draw, ["layerwise", "adjacent"] if fixed else ["layerwise"])
        if chance(draw, 3):
            entry["attention"] = one_of(draw, ["linear", "softmax"])
    elif len(along) > 1 and chance(draw, 4):
        ways = {d: draw_direction(draw, axes, along) for d in some_of(draw, along, 1)}
        entry["direction"] = {d: way or "forward" for d, way in ways.items()}
    elif (way := draw_direction(draw, axes, along)) is not None:
        entry["direction"] = way
    if (start := draw_start(draw, axes, along)) is not None:
        entry["start"] = start
    if cell not in oracle.WITHOUT_WEIGHTED_READS:
        symbolic = [d for d in axes if isinstance(dimensions[d], str)]
        fixed_axes = [d for d in axes if d not in symbolic]
        tied = one_of(draw, ["default", "all", "none", "list", "list"])
        if tied == "list":
            listed = [*symbolic, *some_of(draw, fixed_axes)]
            entry["tied"] = draw(st.permutations(listed))
        elif tied == "all" or (tied == "none" and not symbolic):
            entry["tied"] = tied
        if chance(draw, 2):
            entry["bias"] = False
    if cell in oracle.WITH_PEEPHOLES and chance(draw, 3):
        entry["peepholes"] = True
    if cell == "dense" and chance(draw, 7):
        entry["activation"] = one_of(draw, ["tanh", "relu", "sigmoid", "identity"])
    return entry


def draw_transforms(
    draw: Draw, dimensions: Mapping[str, int | str], sizes: Sizes, memory: bool
) -> dict[str, Any]:
    axes = list(dimensions)
    result: dict[str, Any] = {}
    common = draw(st.integers(1, 3)) if chance(draw, 4) else None
    for k in range(draw(st.integers(1, 4))):
        first_hop = memory and k == 0
        joint = len(axes) > 1 and not first_hop and chance(draw, 3)
        along = some_of(draw, axes, 2) if joint else [one_of(draw, axes)]
        if first_hop:
            cell = "memory"
        elif joint:
            cell = one_of(draw, [*JOINT, *(["leaky-lstm"] * 2 if len(along) == 2 else [])])
        else:
            cell = one_of(draw, [*SINGLE, *(["memory"] if memory else [])])
        hidden = common or draw(st.integers(1, 3))
        entry = draw_transform(draw, dimensions, along, cell, hidden)
        name = along[0] if not joint and along[0] not in result and chance(draw, 7) else f"t{k}"
        if name == along[0]:
            spelling = one_of(draw, ["left out", "left out", "name", "list"])
            entry["along"] = along if spelling == "list" else along[0]
            if spelling == "left out":
                del entry["along"]
        result[name] = entry
        if len(result) < 4 and not joint and cell not in oracle.WITHOUT_WEIGHTED_READS and chance(draw, 2):
            twin = {**entry, "along": along[0]}  # its opposite, or its sibling with the same weights
            if not isinstance(entry.get("direction"), Mapping) and chance(draw, 7):
                twin["direction"] = "forward" if entry.get("direction") == "backward" else "backward"
            result[f"t{k}b"] = twin
    result = dict(list(result.items())[:4])
    wide = [d for d, e in dimensions.items() if (sizes[e] if isinstance(e, str) else e) > 1]
    if wide and len(axes) > 1 and len(result) < 4 and chance(draw, 5):
        result |= draw_what_a_pass_wraps(draw, dimensions, one_of(draw, wide))
    return result


def draw_what_a_pass_wraps(draw: Draw, dimensions: Mapping[str, int | str], over: str) -> dict[str, Any]:
    """``over`` a dimension, from one index to the next."""
    along = one_of(draw, [d for d in dimensions if d != over])
    entry = draw_transform(draw, dimensions, [along], "dense", draw(st.integers(1, 3)))
    entry["start"] = {"wrap": {over: one_of(draw, [-1, -1, 1])}}
    return {WRAPS: entry, PASSES: draw_transform(draw, dimensions, [along], "pass", entry["hidden"])}


def draw_priority(draw: Draw, names: Sequence[str]) -> list[str | list[str]] | None:
    """A partition of some of the transforms, or nothing."""
    if chance(draw, 4):
        return None
    groups: list[list[str]] = []
    for name in some_of(draw, names, 1):
        if groups and chance(draw, 3):
            groups[-1].append(name)
        else:
            groups.append([name])
    return [g[0] if len(g) == 1 and not chance(draw, 2) else g for g in groups]


def draw_offset(draw: Draw, spec: Mapping[str, Any], of: str) -> dict[str, int]:
    """This cell, the one behind along the read transform's own dimension, or anything near."""
    axes = list(spec["dimensions"])
    kind = one_of(draw, ["here", "behind", "behind", "near"])
    if kind == "here":
        return {}
    if kind == "behind":
        step = 1 if spec["transforms"][of].get("direction") == "backward" else -1
        return {one_of(draw, own_axes(spec, of)): step}
    return {d: one_of(draw, [-1, -1, -1, 1, -2, 2, 0]) for d in some_of(draw, axes, 1, 2)}


def draw_read(draw: Draw, spec: Mapping[str, Any], name: str, unseen: Iterable[str] = ()) -> Any:
    entry = spec["transforms"][name]
    passes = entry["cell"] == "pass"
    names = [n for n in spec["transforms"] if n not in unseen]
    if passes:  # its width follows: from a transform that has one of its own
        before = names[: names.index(name)] if name in names else names
        names = [n for n in names if spec["transforms"][n]["cell"] != "pass" or n in before] or [name]
    of = one_of(draw, names)
    joint = len(own_axes(spec, of)) > 1
    if not (passes and joint) and chance(draw, 4):
        return of
    offset = draw_offset(draw, spec, of)
    alternating = of == name and isinstance(entry.get("direction"), Mapping)
    if (
        entry["cell"] == "gru"
        and alternating
        and {d for d, o in offset.items() if o} == set(own_axes(spec, name))
    ):
        return of  # whether such a read is of the own entering vector depends on the cell
    return {"of": of, "offset": offset}


def width(spec: Mapping[str, Any], name: str) -> int:
    """The units of a transform, where a `pass` has been told its own provisionally."""
    entry = spec["transforms"][name]
    if entry["cell"] != "pass":
        return int(entry["hidden"])
    read = entry["reads"][0]
    of = read if isinstance(read, str) else read["of"]
    return int(entry["hidden"]) if of == name else width(spec, of)


def twins(transforms: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs that ``draw_transforms`` made, a transform and its copy."""
    names = list(transforms)
    return [(names[k], twin) for k, twin in enumerate(names[1:]) if twin.endswith("b")]


def mirrored(transforms: Mapping[str, Any], name: str, twin: str) -> list[Any] | None:
    """A transform's reads as its twin would have them: names swapped, and offsets where it travels back."""
    if "reads" not in transforms[name]:
        return None
    swap = {name: twin, twin: name}
    along = transforms[twin]["along"]
    ways = [transforms[n].get("direction", "forward") for n in (name, twin)]
    sign = 1 if ways[0] == ways[1] else -1
    reads: list[Any] = []
    for read in transforms[name]["reads"]:
        if isinstance(read, str):
            reads.append(swap.get(read, read))
        else:
            offset = {d: sign * o if d == along else o for d, o in read["offset"].items()}
            reads.append({"of": swap.get(read["of"], read["of"]), "offset": offset})
    return reads


def fill_reads(draw: Draw, spec: dict[str, Any], sizes: Sizes) -> None:
    """Give every transform its reads, never one that closes a cycle."""
    transforms = spec["transforms"]
    for name, entry in transforms.items():
        if entry["cell"] != "memory":
            entry["reads"] = [name]  # alone in the grid, none waits for another

    def attempt(name: str, reads: list[Any] | None) -> bool:
        entry = transforms[name]
        before = entry.pop("reads", None)
        if reads is not None:
            entry["reads"] = reads
        if acyclic(spec, sizes):
            return True
        entry.pop("reads", None)
        if before is not None:
            entry["reads"] = before
        return False

    unseen: tuple[str, ...] = ()
    rest = [n for n, e in transforms.items() if e["cell"] != "memory"]
    if WRAPS in transforms:
        before = [n for n in rest if n not in (WRAPS, PASSES)]
        attempt(WRAPS, [{"of": one_of(draw, before), "offset": {}}] if before else None)
        back = -1 if transforms[WRAPS].get("direction") != "backward" else 1
        behind = {"of": WRAPS, "offset": {transforms[WRAPS]["along"]: back}}
        attempt(PASSES, [one_of(draw, [WRAPS, behind])])
        if chance(draw, 8):
            rest, unseen = before, (WRAPS, PASSES)
    for name in draw(st.permutations(rest)):
        if transforms[name]["cell"] == "pass":
            attempt(name, [draw_read(draw, spec, name, unseen)])
            continue
        if not unseen and chance(draw, 4) and attempt(name, None):
            continue
        kept: list[Any] = []
        for _ in range(draw(st.integers(1, 3))):
            read = draw_read(draw, spec, name, unseen)
            if attempt(name, [*kept, read]):
                kept.append(read)
    for name, twin in twins(transforms):
        if chance(draw, 7):
            attempt(twin, mirrored(transforms, name, twin))
    if not acyclic(spec, sizes, thorough=True):
        for name, entry in transforms.items():
            if entry["cell"] != "memory":
                entry["reads"] = [name]
    for name, entry in transforms.items():
        if entry["cell"] == "pass":
            own = (
                entry["reads"][0] if isinstance(entry["reads"][0], str) else entry["reads"][0]["of"]
            ) == name
            entry["hidden"] = width(spec, name)
            if not own and chance(draw, 8):
                del entry["hidden"]


def draw_sharing(draw: Draw, spec: dict[str, Any]) -> None:
    """Let some transforms use another's weights, where that has the same shapes, tying and zero blocks."""
    for name in spec["transforms"]:
        grid = oracle.Grid(spec)
        t = grid.transforms[name]
        used = {u.weights for u in grid.transforms.values() if u.weights != u.name}
        if t.cell in oracle.WITHOUT_WEIGHTED_READS or name in used:
            continue

        def kind(u: oracle.Transform, grid: oracle.Grid = grid) -> Any:
            own = tuple(grid.own_rows(u)) if u.cell == "gru" else None
            columns = oracle.number_of_gates(u.cell, len(u.along)) * u.hidden
            return own, grid.rows(u), columns, u.untied, u.bias, u.peepholes

        owners = [
            u.name
            for u in grid.transforms.values()
            if u.name != name
            and u.weights == u.name
            and u.cell not in oracle.WITHOUT_WEIGHTED_READS
            and kind(u) == kind(t)
        ]
        if owners and chance(draw, 8):
            spec["transforms"][name]["shares"] = one_of(draw, owners)


def draw_noise(draw: Draw, spec: dict[str, Any]) -> None:
    """Dropout or zoneout on at least one transform; zoneout where a single old value enters that it can keep."""
    transforms = {n: e for n, e in spec["transforms"].items() if e["cell"] != "pass"}
    grid = oracle.Grid(spec)

    def keeps(t: oracle.Transform) -> bool:
        return len(t.along) == 1 and (t.carries or bool(grid.own_rows(t).any()))

    able = [n for n, e in transforms.items() if e["cell"] != "memory" and keeps(grid.transforms[n])]
    for name in some_of(draw, able, 1):
        transforms[name]["zoneout"] = one_of(draw, [0.3, 0.1, 0.75])
    if transforms:
        for name in some_of(draw, list(transforms), 0 if able else 1):
            transforms[name]["dropout"] = 0.5


# -- inputs and outputs --------------------------------------------------------------------------------------


def draw_width(draw: Draw) -> dict[str, int]:
    kind = one_of(draw, ["features", "vocabulary", "embed"])
    if kind == "features":
        return {"features": draw(st.integers(1, 3))}
    vocabulary = {"vocabulary": draw(st.integers(2, 4))}
    return vocabulary if kind == "vocabulary" else {**vocabulary, "embed": draw(st.integers(1, 3))}


def draw_input(draw: Draw, spec: Mapping[str, Any], sizes: Sizes) -> dict[str, Any]:
    transforms = spec["transforms"]
    entered = [n for n in transforms if len(own_axes(spec, n)) == 1]
    joined = [n for n, e in transforms.items() if e["cell"] not in oracle.WITHOUT_WEIGHTED_READS]
    result: dict[str, Any] = draw_width(draw)
    size = extents(spec, sizes)
    axes = list(size)
    if entered and (not joined or chance(draw, 5)):
        name = one_of(draw, entered)
        (own,) = own_axes(spec, name)
        result["enters"] = name
        keeps_memory = transforms[name]["cell"] in oracle.WITH_MEMORY
        into = [["hidden"], ["memory"], ["memory", "hidden"]] if keeps_memory else [["hidden"]]
        if chance(draw, 4):
            result["into"] = one_of(draw, into)
        axes.remove(own)
        at = {d: selection(draw, size[d]) for d in axes if chance(draw, 3)}
        if chance(draw, 1):
            at[own] = one_of(draw, ["first", "all"])
    else:
        joins = some_of(draw, joined, 1)
        for pair in twins(transforms):
            if set(pair) & set(joins) and chance(draw, 8):
                joins += [n for n in pair if n not in joins]
        result["joins"] = joins
        at = {d: selection(draw, size[d]) for d in axes if chance(draw, 3)}
    if at:
        result["at"] = at
    if chance(draw, 3):
        result["over"] = some_of(draw, axes)
    return result


def bind_symbols(draw: Draw, spec: dict[str, Any], sizes: Sizes) -> None:
    """Give every symbol an input that has an axis for it, or else make it a number."""
    dimensions = spec["dimensions"]
    grid = oracle.Grid(spec)
    bound = {grid.extents[d] for i in grid.inputs.values() for d in i.over}
    joined = [n for n, e in spec["transforms"].items() if e["cell"] not in oracle.WITHOUT_WEIGHTED_READS]
    for symbol in [s for s in sizes if s not in bound]:
        mine = [d for d, e in dimensions.items() if e == symbol]
        if joined:
            entry = {**draw_width(draw), "joins": some_of(draw, joined, 1), "over": some_of(draw, mine, 1)}
            spec["inputs"][f"x{symbol}"] = entry
        else:
            n = sizes.pop(symbol)
            for d in mine:
                dimensions[d] = n


def draw_output(draw: Draw, spec: Mapping[str, Any], sizes: Sizes) -> dict[str, Any]:
    transforms = spec["transforms"]
    taps = [
        tap
        for name, entry in transforms.items()
        for tap in ([name, f"{name}.memory"] if entry["cell"] in oracle.WITH_MEMORY else [name])
    ]
    result: dict[str, Any] = {"reads": some_of(draw, taps, 1, 3)}
    if PASSES in transforms and PASSES not in result["reads"] and chance(draw, 9):
        result["reads"][-1] = PASSES
    at = {d: selection(draw, n) for d, n in extents(spec, sizes).items() if chance(draw, 6)}
    if at:
        result["at"] = at
    kind = one_of(draw, ["classes", "binary", "features", "raw"])
    result[kind] = {"classes": draw(st.integers(2, 3)), "features": draw(st.integers(1, 2))}.get(kind, True)
    if chance(draw, 2):
        result["loss"] = oracle.LOSSES[kind]
    return result


def draw_lengths(draw: Draw, sizes: Sizes, batch: int) -> dict[str, list[int]] | None:
    """Lengths for some of the symbols, of which none need be the whole size."""
    if not sizes or not chance(draw, 8):
        return None
    result: dict[str, list[int]] = {}
    for symbol in some_of(draw, list(sizes), 1):
        result[symbol] = draw(st.lists(st.integers(1, sizes[symbol]), min_size=batch, max_size=batch))
    return result


# -- all of it -----------------------------------------------------------------------------------------------


@st.composite
def specs(draw: Draw, memory: bool = False, noise: bool = False) -> tuple[dict[str, Any], Sizes]:
    """A valid spec, and sizes for its symbols.  ``memory`` adds cells that attend to facts, ``noise`` dropout and zoneout."""
    dimensions, sizes = draw_dimensions(draw)
    spec: dict[str, Any] = {
        "name": "random",
        "dimensions": dimensions,
        "transforms": draw_transforms(draw, dimensions, sizes, memory),
    }
    priority = draw_priority(draw, list(spec["transforms"]))
    if priority is not None:
        spec["priority"] = priority
    fill_reads(draw, spec, sizes)
    spec["inputs"] = {}
    if memory:
        spec["inputs"]["story"] = {**draw_width(draw), "facts": True}
    for k in range(draw(st.integers(1, 3))):
        spec["inputs"][f"x{k}"] = draw_input(draw, spec, sizes)
    bind_symbols(draw, spec, sizes)
    draw_sharing(draw, spec)
    if noise:
        draw_noise(draw, spec)
    spec["outputs"] = {f"y{k}": draw_output(draw, spec, sizes) for k in range(draw(st.integers(1, 3)))}
    return spec, sizes


@st.composite
def grids(draw: Draw, memory: bool = False, noise: bool = False) -> Case:
    """A random grid of at most 64 cells, with one call of it."""
    spec, sizes = draw(specs(memory, noise))
    batch = one_of(draw, [2, 1, 3, 2, 3])
    lengths = draw_lengths(draw, sizes, batch)
    facts, words = (draw(st.integers(1, 3)), draw(st.integers(1, 2))) if memory else (2, 2)
    return case_of(spec, sizes, batch, lengths, draw(st.integers(0, 2**16)), facts, words)
