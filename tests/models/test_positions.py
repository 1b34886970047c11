"""A position code must tell timesteps apart, the same way in training and evaluation."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from einops import rearrange

from snn_dt.models.phase_positions import PhaseGate, PhasePositions
from snn_dt.models.positions import (
    LearnedPositions,
    SinusoidalPositions,
    note_longest_episode,
)
from tests.conftest import DISCRETE, TINY, make_batch, make_model, run


def test_phase_spikes_are_the_sign_of_the_shifted_sine():
    torch.manual_seed(0)
    code = PhasePositions(n_generators=3, n_timesteps=40, d_model=8)
    with torch.no_grad():
        code.cycles.copy_(torch.tensor([10.0, 4.0, 1.0]))
        code.phase.copy_(torch.tensor([0.3, -0.2, 1.0]))
    for t in range(12):
        for g, (w, p) in enumerate([(10 / 40, 0.3), (4 / 40, -0.2), (1 / 40, 1.0)]):
            expected = torch.sin(torch.tensor(2 * torch.pi * w * t + p)) > 0
            assert code.spikes(torch.tensor([[t]]))[0, 0, g] == float(expected), (t, g)


def test_phase_spikes_tell_the_timesteps_of_an_episode_apart():
    code = PhasePositions(n_generators=16, n_timesteps=200, d_model=8)
    patterns = code.spikes(torch.arange(200)[None])[0]
    assert len(torch.unique(patterns, dim=0)) > 60
    # and neighbours more often than not: the code follows the environment's time, not the simulation's
    assert (patterns[1:] != patterns[:-1]).any(dim=1).float().mean() > 0.5


def test_phase_spikes_are_hard_in_training_and_evaluation_and_still_learn():
    code = PhasePositions(n_generators=6, n_timesteps=50, d_model=4)
    t = torch.arange(50)[None]
    training, evaluation = code.train().spikes(t), code.eval().spikes(t)
    assert torch.equal(training, evaluation)
    assert set(training.unique().tolist()) == {0.0, 1.0}
    code(t).square().sum().backward()
    assert (code.cycles.grad != 0).all()
    assert (code.phase.grad != 0).all()


def test_sinusoidal_code_is_the_published_formula():
    code = SinusoidalPositions(6)
    y = code(torch.tensor([[5]]))[0, 0]
    angles = torch.tensor([5.0, 5 / 10_000 ** (1 / 3), 5 / 10_000 ** (2 / 3)])
    torch.testing.assert_close(y, code.gain * torch.cat([angles.sin(), angles.cos()]))


def test_learned_code_shares_its_last_vector_beyond_the_longest_episode():
    code = LearnedPositions(10, 4)
    y = code(torch.tensor([[9, 10, 500]]))[0]
    assert torch.equal(y[0], y[1])
    assert torch.equal(y[0], y[2])


def test_a_gate_silences_a_whole_head_where_its_one_generator_is_silent():
    config = dataclasses.replace(TINY, positions="phase", phase_input="gate", phase_generators=1)
    model, batch = make_model(config, DISCRETE), make_batch(DISCRETE)
    seen = []
    model.blocks[0].attention.attend.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[:3]))
    run(model, batch)
    open_ = model.phase_gate.spikes(batch.timesteps).repeat_interleave(3, dim=1)[:, :-1]  # [B, L, heads]
    assert 0 < open_.mean() < 1
    for x in seen[0]:
        of_head = rearrange(x, "b l (h d) -> b l h d", h=2).sum(-1)
        assert (of_head[open_ == 0] == 0).all()
        assert (of_head[open_ == 1] > 0).any()


def test_generators_share_the_features_of_their_head_in_order():
    gate = PhaseGate(n_generators=4, n_timesteps=50, d_model=8)
    t = torch.arange(12)[None]
    assert torch.equal(gate(t), torch.stack([gate.spikes(t)[..., i // 2] for i in range(8)], -1))


def test_learned_positions_end_at_the_last_timestep_that_was_trained():
    code = LearnedPositions(50, 4)
    code.train()(torch.tensor([[3, 4, 5], [0, 0, 11]]))
    rows = code.eval()(torch.arange(60)[None])[0]
    assert torch.equal(rows[:12], code.weight[:12])
    assert torch.equal(rows[12:], code.weight[11].expand(48, -1))
    other = LearnedPositions(50, 4)
    other.load_state_dict(code.state_dict())
    assert torch.equal(other.eval()(torch.arange(60)[None])[0], rows)


@pytest.mark.parametrize(
    "make", [lambda: SinusoidalPositions(4), lambda: PhasePositions(4, 50, 4), lambda: PhaseGate(4, 50, 4)]
)
def test_computed_codes_end_at_the_last_timestep_that_was_trained_too(make):
    code = make()
    code.train()(torch.tensor([[3, 4, 5], [0, 0, 11]]))
    rows = code.eval()(torch.arange(60)[None])[0]
    assert torch.equal(rows[:12], code(torch.arange(12)[None])[0])
    assert torch.equal(rows[12:], rows[11].expand(48, -1))
    old = {name: value for name, value in code.state_dict().items() if name != "last"}
    other = make()
    other.load_state_dict(old)  # of a checkpoint of 0.1.0, which has no limit
    assert not torch.equal(other.eval()(torch.arange(60)[None])[0, 12:], rows[12:])


def test_a_checkpoint_that_does_not_tell_stands_for_a_table_trained_throughout():
    code = LearnedPositions(50, 4)
    code.load_state_dict({"weight": code.weight.detach()})
    code.train()(torch.tensor([[3]]))
    assert torch.equal(code.eval()(torch.arange(50)[None])[0], code.weight)


def test_the_longest_episode_of_the_data_counts_as_trained():
    model = make_model(dataclasses.replace(TINY, positions="phase"), DISCRETE)
    note_longest_episode(model, 12)
    assert [int(m.last) for m in model.modules() if hasattr(m, "last")] == [11]
    note_longest_episode(model, 5)
    assert int(model.embedding.positions.last) == 11
