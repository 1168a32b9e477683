"""A grid as a ``torch.nn.Module``: parameters by their names in the language, gradients by gridc's own sweep.

Forward and backward are gridc's compiled functions; between them and PyTorch numbers change hands as views of one memory.
"""

# PyTorch's types are partly unknown, and it is no dependency.
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gridc.compiler import compile
from gridc.data import fitting
from gridc.data.fitting import Call
from gridc.errors import UsageError, listed
from gridc.grid import Grid
from gridc.language import noise
from gridc.language.shapes import parameter_shapes
from gridc.language.spec import GridSpec
from gridc.parameters import initial
from gridc.scheduling.check import asked, read
from gridc.symbolic import backends
from gridc.symbolic.indices import recall
from gridc.symbolic.lowerings import DTYPES, Target
from gridc.symbolic.pullback import Pullback
from gridc.symbolic.read_out import every_output_mask

OUTPUTS = ("logits", "probabilities")


class GridModule(nn.Module):
    """A grid of PyTorch's own: ``module(x=…, lengths=None)`` gives a dict of tensors by output.

    ``spec`` is a GridSpec, a path, a page of YAML, or a Grid, whose numbers are copied.  ``outputs`` are ``logits``, which
    PyTorch's losses take, or ``probabilities`` (softmax of classes, sigmoid of binary outputs); other outputs are what they are.
    ``dtype`` is a torch dtype, PyTorch's default where none is given; ``seed`` draws the parameters, and comes from
    ``torch.manual_seed`` where none is given; ``lowering`` and ``recompute`` are those of ``gridc.compile``.

    Parameters bear their names in the language (``time.W``), in ``named_parameters`` and in ``state_dict``.  In training mode
    dropout and zoneout draw from PyTorch's generator.  It runs on a CPU, in float32 or float64, and has first derivatives.
    Raises SpecError and UsageError."""

    def __init__(
        self,
        spec: GridSpec | Grid | str | os.PathLike[str],
        outputs: Literal["logits", "probabilities"] = "logits",
        *,
        dtype: torch.dtype | None = None,
        seed: int | None = None,
        lowering: Literal["auto", "plain", "fused"] = "auto",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if outputs not in OUTPUTS:
            raise UsageError(f"found the outputs {outputs!r}; expected {listed(OUTPUTS)}")
        grid = spec if isinstance(spec, Grid) else None
        self.spec: GridSpec = spec.spec if isinstance(spec, Grid) else spec if isinstance(spec, GridSpec) else read(spec)
        self.spec = asked(self.spec, None, recompute)
        if "lengths" in self.spec.inputs:
            raise UsageError("a module takes 'lengths' beside its inputs, so no input can bear that name; give it another")
        self.outputs = outputs
        self.vocabularies = {} if grid is None else dict(grid.vocabularies)
        chosen = dtype or (torch.get_default_dtype() if grid is None else getattr(torch, grid.dtype))
        kinds = {o.kind for o in self.spec.outputs.values()}
        self._as_found = "binary" not in kinds and (outputs == "logits" or "classes" not in kinds)
        self._functions = Functions(self.spec, lowering)
        kind = self._functions.at(chosen, False).target.dtype  # refuses what no grid computes in, and what no lowering can run
        if grid is None:
            seed = int(torch.randint(2**62, ())) if seed is None else seed
        numbers = initial(self.spec, seed or 0, kind) if grid is None else grid.parameters
        self._numbers = Numbers()
        for name, array in numbers.items():
            self._register(name, torch.from_numpy(np.array(array, kind)))

    def _register(self, name: str, tensor: Tensor) -> None:
        """Put a parameter where its name leads: ``time.W`` is ``W`` of a module ``time``."""
        *owners, leaf = name.split(".")
        module: nn.Module = self
        for owner in owners:
            # Not by add_module, which refuses what is an attribute of every module: a transform may be called 'forward'.
            module = module._modules.setdefault(owner, nn.Module())  # type: ignore[assignment]
        module.register_parameter(leaf, nn.Parameter(tensor))
        self._numbers.places.append((module, leaf))

    @torch.compiler.disable
    def forward(self, *unnamed: Tensor, lengths: Any = None, **inputs: Tensor) -> dict[str, Tensor]:
        """Compute every output: ``[batch, *axes, …]``, 0 past an example's end.

        Inputs go by their names in the spec, ``[batch, *over, features]`` or ids ``[batch, *over]``; a single one needs no name.
        ``lengths`` maps a symbol to one length for each example; where the spec has one symbol they need no mapping.
        Raises DataError where something does not fit, UsageError where it is on another device."""
        inputs = self._named(unnamed, inputs)
        numbers, views, kind = self._numbers.seen()
        dtype = kind or torch.get_default_dtype()
        functions = self._functions.at(dtype, self.training)
        for name, x in inputs.items():
            _check_place(f"input '{name}'", x)
            if x.dtype != dtype and name in functions.real:
                inputs[name] = x.to(dtype)
        arrays = {name: _view(x) for name, x in inputs.items()}
        call = fitting.check(self.spec, arrays, self._lengths(lengths), functions.target.dtype)
        masks = self._masks(call, functions.target.dtype) if functions.training else []
        tensors = [*numbers, *[inputs[name] for name in functions.real]]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            found: Sequence[Tensor] = _Sweep.apply(functions, call, masks, views, *tensors)  # type: ignore[assignment]
        else:
            found = [torch.from_numpy(array) for array in functions.logits(views, call, masks)]
        return self._read_out(found, call, lengths is not None)

    @property
    def grid(self) -> Grid:
        """A gridc.Grid with copies of the present parameters: ``module.grid.save("model.grid")``."""
        numbers = {name: p.detach().cpu().numpy() for name, p in self._parameters_by_name().items()}
        dtype: Any = next(iter(numbers.values())).dtype.name if numbers else "float32"
        functions = self._functions
        made = compile(self.spec, lowering=functions.lowering, dtype=dtype, eager=False)  # type: ignore[arg-type]
        for name, array in numbers.items():
            made.parameters[name] = array
        made.vocabularies.update(self.vocabularies)
        return made

    def extra_repr(self) -> str:
        """Name the spec, for ``print(module)``."""
        return f"{self.spec.name}, outputs={self.outputs}"

    def _parameters_by_name(self) -> dict[str, Tensor]:
        return dict(zip(parameter_shapes(self.spec), self._numbers.tensors(), strict=True))

    def _named(self, unnamed: Sequence[Tensor], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if unnamed and (len(unnamed) > 1 or len(self.spec.inputs) > 1):
            raise UsageError(f"'{self.spec.name}' has the inputs {listed(self.spec.inputs, 'and')}; give them by name")
        given = {**dict(zip(self.spec.inputs, unnamed, strict=False)), **inputs} if unnamed else inputs
        return {name: x if isinstance(x, Tensor) else torch.as_tensor(x) for name, x in given.items()}

    def _lengths(self, lengths: Any) -> dict[str, Any] | None:
        if lengths is None:
            return None
        if not isinstance(lengths, Mapping):
            if len(self.spec.symbols) != 1:
                raise UsageError(f"'{self.spec.name}' has the symbols {listed(self.spec.symbols, 'and') or 'none'}; give lengths "
                                 "as a mapping of a symbol to one for each example")  # fmt: skip
            lengths = {self.spec.symbols[0]: lengths}
        return {symbol: _view(n) if isinstance(n, Tensor) else n for symbol, n in lengths.items()}

    def _masks(self, call: Call, dtype: str) -> list[Any]:
        """Draw what dropout and zoneout hide in this call, after PyTorch's generator."""
        generator = np.random.default_rng(int(torch.randint(2**62, ())))
        batch, *sizes = call.extent.tolist()
        return [*noise.draw(self.spec, batch, sizes, generator, dtype).values()]

    def _read_out(self, found: Sequence[Tensor], call: Call, ended: bool) -> dict[str, Tensor]:
        if self._as_found and not ended:
            return dict(zip(self.spec.outputs, found, strict=True))
        result: dict[str, Tensor] = {}
        inside = recall(every_output_mask, self.spec, call.extent, call.lengths) if ended else ()
        for n, (tensor, (name, o)) in enumerate(zip(found, self.spec.outputs.items(), strict=True)):
            if o.kind == "binary":
                tensor = tensor[..., 0]
            if self.outputs == "probabilities" and o.kind in ("classes", "binary"):
                tensor = tensor.softmax(-1) if o.kind == "classes" else tensor.sigmoid()
            if ended and not inside[n].all():
                mask = torch.from_numpy(inside[n])
                tensor = torch.where(mask if mask.ndim == tensor.ndim else mask[..., None], tensor, tensor.new_zeros(()))
            result[name] = tensor
        return result


class Numbers:
    """The parameters of a module: where they stand, and views of them, kept while they lie where they lay; a copy, and what a
    pickle holds, looks for itself."""

    def __init__(self) -> None:
        self.places: list[tuple[nn.Module, str]] = []
        self._kept: tuple[list[Any], list[np.ndarray], torch.dtype | None] | None = None

    def tensors(self) -> list[Tensor]:
        """Give them in the spec's order; whoever parametrises one puts another in its place."""
        return [found if (found := module._parameters.get(leaf)) is not None else getattr(module, leaf)
                for module, leaf in self.places]  # fmt: skip

    def seen(self) -> tuple[list[Tensor], list[np.ndarray], torch.dtype | None]:
        """Give them, the same memory as arrays, and their dtype, None where there are none; UsageError where they differ in it,
        or lie on another device."""
        tensors = self.tensors()
        # An address, a shape and its being contiguous say which memory it is: while the view is kept nothing else lies there.
        where = [(t.data_ptr(), t.shape) if t.is_contiguous() else None for t in tensors]
        if self._kept is None or self._kept[0] != where or None in where:
            for tensor in tensors:
                _check_place("the parameters", tensor)
            if len(kinds := {tensor.dtype for tensor in tensors}) > 1:
                raise UsageError("the parameters are of several types; expected one: module.float() or module.double()")
            self._kept = where, [_view(tensor) for tensor in tensors], next(iter(kinds), None)
        return tensors, *self._kept[1:]

    def __getstate__(self) -> Any:
        return {"places": self.places, "_kept": None}


class Functions:
    """The compiled functions of a module and of all its copies, by dtype and whether they train; a pickle holds what they are
    made from."""

    def __init__(self, spec: GridSpec, lowering: str):
        self.spec, self.lowering = spec, lowering
        self._noisy = noise.noisy(spec)
        self._made: dict[tuple[torch.dtype, bool], Pullback] = {}

    def at(self, dtype: torch.dtype, training: bool) -> Pullback:
        """Give those for parameters of a dtype; UsageError where no grid computes in it."""
        key = (dtype, training and self._noisy)
        if key not in self._made:
            name = str(dtype).removeprefix("torch.")
            if name not in DTYPES:
                raise UsageError(f"the parameters are {dtype}; a grid computes in {listed(DTYPES)}: module.float() or .double()")
            backends.prepare()
            target = Target.choose(self.spec, backends.backend("auto"), self.lowering, name)
            self._made[key] = Pullback(self.spec, target, key[1])
        return self._made[key]

    def __deepcopy__(self, memo: Any) -> Functions:
        return self

    def __reduce__(self) -> Any:
        return Functions, (self.spec, self.lowering)


class _Sweep(torch.autograd.Function):
    """The sweep on PyTorch's tape: parameters and real inputs in, logits out."""

    @staticmethod
    def forward(ctx: Any, functions: Pullback, call: Call, masks: list[Any], numbers: list[Any], *tensors: Tensor) -> Any:
        found, ctx.kept = functions.forward(numbers, call, masks)
        ctx.functions, ctx.call, ctx.masks, ctx.numbers = functions, call, masks, numbers
        ctx.save_for_backward(*tensors)
        return tuple(map(torch.from_numpy, found))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        tensors = ctx.saved_tensors  # raises where one was changed since, or where the way back is closed
        functions, call, masks, numbers = ctx.functions, ctx.call, ctx.masks, ctx.numbers
        needed = ctx.needs_input_grad[4:]
        asked = tuple(name for name, own in zip(functions.real, needed[len(numbers) :], strict=True) if own)
        # A second way back (retain_graph) finds the first one's tape used up: what it held is made again.
        kept = functions.forward(numbers, call, masks)[1] if ctx.kept is None else ctx.kept
        ctx.kept = None
        found = iter(functions.backward(numbers, call, masks, kept, [_view(slope) for slope in slopes], asked))
        gradients: list[Any] = [torch.from_numpy(next(found)) for _ in numbers]
        gradients += [torch.from_numpy(next(found)) if own else None for own in needed[len(numbers) :]]
        if torch.is_grad_enabled():  # somebody means to differentiate them in turn
            gradients = [g if g is None else _Last.apply(g, *tensors, *slopes) for g in gradients]
        return (None, None, None, None, *gradients)


class _Last(torch.autograd.Function):
    """A gradient that has none itself: rather an error than a term that is missing from somebody's loss."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *before: Tensor) -> Any:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        raise UsageError("a GridModule has first derivatives alone, and this is the derivative of one, as a penalty on gradients "
                         "takes it")  # fmt: skip


def _view(tensor: Tensor) -> np.ndarray:
    """Give the same memory as a NumPy array, in C order."""
    array = tensor.detach().numpy()
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _check_place(what: str, tensor: Tensor) -> None:
    if not tensor.is_cpu:
        raise UsageError(f"{what} lies on '{tensor.device}'; a grid runs on the CPU: keep the module there, give it x.cpu()")
