"""The C of an actor of `snn-dt online` computes what the actor computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.c_actor import actor_policy
from snn_dt.export.c_policy import write_c
from snn_dt.export.compiled_policy import CompiledPolicy
from tests.export.harness import needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("int8", 0.3)])
def test_the_c_of_an_actor_has_its_actions(tmp_path, weights, tolerance):
    torch.manual_seed(0)
    actor = SpikingActor(6, 3, (20, 12), 10.0)
    write_c(actor_policy(actor, None), tmp_path, weights)
    compiled, state, differences = CompiledPolicy(tmp_path), None, []
    compiled.reset()
    for x in torch.randn(100, 6):
        with torch.no_grad():
            action, state = actor(x[None, None], state)
        differences.append(np.abs(action[0, 0].numpy() - compiled.act(x.numpy())).max())
        spikes = sum(int((s.v_mem >= n.v_threshold).sum()) for s, n in zip(state, actor.neurons, strict=True))
        assert weights == "int8" or compiled.spikes == spikes
    assert np.median(differences) <= tolerance
    assert weights == "int8" or max(differences) <= tolerance
