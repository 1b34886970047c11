"""The C of a policy computes what the policy computes."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess

import gymnasium as gym
import numpy as np
import pytest

from snn_dt import from_pretrained
from snn_dt.cli.main import main
from snn_dt.errors import ExportError
from snn_dt.export.c_policy import write_c
from snn_dt.export.compiled_policy import WARNINGS, CompiledPolicy, c_compiler, evaluate_compiled
from snn_dt.models.positions import note_longest_episode
from tests.conftest import ROOT, load_script, make_model
from tests.export.harness import BOX, SEEN, build, goal_policy, needs_compiler, run_together
from tests.policies import make_policy, shape_of

PRETRAINED = ROOT / "results" / "pretrained"
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


VARIANTS_OF_C = {
    "dense": {"kind": "dense"},
    "dense-merged": {"kind": "dense", "tokens": "merged"},
    "snn_dt": {"kind": "snn_dt"},
    "snn_dt-phase-routing": {"kind": "snn_dt", "positions": "phase", "routing": True, "reset": "none"},
    "snn_dt-merged-soft": {"kind": "snn_dt", "positions": "sinusoidal", "tokens": "merged", "reset": "soft"},
    "stream": {"kind": "snn_dt_stream", "tau_mem": 1.5},
    "stream-soft": {"kind": "snn_dt_stream", "reset": "soft"},
    "stream-none": {"kind": "snn_dt_stream", "reset": "none"},
}


def random_policy(action_space=BOX, **options):
    """A policy with random weights, whose training ended at step 30 of an episode."""
    config, task = shape_of(SEEN, action_space, options["kind"])
    span = {} if options["kind"] == "snn_dt_stream" else {"attention_span": 4, "context_length": 8}
    model = make_model(dataclasses.replace(config, **span, **options), task, 3)
    note_longest_episode(model, 30)
    return make_policy(SEEN, action_space, model=model)


@pytest.mark.parametrize(("variant", "discrete"), [(name, i % 2) for i, name in enumerate(VARIANTS_OF_C)])
def test_float32_has_the_actions_and_spikes_of_the_policy(tmp_path, variant, discrete):
    policy = random_policy(gym.spaces.Discrete(3, start=5) if discrete else BOX, **VARIANTS_OF_C[variant])
    observations = np.random.default_rng(0).normal(size=(40, 4))
    compiled = build(policy, tmp_path, name="chip_2")
    worst, ties = run_together(policy, compiled, observations, spiking="dense" not in variant)
    assert worst <= 1e-5
    assert ties <= 2


@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt_stream"])
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_target_of_an_episode_picks_its_goal(tmp_path, kind, weights):
    policy = goal_policy(kind)
    compiled = build(policy, tmp_path, weights)
    observations = np.random.default_rng(0).normal(size=(20, 4))
    played = []
    for target in (10.0, 55.0, 90.0):  # nearest to each bin's mean return; 55 is above the edge 50
        policy.reset(target)
        compiled.reset(target)
        played.append([])
        for observation in observations:
            played[-1].append((policy.act(observation), compiled.act(observation)))
            policy.observe(1.0)
            compiled.observe(1.0)
    ours, theirs = np.array(played).transpose(2, 0, 1, 3)  # [2, targets, steps, A]
    assert np.abs(ours[0] - ours[1]).max() > 0.2
    assert np.abs(ours[1] - ours[2]).max() > 0.2
    # A spike that rounding flips changes a few actions.
    assert np.quantile(np.abs(ours - theirs), 0.9) <= (1e-5 if weights == "float32" else 0.1)


def test_a_trained_policy_and_its_c_agree_over_1000_steps(tmp_path):
    policy = from_pretrained(PRETRAINED / "cartpole-snn_dt_stream")
    scale = np.array([1, 1, 0.1, 1])
    worst, ties = run_together(policy, build(policy, tmp_path), scale * np.random.default_rng(0).normal(size=(1000, 4)))
    assert worst <= 1e-5
    assert ties <= 5


@pytest.mark.parametrize("variant", ["dense", "snn_dt"])
def test_int8_is_near_float32(tmp_path, variant):
    policy = random_policy(**VARIANTS_OF_C[variant])
    compiled = [build(policy, tmp_path / weights, weights) for weights in ("float32", "int8")]
    differences = []
    for x in np.random.default_rng(0).normal(size=(40, 4)):
        float32, int8 = (c.act(x).copy() for c in compiled)
        differences.append(np.abs(float32 - int8).max())
    # Measured: 0.0035 and 0.027. A spike more or less moves the actions of snn_dt.
    assert np.median(differences) < (0.007 if variant == "dense" else 0.1)


def test_int8_follows_the_policy_closely(tmp_path):
    policy = from_pretrained(PRETRAINED / "cartpole-snn_dt_stream")
    write_c(policy, tmp_path, "int8")
    [row] = evaluate_compiled(CompiledPolicy(tmp_path), [500.0], episodes=3)
    assert row["return_mean"] >= 490
    assert 150 < row["spikes_per_decision"] < 300


def test_a_chip_takes_the_same_actions(tmp_path):
    if not all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm"))):
        pytest.skip("apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm")
    script = load_script("microcontroller")
    write_c(from_pretrained(PRETRAINED / "cartpole-snn_dt_stream"), tmp_path, "int8")
    policy = CompiledPolicy(tmp_path)
    observations, rewards, actions = script.record(policy, 500.0)
    (tmp_path / "records.h").write_text(script.records_header(policy, observations, rewards, 500.0))
    found = script.run_on("m3", tmp_path, actions)
    assert found["actions_equal"] == 1
    assert 50_000 < found["instructions_median"] < 150_000


@pytest.mark.parametrize("weights", ["float32", "int8"])
@pytest.mark.parametrize("variant", ["dense", "snn_dt-phase-routing", "stream"])
def test_sanitizers_find_nothing(tmp_path, variant, weights):
    policy = random_policy(**VARIANTS_OF_C[variant])
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
    config, task = shape_of(BOX, gym.spaces.Discrete(2), "dense")
    policy = make_policy(BOX, gym.spaces.Discrete(2), model=make_model(config, task, 0))
    with pytest.raises(ExportError, match=r"model.attention_span: expected a number of steps, found null"):
        write_c(policy, tmp_path / "c")
    with pytest.raises(ExportError, match="name of small letters"):
        write_c(random_policy(kind="snn_dt_stream"), tmp_path / "c", name="3d")
    with pytest.raises(ExportError, match="found none; make it with snn-dt export"):
        CompiledPolicy(tmp_path)
