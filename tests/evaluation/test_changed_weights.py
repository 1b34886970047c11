"""A policy decides with the weights that its model has, however they were written, and can be copied while it runs."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from snn_dt.evaluation.decide import make_decider
from snn_dt.models.layers import SpikeLinear
from snn_dt.models.stream_fused import knows_step
from snn_dt.rule_config import PlasticityConfig
from snn_dt.snn import LIF, RateLIF, TokenLIF
from snn_dt.snn.backends import backend_for
from tests.conftest import CONTINUOUS, VARIANTS, make_model
from tests.models.test_stream import CONFIG
from tests.policies import make_policy

ACTIONS = gym.spaces.Box(np.float32([-2, -1]), np.float32([2, 3]))
OBSERVATIONS = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
FUSED = ("dense", "snn_dt", "snn_dt-routing", "snn_dt_stream", "dense-span", "snn_dt-span")
WATCHED = ("dense-span", "snn_dt-span")
"""Kinds whose fast way reads copies of the weights."""


def others(model):
    return {name: torch.randn_like(p) * 0.3 for name, p in model.named_parameters()}


def data_copy(model):
    for name, new in others(model).items():
        model.get_parameter(name).data.copy_(new)


def data_assigned(model):
    for name, new in others(model).items():
        model.get_parameter(name).data = new


def no_grad_copy(model):
    with torch.no_grad():
        for name, new in others(model).items():
            model.get_parameter(name).copy_(new)


def loaded(model):
    model.load_state_dict(model.state_dict() | others(model))


def optimized(model):
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    torch.optim.AdamW(model.parameters(), lr=0.3).step()


def one_row_through_numpy(model):
    weight = next(m for m in model.blocks.modules() if isinstance(m, nn.Linear)).weight
    weight.detach().numpy()[3] = 5.0


def every_sign_turned(model):
    for p in model.blocks.parameters():
        p.data.neg_()


def another_parameter(model):
    layer = next(m for m in model.blocks.modules() if isinstance(m, nn.Linear))
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))


def another_module(model):
    for m in list(model.blocks.modules()):
        for name, child in m.named_children():
            if type(child) is nn.LayerNorm:
                new = nn.LayerNorm(child.normalized_shape, eps=0.7)
                setattr(m, name, new.eval())


def another_epsilon(model):
    for m in model.modules():
        if isinstance(m, nn.LayerNorm):
            m.eps = 0.9


def another_constant(model):
    for m in model.modules():
        if isinstance(m, LIF):
            m.constants = dataclasses.replace(m.constants, tau_mem=1.3, v_threshold=0.4)


def an_adaptive_threshold(model):
    for m in model.modules():
        if isinstance(m, LIF):
            m.constants = dataclasses.replace(m.constants, threshold_adaptation=2.0)


WRITES = [
    data_copy, data_assigned, no_grad_copy, loaded, optimized, one_row_through_numpy, every_sign_turned,
    another_parameter, another_module, another_epsilon, another_constant, an_adaptive_threshold,
]  # fmt: skip


def play(policy, observations) -> np.ndarray:
    actions = []
    for observation in observations:
        actions.append(policy.act(observation))
        policy.observe(0.5)
    return np.array(actions)


@pytest.mark.parametrize("write", WRITES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", FUSED)
def test_weights_and_constants_that_change_between_two_decisions_are_used_at_once_and_together(kind, write):
    policy = make_policy(action_space=ACTIONS, kind=kind)
    policy.reset(5.0)
    before = play(policy, OBSERVATIONS[:6])
    assert np.isfinite(before).all()
    kept = copy.deepcopy(policy)
    torch.manual_seed(3)
    write(policy.model)
    torch.manual_seed(3)
    write(kept.model)
    if kind in WATCHED and write is one_row_through_numpy:  # past torch, and a small part: used from the next reset on
        policy.reset(5.0)
        kept.reset(5.0)
    with kept.through_modules():
        found, expected = policy.act(OBSERVATIONS[6]), kept.act(OBSERVATIONS[6])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if write in (data_copy, data_assigned, no_grad_copy, loaded, optimized):  # the others may move no action
        unchanged = make_policy(action_space=ACTIONS, kind=kind)
        unchanged.reset(5.0)
        assert not np.allclose(found, play(unchanged, OBSERVATIONS[:7])[-1], atol=1e-4)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("kind", sorted(set(VARIANTS) - {"snn_dt-rate-head"}))
def test_a_copy_of_a_running_policy_goes_on_as_the_policy_does_and_shares_nothing(kind, learns, way):
    policy = make_policy(action_space=ACTIONS, kind=kind)
    policy.adapt(PlasticityConfig(eta=0.01) if learns else None)
    policy.reset(5.0)
    play(policy, OBSERVATIONS[:9])
    other = way(policy)
    for p in policy.model.parameters():
        assert all(p.data_ptr() != q.data_ptr() for q in other.model.parameters())
    third = way(other)
    expected = play(policy, OBSERVATIONS[9:])
    data_copy(policy.model)  # is nothing to the copies
    np.testing.assert_array_equal(play(other, OBSERVATIONS[9:]), expected)
    np.testing.assert_array_equal(play(third, OBSERVATIONS[9:]), expected)


class Loud(TokenLIF):
    """A neuron of a user's own."""

    def forward(self, current, real, v_mem):
        return super().forward(3 * current, real, v_mem)


