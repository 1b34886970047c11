r"""What one call of a module costs, one rule per kind of module, and how a further kind joins in.

B batch, L tokens, D width, T simulation steps. The rules for the modules of this package are in `rules.py`.

A new kind of model needs no new meter: every module of it that computes anything needs a rule, and most have one, since
rules hold for subclasses too (`LIF`, `SpikeLinear`, `nn.Linear`, `nn.LayerNorm`, ...). For a module of its own:

```
@costs(DecayAttention)
def decay_attention(module: DecayAttention, call: Call) -> Count:
    q, k, v = call.inputs[:3]
    return Count(macs=..., acs=...)
```

The rule stands for everything inside the module, unless it is registered with `inside=True`: then it adds what the
module itself computes to what its parts cost. It may return `{"": Count, "softmax": Count}` to name parts, and `{}` for
what is but a wire. Tensors are `[B, L, D]` or `[T, B, L, D]`; a model whose tokens come first, `[L, B, D]`, says so
with an attribute `streams = True`. A module that carries state from one decision to the next returns `(output,
*state)`, and the meter finds the bytes of it; decisions of such a model are counted with `meter.count(mask, steps)`.
The meter's `uncounted` names modules that have no rule, with weights or without, and it warns of them; a module that
only calls its parts says so with a rule that returns `{}`, registered with `inside=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.energy.counts import Count


class Real:
    """Which tokens of a forward are no pads, `{L: mask [B, L]}`; how many, each L is counted once.

    Args:
        masks: by length.
        on_device: numbers are tensors that a loss may use, with their gradient and without waiting for the device, not
            floats.
    """

    def __init__(self, masks: dict[int, Tensor], on_device: bool = False) -> None:
        self._masks, self._totals, self._on_device = masks, dict[int, Any](), on_device

    def __getitem__(self, length: int) -> Tensor:
        """Return the mask `[B, L]` of L tokens."""
        return self._masks[length]

    def total(self, length: int) -> Any:
        """Return how many of the tokens are real."""
        if length not in self._totals:
            self._totals[length] = self.number(self._masks[length].sum(dtype=torch.float64))
        return self._totals[length]

    def number(self, total: Tensor) -> Any:
        """Return a sum as it is asked for: a float, or a tensor that keeps its gradient."""
        return total if self._on_device else float(total)


class Call:
    """One call of a module: `inputs`, `output`, the state it `carried` on, and which tokens of all these are no pads.

    Args:
        inputs: positional arguments.
        returned: the output, or `(output, *state)`.
        real: masks by length; a module works on the steps, on all tokens or on the last one: its length tells.
        tokens_first: tensors are `[L, B, D]`.
    """

    def __init__(self, inputs: tuple[Any, ...], returned: Any, real: Real, tokens_first: bool) -> None:
        self.inputs, self.real, self.tokens_first = inputs, real, tokens_first
        self.output, *carried = returned if isinstance(returned, tuple) else (returned,)
        self.carried = [x for x in carried if torch.is_tensor(x)]

    def mask(self, x: Tensor) -> Tensor:
        """Return the mask `[B, L]` of `x [(T,) B, L, D]`, `[L, B]` of `[L, B, D]`."""
        mask = self.real[self.length(x)]
        return mask.t() if self.tokens_first else mask

    def length(self, x: Tensor) -> int:
        """Return L of `x`."""
        return x.shape[-3 if self.tokens_first else -2]

    def tokens(self, x: Tensor) -> Any:
        """Return how many real tokens `x` holds, one for each simulation step."""
        return self.real.total(self.length(x)) * self.steps(x)

    def elements(self, x: Tensor) -> Any:
        """Return how many numbers the real tokens of `x` hold."""
        return self.tokens(x) * x.shape[-1]

    def sum(self, x: Tensor) -> Any:
        """Return the sum of `x` over its real tokens: the spikes in a train."""
        return self.number((x.sum(-1, dtype=torch.float64) * self.mask(x)).sum())

    def number(self, total: Tensor) -> Any:
        """Return a sum as it is asked for, see `Real`."""
        return self.real.number(total)

    @property
    def decisions(self) -> int:
        """B, of the output."""
        return self.output.shape[-2 if self.tokens_first else -3]

    def steps(self, x: Tensor) -> int:
        """Return T of `[T, B, L, D]`, 1 of a tensor without simulation time."""
        return len(x) if x.dim() == 4 else 1


Cost = Count | dict[str, Count]
Rule = Callable[[Any, Call], Cost]
_RULES: dict[type, tuple[Rule, bool]] = {}


def costs(*kinds: type[nn.Module], inside: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for modules of these types; `inside`: their submodules are counted beside them."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, (rule, inside)))
        return rule

    return register


def rule_of(module: nn.Module) -> tuple[Rule, bool] | None:
    """Return the rule of the nearest type that has one, and whether its submodules are counted beside it."""
    return next((_RULES[kind] for kind in type(module).__mro__ if kind in _RULES), None)
