"""Every optimiser and schedule against optax step by step, and against PyTorch where the two agree."""

from __future__ import annotations

import numpy as np
import pytest

from gridc.errors import DataError, UsageError
from gridc.tables.learning_rates import SCHEDULES, schedule
from gridc.tables.update_rules import OPTIMIZERS, Rule
from gridc.training import optimizers
from gridc.training.optimizers import BLOCK, global_norm, optimizer

SHAPES = {"large": (BLOCK + 7, 2), "W": (12, 7), "b": (7,), "one": (1,)}

CASES = [
    ("sgd", {}, {}),
    ("sgd", {"momentum": 0.9}, {"momentum": 0.9}),
    ("sgd", {"momentum": 0.8, "nesterov": True}, {"momentum": 0.8, "nesterov": True}),
    ("adagrad", {}, {}),
    ("adagrad", {"initial_accumulator_value": 0.0, "eps": 1e-10}, {"initial_accumulator_value": 0.0, "eps": 1e-10}),
    ("rmsprop", {}, {}),
    ("rmsprop", {"decay": 0.95, "centered": True, "momentum": 0.9}, None),
    ("rmsprop", {"eps_in_sqrt": False, "eps": 1e-3, "initial_scale": 1.0}, None),
    ("rmsprop", {"eps_in_sqrt": False, "centered": True, "momentum": 0.7, "nesterov": True, "initial_scale": 2.0}, None),
    ("adam", {}, {}),
    ("adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-5, "eps_root": 1e-6}, None),
    ("adamw", {}, {}),
    ("adamw", {"weight_decay": 0.1}, None),
]


def arrays(seed, dtype):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def run(ours, steps, dtype="float64"):
    """The parameters after each step; step 3 has a sparse gradient, where sums of squares stay small."""
    parameters, found = arrays(0, dtype), []
    for step in range(steps):
        gradients = arrays(step + 1, dtype)
        if step == 3:
            gradients = {name: g * (np.abs(g) > 1.5) for name, g in gradients.items()}
        before = {name: g.copy() for name, g in gradients.items()}
        ours.update(parameters, gradients)
        assert all(np.array_equal(gradients[name], before[name]) for name in gradients)
        found.append({name: p.copy() for name, p in parameters.items()})
    return found


def run_optax(optax, transformation, steps):
    parameters, found = arrays(0, "float64"), []
    state = transformation.init(parameters)
    for step in range(steps):
        gradients = arrays(step + 1, "float64")
        if step == 3:
            gradients = {name: g * (np.abs(g) > 1.5) for name, g in gradients.items()}
        updates, state = transformation.update(gradients, state, parameters)
        parameters = {name: np.asarray(p) for name, p in optax.apply_updates(parameters, updates).items()}
        found.append(parameters)
    return found


@pytest.fixture
def optax():
    module = pytest.importorskip("optax")
    import jax

    with jax.enable_x64(True):
        yield module


def assert_same(ours, theirs, tolerance):
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=f"step {step}, {name}")


@pytest.mark.parametrize(("name", "options", "_"), CASES, ids=str)
def test_as_optax(optax, name, options, _):
    theirs = run_optax(optax, getattr(optax, name)(0.03, **options), 6)
    assert_same(run(optimizer(name, learning_rate=0.03, **options), 6), theirs, 1e-12)
    assert_same(run(optimizer(name, learning_rate=0.03, **options), 6, "float32"), theirs, 2e-5)


def test_defaults_are_those_of_optax(optax):
    import inspect

    for name, rule in OPTIMIZERS.items():
        theirs = inspect.signature(getattr(optax, name)).parameters
        for option in rule.options:
            if option.name in theirs and option.name != "learning_rate":
                assert option.default == theirs[option.name].default, (name, option.name)


def test_clipping_decay_and_schedule_as_optax(optax):
    warm = optax.warmup_cosine_decay_schedule(0.0, 0.05, 2, 6)
    for clip in (0.5, 1e9):
        theirs = optax.chain(optax.clip_by_global_norm(clip), optax.add_decayed_weights(0.02), optax.adam(warm))
        ours = optimizer(
            "adam", weight_decay=0.02, clip=clip,
            schedule=schedule("warmup_cosine_decay_schedule", learning_rate=0.05, warmup_steps=2, decay_steps=6),
        )  # fmt: skip
        # optax works out the schedule in single precision
        assert_same(run(ours, 6), run_optax(optax, theirs, 6), 1e-7)


