"""`mblsr1.torch` with torch itself: the optimizer, whole runs over a module, and their states."""

import copy
import doctest
import gc
import importlib
import io
import pkgutil

import numpy as np
import pytest

import mblsr1
from mblsr1 import Options

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch

from torch.nn.functional import cross_entropy  # noqa: E402

import mblsr1.torch as adapter  # noqa: E402
from mblsr1.torch import MBLSR1, frozen_statistics  # noqa: E402

N, BATCH = 600, 32
_GENERATOR = torch.Generator().manual_seed(7)
X = torch.randn(N, 8, generator=_GENERATOR)
Y = (X @ torch.randn(8, 3, generator=_GENERATOR) + torch.randn(N, 3, generator=_GENERATOR)).argmax(1)
#: What is run in many tests: options, and whether on the whole set.
SETTINGS = {
    "samples": ({"batch_size": BATCH, "n_samples": N}, False),
    "whole set": ({"batch_size": N, "n_samples": N}, True),
    "re-solved": ({"batch_size": BATCH, "overlap": 0.0, "growth": "progress"}, False),
    "blocks": ({"batch_size": BATCH, "blocks": True}, False),
    "paper": ({"batch_size": BATCH, "rng": 1, "options": Options.paper(initial_radius=0.5, restart_memory=8)}, False),
}
settings = pytest.mark.parametrize(("arguments", "whole"), SETTINGS.values(), ids=list(SETTINGS))


def network(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(8, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)]
    return torch.nn.Sequential(*layers).to(dtype)


def loss_of(model, rows=slice(None)):
    return cross_entropy(model(X[rows].to(next(model.parameters()).dtype)), Y[rows])


def rows_of(step, size=BATCH):
    """The same rows for a step, whoever asks."""
    return np.random.default_rng(step).choice(N, size, replace=False)


def closure_of(model, rows=slice(None), calls=None):
    def closure():
        model.zero_grad()
        loss = loss_of(model, rows)
        loss.backward()
        if calls is not None:
            calls.append(vector(model))
        return loss

    return closure


def train(model, optimizer, steps, whole=False):
    return [optimizer.step(closure_of(model, slice(None) if whole else rows_of(step))) for step in steps]


def vector(model):
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def loss_at(w):
    model = network()
    torch.nn.utils.vector_to_parameters(w, model.parameters())
    return float(loss_of(model).detach())


def function_of(model):
    """(w, rows) -> loss and gradient, of the same module by the same operations."""

    def fun(w, rows=slice(None)):
        torch.nn.utils.vector_to_parameters(w.clone(), model.parameters())
        model.zero_grad()
        with torch.enable_grad():
            loss = loss_of(model, rows)
            loss.backward()
        return loss.detach(), torch.cat([p.grad.reshape(-1) for p in model.parameters()])

    return fun


class Given:
    """A sampler of rows that are given beforehand."""

    n_samples = 10**6

    def __init__(self, batches):
        self.batches = iter(batches)

    def draw(self, size, rng):
        return next(self.batches)


# What a step is


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_the_whole_set_it_is_minimize_bit_for_bit(dtype):
    model, other = network(dtype), network(dtype)
    optimizer = MBLSR1(model.parameters(), n_samples=1, batch_size=1)
    wanted = mblsr1.iterate(function_of(other), True, vector(other), gtol=0.0)
    for _ in range(25):
        loss, step = optimizer.step(closure_of(model)), next(wanted)
        assert torch.equal(vector(model), step.x)
        assert float(loss) == step.loss
        assert optimizer.last_step["nfev"] == step.nfev
        assert optimizer.last_step["rho"] == pytest.approx(step.rho, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("blocks", [False, True])
def test_on_samples_it_is_the_default_with_half_of_each_batch_shared(blocks):
    """The driver's first batch has a fresh half, which is made equal to the shared one."""
    model, other = network(), network()
    batches = [rows_of(step) for step in range(12)]
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH, blocks=blocks)
    known = {"blocks": [tuple(p.shape) for p in model.parameters()]} if blocks else {}
    wanted = mblsr1.iterate(
        function_of(other), True, vector(other), Given([batches[0], *batches]), batch_size=2 * BATCH, overlap=0.5,
        anneal=False, gtol=0.0, largest_share=1e-9, **known,
    )  # fmt: skip
    for number, rows in enumerate(batches):
        before, step = loss_of(model, rows).detach(), next(wanted)
        loss = optimizer.step(closure_of(model, rows))
        assert torch.equal(vector(model), step.x)
        assert float(loss) == float(before)  # the loss at the start
        assert optimizer.last_step["loss"] == step.loss  # of both halves
        if number:
            assert optimizer.last_step["noise"] == step.noise


def test_a_step_on_samples_evaluates_its_batch_twice_and_the_last_one_not_again():
    model, calls = network(), []
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    for step in range(6):
        before = vector(model)
        optimizer.step(closure_of(model, rows_of(step), calls))
        assert len(calls) == 2 * (step + 1)
        assert torch.equal(calls[-2], before)
        assert torch.equal(calls[-1], vector(model))
    assert optimizer.last_step["n_samples"] == 12 * BATCH


def test_the_loss_falls():
    model = network()
    before = float(loss_of(model).detach())
    train(model, MBLSR1(model.parameters(), batch_size=BATCH, n_samples=N), range(60))
    assert float(loss_of(model).detach()) < 0.7 * before


@pytest.mark.parametrize("preset", ["samples", "paper"])
def test_closures_with_and_without_backward_make_the_same_steps(preset):
    """What `backward=False` saves are backward passes; no value changes."""
    arguments, _ = SETTINGS[preset]
    models, gradients = (network(), network()), []
    optimizers = [MBLSR1(model.parameters(), **arguments) for model in models]
    for step in range(15):
        rows = rows_of(step)

        def closure(backward=True, rows=rows):
            loss = loss_of(models[1], rows)
            if backward:
                loss.backward()
            gradients.append(backward)
            return loss

        optimizers[0].step(closure_of(models[0], rows))
        optimizers[1].step(closure)
        assert torch.equal(vector(models[0]), vector(models[1]))
    alone = gradients.count(False)
    assert (alone > 0) == (preset == "paper")
    assert optimizers[1].last_step["njev"] == gradients.count(True)
    cost = BATCH * (gradients.count(True) + alone / 3)
    assert optimizers[1].last_step["n_samples"] == pytest.approx(cost, rel=1e-12)


