"""A small stand-in for a grid, for tests of training alone: a perceptron in NumPy that reads a real spec.

Every input is flattened; every output is a linear read-out of one tanh layer.  Losses and gradients follow language.md:
means over the batch and over the positions within an example's end.
"""

from __future__ import annotations

import numpy as np


class SmallGrid:
    """The part of a Grid that training sees, with an optional random number of its own (``noise``)."""

    def __init__(self, spec, seed=0, dtype="float32", hidden=16, noise=0.0):
        self.spec, self.dtype, self.noise = spec, dtype, noise
        self.rng = np.random.default_rng([seed, 99])
        self.calls = 0
        rng = np.random.default_rng(seed)
        self.parameters = {}
        width = sum(self._width(name) for name in spec.inputs)
        self._add("hidden.W", rng.normal(0, 0.5, (width, hidden)))
        self._add("hidden.b", np.zeros(hidden))
        for name, output in spec.outputs.items():
            positions = int(np.prod([spec.dimensions[d].size for d in output.axes], dtype=int))
            size = output.size if output.kind != "binary" else 1
            self._add(f"{name}.W", rng.normal(0, 0.5, (hidden, positions * size)))
            self._add(f"{name}.b", np.zeros(positions * size))

    def _add(self, name, value):
        self.parameters[name] = value.astype(self.dtype)

    def _axes(self, name):
        """The sizes of an input's array after the batch: numbers and symbols, and of a real vector its features."""
        one = self.spec.inputs[name]
        return [*(self.spec.dimensions[d].size for d in one.over), *([one.size] if one.kind == "features" else [])]

    def _width(self, name):
        return int(np.prod([1 if isinstance(size, str) else size for size in self._axes(name)]))

    def _within(self, name, positions, lengths):
        """1 at an output's positions within their example's end, 0 past it."""
        mask = np.ones(positions, self.dtype)
        for axis, d in enumerate(self.spec.outputs[name].axes, 1):
            for example, n in enumerate(lengths.get(self.spec.dimensions[d].size, ())):
                np.moveaxis(mask, axis, 1)[example, n:] = 0
        return mask

    @property
    def random_state(self):
        return self.rng.bit_generator.state

    @random_state.setter
    def random_state(self, state):
        self.rng.bit_generator.state = state

    def _forward(self, inputs, share=None):
        parts = []
        for name in self.spec.inputs:
            array = np.asarray(inputs[name], self.dtype)
            if any(isinstance(size, str) for size in self._axes(name)):
                array = array.sum(axis=1)
            parts.append(array.reshape(len(array), -1))
        x = np.concatenate(parts, axis=1)
        if self.noise:
            first, of = (0, len(x)) if share is None else share
            x = x + self.rng.normal(0, self.noise, (of, x.shape[1]))[first : first + len(x)].astype(self.dtype)
        p = self.parameters
        h = np.tanh(x @ p["hidden.W"] + p["hidden.b"])
        found = {}
        for name, output in self.spec.outputs.items():
            sizes = [self.spec.dimensions[d].size for d in output.axes]
            z = (h @ p[f"{name}.W"] + p[f"{name}.b"]).reshape(len(x), *sizes, -1)
            if output.kind == "classes":
                z = np.exp(z - z.max(axis=-1, keepdims=True))
                z = z / z.sum(axis=-1, keepdims=True)
            elif output.kind == "binary":
                z = 1 / (1 + np.exp(-z[..., 0]))
            found[name] = z
        return x, h, found

    def predict(self, inputs, lengths=None):
        noise, self.noise = self.noise, 0.0
        found = self._forward(inputs)[2]
        self.noise = noise
        return found

    def loss_and_gradients(self, inputs, targets, lengths=None, weights=None, share=None):
        self.calls += 1
        x, h, found = self._forward(inputs, share)
        p, gradients, total, dh = self.parameters, {}, 0.0, np.zeros_like(h)
        for name, output in self.spec.outputs.items():
            y, t = found[name], targets[name]
            weight = np.asarray((weights or {}).get(name, 1.0), y.dtype)
            positions = y.shape[:-1] if output.kind != "binary" else y.shape
            mask = self._within(name, positions, lengths or {})
            share = np.broadcast_to(weight, positions) * mask / mask.sum()
            with np.errstate(all="ignore"):
                if output.kind == "classes":
                    rows = np.take_along_axis(y, t[..., None].astype(int), axis=-1)[..., 0]
                    total += float((-np.log(np.maximum(rows, 1e-30)) * share).sum())
                    dz = (y - np.eye(y.shape[-1], dtype=self.dtype)[t]) * share[..., None]
                elif output.kind == "binary":
                    each = -np.log(np.maximum(np.where(t > 0.5, y, 1 - y), 1e-30))
                    total += float((each * share).sum())
                    dz = (y - t) * share
                else:
                    total += float((np.square(y - t).mean(axis=-1) * share).sum())
                    dz = 2 * (y - t) * share[..., None] / y.shape[-1]
            dz = dz.reshape(len(x), -1).astype(self.dtype)
            gradients[f"{name}.W"], gradients[f"{name}.b"] = h.T @ dz, dz.sum(axis=0)
            with np.errstate(all="ignore"):
                dh += dz @ p[f"{name}.W"].T
        with np.errstate(all="ignore"):
            dh = dh * (1 - h * h)
        gradients["hidden.W"], gradients["hidden.b"] = x.T @ dh, dh.sum(axis=0)
        return total, gradients, found


DEPTH = """
name: {name}
dimensions: {{depth: 2}}
transforms:
  depth: {{cell: lstm, hidden: 4}}
inputs:
  x: {{features: {features}, enters: depth}}
outputs:
{outputs}
"""


def spec_of(features=4, name="small", **outputs):
    """A spec of one vector in, and these outputs: ``label="classes: 2"``."""
    from gridc.scheduling.check import read

    rows = "\n".join(f"  {k}: {{{v}, reads: [depth], at: {{depth: last}}}}" for k, v in outputs.items())
    return read(DEPTH.format(name=name, features=features, outputs=rows))
