"""Loss of composite actions: MultiDiscrete, MultiBinary, Dict and Tuple.

B windows, K steps, A columns of an action; see `snn_dt.data.encoding`.
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_dt.data.encoding import BIT, NUMBER, Parts


def composite_loss(
    predictions: Tensor, actions: Tensor, attention_mask: Tensor, codes: Parts, half_range: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sum of the losses of the parts of an action, averaged over valid steps.

    ```
    choice    cross-entropy of its logits                            1 for each choice
    bit       binary cross-entropy of its logit                      1 for each bit
    numbers   squared error in half-ranges, mean over all numbers    1 together
    ```

    Args:
        predictions: `[B, K, A]`: logits of choices and bits, and numbers.
        actions: logged actions `[B, K, A]`: choices one-hot, bits 0 or 1, and numbers.
        attention_mask: `[B, K]` bool. Pads do not count.
        codes: the parts, `TaskShape.action_parts`.
        half_range: half the width of the bounds `[A]`; None keeps environment units.

    Returns:
        The loss and its detached metrics: `loss`; `accuracy`, the share of right choices and bits, and `action_error`
        (RMS of the numbers in half-ranges), if there are any.
    """
    total, hits, errors, start = predictions.new_zeros(actions.shape[:2]), [], [], 0
    # Neighbouring parts of one kind are computed together: n parts of w columns are [B, K, n, w].
    for code, run in groupby(codes):
        n, width = len(list(run)), max(code, 1)
        columns = slice(start, start + n * width)
        start += n * width
        found, logged = (x[..., columns].unflatten(-1, (n, width)) for x in (predictions, actions))
        if code == NUMBER:
            scale = 1.0 if half_range is None else half_range[columns].unsqueeze(-1)  # [n, 1]
            errors.append(((found - logged) / scale).square().squeeze(-1))  # [B, K, n]
        elif code == BIT:
            losses = F.binary_cross_entropy_with_logits(found, logged, reduction="none").squeeze(-1)  # [B, K, n]
            total = total + losses.sum(-1)
            hits.append(((found > 0) == (logged > 0)).squeeze(-1))
        else:
            losses = -(found.log_softmax(-1) * logged).sum(-1)  # [B, K, n]
            total = total + losses.sum(-1)
            hits.append(found.argmax(-1) == logged.argmax(-1))

    def mean(x: Tensor) -> Tensor:
        """Return the mean over valid steps of `x [B, K]`."""
        return x.masked_fill(~attention_mask, 0).sum() / attention_mask.sum()

    metrics: dict[str, Tensor] = {}
    if hits:
        metrics["accuracy"] = mean(torch.cat(hits, -1).float().mean(-1))
    if errors:
        squared = torch.cat(errors, -1).mean(-1)  # [B, K]
        total = total + squared
        metrics["action_error"] = mean(squared.detach()).sqrt()
    loss = mean(total)
    return loss, {"loss": loss.detach(), **metrics}
