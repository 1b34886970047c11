"""Checkpoints of a training run, which hold the policy and its training state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from snn_dt.checkpoint import find_checkpoint, provenance, read_json, read_tensors, save_checkpoint
from snn_dt.config import config_to_dict
from snn_dt.config_difference import check_same
from snn_dt.errors import CheckpointError
from snn_dt.training.state import TrainingState, load_training_state, restoring

if TYPE_CHECKING:
    from snn_dt.run import Run


def save_run(run: Run, name: str, state: TrainingState) -> None:
    """Write the checkpoint `last` (with the training state) or `best`. Only the first process writes.

    Raises:
        CheckpointError: it cannot be written.
    """
    if not run.workers.first:
        return
    data, returns = run.trajectories, run.trajectories.episode_returns
    facts = provenance(
        dataset_id=data.dataset_id,
        dataset_checksum=data.checksum,
        dataset_return_quantiles=np.quantile(returns, np.linspace(0, 1, 101)).tolist(),
        reward_mode=data.reward_mode,
        env_id=run.policy.spec.env_id,
        seed=run.config.train.seed,
        step=state.step,
        config=config_to_dict(run.config),
    )
    folder, values = run.run_dir / "checkpoints" / name, state.to_dict() if name == "last" else None
    save_checkpoint(folder, run.policy, run.config.model, run.task, facts, values)


def restore_run(run: Run) -> None:
    """Restore the weights and the training state of the last checkpoint.

    Raises:
        CheckpointError: it is damaged, or was made with another configuration or other data.
    """
    checkpoint = find_checkpoint(run.run_dir)
    facts = read_json(checkpoint / "provenance.json")
    check_same(run.config, facts.get("config"), run.run_dir)
    if facts.get("dataset_checksum") != run.trajectories.checksum:
        raise CheckpointError(
            f"expected the data {run.run_dir} was trained on, found other data in {run.config.data.dataset}; put "
            "the old ones back, or begin a new run"
        )
    values = load_training_state(checkpoint, run.device)
    with restoring(checkpoint, "the weights and the optimizer"):
        run.policy.model.load_state_dict(read_tensors(checkpoint / "model.safetensors"))
        run.state.restore(values)
