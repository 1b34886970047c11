"""The C of a policy computes what the policy computes."""

from __future__ import annotations

import dataclasses
import subprocess

import gymnasium as gym
import numpy as np
import pytest

from snn_dt import from_pretrained
from snn_dt.cli.main import main
from snn_dt.errors import ExportError
from snn_dt.export.c_policy import write_c
from snn_dt.export.compiled_policy import WARNINGS, CompiledPolicy, c_compiler, evaluate_compiled
from tests.conftest import ROOT, make_model
from tests.export.harness import build, is_tie, needs_compiler, run_together
from tests.policies import make_policy, shape_of

PRETRAINED = ROOT / "results" / "pretrained"
BOX = gym.spaces.Box(-1, 1, (3,), np.float32)
MAIN = """
#include "policy.h"
#include <stdio.h>
int main(void) {
    static policy_state state;
    policy_observation x[POLICY_OBSERVATIONS];
    float action[POLICY_ACTIONS];
    policy_init(&state);
    for (int step = 0; step < 200; ++step) {
        if (step % 50 == 0) policy_reset(&state, step);
        for (int i = 0; i < POLICY_OBSERVATIONS; ++i) x[i] = (float)((step * 7 + i * 3) % 11 - 5);
        policy_act(&state, x, action);
        policy_observe(&state, 1.0);
        for (int i = 0; i < POLICY_ACTIONS; ++i) printf("%.9g ", (double)action[i]);
    }
    return 0;
}
"""

pytestmark = needs_compiler


@pytest.mark.parametrize(("name", "steps"), [("cartpole-snn_dt_stream", 1000), ("pendulum-snn_dt_stream", 300)])
def test_float32_has_the_actions_and_spikes_of_the_policy(tmp_path, name, steps):
    policy = from_pretrained(PRETRAINED / name)
    worst, ties = run_together(policy, build(policy, tmp_path), steps, is_tie)
    assert worst <= 1e-5
    assert ties <= 5


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_every_reset_and_continuous_actions_are_those_of_the_policy(tmp_path, reset):
    policy = random_stream(reset=reset, tau_mem=1.5, n_heads=2)
    compiled = build(policy, tmp_path, name="chip_2")
    rng = np.random.default_rng(0)
    for episode in range(3):
        policy.reset(float(episode))
        compiled.reset(float(episode))
        for _ in range(30):
            x = rng.normal(size=4).astype(np.float32)
            np.testing.assert_allclose(policy.act(x), compiled.act(x), atol=1e-5)
            policy.observe(0.5)
            compiled.observe(0.5)


def random_stream(**options):
    """A streaming policy with random weights for three continuous actions."""
    observations = gym.spaces.Box(-10, 10, (4,), np.float32)
    config, task = shape_of(observations, BOX, "snn_dt_stream")
    config = dataclasses.replace(config, **options)
    return make_policy(observations, BOX, kind="snn_dt_stream", model=make_model(config, task, 3))


def test_int8_follows_the_policy_closely(tmp_path):
    policy = from_pretrained(PRETRAINED / "cartpole-snn_dt_stream")
    write_c(policy, tmp_path, "int8")
    [row] = evaluate_compiled(CompiledPolicy(tmp_path), [500.0], episodes=3)
    assert row["return_mean"] >= 490
    assert 150 < row["spikes_per_decision"] < 300


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_sanitizers_find_nothing(tmp_path, weights):
    policy = random_stream()
    compiled = build(policy, tmp_path, weights)
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-ffp-contract=off"]
    command = [c_compiler(), *WARNINGS, *flags, "main.c", "policy.c", "-o", "run", "-lm"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("needs the compiler's sanitizers: apt install libasan8 libubsan1")
    done = subprocess.run(["./run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    actions = np.array(done.stdout.split(), dtype=np.float32).reshape(200, 3)
    for step in range(200):
        if step % 50 == 0:
            compiled.reset(float(step))
        x = (step * 7 + np.arange(4) * 3) % 11 - 5
        np.testing.assert_allclose(compiled.act(x), actions[step], atol=1e-6)
        compiled.observe(1.0)


def test_the_commands_lead_from_a_checkpoint_to_a_return(tmp_path, capsys):
    checkpoint = PRETRAINED / "cartpole-snn_dt_stream"
    assert main(["export", str(checkpoint), "--to", "c", "--out", str(tmp_path), "--weights", "int8"]) == 0
    assert main(["evaluate", "--compiled", str(tmp_path), "--episodes", "1", "--json", str(tmp_path / "e" / "r")]) == 0
    assert "target 500: return 500 " in capsys.readouterr().out


def test_what_c_cannot_hold_is_an_error_that_says_so(tmp_path):
    config, task = shape_of(BOX, gym.spaces.Discrete(2), "dsformer_pssa")
    policy = make_policy(BOX, gym.spaces.Discrete(2), model=make_model(config, task, 0))
    with pytest.raises(ExportError, match="found dsformer_pssa; export to pt2 or onnx"):
        write_c(policy, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    with pytest.raises(ExportError, match="name of small letters"):
        write_c(random_stream(), tmp_path / "c", name="3d")
    with pytest.raises(ExportError, match="found none; make it with snn-dt export"):
        CompiledPolicy(tmp_path)
