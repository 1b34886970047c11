"""Sequence models that map tokens to actions. `build_model` builds the kind named in a config."""

from __future__ import annotations

import functools
import logging

from torch import nn

from snn_dt.config import ModelConfig
from snn_dt.errors import ConfigError
from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.interface import TaskShape
from snn_dt.registry import KINDS

__all__ = ["DecisionTransformer", "TaskShape", "build_model"]


def build_model(config: ModelConfig, task: TaskShape) -> nn.Module:
    """Build the model of `config.kind` for a task. The weights depend on torch's random state.

    Raises:
        ConfigError: the kind is unknown or the model does not fit into memory.
    """
    if config.kind.startswith("dsformer") and config.norm_transition > 1:
        _warn_of_count(config.norm_transition)
    try:
        model: nn.Module = (KINDS[config.kind].build or DecisionTransformer)(config, task)
        return model
    except RuntimeError as error:  # on a CPU torch has no exception type for a failed allocation
        if "allocate memory" not in str(error):
            raise
        raise ConfigError(f"model: expected one that fits in memory, found: {error}; lower model.d_model") from error


@functools.cache
def _warn_of_count(forwards: float) -> None:
    logging.getLogger("snn_dt").warning(
        "model.norm_transition: %g is taken as a number of training forwards, as in snn_dt 0.1.0; it is a share of the "
        "updates now, 0.1 by default",
        forwards,
    )
