"""The loop over the wavefronts of the plain lowering, and the loop back, which is its gradient.

Left to itself PyTensor differentiates a Scan by one that computes every wavefront again, keeps all slots of all wavefronts, and
adds to the gradients of all weights in every step.  Here the loop forth gives besides new vectors what its steps saw and their
pre-activations.  The loop back starts from these, carries no more than the slopes of the slots, and gives those of the
pre-activations; what was seen is multiplied by them at once.  It is a Scan of ordinary ops as well, whose gradient is PyTensor's.
"""

# PyTensor says of most of its functions neither what they take nor what they give.
# pyright: basic

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from pytensor.gradient import DisconnectedType

from gridc.language.spec import GridSpec, Transform
from gridc.symbolic import slots, steps
from gridc.symbolic.loops import Differentiated, Named, scan
from gridc.symbolic.slots import Part, Vector
from gridc.symbolic.wiring import Variable, Way

pytensor: Any = importlib.import_module("pytensor")
pt: Any = importlib.import_module("pytensor.tensor")
LOOKED = ("slots", "entry", "joined", "ahead")
"""Parts that only the loop forth looks at: what it took of them it gives."""
ONCE = ("live", "members")
"""Parts that are no wavefront's."""


class Made(NamedTuple):
    """The name of what the loop gives of a transform, ``[wavefronts, …]``: its new ``vectors``; and of its steps what they saw,
    ``z``, their ``product``, the pre-activations, and the states of their ``own`` that they took, one a port."""

    owner: str
    what: str
    number: int = 0


class Constant(NamedTuple):
    """The name of one of a transform's weights, or of the facts that it attends to."""

    owner: str
    letter: str


class Slope(NamedTuple):
    """The name of the gradient of something that the loop gives."""

    of: Made


