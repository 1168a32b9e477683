"""The functions of a grid on this machine: its graphs, compiled when they are first called, and called with BLAS held."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gridc.arrays.conversion import Array
from gridc.data.fitting import Call
from gridc.language import noise
from gridc.language.spec import GridSpec
from gridc.plain_text import times
from gridc.scheduling import tiles
from gridc.symbolic import lowering
from gridc.symbolic.backends import SETTINGS
from gridc.symbolic.indices import Sizes, recall
from gridc.symbolic.lowering import Symbols
from gridc.symbolic.lowerings import Target

# PyTensor says of most of its functions neither what they take nor what they give.
pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")


class Functions:
    """The functions of a spec for a target, by name; one serves every size, but where shapes are static each has its own.

    ``timed`` is a context for what is being built."""

    def __init__(self, spec: GridSpec, target: Target, timed: Callable[[str], contextlib.AbstractContextManager[None]]):
        self.spec, self.target, self.timed = spec, target, timed
        self._made: dict[Any, Callable[..., list[Array]]] = {}
        self._called: set[str] = set()

    def ready(self) -> None:
        """Build what training and prediction call; where shapes are static only a call tells them."""
        for name in ("predict", "gradients") if not self.target.backend.static else ():
            self._function(name)

    def run(self, name: str, parameters: Mapping[str, Array], call: Call, told: Sequence[Array]) -> list[Array]:
        """Call a function by name.

        ``predict`` gives every output, ``loss`` the loss, ``gradients`` the loss, the outputs and the gradient of every
        parameter; ``told`` are targets and weights, and for gradients the masks."""
        given = [*parameters.values(), *call.inputs.values(), call.extent, call.lengths, *told]
        if self.target.backend.static:
            indices = self._index_arrays(call)
            function = self._static_function(name, call, indices)
            given += indices
        else:
            function = self._function(name)
        first = name not in self._called
        self._called.add(name)
        timed = self.timed(f"{name}, first call") if first else contextlib.nullcontext()
        with timed, self.target.lowering.threads(self.spec, call.extent, self.target.threads), np.errstate(all="ignore"):
            return [np.asarray(result) for result in function(*given)]

    # -- graphs -------------------------------------------------------------------------------------------------------

    @cached_property
    def symbols(self) -> Symbols:
        """The graph of prediction: sizes and lengths are inputs of it."""
        return self._lowered(training=False)

    @cached_property
    def training_symbols(self) -> Symbols:
        """The graph whose gradients are taken: that of prediction, unless masks are drawn."""
        return self._lowered(training=True) if noise.noisy(self.spec) else self.symbols

    def _lowered(self, training: bool, call: Call | None = None) -> Symbols:
        """Lower the spec; for a backend whose shapes are static every input has those of the call."""
        inputs, static, shape = {}, None, (None, None)
        if call is not None:
            inputs = {name: pt.TensorType(str(array.dtype), array.shape)(name) for name, array in call.inputs.items()}
            static, shape = Sizes(call.extent, call.lengths), call.lengths.shape
        own: dict[str, Any] = {}
        if self.target.stage is not None:
            shapes = tiles.shapes(self.spec, self.target.stage.cut, self.target.stage.rank)
            own = {name: pt.TensorType(self.target.dtype, shape)(name) for name, shape in shapes.items()}
        return lowering.lower(
            self.spec, inputs, own, weighted=True, training=training, extent=pt.vector("extent", dtype="int64"),
            lengths=pt.TensorType("int64", shape)("lengths"),
            way=self.target.way(static),
        )  # fmt: skip

    # -- compiling ----------------------------------------------------------------------------------------------------

    def _function(self, name: str) -> Callable[..., list[Array]]:
        """Give a function that serves every size."""
        if name not in self._made:
            with self.timed(name):
                self._made[name] = self._compiled(name, self.training_symbols if name == "gradients" else self.symbols)
        return self._made[name]

    def _static_function(self, name: str, call: Call, indices: list[Array]) -> Callable[..., list[Array]]:
        """Give the function for the sizes of a call."""
        key = (name, *(array.shape for array in (*call.inputs.values(), call.lengths, *indices)))
        if key not in self._made:
            with self.timed(f"{name} for {times(call.extent)}"):
                self._made[key] = self._compiled(name, self._lowered(name == "gradients", call))
        return self._made[key]

    def _compiled(self, name: str, s: Symbols) -> Callable[..., list[Array]]:
        sizes = [*s.inputs.values(), s.extent, s.lengths]
        told = [*s.targets.values(), *s.weights.values()]
        indices = s.indices if self.target.backend.static else ()
        inputs = {"predict": sizes, "loss": [*sizes, *told], "gradients": [*sizes, *told, *s.masks.values()]}[name]
        outputs = {"predict": [*s.outputs.values()], "loss": [s.loss], "gradients": [s.loss, *s.outputs.values()]}[name]
        if name == "gradients" and s.parameters:
            # A Scan keeps the gradients of its states in this type, whatever theirs is.
            with SETTINGS, pytensor.config.change_flags(floatX=self.target.dtype):
                outputs += pytensor.grad(s.loss, list(s.parameters.values()), disconnected_inputs="ignore")
        return pytensor.function(
            [*s.parameters.values(), *inputs, *indices], outputs, mode=self.target.backend.mode(), on_unused_input="ignore",
            name=f"{self.spec.name}.{name}", trust_input=True,
        )  # fmt: skip

    def _index_arrays(self, call: Call) -> list[Array]:
        """Work out what the graph would from the sizes, for backends that cannot."""
        result: list[Array] = []
        for variable in self.symbols.indices:
            made = recall(variable.owner.op.plan, self.spec, call.extent, call.lengths)
            result.append(made[variable.owner.outputs.index(variable)])
        return result
