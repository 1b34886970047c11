r"""Energy rules: what one call of a module costs and what drives it, declared once per module type.

B batch, L tokens, D width, T simulation steps. The rules for the modules of this package are in `rules.py`.

A rule holds for subclasses too, so that a new model often needs none (`SpikingLayer`, `SpikeLinear`, `nn.Linear`, ...).
For a module of your own:

```
@costs(DecayAttention, role="synapses")
def decay_attention(module: DecayAttention, call: Call) -> Count:
    q, k, v = call.inputs[:3]
    return Count(macs=..., acs=...)
```

| role       | the module                                                                                          |
|------------|-----------------------------------------------------------------------------------------------------|
| `synapses` | is driven by spikes: its accumulates are what `train.budget.synaptic_operations` limits (default)    |
| `neurons`  | is a layer of neurons, whose spikes `train.budget.mean_firing_rate` limits                           |
| `analogue` | computes on real numbers; no budget limits it                                                        |
| `wire`     | hands on what its parts compute (`wire(...)` declares one that costs nothing); subclasses excluded   |

From these roles the budget, the proof that blocks are spike-driven and the tests derive their lists.

The rule stands for everything inside the module, unless it is registered with `inside=True`: then it adds what the
module itself computes to what its parts cost. It may return `{"": Count, "softmax": Count}` to name parts; a budget
limits the part `""` alone. `{}` costs nothing. Tensors are `[B, L, D]` or `[T, B, L, D]`; a model whose tokens come
first, `[L, B, D]`, says so with an attribute `streams = True`. A module that carries state from one decision to
the next returns `(output, *state)`, and the meter finds its bytes; decisions of such a model are counted with
`meter.count(mask, steps)`. A module without a rule, with weights or without, is named in `uncounted` and in a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from snn_dt.energy.counts import Count


class Real:
    """The masks of a forward's valid tokens, `{L: mask [B, L]}`, and their totals, which are counted once per L.

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
        """Return a sum as a float, or with `on_device` as a tensor that keeps its gradient."""
        return total if self._on_device else float(total)


class Call:
    """One call of a module: `inputs`, `output`, the state it `carried` on, and the masks of valid tokens.

    Args:
        inputs: positional arguments.
        returned: the output, or `(output, *state)`.
        real: masks by length; the length of a tensor tells whether it holds steps, all tokens or the last one.
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
        """Return a sum as a number or as a tensor, see `Real`."""
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
Role = Literal["synapses", "neurons", "analogue", "wire"]


class Declared(NamedTuple):
    """What is declared of a module type; `rule` None costs nothing, `inside`: its submodules are counted beside it."""

    rule: Rule | None
    role: Role
    inside: bool


_DECLARED: dict[type, Declared] = {}


def costs(*types: type[nn.Module], role: Role = "synapses", inside: bool = False) -> Callable[[Rule], Rule]:
    """Declare the rule and the role of modules of these types; `inside`: their submodules are counted beside them."""

    def register(rule: Rule) -> Rule:
        _DECLARED.update(dict.fromkeys(types, Declared(rule, role, inside)))
        return rule

    return register


def wire(*types: type[nn.Module]) -> None:
    """Declare modules of these types, not of subclasses, to compute nothing besides what their parts do."""
    _DECLARED.update(dict.fromkeys(types, Declared(None, "wire", True)))


def declared(module: nn.Module) -> Declared | None:
    """Return what is declared of the nearest type of a module, None if nothing is."""
    for kind in type(module).__mro__:
        found = _DECLARED.get(kind)
        # A subclass of a container may compute anything, so that a wire is exactly the type that was declared.
        if found is not None and (found.role != "wire" or kind is type(module)):
            return found
    return None


def role_of(module: nn.Module) -> Role | None:
    """Return the role of a module, None if nothing is declared of its type."""
    found = declared(module)
    return None if found is None else found.role
