"""A guide that is an MLP: its file, and the PPO of stable-baselines3 that trains one.

Shapes: N environments; P observation columns; A action columns. A guide reads the first columns of an observation, as
many as its first layer takes.

The file is safetensors: `layers.0.weight`, `layers.0.bias`, `layers.2.weight`, ... (weights [out, in]). Its metadata
name the output and the score, as JSON in `about` or as entries of their own. Without metadata the output is `tanh`, as
in the guides of earlier versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_dt.checkpoint import read_tensors
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.experimental.online.actor_critic import mlp
from snn_dt.experimental.online.config import OnlineConfig
from snn_dt.experimental.online.task import Task
from snn_dt.io import write_atomically

PIP = 'pip install "snn-dt[rl]"'
ENVIRONMENTS, ROLLOUT = 64, 128
"""Environments side by side, and steps of each between two updates."""


class MLPGuide(nn.Module):
    """Linear layers with tanh between them; actions are `clip(x, -1, 1)`, or `tanh(x)` in older files.

    It has no state: `guide(observations [N, P] float32) -> actions [N, A] float32`, NumPy arrays.
    """

    def __init__(self, sizes: list[int], output: str = "clip", about: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.layers, self.sizes, self.output = mlp(sizes, nn.Tanh), sizes, output
        self.about = dict(about or {})

    def forward(self, observations: Tensor) -> Tensor:
        """Return the actions [..., A] for observations [..., P]."""
        x: Tensor = self.layers(observations[..., : self.sizes[0]])
        return torch.tanh(x) if self.output == "tanh" else x.clamp(-1.0, 1.0)

    @torch.no_grad()
    def __call__(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Act on N environments."""
        actions: NDArray[np.float32] = self.forward(torch.from_numpy(observations)).numpy()
        return actions


def save_guide(guide: MLPGuide, path: Path) -> None:
    """Write a guide and what is known about it.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from safetensors.torch import save

    weights = {name: tensor.contiguous() for name, tensor in guide.state_dict().items()}
    try:
        # One entry: safetensors writes several in an order that changes from process to process.
        about = json.dumps({"output": guide.output, **guide.about}, sort_keys=True)
        write_atomically(path, save(weights, {"about": about}))
    except OSError as error:
        raise CheckpointError(
            f"expected to write {path}, found: {error.strerror}; free space or choose another --run-dir"
        ) from error


def load_guide(path: Path, task: Task, cure: str, field: str = "") -> MLPGuide:
    """Read an MLP of any size that fits the task.

    Raises:
        CheckpointError: the file is missing or damaged, is no MLP, or has other columns than the task.
    """
    from safetensors import safe_open

    try:
        tensors = read_tensors(path)
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
        if "about" in about:
            about = {str(name): str(value) for name, value in json.loads(about["about"]).items()}
        count = sum(name.endswith(".weight") for name in tensors)
        weights = [tensors[f"layers.{2 * i}.weight"] for i in range(count)]
        sizes = [weights[0].shape[1], *(len(weight) for weight in weights)]
        if sizes[0] > task.observation_dim or sizes[-1] != task.action_dim:
            raise ValueError(f"{sizes[0]} observation and {sizes[-1]} action columns")
        guide = MLPGuide(sizes, about.pop("output", "tanh"), about)
        guide.load_state_dict(tensors)
    except Exception as error:  # a missing, damaged or mismatched file each raise their own type
        raise CheckpointError(
            f"{field}expected an MLP for {task.observation_dim} observation and {task.action_dim} action columns at "
            f"{path}, found: {' '.join(str(error).split())}; {cure}"
        ) from error
    return guide


def train_ppo_guide(config: OnlineConfig, task: Task, log: Callable[[str], None]) -> MLPGuide:
    """Train a guide by the PPO of stable-baselines3 (Raffin et al. 2021) for `guide.most_steps` environment steps.

    64 environments in one array; rollouts of 128 steps; 10 epochs in batches of 2048; Adam at 3e-4.

    Raises:
        ConfigError: stable-baselines3 is missing.
    """
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import VecNormalize
    except ImportError as error:
        raise ConfigError(f"guide.kind: expected stable-baselines3 for `ppo`, found none; {PIP}") from error
    from snn_dt.experimental.online.sb3_adapter import Adapter, Progress

    g = config.guide
    environment: Any = Adapter(task.make(ENVIRONMENTS), task.columns(g.sees), config.train.seed)
    if g.normalise:
        environment = VecNormalize(environment)
    model = PPO(
        *("MlpPolicy", environment),
        **{"n_steps": ROLLOUT, "batch_size": 2048, "n_epochs": 10, "learning_rate": 3e-4, "gamma": config.learn.gamma},
        **{"seed": config.train.seed, "device": "cpu"},
        policy_kwargs={"net_arch": list(g.hidden), "log_std_init": -1.0},
    )
    model.learn(g.most_steps, callback=Progress(log))
    policy: Any = model.policy
    linears = [*(part for part in policy.mlp_extractor.policy_net if isinstance(part, nn.Linear)), policy.action_net]
    guide = MLPGuide([linears[0].in_features, *(linear.out_features for linear in linears)])
    with torch.no_grad():
        for own, theirs in zip((part for part in guide.layers if isinstance(part, nn.Linear)), linears, strict=True):
            own.load_state_dict(theirs.state_dict())
        if g.normalise:  # (x - mean) / std goes into the first layer
            first, rms = next(part for part in guide.layers if isinstance(part, nn.Linear)), environment.obs_rms
            scale = torch.from_numpy(1.0 / np.sqrt(rms.var + environment.epsilon)).float()
            first.weight.mul_(scale)
            first.bias.sub_(first.weight @ torch.from_numpy(rms.mean).float())
    guide.about = {"env_id": task.config.env_id, "steps": str(model.num_timesteps)}
    return guide
