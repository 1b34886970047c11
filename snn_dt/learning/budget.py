"""Activity budget: a penalty on synaptic operations or firing rates above a limit, added to the loss.

B windows, K steps, L tokens. Activity is counted with the rules of `snn_dt.energy`, so training limits the numbers that
an evaluation reports. A spike count has a gradient through the surrogate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from snn_dt.config import BudgetConfig
from snn_dt.energy.costs import Call, Real, declared
from snn_dt.energy.counts import Count
from snn_dt.energy.recorder import Recorder
from snn_dt.errors import ConfigError
from snn_dt.models.interface import decides_from_state, is_streaming
from snn_dt.snn.record import Recorded


class Budget:
    """Activity limits of a training run: `with budget.watch(): model(...)`, then `budget.excess(...)`.

    Args:
        config: the limits.
        model: the model whose training forwards are counted.

    Raises:
        ConfigError: a module has no energy rule, so its activity would not be limited.
    """

    def __init__(self, config: BudgetConfig, model: nn.Module) -> None:
        self.config, self.model = config, model
        self._recorder = Recorder(model)
        if self._recorder.unknown:
            raise ConfigError(
                "train.budget: expected a model whose every module has an energy rule, found none for "
                f"{', '.join(self._recorder.unknown)}; register one with snn_dt.energy.costs, or set no limit"
            )
        self._calls: list[Recorded] = []

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Record the calls of the layers in a forward."""
        self._calls = []  # frees the graph of the last forward
        with self._recorder as recorder:
            yield
            self._calls = recorder.calls.copy()

    def excess(self, progress: Tensor, attention_mask: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return `w sum max(0, log(measured / limit))` over the limits, and the measured values.

        The gradient of the logarithm asks for the same relative change at any distance from the limit. The limit holds
        if w exceeds the gain in prediction loss per relative change of activity. w grows from 0 to `config.weight` over
        the first half of the training. Networks that are silenced before they have learned end with lower returns.

        Args:
            progress: fraction of the updates done, a scalar in [0, 1].
            attention_mask: mask of the recorded forward, `[B, K]` bool.
        """
        measured = self.activity(attention_mask)
        above = [(measured[name] / limit).clamp(min=1.0).log() for name, limit in self.config.limits.items()]
        weight = self.config.weight * (2 * progress).clamp(max=1.0)
        total = weight.float() * torch.stack(above).sum().float()
        return total, {
            "budget_loss": total.detach(),
            **{name: measured[name].detach().float() for name in self.config.limits},
        }

    def activity(self, attention_mask: Tensor) -> dict[str, Tensor]:
        """Return means over the windows: `synaptic_operations` per decision and `mean_firing_rate`.

        A training forward predicts all steps of a window. A decision needs the last block at its last step only. With
        several tokens per step the length of a tensor identifies that block. With one token per step it does not, and
        all steps are counted. A model that decides from a state (streaming, or with an attention span) computes its new
        tokens only, so a window holds a decision at every step.
        """
        streams, every = is_streaming(self.model), decides_from_state(self.model)
        tokens = self.model.token_mask(attention_mask)  # type: ignore[operator]
        last = torch.zeros_like(attention_mask)  # [B, K], True at the last step
        last[:, -1] = attention_mask[:, -1]
        last = attention_mask if every else last
        context, length = attention_mask.shape[1], tokens.shape[1]
        read = Real({context: last, length: tokens}, on_device=True)
        embedded = Real({length: tokens, context: attention_mask}, on_device=True)  # positions of all steps
        newest = Real({context: last}, on_device=True)
        synapses, neurons = Count(), Count()
        for name, module, inputs, output in self._calls:
            found = declared(module)
            if found is None or found.rule is None or found.role not in ("synapses", "neurons"):
                continue
            # A decision encodes its own image only, and the positions of all steps.
            real = newest if ".encoder" in name else embedded if name.startswith("embedding.") else read
            cost = found.rule(module, Call(inputs, output, real, streams))
            # Other parts of a rule, such as a norm or a softmax, are analogue and not limited.
            count = cost if isinstance(cost, Count) else cost[""] if "" in cost else sum(cost.values(), Count())
            if found.role == "neurons":
                neurons += count
            else:
                synapses += count
        decisions = attention_mask.sum() if every else len(attention_mask)
        return {
            "synaptic_operations": torch.as_tensor(synapses.acs) / decisions,
            "mean_firing_rate": torch.as_tensor(neurons.spikes) / neurons.neuron_updates,
        }