def test_a_closure_that_clears_no_gradient_makes_the_same_steps():
    models = network(), network()
    optimizers = [MBLSR1(model.parameters(), batch_size=BATCH) for model in models]
    for step in range(5):
        optimizers[0].step(closure_of(models[0], rows_of(step)))

        def closure(rows=rows_of(step)):  # noqa: B008
            loss = loss_of(models[1], rows)
            loss.backward()
            return loss

        optimizers[1].step(closure)
    assert torch.equal(vector(models[0]), vector(models[1]))


def test_a_loss_may_be_a_number_a_single_entry_or_in_half_precision():
    found = []
    kinds = [lambda loss: loss.item(), lambda loss: loss.reshape(1), lambda loss: loss.detach().numpy()]
    for kind in [*kinds, lambda loss: loss]:
        model = network()
        optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
        for step in range(4):
            inner = closure_of(model, rows_of(step))
            optimizer.step(lambda inner=inner, kind=kind: kind(inner()))
        found.append(vector(model))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[0], found[3])
    model = network()
    inner, before = closure_of(model, rows_of(0)), vector(model)
    MBLSR1(model.parameters(), batch_size=BATCH).step(lambda: inner().bfloat16())
    assert not torch.equal(vector(model), before)


def test_the_radius_is_annealed_in_the_last_quarter_of_the_plan():
    """It falls in a line, and beyond the plan a thousandth of it stays."""
    model = network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH, planned_samples=40 * BATCH, largest_share=1e-9)
    for step in range(25):
        before = optimizer.last_step.get("radius", 1.0)
        optimizer.step(closure_of(model, rows_of(step)))
        spent = (2 * step + 1) / 40  # when the step is made, the gradient at its start is paid for
        most = before * min(1.0, max(4.0 * (1.0 - spent), 1e-3))
        assert optimizer.last_step["step_norm"] <= most * (1 + 1e-6)
    assert optimizer.last_step["n_samples"] == 50 * BATCH


# Parameters


def test_groups_frozen_empty_and_unused_parameters():
    """All groups are one vector; what needs no gradient or has none stays."""
    wanted = network()
    train(wanted, MBLSR1(wanted.parameters(), batch_size=BATCH), range(6))
    model = network()
    frozen, unused = torch.nn.Parameter(torch.ones(4), requires_grad=False), torch.nn.Parameter(torch.ones(3))
    empty = torch.nn.Parameter(torch.ones(0))
    groups = [{"params": [frozen, empty, *model[0].parameters()]}, {"params": []}, {"params": model[2].parameters()}]
    train(model, MBLSR1(groups, batch_size=BATCH), range(6))
    assert torch.equal(vector(model), vector(wanted))
    other = network()
    train(other, MBLSR1([*other.parameters(), unused], batch_size=BATCH), range(6))
    # the radius has another scale, and sums over d another order; six steps amplify float32's rounding little
    torch.testing.assert_close(vector(other), vector(wanted), rtol=1e-3, atol=1e-4)
    for p in (frozen, unused):
        assert torch.equal(p.detach(), torch.ones_like(p))


def test_named_parameters():
    model, wanted = network(), network()
    train(model, MBLSR1(model.named_parameters(), batch_size=BATCH), range(3))
    train(wanted, MBLSR1(wanted.parameters(), batch_size=BATCH), range(3))
    assert torch.equal(vector(model), vector(wanted))


def test_a_group_added_or_frozen_on_the_way():
    """Pairs of another vector are dropped, the radius is kept; what is frozen does not move."""
    model = network()
    optimizer = MBLSR1(model[2].parameters(), batch_size=BATCH)
    first = vector(model[0])
    train(model, optimizer, range(5))
    assert torch.equal(vector(model[0]), first)
    radius = optimizer.last_step["radius"]
    optimizer.add_param_group({"params": model[0].parameters()})
    train(model, optimizer, range(5, 6))
    assert not torch.equal(vector(model[0]), first)
    assert optimizer.last_step["n_pairs"] == 1
    assert optimizer.last_step["radius"] in (radius, 2 * radius, radius / 2)
    assert len({p.untyped_storage().data_ptr() for p in model.parameters()}) == 1
    model[0].requires_grad_(False)
    frozen = vector(model[0])
    train(model, optimizer, range(6, 9))
    assert torch.equal(vector(model[0]), frozen)
    assert optimizer.last_step["n_pairs"] == 3


def test_parameters_are_views_of_one_buffer_that_does_not_move():
    model = network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    train(model, optimizer, range(1))
    places = [p.data_ptr() for p in model.parameters()]
    assert len({p.untyped_storage().data_ptr() for p in model.parameters()}) == 1
    train(model, optimizer, range(1, 5))
    assert places == [p.data_ptr() for p in model.parameters()]


@settings
def test_there_is_no_second_copy_of_the_parameters_between_steps(arguments, whole):
    model = network()
    optimizer = MBLSR1(model.parameters(), **arguments)
    train(model, optimizer, range(6), whole)
    w = vector(model)
    gc.collect()
    places = set()
    for thing in gc.get_objects():
        if not issubclass(type(thing), torch.Tensor) or thing is w or thing.numel() != w.numel():
            continue
        if torch.equal(thing.detach().reshape(-1).to(w.dtype), w):
            places.add(thing.data_ptr())
    assert places == {next(model.parameters()).data_ptr()}


def transposed(model):
    """A parameter that is not contiguous."""
    model[0].weight = torch.nn.Parameter(model[0].weight.detach().T.contiguous().T)


def in_one_storage(model):
    """Two parameters that share memory, as the weights of some recurrent layers do."""
    memory = torch.cat([p.detach().reshape(-1) for p in model[0].parameters()])
    model[0].weight.data, model[0].bias.data = memory[:40].view(5, 8), memory[40:]


def across_processes(model):
    model.share_memory()


@pytest.mark.parametrize("change", [transposed, in_one_storage, across_processes])
def test_copies_where_views_would_break_something(change):
    model, wanted = network(), network()
    change(model)
    place = model[0].weight.data_ptr(), model[0].weight.stride()
    # a transposed weight is multiplied in another order
    train(model, MBLSR1(model.parameters(), batch_size=BATCH), range(8))
    train(wanted, MBLSR1(wanted.parameters(), batch_size=BATCH), range(8))
    torch.testing.assert_close(vector(model), vector(wanted), rtol=1e-3, atol=1e-4)
    assert (model[0].weight.data_ptr(), model[0].weight.stride()) == place


