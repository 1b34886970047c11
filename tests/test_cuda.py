"""On a GPU: every model computes what it computes on a CPU, and a run made there can be used here."""

from __future__ import annotations

import copy

import pytest
import torch

from snn_dt import evaluate, from_pretrained
from snn_dt.evaluation.decide import make_decider
from snn_dt.learning.losses import action_loss
from tests.conftest import ROOT, doubled, make_batch, make_model, run
from tests.runs import lines_of, resume, shared_cache, stop_at_update, train  # noqa: F401

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")

KINDS = {
    "dense": {},
    "snn_dt": {"model__kind": "snn_dt", "model__positions": "phase"},
    "snn_dt spikes": {"model__kind": "snn_dt", "model__coding": "spikes"},
    "dsformer": {"model__kind": "dsformer_pssa"},
    "snn_dt held to a budget": {"model__kind": "snn_dt", "train__budget__synaptic_operations": 1000},
    "dsformer held to a budget": {"model__kind": "dsformer_tssa", "train__budget__mean_firing_rate": 0.01},
    "stream": {"model__kind": "snn_dt_stream", "train__stateful": "true"},
}


def on(batch, device):
    """The batch on a device, in double precision: a spike more or less would hide everything else."""
    return doubled(batch.to(device))


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_predictions_and_gradients_are_those_of_a_cpu(config, task, training):
    here = make_model(config, task).double().train(training)
    there = copy.deepcopy(here).cuda()
    found = []
    for model, device in ((there, "cuda"), (here, "cpu")):
        batch = on(make_batch(task), device)
        predictions = run(model, batch)
        action_loss(predictions, batch.actions, batch.attention_mask)[0].backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((predictions.detach().cpu(), {name: g.cpu() for name, g in gradients.items()}))
    (predictions, gradients), (expected, expected_gradients) = found
    torch.testing.assert_close(predictions, expected, rtol=1e-8, atol=1e-8)
    assert gradients.keys() == expected_gradients.keys()
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_a_gpu_learns_as_on_a_cpu_and_opens_there(kind, precision, tmp_path):
    losses = {}
    for device in ("cpu", "cuda"):
        changes = KINDS[kind] | {"train__device": device, "train__precision": precision}
        assert train(tmp_path / device, **changes) == 0
        losses[device] = [line["loss"] for line in lines_of(tmp_path / device) if "loss" in line]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.02)
    here, there = (from_pretrained(tmp_path / "cuda", device=device) for device in ("cpu", "cuda"))
    for policy in (here, there):
        policy.model.double()
    batch = make_batch(here.model.task, 5, (5, 2))
    found, expected = (run(p.model, on(batch, p.device), last_only=True).detach().cpu() for p in (there, here))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_run_stopped_on_a_gpu_goes_on(tmp_path, monkeypatch):
    changes = KINDS["snn_dt"] | {"train__device": "cuda"}
    assert train(tmp_path / "whole", **changes) == 0
    stop_at_update(monkeypatch, 8)
    assert train(tmp_path / "run", **changes) != 0
    assert resume(tmp_path / "run") == 0
    found, expected = (
        [line["loss"] for line in lines_of(tmp_path / name) if "loss" in line] for name in ("run", "whole")
    )
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "stream"])
def test_recorded_updates_are_those_of_kernel_after_kernel(kind, tmp_path):
    losses = []
    for recorded in ("true", "false"):
        changes = KINDS[kind] | {"train__device": "cuda", "train__cuda_graph": recorded, "model__dropout": 0.1}
        assert train(tmp_path / recorded, **changes) == 0
        losses.append([line["loss"] for line in lines_of(tmp_path / recorded) if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_captured_decisions_follow_their_inputs_and_the_weights_and_stand_aside_for_hooks(config, task):
    if config.kind == "snn_dt_stream":
        pytest.skip("it has no window")
    model = make_model(config, task).double().cuda()
    batches = [on(make_batch(task, seed=i), "cuda") for i in range(3)]

    decide = make_decider(model)
    assert decide.way == "cuda_graph"

    def decisions():
        with torch.inference_mode():
            return [decide(*batch.fields) for batch in batches]

    def modules():
        with torch.inference_mode():
            return [decide.by_modules(*batch.fields) for batch in batches]

    for _ in range(10):  # more than it takes to capture them
        torch.testing.assert_close(decisions(), modules(), rtol=1e-9, atol=1e-9)
    before = decisions()
    with torch.no_grad():
        model.head.weight.mul_(2) if hasattr(model.head, "weight") else model.norm.weight.mul_(2)
    assert not torch.allclose(decisions()[0], before[0])
    torch.testing.assert_close(decisions(), modules(), rtol=1e-9, atol=1e-9)
    heard = []
    handle = model.norm.register_forward_hook(lambda *_: heard.append(1))
    decisions()
    handle.remove()
    assert len(heard) == 3


@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt_stream"])
def test_a_pretrained_policy_acts_on_a_gpu_as_on_a_cpu(kind):
    rows = {}
    for device in ("cpu", "cuda"):
        policy = from_pretrained(ROOT / f"results/pretrained/cartpole-{kind}", device=device)
        rows[device] = evaluate(policy, [500.0], episodes=5, num_envs=5)[0]
    assert rows["cuda"]["return_mean"] == pytest.approx(rows["cpu"]["return_mean"], rel=0.01)
    for count in ("macs", "acs", "spikes"):
        found, expected = (rows[device][f"{count}_per_decision"] for device in ("cuda", "cpu"))
        assert found == pytest.approx(expected, rel=0.02), count


def test_a_running_episode_moves_between_devices():
    there, here = (
        from_pretrained(ROOT / "results/pretrained/cartpole-snn_dt_stream", device=device) for device in ("cuda", "cpu")
    )
    observations = torch.linspace(-0.05, 0.05, 24).view(6, 4).numpy()
    there.reset(100.0)
    for observation in observations[:3]:
        there.act(observation)
        there.observe(1.0)
    here.load_state({name: x.cpu() for name, x in there.state().items()})
    for observation in observations[3:]:
        assert here.act(observation) == there.act(observation)
        here.observe(1.0)
        there.observe(1.0)