def learned(block):
    block.lif_mlp = TokenLIF(32, learnable=("tau_mem",), neurons=32).eval()
    with torch.no_grad():
        block.lif_mlp.neuron.raw_leak.copy_(torch.linspace(-3, 3, 32))


def slower(block):
    block.lif_out.constants = dataclasses.replace(block.lif_out.constants, tau_mem=9.0)


def adaptive(block):
    block.lif_in = TokenLIF(32, current_adaptation=0.5).eval()


def subclass(block):
    block.lif_hidden = Loud().eval()


def own_forward(block):
    call = block.mlp_in.forward
    block.mlp_in.forward = lambda s: 2 * call(s)


def in_training(block):
    block.dropout = nn.Dropout(0.5).train()


class Half(SpikeLinear):
    """A layer of a user's own."""

    def forward(self, s):
        return super().forward(s) / 2


def own_layer(block):
    new = Half(32, 32, 1).eval()
    new.load_state_dict(block.out.state_dict())
    block.out = new


@pytest.mark.skipif(backend_for("cpu") != "cpp", reason="no C++ compiler, or another kernel is set")
@pytest.mark.parametrize(
    "change", [learned, slower, adaptive, subclass, own_forward, in_training, own_layer], ids=lambda f: f.__name__
)
@torch.inference_mode()
def test_a_fused_step_refuses_layers_that_it_does_not_know(change):
    model = make_model(CONFIG, CONTINUOUS)
    decide, state, generator = make_decider(model), model.rest(3), torch.Generator().manual_seed(0)
    assert decide.way == "cpp"
    _, state = decide(torch.rand(3, 1), torch.randn(3, 5), state)
    change(model.blocks[1])
    assert not knows_step(model)
    assert make_decider(model).way == "modules"
    for _ in range(8):
        rtg, states = torch.rand(3, 1, generator=generator), torch.randn(3, 5, generator=generator)
        torch.manual_seed(0)  # of the dropout
        expected, _ = model.step(rtg, states, {name: x.clone() for name, x in state.items()})
        torch.manual_seed(0)
        found, state = decide(rtg, states, state)
        assert torch.equal(found, expected)


class Sharp(LIF):
    """A rate of a user's own, behind a norm."""

    def rate(self, current, sim_steps):
        return super().rate(current, sim_steps).round()


def test_a_neuron_behind_a_norm_is_asked_for_its_own_rate():
    neuron, x = RateLIF(5, norm_width=8, neuron=Sharp()), torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    assert set(neuron(x).unique().tolist()) <= {0.0, 1.0}


def test_constants_that_no_kernel_knows_leave_it_to_plain_torch_at_any_time():
    neuron, x = RateLIF(9, norm_width=8), torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    neuron.constants = dataclasses.replace(neuron.constants, threshold_adaptation=1.5)
    expected = RateLIF(9, norm_width=8, threshold_adaptation=1.5)(x)
    assert torch.equal(neuron(x), expected)


def test_a_second_thread_in_a_policy_is_an_error_that_says_what_to_do():
    policy = make_policy(action_space=ACTIONS)
    policy.reset(5.0)
    inside, over, errors = threading.Event(), threading.Event(), []

    def wait(*_) -> None:
        inside.set()
        over.wait(60)

    policy.model.register_forward_hook(wait)
    thread = threading.Thread(target=policy.act, args=(OBSERVATIONS[0],))
    thread.start()
    assert inside.wait(60)
    for call in (lambda: policy.act(OBSERVATIONS[1]), lambda: policy.reset(1.0), lambda: policy.observe(1.0)):
        with pytest.raises(RuntimeError, match=r"one thread at a time.*copy\.deepcopy") as error:
            call()
        errors.append(error)
    over.set()
    thread.join()
    assert len(errors) == 3
    policy.observe(1.0)  # the lock is free again


def test_acting_on_without_observing_is_said_once():
    policy = make_policy(action_space=ACTIONS)
    policy.reset(5.0)
    policy.act(OBSERVATIONS[0])
    with pytest.warns(UserWarning, match=r"expected policy\.observe\(reward\) after each"):
        policy.act(OBSERVATIONS[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.act(OBSERVATIONS[2])
        policy.reset(5.0)
        for silent in (make_policy(action_space=ACTIONS, delayed=True), make_policy(action_space=ACTIONS)):
            silent.reset(5.0)
            for observation in OBSERVATIONS[:5]:
                silent.act(observation)
                if not silent.spec.delayed:
                    silent.observe(0.0)
