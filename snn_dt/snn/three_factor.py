r"""Three-factor plasticity: what was active together is remembered, and a third signal says what it is worth.

B samples, K steps, D inputs, A outputs; `pre` [B, K, D], `post` [B, K, A], `modulator` delta [B, K], a trace E [A, D].

```
E_t = decay E_(t-1) + post_t pre_t^T                dW = eta \sum_t delta_t E_t
```

Local to a synapse but for delta, which is one number for all of them. With `post` the output of the layer the rule is
Hebbian: it has no error of its own and descends no loss. Source: SNN-DT (arXiv 2508.21505), which leaves delta = f(G_t)
undefined and publishes no ablation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.snn.scan import leaky_sum


class Eligibility:
    """Traces of N samples that go on side by side, `e` [N, A, D], from 0."""

    def __init__(self, samples: int, weight: Tensor, decay: float) -> None:
        self.decay = decay
        self.e = weight.detach().new_zeros(samples, *weight.shape)

    @torch.no_grad()
    def step(self, pre: Tensor, post: Tensor) -> Tensor:
        """Take one step of `pre` [N, D] and `post` [N, A]; return E [N, A, D]."""
        self.e = self.decay * self.e + post.unsqueeze(-1) * pre.unsqueeze(1)
        return self.e

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the samples."""
        self.e = self.e[rows]

    def forget(self, rows: Tensor) -> None:
        """Begin anew in some of the samples."""
        self.e = self.e.index_fill(0, rows, 0.0)


def modulated(pre: Tensor, post: Tensor, modulator: Tensor, mask: Tensor, decay: float) -> Tensor:
    """Return `sum_b sum_t delta_t E_t` [A, D] of whole windows, without a trace in memory.

    The same sum the other way round: step s counts with all modulators that find it in the trace,

    ```
    sum_t delta_t E_t = sum_s (sum_(t >= s) decay^(t - s) delta_t) post_s pre_s^T
    ```

    `mask` [B, K] is False on pads: they are in no trace, and theirs is no modulator.
    """
    delta = modulator.masked_fill(~mask, 0.0)
    later = leaky_sum(delta.t().flip(0), decay).flip(0).t()  # [B, K]
    weighted = (later.unsqueeze(-1) * post).masked_fill(~mask.unsqueeze(-1), 0.0)
    return weighted.flatten(0, -2).t() @ pre.masked_fill(~mask.unsqueeze(-1), 0.0).flatten(0, -2)


def bounded(change: Tensor, limit: Tensor) -> Tensor:
    """Return `change`, shortened to the norm `limit` if it is longer."""
    norm = torch.linalg.vector_norm(change)
    return torch.where(norm > limit, change * (limit / norm.clamp(min=torch.finfo(norm.dtype).tiny)), change)


class RunningMean:
    """`m <- m + max(1/n, rate) (x_n - m)`: the plain mean at first, so that the start of 0 has no weight."""

    def __init__(self, rate: float) -> None:
        self.rate, self.count = rate, 0
        self.mean = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Take one value."""
        self.count += 1
        self.mean = self.mean.to(x.device) + max(1 / self.count, self.rate) * (x.double() - self.mean.to(x.device))