TORCH = [
    ("sgd", "SGD", {"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", "SGD", {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", "RMSprop", {"eps_in_sqrt": False, "decay": 0.99}, {"alpha": 0.99}),
    ("rmsprop", "RMSprop", {"eps_in_sqrt": False, "momentum": 0.5, "centered": True, "decay": 0.9},
     {"alpha": 0.9, "momentum": 0.5, "centered": True}),
    ("adam", "Adam", {"weight_decay": 0.05}, {"weight_decay": 0.05}),
    ("adamw", "AdamW", {"weight_decay": 0.05}, {"weight_decay": 0.05}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "theirs", "options", "torch_options"), TORCH, ids=str)
def test_as_torch(name, theirs, options, torch_options):
    torch = pytest.importorskip("torch")
    parameters = {key: torch.tensor(p, requires_grad=True) for key, p in arrays(0, "float64").items()}
    made = getattr(torch.optim, theirs)(parameters.values(), lr=0.02, **torch_options)
    found = []
    for step in range(5):
        gradients = arrays(step + 1, "float64")
        if step == 3:
            gradients = {key: g * (np.abs(g) > 1.5) for key, g in gradients.items()}
        for key, p in parameters.items():
            p.grad = torch.tensor(gradients[key])
        made.step()
        found.append({key: p.detach().numpy().copy() for key, p in parameters.items()})
    assert_same(run(optimizer(name, learning_rate=0.02, **options), 5), found, 1e-8)


SCHEDULED = [
    ("constant_schedule", {"value": 0.1}),
    ("linear_schedule", {"init_value": 0.3, "end_value": 0.1, "transition_steps": 7, "transition_begin": 2}),
    ("polynomial_schedule", {"init_value": 0.3, "end_value": 0.1, "power": 2.0, "transition_steps": 7}),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 4, "decay_rate": 0.5, "transition_begin": 2}),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 4, "decay_rate": 0.5, "staircase": True, "end_value": 0.1}),
    ("exponential_decay", {"init_value": 0.3, "transition_steps": 4, "decay_rate": 1.5, "end_value": 0.5}),
    ("cosine_decay_schedule", {"init_value": 0.3, "decay_steps": 9, "alpha": 0.1, "exponent": 2.0}),
    ("piecewise_constant_schedule", {"init_value": 0.3, "boundaries_and_scales": {3: 0.5, 8: 0.1}}),
    ("warmup_constant_schedule", {"init_value": 0.01, "peak_value": 0.2, "warmup_steps": 5}),
    ("warmup_cosine_decay_schedule", {"init_value": 0.01, "peak_value": 0.2, "warmup_steps": 3, "decay_steps": 10,
                                      "end_value": 0.02, "exponent": 1.5}),
    ("warmup_exponential_decay_schedule", {"init_value": 0.01, "peak_value": 0.2, "warmup_steps": 3,
                                           "transition_steps": 4, "decay_rate": 0.5, "transition_begin": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), SCHEDULED, ids=str)
def test_schedules_as_optax(optax, name, options):
    ours, theirs = schedule(name, learning_rate=9.0, **options), getattr(optax, name)(**options)
    np.testing.assert_allclose([ours(n) for n in range(15)], [float(theirs(n)) for n in range(15)], rtol=1e-6)


def test_every_schedule_is_compared():
    assert {name for name, _ in SCHEDULED} == set(SCHEDULES)


def test_schedules_fill_in_rate_and_steps():
    cosine = schedule("cosine_decay_schedule", learning_rate=0.2, steps=10)
    assert cosine(0) == 0.2
    assert cosine(10) == 0.0
    with pytest.raises(UsageError, match="needs 'decay_steps'"):
        schedule("cosine_decay_schedule", learning_rate=0.2)


def test_state_is_saved_and_taken_over():
    for name in OPTIMIZERS:
        whole = run(optimizer(name), 6)
        first = optimizer(name)
        parameters = arrays(0, "float64")
        for step in range(3):
            first.update(parameters, arrays(step + 1, "float64"))
        saved = {key: array.copy() for key, array in first.state.items()}
        second = optimizer(name)
        second.load(parameters, saved)
        assert second.count == 3
        for step in range(3, 6):
            gradients = arrays(step + 1, "float64")
            if step == 3:
                gradients = {key: g * (np.abs(g) > 1.5) for key, g in gradients.items()}
            second.update(parameters, gradients)
        assert all(np.array_equal(parameters[key], whole[-1][key]) for key in parameters)


def test_state_of_another_rule_is_refused():
    ours = optimizer("adam")
    ours.start(arrays(0, "float64"))
    with pytest.raises(DataError, match="not that of 'sgd'"):
        optimizer("sgd").load(arrays(0, "float64"), ours.state)
    with pytest.raises(DataError, match="expected float32"):
        optimizer("adam").load(arrays(0, "float32"), ours.state)


def test_parameters_that_are_not_contiguous_are_updated_too():
    gradients = {"W": np.ones((BLOCK, 2))}
    parameters = {"W": np.zeros((2, BLOCK)).T}
    optimizer("sgd", learning_rate=1.0).update(parameters, gradients)
    assert (parameters["W"] == -1).all()


