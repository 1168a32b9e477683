"""Writes a grid as an ONNX model of standard operators: the way that fits the spec, and what stays open."""

# pyright: basic

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from gridc.arrays.conversion import Array
from gridc.errors import ResourceError, UsageError, listed, nearest
from gridc.files import write_atomically
from gridc.language.layers import Layers, layers
from gridc.language.spec import GridSpec
from gridc.onnx.ends import Ends
from gridc.onnx.graph import Graph
from gridc.onnx.sweep import Sweep, uniform

LARGEST = 2_000_000_000
"""Bytes of an ONNX file, whose format cannot hold more."""


class Exported(NamedTuple):
    """How a grid was written: ``way`` is operators, scan or whole; ``open`` the symbol that a call may choose, None for none;
    ``sizes`` those of all dimensions that are fixed."""

    way: str
    open: str | None
    sizes: Mapping[str, int]

    def __str__(self) -> str:
        what = {"operators": "as LSTM and GRU operators", "scan": "as a Scan", "whole": "cell by cell"}[self.way]
        fixed = ", ".join(f"{name} = {size}" for name, size in self.sizes.items())
        opened = f"batch and {self.open} are open" if self.open else "the batch is open"
        return f"{what}; {opened}{f', {fixed}' if fixed else ''}"


def export(
    spec: GridSpec, numbers: Mapping[str, Array], path: str | os.PathLike[str], sizes: Mapping[str, int], lengths: bool = False,
    vocabularies: Mapping[str, tuple[str, ...]] | None = None,
) -> Exported:  # fmt: skip
    """Write the predictions of a spec with these parameters to an ONNX file, float32 whatever they are.

    ``sizes`` fixes symbols; one that the grid is uniform along may stay open.  With ``lengths`` the model takes another input,
    ``SYMBOL.lengths`` ``[batch]``.  Raises UsageError for a spec, a size or lengths that cannot be had, ResourceError where
    onnx is not installed."""
    if importlib.util.find_spec("onnx") is None:
        raise ResourceError("writing ONNX needs the package onnx, which is not installed; pip install 'gridc[onnx]'")
    for t in spec.transforms.values():
        if not t.mechanism.fused or t.mechanism.attention:
            raise UsageError(f"transform '{t.name}' is a {t.cell} cell, which is not written as ONNX; expected cells with a rule")
    found = _layers(spec)
    axis, way = _open(spec, found, sizes)
    known = {symbol: sizes[symbol] for symbol in spec.symbols if axis is None or symbol != spec.dimensions[axis].size}
    if lengths and (axis is None or (found is None and way < 0)):
        why = "its size is fixed" if axis is None else "it is read backwards, from an end that lengths would move"
        raise UsageError(f"lengths need an open dimension that is read forwards, or layers of LSTM or GRU; '{spec.name}': {why}")
    graph = Graph()
    bound = {**known, **({str(spec.dimensions[axis].size): 1} if axis is not None else {})}
    ends = Ends(graph, spec, numbers, spec.sizes(bound), axis, lengths)
    if found is not None:
        from gridc.onnx import operators

        operators.write(graph, spec, found, numbers, ends)
    else:
        sweep = Sweep(graph, spec, numbers, ends, way)
        sweep.whole() if axis is None else sweep.scan()
    _write(path, graph.model(spec.name, _about(spec, vocabularies or {})), spec)
    fixed = {d.name: n for k, (d, n) in enumerate(zip(spec.dimensions, spec.sizes(bound), strict=True)) if k != axis}
    opened = None if axis is None else str(spec.dimensions[axis].size)
    return Exported("operators" if found is not None else "whole" if axis is None else "scan", opened, fixed)


def _layers(spec: GridSpec) -> Layers | None:
    try:
        return layers(spec)
    except UsageError:
        return None


def _open(spec: GridSpec, found: Layers | None, sizes: Mapping[str, int]) -> tuple[int | None, int]:
    """Choose the dimension that stays open, and its direction; UsageError where a size is missing, odd, or of no symbol."""
    for symbol, size in sizes.items():
        if symbol not in spec.symbols:
            raise UsageError(f"'{spec.name}' has no symbol '{symbol}'{nearest(symbol, spec.symbols)}; it has "
                             f"{listed(spec.symbols, 'and') or 'none'}")  # fmt: skip
        if type(size) is not int or size < 1:
            raise UsageError(f"the size of '{symbol}' is {size!r}; expected a whole number from 1 on")
    able: list[tuple[int, int]] = []
    for axis, d in enumerate(spec.dimensions):
        if isinstance(d.size, str) and d.size not in sizes:
            way = 1 if found is not None and found.input.over == (axis,) else uniform(spec, axis)
            able += [(axis, way)] if way else []
    axis, way = able[0] if able else (None, 1)
    missing = [s for s in spec.symbols if s not in sizes and (axis is None or s != spec.dimensions[axis].size)]
    if missing:
        opened = "no dimension of it" if axis is None else f"only '{spec.dimensions[axis].size}'"
        many = "is" if len(missing) == 1 else "are"
        raise UsageError(f"{opened} can stay open in ONNX, where a model is a loop along one dimension or none; say how large "
                         f"{listed(missing, 'and')} {many}, for instance {missing[0]}=10")  # fmt: skip
    return axis, way


def _about(spec: GridSpec, vocabularies: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Give what the model is to say of itself: the spec, and the words that ids and classes stand for."""
    words = {f"words.{name}": json.dumps(list(own), ensure_ascii=False) for name, own in vocabularies.items()}
    return {"gridc.spec": spec.source.text, "gridc.digest": spec.digest, **words}


def _write(path: str | os.PathLike[str], model: Any, spec: GridSpec) -> None:
    if model.ByteSize() >= LARGEST:
        raise ResourceError(f"'{spec.name}' is {model.ByteSize() / 1e9:.1f} GB as ONNX, whose files hold less than 2 GB")
    write_atomically(path, model.SerializeToString())