def test_data_that_is_replaced_is_taken_and_becomes_a_view_again():
    model, wanted = network(), network()
    optimizers = [MBLSR1(m.parameters(), batch_size=BATCH) for m in (model, wanted)]
    train(model, optimizers[0], range(4))
    train(wanted, optimizers[1], range(4))
    buffer = model[0].weight.untyped_storage().data_ptr()
    model[0].weight.data = model[0].weight.detach() * 0.5
    with torch.no_grad():
        wanted[0].weight.mul_(0.5)
    train(model, optimizers[0], range(4, 8))
    train(wanted, optimizers[1], range(4, 8))
    assert torch.equal(vector(model), vector(wanted))
    assert model[0].weight.untyped_storage().data_ptr() == buffer


def test_parameters_that_the_caller_changes_are_evaluated_again():
    """On the whole set a step needs one evaluation, as its start is known; not so where it was changed."""
    model, calls = network(), []
    optimizer = MBLSR1(model.parameters(), batch_size=N, n_samples=N)
    for _ in range(3):
        optimizer.step(closure_of(model, calls=calls))
    calls.clear()
    optimizer.step(closure_of(model, calls=calls))
    assert len(calls) == 1
    with torch.no_grad():
        model[0].weight.mul_(0.5)
    changed = vector(model)
    loss = optimizer.step(closure_of(model, calls=calls))
    assert torch.equal(calls[1], changed)
    assert float(loss) == loss_at(changed)


# State


@settings
def test_a_saved_run_continues_bit_for_bit(arguments, whole):
    """k steps, save, load into a new optimizer, k steps are 2 k steps; read with weights_only=True."""
    model = network()
    optimizer = MBLSR1(model.parameters(), **arguments)
    train(model, optimizer, range(9), whole)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    train(model, optimizer, range(9, 18), whole)
    for model_first in (True, False):
        file.seek(0)
        of_model, of_optimizer = torch.load(file, weights_only=True)
        other = network(seed=1)
        resumed = MBLSR1(other.parameters(), **(arguments | {"rng": 5}))
        if model_first:
            other.load_state_dict(of_model)
        resumed.load_state_dict(of_optimizer)
        if not model_first:
            other.load_state_dict(of_model)
        train(other, resumed, range(9, 18), whole)
        assert torch.equal(vector(other), vector(model))
        assert resumed.last_step == pytest.approx(optimizer.last_step, abs=0.0, rel=0.0, nan_ok=True)
        assert resumed.suggested_batch_size == optimizer.suggested_batch_size


def test_a_state_goes_to_other_dtypes():
    """What is of the parameters takes their dtype; the inner products on the host stay float64."""
    model, other = network(), network(torch.float64)
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    train(model, optimizer, range(8))
    resumed = MBLSR1(other.parameters(), batch_size=BATCH)
    resumed.load_state_dict(optimizer.state_dict())
    other.load_state_dict(model.state_dict())
    train(model, optimizer, range(8, 9))
    train(other, resumed, range(8, 9))
    assert next(other.parameters()).dtype == torch.float64
    assert resumed.state_dict()["mblsr1"]["inner"]["memory"]["rows"].dtype == torch.float64
    # the same step up to float32's rounding
    torch.testing.assert_close(vector(other).float(), vector(model), rtol=1e-3, atol=1e-4)


def test_a_model_that_changes_its_dtype_takes_the_state_along():
    model = network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    train(model, optimizer, range(5))
    model.double()
    train(model, optimizer, range(5, 6))
    assert optimizer.last_step["n_pairs"] == 6
    assert next(model.parameters()).dtype == torch.float64


def test_states_that_do_not_fit():
    model, other = network(), torch.nn.Linear(8, 3)
    optimizer, adam = MBLSR1(model.parameters(), batch_size=BATCH), torch.optim.Adam(model.parameters())
    train(model, optimizer, range(2))
    with pytest.raises(ValueError, match="state_dict: must be of an MBLSR1"):
        optimizer.load_state_dict(adam.state_dict())
    with pytest.raises(ValueError, match="doesn't match the size"):
        MBLSR1(other.parameters()).load_state_dict(optimizer.state_dict())
    swapped = MBLSR1(list(network().parameters())[::-1])
    with pytest.raises(ValueError, match="state_dict: must be of parameters of shapes"):
        swapped.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="memory=4"):
        MBLSR1(network().parameters(), memory=4).load_state_dict(optimizer.state_dict())


def test_a_state_before_the_first_step():
    model, wanted = network(), network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    optimizer.load_state_dict(MBLSR1(wanted.parameters()).state_dict())
    train(model, optimizer, range(3))
    train(wanted, MBLSR1(wanted.parameters(), batch_size=BATCH), range(3))
    assert torch.equal(vector(model), vector(wanted))


@pytest.mark.parametrize("back", [False, True])
def test_a_state_of_other_frozen_parameters_keeps_the_radius(back):
    """As a step after freezing or thawing does."""
    model, other = network(), network()
    optimizer, stepped = MBLSR1(model.parameters(), batch_size=BATCH), MBLSR1(other.parameters(), batch_size=BATCH)
    model[0].requires_grad_(not back)
    other[0].requires_grad_(not back)
    train(model, optimizer, range(6))
    train(other, stepped, range(6))
    saved, of_model = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
    model[0].requires_grad_(back)
    other[0].requires_grad_(back)
    optimizer.load_state_dict(optimizer.state_dict())
    model = network(seed=1)
    model[0].requires_grad_(back)
    resumed = MBLSR1(model.parameters(), batch_size=BATCH)
    resumed.load_state_dict(saved)
    model.load_state_dict(of_model)
    assert resumed.last_step == optimizer.last_step == stepped.last_step
    train(model, resumed, range(6, 9))
    train(other, stepped, range(6, 9))
    assert torch.equal(vector(model), vector(other))
    assert resumed.last_step == pytest.approx(stepped.last_step, abs=0.0, rel=0.0, nan_ok=True)
    assert resumed.last_step["n_pairs"] == 3


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (None, TypeError),
        (3, TypeError),
        ({}, ValueError),
        ({"mblsr1": 3}, ValueError),
        ({"state": {}, "param_groups": [], "mblsr1": 3}, ValueError),
    ],
)
def test_what_is_no_state_is_refused(broken, error):
    model = network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    with pytest.raises(error, match="state_dict: must be"):
        optimizer.load_state_dict(broken)


