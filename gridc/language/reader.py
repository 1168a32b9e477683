"""From a page of YAML to a ``GridSpec``: defaults filled in, names resolved, every mistake one sentence at its place."""

from __future__ import annotations

import os
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gridc.cells import CELLS, Options
from gridc.errors import SpecError, listed, nearest
from gridc.language import parameters
from gridc.language.document import Alternating, Document, InputPage, Normal, OutputPage, ReadAt, TransformPage, Uniform, Wrap
from gridc.language.page import Path_, fetch, parse
from gridc.language.spec import Dimension, Direction, GridSpec, Input, Output, Read, Selection, Source, Tap, Transform
from gridc.scheduling import graph

LOSSES = {"classes": "cross_entropy", "binary": "binary_cross_entropy", "features": "squared_error", "raw": "squared_error"}


def read(where: str | os.PathLike[str]) -> GridSpec:
    """Read a spec from a file, or from YAML text.

    Raises SpecError, with file, line and column, for whatever the language cannot make sense of."""
    text, name = fetch(where)
    values, source = parse(text, name)
    return _Reading(values, source).spec()


class _Reading:
    """One reading of one page: what is common to all its steps is the page and the way to fail."""

    def __init__(self, values: Any, source: Source):
        self.source = source
        if not isinstance(values, dict):
            self.fail((), f"found {_shown(values)}; expected a mapping with name, dimensions and transforms")
        try:
            self.page = Document.model_validate(values)
        except ValidationError as error:
            self.explain(error, values)
        self.axes = list(self.page.dimensions)

    def fail(self, path: Path_, sentence: str, *, key: bool = False) -> NoReturn:
        """Raise at the value under ``path`` (or at its key), or at the nearest place above it that the page has."""
        positions = self.source.positions
        for end in range(len(path), -1, -1):
            whole = end == len(path)
            for place in ((path[:end],) if key or not whole else ((*path, "="), path)):
                if place in positions:
                    line, column, width = positions[place]
                    text = self.source.text.splitlines()[line - 1]
                    raise SpecError(sentence, path=self.source.path, line=line, column=column, text=text, width=width)
        raise SpecError(sentence, path=self.source.path)

    # -- the grammar ------------------------------------------------------------------------------------------------

    def explain(self, error: ValidationError, values: Any) -> NoReturn:
        """pydantic's list of complaints as one sentence about the one that is deepest in the page, the first of them."""
        told = [(*_landed(e, values), e) for e in error.errors()]
        depth = {i: len(path) for i, (path, _, _) in enumerate(told)}
        places = self.source.positions
        first = min(range(len(told)), key=lambda i: (-_specific(told[i][2]), places.get(told[i][0], (9**9,))[0], -depth[i]))
        same = [i for i in range(len(told)) if told[i][0][: len(told[first][0])] == told[first][0][: len(told[i][0])]]
        path, missing, e = told[max(same, key=lambda i: (depth[i], _specific(told[i][2])))]
        thing = _thing(path)
        if e["type"] == "extra_forbidden":
            known = sorted(_fields(path[:-1]))
            self.fail(path, f"{_thing(path[:-1])}: unknown key '{path[-1]}'; expected {listed(known)}"
                      f"{nearest(path[-1], known)}", key=True)  # fmt: skip
        if missing:
            self.fail(path, f"{thing} needs the key '{missing}': {_expected((*path, missing))}", key=True)
        value: Any = values
        for part in path:
            value = value[part]
        if "[key]" in e["loc"]:
            self.fail(path, f"{_thing(path[:-1])}: found the name {path[-1]!r}; expected letters, digits, _ and -", key=True)
        expected = _expected(path)
        words = re.findall(r"[\w-]+", expected)
        hint = nearest(value, words) if isinstance(value, str) else ""
        self.fail(path, f"{thing}: found {_shown(value)}; expected {expected}{hint}")

    # -- the meaning ------------------------------------------------------------------------------------------------

    def spec(self) -> GridSpec:
        page = self.page
        names = list(page.transforms)
        self.distinct()
        priority = self.priority(names)
        transforms = {name: self.transform(name, t, priority) for name, t in page.transforms.items()}
        transforms = self.widths(transforms)
        inputs = {name: self.input(name, i, transforms) for name, i in page.inputs.items()}
        for name, t in page.transforms.items():
            self.facts(name, t, transforms[name], inputs)
        outputs = {name: self.output(name, o, transforms) for name, o in page.outputs.items()}
        dimensions = tuple(Dimension(name, size) for name, size in page.dimensions.items())
        spec = GridSpec(page.name, dimensions, transforms, priority, inputs, outputs, page.training, self.source)
        self.bound(spec)
        self.shared(spec)
        self.acyclic(spec)
        return spec

    def distinct(self) -> None:
        """Transforms, inputs and outputs share the parameters' names, so no two may bear one."""
        seen: dict[str, str] = {}
        for section in ("transforms", "inputs", "outputs"):
            for name in getattr(self.page, section):
                if name in seen:
                    self.fail((section, name), f"'{name}' is already the name of one of the {seen[name]}; parameters "
                              "are named after transforms, inputs and outputs, so each needs its own", key=True)  # fmt: skip
                seen[name] = section

    def known(self, path: Path_, word: str, among: Iterable[str], kind: str) -> str:
        among = list(among)
        if word not in among:
            self.fail(path, f"{_thing(path)}: there is no {kind} '{word}'; expected {listed(among) or 'one to be declared'}"
                      f"{nearest(word, among)}")  # fmt: skip
        return word

    def axis(self, path: Path_, word: str) -> int:
        return self.axes.index(self.known(path, word, self.axes, "dimension"))

    def priority(self, names: list[str]) -> tuple[tuple[str, ...], ...]:
        groups: list[list[str]] = []
        seen: set[str] = set()
        for i, entry in enumerate(self.page.priority or []):
            group = [entry] if isinstance(entry, str) else list(entry)
            for j, word in enumerate(group):
                path = ("priority", i) if isinstance(entry, str) else ("priority", i, j)
                self.known(path, word, names, "transform")
                if word in seen:
                    self.fail(path, f"priority names '{word}' twice")
                seen.add(word)
            groups.append(group)
        unnamed = [name for name in names if name not in seen]
        if groups:
            groups[0] = [name for name in names if name in groups[0] or name in unnamed]
        else:
            groups = [unnamed]
        return tuple(tuple(group) for group in groups)

    def transform(self, name: str, page: TransformPage, priority: tuple[tuple[str, ...], ...]) -> Transform:
        at: Path_ = ("transforms", name)
        cell = CELLS[page.cell]
        along = self.along(name, page)
        least, most = cell.dimensions
        if not least <= len(along) <= most:
            allowed = f"along {least} dimension{'s' * (least > 1)}" if least == most else f"along {least} or more dimensions"
            self.fail((*at, "along"), f"transform '{name}': a {page.cell} cell travels {allowed}, not along {len(along)}")
        for option in ("activation", "peepholes", "attends", "embeddings"):
            if option in page.model_fields_set and option not in cell.options:
                able = [c.name for c in CELLS.values() if option in c.options]
                self.fail((*at, option), f"transform '{name}': a {page.cell} cell has no {option}; "
                          f"{listed(able)} {'has' if len(able) == 1 else 'have'}", key=True)  # fmt: skip
        start, wrap = self.start(name, page, along)
        if page.shares is not None:
            self.known((*at, "shares"), page.shares, self.page.transforms, "transform")
            if page.shares == name or self.page.transforms[page.shares].shares is not None:
                self.fail((*at, "shares"), f"transform '{name}': shares must name a transform with weights of its own")
        if page.cell in ("pass", "memory") and ("reads" not in page.model_fields_set) and page.cell == "pass":
            self.fail(at, f"transform '{name}': a pass cell needs the key 'reads', with the one vector that it hands on", key=True)
        reads = () if page.cell == "memory" else self.reads(name, page, priority, along)
        if page.cell == "memory":
            if page.reads is not None:
                self.fail((*at, "reads"), f"transform '{name}': a memory cell reads its own vector and its facts; "
                          "leave 'reads' out", key=True)  # fmt: skip
            reads = (Read(name, (0,) * len(self.axes), along[0]),)
        if page.cell == "pass" and len(reads) != 1:
            self.fail((*at, "reads"), f"transform '{name}': found {len(reads)} vectors; a pass cell hands on exactly one")
        if not reads:
            self.fail((*at, "reads"), f"transform '{name}': found no reads; expected at least one vector")
        if (page.dropout or page.zoneout) and page.cell == "pass":
            self.fail(at, f"transform '{name}': a pass cell has nothing to drop; set it on what it reads", key=True)
        init = _init(page.init)
        return Transform(
            name, page.cell, page.hidden or 0, along, self.directions(name, page, along), self.untied(name, page), reads,
            page.shares, start, wrap, page.bias and page.cell not in ("pass",), page.forget_bias, init,
            Options(page.activation, page.peepholes), page.attends, page.embeddings, page.dropout, page.zoneout,
        )  # fmt: skip

    def along(self, name: str, page: TransformPage) -> tuple[int, ...]:
        at: Path_ = ("transforms", name)
        if page.along is None:
            if name not in self.axes:
                self.fail(at, f"transform '{name}' needs the key 'along': it bears the name of no dimension "
                          f"({listed(self.axes)})", key=True)  # fmt: skip
            return (self.axes.index(name),)
        if isinstance(page.along, str):
            return (self.axis((*at, "along"), page.along),)
        if not page.along:
            self.fail((*at, "along"), f"transform '{name}': found an empty list; expected at least one dimension")
        result = tuple(self.axis((*at, "along", i), word) for i, word in enumerate(page.along))
        if len(set(result)) < len(result):
            self.fail((*at, "along"), f"transform '{name}': along names a dimension twice")
        return result

    def directions(self, name: str, page: TransformPage, along: tuple[int, ...]) -> tuple[Direction, ...]:
        at: Path_ = ("transforms", name, "direction")
        if isinstance(page.direction, dict):
            ways = {self.axis((*at, key), key): (key, way) for key, way in page.direction.items()}
            for axis in ways:
                if axis not in along:
                    self.fail((*at, self.axes[axis]), f"transform '{name}' does not travel along '{self.axes[axis]}'", key=True)
            pairs = [ways.get(axis, ("", "forward"))[1] for axis in along]
        else:
            pairs = [page.direction] * len(along)
        result: list[Direction] = []
        for axis, way in zip(along, pairs, strict=True):
            if isinstance(way, Alternating):
                over = self.axis((*at, "over"), way.over)
                if over in along:
                    self.fail((*at, "over"), f"transform '{name}': its direction cannot alternate over '{way.over}', "
                              "a dimension that it travels along itself")  # fmt: skip
                result.append(Direction(tuple(1 if w == "forward" else -1 for w in way.cycle), over))
            else:
                result.append(Direction((1 if way == "forward" else -1,)))
        return tuple(result)

    def untied(self, name: str, page: TransformPage) -> tuple[int, ...]:
        at: Path_ = ("transforms", name, "tied")
        if page.tied == "all" or page.cell == "pass":
            return ()
        tied = set() if page.tied == "none" else {self.axis((*at, i), w) for i, w in enumerate(page.tied)}
        untied = tuple(d for d in range(len(self.axes)) if d not in tied)
        for d in untied:
            size = self.page.dimensions[self.axes[d]]
            if isinstance(size, str):
                self.fail(at, f"transform '{name}' is untied along '{self.axes[d]}', whose size '{size}' is known only at the "
                          f"call; expected a number for that size, or '{self.axes[d]}' among the tied dimensions")  # fmt: skip
        return untied

    def start(
        self, name: str, page: TransformPage, along: tuple[int, ...]
    ) -> tuple[Literal["zeros", "learned", "wrap"], tuple[int, ...]]:
        if not isinstance(page.start, Wrap):
            return page.start, ()
        at: Path_ = ("transforms", name, "start", "wrap")
        if len(along) > 1:
            self.fail(at, f"transform '{name}' travels along several dimensions; only one that travels along one can wrap")
        offsets = {self.axis((*at, key), key): value for key, value in page.start.wrap.items()}
        if along[0] in offsets:
            self.fail((*at, self.axes[along[0]]), f"transform '{name}' wraps along '{self.axes[along[0]]}' itself; the offset is "
                      "on another dimension", key=True)  # fmt: skip
        if not any(offsets.values()):
            self.fail(at, f"transform '{name}': wrap needs an offset other than 0")
        return "wrap", tuple(offsets.get(d, 0) for d in range(len(self.axes)))

    def reads(
        self, name: str, page: TransformPage, priority: tuple[tuple[str, ...], ...], along: tuple[int, ...]
    ) -> tuple[Read, ...]:
        at: Path_ = ("transforms", name, "reads")
        rank = {word: i for i, group in enumerate(priority) for word in group}
        here = (0,) * len(self.axes)
        result: list[Read] = []
        entries = list(self.page.transforms) if page.reads is None else page.reads
        for i, entry in enumerate(entries):
            if isinstance(entry, ReadAt):
                of = self.known((*at, i, "of"), entry.of, self.page.transforms, "transform")
                offset = {self.axis((*at, i, "offset", d), d): value for d, value in entry.offset.items()}
                result.append(Read(of, tuple(offset.get(d, 0) for d in range(len(self.axes)))))
                continue
            of = self.known((*at, i), entry, self.page.transforms, "transform")
            if rank[of] < rank[name]:
                result.append(Read(of, here))
            else:
                result += [Read(of, here, d) for d in self.along(of, self.page.transforms[of])]
        return tuple(result)

    def widths(self, transforms: dict[str, Transform]) -> dict[str, Transform]:
        """Fill in the units of `pass` transforms, which follow from what they read."""
        result = dict(transforms)

        def width(name: str, trail: tuple[str, ...]) -> int:
            transform, page = transforms[name], self.page.transforms[name]
            at: Path_ = ("transforms", name)
            if transform.cell != "pass":
                if page.hidden is None:
                    self.fail(at, f"transform '{name}' needs the key 'hidden': a positive integer", key=True)
                return page.hidden
            source = transform.reads[0].of
            if source in (*trail, name):
                if page.hidden is not None:
                    return page.hidden
                self.fail(at, f"transform '{name}': the width of its vector follows from itself; expected the key 'hidden'", key=True)
            found = width(source, (*trail, name))
            if page.hidden is not None and page.hidden != found:
                self.fail((*at, "hidden"), f"transform '{name}' hands on the {found} units of '{source}'; found {page.hidden}")
            return found

        for name, transform in transforms.items():
            result[name] = _replace(transform, hidden=width(name, ()))
        return result

    def selection(self, path: Path_, at: Mapping[str, Any]) -> tuple[Selection, ...]:
        chosen: list[Selection] = ["all"] * len(self.axes)
        for word, value in at.items():
            axis = self.axis((*path, word), word)
            indices = value if isinstance(value, list) else [value]
            if isinstance(value, str):
                chosen[axis] = value  # type: ignore[call-overload]  # the grammar allows three words
                continue
            size = self.page.dimensions[self.axes[axis]]
            for index in indices:
                if index < 0 or (isinstance(size, int) and index >= size):
                    self.fail((*path, word), f"{_thing(path)}: found the index {index}; dimension '{word}' has "
                              + (f"{size} cells, 0 to {size - 1}" if isinstance(size, int) else "indices from 0"))  # fmt: skip
            if not indices or len(set(indices)) < len(indices):
                self.fail((*path, word), f"{_thing(path)}: found {_shown(value)}; expected each index once, and at least one")
            chosen[axis] = tuple(indices)
        return tuple(chosen)

    def input(self, name: str, page: InputPage, transforms: dict[str, Transform]) -> Input:
        path: Path_ = ("inputs", name)
        if (page.features is None) == (page.vocabulary is None):
            found = "both features and vocabulary" if page.features else "neither features nor vocabulary"
            self.fail(path, f"input '{name}' has {found}; expected one of them", key=True)
        if page.embed is not None and page.vocabulary is None:
            self.fail((*path, "embed"), f"input '{name}': only ids of a vocabulary are embedded", key=True)
        roles = [word for word in ("enters", "joins", "facts") if getattr(page, word)]
        if len(roles) != 1 and set(roles) != {"enters", "joins"}:
            self.fail(path, f"input '{name}' has {listed(roles, 'and') or 'no place to go'}; expected enters, joins or facts", key=True)
        at = self.selection((*path, "at"), page.at)
        into: tuple[Any, ...] = ()
        own: int | None = None
        if page.enters is not None:
            of = transforms[self.known((*path, "enters"), page.enters, transforms, "transform")]
            if len(of.along) > 1:
                self.fail((*path, "enters"), f"input '{name}' cannot enter along '{of.name}', which travels along several "
                          "dimensions; expected 'joins'")  # fmt: skip
            own = of.along[0]
            if at[own] not in ("all", "first") and "joins" not in roles:
                self.fail((*path, "at", self.axes[own]), f"input '{name}' enters before the first cell along "
                          f"'{self.axes[own]}'; expected the other dimensions only")  # fmt: skip
            into = tuple(page.into) if page.into else (("hidden", "memory") if of.has_memory else ("hidden",))
            if "memory" in into and not of.has_memory:
                self.fail((*path, "into"), f"input '{name}': a {of.cell} cell keeps no memory; expected [hidden]")
        elif page.into is not None:
            self.fail((*path, "into"), f"input '{name}': 'into' belongs to an input that enters", key=True)
        joins = tuple(self.known((*path, "joins", i), w, transforms, "transform") for i, w in enumerate(page.joins or []))
        for i, word in enumerate(joins):
            if transforms[word].cell in ("pass", "memory"):
                self.fail((*path, "joins", i), f"input '{name}' cannot join '{word}': a {transforms[word].cell} cell has no weights for it")
        if page.over is not None:
            over = tuple(self.axis((*path, "over", i), w) for i, w in enumerate(page.over))
            if len(set(over)) < len(over):
                self.fail((*path, "over"), f"input '{name}': over names a dimension twice")
            if own in over:
                self.fail((*path, "over"), f"input '{name}' enters along '{self.axes[own or 0]}' and has no axis for it")
        elif page.facts:
            over = ()
        elif own is not None:
            over = tuple(d for d in range(len(self.axes)) if d != own)
        else:
            over = tuple(d for d in range(len(self.axes)) if at[d] == "all")
        kind: Any = "features" if page.features is not None else "vocabulary"
        return Input(name, kind, page.features or page.vocabulary or 0, page.embed, page.enters, into, joins, at, over,
                     page.facts, _init(page.init))  # fmt: skip

    def facts(self, name: str, page: TransformPage, transform: Transform, inputs: dict[str, Input]) -> None:
        at: Path_ = ("transforms", name)
        if page.cell != "memory":
            return
        if page.attends is None:
            self.fail(at, f"transform '{name}' needs the key 'attends': the name of an input of facts", key=True)
        self.known((*at, "attends"), page.attends, inputs, "input")
        if not inputs[page.attends].facts:
            self.fail((*at, "attends"), f"transform '{name}' attends to '{page.attends}', which has no 'facts: true'")
        size = self.page.dimensions[self.axes[transform.along[0]]]
        if page.embeddings == "adjacent" and isinstance(size, str):
            self.fail((*at, "embeddings"), f"transform '{name}': adjacent embeddings are one a hop, and the number of hops "
                      f"'{size}' is known only at the call")  # fmt: skip

    def output(self, name: str, page: OutputPage, transforms: dict[str, Transform]) -> Output:
        path: Path_ = ("outputs", name)
        taps: list[Tap] = []
        for i, word in enumerate(page.reads):
            head, dot, tail = word.partition(".")
            self.known((*path, "reads", i), head, transforms, "transform")
            if dot and (tail != "memory" or not transforms[head].has_memory):
                why = f"a {transforms[head].cell} cell keeps no memory" if tail == "memory" else f"expected '{head}.memory'"
                self.fail((*path, "reads", i), f"output '{name}': found '{word}'; {why}")
            taps.append(Tap(head, bool(dot)))
        kinds = [kind for kind in LOSSES if getattr(page, kind) is not None]
        if len(kinds) != 1:
            self.fail(path, f"output '{name}' has {listed(kinds, 'and') or 'no kind'}; expected one of classes, binary, features, raw", key=True)
        kind: Any = kinds[0]
        at = self.selection((*path, "at"), page.at)
        cells = 1
        for selection in at:
            cells *= len(selection) if isinstance(selection, tuple) else 1
        width = cells * sum(transforms[tap.transform].hidden for tap in taps)
        size = {"classes": page.classes, "features": page.features, "binary": 1, "raw": width}[kind]
        loss: Any = page.loss or LOSSES[kind]
        if page.loss is not None and page.loss != LOSSES[kind] and not (kind == "binary" and loss == "squared_error"):
            self.fail((*path, "loss"), f"output '{name}': {page.loss} does not fit {kind}; expected {LOSSES[kind]}")
        return Output(name, tuple(taps), at, kind, size or 0, loss, _init(page.init))

    def bound(self, spec: GridSpec) -> None:
        """Every symbol needs an input with an axis for it, since calls bind symbols by shapes."""
        axes = {spec.dimensions[d].size for i in spec.inputs.values() for d in i.over}
        for dimension in spec.dimensions:
            if isinstance(dimension.size, str) and dimension.size not in axes:
                self.fail(("dimensions", dimension.name), f"nothing tells the size '{dimension.size}' of dimension '{dimension.name}': "
                          "no input has an axis for it; expected a number, or an input 'over' it")  # fmt: skip

    def shared(self, spec: GridSpec) -> None:
        for name, transform in spec.transforms.items():
            if transform.shares is None:
                continue
            other = spec.transforms[transform.shares]
            ours, theirs = (
                (len(t.gates) * t.hidden, spec.rows(t.name), tuple(spec.dimensions[d].size for d in t.untied), t.bias)
                for t in (transform, other)
            )
            masks = [parameters.effective_blocks(spec, t) for t in (transform, other)]
            alike = (masks[0] is None) == (masks[1] is None) and (masks[0] is None or bool((masks[0] == masks[1]).all()))
            if ours == theirs and not alike:
                self.fail(("transforms", name, "shares"), f"transform '{name}' and '{other.name}' read their own vectors in "
                          "different places, so a gru's weights are zero in different places and cannot be shared")  # fmt: skip
            if ours != theirs or transform.cell in ("pass", "memory") or transform.options.peepholes != other.options.peepholes:
                self.fail(("transforms", name, "shares"), f"transform '{name}' needs weights of {ours[1]} rows × {ours[0]} "
                          f"columns{_untied(ours[2])}, and '{other.name}' has {theirs[1]} × {theirs[0]}{_untied(theirs[2])}")  # fmt: skip

    def acyclic(self, spec: GridSpec) -> None:
        """Look for steps that wait for each other, on a grid large enough for every offset to take part."""
        reach = [abs(o) for t in spec.transforms.values() for r in t.reads for o in (*r.offset, *t.wrap)]
        turns = [len(d.cycle) for t in spec.transforms.values() for d in t.direction]
        largest = max(2, *reach, *turns, 0) + 1
        while largest > 2 and largest ** len(spec.dimensions) > 4096:
            largest -= 1
        sizes = tuple(min(d.size, largest) if isinstance(d.size, int) else largest for d in spec.dimensions)
        try:
            _ = graph.build(spec, sizes).levels
        except graph.Cycle as cycle:
            path: Path_ = ("transforms", cycle.steps[0].transform)
            if "reads" in self.page.transforms[cycle.steps[0].transform].model_fields_set:
                path = (*path, "reads")
            shown = str(cycle) if len(cycle.steps) < 9 else f"{listed(cycle.steps[:8], 'and')} …"
            self.fail(path, f"these steps wait for each other: {shown} ('←' is 'waits for')", key=True)


