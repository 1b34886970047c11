"""What a budget limits is what evaluation counts, its gradient is that of the counts, and it is kept."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.config import BudgetConfig, Config, ModelConfig, TrainConfig, config_from_dict
from snn_dt.energy import DecisionMeter, role_of
from snn_dt.errors import ConfigError
from snn_dt.learning.budget import Budget
from snn_dt.training.loop import Callbacks, train
from snn_dt.training.state import TrainingState, make_optimizer
from tests.conftest import CONTINUOUS, DISCRETE, TINY, VARIANTS, make_batch, make_model, run
from tests.energy.tiny import all_neurons

BOTH = BudgetConfig(synaptic_operations=1e9, mean_firing_rate=1.0)
INTERLEAVED = [
    n
    for n, v in VARIANTS.items()
    if v.get("kind") == "snn_dt" and v.get("tokens") != "merged" and "attention_span" not in v
]


def variant_model(variant: str) -> torch.nn.Module:
    return make_model(dataclasses.replace(TINY, **VARIANTS[variant]), CONTINUOUS)


def measured(model, batch):
    budget = Budget(BOTH, model)
    with budget.watch():
        run(model, batch)
    return budget.activity(batch.attention_mask)


@pytest.mark.parametrize("variant", INTERLEAVED)
def test_the_operations_of_a_training_forward_are_those_the_meter_counts_of_its_last_decisions(variant):
    model = variant_model(variant).eval()
    batch = make_batch(CONTINUOUS, 6, (6, 4, 1))
    with DecisionMeter(model) as meter:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask)
    counted = sum(meter.by_module[n].acs for n, m in model.named_modules() if role_of(m) == "synapses") / 3
    found = measured(model, batch)
    assert found["synaptic_operations"].item() == pytest.approx(counted, rel=1e-9)
    rates = [c for c in meter.by_module.values() if c.neuron_updates]
    assert found["mean_firing_rate"].item() == pytest.approx(
        sum(c.spikes for c in rates) / sum(c.neuron_updates for c in rates), rel=1e-9
    )


@torch.no_grad()
@pytest.mark.parametrize("tokens", ["interleaved", "merged"])
def test_with_an_attention_span_a_window_is_a_decision_at_every_step(tokens):
    model = make_model(dataclasses.replace(TINY, kind="snn_dt", attention_span=2, tokens=tokens), CONTINUOUS)
    batch = make_batch(CONTINUOUS, 6, (6, 6))
    batch = dataclasses.replace(batch, timesteps=torch.arange(6).repeat(2, 1))
    state = model.rest(2)
    with DecisionMeter(model) as meter:
        for t in range(6):
            model.step(batch.rtg[:, t], batch.states[:, t], state)
            meter.count(torch.ones(2, 1, dtype=torch.bool), torch.full((2,), t + 1))
            state["action"] = batch.actions[:, t]
    counted = sum(meter.by_module[n].acs for n, m in model.named_modules() if role_of(m) == "synapses") / 12
    assert measured(model, batch)["synaptic_operations"].item() == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("variant", [n for n, v in VARIANTS.items() if v.get("kind", "dense") != "dense"])
def test_pads_spend_nothing_and_fewer_spikes_spend_less(variant):
    model = variant_model(variant).eval()
    alone = measured(model, make_batch(CONTINUOUS, 4, (4, 4)))
    padded = make_batch(CONTINUOUS, 6, (6, 6))
    mask = padded.attention_mask.clone()
    mask[:, :2] = False
    padded = dataclasses.replace(padded, attention_mask=mask)
    inside = dataclasses.replace(
        padded, **{n: getattr(padded, n)[:, 2:] for n in ("rtg", "states", "actions", "timesteps", "attention_mask")}
    )
    assert measured(model, padded)["synaptic_operations"].item() == pytest.approx(
        measured(model, inside)["synaptic_operations"].item(), rel=1e-6
    )
    assert alone["synaptic_operations"].item() > 0
    silent = measured(all_neurons(model, fire=False), make_batch(CONTINUOUS, 4, (4, 4)))
    assert silent["synaptic_operations"].item() < 0.2 * alone["synaptic_operations"].item(), "positions alone"
    assert silent["mean_firing_rate"].item() == 0


def test_what_lies_above_the_limits_is_a_logarithm_with_the_gradient_of_the_counts():
    model = variant_model("snn_dt")
    batch = make_batch(CONTINUOUS, 6, (6, 4))
    spent = {name: x.item() for name, x in measured(model.eval(), batch).items()}
    limits = BudgetConfig(spent["synaptic_operations"] / 4, spent["mean_firing_rate"] * 2, weight=0.5)
    budget = Budget(limits, model)
    with budget.watch():
        run(model, batch)
    loss, metrics = budget.excess(torch.tensor(0.5), batch.attention_mask)
    assert loss.item() == pytest.approx(0.5 * torch.tensor(4.0).log().item(), rel=1e-5)
    assert float(metrics["synaptic_operations"]) == pytest.approx(spent["synaptic_operations"], rel=1e-5)
    early = [budget.excess(x, batch.attention_mask)[0].item() for x in torch.tensor([0.0, 0.25, 1.0])]
    assert early == pytest.approx([0.0, loss.item() / 2, loss.item()])
    loss.backward()
    gain = model.blocks[0].mlp[0].norm.bias
    assert gain.grad.sum() > 0, "a lower current is a lower loss"


def test_within_its_limits_a_run_is_the_run_without_them():
    def weights(budget):
        return _trained(budget)[0]

    assert torch.equal(weights(BudgetConfig()), weights(BOTH))


def test_training_holds_the_network_to_its_budget():
    free = _trained(dataclasses.replace(BOTH, weight=1e-9))[1]
    limit = free["synaptic_operations"] / 4
    held = _trained(BudgetConfig(synaptic_operations=limit, weight=2.0), steps=80)[1]
    assert held["synaptic_operations"] < 1.3 * limit
    assert held["budget_loss"] < 0.6


def test_the_weight_of_a_budget_grows_over_the_first_half_of_a_run():
    early, late = _lines(BudgetConfig(synaptic_operations=1.0))[
        1
    ]  # updates 0 to 4 at 0 to 0.8 of it, then at all of it
    assert early["budget_loss"] == pytest.approx(0.4 * late["budget_loss"], rel=0.2)


def _trained(budget: BudgetConfig, steps: int = 10) -> tuple[torch.Tensor, dict]:
    weights, lines = _lines(budget, steps)
    return weights, lines[-1]


def _lines(budget: BudgetConfig, steps: int = 10) -> tuple[torch.Tensor, list[dict]]:
    model = make_model(dataclasses.replace(TINY, kind="snn_dt"), DISCRETE)
    config = TrainConfig(
        steps=steps, batch_size=6, learning_rate=1e-2, warmup_steps=0, log_every=5, save_every=1000, budget=budget
    )
    lines: list[dict] = []

    class Lines:
        def log(self, step, metrics):
            lines.append(metrics)

        def log_evaluation(self, step, rows):
            raise AssertionError

    state = TrainingState(make_optimizer(config, model))
    draw = lambda step: make_batch(DISCRETE, lengths=(6, 5, 4, 3, 2, 1), seed=step)  # noqa: E731
    train(config, model, draw, Callbacks(Lines(), lambda *_: None), state)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), lines


@pytest.mark.parametrize(
    ("model", "budget", "field"),
    [
        ({"kind": "dense"}, {"mean_firing_rate": 0.1}, "train.budget"),
        ({}, {"mean_firing_rate": 0.0}, "train.budget.mean_firing_rate"),
        ({}, {"synaptic_operations": 1e4, "weight": 0}, "train.budget.weight"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(model, budget, field):
    with pytest.raises(ConfigError, match=field):
        config_from_dict({"model": model, "train": {"budget": budget}})


def test_no_budget_is_the_default():
    assert Config(ModelConfig()).train.budget.limits == {}