@pytest.mark.parametrize("change", [{"rng": {"bit_generator": "MT19937"}}, {"counts": {}}, {"noise": {}}, {"inner": 3}])
def test_a_state_that_is_refused_changes_nothing(change):
    """Neither one that was made with other options nor one that is broken."""
    model, other, wanted = network(), network(seed=2), network(seed=2)
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH, memory=20)
    small, same = (MBLSR1(m.parameters(), batch_size=BATCH, memory=3) for m in (other, wanted))
    train(model, optimizer, range(7))
    train(other, small, range(4))
    train(wanted, same, range(4))
    with pytest.raises(ValueError, match=r"state_dict: does not fit this optimizer: .*memory=3"):
        small.load_state_dict(optimizer.state_dict())
    saved = small.state_dict()
    saved["mblsr1"] = saved["mblsr1"] | change
    with pytest.raises(ValueError, match="state_dict: does not fit this optimizer"):
        small.load_state_dict(saved)
    assert small.last_step == pytest.approx(same.last_step, abs=0.0, rel=0.0, nan_ok=True)
    train(other, small, range(4, 8))
    train(wanted, same, range(4, 8))
    assert torch.equal(vector(other), vector(wanted))
    assert small.last_step == pytest.approx(same.last_step, abs=0.0, rel=0.0, nan_ok=True)


# Draws and statistics


