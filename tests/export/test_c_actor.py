"""The C of an actor of `snn-dt online` computes what the actor computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_dt.errors import ExportError
from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.c_actor import actor_policy
from snn_dt.export.c_policy import write_c
from snn_dt.export.compiled_policy import CompiledPolicy
from snn_dt.export.graph import write_graph
from snn_dt.export.nir_graph import write_nir
from tests.export.harness import needs_compiler

pytestmark = needs_compiler


def test_other_forms_refuse_an_actor_by_what_they_lack(tmp_path):
    policy = actor_policy(SpikingActor(6, 3, (20, 12), 10.0), None)
    with pytest.raises(ExportError, match="expected a sequence model for a graph, found ActorModel"):
        write_graph(policy, tmp_path, "pt2")
    pytest.importorskip("nir", reason="pip install 'snn-dt[nir]'")
    with pytest.raises(ExportError, match="reset: hard, found soft"):
        write_nir(policy, tmp_path)


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
