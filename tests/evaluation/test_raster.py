"""What is recorded of a policy at work is what its modules did for the token that is read out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_dt.evaluation.raster import record_gates, record_raster
from tests.conftest import VARIANTS
from tests.policies import countdown_policy


@pytest.mark.parametrize("coding", ["rate", "spikes"])
def test_gates_are_recorded_for_every_decision_layer_and_head(coding, monkeypatch):
    monkeypatch.setitem(VARIANTS, "routed", VARIANTS["snn_dt-routing"] | {"coding": coding})
    policy = countdown_policy(kind="routed")
    with torch.no_grad():
        for block in policy.model.blocks:
            gate = block.attention.route.gate[0]
            gate.weight.zero_()
            gate.bias.copy_(torch.tensor([0.0, 2.0]))
    gates = record_gates(policy, 5.0, decisions=3, seed=0)
    assert list(gates) == [f"blocks.{i}.attention.route" for i in range(len(policy.model.blocks))]
    for values in gates.values():
        np.testing.assert_allclose(values, [[0.5, 1 / (1 + np.exp(-2))]] * 3, rtol=1e-6)


def test_a_model_without_routing_has_no_gates_and_one_without_spikes_no_raster():
    assert record_gates(countdown_policy(kind="snn_dt"), 5.0) == {}
    assert record_raster(countdown_policy(kind="dense"), 5.0) == {}


def test_the_raster_has_the_rate_that_the_layer_hands_on():
    policy = countdown_policy(kind="snn_dt")
    rates = []
    layer = policy.model.blocks[0].attention.lif_in
    handle = layer.register_forward_hook(lambda _, __, out: rates.append(out[0, -1]))
    raster = record_raster(policy, 5.0, decisions=2, seed=0)["blocks.0.attention.lif_in"]
    handle.remove()
    steps = policy.model.config.sim_steps
    np.testing.assert_allclose(raster.reshape(2, steps, -1).mean(1), torch.stack(rates).numpy())
