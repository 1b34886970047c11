r"""Three-factor plasticity: an eligibility trace of joint activity is multiplied by a modulator.

B samples, K steps, D inputs, A outputs. `pre` [B, K, D], `post` [B, K, A], `modulator` delta [B, K], trace E [A, D].

```
E_t = decay E_(t-1) + post_t pre_t^T                dW = eta \sum_t delta_t E_t
```

All factors except delta are local to the synapse. delta is one number for all synapses. If `post` is the output of the
layer, the rule is Hebbian and does not follow the gradient of a loss.

Source: SNN-DT (arXiv 2508.21505). The paper leaves delta = f(G_t) undefined and reports no ablation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.experimental.leaky_sum import leaky_sum


class Eligibility:
    """Eligibility traces `e` [N, A, D] of N parallel samples. They start at 0."""

    def __init__(self, samples: int, weight: Tensor, decay: float) -> None:
        self.decay = decay
        self.e = weight.detach().new_zeros(samples, *weight.shape)

    @torch.no_grad()
    def step(self, pre: Tensor, post: Tensor) -> Tensor:
        """Update the traces with `pre` [N, D] and `post` [N, A]. Return E [N, A, D]."""
        self.e = self.decay * self.e + post.unsqueeze(-1) * pre.unsqueeze(1)  # [N, A, 1] * [N, 1, D]
        return self.e

    def keep(self, rows: Tensor) -> None:
        """Keep only the samples with the indices `rows`."""
        self.e = self.e[rows]

    def forget(self, rows: Tensor) -> None:
        """Set the traces of the samples `rows` to 0."""
        self.e = self.e.index_fill(0, rows, 0.0)


def modulated(pre: Tensor, post: Tensor, modulator: Tensor, mask: Tensor, decay: float) -> Tensor:
    """Return `sum_b sum_t delta_t E_t` [A, D] of whole windows without storing traces.

    The order of the sums is exchanged. Step s is weighted by all later modulators, decayed by their distance:

    ```
    sum_t delta_t E_t = sum_s (sum_(t >= s) decay^(t - s) delta_t) post_s pre_s^T
    ```

    `mask` [B, K] is False on pads. Pads add to neither trace nor modulator.
    """
    delta = modulator.masked_fill(~mask, 0.0)
    # The leaky sum runs over the first axis and backwards in time: [B, K] -> [K, B], flipped, and back.
    later = leaky_sum(delta.t().flip(0), decay).flip(0).t()  # [B, K]
    weighted = (later.unsqueeze(-1) * post).masked_fill(~mask.unsqueeze(-1), 0.0)
    # [A, B K] @ [B K, D] -> [A, D]
    return weighted.flatten(0, -2).t() @ pre.masked_fill(~mask.unsqueeze(-1), 0.0).flatten(0, -2)


def bounded(change: Tensor, limit: Tensor) -> Tensor:
    """Return `change` scaled down to the norm `limit` if its norm is larger."""
    norm = torch.linalg.vector_norm(change)
    return torch.where(norm > limit, change * (limit / norm.clamp(min=torch.finfo(norm.dtype).tiny)), change)


class RunningMean:
    """Running mean `m <- m + max(1/n, rate) (x_n - m)`.

    It starts as the plain mean, so the initial value 0 has no weight.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self.count = rate, 0
        self.mean = torch.zeros((), dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Add one value."""
        self.count += 1
        self.mean = self.mean.to(x.device) + max(1 / self.count, self.rate) * (x.double() - self.mean.to(x.device))
