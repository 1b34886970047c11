"""Good inputs, a few kilobytes each, that the families then spoil: datasets in every format, checkpoints, configs."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.campaign.case import Command

LENGTHS = (6, 3, 8, 1, 5)
CARTPOLE = {
    "id": "CartPole-v1",
    "entry_point": "gymnasium.envs.classic_control.cartpole:CartPoleEnv",
    "reward_threshold": 475.0,
    "nondeterministic": False,
    "max_episode_steps": 500,
    "order_enforce": True,
    "disable_env_checker": False,
    "kwargs": {},
    "additional_wrappers": [],
    "vector_entry_point": None,
}
INF = float("inf")
OBSERVATIONS = {"type": "Box", "dtype": "float32", "shape": [4], "low": [-INF] * 4, "high": [INF] * 4}
DISCRETE = {"type": "Discrete", "dtype": "int64", "start": 0, "n": 2}
BOX = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1.0, -1.0], "high": [1.0, 1.0]}

Arrays = dict[str, Any]


def episodes(lengths: tuple[int, ...] = LENGTHS, box: bool = False) -> list[Arrays]:
    """Return episodes of 4 observations and 2 choices (or, with `box`, 2 numbers) a step; all but the last end."""
    rng = np.random.default_rng(0)
    return [
        {
            "observations": rng.normal(size=(n + 1, 4)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (n, 2)).astype(np.float32) if box else rng.integers(0, 2, n),
            "rewards": rng.uniform(0, 2, n),
            "terminations": np.arange(n) == (n - 1 if i < len(lengths) - 1 else -1),
            "truncations": np.arange(n) == (n - 1 if i == len(lengths) - 1 else -1),
        }
        for i, n in enumerate(lengths)
    ]


def metadata(data_format: str = "hdf5", box: bool = False, **changes: Any) -> dict[str, Any]:
    """Return Minari's metadata of `episodes()`."""
    spec = json.dumps(CARTPOLE)
    facts = {
        "total_episodes": len(LENGTHS),
        "total_steps": sum(LENGTHS),
        "data_format": data_format,
        "observation_space": json.dumps(OBSERVATIONS),
        "action_space": json.dumps(BOX if box else DISCRETE),
        "env_spec": None if box else spec,
        "eval_env_spec": None if box else spec,
        "dataset_id": "toy/set-v0",
        "ref_min_score": 1.0,
        "ref_max_score": 9.0,
        "minari_version": "0.5.4",
        "author": ["nobody"],
    }
    return {name: value for name, value in facts.items() if value is not None} | changes