class WithDraws(torch.nn.Module):
    """Batch norm and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6)
        self.drop, self.last = torch.nn.Dropout(0.4), torch.nn.Linear(6, 3)
        self.masks = []

    def forward(self, x):
        x = self.drop(torch.tanh(self.norm(self.first(x))) + 2.0)
        self.masks.append(x.detach() == 0)
        return self.last(x)


def test_dropout_draws_the_same_at_all_evaluations_of_a_step_and_anew_in_the_next():
    model = WithDraws()
    optimizer = MBLSR1(model.parameters(), model=model, batch_size=BATCH)
    for step in range(3):
        optimizer.step(closure_of(model, rows_of(step)))
    assert len(model.masks) == 6
    for i in (0, 2, 4):
        assert torch.equal(model.masks[i], model.masks[i + 1])
    assert not torch.equal(model.masks[0], model.masks[2])


def test_a_step_leaves_the_trace_of_one_evaluation_at_its_start():
    """Running statistics and random generator are those after one forward pass."""
    model, other = WithDraws(), WithDraws()
    optimizer = MBLSR1(model.parameters(), model=model, batch_size=BATCH)
    torch.manual_seed(5)
    for step in range(4):
        other.load_state_dict(model.state_dict())
        state = torch.get_rng_state()
        optimizer.step(closure_of(model, rows_of(step)))
        after = torch.get_rng_state()
        torch.set_rng_state(state)
        other(X[rows_of(step)])
        assert torch.equal(torch.get_rng_state(), after)
        for name, buffer in other.named_buffers():
            assert torch.equal(buffer, dict(model.named_buffers())[name]), name


def test_without_the_model_trial_points_enter_the_statistics():
    """What `model=` is for."""
    model = WithDraws()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    optimizer.step(closure_of(model, rows_of(0)))
    assert int(model.norm.num_batches_tracked) == 2


def test_on_the_whole_set_the_function_stays_the_same_and_the_statistics_follow_the_iterate():
    model = WithDraws()
    optimizer = MBLSR1(model.parameters(), model=model, batch_size=N, n_samples=N)
    for step in range(5):
        optimizer.step(closure_of(model))
        assert optimizer.last_step["alpha"] == 1.0
        assert int(model.norm.num_batches_tracked) == step + 1
    assert all(torch.equal(mask, model.masks[0]) for mask in model.masks)


def test_draws_on_the_whole_set_survive_a_checkpoint():
    arguments = {"batch_size": N, "n_samples": N}
    model = WithDraws()
    optimizer = MBLSR1(model.parameters(), model=model, **arguments)
    train(model, optimizer, range(3), whole=True)
    other = WithDraws()
    resumed = MBLSR1(other.parameters(), model=other, **arguments)
    resumed.load_state_dict(optimizer.state_dict())
    other.load_state_dict(model.state_dict())
    train(model, optimizer, range(3), whole=True)
    torch.manual_seed(99)
    train(other, resumed, range(3), whole=True)
    assert torch.equal(vector(other), vector(model))
    assert torch.equal(other.masks[-1], model.masks[0])


def test_frozen_statistics_leaves_no_trace():
    model = WithDraws()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), frozen_statistics(model):
        model(X)
        assert int(model.norm.num_batches_tracked) == 1
        _ = 1 / 0
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


# Batch sizes


def test_noise_suggests_twice_the_batch_and_no_more_until_the_caller_follows():
    """Labels that say nothing: the gradient is noise. A caller who ignores the suggestion gets no larger one."""
    torch.manual_seed(0)
    model, labels = torch.nn.Linear(8, 3), torch.randint(3, (N,))
    optimizer = MBLSR1(model.parameters(), batch_size=8, n_samples=100 * N)

    def step(number, size):
        rows = rows_of(number, size)

        def closure():
            loss = cross_entropy(model(X[rows]), labels[rows])
            loss.backward()
            return loss

        optimizer.step(closure, batch_size=size)

    for number in range(40):
        step(number, 8)
    assert optimizer.suggested_batch_size == 16
    assert optimizer.last_step["batch_size"] == 8
    assert (
        optimizer.check_progress(closure_of(model, slice(0, 50)), 50) == 16
    )  # a check that is passed takes nothing back
    for number in range(40, 80):
        step(number, 16)
    assert optimizer.suggested_batch_size == 32


@pytest.mark.parametrize(("largest_share", "suggested"), [(0.2, BATCH), (0.22, 2 * BATCH)])
def test_the_suggestion_stops_at_the_largest_share(largest_share, suggested):
    """A step has two batches, so twice as many are 128 of 600 samples."""
    model = network()
    optimizer = MBLSR1(
        model.parameters(), batch_size=BATCH, n_samples=N, largest_share=largest_share, noise_limit=1e-6
    )  # fmt: skip
    train(model, optimizer, range(20))
    assert optimizer.suggested_batch_size == suggested


def test_check_progress_is_algorithm_6():
    """The batch doubles where f(w) - f_K >= -gamma_1 + gamma_2 sum of R."""
    model = network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH, growth="progress", progress_fraction=0.5, check_every=4)
    fresh, reference, total = slice(0, 200), None, 0.0
    suggested = BATCH
    for step in range(24):
        if optimizer.check_due:
            before, loss = vector(model), float(loss_of(model, fresh).detach())
            if reference is not None and loss - reference >= 0.5 * total:
                suggested *= 2
            assert optimizer.check_progress(closure_of(model, fresh), 200) == suggested
            assert torch.equal(vector(model), before)
            assert not optimizer.check_due
            reference, total = loss, 0.0
        rows = rows_of(step, suggested)
        optimizer.step(closure_of(model, rows), batch_size=suggested)
        total += optimizer.last_step["decrease"]
    assert suggested > BATCH
    assert optimizer.check_size == -(-11 * suggested // 10)


def test_check_progress_at_both_iterates():
    """A check evaluates the iterate in hand, and that of the check before, on the same new sample."""
    model = network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH, growth="progress", check_both=True, check_every=3)
    seen, places = [], []
    for step in range(7):
        if optimizer.check_due:
            places.append(vector(model))
            optimizer.check_progress(closure_of(model, slice(0, 50), seen))
        train(model, optimizer, [step])
    for one, other in zip(seen, [places[0], places[1], places[0], places[2], places[1]], strict=True):
        assert torch.equal(one, other)


def test_check_progress_asks_for_values_alone_where_it_can():
    model, asked = network(), []
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)

    def closure(backward=True):
        asked.append(backward)
        return loss_of(model)

    optimizer.check_progress(closure, 30)
    train(model, optimizer, range(1))
    assert asked == [False]
    assert optimizer.last_step["n_samples"] == 2 * BATCH + 10


# Bad numbers and mistakes


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@settings
def test_a_batch_that_is_not_finite_moves_nothing(arguments, whole, bad):
    model = network()
    optimizer = MBLSR1(model.parameters(), **arguments)
    train(model, optimizer, range(4), whole)
    with torch.no_grad():
        model[0].bias.add_(0.0)  # counts as a change, so that the whole set is evaluated again
    before = vector(model)
    inner = closure_of(model, slice(None) if whole else rows_of(4))
    loss = optimizer.step(lambda: inner() * bad)
    assert not torch.isfinite(loss)
    assert torch.equal(vector(model), before)
    assert optimizer.last_step["alpha"] == 0.0
    train(model, optimizer, range(5, 9), whole)
    assert torch.isfinite(vector(model)).all()
    assert not torch.equal(vector(model), before)


@settings
def test_trial_points_that_are_not_finite_are_not_taken(arguments, whole):
    model = network()
    optimizer = MBLSR1(model.parameters(), **arguments)
    for step in range(6):
        inner, start = closure_of(model, slice(None) if whole else rows_of(step)), vector(model)

        def closure(inner=inner, start=start):
            return inner() * (1.0 if torch.equal(vector(model), start) else float("nan"))

        optimizer.step(closure)
        assert torch.equal(vector(model), start)


@settings
def test_an_exception_in_the_closure_leaves_the_start(arguments, whole):
    model = network()
    optimizer = MBLSR1(model.parameters(), **arguments)
    train(model, optimizer, range(4), whole)
    before = vector(model)
    inner = closure_of(model, slice(None) if whole else rows_of(4))

    def closure():
        loss = inner()
        if not torch.equal(vector(model), before):
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert torch.equal(vector(model), before)
    train(model, optimizer, range(5, 7), whole)
    assert torch.isfinite(vector(model)).all()
    assert not torch.equal(vector(model), before)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ([torch.ones(2, dtype=torch.complex64)], TypeError, "params: must be float32 or float64, got torch.complex64"),
        ([torch.ones(2).bfloat16()], TypeError, "got torch.bfloat16; use autocast"),
        ([torch.ones(2), torch.ones(2).double()], ValueError, "must have one dtype, got torch.float32, torch.float64"),
        ([torch.ones(2), torch.ones(2, device="meta")], ValueError, "params: must have one device, got cpu, meta"),
        ([{"params": [torch.ones(2)], "lr": 0.1}], ValueError, "a group must have params alone, got 'lr'"),
        ([torch.ones(2, 2).to_sparse()], TypeError, "params: must be dense"),
    ],
)
def test_parameters_that_are_refused(parameters, error, message):
    def leaf(p):
        return {**p, "params": [q.requires_grad_() for q in p["params"]]} if isinstance(p, dict) else p.requires_grad_()

    with pytest.raises(error, match=message):
        MBLSR1([leaf(p) for p in parameters])


def test_frozen_and_empty_parameters_may_be_of_any_kind_until_they_are_trained():
    model, head = network().half(), torch.nn.Linear(3, 3)
    model.requires_grad_(False)
    empty = torch.nn.Parameter(torch.ones(0, dtype=torch.bfloat16))
    optimizer = MBLSR1([*model.parameters(), *head.parameters(), empty], batch_size=BATCH)

    def closure():
        loss = cross_entropy(head(model(X.half()).float()), Y)
        loss.backward()
        return loss

    before = vector(head), vector(model)
    optimizer.step(closure)
    assert not torch.equal(vector(head), before[0])
    assert torch.equal(vector(model), before[1])
    model.requires_grad_(True)
    with pytest.raises(TypeError, match=r"params: must be float32 or float64, got torch.float16"):
        optimizer.step(closure)


def test_mistakes_that_are_named():
    lazy = torch.nn.LazyLinear(3)
    with pytest.raises(ValueError, match="params: must have a shape, got one of a lazy module"):
        MBLSR1(lazy.parameters())
    with pytest.raises(ValueError, match="params: must have a shape, got one of a lazy module"):
        adapter.minimize(lazy, mean_loss, 10)
    with pytest.raises(TypeError, match="param_group: must be a dict with 'params', got int"):
        MBLSR1(network().parameters()).add_param_group(3)
    with pytest.raises(TypeError, match=r"model: must be a torch\.nn\.Module, got int"), frozen_statistics(3):
        pass


def test_batch_norm_is_told_what_batch_it_needs():
    """A batch of 8 shares one sample, which has no variance; one of 12 shares two."""
    sampler = mblsr1.ArraySampler(X, Y)
    with pytest.raises(ValueError, match=r"batch_size: must be larger for batch norm.* a batch of 12"):
        adapter.minimize(WithDraws(), mean_loss, sampler, batch_size=11, max_steps=2)
    assert adapter.minimize(WithDraws(), mean_loss, sampler, batch_size=12, max_steps=2).nit == 2


def test_a_group_that_is_refused_is_not_kept():
    model = network()
    optimizer = MBLSR1(model.parameters(), batch_size=BATCH)
    with pytest.raises(ValueError, match="one dtype"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1).double())]})
    assert len(optimizer.param_groups) == 1
    train(model, optimizer, range(1))


def test_parameters_without_gradient_or_not_finite_are_refused_at_the_first_step():
    p = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    with pytest.raises(ValueError, match="params: one must require a gradient"):
        MBLSR1([p]).step(lambda: 0.0)
    with pytest.raises(ValueError, match="params: must be finite"):
        MBLSR1([torch.nn.Parameter(torch.tensor([float("nan")]))]).step(lambda: 0.0)


def test_sparse_gradients_are_refused_and_nothing_moves():
    table = torch.nn.Embedding(10, 3, sparse=True)
    before = vector(table)

    def closure():
        loss = table(torch.tensor([1, 2])).square().sum()
        loss.backward()
        return loss

    with pytest.raises(TypeError, match=r"gradient: must be dense, got torch.sparse_coo .* \(10, 3\)"):
        MBLSR1(table.parameters()).step(closure)
    assert torch.equal(vector(table), before)


@pytest.mark.parametrize("given", ["argument", "keyword"])
def test_a_gradient_scaler_is_refused(given):
    """Its gradients are those of another loss than the closure returns."""
    model = network()
    optimizer, scaler = MBLSR1(model.parameters(), batch_size=BATCH), torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model)).backward()
    before = vector(model)
    if given == "keyword":  # torch itself
        with pytest.raises(RuntimeError, match="Closure use is not currently supported"):
            scaler.step(optimizer, closure=closure_of(model))
    else:
        with pytest.raises(TypeError, match="GradScaler: must not be used with MBLSR1"):
            scaler.step(optimizer, closure_of(model))
    assert torch.equal(vector(model), before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"memory": -1}, ValueError, "memory: "),
        ({"memori": 1}, TypeError, "memori: unknown option"),
        ({"n_samples": 0}, ValueError, "n_samples: "),
        ({"n_samples": 1.5}, TypeError, "n_samples: "),
        ({"planned_samples": 0}, ValueError, "planned_samples: "),
        ({"blocks": [(2, 2)]}, TypeError, "blocks: must be True or False"),
        ({"averaging": 0.5}, ValueError, "averaging: is left to your own loop"),
        ({"steps_per_batch": 2}, ValueError, "steps_per_batch: is left to your own loop"),
        ({"rng": -1}, ValueError, "rng: "),
        ({"model": 3}, TypeError, "model: "),
        ({"model": torch.nn.Linear(2, 2)}, ValueError, "model: must be the module of these parameters, got a Linear"),
    ],
)
def test_arguments_that_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MBLSR1(network().parameters(), **arguments)


@pytest.mark.parametrize(
    ("closure", "message"),
    [
        (None, "closure: must be a function"),
        (lambda: None, "closure: must return the loss, one real number, got None"),
        (lambda: torch.ones(2), r"closure: must return the loss.* got a tensor of torch.float32 and shape \(2,\)"),
        (lambda: 1j, "closure: must return the loss"),
        (lambda: True, "closure: must return the loss, one real number, got True"),
        (lambda: torch.tensor(True), r"closure: must return the loss.* got a tensor of torch.bool and shape \(\)"),
        (lambda backward: None, "closure: must be callable without arguments, got one that needs backward; give"),
    ],
)
def test_closures_that_are_refused(closure, message):
    optimizer = MBLSR1(network().parameters())
    for method in (optimizer.step, optimizer.check_progress):
        with pytest.raises(TypeError, match=message):
            method(closure)
        with pytest.raises(ValueError, match="batch_size: "):
            method(lambda: 0.0, batch_size=0)


@pytest.mark.parametrize("arguments", [{}, {"n_samples": N, "batch_size": N}], ids=["samples", "whole set"])
def test_a_loss_without_backward_is_refused_and_nothing_moves(arguments):
    """At the first step and at any other; one that is not finite needs no backward pass, nor does a check."""
    model = network()
    optimizer = MBLSR1(model.parameters(), **arguments)
    for steps in (0, 3):
        train(model, optimizer, range(steps), whole=True)
        before, counts = vector(model), optimizer.last_step
        known = loss_of(model)
        known.backward()
        for closure in (lambda: loss_of(model), lambda known=known: known, lambda: 1.0):
            with pytest.raises(ValueError, match=r"closure: must call backward\(\) on the loss"):
                optimizer.step(closure)
            assert torch.equal(vector(model), before)
            assert optimizer.last_step == counts
        optimizer.check_progress(lambda: loss_of(model))
    with torch.no_grad():
        model[0].bias.add_(0.0)  # counts as a change, so that the whole set is evaluated again
    optimizer.step(lambda: torch.tensor(torch.nan))
    assert torch.equal(vector(model), before)


@pytest.mark.parametrize("way", ["data", "part", "frozen", "between steps"])
def test_parameters_that_share_memory_are_refused(way):
    """As parts of one vector they would no longer be the same. Whole parameters are tied by being one."""
    one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def tie():
        two.weight.data = one.weight.data[:2] if way == "part" else one.weight.data

    def closure():
        loss = two(torch.tanh(one(torch.ones(3, 4)))).square().mean()
        loss.backward()
        return loss

    if way == "between steps":
        optimizer = MBLSR1([*one.parameters(), *two.parameters()])
        optimizer.step(closure)
        tie()
        with pytest.raises(ValueError, match="params: must have memory of their own"):
            optimizer.step(closure)
        return
    tie()
    if way == "frozen":
        two.weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"params: must have memory of their own.* of shape \((4|2), 4\)"):
        MBLSR1([*one.parameters(), *two.parameters()])
    with pytest.raises(ValueError, match="params: must have memory of their own"):
        adapter.minimize(torch.nn.ModuleList([one, two]), lambda model: closure())


def test_columns_of_one_memory_are_not_shared():
    memory = torch.arange(12.0).reshape(3, 4)
    left, right = torch.nn.Parameter(torch.ones(0)), torch.nn.Parameter(torch.ones(0))
    left.data, right.data = memory[:, :2], memory[:, 2:]

    def closure():
        loss = left.square().sum() + (right - 1.0).square().sum()
        loss.backward()
        return loss

    optimizer = MBLSR1([left, right], n_samples=1, batch_size=1)
    for _ in range(20):
        optimizer.step(closure)
    torch.testing.assert_close(memory, torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 3), rtol=0, atol=1e-4)


def test_a_scheduler_is_told_why_there_is_no_learning_rate():
    loaded = MBLSR1(network().parameters())
    loaded.load_state_dict(MBLSR1(network().parameters()).state_dict())
    for optimizer in (MBLSR1(network().parameters()), loaded):
        with pytest.raises(KeyError, match="MBLSR1 has no learning rate for a scheduler to change"):
            torch.optim.lr_scheduler.StepLR(optimizer, 1)
        for scheduler, arguments in (
            (torch.optim.lr_scheduler.OneCycleLR, {"max_lr": 1.0, "total_steps": 9, "cycle_momentum": False}),
            (torch.optim.swa_utils.SWALR, {"swa_lr": 0.1}),
        ):
            with pytest.raises(ValueError, match="MBLSR1 has no learning rate for a scheduler to change"):
                scheduler(optimizer, **arguments)
        group = optimizer.param_groups[0]
        with pytest.raises(ValueError, match="param_groups: must have no learning rate, got 'lr'"):
            group["lr"] = 0.1
        with pytest.raises(ValueError, match="param_groups: must have no learning rate, got 'initial_lr'"):
            group.setdefault("initial_lr", 0.1)
        assert list(group) == ["params"]
        assert group.setdefault("params", None) is group["params"]


def test_an_optimizer_is_not_copied():
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.deepcopy(MBLSR1(network().parameters()))


# Whole runs


def mean_loss(model, batch):
    rows, labels = batch
    return cross_entropy(model(rows), labels)


@pytest.mark.parametrize("blocks", [False, True])
def test_minimize_is_that_of_the_vector_bit_for_bit(blocks):
    model, other = network(), network()
    sampler = mblsr1.ArraySampler(X, Y)
    given = {"batch_size": BATCH, "max_samples": 40 * BATCH, "rng": 0}
    known = {"blocks": [tuple(p.shape) for p in model.parameters()]} if blocks else {}
    result = adapter.minimize(model, mean_loss, sampler, blocks=blocks, **given)

    def fun(w, batch):
        torch.nn.utils.vector_to_parameters(w.clone(), other.parameters())
        other.zero_grad()
        loss = mean_loss(other, batch)
        loss.backward()
        return loss, torch.cat([p.grad.reshape(-1) for p in other.parameters()])

    wanted = mblsr1.minimize(fun, True, vector(other), sampler, **given, **known)
    assert torch.equal(result.x, wanted.x)
    assert result.history["loss"] == wanted.history["loss"]
    assert torch.equal(vector(model), result.x)
    assert all(p.untyped_storage().nbytes() == 4 * p.numel() for p in model.parameters())


def test_minimize_continues():
    given = {"batch_size": BATCH, "rng": 0, "gtol": 0.0}
    sampler, model, whole = mblsr1.ArraySampler(X, Y), network(), network()
    first = adapter.minimize(model, mean_loss, sampler, max_steps=5, **given)
    second = adapter.minimize(model, mean_loss, sampler, max_steps=5, state=first.state, **given)
    assert torch.equal(second.x, adapter.minimize(whole, mean_loss, sampler, max_steps=10, **given).x)


def test_minimize_with_a_data_loader():
    data = torch.utils.data.TensorDataset(X, Y)
    loader = torch.utils.data.DataLoader(data, batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(0))
    model = network()
    before = float(loss_of(model).detach())
    result = adapter.minimize(model, mean_loss, loader, batch_size=BATCH, max_samples=60 * BATCH)
    assert float(loss_of(model).detach()) < 0.7 * before
    assert result.n_samples <= 60 * BATCH


def test_minimize_without_a_sampler_converges():
    model = network(torch.float64)

    def loss(model):
        return loss_of(model) + 1e-2 * sum((p * p).sum() for p in model.parameters())

    assert adapter.minimize(model, loss, gtol=1e-6).success
    model.zero_grad()
    loss(model).backward()
    assert float(torch.cat([p.grad.reshape(-1) for p in model.parameters()]).norm()) <= 1e-6


def test_minimize_holds_draws_and_statistics():
    """Each part of a batch is evaluated with draws of its own; the shared part, evaluated again, repeats them."""
    model, seen = WithDraws(), []

    def loss(model, batch):
        value = mean_loss(model, batch)
        seen.append((batch, model.masks[-1]))
        return value

    result = adapter.minimize(
        model, loss, mblsr1.ArraySampler(X, Y), batch_size=BATCH, max_steps=6, rng=0, largest_share=1e-9
    )
    assert result.nit == 6
    parts = {id(batch): [mask for other, mask in seen if other is batch] for batch, _ in seen}
    assert sorted(map(len, parts.values())) == [1] * 6 + [2] * 6
    assert all(torch.equal(masks[0], masks[-1]) for masks in parts.values())
    assert len({int(masks[0].sum()) for masks in parts.values()}) > 1
    assert int(model.norm.num_batches_tracked) == len(parts)


class InParts(mblsr1.ArraySampler):
    """The whole set in more parts than a step has batches."""

    def chunks(self, size):
        return super().chunks(100)


#: Sizes of samples that are of no step.
CHECKS = 50, 100, N


def unlike_on_checks(model, batch):
    """A steep loss where the exit is checked, so that no check is passed."""
    return mean_loss(model, batch) * (1e3 if len(batch[0]) in CHECKS[1:] else 1.0)


@pytest.mark.parametrize(
    "given",
    [
        {"sampler": InParts(X, Y), "gtol": 10.0, "check_every": 1},
        {"sampler": mblsr1.StreamSampler(lambda size, rng: (X[:size], Y[:size])), "gtol": 10.0, "check_every": 1},
        {"sampler": mblsr1.ArraySampler(X, Y), "options": Options.paper(check_every=1, check_size=50)},
        {"sampler": mblsr1.ArraySampler(X, Y), "options": Options.paper(check_every=1, check_size=50, check_both=True)},
        {"sampler": InParts(X, Y), "method": mblsr1.svrg(0.1)},
    ],
    ids=["exit check", "on a stream", "progress check", "progress check on both", "svrg"],
)
def test_checks_leave_no_trace_in_draws_and_statistics(given):
    """All evaluations of a batch have its mask, and the statistics are those of the steps' batches alone."""
    model, seen = WithDraws(), []

    def loss(model, batch):
        value = unlike_on_checks(model, batch)
        seen.append((batch, model.masks[-1]))
        return value

    result = adapter.minimize(model, loss, **given, batch_size=BATCH, max_steps=4, rng=0)
    assert result.nit == 4
    masks = {id(batch): [mask for other, mask in seen if other is batch] for batch, _ in seen}
    of_steps = {id(batch) for batch, _ in seen if len(batch[0]) not in CHECKS}
    assert 4 <= len(of_steps) < len(masks)
    assert any(len(same) > 1 for same in masks.values())
    for same in masks.values():
        assert all(torch.equal(mask, same[0]) for mask in same)
    assert int(model.norm.num_batches_tracked) == len(of_steps)


