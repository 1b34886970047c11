"""Three-factor plasticity of an action head while the policy acts.

N parallel episodes; D width, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.errors import ConfigError
from snn_dt.experimental.local_learning.plasticity import HeadPlasticity
from snn_dt.experimental.local_learning.three_factor import Eligibility
from snn_dt.rule_config import PlasticityConfig
from snn_dt.snn.backends import wide


class OnlinePlasticity(HeadPlasticity):
    """Online plasticity: after an episode `F += eta delta E`. The head computes with `W + F` instead of W.

    delta is the observed return minus the target return, divided by `rtg_scale`. An episode below its target weakens
    the weights that led to its actions. An episode that meets its target changes nothing. W is not changed, and
    checkpoints hold W only. Episodes of a batch share F and update it in the order in which they end.

    Raises:
        ConfigError: `post: error` with continuous actions, which are always equal to the output.
    """

    def __init__(self, config: PlasticityConfig, model: nn.Module, rtg_scale: float) -> None:
        super().__init__(config, model)
        if config.post == "error" and not self.discrete:
            self.recording.stop()
            raise ConfigError(
                "plasticity.post: expected output for a policy of continuous actions, which acts as it says and makes "
                "no error to learn from; found error; choose output"
            )
        self.rtg_scale = rtg_scale
        self.begin(torch.zeros(0, dtype=wide(self.head.weight.device), device=self.head.weight.device))
        self.head.plastic = torch.zeros_like(self.head.weight, requires_grad=False)

    def close(self) -> None:
        """Discard F and stop learning."""
        self.recording.stop()
        self.head.plastic = None

    def begin(self, asked: Tensor) -> None:
        """Start episodes with target returns `asked [N]` and discard the running ones."""
        self.trace = Eligibility(len(asked), self.head.weight, self.config.decay)
        self.missing = asked.clone()

    def step(self, predictions: Tensor, actions: Tensor) -> None:
        """Add the last predictions `[N, A]` and the actions taken, `[N]` or `[N, A]`, to the trace."""
        self.trace.step(self.pre[:, -1], self.post(predictions, actions))  # pre [N, K, D] -> the last step [N, D]

    def observe(self, reward: Tensor) -> None:
        """Subtract the rewards `[N]` of the last actions from the missing returns."""
        self.missing = self.missing - reward

    @torch.no_grad()
    def finish(self, rows: Tensor) -> None:
        """Update F with the finished episodes of `rows`."""
        assert self.head.plastic is not None
        # What is missing of the target is the target minus the observed return, so the sign changes.
        delta = (-self.missing[rows] / self.rtg_scale).clamp(-1, 1).to(self.trace.e.dtype)
        change = self.config.eta * torch.tensordot(delta, self.trace.e[rows], 1)  # [n] times [n, A, D] -> [A, D]
        self.head.plastic = self.grown(self.head.plastic, change, self.head.weight)

    def finish_all(self) -> None:
        """End all episodes and update F."""
        self.finish(torch.arange(len(self.missing), device=self.missing.device))

    def restart(self, rows: Tensor, asked: float) -> None:
        """Update F with the episodes of `rows` and start new ones there."""
        self.finish(rows)
        self.trace.forget(rows)
        self.missing = self.missing.index_fill(0, rows, asked)

    def keep(self, rows: Tensor) -> None:
        """End the episodes of all other rows and update F with them."""
        over = torch.ones(len(self.missing), dtype=torch.bool, device=rows.device).index_fill_(0, rows, False)
        self.finish(over.nonzero().squeeze(1))  # [n, 1] -> [n]
        self.trace.keep(rows)
        self.missing = self.missing[rows]

    @property
    @torch.no_grad()
    def change(self) -> float:
        """Norm of F divided by the norm of W."""
        assert self.head.plastic is not None
        return float(torch.linalg.vector_norm(self.head.plastic) / torch.linalg.vector_norm(self.head.weight))
