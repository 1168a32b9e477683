"""The table of losses: what is minimised at each position of an output, written once for PyTensor's graph and NumPy's arrays.

A loss is a function of a ``Prediction``, elementwise in its positions.  The graph has it from the logits, without rounding
probabilities to 0; the figures that a training reports have it from probabilities.  A loss over real numbers may keep their last
axis, of which the mean is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from gridc.errors import UsageError, listed
from gridc.options import Option
from gridc.tables.rows import Rows

Kind = Literal["classes", "binary", "features", "raw"]
DEFAULTS: Mapping[Kind, str] = {
    "classes": "cross_entropy", "binary": "binary_cross_entropy", "features": "squared_error", "raw": "squared_error",
}  # fmt: skip
"""The loss of an output that names none, by its kind."""


@dataclass(frozen=True)
class Prediction:
    """What a loss may look at, ``[*positions]`` unless said otherwise: variables of PyTensor or arrays of NumPy.

    ``ops`` is ``pytensor.tensor`` or ``numpy``.  ``output`` is what the grid gives: a probability for each class,
    ``[*positions, classes]``, that of a binary output, or real numbers, ``[*positions, features]``; ``target`` what it should
    give: a class's number, 0 or 1, or real numbers.  ``surprisal`` is -ln of the probability of the target, where the output
    decides; ``mean_surprisal()`` its mean over all classes as targets.  ``error`` is ``output - target``, but for classes.
    """

    ops: Any
    output: Any
    target: Any
    surprisal: Any = None
    mean_surprisal: Callable[[], Any] | None = None
    error: Any = None


Function = Callable[[Prediction, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Loss:
    """One loss: the kinds of output that it is for, its options, and its function of a prediction and the options' values."""

    name: str
    kinds: tuple[Kind, ...]
    options: tuple[Option, ...]
    function: Function
    equation: str
    source: str

    def each(self, prediction: Prediction, given: Mapping[str, Any]) -> Any:
        """Give the loss of every position, ``[*positions]``; ``given`` are the options that differ from their defaults.

        Raises:
            UsageError: The function's result has other axes.
        """
        # Numbers in the type of what they meet, so that nothing else is computed in a wider one.
        number = np.dtype(prediction.output.dtype).type
        options = {o.name: given.get(o.name, o.default) for o in self.options}
        found = self.function(prediction, {name: number(one) if isinstance(one, float) else one for name, one in options.items()})
        axes, real = prediction.target.ndim, prediction.surprisal is None
        expected = (axes - 1, axes) if real else (axes,)
        if getattr(found, "ndim", None) not in expected:
            what = f"{found.ndim} axes" if hasattr(found, "ndim") else repr(found)
            raise UsageError(f"loss '{self.name}': its function gave {what}; expected {listed(expected)} axes, a number for each "
                             "position")  # fmt: skip
        return prediction.ops.mean(found, axis=-1) if real and found.ndim == axes else found


def _cross_entropy(p: Prediction, o: Mapping[str, Any]) -> Any:
    share = o["label_smoothing"]
    if not share or p.mean_surprisal is None:
        return p.surprisal
    return (1 - share) * p.surprisal + share * p.mean_surprisal()


def _focal(p: Prediction, o: Mapping[str, Any]) -> Any:
    # The smallest that counts in place of 0, at which a power below 1 has no slope.
    missed = p.ops.maximum(-p.ops.expm1(-p.surprisal), np.asarray(1e-30, p.surprisal.dtype))
    return missed ** o["gamma"] * p.surprisal


def _huber(p: Prediction, o: Mapping[str, Any]) -> Any:
    size, delta = abs(p.error), o["delta"]
    return p.ops.where(size <= delta, size * size / 2, delta * (size - delta / 2))


LOSSES: Rows[Loss] = Rows("loss", "gridc.losses", Loss, (
    Loss("cross_entropy", ("classes",),
         (Option("label_smoothing", "float", 0.0, "share of the target that is spread evenly over all classes", low=0, high=1),),
         _cross_entropy, "-ln p_y; smoothed (1-s)·(-ln p_y) + s·mean_k(-ln p_k)",
         "smoothing: Szegedy et al. 2016, section 7"),
    Loss("focal", ("classes", "binary"),
         (Option("gamma", "float", 2.0, "how little counts what is right already; 0 is the cross-entropy", low=0),),
         _focal, "-(1 - p_y)^gamma·ln p_y", "Lin et al. 2017 (their alpha is class_weights)"),
    Loss("binary_cross_entropy", ("binary",), (), lambda p, _: p.surprisal, "-ln p_y", "Bishop 2006, equation 4.90"),
    Loss("squared_error", ("binary", "features", "raw"), (), lambda p, _: p.error**2, "(a - y)²", "Gauss 1809"),
    Loss("huber", ("features", "raw"),
         (Option("delta", "float", 1.0, "from which error on it grows along a straight line", low=1e-30),),
         _huber, "e²/2 where |e| ≤ delta, else delta·(|e| - delta/2), e = a - y", "Huber 1964"),
    Loss("absolute_error", ("features", "raw"), (), lambda p, _: abs(p.error), "|a - y|", "Laplace 1774"),
))  # fmt: skip


def fitting(kind: Kind) -> list[str]:
    """Name the losses that an output of a kind may have, its default first."""
    named = [name for name in LOSSES if kind in LOSSES[name].kinds]
    return sorted(named, key=lambda name: name != DEFAULTS[kind])


def register_loss(
    name: str, function: Function, *, kinds: Sequence[Kind] = ("features", "raw"), options: Sequence[Option] = (),
    equation: str = "", source: str = "",
) -> None:  # fmt: skip
    """Make a loss known to every page that is read from now on in this process, as ``loss: NAME`` or with options.

    Installed packages bring theirs as entry points ``gridc.losses``, each a ``Loss``.  A model file has the name alone, so
    whoever loads it registers the loss before.

    Args:
        name: The word for it.
        function: Takes a ``Prediction`` and the options' values by name, and gives the loss of every position, ``[*positions]``
            or, over real numbers, ``[*positions, features]``; in functions that PyTensor and NumPy both have (``p.ops``).
        kinds: The kinds of output that it is for: ``classes``, ``binary``, ``features`` or ``raw``.
        options: What it can be told, and the defaults.
        equation: What it computes, for people.
        source: Where it is from.

    Raises:
        UsageError: It is the name of a loss that comes with gridc, or an argument is something else.
    """
    odd = [kind for kind in kinds if kind not in get_args(Kind)]
    if odd or not kinds or isinstance(kinds, str):
        raise UsageError(f"loss '{name}': 'kinds' is {kinds!r}; expected some of {listed(get_args(Kind), 'and')}")
    if not callable(function):
        raise UsageError(f"loss '{name}': 'function' is {function!r}; expected a function of a Prediction and its options")
    LOSSES.register(Loss(name, tuple(kinds), tuple(options), function, equation, source))
