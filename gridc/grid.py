"""A compiled grid: its parameters, and the functions that use them."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gridc.arrays.conversion import Array
from gridc.arrays.dataset import MASKS
from gridc.arrays.signature import Signature
from gridc.data import fitting
from gridc.data.fitting import Call
from gridc.language import linear_start
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import Directives, GridSpec
from gridc.locks import Lock
from gridc.parameters import Parameters
from gridc.scheduling import counts
from gridc.symbolic import backends, lowering
from gridc.symbolic.backends import Backend
from gridc.symbolic.functions import Functions
from gridc.symbolic.lowering import Symbols
from gridc.symbolic.lowerings import Target
from gridc.symbolic.masks import Masks
from gridc.symbolic.room import Room
from gridc.symbolic.wiring import Way

if TYPE_CHECKING:
    from gridc.device.placement import Placement
    from gridc.insight.summary import Summary
    from gridc.model_file import Model
    from gridc.onnx.export import Exported
    from gridc.stream import Stream
    from gridc.training.history import History
    from gridc.training.optimizers import Optimizer
    from gridc.training.step import TrainingStep, Update

# PyTensor says of most of its functions neither what they take nor what they give.
pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")

Arrays = Mapping[str, Any]
CHUNK = 1 << 28
"""Numbers that a prediction's vectors may take up at once; larger batches are predicted in parts."""


