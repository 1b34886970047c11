"""A graph of one decision takes the actions of the policy."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from snn_dt.errors import ExportError
from snn_dt.export.graph import GraphPolicy, write_graph
from tests.export.harness import BOX, SEEN, goal_policy
from tests.policies import make_policy


def furthest(policy, graph: GraphPolicy, steps: int = 12, targets: tuple[float, ...] = (3.0, 4.0)) -> float:
    """Return the largest difference of actions over some steps of an episode for each target."""
    worst = 0.0
    for episode, target in enumerate(targets):
        policy.reset(target)
        graph.reset(target)
        for x in np.random.default_rng(episode).normal(size=(steps, 4)).astype(np.float32):
            worst = max(worst, float(np.abs(np.asarray(policy.act(x)) - np.asarray(graph.act(x))).max()))
            policy.observe(0.1)
            graph.observe(0.1)
    return worst


@pytest.mark.parametrize("kind", ["snn_dt_stream", "dense"])
def test_pt2_takes_the_actions_of_the_policy(tmp_path, kind):
    policy = make_policy(SEEN, BOX, kind=kind)
    assert furthest(policy, GraphPolicy(write_graph(policy, tmp_path, "pt2")[0])) <= 1e-5


@pytest.mark.parametrize("kind", ["snn_dt_stream", "dense"])
def test_the_target_of_an_episode_picks_its_goal_in_a_graph(tmp_path, kind):
    policy = goal_policy(kind)
    graph = GraphPolicy(write_graph(policy, tmp_path, "pt2")[0])
    assert furthest(policy, graph, targets=(10.0, 30.0, 90.0)) <= 1e-5  # the edges are 20 and 50


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