@pytest.mark.parametrize(("name", "options", "clip"), [
    ("sgd", {"weight_decay": 0.1}, 0.5), ("sgd", {"momentum": 0.8, "nesterov": True}, None), ("adagrad", {"eps": 0.0}, None),
    ("rmsprop", {"centered": True, "momentum": 0.7, "eps_in_sqrt": False}, 0.5), ("adam", {"eps_root": 1e-6}, None),
    ("adamw", {"weight_decay": 0.1}, 0.5),
], ids=str)  # fmt: skip
def test_compiled_as_in_numpy(monkeypatch, name, options, clip):
    """To the last bit: whether a rule is compiled depends on how many parameters there are, not on what they become."""
    monkeypatch.setattr(optimizers, "LARGE", 50_000)
    found = []
    for few in (0, 1 << 60):
        monkeypatch.setattr(optimizers, "FEW", few)
        rule, parameters = optimizer(name, clip=clip, **options), arrays(0, "float32")
        for step in range(3):
            rule.update(parameters, arrays(step + 1, "float32"), norm=3.0)
        found.append(parameters | rule.state)
    assert all(np.array_equal(found[0][key], array) for key, array in found[1].items())


def _towards(block, options):
    np.multiply(np.where(block.g > 0, 1.0, -1.0), block.rate, out=block.u)


def _by_the_largest(block, options):
    np.multiply(block.g, block.rate / max(1, block.count), out=block.u)


@pytest.mark.parametrize("update", [_towards, _by_the_largest])
def test_what_is_no_arithmetic_is_done_in_numpy(monkeypatch, update):
    monkeypatch.setattr(optimizers, "FEW", 0)
    rule = Rule("towards", OPTIMIZERS["sgd"].options, lambda options: {}, update, "", "")
    parameters, gradients = arrays(0, "float32"), arrays(1, "float32")
    optimizers.Optimizer(rule, {"learning_rate": 0.5, "weight_decay": 0.0}).update(parameters, gradients)
    for key, before in arrays(0, "float32").items():
        step = np.where(gradients[key] > 0, 0.5, -0.5) if update is _towards else 0.5 * gradients[key]
        np.testing.assert_array_equal(parameters[key], before - step.astype("float32"))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_the_number_of_threads_changes_no_bit(monkeypatch, name):
    monkeypatch.setattr(optimizers, "BLOCK", 1000)
    monkeypatch.setattr(optimizers, "LARGE", 1500)
    random = np.random.default_rng(0)
    start = {key: random.normal(size=size).astype(np.float32) for key, size in (("w", 10_007), ("v", 8192), ("b", 3))}
    gradients = {key: random.normal(size=array.shape).astype(np.float32) for key, array in start.items()}
    assert [optimizers.sharers(10_007, threads) for threads in (1, 2, 5, 100)] == [1, 2, 5, 6]

    def trained(threads):
        parameters, rule = {key: array.copy() for key, array in start.items()}, optimizer(name, clip=1.0)
        for _ in range(2):
            rule.update(parameters, gradients, threads=threads)
        return rule.norm, parameters | rule.state

    norm, expected = trained(1)
    for threads in (2, 3, 8):
        again, found = trained(threads)
        assert again == norm
        assert all(np.array_equal(found[key], array) for key, array in expected.items())


def test_global_norm_sees_every_number():
    gradients = arrays(1, "float32")
    expected = np.sqrt(sum(np.square(g, dtype="float64").sum() for g in gradients.values()))
    assert global_norm(gradients) == pytest.approx(expected, rel=1e-6)
    gradients["large"][-1, -1] = np.nan
    assert np.isnan(global_norm(gradients))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: optimizer("adma"), "no optimizer 'adma', expected sgd.*did you mean 'adam'"),
        (lambda: optimizer("adam", lerning_rate=1), "no option 'lerning_rate'.*did you mean 'learning_rate'"),
        (lambda: optimizer("adam", learning_rate="1"), "'learning_rate' is '1', expected a number of at least 0"),
        (lambda: optimizer("sgd", momentum=2.0), "'momentum' is 2.0, expected a number from 0 to 1"),
        (lambda: optimizer("sgd", nesterov=1), "expected true or false"),
        (lambda: optimizer("adam", clip=0.0), r"'clip'\) is 0.0, expected a number above 0"),
        (lambda: schedule("cosine", learning_rate=1.0), "no schedule 'cosine'"),
        (lambda: schedule("warmup_cosine_decay_schedule", learning_rate=1.0, warmup_steps=5, decay_steps=5), "more than the 5"),
    ],
)
def test_messages(call, words):
    with pytest.raises(UsageError, match=words) as caught:
        call()
    assert not str(caught.value).endswith("?.")
    assert caught.value.exit_code == 2
