"""The tasks are what they say: rates, cues, answers, losses; a sample is a function of seed and step."""

from __future__ import annotations

import math

import pytest
import torch

from snn_dt.experimental.rsnn.config import LearnConfig, TaskConfig
from snn_dt.experimental.rsnn.tasks import TASKS, Classes, Evidence, Pattern, make_task

CONFIGS = {
    "pattern": TaskConfig(),
    "evidence": TaskConfig(kind="evidence", inputs=40, steps=1200, rate_hz=40),
    "classes": TaskConfig(kind="classes", inputs=40, steps=100, rate_hz=100),
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_sample_is_a_function_of_seed_and_step(kind):
    task, again = make_task(CONFIGS[kind], LearnConfig()), make_task(CONFIGS[kind], LearnConfig())
    first = task.draw(0, 3, 2)
    same = again.draw(0, 3, 2)
    assert torch.equal(first.x, same.x)
    assert torch.equal(first.target, same.target)
    assert set(first.x.unique().tolist()) == {0.0, 1.0}
    if kind != "pattern":
        assert not torch.equal(first.x, task.draw(0, 4, 2).x)
        assert not torch.equal(first.x, task.draw(1, 3, 2).x)


def test_the_pattern_is_four_sines_of_largest_value_1_on_frozen_noise():
    task = Pattern(CONFIGS["pattern"], LearnConfig())
    assert task.curve.shape == (1000, 1, 1)
    assert task.curve.abs().max() == 1
    power = torch.fft.rfft(task.curve.flatten()).abs().square()
    periods = power.topk(4).indices
    assert sorted(periods.tolist()) == [1, 2, 3, 5]  # per second
    assert power[periods].sum() / power.sum() > 0.999
    assert task.noise.mean().item() == pytest.approx(0.05, abs=0.003)
    y = torch.zeros(1000, 2, 1)
    target = task.curve.expand(-1, 2, -1)
    assert task.loss(y, target).item() == pytest.approx(0.5 * task.curve.square().sum().item(), rel=1e-5)
    assert task.scores(y + target.mean(), target)["error"].item() == pytest.approx(1, rel=1e-4)


def test_evidence_has_the_published_times_and_rates_and_the_answer_is_the_side_with_more_cues():
    task = Evidence(CONFIGS["evidence"], LearnConfig())
    x, target = task.draw(0, 0, 400)
    assert x.shape == (2250, 400, 40)
    cues = x[:1050].view(7, 150, 400, 4, 10)
    left, right = (cues[:, :100, :, side].mean((1, 3)) > 0.02 for side in (0, 1))
    assert (left ^ right).all()  # one cue at a time
    assert torch.equal(target, (right.sum(0) > 3).long())
    assert cues[:, 100:, :, :2].sum() == 0
    assert x[1050:, :, :20].sum() == 0
    assert x[:-150, :, 20:30].sum() == 0
    assert x[-150:, :, 20:30].mean().item() == pytest.approx(0.04, rel=0.05)
    assert x[:, :, 30:].mean().item() == pytest.approx(0.01, rel=0.05)
    share = torch.where(target == 1, right.sum(0), left.sum(0)).float().mean() / 7
    binomial = sum(math.comb(7, k) * 0.7**k * 0.3 ** (7 - k) * max(k, 7 - k) for k in range(8)) / 7
    assert share.item() == pytest.approx(binomial, abs=0.02)


def test_evidence_hears_only_the_recall():
    task = Evidence(CONFIGS["evidence"], LearnConfig())
    y, target = torch.zeros(2250, 3, 2), torch.tensor([0, 1, 1])
    y[:-150, :, 0] = 9
    assert task.loss(y, target).item() == pytest.approx(math.log(2), rel=1e-5)
    y[-150:, :, 1] = 2
    assert task.scores(y, target)["error"].item() == pytest.approx(1 / 3)


def test_classes_differ_in_which_inputs_fire_and_a_tie_is_wrong():
    task = Classes(CONFIGS["classes"], LearnConfig())
    x, target = task.draw(0, 0, 256)
    for c in range(4):
        rates = x[:, target == c].mean((0, 1))
        active = rates > 0.055
        assert active.sum() == 8
        assert rates[active].mean().item() == pytest.approx(0.1, rel=0.1)
        assert rates[~active].mean().item() == pytest.approx(0.01, rel=0.15)
    y = torch.zeros(10, 2, 4)
    y[:5, 0, 2] = 1
    scores = task.scores(y, torch.tensor([2, 1]))
    assert scores["error"] == 0.5
    assert scores["margin"].item() == pytest.approx(0.25)
    by_hand = (math.log(math.exp(5) + 3) - 5 + math.log(4)) / 2  # rates .5 and 0 at temperature .1
    assert task.loss(y, torch.tensor([2, 1])).item() == pytest.approx(by_hand)
    hinge = Classes(CONFIGS["classes"], LearnConfig(loss="margin", margin=0.2))
    assert hinge.loss(y, torch.tensor([2, 1])).item() == pytest.approx(0.1)  # 0 and .2
