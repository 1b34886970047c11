"""The guide begins, the learner takes over with warm membranes; its share grows as published."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.config import JumpStartConfig
from snn_dt.experimental.online.crazyflie import HOVER_ACTION, CrazyflieHoverVectorEnv
from snn_dt.experimental.online.jump_start import Curriculum, fly


def curriculum(kind: str = "linear", **changes) -> Curriculum:
    return Curriculum(replace(JumpStartConfig(), curriculum=kind, **changes), warm_up=50, horizon=500)


def drones(n: int = 3, spread: float = 0.3) -> CrazyflieHoverVectorEnv:
    return CrazyflieHoverVectorEnv(n, 500, "privileged", spread=spread, autoreset=False)


def hover(observations):
    return np.full((len(observations), 4), HOVER_ACTION, np.float32)


def actor() -> SpikingActor:
    torch.manual_seed(0)
    return SpikingActor(18, 4, (8, 8), 2.0)


def test_the_guide_flies_what_the_learner_does_not_but_always_the_warm_up():
    c, guided = curriculum(), []
    for _ in range(38):  # as published: N = 50, 75, ..., 975
        guided.append(c.guided)
        c.advance(None)
    assert guided[:3] == [450, 425, 400]
    assert guided == [max(50, 500 - n) for n in range(50, 976, 25)]


def test_without_a_jump_start_nobody_guides():
    assert curriculum(enabled=False).guided == 0


def test_by_score_the_share_grows_only_near_the_best():
    c = curriculum("score", tolerance=20.0)
    for score, stage in ((100.0, 1), (None, 1), (50.0, 1), (85.0, 2), (200.0, 3)):
        c.advance(score)
        assert c.stage == stage


def test_at_random_every_flight_has_its_own_share():
    c, rng = curriculum("random"), np.random.default_rng(0)
    drawn = [c.draw(rng) for _ in range(300)]
    assert min(drawn) >= 50
    assert max(drawn) <= 450
    assert len(set(drawn)) > 100


def test_a_saved_curriculum_goes_on_alike():
    ours, theirs = curriculum("score"), curriculum("score")
    ours.advance(100.0)
    theirs.load_state_dict(ours.state_dict())
    ours.advance(10.0), theirs.advance(10.0)
    assert (ours.stage, ours.best) == (theirs.stage, theirs.best) == (1, 100.0)


def test_the_guides_actions_are_flown_first_then_the_learners():
    learner = actor()
    flights = fly(drones(), 60, learner, hover, lambda _: 20, 0.0, 0.0, np.random.default_rng(0))
    longest = max(flights, key=lambda f: len(f.rewards))
    assert len(longest.rewards) > 25
    assert longest.guided == 20
    np.testing.assert_allclose(longest.actions[:20], HOVER_ACTION, atol=1e-6)
    # The learner's membranes have seen the guide's steps: its actions are those of the whole sequence.
    with torch.no_grad():
        whole, _ = learner(torch.from_numpy(longest.observations[:-1, None]))
    np.testing.assert_allclose(longest.actions[20:], whole[20:, 0].numpy(), atol=1e-5)


def test_flights_add_up_to_the_steps_flown_and_cut_ones_have_not_terminated():
    flights = fly(drones(5, spread=1.0), 120, actor(), None, lambda _: 0, 0.1, 0.0, np.random.default_rng(0))
    assert sum(len(f.rewards) for f in flights) == 5 * 120
    assert any(f.terminated for f in flights)
    for f in flights:
        assert len(f.observations) == len(f.rewards) + 1 == len(f.actions) + 1
        outside = (np.abs(f.observations[:, :3]) > 0.6).any(axis=1)
        assert outside[-1] == f.terminated
        assert not outside[:-1].any()


def test_running_out_of_time_is_no_termination():
    env = CrazyflieHoverVectorEnv(2, 10, "privileged", spread=0.0, autoreset=False)
    flights = fly(env, 25, actor(), hover, lambda _: 500, 0.0, 0.0, np.random.default_rng(0))
    assert sorted(len(f.rewards) for f in flights) == [5, 5, 10, 10, 10, 10]
    assert not any(f.terminated for f in flights)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_generator_flies_the_same(seed):
    a, b = (fly(drones(), 40, actor(), hover, lambda r: int(r.integers(30)), 0.1, 0.1, np.random.default_rng(seed))
            for _ in range(2))  # fmt: skip
    assert all(np.array_equal(x.observations, y.observations) for x, y in zip(a, b, strict=True))


def test_the_guide_is_noisy_though_the_learner_is_not():
    flights = fly(drones(), 30, actor(), hover, lambda _: 30, 0, 0.1, np.random.default_rng(0))
    spread = np.std(np.concatenate([flight.actions for flight in flights]))
    assert 0.07 < spread < 0.13
