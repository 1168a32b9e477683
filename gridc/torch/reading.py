"""What a PyTorch model is made of, as far as a grid can be it: its parts in order, and what its ``forward`` reads of them."""

# PyTorch's types are partly unknown, and it is no dependency.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gridc.errors import UsageError

EXPECTED = "expected Embedding, LSTM or GRU, Linear, in this order, the first and the last where there are any"
RECURRENT = {nn.LSTM: "lstm", nn.GRU: "gru"}
TOLERANCE = 1e-4
"""How far, relative to its largest number, what a module gives may be from what its parts give one after the other."""


@dataclass
class OneLayer:
    """One layer of a recurrent module."""

    module: nn.RNNBase
    number: int
    dropout: float = 0.0

    @property
    def cell(self) -> str:
        """The name of its cell in the language."""
        return RECURRENT[type(self.module)]  # type: ignore[index]

    @property
    def hidden(self) -> int:
        """Its units."""
        return self.module.hidden_size

    @property
    def ways(self) -> int:
        """1, or 2 for both directions."""
        return 2 if self.module.bidirectional else 1

    def weights(self) -> Iterator[dict[str, Tensor]]:
        """Give its weights by name, forward and where there is one backward."""
        names = ["weight_hh", "weight_ih", *(("bias_hh", "bias_ih") if self.module.bias else ())]
        for tail in ("", "_reverse")[: self.ways]:
            yield {name: getattr(self.module, f"{name}_l{self.number}{tail}") for name in names}


