"""Plasticity of the action head in training: the rule number by number, bounded, blind to pads, off by default."""

from __future__ import annotations

import dataclasses
import signal

import pytest
import torch

from snn_dt.config import PlasticityConfig, TrainConfig, config_from_dict, load_config
from snn_dt.errors import ConfigError
from snn_dt.experimental.local_learning.plasticity import TrainingPlasticity, action_activity, output_activity
from snn_dt.models.layers import ActionHead
from snn_dt.training.loop import Callbacks
from snn_dt.training.loop import train as train_loop
from snn_dt.training.state import TrainingState, make_optimizer
from snn_dt.training.sweep.grid import read_sweep
from tests.conftest import CONTINUOUS, DISCRETE, ROOT, TINY, doubled, make_batch, make_model, run
from tests.models.test_causality import changed
from tests.runs import left_behind, resume, state_of, stop_at_update, train

ON = PlasticityConfig(eta=0.1, decay=0.5)


class Recorder:
    """A record and a place for checkpoints that keep nothing but the metrics."""

    def __init__(self):
        self.lines = []

    def log(self, step, metrics):
        self.lines.append(metrics)

    def log_evaluation(self, step, rows):
        pass


def trained(plasticity=None, task=DISCRETE, steps=4, **config):
    """A tiny model after some updates of the loop, with its state and its log."""
    model = make_model(dataclasses.replace(TINY, kind="snn_dt"), task)
    config = TrainConfig(steps=steps, batch_size=6, warmup_steps=0, log_every=1, save_every=100, **config)
    state, record = TrainingState(make_optimizer(config, model)), Recorder()
    if plasticity is not None:
        state.plasticity = TrainingPlasticity(plasticity, model)
    draw = lambda step: make_batch(task, lengths=(6, 5, 4, 3, 2, 1), seed=step)  # noqa: E731
    train_loop(config, model, draw, Callbacks(record, lambda name, state: None), state)
    return model, state, record.lines


class HeadAlone(torch.nn.Module):
    """A model that is its action head: weights (0.5, -0.25), bias 0."""

    discrete = False

    def __init__(self, low=None, high=None):
        super().__init__()
        self.head = ActionHead(2, 1, low, high)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.5, -0.25]]))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(x)


def one_window(rtg, x, actions):
    """A batch of one window that ends in the given steps, after a pad, and what the head reads in it."""
    batch = make_batch(CONTINUOUS, context=len(rtg) + 1, lengths=(len(rtg),))
    batch = dataclasses.replace(
        batch,
        rtg=torch.tensor([7.0, *rtg]).view(1, -1, 1),
        actions=torch.tensor([5.0, *actions]).view(1, -1, 1),
    )
    return batch, torch.tensor([[3.0, 3.0], *x])[None]


@pytest.mark.parametrize("post", ["output", "error"])
def test_an_update_is_the_rule_worked_by_hand(post):
    """Bounds of -2 and 2, so that an action of 1 is an activity of 1/2; decay 1/2; an earlier return-to-go of 0.2."""
    config = dataclasses.replace(ON, post=post, bound=10.0)
    model = HeadAlone(torch.tensor([-2.0]), torch.tensor([2.0]))
    plasticity = TrainingPlasticity(config, model)
    plasticity.baseline.add(torch.tensor(0.2))
    batch, x = one_window(rtg=[0.7, -0.1], x=[[1.0, 2.0], [0.0, 4.0]], actions=[1.0, 2.0])
    y = model(x)
    plasticity.observe(batch, y)
    plasticity.apply(lambda total: total)
    # Drives 0.5 - 0.5 = 0 and 0 - 1 = -1: activities tanh(0) = 0 and tanh(-1) = -0.76159.
    first, second = (0.0, -0.76159416) if post == "output" else (0.5, 1.76159416)
    e1 = torch.tensor([first * 1, first * 2])
    e2 = 0.5 * e1 + torch.tensor([0.0, second * 4])
    expected = torch.tensor([0.5, -0.25]) + 0.1 * (0.5 * e1 - 0.3 * e2) / 2  # deltas 0.7 - 0.2, -0.1 - 0.2; two steps
    torch.testing.assert_close(model.head.weight.detach()[0], expected)
    assert float(plasticity.baseline.mean) == pytest.approx((0.2 + 0.3) / 2)  # of 0.7 and -0.1, as the second value


