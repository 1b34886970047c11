"""e-prop in the blocks of SNN-DT: its gradients against traces forward in time, and against BPTT where it is exact."""

from __future__ import annotations

import dataclasses
import itertools
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snn_dt.config import EpropConfig, config_from_dict
from snn_dt.errors import ConfigError
from snn_dt.experimental.analysis.jacobian import linearise
from snn_dt.experimental.local_learning.eprop_blocks import same_step, use_eprop
from snn_dt.learning.losses import action_loss
from snn_dt.models.layers import MaskedSequential, SpikeLinear
from snn_dt.snn import TimedLIF
from snn_dt.snn.variants import rest, step
from tests.conftest import CONTINUOUS, DISCRETE, TINY, make_batch, make_model, run
from tests.runs import left_behind, resume, stop_at_update, train

SPIKES = dataclasses.replace(TINY, coding="spikes", surrogate_slope=3.0, tau_mem=4.0)
NEURONS = list(itertools.product(["hard", "soft", "none"], [True, False]))
T, B, L, D, N = 7, 2, 3, 6, 5


def model_of(task=DISCRETE, **changes):
    return make_model(dataclasses.replace(SPIKES, **changes), task).double()


def batch_of(task=DISCRETE):
    batch = make_batch(task)
    double = {name: getattr(batch, name).double() for name in ("rtg", "states")}
    actions = batch.actions if task.discrete else batch.actions.double()
    return dataclasses.replace(batch, actions=actions, **double)


def gradients(model, task=DISCRETE):
    """Predictions, and the gradient of every parameter that has one."""
    model.zero_grad(set_to_none=True)
    batch = batch_of(task)
    predictions = run(model, batch)
    action_loss(predictions, batch.actions, batch.attention_mask)[0].backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return predictions, found


def both(config=EpropConfig(), task=DISCRETE, **changes):  # noqa: B008
    """Gradients of BPTT and of e-prop; the predictions are the same bit for bit."""
    model = model_of(task, **changes)
    before, bptt = gradients(model, task)
    undo = use_eprop(model, config)
    after, eprop = gradients(model, task)
    assert torch.equal(before, after)
    undo()
    assert all(torch.equal(gradients(model, task)[1][name], g) for name, g in bptt.items())
    return bptt, eprop


def assert_exact(bptt, eprop, names):
    for name in names:
        size = bptt[name].abs().max()
        assert size > 1e-7, name
        assert (bptt[name] - eprop[name]).abs().max() <= 1e-12 * size, name


@pytest.mark.parametrize(("reset", "detach"), NEURONS)
def test_a_layer_learns_and_hands_down_what_traces_forward_in_time_say(reset, detach):
    """The traces are those of the neurons' own Jacobians, an independent way to the same numbers."""
    torch.manual_seed(0)
    neurons = TimedLIF(T, tau_mem=3.0, c_m=1.5, v_rest=-0.1, reset=reset, detach_reset=detach, surrogate_slope=2.0)
    model = nn.Module()
    model.blocks = nn.ModuleList([nn.Module()])
    block = model.blocks[0]
    block.chain = chain = MaskedSequential(SpikeLinear(D, N, T), neurons)
    block.attention = nn.Module()
    block.attention.lif_in = block.attention.lif_out = nn.Identity()
    model.embedding, model.phase_gate = nn.Identity(), None
    model.double()
    use_eprop(model, EpropConfig())
    x = (torch.rand(T, B, L, D) < 0.5).double().requires_grad_()
    spikes, signal_ = chain(x, torch.ones(B, L, dtype=torch.bool)), torch.randn(T, B, L, N, dtype=torch.float64)
    assert 0.1 < spikes.mean() < 0.9
    (spikes * signal_).sum().backward()

    weight, p = chain[0].weight.detach(), neurons.constants
    state, eps, grad_weight, grad_x = rest(spikes[0].detach(), p), torch.zeros(B, L, N, D).double(), 0.0, []
    for t in range(T):
        current, inputs = F.linear(x[t].detach(), weight, chain[0].bias.detach()), x[t].detach().unsqueeze(-2)
        now = linearise(current, state, p, neurons.neuron.leak, neurons.neuron.v_threshold)
        e = now.spike * eps + now.spike_by_current.unsqueeze(-1) * inputs
        grad_weight += (signal_[t].unsqueeze(-1) * e).sum((0, 1))
        grad_x.append((signal_[t] * now.spike_by_current) @ weight)
        eps = now.state[..., 0] * eps + now.grad_current * inputs
        s, state = step(current, state, p, neurons.neuron.leak, neurons.neuron.v_threshold)
        assert torch.equal(s, spikes[t].detach())
    torch.testing.assert_close(chain[0].weight.grad, grad_weight, rtol=0, atol=1e-12 * grad_weight.abs().max().item())
    torch.testing.assert_close(x.grad, torch.stack(grad_x), rtol=0, atol=1e-12)


