"""PTBN: a layer norm that turns into a batch norm during training. It folds into a linear layer for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.snn.batch_norm import batch_norm

DEFAULT_TRANSITION = 2000
"""Number of training forwards that is assumed until `set_transition` sets it."""


class PTBN(nn.Module):
    r"""Progressive threshold-dependent batch norm (DSFormer, arXiv 2504.03800).

    ```
    y = theta LN(x) + (1 - theta) BN(x),  theta = max(0, 1 - n / transition) after n training forwards
    ```

    LN normalises the channels of one token at one simulation step. BN normalises each channel over simulation steps,
    batch and tokens. Pads are excluded from the statistics (the published code includes them). Evaluation uses only BN.
    This is an affine map, which inference can fold into the linear layer before it. Both scales start at the threshold,
    so that the neurons behind the norm fire from the start.

    Args:
        width: channels.
        v_threshold: initial value of both scales.
        transition: number of training forwards from layer norm to batch norm. Each micro-batch is one forward. 0 uses
            batch norm from the start.
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
        """Normalise `x [(T,) B, L, D]`. `real [B, L]` is False on pads."""
        if not self.training:
            scale, shift = self.affine()
            return x * scale + shift
        with torch.autocast(x.device.type, enabled=False):  # half precision is too coarse for statistics
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            y = self._batch_norm(x, real)
            if self._blends(x):
                theta = (1 - self.forwards / self.transition).clamp(min=0).to(x.dtype)
                y = torch.lerp(y, self.layer(x), theta)
        self.forwards += 1
        return y

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the scale and shift `[D]` that this norm applies in evaluation."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def _batch_norm(self, x: Tensor, real: Tensor) -> Tensor:
        """Normalise with the statistics of the real tokens and update the running statistics."""
        # number of real tokens over all simulation steps
        n = real.sum() * (len(x) if x.dim() == 4 else 1)
        weights = (real.to(x.dtype) / n).expand(x.shape[:-1]).reshape(-1)  # [(T) B L]
        # x [(T,) B, L, D] -> [(T) B L, D]
        y, mean, var = batch_norm(x.reshape(-1, x.shape[-1]), weights, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            # n / (n - 1): unbiased variance, as in torch.nn.BatchNorm1d
            self.running_var.lerp_(var * n / (n - 1).clamp(min=1), self.momentum)
        return y.view_as(x)

    def _blends(self, x: Tensor) -> bool:
        """Return whether theta can be above 0.

        Reading `forwards` would synchronise a GPU and break a compiled graph, so the answer is then True.
        """
        waits = x.is_cuda or torch.compiler.is_compiling()
        return self.transition > 0 and (waits or int(self.forwards) < self.transition)


def transition_of(norm_transition: float, forwards: int) -> int:
    """Return the number of training forwards during which layer norm turns into batch norm.

    Args:
        norm_transition: as in `ModelConfig`. A fraction of `forwards` or, above 1, a number of forwards (snn_dt 0.1.0).
        forwards: number of updates times micro-batches per update.
    """
    return round(norm_transition if norm_transition > 1 else norm_transition * forwards)


def set_transition(model: nn.Module, norm_transition: float, forwards: int) -> None:
    """Set the transition of every PTBN of a model; see `transition_of`."""
    for module in model.modules():
        if isinstance(module, PTBN):
            module.transition = transition_of(norm_transition, forwards)