def test_the_first_batch_has_nothing_to_compare_with_and_changes_nothing():
    model = HeadAlone()
    plasticity = TrainingPlasticity(ON, model)
    batch, x = one_window([0.7, -0.1], [[1.0, 2.0], [0.0, 4.0]], [1.0, 2.0])
    before = model.head.weight.detach().clone()
    for changes in (False, True):
        plasticity.observe(dataclasses.replace(batch, rtg=batch.rtg + changes), model(x))
        plasticity.apply(lambda total: total)
        assert torch.equal(model.head.weight, before) != changes


def test_the_modulator_is_clipped_and_a_return_needs_no_baseline():
    weights = []
    for rtg in (1.0, 50.0):
        model = HeadAlone()
        plasticity = TrainingPlasticity(dataclasses.replace(ON, modulator="return"), model)
        batch, x = one_window([rtg], [[1.0, 2.0]], [1.0])
        plasticity.observe(batch, model(x) + 1)
        plasticity.apply(lambda total: total)
        weights.append(model.head.weight.detach().clone())
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], torch.tensor([[0.5, -0.25]]))


def test_activities_are_probabilities_or_places_between_the_bounds():
    head = ActionHead(2, 2, torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0]))
    assert output_activity(head, torch.tensor([1.0, 0.5]), False).tolist() == [0.5, 0.0]
    head = ActionHead(2, 3)
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    assert torch.equal(output_activity(head, logits, True), logits.softmax(-1))
    assert action_activity(head, torch.tensor([[2, 0]]), True).tolist() == [[[0, 0, 1], [1, 0, 0]]]


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_what_plasticity_adds_stays_within_its_bound_however_fast_it_learns(task):
    model, state, lines = trained(dataclasses.replace(ON, eta=1e4, bound=0.3), task, steps=8)
    added = torch.linalg.vector_norm(state.plasticity.plastic)
    own = torch.linalg.vector_norm(model.head.weight.detach() - state.plasticity.plastic)
    assert added <= 0.3 * own * 1.01  # the optimizer has moved them since
    assert [line["plasticity"] > 0.2 for line in lines] == [False] + [True] * 7
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_only_the_weights_of_the_head_are_touched_and_an_eta_of_zero_touches_none():
    """The first difference appears in the head after the second update; nothing else has changed by then."""
    plain, same, plastic = trained(steps=2)[0], trained(PlasticityConfig(), steps=2)[0], trained(ON, steps=2)[0]
    for name, p in plain.named_parameters():
        assert torch.equal(p, same.get_parameter(name)), name
        assert torch.equal(p, plastic.get_parameter(name)) == (name != "head.weight"), name


def test_parts_of_a_batch_add_up_to_the_update_of_the_whole():
    whole, parts = (trained(ON, accumulate=n, steps=3)[1].plasticity for n in (1, 3))
    assert whole.plastic.norm() > 1e-4
    # in single precision, where a spike or two may flip: a mistake would be as large as the update
    assert (whole.plastic - parts.plastic).norm() < 1e-2 * whole.plastic.norm()