def test_the_surrogate_of_a_step_is_the_one_worked_by_hand():
    """Hard reset, no leak, k = 2: h = 0.6, 1.2 (fires), 0.6; psi = 1 / (1 + 2 |h - 1|)^2."""
    neurons = TimedLIF(3, tau_mem=1e9, surrogate_slope=2.0)
    found = same_step(torch.full((3, 1), 0.6), neurons)
    assert found.flatten().tolist() == pytest.approx([1 / 1.8**2, 1 / 1.4**2, 1 / 1.8**2], rel=1e-5)


EXACT = ("head.weight", "head.bias", "norm.weight", "norm.bias", "mlp.4.weight", "mlp.1.weight", "mlp.2.norm.weight")


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_eprop_is_bptt_in_the_head_and_in_the_last_layers_of_the_last_block(task, n_layers):
    bptt, eprop = both(task=task, n_layers=n_layers)
    names = [name for name in bptt if name in EXACT or name.removeprefix(f"blocks.{n_layers - 1}.") in EXACT]
    assert len(names) == 7
    assert_exact(bptt, eprop, names)


@pytest.mark.parametrize("name", ["mlp.0.norm.weight", "attention.out.weight", "attention.query.0.weight"])
def test_eprop_is_near_bptt_but_not_bptt_below_neurons_that_read_spikes(name):
    bptt, eprop = (g[f"blocks.1.{name}"].flatten() for g in both())
    cosine = F.cosine_similarity(bptt, eprop, dim=0)
    assert 0.9 < cosine < 1 - 1e-6


@pytest.mark.parametrize("below", ["bptt", "eprop"])
@pytest.mark.parametrize("changes", [{"coding": "rate"}, {"sim_steps": 1}], ids=["rate", "one step"])
def test_eprop_is_bptt_everywhere_where_no_layer_reads_a_train_of_spikes(changes, below):
    bptt, eprop = both(EpropConfig(below=below), **changes)
    assert bptt.keys() == eprop.keys()
    assert_exact(bptt, eprop, [name for name in bptt if not name.endswith("key.0.bias")])


def test_eprop_in_all_blocks_reaches_further_down_than_in_the_last():
    bptt, last = both()
    _, everywhere = both(EpropConfig(below="eprop"))
    for name in bptt:
        if name.startswith("blocks.1") or name.startswith(("head", "norm")):
            assert torch.equal(last[name], everywhere[name]), name
    names = [f"blocks.0.{part}" for part in ("mlp.0.norm.weight", "attention.out.weight", "attention.value.0.weight")]
    for name in names:
        g = bptt[name].flatten()
        cosines = [F.cosine_similarity(g, found[name].flatten(), dim=0) for found in (last, everywhere)]
        assert 0.8 < cosines[1] < 1 - 1e-6
        assert not torch.equal(last[name], everywhere[name])


def test_random_feedback_leaves_the_head_its_own_gradient_and_no_other_layer():
    bptt, eprop = both(EpropConfig(feedback="random"), coding="rate")
    assert_exact(bptt, eprop, ["head.weight", "head.bias"])
    for name in bptt:
        if not name.startswith("head"):
            assert (bptt[name] - eprop[name]).abs().max() > 0.05 * bptt[name].abs().max(), name


