"""The range of returns-to-go that a model tells apart, which new episodes may exceed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from snn_dt.models.embedding import TokenEmbedding
from snn_dt.models.return_code import ReturnCode


def widen_returns(model: nn.Module, low: float, high: float) -> None:
    """Extend the range of scaled returns-to-go of a model to `low` and `high`.

    `model.task` is extended too and is saved in checkpoints. Predictions inside the old range do not change. A model
    without return conditioning is not changed.
    """
    known: Any = model
    config, task, embedding = known.config, known.task, known.embedding
    if not config.reads_return or task.rtg_range is None:
        return
    low, high = min(low, task.rtg_range[0]), max(high, task.rtg_range[1])
    quantiles = task.rtg_quantiles
    if quantiles is not None:  # inner quantiles set the centres of the return code: keep them
        quantiles = (min(low, quantiles[0]), *quantiles[1:-1], max(high, quantiles[-1]))
    known.task = replace(task, rtg_range=(low, high), rtg_quantiles=quantiles)
    if isinstance(embedding, TokenEmbedding):
        embedding.rtg_range = (low, high)
    for code in embedding.modules():
        if isinstance(code, ReturnCode):
            code.low, code.high = (quantiles or (low, high))[0], (quantiles or (low, high))[-1]
