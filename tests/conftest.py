"""What several tests share: tiny models, batches and datasets."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.config import ModelConfig
from snn_dt.data.windows import Batch
from snn_dt.models import TaskShape, build_model
from snn_dt.models.norms import PTBN
from tests.campaign.plugin import pytest_addoption as pytest_addoption
from tests.campaign.plugin import pytest_terminal_summary as pytest_terminal_summary

ROOT = Path(__file__).parents[1]
DISCRETE = TaskShape(state_dim=4, action_dim=3, discrete=True, n_timesteps=50)
CONTINUOUS = TaskShape(5, 2, False, 50, action_low=(-2.0, -1.0), action_high=(2.0, 3.0))
TINY = ModelConfig(d_model=16, n_layers=2, n_heads=2, context_length=6)
VARIANTS = {
    "dense": {"kind": "dense"},
    "snn_dt": {"kind": "snn_dt"},
    "snn_dt-phase": {"kind": "snn_dt", "positions": "phase"},
    "snn_dt-phase-gate": {"kind": "snn_dt", "positions": "phase", "phase_input": "gate", "phase_generators": 4},
    "snn_dt-sinusoidal": {"kind": "snn_dt", "positions": "sinusoidal", "reset": "soft"},
    "snn_dt-spikes": {"kind": "snn_dt", "coding": "spikes"},
    "snn_dt-linear": {"kind": "snn_dt", "attention": "linear"},
    "snn_dt-routing": {"kind": "snn_dt", "routing": True, "reset": "none"},
    "snn_dt-phase-routing": {"kind": "snn_dt", "positions": "phase", "routing": True, "tau_mem": 20.0, "reset": "soft"},
    "snn_dt-merged-spikes-linear": {
        "kind": "snn_dt", "tokens": "merged", "coding": "spikes", "attention": "linear", "positions": "none",
    },
    "dense-merged": {"kind": "dense", "tokens": "merged"},
    "snn_dt-rate-head": {"kind": "snn_dt", "head": "rate", "head_neurons": 3},
    "snn_dt_stream": {"kind": "snn_dt_stream"},
    "dsformer_tssa": {"kind": "dsformer_tssa"},
    "dsformer_tssa-interleaved": {"kind": "dsformer_tssa", "tokens": "interleaved"},
    "dsformer_pssa": {"kind": "dsformer_pssa", "attention_window": 3},
    "dense-span": {"kind": "dense", "attention_span": 3},
    "snn_dt-span": {"kind": "snn_dt", "attention_span": 2},
    "dsformer_pssa-interleaved": {"kind": "dsformer_pssa", "tokens": "interleaved"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _threads_as_asked_and_no_tracking(monkeypatch):
    """One thread, or `SNN_DT_TEST_THREADS`, whatever the test before has set; nothing is sent to wandb."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    torch.set_num_threads(int(os.environ.get("SNN_DT_TEST_THREADS", "1")))


def load_script(name: str) -> ModuleType:
    """Return scripts/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def reproduce(monkeypatch):
    """The script scripts/reproduce.py as a module, run from the root of the project."""
    monkeypatch.chdir(ROOT)
    return load_script("reproduce")


@pytest.fixture(params=VARIANTS)
def config(request) -> ModelConfig:
    """A tiny model of each kind and position scheme."""
    return dataclasses.replace(TINY, **VARIANTS[request.param])


@pytest.fixture(params=["discrete", "continuous"])
def task(request) -> TaskShape:
    """A task of each kind of action."""
    return DISCRETE if request.param == "discrete" else CONTINUOUS


def make_model(config: ModelConfig, task: TaskShape, seed: int = 0) -> torch.nn.Module:
    """A model in evaluation mode, with weights from a seed; batch norms have seen data."""
    torch.manual_seed(seed)
    model = build_model(config, task).train()
    if any(isinstance(module, PTBN) for module in model.modules()):
        with torch.no_grad():
            for i in range(30):
                run(model, make_batch(task, config.context_length, (config.context_length,) * 8, seed=i))
    return model.eval()


def make_batch(task: TaskShape, context: int = 6, lengths=(6, 3, 1), seed: int = 0) -> Batch:
    """Random windows, left-padded to `context` from the given lengths."""
    g = torch.Generator().manual_seed(seed)
    b = len(lengths)
    mask = torch.stack([torch.arange(context) >= context - n for n in lengths])
    if task.discrete:
        actions = torch.randint(0, task.action_dim, (b, context), generator=g)
    else:
        actions = torch.randn(b, context, task.action_dim, generator=g)
    timesteps = (torch.arange(context) - (context - torch.tensor(lengths))[:, None] + 7).clamp(min=0)
    return Batch(
        rtg=torch.rand(b, context, 1, generator=g),
        states=torch.randn(b, context, task.state_dim, generator=g),
        actions=actions,
        timesteps=timesteps * mask,
        attention_mask=mask,
    )


def doubled(batch: Batch) -> Batch:
    """The batch in float64."""
    return Batch(*(x.double() if x.is_floating_point() else x for x in batch.fields))


def run(model: torch.nn.Module, batch: Batch, **options) -> torch.Tensor:
    """The model's predictions on a batch."""
    return model(*batch.fields, **options)


class CountdownEnv(gym.Env):
    """Ends after `3 + seed % 5` steps; each step pays 1 for action 1, else 0. The observation is (steps, seed % 5)."""

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 3 + (seed or 0) % 5
        self.kind = (seed or 0) % 5
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        self.left -= 1
        return self._observation(), float(action == 1), self.left == 0, False, {}

    def _observation(self):
        return np.array([self.steps, self.kind], np.float32)


def register_countdown() -> str:
    """Register the environment once and return its id."""
    if "Countdown-v0" not in gym.registry:
        gym.register("Countdown-v0", entry_point=CountdownEnv, max_episode_steps=100)
    return "Countdown-v0"


def space_json(space: gym.Space) -> str:
    """A space as a checkpoint stores it."""
    from minari.serialization import serialize_space

    return serialize_space(space)


def read_jsonl(path: Path) -> list[dict]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
