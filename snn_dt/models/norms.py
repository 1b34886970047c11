"""PTBN: a layer norm that turns into a batch norm during training, and folds into a linear layer for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.snn.batch_norm import batch_norm

DEFAULT_TRANSITION = 2000
"""Number of training forwards that is assumed until `set_transition` sets it."""


class PTBN(nn.Module):
    r"""Progressive threshold-dependent batch norm (DSFormer, arXiv 2504.03800).

    ```
    y = theta LN(x) + (1 - theta) BN(x),  theta = 1 - n / transition, at least 0, after n training forwards
    ```

    LN is over the channels of one token at one simulation step; BN per channel, over simulation steps, batch, tokens.
    Pads are left out of the statistics (the published code counts them). Evaluation is BN alone, an affine map that
    `folding.py` moves into the linear layer before it. Both scales start at the threshold, so that a neuron behind the
    norm fires now and then.

    Args:
        width: channels.
        v_threshold: first value of both scales.
        transition: training forwards from layer norm to batch norm; a micro-batch of an update is one. 0: batch norm
            from the first one on.
        momentum: of the running statistics.
        eps: added to variances.
    """

    running_mean: Tensor
    running_var: Tensor
    forwards: Tensor

    def __init__(
        self, width: int, v_threshold: float, transition: int, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.layer = nn.LayerNorm(width, eps=eps)
        nn.init.constant_(self.layer.weight, v_threshold)
        self.weight = nn.Parameter(torch.full((width,), v_threshold))
        self.bias = nn.Parameter(torch.zeros(width))
        self.transition, self.momentum, self.eps = transition, momentum, eps
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("forwards", torch.tensor(0))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """Normalise `x [(T,) B, L, D]`; `real [B, L]` is False on pads."""
        if not self.training:
            scale, shift = self.affine()
            return x * scale + shift
        with torch.autocast(x.device.type, enabled=False):  # statistics of half precision would be poor
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            y = self._batch_norm(x, real)
            if self._blends(x):
                theta = (1 - self.forwards / self.transition).clamp(min=0).to(x.dtype)
                y = torch.lerp(y, self.layer(x), theta)
        self.forwards += 1
        return y

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the scale and shift `[D]` that this norm is in evaluation."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def _batch_norm(self, x: Tensor, real: Tensor) -> Tensor:
        """Normalise with the statistics of the real tokens, and keep running means of them."""
        n = real.sum() * (len(x) if x.dim() == 4 else 1)
        weights = (real.to(x.dtype) / n).expand(x.shape[:-1]).reshape(-1)  # [(T) B L]
        y, mean, var = batch_norm(x.reshape(-1, x.shape[-1]), weights, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1).clamp(min=1), self.momentum)
        return y.view_as(x)

    def _blends(self, x: Tensor) -> bool:
        """Tell whether theta may be above 0. Reading it would stall a GPU and break a compiled graph."""
        waits = x.is_cuda or torch.compiler.is_compiling()
        return self.transition > 0 and (waits or int(self.forwards) < self.transition)


def transition_of(norm_transition: float, forwards: int) -> int:
    """Return over how many of a training's forwards layer norm turns into batch norm.

    Args:
        norm_transition: as in `ModelConfig`: a share of them, or, above 1, their number (0.1.0).
        forwards: updates times the micro-batches of each.
    """
    return round(norm_transition if norm_transition > 1 else norm_transition * forwards)


def set_transition(model: nn.Module, norm_transition: float, forwards: int) -> None:
    """Set the number of training forwards of the norms of a model; see `transition_of`."""
    for module in model.modules():
        if isinstance(module, PTBN):
            module.transition = transition_of(norm_transition, forwards)