def test_a_check_that_is_not_passed_changes_no_bit_of_a_run_with_dropout():
    runs = []
    for gtol in (0.0, 10.0):
        model = WithDraws()
        given = {"batch_size": BATCH, "max_steps": 8, "rng": 0, "check_every": 1, "gtol": gtol}
        result = adapter.minimize(model, unlike_on_checks, InParts(X, Y), **given)
        runs.append((result.x, model.norm.running_mean, result.n_samples))
    assert runs[0][2] < runs[1][2]
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])


def test_minimize_on_the_whole_set_lets_the_statistics_follow_the_iterate():
    model = WithDraws()
    result = adapter.minimize(model, loss_of, max_steps=5)
    moved = sum(alpha > 0 for alpha in result.history["alpha"])
    assert moved >= 4
    assert int(model.norm.num_batches_tracked) == moved  # the first step evaluates its start, whose statistics stay


def test_minimize_leaves_the_last_iterate_where_something_is_raised():
    model, seen = network(), []

    def callback(step):
        seen.append(step.x.clone())
        if len(seen) == 3:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        adapter.minimize(model, mean_loss, mblsr1.ArraySampler(X, Y), batch_size=BATCH, callback=callback)
    assert torch.equal(vector(model), seen[-1])


def test_minimize_takes_a_callback_that_stops_and_refuses_what_it_cannot_train():
    model = network()
    result = adapter.minimize(model, mean_loss, mblsr1.ArraySampler(X, Y), callback=lambda step: step.step >= 2)
    assert (result.nit, result.status) == (2, 3)
    with pytest.raises(ValueError, match="model: one parameter must require a gradient"):
        adapter.minimize(network().requires_grad_(False), mean_loss, 10)
    with pytest.raises(TypeError, match="loss: must return the loss"):
        adapter.minimize(model, lambda model, batch: model(X), mblsr1.ArraySampler(X, Y))
    with pytest.raises(TypeError, match="model: must be a torch"):
        adapter.minimize(model.parameters(), mean_loss, 10)
    with pytest.raises(TypeError, match="loss: must be a function"):
        adapter.minimize(model, None, 10)
    with pytest.raises(TypeError, match="callback: must be None or a callable, got int"):
        adapter.minimize(model, mean_loss, 10, callback=3)
    with pytest.raises(TypeError, match="blocks: must be True or False, got None"):
        adapter.minimize(model, mean_loss, 10, blocks=None)
    assert torch.equal(vector(model), result.x)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (lambda loss: loss.item(), TypeError, "loss: must return a tensor that autograd can differentiate, got 0."),
        (lambda loss: loss.detach(), TypeError, r"loss: must return a tensor that .* got tensor\(0."),
        (lambda loss: torch.ones((), requires_grad=True), ValueError, "loss: must depend on the model's parameters"),
    ],
)
def test_a_loss_without_gradients_is_refused(value, error, message):
    model = network()
    before = vector(model)
    with pytest.raises(error, match=message):
        adapter.minimize(model, lambda model: value(loss_of(model)))
    assert torch.equal(vector(model), before)


