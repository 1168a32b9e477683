"""The table of optimisers: update rules over vectors, in plain NumPy, in place, without temporaries.

Names, options, defaults and results are those of optax (0.2), step by step; where PyTorch agrees the row says so.
Two things are ours: a default ``learning_rate``, and ``weight_decay`` on every row: decoupled for ``adamw``, added to
the gradient for the others (``optax.chain(optax.add_decayed_weights(w), rule)``, PyTorch's ``weight_decay``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridc.errors import UsageError
from gridc.options import Option
from gridc.tables.rows import Rows

Array = NDArray[Any]


@dataclass(slots=True)
class Block:
    """What a rule works on: equally long vectors of one dtype, and the numbers of this step.

    ``g`` the gradient, ``slots`` the state in the rule's order, ``u`` where the rule leaves what is to be subtracted
    from the parameters, ``s`` scratch; ``rate`` the learning rate, ``count`` the number of this step, from 1.
    """

    g: Array
    slots: Sequence[Array]
    u: Array
    s: Array
    rate: float
    count: int


@dataclass(frozen=True)
class Rule:
    """One optimiser: its options, the state that it keeps for each parameter, and its update of one block."""

    name: str
    options: tuple[Option, ...]
    slots: Callable[[Mapping[str, Any]], Mapping[str, float]]
    """From the options: the name of each state array and the value that it starts with."""
    update: Callable[[Block, Mapping[str, Any]], None]
    equation: str
    source: str
    decoupled: bool = False
    """Whether ``weight_decay`` is subtracted from the parameters directly instead of joining the gradient."""


def _rate(default: float) -> Option:
    return Option("learning_rate", "float", default, "how far a step goes", low=0)


def _decay(default: float, text: str) -> Option:
    return Option("weight_decay", "float", default, text, low=0)


_L2 = _decay(0.0, "added to the gradient: weight_decay × parameter")
_MOMENTUM = Option("momentum", "float", None, "share of the last update that is kept", low=0, high=1, optional=True)
_NESTEROV = Option("nesterov", "bool", False, "whether the momentum looks ahead")
_EPS_ROOT = Option("eps_root", "float", 0.0, "added inside the square root", low=0)


def _eps(default: float, text: str) -> Option:
    return Option("eps", "float", default, text, low=0)


def _trace(b: Block, trace: Array, momentum: float, nesterov: bool) -> None:
    """``optax.trace``: t ← u + momentum·t, then u ← t, or u + momentum·t where it looks ahead."""
    trace *= momentum
    trace += b.u
    if nesterov:
        np.multiply(trace, momentum, out=b.s)
        b.u += b.s
    else:
        np.copyto(b.u, trace)


def _average(b: Block, slot: Array, keep: float, square: bool) -> None:
    """Set slot ← keep·slot + (1 - keep)·g, or g²."""
    np.multiply(b.g, 1.0 - keep, out=b.s)
    if square:
        b.s *= b.g
    slot *= keep
    slot += b.s


def _sgd(b: Block, o: Mapping[str, Any]) -> None:
    if o["momentum"] is None:
        np.multiply(b.g, b.rate, out=b.u)
        return
    np.copyto(b.u, b.g)
    _trace(b, b.slots[0], o["momentum"], o["nesterov"])
    b.u *= b.rate


def _adagrad(b: Block, o: Mapping[str, Any]) -> None:
    (total,) = b.slots
    np.multiply(b.g, b.g, out=b.u)
    total += b.u
    # Where the sum is 0 so is the gradient: the smallest normal number in place of an eps of 0 makes that 0, not NaN.
    np.add(total, o["eps"] or float(np.finfo(total.dtype).tiny), out=b.u)
    np.sqrt(b.u, out=b.u)
    np.divide(b.g, b.u, out=b.u)
    b.u *= b.rate


def _rmsprop(b: Block, o: Mapping[str, Any]) -> None:
    nu = b.slots[0]
    _average(b, nu, o["decay"], square=True)
    if o["centered"]:
        mean = b.slots[1]
        _average(b, mean, o["decay"], square=False)
        np.multiply(mean, mean, out=b.s)
        np.subtract(nu, b.s, out=b.s)
    else:
        np.copyto(b.s, nu)
    if o["eps_in_sqrt"]:
        b.s += o["eps"]
        np.sqrt(b.s, out=b.s)
    else:
        np.sqrt(b.s, out=b.s)
        b.s += o["eps"]
    np.divide(b.g, b.s, out=b.u)
    b.u *= b.rate
    if o["momentum"] is not None:
        _trace(b, b.slots[-1], o["momentum"], o["nesterov"])


def _adam(b: Block, o: Mapping[str, Any]) -> None:
    mean, nu = b.slots
    _average(b, mean, o["b1"], square=False)
    _average(b, nu, o["b2"], square=True)
    np.multiply(nu, 1.0 / (1.0 - o["b2"] ** b.count), out=b.u)
    if o["eps_root"]:
        b.u += o["eps_root"]
    np.sqrt(b.u, out=b.u)
    b.u += o["eps"]
    np.divide(mean, b.u, out=b.u)
    b.u *= b.rate / (1.0 - o["b1"] ** b.count)


_ADAM = (
    _rate(1e-3),
    Option("b1", "float", 0.9, "share of the mean gradient that is kept", low=0, high=1),
    Option("b2", "float", 0.999, "share of the mean squared gradient that is kept", low=0, high=1),
    _eps(1e-8, "added to the root of the mean square"),
    _EPS_ROOT,
)


def _moments(options: Mapping[str, Any]) -> Mapping[str, float]:
    return {"mu": 0.0, "nu": 0.0}


def _rmsprop_slots(options: Mapping[str, Any]) -> Mapping[str, float]:
    slots = {"nu": float(options["initial_scale"])}
    if options["centered"]:
        slots["mu"] = 0.0
    if options["momentum"] is not None:
        slots["trace"] = 0.0
    return slots


OPTIMIZERS: Rows[Rule] = Rows("optimizer", "gridc.optimizers", Rule, (
    Rule("sgd", (_rate(1e-2), _MOMENTUM, _NESTEROV, _L2),
         lambda o: {} if o["momentum"] is None else {"trace": 0.0}, _sgd,
         "p ← p - rate·t, t ← g + momentum·t", "optax.sgd, torch.optim.SGD; Polyak 1964, Sutskever et al. 2013"),
    Rule("adagrad",
         (_rate(1e-2), Option("initial_accumulator_value", "float", 0.1, "what the sum of squares starts at", low=0),
          _eps(1e-7, "added inside the square root"), _L2),
         lambda o: {"sum_of_squares": float(o["initial_accumulator_value"])}, _adagrad,
         "p ← p - rate·g / √(Σg² + eps)", "optax.adagrad (PyTorch starts at 0, eps outside); Duchi et al. 2011"),
    Rule("rmsprop",
         (_rate(1e-3), Option("decay", "float", 0.9, "share of the mean squared gradient that is kept", low=0, high=1),
          _eps(1e-8, "added to the mean square"),
          Option("initial_scale", "float", 0.0, "what the mean square starts at", low=0),
          Option("eps_in_sqrt", "bool", True, "whether eps is added inside the square root (PyTorch: outside)"),
          Option("centered", "bool", False, "whether the mean gradient's square is subtracted"),
          _MOMENTUM, _NESTEROV, _L2),
         _rmsprop_slots, _rmsprop,
         "p ← p - rate·g / √(v + eps), v ← decay·v + (1-decay)·g²", "optax.rmsprop; Hinton 2012, Graves 2013"),
    Rule("adam", (*_ADAM, _L2), _moments, _adam,
         "p ← p - rate·m̂ / (√v̂ + eps)", "optax.adam, torch.optim.Adam; Kingma and Ba 2015"),
    Rule("adamw", (*_ADAM, _decay(1e-4, "subtracted from the parameters: rate × weight_decay × parameter")),
         _moments, _adam, "p ← p - rate·(m̂ / (√v̂ + eps) + decay·p)",
         "optax.adamw, torch.optim.AdamW (decay 0.01); Loshchilov and Hutter 2019", decoupled=True),
))  # fmt: skip


def register_optimizer(
    name: str, update: Callable[[Block, Mapping[str, Any]], None], *,
    slots: Mapping[str, float] | Callable[[Mapping[str, Any]], Mapping[str, float]] | None = None,
    options: Sequence[Option] = (), equation: str = "", source: str = "", decoupled: bool = False,
) -> None:  # fmt: skip
    """Make an optimiser known to every page that is read from now on in this process: ``optimizer: NAME``, and to ``fit``.

    Installed packages bring theirs as entry points ``gridc.optimizers``, each a ``Rule``.

    Args:
        name: The word for it.
        update: Takes a ``Block`` and the options' values by name, and leaves in ``block.u`` what is subtracted from the
            parameters.
        slots: The state that it keeps for each parameter: names and what they start at, or a function of the options.
        options: What it can be told, besides ``learning_rate`` (0.001) and ``weight_decay`` (0.0), which it has in any case.
        equation: What it computes, for people.
        source: Where it is from.
        decoupled: Whether ``weight_decay`` is subtracted from the parameters directly instead of joining the gradient.

    Raises:
        UsageError: It is the name of an optimiser that comes with gridc, or ``update`` is no function.
    """
    if not callable(update):
        raise UsageError(f"optimizer '{name}': 'update' is {update!r}; expected a function of a Block and its options")
    told = {option.name for option in options}
    common = tuple(option for option in (_rate(1e-3), _L2) if option.name not in told)

    def kept(values: Mapping[str, Any]) -> Mapping[str, float]:
        return slots(values) if callable(slots) else slots or {}

    OPTIMIZERS.register(Rule(name, (*common, *options), kept, update, equation, source, decoupled))