def _untied(sizes: tuple[object, ...]) -> str:
    return f" (untied {' × '.join(map(str, sizes))})" if sizes else ""


def _init(page: Any) -> tuple[str, float]:
    if isinstance(page, Normal):
        return ("normal", page.normal)
    if isinstance(page, Uniform):
        return ("uniform", page.uniform)
    return (str(page), 0.0)


def _replace(transform: Transform, **changes: Any) -> Transform:
    import dataclasses

    return dataclasses.replace(transform, **changes)


# -- saying what pydantic found ------------------------------------------------------------------------------------


def _specific(error: Any) -> int:
    """Unknown and missing keys say more than one arm of a union that did not match."""
    return 1 if error["type"] in ("extra_forbidden", "missing") else 0


def _landed(error: Any, values: Any) -> tuple[Path_, str]:
    """Where in the page an error stands (the parts of its location that are no union's arms), and the key missing there."""
    path: list[str | int] = []
    here: Any = values
    for part in error["loc"]:
        if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            path.append(part)
            here = here[part]
    return tuple(path), str(error["loc"][-1]) if error["type"] == "missing" else ""


def _models(annotation: Any) -> list[Any]:
    """The shapes that a type admits: models, mappings and lists, looked for through unions and annotations."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        return [m for arm in get_args(annotation) for m in _models(arm)]
    return [annotation] if get_origin(annotation) in (dict, list) else []


def _walk(path: Path_) -> list[Any]:
    """The types that the grammar has at a path."""
    here: list[Any] = [Document]
    for part in path:
        there: list[Any] = []
        for kind in here:
            for model in _models(kind):
                if get_origin(model) in (dict, list):
                    there.append(get_args(model)[-1])
                elif part in model.model_fields:
                    there.append(model.model_fields[part].annotation)
        here = there
    return here


def _fields(path: Path_) -> set[str]:
    return {f for kind in _walk(path) for m in _models(kind) if hasattr(m, "model_fields") for f in m.model_fields}


def _expected(path: Path_) -> str:
    """The title of the field at a path, or of the nearest one above it."""
    for end in range(len(path), 0, -1):
        for kind in _walk(path[: end - 1]):
            for model in _models(kind):
                field = getattr(model, "model_fields", {}).get(path[end - 1])
                if field is not None and field.title:
                    return field.title if end == len(path) or end < 2 else f"{field.title} under '{path[end - 1]}'"
        for kind in _walk(path[:end]):
            for note in getattr(kind, "__metadata__", ()):
                if getattr(note, "title", None):
                    return note.title
    return "something else"


def _thing(path: Path_) -> str:
    """What a path names, in the user's words: ``transform 'depth', key 'tied'``."""
    singular = {"transforms": "transform", "inputs": "input", "outputs": "output", "dimensions": "dimension"}
    if not path:
        return "the spec"
    head = f"{singular[str(path[0])]} '{path[1]}'" if path[0] in singular and len(path) > 1 else f"'{path[0]}'"
    rest = [str(part) for part in path[2 if path[0] in singular else 1 :] if isinstance(part, str)]
    return f"{head}, {'.'.join(rest)}" if rest else head


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if len(value) > 6 or any(isinstance(v, dict | list) for v in value) else str(value)
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) < 60 else shown[:56] + "…'"
