"""Batches and training loss of a checkpoint for the analysis of its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from snn_dt.config import config_from_dict
from snn_dt.data import WindowSampler, load_dataset
from snn_dt.data.windows import Batch
from snn_dt.errors import ConfigError
from snn_dt.evaluation.policy import Policy
from snn_dt.learning.losses import loss_of
from snn_dt.models.goals import takes_goal
from snn_dt.task import stacked


def training_batches(
    policy: Policy, dataset: str | None = None, batch_size: int = 64, seed: int = 0
) -> Callable[[int], Batch]:
    """Return a function from i to batch i on the policy's device, of its training data or of `dataset`.

    Raises:
        ConfigError: the checkpoint does not name its dataset, or the data do not fit the model.
        DataError: the dataset does not exist.
    """
    known = policy.provenance.get("config")
    if dataset is None and known is None:
        raise ConfigError("expected a checkpoint that names its dataset, found one without a config; give --dataset")
    data = config_from_dict({"data": known["data"]} if known else {}).data
    loaded = load_dataset(
        dataset or data.dataset,
        reward_mode="delayed" if policy.spec.delayed else "dense",
        action_space=policy.action_space,
    )
    model: Any = policy.model
    trajectories = stacked(loaded, model.task.frames)
    found = trajectories.obs_dim, trajectories.action_dim, trajectories.discrete
    if found != (model.state_dim, model.action_dim, model.discrete):
        raise ConfigError(
            "expected data of (observation size, action size, discrete) = "
            f"{(model.state_dim, model.action_dim, model.discrete)}, found {found} in {trajectories.dataset_id}; "
            "choose the dataset that the checkpoint was trained on"
        )
    windows = WindowSampler(
        trajectories,
        model.context_length,
        rtg_scale=policy.spec.rtg_scale,
        normalize=data.normalize,
        goals=takes_goal(model),
    )
    return lambda i: windows.batch(seed, i, batch_size).to(policy.device)  # a batch is a function of (seed, i)


def whole_windows(batch: Batch) -> Batch:
    """Return the windows without padding. If there are none, return all windows."""
    whole = batch.attention_mask.all(1)  # [B]
    return Batch(*(x[whole] for x in batch.fields)) if whole.any() else batch


def training_loss(policy: Policy, batch: Batch) -> Tensor:
    """Return the training loss of the policy's model on a batch."""
    predictions = policy.model(*batch.fields)
    return loss_of(policy.model, batch, predictions)[0]
