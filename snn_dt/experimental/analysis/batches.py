"""Batches and the loss that a checkpoint was trained with, for a look at its gradients."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from snn_dt.config import config_from_dict
from snn_dt.data import Windows, load_dataset
from snn_dt.data.windows import Batch
from snn_dt.errors import ConfigError
from snn_dt.evaluation.policy import Policy
from snn_dt.learning.losses import loss_of


def training_batches(
    policy: Policy, dataset: str | None = None, batch_size: int = 64, seed: int = 0
) -> Callable[[int], Batch]:
    """Return what draws batch i, on the policy's device, from the data it was trained on, or from `dataset`.

    Raises:
        ConfigError: the checkpoint does not say what it was trained on, or the data do not fit the model.
        DataError: there is no such dataset.
    """
    known = policy.provenance.get("config")
    if dataset is None and known is None:
        raise ConfigError("expected a checkpoint that names its dataset, found one without a config; give --dataset")
    data = config_from_dict({"data": known["data"]} if known else {}).data
    trajectories = load_dataset(
        dataset or data.dataset,
        reward_mode="delayed" if policy.spec.delayed else "dense",
        action_space=policy.action_space,
    )
    model = policy.model
    found = trajectories.obs_dim, trajectories.action_dim, trajectories.discrete
    if found != (model.state_dim, model.action_dim, model.discrete):
        raise ConfigError(
            "expected data of (observation size, action size, discrete) = "
            f"{(model.state_dim, model.action_dim, model.discrete)}, found {found} in {trajectories.dataset_id}; "
            "choose the dataset that the checkpoint was trained on"
        )
    windows = Windows(trajectories, model.context_length, rtg_scale=policy.spec.rtg_scale, normalize=data.normalize)
    return lambda i: windows.batch(seed, i, batch_size).to(policy.device)


def whole_windows(batch: Batch) -> Batch:
    """Return the windows without pads; all of them if each has one."""
    whole = batch.attention_mask.all(1)
    return Batch(*(x[whole] for x in batch.fields)) if whole.any() else batch


def training_loss(policy: Policy, batch: Batch) -> Tensor:
    """Return the loss of the policy's model on a batch, as in training."""
    predictions = policy.model(*batch.fields)
    return loss_of(policy.model, batch, predictions)[0]
