"""A graph of one decision takes the actions of the policy."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from snn_dt.errors import ExportError
from snn_dt.export.graph import GraphPolicy, write_graph
from tests.policies import make_policy

SEEN = gym.spaces.Box(-10, 10, (4,), np.float32)
BOX = gym.spaces.Box(-1, 1, (3,), np.float32)


def furthest(policy, graph: GraphPolicy, steps: int = 12) -> float:
    """Return the largest difference of actions over some steps of two episodes."""
    worst = 0.0
    for episode in range(2):
        policy.reset(3.0 + episode)
        graph.reset(3.0 + episode)
        for x in np.random.default_rng(episode).normal(size=(steps, 4)).astype(np.float32):
            worst = max(worst, float(np.abs(np.asarray(policy.act(x)) - np.asarray(graph.act(x))).max()))
            policy.observe(0.1)
            graph.observe(0.1)
    return worst


@pytest.mark.parametrize("kind", ["snn_dt_stream", "dense"])
def test_pt2_takes_the_actions_of_the_policy(tmp_path, kind):
    policy = make_policy(SEEN, BOX, kind=kind)
    assert furthest(policy, GraphPolicy(write_graph(policy, tmp_path, "pt2")[0])) <= 1e-5


def test_a_graph_decides_on_as_few_steps_as_the_policy(tmp_path):
    policy = make_policy(SEEN, BOX, kind="dense", context_length=2)
    assert furthest(policy, GraphPolicy(write_graph(policy, tmp_path, "pt2")[0])) <= 1e-5


def test_onnx_takes_the_actions_of_the_policy(tmp_path):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason="pip install 'snn-dt[onnx]'")
    policy = make_policy(SEEN, gym.spaces.Discrete(3, start=2), kind="snn_dt")
    assert furthest(policy, GraphPolicy(write_graph(policy, tmp_path, "onnx")[0])) == 0


def test_a_missing_graph_is_an_error_that_says_so(tmp_path):
    with pytest.raises(ExportError, match="expected a graph with its JSON"):
        GraphPolicy(tmp_path / "policy.pt2")