def test_random_feedback_is_the_same_for_a_seed_and_symmetric_if_it_happens_to_be():
    model = model_of()
    found = []
    for seed in (1, 1, 2):
        undo = use_eprop(model, EpropConfig(feedback="random"), seed)
        found.append(gradients(model)[1]["norm.weight"])
        undo()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    with torch.no_grad():  # the weights that seed 1 draws: then random is symmetric
        generator, bound = torch.Generator().manual_seed(1), model.head.in_features**-0.5
        drawn = torch.empty(model.head.weight.shape).uniform_(-bound, bound, generator=generator)
        model.head.weight.copy_(drawn)
    symmetric = gradients(model)[1]
    use_eprop(model, EpropConfig(feedback="random"), 1)
    assert_exact(symmetric, gradients(model)[1], ["norm.weight", "blocks.1.mlp.4.weight"])


def test_frozen_blocks_have_no_gradient_and_the_last_has_that_of_eprop():
    _, frozen = both(EpropConfig(below="frozen"))
    _, free = both()
    assert {name.split(".")[0] for name in frozen} == {"blocks", "norm", "head"}
    assert {name.split(".")[1] for name in frozen if name.startswith("blocks")} == {"1"}
    assert_exact(free, frozen, [name for name in frozen if not name.endswith("key.0.bias")])


RULE = {"model__kind": "snn_dt", "model__n_layers": 2, "model__coding": "spikes", "train__rule": "eprop"}


@pytest.mark.slow
def test_a_run_with_random_feedback_is_resumed_bit_for_bit(tmp_path, monkeypatch):
    changes = RULE | {"train__eprop__feedback": "random", "train__eprop__below": "eprop"}
    assert train(tmp_path / "whole", **changes) == 0
    stop_at_update(monkeypatch, 7)
    assert train(tmp_path / "run", **changes) == 128 + signal.SIGTERM
    assert resume(tmp_path / "run") == 0
    assert left_behind(tmp_path / "run") == left_behind(tmp_path / "whole")


@pytest.mark.slow
def test_training_follows_the_rule_and_bptt_is_what_it_was(tmp_path):
    quiet = RULE | {"eval__episodes": 0}
    rules = {
        "bptt": {"train__rule": "bptt"},
        "off": {"train__rule": "bptt", "train__eprop__feedback": "random"},
        "eprop": {},
        "frozen": {"train__eprop__below": "frozen"},
    }
    weights = {}
    for name, rule in rules.items():
        assert train(tmp_path / name, **quiet | rule) == 0
        weights[name] = left_behind(tmp_path / name)["weights"]["last"]
    assert weights["off"] == weights["bptt"]
    assert weights["eprop"] != weights["bptt"]
    first = make_untrained(tmp_path / "none", quiet | rules["frozen"])
    # the latest timestep that positions have seen is no weight, and every update may move it
    moved = {
        name for name, value in weights["frozen"].items() if value != first[name] and name.split(".")[-1] != "last"
    }
    assert moved
    assert all(name.startswith(("blocks.1.", "norm.", "head.")) for name in moved)
    assert weights["frozen"]["embedding.rtg.weight"] == first["embedding.rtg.weight"]


def make_untrained(run_dir, changes):
    """The weights that a run begins with: those of one update without a learning rate to speak of."""
    assert train(run_dir, **changes | {"train__steps": 1, "train__learning_rate": 1e-30}) == 0
    return left_behind(run_dir)["weights"]["last"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"kind": "dense"}}, "train.rule: expected bptt for dense, found eprop"),
        ({"model": {"kind": "snn_dt_stream"}}, "train.rule: expected bptt for snn_dt_stream"),
        ({"train": {"budget": {"mean_firing_rate": 0.1}}}, "train.rule: expected bptt with a limit in train.budget"),
        ({"train": {"compile": True}}, "train.compile: expected false for eprop and plasticity"),
    ],
    ids=["dense", "stream", "budget", "compile"],
)
def test_what_eprop_is_not_for_is_refused(changes, message):
    with pytest.raises(ConfigError) as error:
        config_from_dict({**changes, "train": {"rule": "eprop", **changes.get("train", {})}})
    assert message in str(error.value)
