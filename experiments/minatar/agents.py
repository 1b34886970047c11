"""Train agents on MinAtar games and record them: `agents.py train GAME` and `agents.py collect GAME`.

PPO with a small convolution, saved at several strengths. The recording goes through them from weak to strong.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from snn_dt.data.collect import collect
from snn_dt.data.minatar import GAMES, env_id
from snn_dt.data.registration import make_by_id  # importing it registers the games

SAVED = (0.05, 0.2, 0.5, 1.0)
"""Parts of the training after which an agent is saved."""
MAX_STEPS = 2_500
"""Steps after which an episode is cut; some agents would play on for very long."""


class Convolution(BaseFeaturesExtractor):
    """The network published with MinAtar: 16 filters of 3 x 3 and 128 units."""

    def __init__(self, observation_space: Any, width: int = 128) -> None:
        super().__init__(observation_space, width)
        channels = observation_space.shape[0]  # stable-baselines3 puts the channels first
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 8 * 8, width), nn.ReLU()
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return [N, width] for images [N, C, 10, 10] between 0 and 1."""
        return self.layers(observations)


class SaveAt(BaseCallback):
    """Save the agent at the parts of the training that `SAVED` names, and print the mean return."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__()
        self.folder, self.total, self.left = folder, steps, list(SAVED)

    def _on_rollout_end(self) -> None:
        self._save(self.num_timesteps / self.total)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._save(1.0)

    def _save(self, done: float) -> None:
        while self.left and done >= self.left[0]:
            part = self.left.pop(0)
            self.model.save(self.folder / f"{part:.2f}")
            returns = [episode["r"] for episode in self.model.ep_info_buffer]
            print(f"{self.folder.name} {self.num_timesteps} steps, return {np.mean(returns):.1f}", flush=True)


class Mixed:
    """A policy for `collect`: equal numbers of episodes are played by a random policy and by each saved agent."""

    def __init__(self, game: str, agents: Path, episodes: int) -> None:
        self.agents = [PPO.load(agents / game / f"{part:.2f}", device="cpu") for part in SAVED]
        self.episodes, self.n_actions, self.agent = episodes, int(self.agents[0].action_space.n), None
        self.rng = np.random.default_rng(0)
        torch.manual_seed(0)

    def begin(self, episode: int) -> None:
        """Choose who plays: the random policy first, the strongest agent last."""
        level = episode * (len(self.agents) + 1) // self.episodes
        self.agent = self.agents[level - 1] if level else None

    def __call__(self, observation: Any) -> Any:
        """Return a random action or one drawn by the agent."""
        if self.agent is None:
            return self.rng.integers(self.n_actions)
        return self.agent.predict(observation)[0]


def train(game: str, agents: Path, steps: int) -> None:
    """Train PPO in 64 copies of a game and save it at the parts `SAVED`."""
    env = make_vec_env(env_id(game), n_envs=64, seed=0)
    network = {"features_extractor_class": Convolution, "net_arch": [], "share_features_extractor": True}
    agent = PPO(
        "CnnPolicy", env, learning_rate=lambda left: 1e-3 * left, n_steps=64, batch_size=1024, n_epochs=3, gamma=0.99,
        gae_lambda=0.95, ent_coef=0.01, max_grad_norm=0.5, policy_kwargs=network, seed=0, device="cpu",
    )  # fmt: skip
    agent.learn(steps, SaveAt(agents / game, steps))


def mean_return(game: str, policy: Mixed, begin: int, episodes: int = 50) -> float:
    """Return the mean return of who plays episode `begin` of a recording, over other reset seeds."""
    policy.begin(begin)
    env, total = make_by_id(env_id(game), max_episode_steps=MAX_STEPS), 0.0
    for seed in range(900_000, 900_000 + episodes):
        observation, done = env.reset(seed=seed)[0], False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            total, done = total + reward, terminated or truncated
    return total / episodes


def record(game: str, agents: Path, episodes: int, root: Path | None) -> None:
    """Record episodes of all strengths as Minari dataset `minatar/<game>/mixed-v0`."""
    policy = Mixed(game, agents, episodes)
    reference = mean_return(game, policy, 0), mean_return(game, policy, episodes - 1)
    print(f"{game}: random {reference[0]:.2f}, strongest agent {reference[1]:.2f}")
    name = f"minatar/{game.replace('_', '')}/mixed-v0"
    facts = {"algorithm_name": "random and 4 PPO agents", "reference": reference, "max_steps": MAX_STEPS}
    print(collect(env_id(game), policy, episodes=episodes, seed=500_000, dataset_id=name, root=root, **facts))


def main() -> None:
    """Read the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "collect"])
    parser.add_argument("game", choices=GAMES)
    parser.add_argument("--agents", type=Path, default=Path("runs/minatar/agents"))
    parser.add_argument("--steps", type=int, default=1_500_000, help="of the training")
    parser.add_argument("--episodes", type=int, default=300, help="of the recording")
    parser.add_argument("--root", type=Path, help="of Minari's datasets; default: Minari's own")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "train":
        train(options.game, options.agents, options.steps)
    else:
        record(options.game, options.agents, options.episodes, options.root)


if __name__ == "__main__":
    main()
