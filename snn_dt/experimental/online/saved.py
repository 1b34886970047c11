"""Saved actors: folders with `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from snn_dt import io, strict
from snn_dt.checkpoint import read_json, read_tensors
from snn_dt.errors import CheckpointError
from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.config import ActorConfig, OnlineConfig
from snn_dt.experimental.online.crazyflie import ACTION_DIM, PLAIN_DIM
from snn_dt.experimental.online.hover_trainer import make_actor
from snn_dt.io import write_atomically

ACTOR, BEST_ACTOR = "actor", "best_actor"


def save_actor(folder: Path, actor: SpikingActor, config: OnlineConfig, facts: dict[str, Any]) -> None:
    """Write an actor, its configuration, its columns and its provenance (`facts`).

    Raises:
        CheckpointError: the folder cannot be written.
    """
    from safetensors.torch import save

    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in actor.state_dict().items()}
        write_atomically(folder / "model.safetensors", save(weights))
        description = {
            "actor": strict.to_dict(config.actor),
            "env_id": config.task.env_id,
            "columns": [actor.obs_dim, actor.decoder.out_features],
            "provenance": facts,
        }
        write_atomically(folder / "config.json", json.dumps(description, indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"expected to write an actor to {folder}, found: {error.strerror}; free space or choose another --run-dir"
        ) from error


def load_actor(folder: str | Path) -> SpikingActor:
    """Read the actor of a run folder or of an `actor` or `best_actor` folder in it.

    Call it with observations [T, B, P] and the state it returned last (None at first). Its actions are in [-1, 1].

    Raises:
        CheckpointError: the actor is missing or damaged, or its weights are not finite.
    """
    folder = Path(folder)
    # a run folder holds the actor in a subfolder
    folder = folder if io.is_file(folder / "config.json") else folder / ACTOR
    description = read_json(folder / "config.json")
    config = strict.build(ActorConfig, description.get("actor", {}), str(folder))
    try:
        # actors of earlier versions hover
        seen, acts = map(int, description.get("columns", (PLAIN_DIM, ACTION_DIM)))
        weights = read_tensors(folder / "model.safetensors")
        needed = sum(a * b for a, b in pairwise((seen, *config.hidden, acts)))
        if needed > (held := sum(tensor.numel() for tensor in weights.values())):  # before memory is allocated
            raise ValueError(f"{held} weights for sizes {seen}, {config.hidden} and {acts}")
        actor = make_actor(config, seen, acts)
        actor.load_state_dict(weights)
    except Exception as error:  # a missing, damaged or mismatched file each raise their own type
        raise CheckpointError(
            f"expected the weights of an actor in {folder}, found: {' '.join(str(error).split())}; copy or train it "
            "again"
        ) from error
    return actor.eval()
