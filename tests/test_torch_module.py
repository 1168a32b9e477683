"""GridModule: a grid on PyTorch's tape, compared with the grid itself and with finite differences, and trained by PyTorch."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gridc
from gridc.errors import DataError, UsageError
from gridc.language import noise
from gridc.language.shapes import input_axes
from gridc.torch import GridModule

SPECS = Path(__file__).parent.parent / "specs"
EVERYTHING = """
name: everything
dimensions: {time: T, depth: 2}
transforms:
  forward: {cell: lstm, hidden: 3, along: time, start: learned, peepholes: true, tied: [time]}
  depth: {cell: gru, hidden: 3, start: learned}
priority: [forward, depth]
inputs:
  x: {features: 2, enters: depth}
  more: {features: 2, enters: depth}
  ids: {vocabulary: 4, embed: 2, joins: [forward], at: {depth: first}}
outputs:
  words: {classes: 3, reads: [forward, depth], at: {depth: last}}
  sign: {binary: true, reads: [forward.memory], at: {time: last, depth: last}}
  all: {raw: true, reads: [depth]}
"""
"""Two real inputs that share what they enter, an embedding, learned starts, three kinds of outputs; a name that modules have."""

LITTLE = """
name: little
dimensions: {time: T}
transforms: {time: {cell: dense, hidden: 3, start: learned}}
inputs: {x: {features: 2, joins: [time]}}
outputs: {all: {raw: true, reads: [time]}}
"""
"""What the plain lowering builds in little time."""


def drawn(spec: gridc.GridSpec, batch: int = 3, size: int = 4, seed: int = 0) -> dict[str, Any]:
    """Inputs of every size that a spec leaves open."""
    random = np.random.default_rng(seed)
    found = {}
    for name, axes in input_axes(spec).items():
        shape = (batch, *(n if isinstance(n, int) else size for n in axes.axes))
        found[name] = torch.from_numpy(random.normal(size=shape) if axes.real else random.integers(0, axes.below, shape))
    return found


def as_arrays(inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in inputs.items()}


@pytest.mark.parametrize("name", ["text-classifier", "gru-grid", "bidirectional", "memory-network", "leaky-lstm", "dropout"])
def test_outputs_and_gradients_are_the_grids(name: str) -> None:
    grid = gridc.compile(SPECS / f"{name}.yaml", dtype="float64", eager=False)
    module = GridModule(grid, outputs="probabilities").eval()
    inputs = drawn(grid.spec)
    expected = grid.predict(as_arrays(inputs))
    found = module(**inputs)
    for output, array in expected.items():
        np.testing.assert_allclose(found[output].detach().numpy(), array, atol=1e-12)
    if noise.noisy(grid.spec):
        return
    targets = {o: np.zeros(a.shape[:-1], int) for o, a in expected.items() if grid.spec.outputs[o].kind == "classes"}
    if targets.keys() != expected.keys():
        return
    loss, gradients, _ = grid.loss_and_gradients(as_arrays(inputs), targets)
    mine = sum(-tensor[..., 0].log().mean() for tensor in found.values())
    mine.backward()
    assert mine.item() == pytest.approx(loss, rel=1e-10)
    assert dict(module.named_parameters()).keys() == gradients.keys()
    for parameter, tensor in module.named_parameters():
        np.testing.assert_allclose(tensor.grad.numpy(), gradients[parameter], rtol=1e-8, atol=1e-12, err_msg=parameter)


@pytest.mark.parametrize(("page", "options", "ended"), [
    (EVERYTHING, {}, False), (EVERYTHING, {}, True), (EVERYTHING, {"recompute": True}, True),
    (LITTLE, {"lowering": "plain"}, True),
], ids=["all", "lengths", "recompute", "plain"])  # fmt: skip
def test_gradcheck(page: str, options: dict[str, Any], ended: bool) -> None:
    module = GridModule(page, dtype=torch.float64, seed=3, **options)
    inputs = drawn(module.spec)
    inputs["x"].requires_grad_()
    lengths = torch.tensor([4, 1, 3]) if ended else None
    leaves = [inputs["x"], *module.parameters()]
    with torch.no_grad():
        for leaf in leaves[1:]:
            leaf.copy_(torch.from_numpy(np.random.default_rng(leaf.numel()).normal(size=leaf.shape)))

    def function(*_: Any) -> Any:
        return tuple(module(**inputs, lengths=lengths).values())

    assert torch.autograd.gradcheck(function, leaves, atol=1e-6, fast_mode=True)


def test_no_two_gradients_share_memory_and_none_changes_later() -> None:
    module = GridModule(EVERYTHING, dtype=torch.float64)
    sum(t.sum() for t in module(**drawn(module.spec)).values()).backward()
    first = {name: p.grad for name, p in module.named_parameters()}
    kept = {name: g.clone() for name, g in first.items()}
    assert len({g.data_ptr() for g in first.values()}) == len(first)
    assert torch.equal(first["x.hidden.b"], first["more.hidden.b"])
    module.zero_grad()
    sum((3 * t).sum() for t in module(**drawn(module.spec, seed=1)).values()).backward()
    assert all(torch.equal(first[name], kept[name]) for name in first)


def test_several_calls_wait_for_their_way_back_and_go_it_twice() -> None:
    module = GridModule(EVERYTHING, dtype=torch.float64)
    inputs = [drawn(module.spec, seed=k, size=3 + k) for k in range(2)]
    leaves = list(module.parameters())

    def loss(k: int) -> Any:
        return sum((t**2).sum() for t in module(**inputs[k]).values())

    alone = [torch.autograd.grad(loss(k), leaves) for k in range(2)]
    losses = [loss(0), loss(1)]
    for k in (1, 0):
        for again in (True, False):
            for mine, expected in zip(torch.autograd.grad(losses[k], leaves, retain_graph=again), alone[k], strict=True):
                torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(losses[0], leaves)


def test_what_changes_before_the_way_back_is_noticed() -> None:
    module = GridModule(SPECS / "parity.yaml")
    loss = module(**drawn(module.spec))["parity"].sum()
    with torch.no_grad():
        next(module.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_derivatives_are_refused() -> None:
    module = GridModule(SPECS / "parity.yaml")
    (first,) = torch.autograd.grad(module(**drawn(module.spec))["parity"].sum(), [module.get_parameter("depth.W")],
                                   create_graph=True)  # fmt: skip
    with pytest.raises(UsageError, match="first derivatives alone"):
        first.sum().backward()


def test_state_goes_both_ways_and_into_a_model_file(tmp_path: Path) -> None:
    module, other = GridModule(EVERYTHING, seed=1), GridModule(EVERYTHING, seed=2, outputs="probabilities")
    names = set(gridc.compile(EVERYTHING, eager=False).parameters)
    assert set(module.state_dict()) == names
    inputs = drawn(module.spec)
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        expected = other(**inputs)
        module.grid.save(tmp_path / "module.grid")
        loaded = gridc.load(tmp_path / "module.grid")
        for name, array in loaded.predict(as_arrays(inputs)).items():
            np.testing.assert_allclose(array, expected[name].numpy(), atol=1e-6)
        again = GridModule(loaded, outputs="probabilities")
        for name, tensor in again(**inputs).items():
            torch.testing.assert_close(tensor, expected[name])
    assert torch.get_default_dtype() == again.get_parameter("depth.W").dtype


@pytest.mark.parametrize("way", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["deepcopy", "pickle"])
def test_a_copy_has_numbers_of_its_own(way: Any) -> None:
    module = GridModule(EVERYTHING)
    inputs = drawn(module.spec)
    before = {name: tensor.detach() for name, tensor in module(**inputs).items()}
    other = way(torch.nn.ModuleList([module]))[0]
    for name, tensor in other(**inputs).items():
        torch.testing.assert_close(tensor, before[name])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(**inputs)["all"].any()
    for name, tensor in module(**inputs).items():
        torch.testing.assert_close(tensor, before[name])


def test_torch_compiles_around_it_and_calls_it_with_other_parameters() -> None:
    module = GridModule(SPECS / "parity.yaml")
    inputs = drawn(module.spec)
    state = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    assert not torch.func.functional_call(module, state, (), inputs)["parity"].any()
    assert module(**inputs)["parity"].any()
    x = next(iter(inputs.values()))
    torch.testing.assert_close(module(x), module(**inputs))  # a single input needs no name


@pytest.mark.parametrize("made", [
    lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    lambda p: torch.optim.AdamW(p, 0.05),
    lambda p: torch.optim.LBFGS(p, max_iter=3),
], ids=["sgd", "adamw", "lbfgs"])  # fmt: skip
def test_any_optimiser_trains_it_inside_a_larger_module(made: Any) -> None:
    torch.manual_seed(0)

    class Larger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = torch.nn.Linear(3, 2)
            self.grid = GridModule(EVERYTHING.replace("more: {features: 2, enters: depth}", ""))
            self.after = torch.nn.Linear(3, 1)

        def forward(self, x: Any, ids: Any) -> Any:
            return self.after(self.grid(x=self.before(x).tanh(), ids=ids)["all"])[..., -1, 0]

    module = Larger()
    random = np.random.default_rng(0)
    x, ids = torch.from_numpy(random.normal(size=(8, 5, 3))).float(), torch.from_numpy(random.integers(0, 4, (8, 5)))
    y = x.sum(-1).cumsum(1)
    optimiser = made(module.parameters())

    def closure() -> Any:
        optimiser.zero_grad()
        loss = ((module(x, ids) - y) ** 2).mean()
        loss.backward()
        return loss

    first = closure().item()
    for _ in range(15):
        optimiser.step(closure)
    assert closure().item() < 0.8 * first
    assert module.before.weight.grad.abs().max() > 0


def test_dropout_draws_from_pytorchs_generator_and_only_in_training() -> None:
    module = GridModule(SPECS / "dropout.yaml", seed=0)
    inputs = drawn(module.spec)

    def called(seed: int) -> Any:
        torch.manual_seed(seed)
        return module(**inputs)["answer"]

    assert torch.equal(called(1), called(1))
    assert not torch.equal(called(1), called(2))
    module.eval()
    assert torch.equal(called(1), called(2))


WORKERS = """
import numpy as np, torch
from torch.utils.data import DataLoader, Dataset
from gridc.torch import GridModule

