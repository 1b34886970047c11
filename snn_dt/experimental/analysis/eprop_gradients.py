"""Comparison of the gradients of e-prop and backpropagation through time (BPTT) in each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.experimental.analysis.gradients import cosine
from snn_dt.experimental.local_learning.eprop_blocks import use_eprop
from snn_dt.rule_config import EpropConfig

RULES = {
    "last block": EpropConfig(),
    "all blocks": EpropConfig(below="eprop"),
    "random feedback": EpropConfig(feedback="random"),
}
"""Rules compared with BPTT: e-prop in the last block, in all blocks, and in the last block with random feedback."""


def eprop_rows(model: nn.Module, losses: Iterable[Callable[[], Tensor]], seed: int = 0) -> list[dict[str, Any]]:
    """Compare the gradients of every weight of `model` (kind `snn_dt`), averaged over the batches of `losses`.

    ```
    cosine = <g_eprop, g_bptt> / (|g_eprop| |g_bptt|),  0 if either is 0        size = |g_eprop| / |g_bptt|
    ```

    Weights, data and spikes of a batch are the same for all rules. Random feedback is drawn once from `seed`.

    Returns:
        One object per rule of `RULES` and layer in the order of the model. The keys are `rule`, `layer`, `cosine`,
        `size` and `batches`.
    """
    weights = {name: m.weight for name, m in model.named_modules() if isinstance(getattr(m, "weight", None), Tensor)}
    # sums of cosine and size
    totals = {(rule, name): torch.zeros(2, dtype=torch.float64) for rule in RULES for name in weights}
    batches = 0
    for loss in losses:
        batches += 1
        bptt = _gradients(loss, weights)
        for rule, config in RULES.items():
            restore = use_eprop(model, config, seed)  # replaces the backward pass of the blocks
            eprop = _gradients(loss, weights)
            restore()
            for name, a, b in zip(weights, eprop, bptt, strict=True):
                size = a.norm() / b.norm() if b.norm() > 0 else b.norm()  # 0 where BPTT has no gradient
                totals[rule, name] += torch.stack([cosine(a, b), size.double()]).cpu()
    return [
        {"rule": rule, "layer": name, "cosine": total[0].item() / batches, "size": total[1].item() / batches}
        | {"batches": batches}
        for (rule, name), total in totals.items()
    ]


def _gradients(loss: Callable[[], Tensor], weights: dict[str, Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss(), list(weights.values()), allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights.values(), found, strict=True)]
