"""A trained policy does what it is asked to: a lower target gives a lower return."""

from __future__ import annotations

import minari
import numpy as np
import pytest
import torch
from minari.data_collector import EpisodeBuffer

from snn_dt.checkpoint import from_pretrained
from snn_dt.data import WindowSampler, load_dataset
from snn_dt.evaluation.rollout import evaluate
from tests.conftest import CountdownEnv, register_countdown
from tests.runs import shared_cache as shared_cache
from tests.runs import train


@pytest.fixture(scope="module")
def mixed_data(tmp_path_factory):
    """400 countdowns by players who press 1 with a probability of their own: returns from 0 to 7, of every length."""
    folder = tmp_path_factory.mktemp("minari")
    env, rng, buffers = CountdownEnv(), np.random.default_rng(0), []
    for seed in range(400):
        observations, actions, rewards, over = [env.reset(seed=seed)[0]], [], [], False
        skill = rng.random()
        while not over:
            actions.append(int(rng.random() < skill))
            observation, reward, over, _, _ = env.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
        ends = [False] * (len(actions) - 1) + [True]
        episode = {"observations": np.stack(observations), "actions": np.array(actions), "rewards": np.array(rewards)}
        flags = {"terminations": ends, "truncations": [False] * len(actions)}
        buffers.append(EpisodeBuffer(id=seed, seed=seed, **episode, **flags))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        minari.create_dataset_from_buffers(
            "toy/countdown-v0",
            buffers,
            observation_space=env.observation_space,
            action_space=env.action_space,
        )
    return folder / "toy" / "countdown-v0"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:minari.*")
@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt_stream"])
def test_a_lower_target_gives_a_lower_return_and_a_middle_one_a_middle_return(mixed_data, tmp_path, kind):
    changes = {
        **{"model__kind": kind, "model__context_length": 8, "model__d_model": 32, "data__dataset": mixed_data},
        **{"train__steps": 250, "train__batch_size": 64, "train__learning_rate": 3e-3, "train__warmup_steps": 20},
        **{"train__eval_every": 0, "train__save_every": 500, "eval__episodes": 1, "eval__env_id": "Countdown-v0"},
    }
    if kind == "snn_dt_stream":
        changes |= {"model__tau_mem": 1.3, "train__stateful": "true"}
    env_id = register_countdown()
    assert train(tmp_path / "run", **changes) == 0
    rows = evaluate(from_pretrained(tmp_path / "run"), [0, 2, 7], episodes=20, seed=1000, env_id=env_id)
    low, middle, high = (row["return_mean"] for row in rows)
    assert low < 0.5
    assert abs(middle - 2) < 0.7
    assert high > 4  # of the 5 that are there on average


@pytest.mark.filterwarnings("ignore::UserWarning:minari.*")
def test_half_of_the_windows_may_be_of_the_best_tenth(mixed_data, tmp_path, monkeypatch):
    seen: list[np.ndarray] = []
    at = WindowSampler.at
    monkeypatch.setattr(WindowSampler, "at", lambda self, ends, *more: seen.append(ends) or at(self, ends, *more))
    changes = {"data__dataset": mixed_data, "data__validation_fraction": 0.0, "eval__episodes": 0}
    assert train(tmp_path / "run", **changes, data__oversample_top=0.5) == 0
    data = load_dataset(str(mixed_data))
    drawn = np.searchsorted(data.episode_offsets, np.concatenate(seen), side="right") - 1
    share = np.isin(drawn, data.best(np.arange(data.n_episodes), 0.1)).mean()
    assert share == pytest.approx(0.5 + 0.5 * 0.1, abs=0.05)


@pytest.mark.filterwarnings("ignore::UserWarning:minari.*")
def test_behaviour_cloning_of_the_best_episodes_trains_on_them_alone_and_plays_alike_whatever_it_is_asked(
    mixed_data, tmp_path, monkeypatch
):
    changes = {
        **{"model__return_conditioned": False, "data__filter_top": 0.1, "data__validation_fraction": 0.0},
        **{"data__dataset": mixed_data, "train__learning_rate": 3e-2, "train__warmup_steps": 0, "train__eval_every": 0},
        **{"eval__episodes": 1, "eval__env_id": register_countdown()},
    }
    seen: list[np.ndarray] = []
    at = WindowSampler.at
    monkeypatch.setattr(WindowSampler, "at", lambda self, ends, *more: seen.append(ends) or at(self, ends, *more))
    assert train(tmp_path / "run", **changes) == 0
    data = load_dataset(str(mixed_data))
    trained = np.unique(np.searchsorted(data.episode_offsets, np.concatenate(seen), side="right") - 1)
    others = np.setdiff1d(np.arange(data.n_episodes), trained)
    assert 0 < data.episode_lengths[trained].sum() <= 0.12 * data.n_steps
    assert data.episode_returns[trained].min() >= np.quantile(data.episode_returns[others], 0.95)
    policy = from_pretrained(tmp_path / "run")
    logits: list[torch.Tensor] = []
    policy.model.register_forward_hook(lambda *call: logits.append(call[2]))
    low, high = evaluate(policy, [0, 7], episodes=10, seed=1000, env_id=changes["eval__env_id"])
    half = len(logits) // 2
    assert all(torch.equal(a, b) for a, b in zip(logits[:half], logits[half:], strict=True))
    assert low["returns"] == high["returns"]
