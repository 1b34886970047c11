"""New episodes as a dataset, and transitions out of any dataset.

N steps of all episodes, B drawn, K context length, S state size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_dt.data.source import Episode
from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import Batch, Windows
from snn_dt.evaluation.policy import Policy


class Transitions(NamedTuple):
    """Single steps and what followed.

    `states`, `next_states` [B, S] normalised; `actions` [B, A] environment units; `rewards`, `terminated` [B];
    `known` [B]: False for the last step before a time-out, whose next state no dataset of ours holds;
    `discounted` [B]: rewards from this step on, discounted; `settled` [B]: it is (nearly) the whole of what follows, as
    the episode terminated or goes on for 1 / (1 - gamma) steps or more;
    `next_window`: the context that ends in the next state; `returns` [B]: of its episode, over the policy's scale.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    known: Tensor
    next_states: Tensor
    discounted: Tensor
    settled: Tensor
    next_window: Batch
    returns: Tensor


class Source:
    """Windows of the best episodes of one dataset and transitions of all, in the units of one policy.

    `filter_top`: share of the steps that the best episodes hold; `rtg_range`: their lowest and highest scaled
    return-to-go.
    """

    def __init__(self, trajectories: Trajectories, policy: Policy, gamma: float, filter_top: float = 1.0) -> None:
        model: Any = policy.model
        mean, std = (x.cpu().numpy() for x in (policy.state_mean, policy.state_std))
        self.trajectories = replace(trajectories, state_mean=mean, state_std=std)
        best = self.trajectories.best(np.arange(trajectories.n_episodes), filter_top)
        scale = policy.spec.rtg_scale
        self.windows = Windows(self.trajectories, model.context_length, rtg_scale=scale, episodes=best)
        self._scale = policy.spec.rtg_scale
        ends = trajectories.episode_offsets
        learned = np.concatenate([trajectories.returns_to_go[ends[e] : ends[e + 1]] for e in best])
        self.rtg_range = float(learned.min()) / scale, float(learned.max()) / scale
        self._discounted = discounted_returns(trajectories, gamma)
        self._horizon = 1.0 / max(1.0 - gamma, 1e-9)

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Batch, Tensor]:
        """Draw windows, and the return [B] of the episode of each over the policy's scale."""
        ends = self.windows.draw(rng, count)
        return self.windows.at(ends), self._returns(self._episodes(ends))

    def transitions(self, count: int, rng: np.random.Generator) -> Transitions:
        """Draw steps, each as likely."""
        data = self.trajectories
        rows = rng.integers(data.n_steps, size=count)
        episodes = self._episodes(rows)
        last = rows == data.episode_offsets[episodes + 1] - 1
        terminated = last & data.terminated[episodes]
        following = np.where(last, rows, rows + 1)
        scaled = ((data.observations[r] - data.state_mean) / data.state_std for r in (rows, following))
        here, there = (states.astype(np.float32, copy=False) for states in scaled)
        settled = data.terminated[episodes] | (data.episode_offsets[episodes + 1] - rows >= self._horizon)
        arrays = (
            here,
            data.actions[rows],
            data.rewards[rows],
            terminated.astype(np.float32),
            ~last | terminated,
            there,
            self._discounted[rows],
            settled,
        )
        tensors = (torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)
        return Transitions(*tensors, self.windows.at(following), self._returns(episodes))

    def _episodes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self.trajectories.episode_offsets, rows, side="right") - 1

    def _returns(self, episodes: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.trajectories.episode_returns[episodes] / self._scale).float()


def discounted_returns(trajectories: Trajectories, gamma: float) -> NDArray[np.float32]:
    """Return `g_t = r_t + gamma g_(t+1)` of every step [N], within its episode."""
    found = np.array(trajectories.rewards, np.float64)
    for start, end in pairwise(trajectories.episode_offsets.tolist()):
        for t in range(end - 2, start - 1, -1):
            found[t] += gamma * found[t + 1]
    return found.astype(np.float32)


class Replay:
    """The last `capacity` episodes of the learner, each step labelled with the return that really followed it."""

    def __init__(self, policy: Policy, capacity: int) -> None:
        self.policy = policy
        self.episodes: deque[Episode] = deque(maxlen=capacity)

    def add(self, episodes: list[Episode]) -> None:
        """Take new episodes; with delayed rewards their reward is moved to the last step, as in the policy's data."""
        for episode in episodes:
            rewards = np.asarray(episode.rewards, np.float64)
            if self.policy.spec.delayed:
                rewards = np.append(np.zeros(len(rewards) - 1), rewards.sum())
            self.episodes.append(episode._replace(rewards=rewards))

    def source(self, gamma: float, filter_top: float = 1.0) -> Source:
        """Return the episodes as a dataset, with returns discounted by `gamma` for critics."""
        policy, episodes = self.policy, list(self.episodes)
        discrete = bool(policy.model.discrete)
        rewards = [e.rewards for e in episodes]
        to_go = [np.cumsum(r[::-1])[::-1] for r in rewards]
        trajectories = Trajectories(
            observations=np.concatenate([e.observations[:-1] for e in episodes]).astype(
                policy.state_mean.cpu().numpy().dtype
            ),
            actions=np.concatenate([e.actions for e in episodes]).astype(np.int64 if discrete else np.float32),
            rewards=np.concatenate(rewards).astype(np.float32),
            returns_to_go=np.concatenate(to_go).astype(np.float32),
            episode_offsets=np.concatenate([[0], np.cumsum([len(r) for r in rewards])]).astype(np.int64),
            terminated=np.array([e.terminated for e in episodes]),
            truncated=np.array([e.truncated for e in episodes]),
            state_mean=policy.state_mean.cpu().numpy(),
            state_std=policy.state_std.cpu().numpy(),
            observation_space=policy.observation_space,
            action_space=policy.action_space,
            env_id=policy.spec.env_id,
            env_spec=policy.spec.env_spec,
            dataset_id="new episodes",
            reward_mode="delayed" if policy.spec.delayed else "dense",
            checksum="",
            reference=None,
        )
        return Source(trajectories, policy, gamma, filter_top)

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes as tensors and plain values."""
        return {
            "episodes": [
                [torch.from_numpy(np.ascontiguousarray(x)) for x in e[:3]] + [e.terminated, e.truncated]
                for e in self.episodes
            ]
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.episodes.clear()
        self.episodes.extend(Episode(*(x.numpy() for x in e[:3]), e[3], e[4]) for e in state["episodes"])
