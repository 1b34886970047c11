"""A NIR graph of a policy's parts has the spikes of the policy in other libraries."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from snn_dt import from_pretrained
from snn_dt.errors import ExportError
from snn_dt.export.nir_graph import nir_chain, write_nir
from snn_dt.snn import LIF
from tests.conftest import ROOT

STEPS = 50


def needs(package: str, extra: str):
    """The package, or a skip that names the pip line."""
    return pytest.importorskip(package, reason=f"pip install 'snn-dt[{extra}]'")


def ours(layers, currents: torch.Tensor) -> torch.Tensor:
    """Run a chain of layers over `currents [T, N]`, one step of every neuron per step."""
    x = currents
    for layer in layers:
        x = layer(x)[0] if isinstance(layer, LIF) else layer(x)
    return x.detach()


def chain() -> list[nn.Module]:
    """Linear, LIF, linear, LIF with random weights."""
    torch.manual_seed(0)
    first, second = nn.Linear(6, 20), nn.Linear(20, 5)
    nn.init.normal_(first.weight)
    nn.init.normal_(second.weight)
    return [first, LIF(tau_mem=1.3), second, LIF(tau_mem=3.0, v_threshold=0.7)]


def test_euler_s_step_of_the_graph_has_our_spikes():
    needs("nir", "nir")
    graph, currents = nir_chain(layers := chain()), torch.randn(STEPS, 6)
    x = currents.numpy()
    for node in [graph.nodes[str(i)] for i in range(4)]:
        if hasattr(node, "weight"):
            x = x @ node.weight.T + node.bias
            continue
        v, spikes = np.zeros(x.shape[1], dtype=np.float32), np.zeros_like(x)
        for t in range(STEPS):
            v = v + 1e-4 / node.tau * (node.v_leak - v + node.r * x[t])
            spikes[t] = v > node.v_threshold
            v = np.where(spikes[t] > 0, node.v_reset, v)
        x = spikes
    expected = ours(layers, currents).numpy()
    assert expected.mean() > 0.05
    np.testing.assert_array_equal(x, expected)


def test_snntorch_has_our_spikes_step_by_step():
    needs("nir", "nir")
    needs("nirtorch", "peers")
    needs("snntorch", "peers")
    from snntorch.import_nir import import_from_nir

    graph, currents = nir_chain(layers := chain()), torch.randn(STEPS, 6)
    network, state, found = import_from_nir(graph), None, []
    for current in currents:
        spikes, state = network(current[None], state)
        found.append(spikes[0].detach())
    torch.testing.assert_close(torch.stack(found), ours(layers, currents), atol=0, rtol=0)


def test_the_parts_of_a_policy_are_written_with_what_stays_on_the_host(tmp_path):
    nir = needs("nir", "nir")
    policy = from_pretrained(ROOT / "results" / "pretrained" / "cartpole-snn_dt_stream")
    paths = write_nir(policy, tmp_path)
    assert len(paths) == 7
    manifest = json.loads((tmp_path / "policy.json").read_text())
    assert manifest["step_seconds"] == 1e-4
    assert any("attention" in line for line in manifest["host"])
    graph = nir.read(tmp_path / manifest["parts"]["blocks.1.mlp"])
    np.testing.assert_array_equal(graph.nodes["1"].weight, policy.model.blocks[1].mlp_in.weight.detach().numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset": "soft"}, "reset: hard, found soft"),
        ({"reset_order": "delayed"}, "reset_order: charge_fire_reset, found delayed"),
        ({"threshold_adaptation": 0.1}, "without adaptation"),
    ],
)
def test_what_nir_cannot_express_is_refused_by_name(options, message):
    needs("nir", "nir")
    with pytest.raises(ExportError, match=message):
        nir_chain([nn.Linear(3, 4), LIF(**options)])


def test_a_window_is_refused_by_its_kind(tmp_path):
    policy = from_pretrained(ROOT / "results" / "pretrained" / "cartpole-dense")
    with pytest.raises(ExportError, match="found dense, whose softmax attention"):
        write_nir(policy, tmp_path)
