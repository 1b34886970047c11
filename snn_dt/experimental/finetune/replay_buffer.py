"""The replay buffer of fine-tuning, and windows and transitions of any dataset.

Shapes: N steps of all episodes; B samples of a batch; K context length; S state size; A action columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_dt.data.source import Episode
from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import Batch, WindowSampler, join
from snn_dt.evaluation.policy import Policy
from snn_dt.models.goals import takes_goal


class Transitions(NamedTuple):
    """Single steps with their successors.

    | field | shape | contents |
    |---|---|---|
    | `states`, `next_states` | [B, S] | normalised |
    | `actions` | [B, A] | environment units |
    | `rewards`, `terminated` | [B] | of this step |
    | `known` | [B] bool | False for the last step before a time-out: datasets do not hold its next state |
    | `discounted` | [B] | sum of the discounted rewards from this step to the end of the recorded episode |
    | `settled` | [B] bool | `discounted` is nearly complete: terminated, or at least 1 / (1 - gamma) steps follow |
    | `next_window` | B windows | the context that ends in the next state |
    | `returns` | [B] | return of the episode over the policy's `rtg_scale` |
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

    def to(self, device: torch.device) -> Transitions:
        """Return the transitions on a device."""
        return Transitions._make(part.to(device) for part in self)

    def concatenated(self, other: Transitions) -> Transitions:
        """Return the samples of both."""
        pairs: Iterable[tuple[Any, Any]] = zip(self, other, strict=True)
        return Transitions._make(join([a, b]) if isinstance(a, Batch) else torch.cat([a, b]) for a, b in pairs)


class TrainingData:
    """Windows of the best episodes of a dataset and transitions of all episodes, normalised as a policy expects them.

    `filter_top`: share of the steps that the best episodes hold. `rtg_range`: lowest and highest scaled return-to-go of
    these episodes.
    """

    def __init__(self, trajectories: Trajectories, policy: Policy, gamma: float, filter_top: float = 1.0) -> None:
        model: Any = policy.model
        mean, std = (x.cpu().numpy() for x in (policy.state_mean, policy.state_std))
        # the policy's normalisation, not the dataset's
        self.trajectories = replace(trajectories, state_mean=mean, state_std=std)
        best = self.trajectories.best(np.arange(trajectories.n_episodes), filter_top)  # episode numbers
        scale = policy.spec.rtg_scale
        self.windows = WindowSampler(
            self.trajectories, model.context_length, rtg_scale=scale, episodes=best, goals=takes_goal(model)
        )
        self._scale = scale
        ends = trajectories.episode_offsets
        # [steps of the best episodes]
        rtg = np.concatenate([trajectories.returns_to_go[ends[e] : ends[e + 1]] for e in best])
        self.rtg_range = float(rtg.min()) / scale, float(rtg.max()) / scale
        self._discounted = discounted_returns(trajectories, gamma)
        self._horizon = 1.0 / max(1.0 - gamma, 1e-9)  # effective length of a discounted sum, steps

    def batch(self, count: int, rng: np.random.Generator) -> tuple[Batch, Tensor]:
        """Draw windows. Return them and the return [B] of each window's episode over the policy's `rtg_scale`."""
        ends = self.windows.draw(rng, count)
        return self.windows.at(ends), self._returns(self._episodes(ends))

    def transitions(self, count: int, rng: np.random.Generator) -> Transitions:
        """Draw steps uniformly."""
        data = self.trajectories
        rows = rng.integers(data.n_steps, size=count)
        episodes = self._episodes(rows)
        last = rows == data.episode_offsets[episodes + 1] - 1
        terminated = last & data.terminated[episodes]  # [B]
        following = np.where(last, rows, rows + 1)  # the last step of an episode stands for its missing successor
        scaled = ((data.observations[r] - data.state_mean) / data.state_std for r in (rows, following))
        here, there = (states.astype(np.float32, copy=False) for states in scaled)
        # the remaining steps outlast the discount's horizon, or nothing is left out
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
        return Transitions._make((*tensors, self.windows.at(following), self._returns(episodes)))

    def _episodes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # step -> number of its episode
        return np.searchsorted(self.trajectories.episode_offsets, rows, side="right") - 1

    def _returns(self, episodes: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.trajectories.episode_returns[episodes] / self._scale).float()


def discounted_returns(trajectories: Trajectories, gamma: float) -> NDArray[np.float32]:
    """Return `g_t = r_t + gamma g_(t+1)` [N] of every step. The sum ends with the episode."""
    found = np.array(trajectories.rewards, np.float64)
    for start, end in pairwise(trajectories.episode_offsets.tolist()):
        for t in range(end - 2, start - 1, -1):  # backward in time; the last step keeps its reward
            found[t] += gamma * found[t + 1]
    return found.astype(np.float32)


class ReplayBuffer:
    """The last `capacity` episodes of the learner. Each step is labelled with the return-to-go that it achieved."""

    def __init__(self, policy: Policy, capacity: int) -> None:
        self.policy = policy
        self.episodes: deque[Episode] = deque(maxlen=capacity)

    def add(self, episodes: list[Episode]) -> None:
        """Add episodes; for a policy trained on delayed rewards the whole reward is moved to the last step."""
        for episode in episodes:
            rewards = np.asarray(episode.rewards, np.float64)
            if self.policy.spec.delayed:
                rewards = np.append(np.zeros(len(rewards) - 1), rewards.sum())  # delayed: all of it at the last step
            self.episodes.append(episode._replace(rewards=rewards))

    def training_data(self, gamma: float, filter_top: float = 1.0) -> TrainingData:
        """Return the episodes as training data; `gamma` discounts the returns that a critic starts from."""
        policy, episodes = self.policy, list(self.episodes)
        discrete = bool(policy.model.discrete)
        rewards = [e.rewards for e in episodes]
        to_go = [np.cumsum(r[::-1])[::-1] for r in rewards]  # sum from each step to the end
        trajectories = Trajectories(
            # the last observation of an episode has no action
            observations=np.concatenate([e.observations[:-1] for e in episodes]).astype(
                policy.state_mean.cpu().numpy().dtype
            ),
            # [N, A] or [N]
            actions=np.concatenate([e.actions for e in episodes]).astype(np.int64 if discrete else np.float32),
            rewards=np.concatenate(rewards).astype(np.float32),
            returns_to_go=np.concatenate(to_go).astype(np.float32),  # [N]
            # [episodes + 1]
            episode_offsets=np.concatenate([[0], np.cumsum([len(r) for r in rewards])]).astype(np.int64),
            terminated=np.array([e.terminated for e in episodes]),
            truncated=np.array([e.truncated for e in episodes]),
            state_mean=policy.state_mean.cpu().numpy(),
            state_std=policy.state_std.cpu().numpy(),
            observation_space=policy.observation_space,
            action_space=policy.action_space,
            env_id=policy.spec.env_id,
            env_spec=policy.spec.env_spec,
            dataset_id="new episodes",  # never cached, so it needs no checksum
            reward_mode="delayed" if policy.spec.delayed else "dense",
            checksum="",
            reference=None,
        )
        return TrainingData(trajectories, policy, gamma, filter_top)

    def state_dict(self) -> dict[str, Any]:
        """Return the episodes as tensors and plain values for `torch.save`."""
        return {
            "episodes": [
                [torch.from_numpy(np.ascontiguousarray(x)) for x in e[:3]] + [e.terminated, e.truncated]
                for e in self.episodes
            ]
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.episodes.clear()
        self.episodes.extend(Episode._make((*(x.numpy() for x in e[:3]), *e[3:])) for e in state["episodes"])
