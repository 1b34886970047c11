r"""e-prop as a chip would do it: eligibility traces go forward with the network, errors and rewards meet them.

T steps, B samples, P sources, N neurons, O outputs. A trace is [B, N, P], one number per synapse; memory does not grow
with T. With psi the surrogate's derivative, m what a reset keeps of h, r what the reset of a spike adds to V
(`snn_dt.experimental.analysis.jacobian`), x the spike of the source,

```
delayed                                          charge_fire_reset
eps_V = m (alpha eps_V + gain x) + r e_(t-1)     eps_h = alpha eps_V + gain x
eps_b = rho eps_b + e_(t-1)                      e_t = psi (eps_h - beta eps_b)
e_t = psi (eps_V - beta eps_b)                   eps_V = m eps_h + r e_t,  eps_b = rho eps_b + e_t
```

is `dz_t / dW` through the neuron's own state (its Jacobian, times what one input adds), and

```
dE/dW_ji  =  sum_t  L_j^t  ebar_ji^t,      L_j = sum_k B_kj dE/dy_k,      ebar_t = kappa ebar_(t-1) + gain e_t
```

exact where no spike acts on another neuron. Reward-based: traces of `L ebar` fade with gamma and meet the error of the
value, `dW = -eta sum_t delta_t F_gamma(L ebar)_t`. Source: Bellec et al. 2020, Eqs. 1, 22-25, 28, 35.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snn_dt.experimental.rsnn.recurrent import RecurrentLIF, RecurrentState, Steps
from snn_dt.experimental.rsnn.spiking_network import LeakyReadout, RecurrentSNN


class Eligibility:
    """Traces `e` [B, N, P] of the synapses from P sources to `neurons`."""

    def __init__(self, neurons: RecurrentLIF, like: Tensor) -> None:
        """Begin with traces of 0, shaped as `like` [B, N, P]."""
        self.neurons = neurons
        self.e, self.by_v, self.by_b = (torch.zeros_like(like) for _ in range(3))

    def step(self, x: Tensor, before: Tensor, now: Steps) -> Tensor:
        """Advance over the step `now` of one time, `x` [B, P] what came in, `before` [B, N] the spikes of the last."""
        p, beta = self.neurons.constants, self.neurons.beta.to(x.dtype)[:, None]
        alpha, rho, delayed = 1 - p.leak, 1 - p.dt / p.tau_adaptation, p.reset_order == "delayed"
        psi = self.neurons.psi(now.u[0]).unsqueeze(-1)
        resets = reset_terms(self.neurons, before if delayed else now.spikes[0], now)
        keep, add = (part.unsqueeze(-1) for part in resets)
        charged = alpha * self.by_v + p.gain * x.unsqueeze(1)
        if delayed:
            self.by_v = keep * charged + add * self.e
            self.by_b = rho * self.by_b + self.e
            self.e = psi * (self.by_v - beta * self.by_b)
        else:
            self.e = psi * (charged - beta * self.by_b)
            self.by_v = keep * charged + add * self.e
            self.by_b = rho * self.by_b + self.e
        return self.e

    def forget(self, rows: Tensor) -> None:
        """Set the traces of the samples `rows` [B] bool to 0."""
        for trace in (self.e, self.by_v, self.by_b):
            trace[rows] = 0


def reset_terms(neurons: RecurrentLIF, spikes: Tensor, now: Steps) -> tuple[Tensor, Tensor]:
    """Return m and r [B, N] of a step whose reset is by `spikes`."""
    p, h = neurons.constants, now.h[0]
    keep = 1 - spikes if p.reset == "hard" else torch.ones_like(h)
    add = {"hard": p.v_rest - h, "soft": torch.full_like(h, p.v_rest - p.v_threshold), "none": torch.zeros_like(h)}
    return keep, torch.zeros_like(h) if p.detach_reset else add[p.reset]


class OnlineEprop:
    """A network that learns while it runs; gradients add up in the `.grad` of its parameters.

    ```
    y = learner.step(x_t)            # outputs [B, O]
    learner.blame(dE/dy)             # traces of L ebar, which fade with `fade` (0: forget at once)
    learner.reinforce(delta)         # gradient += sum over samples of delta [B] times those traces
    ```

    Supervised learning blames and reinforces with 1 at every step, reward-based learning with the error of the value,
    once it is known, and `fade` the discount. The read-out must be a `LeakyReadout`.
    """

    def __init__(self, network: RecurrentSNN, batch: int, fade: float = 0.0) -> None:
        self.network, self.fade = network, fade
        weight = network.input.weight
        self.state: RecurrentState = network.neurons.rest(weight.new_zeros(batch, weight.shape[0]))
        parts = {"input": network.input, "recurrent": network.recurrent}
        self.layers = {name: part for name, part in parts.items() if part is not None}
        shapes = {name: weight.new_zeros(batch, *part.weight.shape) for name, part in self.layers.items()}
        self.eligibility = {name: Eligibility(network.neurons, like) for name, like in shapes.items()}
        self.filtered = {name: torch.zeros_like(like) for name, like in shapes.items()}
        self.blamed = {name: torch.zeros_like(like) for name, like in shapes.items()}
        outputs = weight.new_zeros(batch, *network.readout.synapses.weight.shape)
        self.y, self.z_bar = outputs[..., 0], torch.zeros_like(self.state.spikes)
        self.blamed |= {"readout": outputs, "bias": torch.zeros_like(self.y)}

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Advance network and traces over one step of input [B, P]; return the outputs [B, O]."""
        network, readout, before = self.network, self.network.readout, self.state.spikes
        assert isinstance(readout, LeakyReadout)
        back = None if network.recurrent is None else network.recurrent()
        now = network.neurons.run((x @ network.input().t()).unsqueeze(0), back, self.state)
        kappa, gain, self.state = readout.kappa, readout.gain, now.state
        for name, trace in self.eligibility.items():
            e = trace.step(x if name == "input" else before, before, now)
            self.filtered[name] = kappa * self.filtered[name] + gain * e
        self.z_bar = kappa * self.z_bar + gain * now.spikes[0]
        self.y = self.z_bar @ readout.synapses().t()
        return self.y if readout.bias is None else self.y + readout.bias

    @torch.no_grad()
    def blame(self, by_output: Tensor) -> None:
        """Let errors `dE/dy` [B, O] meet the traces: B hands them to the neurons as learning signals."""
        signal = by_output @ self.network.readout.back
        new = {name: signal.unsqueeze(-1) * e for name, e in self.filtered.items()}
        new |= {"readout": by_output.unsqueeze(-1) * self.z_bar.unsqueeze(1), "bias": by_output}
        for name, value in new.items():
            self.blamed[name] = self.fade * self.blamed[name] + value

    @torch.no_grad()
    def reinforce(self, modulator: Tensor) -> None:
        """Add `sum_b modulator_b blamed_b` [B] to the gradients."""
        readout = self.network.readout
        total = {name: torch.tensordot(modulator, value, 1) for name, value in self.blamed.items()}
        pairs = [(part.weight, total[name] * part.mask) for name, part in self.layers.items()]
        pairs.append((readout.synapses.weight, total["readout"] * readout.synapses.mask))
        if readout.feedback is not None:
            pairs.append((readout.feedback, total["readout"] * readout.synapses.mask))
        if readout.bias is not None:
            pairs.append((readout.bias, total["bias"]))
        for parameter, gradient in pairs:
            parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient

    def begin(self, rows: Tensor) -> None:
        """Put the samples `rows` [B] bool to rest: a new episode."""
        rest = self.network.neurons.rest(self.y.new_zeros(len(rows), self.network.neurons.neurons))
        self.state = RecurrentState(
            *(torch.where(rows[:, None], new, old) for new, old in zip(rest, self.state, strict=True))
        )
        for trace in self.eligibility.values():
            trace.forget(rows)
        for value in (*self.filtered.values(), *self.blamed.values(), self.z_bar):
            value[rows] = 0


def online_gradients(network: RecurrentSNN, x: Tensor, by_output: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Run e-prop over `x` [T, B, P], adding gradients to `.grad`; `by_output(t, y_t)` is dE/dy_t. Returns outputs."""
    learner, outputs = OnlineEprop(network, x.shape[1]), []
    for t, now in enumerate(x):
        outputs.append(learner.step(now))
        learner.blame(by_output(t, outputs[-1]))
        learner.reinforce(torch.ones_like(x[0, :, 0]))
    return torch.stack(outputs)
