"""A compiled grid: its parameters, and the functions that use them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc.arrays.conversion import Array
from gridc.arrays.dataset import MASKS
from gridc.arrays.signature import Signature
from gridc.data import fitting
from gridc.data.fitting import Call
from gridc.errors import DataError, ResourceError, UsageError
from gridc.fusion import blas
from gridc.language import noise
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec
from gridc.locks import Lock
from gridc.parameters import Parameters
from gridc.scheduling import counts, graph
from gridc.symbolic import backends, lowering
from gridc.symbolic.backends import SETTINGS, Backend
from gridc.symbolic.indices import Sizes, extents, recall
from gridc.symbolic.lowering import Symbols
from gridc.symbolic.lowerings import Target

if TYPE_CHECKING:
    from gridc.device.functions import Functions
    from gridc.device.updates import Mirror
    from gridc.insight.summary import Summary
    from gridc.model_file import Model
    from gridc.stream import Stream
    from gridc.training.history import History
    from gridc.training.optimizers import Optimizer
    from gridc.training.step import Step, TrainingStep, Update

# PyTensor says of most of its functions neither what they take nor what they give.
pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")

Arrays = Mapping[str, Any]
CHUNK = 1 << 28
"""Numbers that a prediction's vectors may take up at once; larger batches are predicted in parts."""


