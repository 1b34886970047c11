"""The way of a decision is picked at reset; every way decides alike, and hooks are never silently left out."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from snn_dt.energy import DecisionMeter
from snn_dt.evaluation.decide import Snapshot, make_decider, pick_way
from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.layers import ActionHead
from snn_dt.rule_config import PlasticityConfig
from snn_dt.snn import cpp
from snn_dt.snn.probe import Probe
from tests.conftest import CONTINUOUS, TINY, make_batch, make_model
from tests.policies import Scripted, make_policy

ONE = np.ones(2, np.float32)
needs_compiler = pytest.mark.skipif(cpp.load() is None, reason="no C++ compiler")
FUSED = ("dense", "snn_dt", "snn_dt-routing", "snn_dt_stream", "dense-span", "snn_dt-span")
OTHER = ("dsformer_tssa", "snn_dt-spikes", "snn_dt-phase-gate")


@pytest.fixture(autouse=True)
def _kernels_where_they_can_be_had(monkeypatch):
    monkeypatch.delenv("SNN_DT_KERNEL", raising=False)


def running(kind="snn_dt"):
    policy = make_policy(kind=kind)
    policy.reset(5.0)
    return policy


def fast_calls(policy) -> list[int]:
    """Return a list that grows by one with each decision that the fast way makes."""
    decider, made = policy._decider, []
    policy.act(ONE)
    policy.observe(0.0)
    fast = decider._fast
    decider._fast = lambda *inputs: made.append(1) or fast(*inputs)
    return made


@needs_compiler
@pytest.mark.parametrize(("kinds", "way"), [(FUSED, "cpp"), (OTHER, "modules")])
def test_reset_picks_the_one_c_call_for_what_it_knows_and_the_modules_for_all_else(kinds, way):
    for kind in kinds:
        assert running(kind)._decider.way == way, kind


@pytest.mark.parametrize("kind", FUSED)
def test_without_kernels_the_modules_decide(kind, monkeypatch):
    monkeypatch.setenv("SNN_DT_KERNEL", "reference")
    assert running(kind)._decider.way == "modules"


def test_a_model_of_a_users_own_is_decided_by_its_forward():
    model = Scripted(lambda rtg, *_: rtg[:, -1].repeat(1, 2))
    assert make_decider(model).way == "modules"
    window = torch.ones(3, 4, 1), torch.zeros(3, 4, 2), torch.zeros(3, 4).long(), torch.zeros(3, 4).long()
    assert make_decider(model)(*window, torch.ones(3, 4).bool()).tolist() == [[1.0, 1.0]] * 3


def test_a_subclass_is_not_decided_by_a_kernel_or_a_graph():
    class Own(DecisionTransformer):
        def forward(self, *window, **options):
            return -super().forward(*window, **options)

    model, batch = Own(TINY, CONTINUOUS).eval(), make_batch(CONTINUOUS)
    assert pick_way(model) == "modules"
    with torch.no_grad():
        assert torch.equal(make_decider(model)(*batch.fields), model(*batch.fields, last_only=True)[:, -1])


def test_a_way_that_a_model_cannot_be_used_in_is_refused():
    model = make_model(TINY, CONTINUOUS)
    with pytest.raises(ValueError, match=r"way: expected auto, modules or .* found 'cuda_graph'"):
        make_decider(model, "cuda_graph")
    assert make_decider(model, "modules").way == "modules"


@needs_compiler
@pytest.mark.parametrize("kind", FUSED)
def test_a_fast_way_decides_until_somebody_opens_a_probe_and_again_afterwards(kind):
    policy = running(kind)
    made = fast_calls(policy)
    policy.act(ONE)
    policy.observe(0.0)
    assert made == [1]
    with Probe(policy.model) as probe, DecisionMeter(policy.model) as meter:
        policy.act(ONE)
        meter.count(*policy.context.counted())
        assert bool(probe.firing_rates()) == (not kind.startswith("dense"))
    policy.observe(0.0)
    assert meter.total().macs > 0
    assert made == [1]
    policy.act(ONE)
    assert made == [1, 1]


@needs_compiler
def test_a_hook_on_all_modules_of_torch_is_called():
    policy, heard = running(), []
    policy.act(ONE)
    handle = torch.nn.modules.module.register_module_forward_hook(lambda m, *_: heard.append(type(m)))
    policy.observe(0.0)
    policy.act(ONE)
    handle.remove()
    assert ActionHead in heard
    assert DecisionTransformer in heard


@needs_compiler
@pytest.mark.parametrize("kind", FUSED)
def test_through_modules_calls_the_modules_and_ends_with_the_context(kind):
    policy = running(kind)
    made = fast_calls(policy)
    with policy.through_modules():
        with policy.through_modules():
            policy.act(ONE)
            policy.observe(0.0)
        policy.act(ONE)
        policy.observe(0.0)
    assert made == []
    policy.act(ONE)
    assert made == [1]


@needs_compiler
def test_a_policy_that_learns_decides_through_its_modules():
    policy = make_policy(kind="snn_dt_stream")
    policy.adapt(PlasticityConfig(eta=0.01))
    policy.reset(5.0)
    assert policy._decider.way == "modules"  # the kernel does not know what is added to the head
    policy.act(ONE)


@needs_compiler
def test_the_way_is_kept_over_resets_and_picked_anew_for_another_device_or_model():
    policy = running()
    first = policy._decider
    policy.reset(3.0)
    assert policy._decider is first
    policy.model = make_policy(kind="snn_dt").model
    policy.reset(3.0)
    assert policy._decider is not first
    policy.to("cpu")
    assert policy._decider is None


@pytest.mark.parametrize("kind", FUSED)
def test_a_decider_can_be_copied_and_decides_with_the_copy_of_its_model(kind):
    policy = running(kind)
    policy.act(ONE)
    for twin in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert twin._decider.model is twin.model
        assert twin._decider.model is not policy.model


def test_a_snapshot_sees_what_a_kernel_cannot_and_nothing_else():
    model = make_model(TINY, CONTINUOUS)
    snapshot = Snapshot(model)
    make_decider(model, "modules")
    with torch.no_grad():
        model.head.weight.mul_(2)  # in place: read anew by every decision
    assert not snapshot.changed()
    square = model.blocks[0].attention.out.weight
    square.data = square.data.t()
    assert snapshot.changed()
    square.data = square.data.t()
    assert not snapshot.changed()
    model.dropout.train()
    assert snapshot.changed()
    model.dropout.eval()
    model.norm.forward = lambda x: x
    assert snapshot.changed()
    del model.norm.forward
    assert not snapshot.changed()
    model.blocks.append(copy.deepcopy(model.blocks[0]))
    assert snapshot.changed()