def test_minimize_with_another_method():
    """SGD of the package on a module is torch's."""
    model, other = network(), network()
    sampler = Given([rows_of(step) for step in range(20)])
    adapter.minimize(model, loss_of, sampler, method=mblsr1.sgd(0.1, 0.9), max_steps=8, batch_size=BATCH)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    for step in range(8):
        closure_of(other, rows_of(step))()
        optimizer.step()
    torch.testing.assert_close(vector(model), vector(other), rtol=1e-5, atol=1e-6)


def test_the_examples_in_the_docstrings():
    names = [f"mblsr1.torch.{m.name}" for m in pkgutil.iter_modules(adapter.__path__)]
    results = [doctest.testmod(importlib.import_module(name)) for name in ["mblsr1.torch", *names]]
    assert sum(r.failed for r in results) == 0
    assert sum(r.attempted for r in results) >= 10


# Lightning


def lightning_model(lightning, automatic):
    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.automatic_optimization = network(), automatic

        def training_step(self, batch, _):
            if automatic:
                return mean_loss(self.network, batch)
            optimizer = self.optimizers()

            def closure():
                optimizer.zero_grad()
                loss = mean_loss(self.network, batch)
                self.manual_backward(loss)
                return loss

            optimizer.step(closure)
            return None

        def configure_optimizers(self):
            return MBLSR1(self.parameters(), model=self, batch_size=BATCH, n_samples=N)

    return Model()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("automatic", [True, False])
def test_lightning(automatic, tmp_path):
    """The steps are those of a plain loop over the same loader, and go on from Lightning's checkpoint."""
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    def loader():
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=BATCH, drop_last=True)

    def trainer(epochs):
        return lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, default_root_dir=tmp_path,
        )  # fmt: skip

    model, plain, resumed = lightning_model(lightning, automatic), network(), lightning_model(lightning, automatic)
    first = trainer(1)
    first.fit(model, loader())
    first.save_checkpoint(tmp_path / "one.ckpt")
    optimizer = MBLSR1(plain.parameters(), batch_size=BATCH, n_samples=N)
    for epoch in range(2):
        for batch in loader():

            def closure(batch=batch):
                optimizer.zero_grad()
                loss = mean_loss(plain, batch)
                loss.backward()
                return loss

            optimizer.step(closure)
        if epoch == 0:
            assert torch.equal(vector(model.network), vector(plain))
    trainer(2).fit(resumed, loader(), ckpt_path=tmp_path / "one.ckpt")
    assert torch.equal(vector(resumed.network), vector(plain))