@pytest.mark.parametrize("kind", ["snn_dt", "snn_dt_stream", "dsformer_pssa", "dense"])
def test_the_update_of_a_model_is_that_of_its_windows_one_by_one(kind):
    """In a streaming model, whose tokens come first, as well."""
    model = make_model(dataclasses.replace(TINY, kind=kind), DISCRETE).double()
    batch = doubled(make_batch(DISCRETE, lengths=(6, 4, 1)))
    rows = [
        dataclasses.replace(batch, **{k: v[i : i + 1] for k, v in vars(batch).items() if v is not None})
        for i in range(3)
    ]
    found = []
    for parts in ([batch], rows):
        plasticity = TrainingPlasticity(dataclasses.replace(ON, modulator="return", bound=100.0), model)
        for part in parts:
            plasticity.observe(part, run(model, part))
        found.append(torch.stack(plasticity._sums).sum(0))
        plasticity.recording.stop()
    assert found[0][:-2].abs().max() > 1e-3
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_pads_have_no_part_in_an_update():
    batch, task = make_batch(DISCRETE, lengths=(4, 2)), DISCRETE
    pads = ~batch.attention_mask
    found = []
    for odd in (batch, dataclasses.replace(batch, rtg=batch.rtg.masked_fill(pads.unsqueeze(-1), 9.0))):
        model = make_model(TINY, task)
        plasticity = TrainingPlasticity(dataclasses.replace(ON, modulator="return"), model)
        plasticity.observe(odd, run(model, odd))
        plasticity.apply(lambda total: total)
        found.append((plasticity.plastic, plasticity.baseline.mean))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][0].any()


def test_a_model_that_has_learned_so_is_causal_and_its_predictions_are_made_before_its_update():
    model, _, _ = trained(ON)
    model.eval()
    batch = make_batch(DISCRETE, lengths=(6, 6))
    for t in range(6):
        before, after = run(model, batch), run(model, changed(batch, "actions", slice(None), t))
        assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    # The loss of an update is that of the weights before it, whatever its own return-to-go and actions do to them.
    losses = [trained(rule)[2] for rule in (None, ON)]
    assert [line["loss"] for line in losses[0][:2]] == [line["loss"] for line in losses[1][:2]]
    assert losses[0][2]["loss"] != losses[1][2]["loss"]


PLASTIC = {"model__kind": "snn_dt", "train__plasticity__eta": 0.05}


def test_a_run_with_plasticity_is_resumed_bit_for_bit(tmp_path, monkeypatch):
    assert train(tmp_path / "whole", **PLASTIC) == 0
    run_dir = tmp_path / "run"
    stop_at_update(monkeypatch, 7)
    assert train(run_dir, **PLASTIC) == 128 + signal.SIGTERM
    assert state_of(run_dir)["plasticity"]["plastic"].any()
    assert resume(run_dir) == 0
    assert left_behind(run_dir) == left_behind(tmp_path / "whole")


def test_off_trains_bit_for_bit_like_a_run_that_knows_nothing_of_it_and_on_does_not(tmp_path):
    quiet = {"model__kind": "snn_dt", "eval__episodes": 0}
    changes = {"plain": {}, "off": {"train__plasticity__decay": 0.3}, "on": {"train__plasticity__eta": 0.05}}
    for name, change in changes.items():
        assert train(tmp_path / name, **quiet, **change) == 0
    plain, off, on = (left_behind(tmp_path / name)["weights"] for name in changes)
    assert off == plain
    assert on != plain


def test_the_variants_of_the_experiment_are_the_plain_one_but_for_the_rule():
    trials = {trial.variant: trial.config for trial in read_sweep(ROOT / "experiments/local_learning/plan.yaml")[1]}
    for name in ("hebbian", "error"):
        assert trials[name].train.plasticity.eta > 0
        train = dataclasses.replace(trials[name].train, plasticity=PlasticityConfig())
        assert dataclasses.replace(trials[name], train=train) == trials["off"]
    assert load_config(ROOT / "configs/variant/snn_dt-full.yaml").train.plasticity.eta == 0


@pytest.mark.parametrize(
    ("plasticity", "message"),
    [
        ({"eta": -1.0}, "train.plasticity.eta: expected at least 0, found -1.0"),
        ({"decay": 1.0}, "train.plasticity.decay: expected in [0, 1), found 1.0"),
        ({"bound": 0.0}, "train.plasticity.bound: expected above 0, found 0.0"),
        ({"baseline_rate": 0.0}, "train.plasticity.baseline_rate: expected in (0, 1], found 0.0"),
        ({"post": "outputs"}, "did you mean 'output'"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else "",
)
def test_values_out_of_range_are_refused(plasticity, message):
    with pytest.raises(ConfigError) as error:
        config_from_dict({"train": {"plasticity": plasticity}})
    assert message in str(error.value)