class Embedded(Dataset):
    def __init__(self, module): self.module = module
    def __len__(self): return 8
    def __getitem__(self, n):
        with torch.no_grad():
            return self.module(torch.full((1, *shape), float(n % 2)))["parity"][0]

if __name__ == "__main__":
    module = GridModule("specs/parity.yaml")
    x = next(iter(module.spec.inputs.values()))
    shape = (x.size,)
    module(torch.zeros(2, *shape))["parity"].sum().backward()
    data = Embedded(module)
    alone = torch.stack([data[n] for n in range(8)])
    found = torch.cat(list(DataLoader(data, 4, num_workers=2, multiprocessing_context="fork")))
    assert torch.equal(found, alone)
    module(torch.zeros(2, *shape))["parity"].sum().backward()
    print("same")
"""


def test_workers_of_a_data_loader_run_it(tmp_path: Path) -> None:
    (tmp_path / "loads.py").write_text(WORKERS, encoding="utf-8")
    done = subprocess.run([sys.executable, str(tmp_path / "loads.py")], capture_output=True, text=True, timeout=300, check=False,
                          cwd=SPECS.parent)  # fmt: skip
    assert done.stdout.split() == ["same"], done.stderr


def test_what_does_not_fit_is_said() -> None:
    module = GridModule(EVERYTHING)
    inputs = drawn(module.spec)
    for change, error, why in [
        ({"ids": inputs["ids"] + 4}, DataError, "input 'ids': found .* expected ids from 0 to 3"),
        ({"x": inputs["x"][..., :1]}, DataError, "input 'x': found 1 features on axis 2"),
        ({"y": inputs["x"]}, DataError, "there is no input 'y'"),
        ({"x": inputs["x"].to("meta")}, UsageError, "input 'x' lies on 'meta'; a grid runs on the CPU"),
        ({"lengths": [9, 1, 1]}, DataError, "lengths of 'T': found 9 for example 0; expected 1 to 4"),
    ]:
        with pytest.raises(error, match=why):
            module(**{**inputs, **change})
    with pytest.raises(UsageError, match="give them by name"):
        module(inputs["x"])
    with pytest.raises(UsageError, match=r"parameters are torch\.float16; a grid computes in float32 or float64"):
        copy.deepcopy(module).half()(**inputs)
    with pytest.raises(UsageError, match="found the outputs 'logit'; expected logits or probabilities"):
        GridModule(EVERYTHING, outputs="logit")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no input can bear that name"):
        GridModule(EVERYTHING.replace("more:", "lengths:"))
    mixed = copy.deepcopy(module)
    mixed.get_submodule("depth").double()
    with pytest.raises(UsageError, match="of several types"):
        mixed(**inputs)