@dataclass
class Model:
    """A model as a grid may be it."""

    layers: list[OneLayer] = field(default_factory=list)
    recurrent: list[nn.RNNBase] = field(default_factory=list)
    embedding: nn.Embedding | None = None
    linear: nn.Linear | None = None

    @property
    def features(self) -> int:
        """Numbers of a step that the first layer sees."""
        return self.recurrent[0].input_size

    def page(self, output: str, last: bool) -> str:
        """Write the model as a page of the language: a transform for every layer and direction, along time."""
        lines: list[str] = []
        below: list[str] = []
        for n, layer in enumerate(self.layers, start=1):
            names = [f"layer-{n}", f"layer-{n}-back"][: layer.ways]
            for name, way, step in zip(names, ("forward", "backward"), (-1, 1), strict=False):
                reads = [f"{{of: {name}, offset: {{time: {step}}}}}", *(f"{{of: {other}, offset: {{}}}}" for other in below)]
                told = f", dropout: {layer.dropout}" if layer.dropout else ""
                lines.append(f"  {name}: {{cell: {layer.cell}, hidden: {layer.hidden}, along: time, direction: {way}, bias: "
                             f"{str(layer.module.bias).lower()}{told}, reads: [{', '.join(reads)}]}}")  # fmt: skip
            below = names
        first = ["layer-1", "layer-1-back"][: self.layers[0].ways]
        size = f"features: {self.features}"
        if self.embedding is not None:
            size = f"vocabulary: {self.embedding.num_embeddings}, embed: {self.embedding.embedding_dim}"
        kind = "raw: true"
        if self.linear is not None:
            kind = "binary: true" if output == "binary" else f"{output}: {self.linear.out_features}"
            if output == "binary" and self.linear.out_features != 1:
                raise UsageError(f"a binary output is made of one number; the module's Linear gives {self.linear.out_features}")
        at = "last" if last else "all"
        return "\n".join([
            "name: from-torch", "dimensions: {time: T}", "transforms:", *lines,
            f"inputs:\n  x: {{{size}, joins: [{', '.join(first)}]}}",
            f"outputs:\n  y: {{{kind}, reads: [{', '.join(below)}], at: {{time: {at}}}}}", "",
        ])  # fmt: skip

    def reads(self, module: nn.Module) -> bool:
        """Tell whether a module's ``forward`` reads the last steps or all, by trying it; UsageError where it does neither."""
        first = self.recurrent[0]
        if module is first:
            return False
        weight = next(module.parameters())
        if self.embedding is not None:
            x = torch.arange(10).reshape(2, 5) % self.embedding.num_embeddings
        else:
            x = torch.linspace(-1, 1, 10 * self.features, dtype=weight.dtype).reshape(2, 5, self.features)
        x = x.to(weight.device)
        training = [part for part in module.modules() if part.training]
        module.eval()
        try:
            with torch.no_grad():
                found = _outcome(module, x if first.batch_first else x.transpose(0, 1))
                steps, ends, mixed = self._run(x)
        finally:
            for part in training:
                part.training = True
        if found is None:
            return False  # parts in a Sequential, whose tuples it does not hand on: there is no reading to be found
        for candidate, last in ((steps, False), (ends, True), (steps.transpose(0, 1), False)):
            if _same(found, candidate):
                return last
        if _same(found, mixed):
            raise UsageError("the module reads both directions at the last step, where the backward one has seen one step alone; "
                             "a grid reads each direction at its own end: concatenate the final states instead")  # fmt: skip
        raise UsageError(f"the forward of {type(module).__name__} does not give what its parts give one after the other, read at "
                         "all steps or at the end of each direction")  # fmt: skip

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the parts on ``[batch, time, …]``: all steps, the end of each direction, and the last step of all."""
        x = x if self.embedding is None else self.embedding(x)
        state: Any = None
        for part in self.recurrent:
            found, state = part(x if part.batch_first else x.transpose(0, 1))
            x = found if part.batch_first else found.transpose(0, 1)
        hidden = state[0] if isinstance(state, tuple) else state
        ends = torch.cat(list(hidden[-self.layers[-1].ways :]), dim=-1)
        answer: Any = self.linear or nn.Identity()
        return answer(x), answer(ends), answer(x[:, -1])


def read(module: nn.Module) -> Model:
    """Find a model's parts.  Raises UsageError for one that a grid has no place for, or none, and for another order.

    A warning names dropout that a grid has no place for."""
    model, lost = Model(), list[str]()
    for part in _parts(module):
        name = type(part).__name__
        if isinstance(part, nn.Dropout):
            _drop(model, part, module, lost)
        elif isinstance(part, nn.Embedding) and model.embedding is None and not model.layers:
            if part.max_norm is not None:
                raise UsageError("the module's Embedding has a max_norm, which a grid has not; expected None")
            model.embedding = part
        elif type(part) in RECURRENT and model.linear is None:
            _stack(model, part)  # type: ignore[arg-type]
        elif isinstance(part, nn.Linear) and model.layers and model.linear is None:
            model.linear = part
        else:
            raise UsageError(f"found {name}{f' in {type(module).__name__}' if part is not module else ''}; {EXPECTED}")
    if not model.layers:
        raise UsageError(f"found no LSTM and no GRU in {type(module).__name__}; {EXPECTED}")
    for text in lost:
        warnings.warn(text, UserWarning, stacklevel=3)
    return model


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.Identity):
        return
    children = list(module.children())
    known = isinstance(module, (nn.Embedding, nn.RNNBase, nn.Linear, nn.Dropout))
    if known or not children:
        yield module
    else:
        for child in children:
            yield from _parts(child)


def _stack(model: Model, part: nn.RNNBase) -> None:
    name = type(part).__name__
    if part.proj_size:
        raise UsageError(f"the module's {name} projects its output (proj_size={part.proj_size}), which no grid does; expected 0")
    before = model.layers[-1].ways * model.layers[-1].hidden if model.layers else None
    before = model.embedding.embedding_dim if before is None and model.embedding is not None else before
    if before not in (None, part.input_size):
        raise UsageError(f"the module's {name} takes {part.input_size} features, and what is before it gives {before}")
    model.recurrent.append(part)
    count = part.num_layers
    model.layers += [OneLayer(part, k, float(part.dropout) if k < count - 1 else 0.0) for k in range(count)]


def _drop(model: Model, part: nn.Dropout, whole: nn.Module, lost: list[str]) -> None:
    """Give dropout to the layer before it, if another recurrent layer comes after it; else tell that it is lost."""
    order = list(_parts(whole))
    after = [type(each) for each in order[order.index(part) + 1 :]]
    if not part.p:
        return
    if model.layers and any(kind in RECURRENT for kind in after):
        model.layers[-1].dropout = float(part.p)
        return
    where = after[0].__name__ if after else "end"
    lost.append(f"the module's Dropout({part.p}) before its {where} has no place in a grid, which hides units from recurrent "
                "layers alone: predictions are the same, training goes on without it")  # fmt: skip


def _outcome(module: nn.Module, x: Tensor) -> Tensor | None:
    try:
        found = module(x)
    except Exception as error:
        if isinstance(module, nn.Sequential):
            return None
        raise UsageError(f"the forward of {type(module).__name__} cannot be tried on one array of shape {list(x.shape)} "
                         f"({type(error).__name__}: {error}); say at='all' or at='last'") from None  # fmt: skip
    found = found[0] if isinstance(found, tuple) else found
    if not isinstance(found, Tensor):
        raise UsageError(f"the forward of {type(module).__name__} gives {type(found).__name__}; expected a tensor")
    return found


def _same(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= TOLERANCE * max(1e-6, float(expected.abs().max())))
