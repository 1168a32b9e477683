"""A grid as two compiled functions for somebody else's tape: its logits, and the vector-Jacobian product of a call.

The first gives, besides the logits, what the second needs of it: for a fused sweep its own tape and what outputs read of it.
Where the lowering keeps nothing that can be handed over (a Scan's states), the second runs the sweep again.
"""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gridc.data.fitting import Call
from gridc.language.spec import GridSpec
from gridc.locks import Lock, once
from gridc.symbolic import lowering
from gridc.symbolic.backends import SETTINGS
from gridc.symbolic.fused import Adjoint, Sweep
from gridc.symbolic.lowering import Symbols
from gridc.symbolic.lowerings import Target

pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")
traversal: Any = importlib.import_module("pytensor.graph.traversal")

Array = np.ndarray[Any, Any]
Arrays = list[Array]


class Pullback:
    """The logits of a spec and their vector-Jacobian products, each function built when it is first called.

    ``training`` takes the masks that dropout and zoneout draw.  Any thread may call it; one runs at a time."""

    def __init__(self, spec: GridSpec, target: Target, training: bool):
        self.spec, self.target, self.training = spec, target, training
        self.real = tuple(name for name, x in spec.inputs.items() if x.kind == "features")
        """The inputs that have a gradient."""
        self._lock = Lock()
        self._functions: dict[Any, Any] = {}
        if target.lowering.prepare is not None:
            target.lowering.prepare(spec, target.dtype, target.products)

    def logits(self, numbers: Sequence[Array], call: Call, masks: Sequence[Array]) -> Arrays:
        """Compute the logits of every output, ``[batch, *axes, size]``, and keep nothing.

        ``numbers`` are the parameters in the spec's order, contiguous and of the target's dtype."""
        return self._run("logits", call, [*numbers, *_given(call), *masks])

    def forward(self, numbers: Sequence[Array], call: Call, masks: Sequence[Array]) -> tuple[Arrays, Arrays]:
        """Compute the same, and what ``backward`` takes and uses up."""
        found = self._run("forward", call, [*numbers, *_given(call), *masks])
        count = len(self.spec.outputs)
        return found[:count], found[count:]

    def backward(
        self, numbers: Sequence[Array], call: Call, masks: Sequence[Array], kept: Arrays, slopes: Sequence[Array],
        asked: tuple[str, ...] = (),
    ) -> Arrays:  # fmt: skip
        """Compute the gradients of every parameter, and then of the real inputs that are ``asked`` for, from those of the logits.

        Uses up what ``forward`` kept."""
        with self._lock:
            found = self._run(asked, call, [*numbers, *_given(call), *masks, *kept, *slopes])
            self._functions[asked].free()  # it would hold the tape, whose place the next call's is to take
        return found

    def _run(self, what: Any, call: Call, arrays: Arrays) -> Arrays:
        with self._lock:
            if what not in self._functions:
                self._functions[what] = self._build(what)
            with self.target.lowering.threads(self.spec, call.extent, self.target.threads), np.errstate(all="ignore"):
                return self._functions[what](*arrays)

    @once
    def _symbols(self) -> Symbols:
        return lowering.lower(
            self.spec, extent=pt.vector("extent", dtype="int64"), lengths=pt.matrix("lengths", dtype="int64"),
            training=self.training, way=self.target.way(),
        )  # fmt: skip

    def _kept(self) -> list[Any]:
        """Give the variables that go from ``forward`` to ``backward``: a sweep's tape first, what outputs read, and whatever was
        worked out for the sweep, its inputs that are no views of arrays that there are anyway."""
        found = traversal.ancestors(list(self._symbols.logits.values()))
        sweeps = {v.owner for v in found if v.owner is not None and isinstance(v.owner.op, Sweep)}
        return [v for node in sweeps for v in (*node.outputs, *(i for i in node.inputs if i.owner and not i.owner.op.view_map))]

    def _build(self, what: Any) -> Any:
        s = self._symbols
        inputs = [*s.parameters.values(), *s.inputs.values(), s.extent, s.lengths, *s.masks.values()]
        outputs: list[Any] = list(s.logits.values())
        if what == "forward":
            outputs += self._kept()
        elif what != "logits":
            slopes = [v.type() for v in outputs]
            wanted = [*s.parameters.values(), *(s.inputs[name] for name in what)]
            # A Scan keeps the gradients of its states in this type, whatever theirs is.
            with SETTINGS, pytensor.config.change_flags(floatX=self.target.dtype):
                known = dict(zip(outputs, slopes, strict=True))
                outputs = pytensor.grad(None, wanted, known_grads=known, disconnected_inputs="ignore")
            kept = [pytensor.In(v, mutable=n == 0) for n, v in enumerate(self._kept())]
            inputs += [*kept, *slopes]
            outputs = [pytensor.Out(v, borrow=_own(v) and outputs.count(v) == 1) for v in outputs]
        return pytensor.function(inputs, outputs, mode=self.target.backend.mode(), on_unused_input="ignore",
                                 name=f"{self.spec.name}.{what}", trust_input=True)  # fmt: skip


def _given(call: Call) -> Arrays:
    return [*call.inputs.values(), call.extent, call.lengths]


def _own(variable: Any) -> bool:
    """Tell whether an adjoint makes this array, and so sees itself that nobody else holds it (``buffers.again``)."""
    return variable.owner is not None and isinstance(variable.owner.op, Adjoint)