def write_metadata(data: Path, facts: Any) -> None:
    data.mkdir(parents=True, exist_ok=True)
    (data / "metadata.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))


def hdf5(folder: Path, facts: Any = None, box: bool = False, spoil: Callable[[Any], None] | None = None) -> Path:
    """Write a Minari dataset in HDF5 to `folder/set`; `spoil` gets the open file."""
    data = folder / "set" / "data"
    write_metadata(data, metadata(box=box) if facts is None else facts)
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for index, episode in enumerate(episodes(box=box)):
            group = file.create_group(f"episode_{index}")
            group.create_group("infos")
            for name, values in episode.items():
                group[name] = values
        if spoil:
            spoil(file)
    return folder / "set"


def replace(file: Any, name: str, values: Any = None, **options: Any) -> None:
    """Put another dataset in the place of one."""
    if name in file:
        del file[name]
    file.create_dataset(name, data=values, **options)


def tables(folder: Path, data_format: str, spoil: Callable[[int, dict[str, Any]], None] | None = None) -> Path:
    """Write a Minari dataset of Arrow or Parquet files; `spoil` gets an episode's number and its columns, to change."""
    data = folder / "set" / "data"
    write_metadata(data, metadata(data_format))
    for index, episode in enumerate(episodes()):
        columns = table_columns(episode)
        if spoil:
            spoil(index, columns)
        write_table(data / str(index), data_format, columns, len(episode["rewards"]))
    return folder / "set"


def table_columns(episode: Arrays) -> dict[str, Any]:
    """Return the columns of one episode as Minari writes them: a row more than steps, padded but for observations."""
    import pyarrow as pa

    padded = {name: np.append(values, values[-1:], axis=0) for name, values in episode.items()}
    columns: dict[str, Any] = {name: pa.array(padded[name]) for name in ("actions", "rewards")}
    columns |= {name: pa.array(padded[name]) for name in ("terminations", "truncations")}
    observations = pa.array(episode["observations"].ravel())
    return {"observations": pa.FixedSizeListArray.from_arrays(observations, 4)} | columns


def write_table(folder: Path, data_format: str, columns: dict[str, Any], steps: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.json").write_text(json.dumps({"id": int(folder.name), "total_steps": steps, "seed": 1}))
    table = pa.table(columns)
    if data_format == "parquet":
        pq.write_table(table, folder / "part-0.parquet")
    else:
        with pa.OSFile(str(folder / "part-0.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def d4rl_columns(rows: int = 60, every: int = 10) -> Arrays:
    """Return the columns of a D4RL file of hopper: 11 observations, 3 actions, an end each `every` rows."""
    rng = np.random.default_rng(0)
    end = np.arange(rows) % every == every - 1
    return {
        "observations": rng.normal(size=(rows, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": rng.uniform(0, 2, rows).astype(np.float32),
        "terminals": end & (np.arange(rows) // every % 2 == 0),
        "timeouts": end & (np.arange(rows) // every % 2 == 1),
    }


def d4rl(folder: Path, columns: Arrays | None = None, name: str = "hopper_medium-v2", **changes: Any) -> str:
    """Write a D4RL file and return how it is named on a command line; a change to None leaves a column out."""
    path = folder / f"{name}.hdf5"
    with h5py.File(path, "w") as file:
        for key, values in ((d4rl_columns() if columns is None else columns) | changes).items():
            if values is not None:
                file[key] = values
    return f"d4rl:{path}"


def info(dataset: Path | str, *more: str) -> Command:
    """Return the command that reads a dataset whole and says what is in it."""
    return Command(("data", "info", str(dataset), "--json", *more))


@functools.cache
def checkpoint_template(kind: str = "dense") -> Path:
    """Make a checkpoint of an untrained policy for CartPole, once in this process; to be copied."""
    import dataclasses

    import torch
    from gymnasium import spaces

    from snn_dt.checkpoint import save_checkpoint
    from snn_dt.config import Config, ModelConfig, config_to_dict
    from snn_dt.evaluation.policy import Policy, PolicySpec
    from snn_dt.models import TaskShape, build_model
    from tests.conftest import space_json

    torch.manual_seed(0)
    config = ModelConfig(kind=kind, d_model=8, n_layers=1, n_heads=1, context_length=3, sim_steps=2).resolved()
    task = TaskShape(4, 2, True, 50, rtg_range=(0.0, 1.0), rtg_quantiles=(0.0, 0.5, 1.0))
    box = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    spec = PolicySpec(
        dataset_id="toy/set-v0",
        observation_space=space_json(box),
        action_space=space_json(spaces.Discrete(2)),
        rtg_scale=10.0,
        delayed=False,
        target_return=5.0,
        env_id="CartPole-v1",
        env_spec=json.dumps(CARTPOLE),
        reference={"min": 1.0, "max": 9.0, "source": "toy"},
    )
    policy = Policy(build_model(config, task).eval(), spec, torch.zeros(4), torch.ones(4), {})
    made = tempfile.mkdtemp(prefix="campaign-template-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    folder = Path(made) / "mine"
    facts = {
        "dataset_id": "toy/set-v0",
        "dataset_checksum": "0" * 64,
        "dataset_return_quantiles": np.linspace(1, 9, 101).tolist(),
        "reward_mode": "dense",
        "env_id": "CartPole-v1",
        "seed": 0,
        "step": 1,
        "config": config_to_dict(dataclasses.replace(Config(), model=config)),
        "command": "snn-dt train",
        "commit": "0" * 40,
        "versions": {"snn_dt": "0.1.0"},
        "machine": "x",
    }
    save_checkpoint(folder, policy, config, task, facts)
    return folder


def checkpoint(folder: Path, kind: str = "dense", name: str = "mine") -> Path:
    """Copy the checkpoint to `folder/mine`."""
    return Path(shutil.copytree(checkpoint_template(kind), folder / name))


def edit_json(path: Path, where: str, value: Any) -> None:
    """Set `a.b.c` in a JSON file; `...` takes it away."""
    content = json.loads(path.read_text())
    at = content
    *parents, last = where.split(".")
    for key in parents:
        at = at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    path.write_text(json.dumps(content))


def evaluate(checkpoint: Path | str, *more: str) -> Command:
    """Return the command that rolls a checkpoint out for one short episode and writes results."""
    words = ("evaluate", "--checkpoint", str(checkpoint), "--episodes", "1", "--num-envs", "1", "--threads", "1")
    return Command((*words, "--device", "cpu", *more))


TRAIN = {
    "data": {"dataset": "set"},
    "model": {"kind": "dense", "n_layers": 1, "n_heads": 1, "d_model": 8, "context_length": 2},
    "train": {"steps": 1, "batch_size": 2, "warmup_steps": 1, "threads": 1, "device": "cpu"},
    "eval": {"episodes": 0},
    "track": {"wandb": "disabled"},
}


def train(folder: Path, *more: str, values: Any = None) -> Command:
    """Write a config of one update on `folder/set` and return the command that trains by it."""
    import yaml

    text = values if isinstance(values, str) else yaml.safe_dump(TRAIN if values is None else values)
    (folder / "config.yaml").write_text(text)
    return Command(("train", "--config", str(folder / "config.yaml"), "--run-dir", str(folder / "run"), *more))
