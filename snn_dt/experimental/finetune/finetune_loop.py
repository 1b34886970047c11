"""The fine-tuning loop: gather episodes and update.

It can be saved and resumed between two iterations. The generators of iteration i are seeded with (seed, i), so no
generator state has to be saved.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import Batch, join
from snn_dt.evaluation.policy import Policy
from snn_dt.experimental.finetune.config import FinetuneConfig
from snn_dt.experimental.finetune.explore import Explorer, gather, scale_is_known
from snn_dt.experimental.finetune.replay_buffer import ReplayBuffer, TrainingData, Transitions
from snn_dt.experimental.finetune.update import FineTuner
from snn_dt.models import TaskShape

_log = logging.getLogger("snn_dt")
FIRST_SEED = 2_000_000
"""Reset seed of the first new episode; evaluations use much smaller seeds."""


class FinetuneLoop:
    """Fine-tunes `policy.model` in place.

    Args:
        policy: the trained policy.
        config: the whole run.
        envs: environments that run side by side to gather episodes.
        dataset: data mixed into every batch, or None.
    """

    def __init__(
        self, policy: Policy, config: FinetuneConfig, envs: Sequence[Any], dataset: Trajectories | None
    ) -> None:
        self.policy, self.config, self.envs = policy, config, envs
        u = config.update
        self.tuner = FineTuner(policy.model, u)
        self.replay = ReplayBuffer(policy, u.capacity)
        self.dataset = None
        if dataset is not None:
            self.dataset = TrainingData(dataset, policy, u.gamma, u.filter_top)
            self.tuner.widen_returns(*self.dataset.rtg_range)  # its returns may exceed those of the training
            self._saw(dataset.episode_returns)
        self.deviation = self._deviation(dataset)
        self.iteration, self.env_steps, self.best_own = 0, 0, -np.inf

    def _deviation(self, dataset: Trajectories | None) -> NDArray[np.float64] | None:
        """Return the standard deviation [A] of the actions in the dataset or in the policy's training data."""
        if self.policy.model.discrete:
            return None
        known = self.policy.spec.action_deviation
        found = None if known is None else np.asarray(known)
        if dataset is not None:
            found = np.std(dataset.actions, axis=0, dtype=np.float64)
        if self.config.explore.noise and not scale_is_known(self.policy.action_space, found):
            _log.warning(
                "the actions have no bounds and the spread of the data's actions is unknown: the noise has the "
                "deviation explore.noise, %g, in units of an action; name the data (--update.dataset), or train "
                "the model again",
                self.config.explore.noise,
            )
        return found

    @property
    def target_return(self) -> float:
        """The target return of new episodes in environment units."""
        if self.config.explore.target_return is not None:
            return self.config.explore.target_return
        return max(self.policy.spec.target_return, float(self.best_own))

    def iterate(self) -> dict[str, float]:
        """Gather episodes and update once; return the iteration's metrics."""
        u = self.config.update
        rng = np.random.default_rng([u.seed, self.iteration])
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        metrics = self._gather(rng)
        new, sums = self.replay.training_data(u.gamma, u.filter_top), dict[str, list[float]]()
        self.tuner.widen_returns(*new.rtg_range)  # new episodes may exceed the returns seen in training
        spec = self.policy.spec
        target = self.target_return / spec.rtg_scale
        self.tuner.aim = float(spec.goals(np.asarray(self.target_return))) / spec.rtg_scale
        # only in the first iteration, before the model listens to the critic
        warm_up = u.critic_warm_up if self.iteration == 0 and self.tuner.critic is not None else 0
        for _ in range(warm_up):
            self.tuner.begin_critic(self._transitions(new, rng))
        for _ in range(u.updates):
            parts: dict[str, torch.Tensor] = {}
            if self.tuner.critic is not None:
                parts |= self.tuner.update_critic(self._transitions(new, rng), target, generator)
            windows, returns = self._windows(new, rng)
            parts |= self.tuner.update_model(windows, returns, target)
            for name, value in parts.items():
                sums.setdefault(name, []).append(float(value))
        self.iteration += 1
        return metrics | {name: float(np.mean(values)) for name, values in sums.items()}

    def _gather(self, rng: np.random.Generator) -> dict[str, float]:
        x = self.config.explore
        explorer = Explorer(self.policy, x.noise, x.epsilon, rng, self.deviation)
        # reset seeds of different runs and iterations do not overlap
        seed = FIRST_SEED + 10_000_000 * (self.config.update.seed % 100) + self.iteration * x.episodes
        target = self.target_return
        episodes = gather(explorer, self.envs, target, x.episodes, seed)
        self.replay.add(episodes)
        returns = [float(np.sum(e.rewards)) for e in episodes]
        self._saw(returns)
        self.env_steps += sum(len(e.rewards) for e in episodes)
        self.best_own = max(self.best_own, *returns)  # raises the target return of the next iteration
        return {
            "env_steps": float(self.env_steps),
            "asked": target,  # recorded under this name since the first version
            "new_return": float(np.mean(returns)),
            "new_return_best": max(returns),
        }

    def _saw(self, returns: ArrayLike) -> None:
        """Extend the range of returns that the policy knows. A target within it is not beyond the data."""
        spec, found = self.policy.spec, np.asarray(returns)
        if spec.return_range is not None:
            low, high = min(spec.return_range[0], float(found.min())), max(spec.return_range[1], float(found.max()))
            self.policy.spec = replace(spec, return_range=(low, high))

    def _shares(self) -> tuple[int, int]:
        """Return how many windows of a batch come from the dataset and how many from new episodes."""
        u = self.config.update
        old = 0 if self.dataset is None else round(u.dataset_share * u.batch_size)  # from the dataset
        return old, u.batch_size - old

    def _windows(self, new: TrainingData, rng: np.random.Generator) -> tuple[Batch, torch.Tensor]:
        old, own = self._shares()
        windows, returns = new.batch(own, rng)
        if self.dataset is not None and old:
            old_windows, old_returns = self.dataset.batch(old, rng)
            windows, returns = join([windows, old_windows]), torch.cat([returns, old_returns])  # [own + old, ...]
        device = self.policy.device
        return windows.to(device), returns.to(device)

    def _transitions(self, new: TrainingData, rng: np.random.Generator) -> Transitions:
        old, own = self._shares()
        steps = new.transitions(own, rng)
        if self.dataset is not None and old:
            steps = steps.concatenated(self.dataset.transitions(old, rng))
        return steps.to(self.policy.device)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next iteration depends on."""
        task: TaskShape = self.tuner.model.task
        return {
            "tuner": self.tuner.state_dict(),
            "replay": self.replay.state_dict(),
            "iteration": self.iteration,
            "env_steps": self.env_steps,
            "best_own": float(self.best_own),
            "rtg_range": list(task.rtg_range or ()),
            "return_range": list(self.policy.spec.return_range or ()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.tuner.load_state_dict(state["tuner"])
        self.replay.load_state_dict(state["replay"])
        if state.get("rtg_range"):  # absent in states of older versions; the next iteration recomputes it
            self.tuner.widen_returns(*state["rtg_range"])
        if state.get("return_range"):
            self._saw(state["return_range"])
        self.iteration, self.env_steps, self.best_own = state["iteration"], state["env_steps"], state["best_own"]