@dataclass(frozen=True, eq=False)
class Recurrence:
    """The wavefronts of a spec, of whose vectors some are ``tapped``."""

    spec: GridSpec
    way: Way
    parts: Mapping[Part, Variable]
    """Index arrays, and what each wavefront takes: masks, vectors that enter or join, products made ``ahead``."""
    weights: Mapping[str, Mapping[str, Variable]]
    """Those of each transform, by letter; of ``W`` the rows of what steps see, where the others were multiplied ahead."""
    facts: Mapping[str, Any]
    tapped: Sequence[Vector]

    def run(self) -> dict[Vector, Variable]:
        """Give what is tapped, ``[wavefronts, …, hidden]``."""
        given: dict[Any, Variable] = {**self.parts, **self._constants}
        learnt = [_learnt(key, variable) for key, variable in given.items()]
        wanted = [key for key, one in zip(given, learnt, strict=True) if one]

        def pullback(made: Sequence[Any], own: Sequence[Any], slopes: Sequence[Any]) -> list[Any]:
            named = dict(zip(self._gives, made, strict=True)) | dict(zip(given, own, strict=True))
            there = [(key, g) for key, g in zip(self._gives, slopes, strict=True) if not isinstance(g.type, DisconnectedType)]
            found = self._back(named, {Slope(key): g for key, g in there})
            return [found[key] if key in found else named[key].zeros_like() for key in wanted]

        made = self._forth()
        op = Differentiated(len(made), learnt, pullback)
        named: dict[Any, Variable] = dict(zip(made, op.make_node(*made.values(), *given.values()).outputs, strict=True))
        return {(name, memory): named[Made(name, "vectors", int(memory))] for name, memory in self.tapped}

    @cached_property
    def _transforms(self) -> list[Transform]:
        return list(slots.computed(self.spec))

    @cached_property
    def _vectors(self) -> list[Vector]:
        """What is carried from wavefront to wavefront."""
        return [(t.name, memory) for t in self._transforms for memory in (False, True)[: 1 + t.has_memory]]

    @cached_property
    def _names(self) -> dict[int, Constant]:
        """What each weight is called: transforms that share it bring it once."""
        found: dict[int, Constant] = {}
        for name, own in self.weights.items():
            for letter, variable in own.items():
                _ = found.setdefault(id(variable), Constant(name, letter))
        return found

    @cached_property
    def _constants(self) -> dict[Constant, Variable]:
        return {key: self.weights[key.owner][key.letter] for key in self._names.values()}

    def _own(self, name: str, known: Named) -> dict[str, Variable]:
        """Give a transform's weights, as they are ``known`` here."""
        return {letter: known[self._names[id(variable)]] for letter, variable in self.weights[name].items()}

    @cached_property
    def _gives(self) -> list[Made]:
        found = [Made(name, "vectors", int(memory)) for name, memory in self.tapped]
        for t in self._transforms:
            sees = [Made(t.name, "z")] * bool(self._seen(t))
            multiplies = "W" in self.weights[t.name] or Part(t.name, "ahead") in self.parts
            found += [*sees, *[Made(t.name, "product")] * multiplies, *self._states(t)]
        return found

    def _states(self, t: Transform) -> list[Made]:
        return [Made(t.name, "own", i) for i in range(len(slots.ports(self.spec, t)) - len(t.reads))]

    def _seen(self, t: Transform) -> list[Part]:
        """Name what the steps of a transform see: in the slots, and of the inputs that join what was not multiplied ahead."""
        joined = [Part(t.name, "joined", i) for i in range(len(self.spec.joined(t.name)))]
        return [Part(t.name, "slots", i) for i in range(len(t.reads))] + [part for part in joined if part in self.parts]

    def _live(self, given: Named) -> dict[Any, Variable]:
        """Give the slots of every vector, all zero."""
        width = {t.name: np.zeros((1, t.hidden), self.way.dtype) for t in self._transforms}
        return {vector: pt.cast(given[Part(vector[0], "live")], self.way.dtype)[:, None] + width[vector[0]]
                for vector in self._vectors}  # fmt: skip

    def _count(self, given: Named) -> Variable:
        return given[Part(self._transforms[0].name, "writes")].shape[0]

    # -- forth ------------------------------------------------------------------------------------------------------------

    def _forth(self) -> dict[Made, Variable]:
        def wavefront(given: Named, before: Named) -> tuple[Named, Named]:
            """Every transform reads the slots as they were, then all are written."""
            after, found = dict(before), dict[Any, Variable]()
            for t in self._transforms:
                name, weights = t.name, self._own(t.name, given)
                vectors = steps.taken(self.spec, t, before, given)
                own = vectors[len(t.reads) :]
                seen = vectors[: len(t.reads)] + [given[part] for part in self._seen(t)[len(t.reads) :]]
                z = None if not seen else seen[0] if len(seen) == 1 else pt.concatenate(seen, axis=-1)
                product = steps.product(t, z, weights, given)
                found |= {Made(name, "z"): z, Made(name, "product"): product, **dict(zip(self._states(t), own, strict=True))}
                for memory, vector in enumerate(steps.made(t, z, product, own, weights, given, self.facts.get(name, ()))):
                    key = (name, bool(memory))
                    after[key] = pt.set_subtensor(before[key][given[Part(name, "writes")]], vector)
                    found[Made(name, "vectors", memory)] = vector
            return after, found

        along = {part: variable for part, variable in self.parts.items() if part.what not in ONCE}
        return scan(wavefront, along, self._live(self.parts), self._constants, self._gives, self._count(along), self.way.scan)[1]

    # -- back -------------------------------------------------------------------------------------------------------------

    def _back(self, known: Named, slopes: Named) -> dict[Any, Variable]:
        """Give the gradients of what the loop took, from all that is ``known``, what it took and made, and the ``slopes`` of what
        it made."""
        constants = {key: known[key] for key in self._constants}
        along: dict[Any, Variable] = {part: known[part] for part in self.parts if part.what not in LOOKED + ONCE}
        along |= {_looks(vector): self._all_looks(who, known) for vector, who in slots.readers(self.spec).items()}
        along |= {key: known[key] for key in self._gives if key.what in ("product", "own")}
        along |= {Made(t.name, "z"): known[Made(t.name, "z")] for t in self._transforms
                  if t.mechanism.update is not None and self._seen(t)} | dict(slopes)  # fmt: skip
        added = {key: v.zeros_like() for key, v in constants.items() if key.letter not in ("W", "b")}
        products = [key for key in self._gives if key.what == "product"]
        gives: list[Any] = [*products, *(part for part in self.parts if part.what in ("entry", "joined"))]

        def wavefront(given: Named, before: Named) -> tuple[Named, Named]:
            """Take the slopes of what was written out of the slots, then add those of what it was made of where that was read."""
            after, found = dict(before), dict[Any, Variable]()
            new = {vector: self._arrived(vector, after, given) for vector in self._vectors}
            for t in self._transforms:
                for key, slope in self._through(t, new, given).items():
                    if key in after:
                        after[key] = after[key] + slope
                    else:
                        found[key] = slope
            for vector, who in slots.readers(self.spec).items():
                rows = [found[Part(name, "slots", i)] for name, i in who]
                rows = [v if v.ndim == 2 else v.reshape((-1, v.shape[2])) for v in rows]
                every = rows[0] if len(rows) == 1 else pt.concatenate(rows, axis=0)
                after[vector] = pt.inc_subtensor(after[vector][given[_looks(vector)]], every)
            return after, found

        last, found = scan(wavefront, {key: v[::-1] for key, v in along.items()}, self._live(known) | added, constants, gives,
                           self._count(along), self.way.scan)  # fmt: skip
        results: dict[Any, Variable] = {key: last[key][-1] for key in added}
        results |= {key: found[key][::-1] for key in gives if key not in products}
        for product in products:
            for key, more in self._factors(self.spec.transforms[product.owner], found[product], known).items():
                results[key] = results[key] + more if key in results else more
        return results

    def _all_looks(self, who: Sequence[tuple[str, int]], known: Named) -> Variable:
        """Give the slots that all who read a vector look into, one after the other, ``[wavefronts, rows]``."""
        rows = [known[Part(name, "slots", i)] for name, i in who]
        rows = [v if v.ndim == 2 else v.reshape((v.shape[0], -1)) for v in rows]
        return rows[0] if len(rows) == 1 else pt.concatenate(rows, axis=1)

    def _arrived(self, vector: Vector, state: dict[Any, Variable], given: Named) -> Variable:
        """Take the slope of new vectors out of their slots."""
        writes, name = given[Part(vector[0], "writes")], Slope(Made(vector[0], "vectors", int(vector[1])))
        found = state[vector][writes]
        hidden = self.spec.transforms[vector[0]].hidden
        state[vector] = pt.set_subtensor(state[vector][writes], np.zeros((1, hidden), self.way.dtype))
        return found + given[name] if name in given else found

    def _through(self, t: Transform, new: Named, given: Named) -> dict[Any, Variable]:
        """Give the slopes of all that the steps of one wavefront took, and of their pre-activations, from those of what they
        made."""
        name, weights = t.name, self._own(t.name, given)
        leaves: dict[Any, Variable] = {key: given[key] for key in (Made(name, "z"), Made(name, "product"), *self._states(t))
                                       if key in given}  # fmt: skip
        z, product, *_ = (leaves.get(Made(name, what)) for what in ("z", "product"))
        own = [given[key] for key in self._states(t)]
        made = steps.made(t, z, product, own, weights, given, self.facts.get(name, ()))
        leaves |= {self._names[id(self.weights[name][letter])]: v for letter, v in weights.items() if letter not in ("W", "b")}
        # Copies, since one vector may be made of another, and the slope of that is to be added to the one that it has.
        slopes = {pt.tensor_copy(v): new[name, bool(memory)] for memory, v in enumerate(made)}
        found = pytensor.grad(None, list(leaves.values()), known_grads=slopes, disconnected_inputs="ignore",
                              return_disconnected="none")  # fmt: skip
        slope = {key: g for key, g in zip(leaves, found, strict=True) if g is not None}
        for key in [*self._states(t), Made(name, "product"), Made(name, "z")]:
            if key == Made(name, "z") and "W" in weights:
                w, chosen, a = weights["W"], given[Part(name, "weights")], slope[Made(name, "product")]
                back = pt.matmul(a, steps.of_steps(w, chosen).transpose((0, 2, 1))) if t.untied else pt.dot(a, w.T)
                slope[key] = slope[key] + back if key in slope else back
            if Slope(key) in given:
                slope[key] = slope[key] + given[Slope(key)] if key in slope else given[Slope(key)]
        return {key: g for key, g in slope.items() if isinstance(key, Constant) or key == Made(name, "product")} | self._taken(
            t, slope.get(Made(name, "z")), [slope.get(key) for key in self._states(t)], given)  # fmt: skip

    def _taken(self, t: Transform, z: Variable | None, own: Sequence[Variable | None], given: Named) -> dict[Any, Variable]:
        """Cut the slope of what steps saw into those of what they found in the slots and of what joined; with those of their
        ``own``, which they found there, too, and of what entered to each."""
        seen, ports = self._seen(t), slots.ports(self.spec, t)
        widths = [self.spec.transforms[port.of].hidden for port in ports[: len(t.reads)]]
        widths += [x.width for x in self.spec.joined(t.name)][: len(seen) - len(t.reads)]
        found: dict[Any, Variable] = {}
        if z is not None:
            cut = [z] if len(widths) == 1 else pt.split(z, widths, n_splits=len(widths), axis=-1)
            found = dict(zip(seen, cut, strict=True))
        for i, port in enumerate(ports):
            part = Part(t.name, "slots", i)
            slope = found.get(part) if i < len(t.reads) else own[i - len(t.reads)]
            if slope is None:
                rows = given[Part(t.name, "writes")]
                slope = pt.zeros((*(rows.shape[axis] for axis in range(rows.ndim)), self.spec.transforms[port.of].hidden),
                                 self.way.dtype)  # fmt: skip
            mask = given.get(Part(t.name, "mask", i))
            found[part] = found[Part(t.name, "entry", i)] = slope if mask is None else slope * mask
        return found

    def _factors(self, t: Transform, slope: Variable, known: Named) -> dict[Any, Variable]:
        """Give the slopes of what pre-activations are a product and a sum of, from theirs in all wavefronts, the last first."""
        name, own = t.name, self.weights[t.name]
        found: dict[Any, Variable] = {}
        if Part(name, "ahead") in known:
            found[Part(name, "ahead")] = slope[::-1]
        if t.untied:
            members = known[Part(name, "members")]
            each = steps.by_weight(slope[::-1], members)
        else:
            members, each = None, slope.reshape((-1, slope.shape[-1]))
        if "b" in own:
            found[self._names[id(own["b"])]] = pt.sum(each, axis=-2)
        if "W" in own:
            z = known[Made(name, "z")]
            z = z[::-1].reshape((-1, z.shape[-1])) if members is None else steps.by_weight(z, members)
            found[self._names[id(own["W"])]] = pt.dot(z.T, each) if members is None else pt.matmul(z.transpose((0, 2, 1)), each)
        return found


def _learnt(key: Any, variable: Variable) -> bool:
    """Tell whether something has a gradient: masks are drawn, and the rest are numbers of places."""
    return variable.dtype.startswith("float") and not (isinstance(key, Part) and key.what in ("mask", "zoneout"))


def _looks(vector: Vector) -> Made:
    """Name the array of the slots that the readers of a vector look into."""
    return Made(vector[0], "looks", int(vector[1]))