class Grid:
    """A spec compiled to functions.  Made by ``gridc.compile``; its methods may be called from several threads."""

    def __init__(self, spec: GridSpec, target: Target, numbers: Mapping[str, Array], seed: int, progress: bool = False):
        self.spec, self.target, self.seed = spec, target, seed
        self._fitted: dict[str, int] = {}
        self._last: tuple[str, bytes, bytes] | None = None
        self._called: set[str] = set()
        self.compile_seconds: dict[str, float] = {}
        self.vocabularies: dict[str, tuple[str, ...]] = {}
        """What the ids of an input or an output stand for, where that is known."""
        self.signature = Signature()
        """Which columns of a file it was trained on, and how they were read, where that is known."""
        self._masks = np.random.default_rng([seed, MASKS])
        self._progress, self._lock = progress, Lock()
        self._shared = {name: pytensor.shared(array, name, borrow=True, shape=array.shape) for name, array in numbers.items()}
        self.parameters = Parameters(self._shared, self._come_home if target.lowering.device else None)
        if target.lowering.prepare is not None:
            with self._timed("kernels"):
                target.lowering.prepare(spec, target.dtype)

    @property
    def backend(self) -> Backend:
        """What runs its functions."""
        return self.target.backend

    @property
    def lowering(self) -> str:
        """``fused`` or ``plain``."""
        return self.target.lowering.name

    @property
    def dtype(self) -> str:
        """Of every number: ``float32`` or ``float64``."""
        return self.target.dtype

    @property
    def recompute(self) -> bool:
        """Whether training keeps little and runs segments twice."""
        return self.target.recompute

    # -- functions ----------------------------------------------------------------------------------------------------

    def predict(self, inputs: Arrays, lengths: Arrays | None = None) -> dict[str, Array]:
        """Compute every output: ``[batch, *axes, …]``, probabilities for classes and binary outputs, 0 past an example's end.

        ``inputs`` maps names to arrays ``[batch, *over, features]`` or ids ``[batch, *over]``; ``lengths`` maps a symbol to one
        length for each example.  Raises DataError."""
        call = fitting.check(self.spec, inputs, lengths, self.dtype)
        each = counts.kept(self.spec, tuple(int(n) for n in call.extent[1:]), 1).tape
        size = max(1, min(call.batch, CHUNK // max(1, each)))
        parts: list[list[Array]] = []
        for first in range(0, call.batch, size):
            some = slice(first, first + size)
            part = {name: array[some] for name, array in call.inputs.items()}
            extent = call.extent.copy()
            extent[0] = len(call.lengths[some])
            parts.append(self._run("predict", Call(part, extent, call.lengths[some]), []))
        joined = parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        return dict(zip(self.spec.outputs, joined, strict=True))

    def loss(self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None) -> float:
        """Compute the sum of the outputs' losses, each a mean over examples and positions.  Raises DataError."""
        call = fitting.check(self.spec, inputs, lengths, self.dtype)
        return float(self._run("loss", call, self._targets(targets, call, None))[0])

    def gradients(self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None) -> dict[str, Array]:
        """Compute the gradient of the loss for every parameter, in the parameter's shape.  Raises DataError.

        With dropout or zoneout it is that of the loss under masks drawn for this call."""
        return self.loss_and_gradients(inputs, targets, lengths)[1]

    def loss_and_gradients(
        self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, weights: Arrays | None = None
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:
        """Compute the loss, the gradients, and the outputs of the same sweep.

        ``weights`` maps an output to what its loss counts: a number, or one for each position of its target.  With dropout or
        zoneout every call draws new masks, which all three are computed under; ``random_state`` says which come next."""
        call = fitting.check(self.spec, inputs, lengths, self.dtype)
        told = self._targets(targets, call, weights)
        with self._lock:
            loss, *rest = self._run("gradients", call, [*told, *self._drawn(call)])
        outputs = dict(zip(self.spec.outputs, rest, strict=False))
        return float(loss), dict(zip(self.parameters, rest[len(outputs) :], strict=True)), outputs

    @property
    def random_state(self) -> dict[str, Any] | None:
        """Where the generator of dropout's and zoneout's masks stands, a plain mapping that may be kept and set again, so that
        the same masks follow; None where the spec has neither.  It starts from the grid's seed."""
        return dict(self._masks.bit_generator.state) if noise.noisy(self.spec) else None

    @random_state.setter
    def random_state(self, state: Mapping[str, Any]) -> None:
        self._masks.bit_generator.state = state

    def _drawn(self, call: Call) -> list[Array]:
        """Draw the masks of one training step, in the order of the training graph's."""
        if not noise.noisy(self.spec):
            return []
        batch, *sizes = (int(n) for n in call.extent)
        return [*noise.draw(self.spec, batch, sizes, self._masks, self.dtype).values()]

    # -- training and keeping -----------------------------------------------------------------------------------------

    def fit(self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, **options: Any) -> History:
        """Train on arrays, or on lists of sequences of different lengths.

        The options are those of ``gridc.training.fit.fit`` (optimizer, batch, budget, stop, held_out, …).

        Raises DataError, UsageError, and NumbersError where a loss becomes NaN or infinite."""
        from gridc.training.fit import check_options, fit

        check_options(options)
        return fit(self, (inputs, targets, lengths), **options)

    def training_step(self, optimizer: str | Optimizer = "adam", clip: float | None = None, **options: Any) -> TrainingStep:
        """Make a function ``step(inputs, targets, lengths=None) -> loss`` that updates every parameter once per call.

        ``optimizer`` is a row of ``gridc.training.optimizers`` and the options are its own (``learning_rate=1e-3``)."""
        from gridc.training.optimizers import Optimizer
        from gridc.training.optimizers import optimizer as made
        from gridc.training.step import TrainingStep

        if isinstance(optimizer, str):
            optimizer = made(optimizer, clip=clip, **options)
        if not isinstance(optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise UsageError(f"'optimizer' is {optimizer!r}, expected the name of one, or an Optimizer.")
        return TrainingStep(self, optimizer)

    def score(self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None) -> dict[str, float]:
        """Give for each output its accuracy (classes, binary) or R² (features, raw) over existing positions."""
        from gridc.data.fitting import for_spec, from_arrays
        from gridc.training.metrics import score

        return score(self, for_spec(from_arrays(self.spec, inputs, targets, lengths), self.spec))

    def stream(self, along: str | None = None) -> Stream:
        """Make a function that runs this grid piece by piece along a dimension (``gridc.stream``); UsageError where it cannot."""
        from gridc.stream import Stream

        return Stream(self, along)

    def save(self, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> str:
        """Write spec, parameters and a manifest to one file, whole or not at all; returns its sha256.  No pickle."""
        from gridc import model_file

        return model_file.save(path, self._content(record or {}))

    def _content(self, record: Mapping[str, Any]) -> Model:
        from gridc.model_file import Model

        return Model(dict(self.parameters), self.spec.source.text, self.spec.digest, record, self.vocabularies,
                     signature=self.signature.to_json())  # fmt: skip

    def __reduce__(self) -> Any:
        """Pickle and copy a grid as its model file says it, so that a copy shares nothing: its functions are built again."""
        from gridc import model_file

        content, _ = model_file.encoded(self._content({}))
        target = self.target
        return _restored, (content, self.spec.source.path, target.backend.name, target.lowering.name, target.recompute, self.seed,
                           self.random_state)  # fmt: skip

    def summary(self, batch: int = 1, **sizes: int) -> Summary:
        """Count parameters, floating-point operations and bytes on paper for these sizes, and the seconds spent compiling."""
        from gridc.insight.summary import summarise

        return summarise(self.spec, self.target, batch, sizes, dict(self.compile_seconds))

    def __str__(self) -> str:
        count = sum(array.size for array in self.parameters.values())
        return f"Grid '{self.spec.name}': {count:,} parameters, {self.target}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from gridc.pictures.drawing import notebook

        return notebook(self)

    def _targets(self, targets: Arrays, call: Call, weights: Arrays | None) -> list[Array]:
        checked = fitting.check_targets(self.spec, targets, call, self.dtype)
        return [*checked.values(), *fitting.check_weights(self.spec, weights or {}, call, self.dtype)]

    def ready(self) -> Grid:
        """Build every function now, before the first call needs it; where shapes are static only a call tells them."""
        for name in ("predict", "gradients") if not self.backend.static else ():
            self._function(name)
        return self

    # -- compiling ----------------------------------------------------------------------------------------------------

    def _lowered(self, training: bool, call: Call | None = None) -> Symbols:
        """Build the graph that this grid's own functions run: sizes and lengths are inputs of it, and for ``training`` the masks.

        For a backend whose shapes are static every input has those of the call."""
        inputs = {}
        if call is not None:
            for name, array in call.inputs.items():
                inputs[name] = pt.TensorType(str(array.dtype), array.shape)(name)
        static = None if call is None else Sizes(call.extent, call.lengths)
        shape = (None, None) if call is None else call.lengths.shape
        return lowering.lower(
            self.spec, inputs, dtype=self.dtype, lowering=self.lowering, weighted=True, scan=self.backend.scan,  # type: ignore[arg-type]
            extent=pt.vector("extent", dtype="int64"), lengths=pt.TensorType("int64", shape)("lengths"), static=static,
            training=training, recompute=self.recompute,
        )  # fmt: skip

    # -- on a device --------------------------------------------------------------------------------------------------

    @cached_property
    def _on_device(self) -> Functions | None:
        """The functions of a grid whose fused sweep runs on a device; None for any other."""
        if not self.target.lowering.device:
            return None
        from gridc.device.functions import Functions

        return Functions(self.spec, self.dtype, self.backend.mode, self._timed)

    @cached_property
    def _mirror(self) -> Mirror:
        """The parameters on the device."""
        from gridc.device.updates import Mirror

        return Mirror(lambda: {name: shared.get_value(borrow=True) for name, shared in self._shared.items()})

    def _come_home(self) -> None:
        if "_mirror" in self.__dict__:
            self._mirror.come_home()

    def _numbers_there(self) -> Mapping[str, Any]:
        """Give the parameters as a function on the device takes them; those of another grid, which a stream runs, may change."""
        return self.parameters if self.parameters.watch is None else self._mirror.arrays()

    def updates(self, optimizer: Optimizer) -> Update | None:
        """Make a function that does one step of a training with its update on the device; None where there is none."""
        if self._on_device is None:
            return None
        from gridc.device.updates import Updates

        run = Updates(self._on_device, self._mirror, optimizer)

        def update(inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, weights: Arrays | None = None) -> Step:
            call = fitting.check(self.spec, inputs, lengths, self.dtype)
            told = self._targets(targets, call, weights)
            with self._lock:
                self._check_sizes("gradients", call)
                return run(call, told)

        return update

    @cached_property
    def _symbols(self) -> Symbols:
        return self._lowered(training=False)

    @cached_property
    def _training_symbols(self) -> Symbols:
        """The graph whose gradients are taken: that of prediction, unless masks are drawn."""
        return self._lowered(training=True) if noise.noisy(self.spec) else self._symbols

    @cached_property
    def symbolic(self) -> Symbols:
        """The grid as PyTensor variables; ``parameters`` are shared variables that hold this grid's own numbers.

        Sizes follow from the inputs' shapes, and every example fills the grid."""
        scan = self.backend.scan
        # A sweep on a device is lowered for the sizes of a call, which nobody knows here.
        chosen = "plain" if self.target.lowering.device else self.lowering
        return lowering.lower(self.spec, parameters=self._shared, dtype=self.dtype, lowering=chosen, scan=scan,  # type: ignore[arg-type]
                              recompute=self.recompute)  # fmt: skip

    @cached_property
    def _functions(self) -> dict[Any, Callable[..., list[Array]]]:
        return {}

    def _function(self, name: str) -> Callable[..., list[Array]]:
        """Give a compiled function by name, made at its first use; it serves every size."""
        if name not in self._functions:
            with self._timed(name):
                self._functions[name] = self._compiled(name, self._training_symbols if name == "gradients" else self._symbols)
        return self._functions[name]

    def _static_function(self, name: str, call: Call, indices: list[Array]) -> Callable[..., list[Array]]:
        """Do the same for a backend whose shapes are static: one for every size of a call."""
        key = (name, *(array.shape for array in (*call.inputs.values(), call.lengths, *indices)))
        if key not in self._functions:
            with self._timed(f"{name} for {' × '.join(map(str, call.extent))}"):
                self._functions[key] = self._compiled(name, self._lowered(name == "gradients", call))
        return self._functions[key]

    def _compiled(self, name: str, s: Symbols) -> Callable[..., list[Array]]:
        sizes = [*s.inputs.values(), s.extent, s.lengths]
        told = [*s.targets.values(), *s.weights.values()]
        indices = s.indices if self.backend.static else ()
        inputs = {"predict": sizes, "loss": [*sizes, *told], "gradients": [*sizes, *told, *s.masks.values()]}[name]
        outputs = {"predict": [*s.outputs.values()], "loss": [s.loss], "gradients": [s.loss, *s.outputs.values()]}[name]
        if name == "gradients" and s.parameters:
            # A Scan keeps the gradients of its states in this type, whatever theirs is.
            with SETTINGS, pytensor.config.change_flags(floatX=self.dtype):
                outputs += pytensor.grad(s.loss, list(s.parameters.values()), disconnected_inputs="ignore")
        return pytensor.function(
            [*s.parameters.values(), *inputs, *indices], outputs, mode=self.backend.mode(), on_unused_input="ignore",
            name=f"{self.spec.name}.{name}", trust_input=True,
        )  # fmt: skip

    def _run(self, name: str, call: Call, told: list[Array]) -> list[Array]:
        given = [*self.parameters.values(), *call.inputs.values(), call.extent, call.lengths, *told]
        with self._lock:
            self._check_sizes(name, call)
            if self._on_device is not None:
                return self._on_device.run(name, self._numbers_there(), call, told)
            if self.backend.static:
                indices = self._index_arrays(call)
                function = self._static_function(name, call, indices)
                given += indices
            else:
                function = self._function(name)
            first = name not in self._called
            self._called.add(name)
            timed = self._timed(f"{name}, first call") if first else contextlib.nullcontext()
            with timed, self.target.lowering.threads(self.spec, call.extent, call.lengths), np.errstate(all="ignore"):
                return [np.asarray(result) for result in function(*given)]

    def _check_sizes(self, name: str, call: Call) -> None:
        """Raise ResourceError where a call would store more than the machine has left, DataError where a wrapped grid of these
        sizes, unlike the one that the spec was checked at, has steps that wait for each other."""
        like = (name, call.extent.tobytes(), call.lengths.tobytes())
        if like == self._last:  # the arrays of that call are there to be used again
            return
        from gridc import resources

        sizes = tuple(int(n) for n in call.extent[1:])
        own = extents(self.spec, sizes, call.lengths)
        if any(t.start == "wrap" for t in self.spec.transforms.values()):
            try:
                _ = graph.build(self.spec, sizes, own).levels
            except graph.Cycle as cycle:
                which = f"{' × '.join(map(str, sizes))} cells{' with these lengths' * (own is not None)}"
                raise DataError(f"steps of a grid of {which} wait for each other: {cycle} ('←' is 'waits for')") from None
        batch = call.batch if own is None else math.ceil(own.prod(axis=1).sum() / math.prod(sizes))
        training, before = name == "gradients", self._fitted.get(name, 0)
        count = functools.partial(
            self.target.lowering.call_bytes, self.spec, sizes, batch, np.dtype(self.dtype).itemsize, training)
        needed = count()
        if needed <= before:  # the arrays of that call are there to be used again
            return
        available = resources.available_memory()
        if available is not None and needed > available + before:
            if self.recompute:
                needed = count(True, blas.default_threads(), available + before)
            if needed > available + before:
                able = training and self.lowering == "fused" and not (self.recompute or self.backend.static)
                instead = "gridc.compile(…, recompute=True) or " * able
                what = f"{'a training step' if training else 'a prediction'} with {call.batch:,} examples"
                raise ResourceError(
                    f"{what} of {' × '.join(map(str, sizes))} cells needs {needed / 1e9:,.1f} GB of memory and "
                    f"{available / 1e9:,.1f} GB are available; {instead}a smaller batch may help"
                )
        self._fitted[name], self._last = needed, like

    def _index_arrays(self, call: Call) -> list[Array]:
        """Work out what the graph would from the sizes, for backends that cannot."""
        result: list[Array] = []
        for variable in self._symbols.indices:
            op = variable.owner.op
            made = recall(op.plan, self.spec, call.extent, call.lengths)
            result.append(made[variable.owner.outputs.index(variable)])
        return result

    @contextlib.contextmanager
    def _timed(self, what: str) -> Any:
        if self._progress:
            print(f"gridc: building {what} …", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        self.compile_seconds[what] = time.perf_counter() - start
        if self._progress:
            print(f"gridc: {what} ready in {self.compile_seconds[what]:.1f} s", file=sys.stderr, flush=True)


def _restored(
    content: bytes, path: str, backend: str, lowering: str, recompute: bool, seed: int, random_state: Mapping[str, Any] | None
) -> Grid:
    """Make the grid that was pickled so."""
    from gridc import model_file
    from gridc.scheduling.check import parse

    model = model_file.decoded(content, "The pickled grid")
    spec, row = parse(model.spec, path), backends.backend(backend)
    backends.prepare()
    dtype = str(next(iter(model.parameters.values())).dtype) if model.parameters else "float32"
    numbers = {name: model.parameters[name] for name in parameter_shapes(spec)}
    grid = Grid(spec, Target.choose(spec, row, lowering, dtype, recompute), numbers, seed)
    grid.vocabularies.update(model.vocabularies)
    grid.signature = Signature.from_json(model.signature)
    if random_state is not None:
        grid.random_state = random_state
    return grid
