"""Three-factor plasticity of an action head while it acts.

N episodes side by side; D width, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.errors import ConfigError
from snn_dt.learning.plasticity import HeadPlasticity
from snn_dt.rule_config import PlasticityConfig
from snn_dt.snn.three_factor import Eligibility


class OnlinePlasticity(HeadPlasticity):
    """Learning while acting: at the end of an episode `F += eta delta E`, with `W + F` in the place of the head's W.

    delta is the observed return minus the target return, over `rtg_scale`: an episode below its target weakens what led
    to its actions, one that meets it changes nothing. W, which a checkpoint holds, stays as it is. Episodes of a batch
    share F and update it in the order in which they end.

    Raises:
        ConfigError: `post: error` for continuous actions, which never differ from the output.
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
        self.begin(torch.zeros(0, dtype=torch.float64, device=self.head.weight.device))
        self.head.plastic = torch.zeros_like(self.head.weight, requires_grad=False)

    def close(self) -> None:
        """Forget all that was learned, and learn no more."""
        self.recording.stop()
        self.head.plastic = None

    def begin(self, asked: Tensor) -> None:
        """Begin episodes with the target returns `asked` [N], and discard the running ones."""
        self.trace = Eligibility(len(asked), self.head.weight, self.config.decay)
        self.missing = asked.clone()

    def step(self, predictions: Tensor, actions: Tensor) -> None:
        """Add the last predictions, [N, A], and the actions that were taken, [N] or [N, A], to the trace."""
        self.trace.step(self.pre[:, -1], self.post(predictions, actions))

    def observe(self, reward: Tensor) -> None:
        """Take the reward [N] of the last action."""
        self.missing = self.missing - reward

    @torch.no_grad()
    def finish(self, rows: Tensor) -> None:
        """Learn from the episodes of some rows, which have ended."""
        assert self.head.plastic is not None
        delta = (-self.missing[rows] / self.rtg_scale).clamp(-1, 1).to(self.trace.e.dtype)
        change = self.config.eta * torch.tensordot(delta, self.trace.e[rows], 1)
        self.head.plastic = self.grown(self.head.plastic, change, self.head.weight)

    def finish_all(self) -> None:
        """End all episodes and learn from them."""
        self.finish(torch.arange(len(self.missing), device=self.missing.device))

    def restart(self, rows: Tensor, asked: float) -> None:
        """Learn from the episodes of some rows and begin others there."""
        self.finish(rows)
        self.trace.forget(rows)
        self.missing = self.missing.index_fill(0, rows, asked)

    def keep(self, rows: Tensor) -> None:
        """End the episodes of all other rows and learn from them."""
        over = torch.ones(len(self.missing), dtype=torch.bool, device=rows.device).index_fill_(0, rows, False)
        self.finish(over.nonzero().squeeze(1))
        self.trace.keep(rows)
        self.missing = self.missing[rows]

    @property
    @torch.no_grad()
    def change(self) -> float:
        """The norm of F over that of W."""
        assert self.head.plastic is not None
        return float(torch.linalg.vector_norm(self.head.plastic) / torch.linalg.vector_norm(self.head.weight))