class Grid:
    """A spec compiled to functions, and their parameters.  Made by ``gridc.compile``; several threads may call its methods.

    Inputs are mappings of names to arrays ``[batch, *over, features]``, or of integer ids ``[batch, *over]``, where ``over`` are
    the dimensions that the input's page names; targets are ``[batch, *axes]`` of ids or of 0 and 1, or ``[batch, *axes,
    features]``, where ``axes`` are the dimensions that the output selects all of.  ``lengths`` maps a symbol to one length for
    each example; what lies behind it is neither read nor counted, nor is a target that an output is told to ``ignore``.

    Attributes:
        spec: The ``GridSpec`` that it was compiled from.
        parameters: The weights, a mapping of names to arrays (``gridc.parameters.Parameters``).
        seed: What the parameters were drawn by.
        vocabularies: What the ids of an input or an output stand for, where that is known: name → words in the order of ids.
        signature: Which columns of a file it was trained on, and how they were read, where that is known.
        compile_seconds: What was built, and the seconds that it took.
    """

    def __init__(self, spec: GridSpec, target: Target, numbers: Mapping[str, Array], seed: int, progress: bool = False):
        self.spec, self.target, self.seed = spec, target, seed
        self.compile_seconds: dict[str, float] = {}
        self.vocabularies: dict[str, tuple[str, ...]] = {}
        self.signature = Signature()
        self._masks = Masks(spec, target, np.random.default_rng([seed, MASKS]))
        self._progress, self._lock, self._room = progress, Lock(), Room(spec, target)
        self.functions = Functions(spec, target, self._timed)
        self._shared = {name: pytensor.shared(array, name, borrow=True, shape=array.shape) for name, array in numbers.items()}
        self.parameters = Parameters(self._shared, self._come_home if target.lowering.device else None)
        if target.devices > 1:
            _ = self._on_device  # so that it is said at once where there are fewer
        if target.lowering.prepare is not None:
            with self._timed("kernels"):
                target.lowering.prepare(spec, target.dtype, target.products)

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
    def products(self) -> str:
        """Of the operands of the sweep's products: ``dtype``, or ``bfloat16``."""
        return self.target.asked

    @property
    def devices(self) -> int:
        """How many of JAX's devices share a batch."""
        return self.target.devices

    @property
    def threads(self) -> int | None:
        """How many threads may share a call; None for as many as this process takes."""
        return self.target.threads

    @property
    def recompute(self) -> bool:
        """Whether training keeps little and runs segments twice."""
        return self.target.recompute

    # -- functions ----------------------------------------------------------------------------------------------------

    def predict(self, inputs: Arrays, lengths: Arrays | None = None) -> dict[str, Array]:
        """Compute every output.

        Args:
            inputs: By name, ``[batch, *over, features]`` or ids ``[batch, *over]``; or lists of sequences of different lengths.
            lengths: By symbol, one length for each example, ``[batch]``; without, every example fills the arrays.

        Returns:
            By name, ``[batch, *axes, classes]`` probabilities, ``[batch, *axes]`` the probability of a binary output,
            ``[batch, *axes, features]`` numbers, or the vectors of a raw output; 0 past an example's end.  A large batch is
            computed in parts.

        Raises:
            DataError: An array is missing, has another shape or type, or holds NaN, infinity or an id that there is not.
            ResourceError: It needs more memory than there is.
        """
        call = fitting.check(self.spec, inputs, lengths, self.dtype)
        each = counts.kept(self.spec, tuple(int(n) for n in call.extent[1:]), 1).tape
        size = max(1, min(call.batch, CHUNK // max(1, each)))
        parts = [self._run("predict", call.part(first, size), []) for first in range(0, call.batch, size)]
        joined = parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]
        return dict(zip(self.spec.outputs, joined, strict=True))

    def loss(self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, weights: Arrays | None = None) -> float:
        """Compute the sum of the outputs' losses, each a mean over the positions that exist and are not ignored.

        Losses are in nats where they are cross entropies, and squares of the data's unit where they are squared errors; nothing
        is dropped out.  ``weights`` are those of ``loss_and_gradients``.  Raises DataError where an array does not fit."""
        return float(self._run("loss", *self._checked(inputs, targets, lengths, weights))[0])

    def gradients(
        self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, weights: Arrays | None = None
    ) -> dict[str, Array]:
        """Compute the gradient of the loss for every parameter, in the parameter's shape.  Raises DataError.

        With dropout or zoneout it is that of the loss under masks drawn for this call."""
        return self.loss_and_gradients(inputs, targets, lengths, weights)[1]

    def loss_and_gradients(
        self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, weights: Arrays | None = None,
        share: tuple[int, int] | None = None,
    ) -> tuple[float, dict[str, Array], dict[str, Array]]:  # fmt: skip
        """Compute the loss, the gradients, and the outputs of the same sweep.

        Args:
            inputs: As for ``predict``.
            targets: By name, in the shapes of the outputs: ids of classes, 0 and 1, or numbers.
            lengths: As for ``predict``.
            weights: By output, what its loss counts: a number, one for each example ``[batch]``, or one for each position of its
                target ``[batch, *axes]``.  A loss is the mean of weight × loss over all positions that count, whatever they
                weigh.
            share: That these examples are those from the first number on, of a mini-batch of the second: masks are drawn as
                for all of it.

        Returns:
            The loss; the gradient for every parameter, in its shape and type; and the outputs as ``predict`` gives them.  With
            dropout or zoneout every call draws new masks, which all three are computed under (``random_state``).

        Raises:
            DataError: An array does not fit.
            ResourceError: It needs more memory than there is.
        """
        call, told = self._checked(inputs, targets, lengths, weights)
        with self._lock:
            loss, *rest = self._run("gradients", call, [*told, *self._masks.draw(call, share)])
        outputs = dict(zip(self.spec.outputs, rest, strict=False))
        return float(loss), dict(zip(self.parameters, rest[len(outputs) :], strict=True)), outputs

    @property
    def random_state(self) -> dict[str, Any] | None:
        """Where the generator of dropout's and zoneout's masks stands, a plain mapping that may be kept and set again, so that
        the same masks follow; None where the spec has neither.  It starts from the grid's seed."""
        return self._masks.state

    @random_state.setter
    def random_state(self, state: Mapping[str, Any]) -> None:
        self._masks.state = state

    # -- training and keeping -----------------------------------------------------------------------------------------

    def fit(self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, **options: Any) -> History:
        """Train on arrays, or on lists of sequences of different lengths.

        Args:
            inputs: As for ``predict``.
            targets: As for ``loss_and_gradients``.
            lengths: As for ``predict``.
            options: Those of ``gridc.training.fit.fit``: optimizer, batch, budget, stop, held_out, …

        Returns:
            A record for each evaluation, and why the training ended.

        Raises:
            UsageError: There is no such option, with the nearest or what other libraries call so; or it has another type.
            DataError: Arrays do not fit.
            NumbersError: A loss or gradient is NaN or infinite; the parameters are those of the step before.
        """
        from gridc.training.fit import check_options, fit

        check_options(options)
        return fit(self, (inputs, targets, lengths), **options)

    def training_step(self, optimizer: str | Optimizer = "adam", clip: float | None = None, **options: Any) -> TrainingStep:
        """Make a function ``step(inputs, targets, lengths=None, weights=None) -> loss`` that updates every parameter once a call.

        Args:
            optimizer: The name of one (``gridc.tables.update_rules.OPTIMIZERS``), or an ``Optimizer``.
            clip: The largest global norm of the gradients.
            options: The optimiser's own: ``learning_rate=1e-3``.

        Returns:
            The function.  It returns the loss before the update, and raises NumbersError, with nothing updated, where loss or
            gradients are not finite.

        Raises:
            UsageError: There is no such optimiser or option.
        """
        from gridc.training.step import training_step

        return training_step(self, optimizer, clip, options)

    def score(self, inputs: Arrays, targets: Arrays, lengths: Arrays | None = None) -> dict[str, float]:
        """Give each output's accuracy, from 0 to 1 (classes, binary), or R², at most 1 (features, raw), over the
        positions that exist and are not ignored.

        Raises DataError where an array does not fit."""
        from gridc.data.fitting import for_spec, from_arrays
        from gridc.training.metrics import score

        return score(self, for_spec(from_arrays(self.spec, inputs, targets, lengths), self.spec))

    def stream(self, along: str | None = None) -> Stream:
        """Make a function that runs this grid piece by piece along a dimension, and carries its state on.

        ``along`` names the dimension; the one whose size is a symbol, where there is one only.  Raises UsageError where a piece
        cannot be computed from what came before: where something travels backward there, or an output reads its first cell."""
        from gridc.stream import Stream

        return Stream(self, along)

    def save(self, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> str:
        """Write spec, parameters and a manifest to one file, whole or not at all; returns its sha256.  No pickle.

        ``record`` is kept beside them, as JSON.  Raises ResourceError where it cannot be written."""
        from gridc import model_file

        return model_file.save(path, self._content(record or {}))

    def _content(self, record: Mapping[str, Any]) -> Model:
        from gridc.model_file import Model

        return Model(dict(self.parameters), self.spec.source.page, self.spec.digest, record, self.vocabularies,
                     signature=self.signature.to_json(), products=self.target.products)  # fmt: skip

    def __reduce__(self) -> Any:
        """Pickle and copy a grid as its model file says it, so that a copy shares nothing: its functions are built again."""
        from gridc import model_file

        content, _ = model_file.encoded(self._content({}))
        target = self.target
        return _restored, (content, self.spec.source.path, target.backend.name, target.lowering.name, self.spec.schedule,
                           self.seed, self.random_state, target.devices, target.threads)  # fmt: skip

    def to_onnx(self, path: str | os.PathLike[str], *, lengths: bool = False, **sizes: int) -> Exported:
        """Write predictions as a model of standard ONNX operators (``gridc.onnx.export``); ``sizes`` fixes symbols, ``T=50``."""
        from gridc.onnx.export import export

        return export(self.spec, self.parameters, path, sizes, lengths, self.vocabularies)

    def summary(self, batch: int = 1, **sizes: int) -> Summary:
        """Count parameters, floating-point operations and bytes on paper, and the seconds spent compiling.

        ``batch`` examples; ``sizes`` is the size of each symbol (``T=50``), 1 without.  Raises UsageError for another name."""
        from gridc.insight.summary import summarise

        return summarise(self.spec, self.target, batch, sizes, dict(self.compile_seconds))

    def __str__(self) -> str:
        count = sum(array.size for array in self.parameters.values())
        return f"Grid '{self.spec.name}': {count:,} parameters, {self.target}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from gridc.pictures.drawing import notebook

        return notebook(self)

    @cached_property
    def without_softmax(self) -> Grid:
        """The grid that a linear start trains: its memory cells attend linearly, its parameters and random numbers are these
        themselves, and the seconds of building it are counted here.  Raises UsageError where there is no softmax."""
        spec = linear_start.without_softmax(self.spec)
        other = Grid(spec, self.target, {}, self.seed, self._progress)
        other._shared, other.parameters = self._shared, self.parameters
        other._masks = Masks(spec, self.target, self._masks.generator)
        other.compile_seconds = self.compile_seconds
        if self._on_device is not None and other._on_device is not None:
            other._on_device.parameters = self._on_device.parameters
        return other

    def ready(self) -> Grid:
        """Build every function now, before the first call needs it; where shapes are static only a call tells them."""
        self.functions.ready()
        return self

    # -- on a device --------------------------------------------------------------------------------------------------

    @cached_property
    def _on_device(self) -> Placement | None:
        """Where a grid is whose fused sweep runs on a device; None for any other."""
        if not self.target.lowering.device:
            return None
        from gridc.device.placement import Placement

        def look() -> dict[str, Array]:
            return {name: shared.get_value(borrow=True) for name, shared in self._shared.items()}

        return Placement(self.spec, self.target, look, self._timed)

    def _come_home(self) -> None:
        if (there := vars(self).get("_on_device")) is not None:
            there.parameters.come_home()

    def updates(self, optimizer: Optimizer) -> Update | None:
        """Make what does the steps of a training with their updates on the device; None where there is none."""
        if self._on_device is None:
            return None

        def check(
            inputs: Arrays, targets: Arrays, lengths: Arrays | None = None, weights: Arrays | None = None
        ) -> tuple[Call, list[Array]]:
            call, told = self._checked(inputs, targets, lengths, weights)
            with self._lock:
                self._room.check("gradients", call)
            return call, told

        return self._on_device.updates(optimizer, self._masks, self._lock, check)

    # -- running ------------------------------------------------------------------------------------------------------

    @cached_property
    def symbolic(self) -> Symbols:
        """The grid as PyTensor variables; ``parameters`` are shared variables that hold this grid's own numbers.

        Sizes follow from the inputs' shapes, and every example fills the grid."""
        # A sweep on a device is lowered for the sizes of a call, which nobody knows here.
        chosen, products = ("plain", "") if self.target.lowering.device else (self.lowering, self.target.products)
        way = Way(chosen, self.dtype, products, self.backend.scan)
        return lowering.lower(self.spec, parameters=self._shared, way=way)

    def _checked(
        self, inputs: Arrays, targets: Arrays, lengths: Arrays | None, weights: Arrays | None
    ) -> tuple[Call, list[Array]]:
        """Check what a loss is computed from, and give the call, and its targets and weights."""
        call = fitting.check(self.spec, inputs, lengths, self.dtype)
        checked = fitting.check_targets(self.spec, targets, call, self.dtype)
        return call, [*checked.values(), *fitting.check_weights(self.spec, weights or {}, call, self.dtype)]

    def _run(self, name: str, call: Call, told: list[Array]) -> list[Array]:
        with self._lock:
            self._room.check(name, call)
            where = self.functions if self._on_device is None else self._on_device
            return where.run(name, self.parameters, call, told)

    @contextlib.contextmanager
    def _timed(self, what: str) -> Any:
        if self._progress:
            print(f"gridc: building {what} …", file=sys.stderr, flush=True)
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.compile_seconds[what] = self.compile_seconds.get(what, 0.0) + seconds  # of a linear start's grid, too
        if self._progress:
            print(f"gridc: {what} ready in {seconds:.1f} s", file=sys.stderr, flush=True)


def _restored(
    content: bytes, path: str, backend: str, lowering: str, schedule: Directives, seed: int,
    random_state: Mapping[str, Any] | None, devices: int = 1, threads: int | None = None,
) -> Grid:  # fmt: skip
    """Make the grid that was pickled so."""
    from gridc import model_file
    from gridc.scheduling.check import parse

    model = model_file.decoded(content, "The pickled grid")
    spec, row = replace(parse(model.spec, path), schedule=schedule), backends.backend(backend)
    backends.prepare()
    numbers = {name: model.parameters[name] for name in parameter_shapes(spec)}
    grid = Grid(spec, Target.choose(spec, row, lowering, model.dtype, devices, threads), numbers, seed)
    grid.vocabularies.update(model.vocabularies)
    grid.signature = Signature.from_json(model.signature)
    if random_state is not None:
        grid.random_state = random_state
    return grid
