r"""Energy rules: the cost and role of a module, declared once per module type.

B batch, L tokens, D width, T simulation steps. The rules for the modules of this package are in `rules.py`.

A rule applies to subclasses too (`SpikingLayer`, `SpikeLinear`, `nn.Linear`, ...), so a new model often needs no rule.
A new module type declares one:

```
@costs(DecayAttention, role="synapses")
def decay_attention(module: DecayAttention, call: Call) -> Count:
    q, k, v = call.inputs[:3]
    return Count(macs=..., acs=...)
```

| role       | the module                                                                                          |
|------------|-----------------------------------------------------------------------------------------------------|
| `synapses` | is driven by spikes; `train.budget.synaptic_operations` limits its accumulates (default)              |
| `neurons`  | is a layer of neurons; `train.budget.mean_firing_rate` limits its spikes                              |
| `analogue` | computes on real numbers; no budget limits it                                                        |
| `wire`     | only calls its parts (`wire(...)` declares one that costs nothing); does not apply to subclasses      |

The budget and the tests derive their lists of modules from these roles.

By default a rule covers everything inside the module. With `inside=True` its count is added to those of the parts. A
rule may name parts and return `{"": Count, "softmax": Count}`. A budget limits the part `""` only. `{}` costs nothing.

Tensors are `[B, L, D]` or `[T, B, L, D]`. A model with tokens first, `[L, B, D]`, has an attribute `streams = True`. A
module that carries state from one decision to the next returns `(output, *state)`, and the meter counts its bytes.
Decisions of such a model are counted with `meter.count(mask, steps)`. A module without a rule is named in `uncounted`
and in a warning, whether it has weights or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from snn_dt.energy.counts import Count
from snn_dt.snn.backends import wide


class Real:
    """Masks of the valid tokens of a forward by length, `{L: mask [B, L]}`, and their totals.

    Args:
        masks: by length.
        on_device: return numbers as tensors with their gradient, for a loss, without waiting for the device. Otherwise
            numbers are floats.
    """

    def __init__(self, masks: dict[int, Tensor], on_device: bool = False) -> None:
        self._masks, self._totals, self._on_device = masks, dict[int, Any](), on_device

    def __getitem__(self, length: int) -> Tensor:
        """Return the mask `[B, L]` of L tokens."""
        return self._masks[length]

    def total(self, length: int) -> Any:
        """Return the number of valid tokens."""
        if length not in self._totals:
            # Cached: a sum on the device is slow and many modules share a length. float64 counts exactly to 2^53.
            self._totals[length] = self.number(self._masks[length].sum(dtype=wide(self._masks[length].device)))
        return self._totals[length]

    def number(self, total: Tensor) -> Any:
        """Return a sum as a float; with `on_device` as a tensor with its gradient."""
        return total if self._on_device else float(total)


class Call:
    """One call of a module: `inputs`, `output`, the `carried` state and the masks of valid tokens.

    Args:
        inputs: positional arguments.
        returned: the output, or `(output, *state)`.
        real: masks by length. The length of a tensor tells whether it holds steps, all tokens or the last token.
        tokens_first: tensors are `[L, B, D]`.
    """

    def __init__(self, inputs: tuple[Any, ...], returned: Any, real: Real, tokens_first: bool) -> None:
        self.inputs, self.real, self.tokens_first = inputs, real, tokens_first
        self.output, *carried = returned if isinstance(returned, tuple) else (returned,)
        self.carried = [x for x in carried if torch.is_tensor(x)]

    def mask(self, x: Tensor) -> Tensor:
        """Return the mask of `x`: `[B, L]` for `[(T,) B, L, D]`, `[L, B]` for `[L, B, D]`."""
        mask = self.real[self.length(x)]
        return mask.t() if self.tokens_first else mask  # [L, B] or [B, L]

    def length(self, x: Tensor) -> int:
        """Return L of `x`."""
        return x.shape[-3 if self.tokens_first else -2]

    def tokens(self, x: Tensor) -> Any:
        """Return the number of valid tokens in `x`, times its simulation steps."""
        return self.real.total(self.length(x)) * self.steps(x)

    def elements(self, x: Tensor) -> Any:
        """Return the number of elements in the valid tokens of `x`."""
        return self.tokens(x) * x.shape[-1]

    def sum(self, x: Tensor) -> Any:
        """Return the sum of `x` over its valid tokens. For a spike train this is the number of spikes."""
        return self.number((x.sum(-1, dtype=wide(x.device)) * self.mask(x)).sum())  # [(T,) B, L] times [B, L]

    def number(self, total: Tensor) -> Any:
        """Return a sum as a number or a tensor; see `Real`."""
        return self.real.number(total)

    @property
    def decisions(self) -> int:
        """Batch size B of the output."""
        return self.output.shape[-2 if self.tokens_first else -3]

    def steps(self, x: Tensor) -> int:
        """Return T for `[T, B, L, D]`, 1 for a tensor without simulation time."""
        return len(x) if x.dim() == 4 else 1


Cost = Count | dict[str, Count]
Rule = Callable[[Any, Call], Cost]
Role = Literal["synapses", "neurons", "analogue", "wire"]


class Declared(NamedTuple):
    """Declaration of a module type. A `rule` of None costs nothing; `inside`: submodules are counted separately."""

    rule: Rule | None
    role: Role
    inside: bool


_DECLARED: dict[type, Declared] = {}


def costs(*types: type[nn.Module], role: Role = "synapses", inside: bool = False) -> Callable[[Rule], Rule]:
    """Declare the rule and role of module types. With `inside` their submodules are counted separately."""

    def register(rule: Rule) -> Rule:
        _DECLARED.update(dict.fromkeys(types, Declared(rule, role, inside)))
        return rule

    return register


def wire(*types: type[nn.Module]) -> None:
    """Declare that modules of these types only call their parts. This does not apply to subclasses."""
    _DECLARED.update(dict.fromkeys(types, Declared(None, "wire", True)))


def declared(module: nn.Module) -> Declared | None:
    """Return the declaration of the nearest type in the module's MRO; None if there is none."""
    for kind in type(module).__mro__:
        found = _DECLARED.get(kind)
        # A subclass of a container may compute anything, so `wire` applies to the declared type only.
        if found is not None and (found.role != "wire" or kind is type(module)):
            return found
    return None


def role_of(module: nn.Module) -> Role | None:
    """Return the role of a module; None if its type is not declared."""
    found = declared(module)
    return None if found is None else found.role
