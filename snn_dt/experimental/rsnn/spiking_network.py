r"""A recurrent spiking network: inputs, neurons whose spikes come back, a read-out; the gradient of BPTT or e-prop.

T steps, B samples, P inputs, N neurons, O outputs. Spikes in `x` [T, B, P], of the neurons [T, B, N], out [T, B, O].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snn_dt.experimental.rsnn.recurrent import RecurrentLIF, RecurrentState
from snn_dt.snn.filters import leaky_sum

FEEDBACK = ("symmetric", "random", "adaptive")


class Synapses(nn.Module):
    """Weights `[targets, sources]` of deviation `1 / sqrt(sources)`, where `mask` says which of them exist."""

    mask: Tensor

    def __init__(self, sources: int, targets: int, loops: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(targets, sources) * sources**-0.5)
        mask = torch.ones(targets, sources)
        self.register_buffer("mask", mask if loops else mask.fill_diagonal_(0))

    def forward(self) -> Tensor:
        """Return the weights, 0 where there is no connection."""
        return self.weight * self.mask

    @property
    def fan_out(self) -> Tensor:
        """Connections that leave each source `[sources]`: the operations that a spike of it costs."""
        return self.mask.sum(0)


class _Feedback(torch.autograd.Function):
    """`z W^T`, whose gradient goes back to z through other weights."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(z, feedback)
        return z @ weight.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, feedback = ctx.saved_tensors
        grad_weight = grad.flatten(0, -2).t() @ z.flatten(0, -2)
        return grad @ feedback, grad_weight, grad_weight.clone()


class Readout(nn.Module):
    """Synapses to the outputs, and the weights B by which errors come back to the neurons in e-prop.

    `symmetric`: B is W itself; `random`: fixed, of deviation `feedback_scale`; `adaptive`: as random at first, then
    changed by the same increments as W, so that decay of both takes B to W (Kolen and Pollack 1994).
    """

    def __init__(
        self, neurons: int, outputs: int, feedback: str = "symmetric", feedback_scale: float | None = None
    ) -> None:
        super().__init__()
        if feedback not in FEEDBACK:
            raise ValueError(f"feedback: expected one of {', '.join(FEEDBACK)}; found {feedback!r}")
        self.synapses = Synapses(neurons, outputs)
        back = torch.randn(outputs, neurons) * (neurons**-0.5 if feedback_scale is None else feedback_scale)
        self.register_buffer("fixed_feedback", back if feedback == "random" else None)
        self.register_parameter("feedback", nn.Parameter(back) if feedback == "adaptive" else None)

    @property
    def back(self) -> Tensor:
        """B `[outputs, neurons]`."""
        for own in (self.fixed_feedback, self.feedback):
            if own is not None:
                return own
        return self.synapses()

    def drive(self, spikes: Tensor, local: bool) -> Tensor:
        """Return `W z`; with `local` its gradient by z is that of B."""
        weight, symmetric = self.synapses(), self.fixed_feedback is None and self.feedback is None
        return spikes @ weight.t() if symmetric or not local else _Feedback.apply(spikes, weight, self.back)


class LeakyReadout(Readout):
    """`y_t = kappa y_(t-1) + gain W z_t`, plus a bias, with `kappa = e^(-1/tau_out)`; `gain` None is 1 - kappa."""

    def __init__(
        self,
        neurons: int,
        outputs: int,
        tau_out: float,
        bias: bool = True,
        gain: float | None = None,
        **feedback: Any,
    ) -> None:
        super().__init__(neurons, outputs, **feedback)
        if tau_out <= 0:
            raise ValueError(f"tau_out: expected above 0; found {tau_out!r}")
        self.kappa = float(torch.exp(torch.tensor(-1 / tau_out, dtype=torch.float64)))
        self.gain = 1 - self.kappa if gain is None else gain
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, spikes: Tensor, local: bool = False) -> Tensor:
        """Map spikes `[T, B, N]` to `[T, B, O]`."""
        y = leaky_sum(self.drive(spikes, local), self.kappa) * self.gain
        return y if self.bias is None else y + self.bias


class SpikingReadout(Readout):
    """One LIF neuron per output, whose spikes are the output: what it says are rates (`rates.py`).

    With `local` its own synapses have their exact trace through time; what it hands back to the neurons is its
    surrogate at the same step, with no trace of its membrane.
    """

    def __init__(self, neurons: int, outputs: int, lif: dict[str, Any], **feedback: Any) -> None:
        super().__init__(neurons, outputs, **feedback)
        self.neurons = RecurrentLIF(outputs, **lif)

    def forward(self, spikes: Tensor, local: bool = False) -> Tensor:
        """Map spikes `[T, B, N]` to spikes `[T, B, O]`."""
        if not local:
            return self.neurons(self.drive(spikes, local))[0]
        own, _ = self.neurons(self.drive(spikes.detach(), local))
        with torch.no_grad():
            weight, back = self.synapses(), self.back
            u = self.neurons.run(spikes @ weight.t()).u
            psi = self.neurons.psi(u) * self.neurons.constants.gain
        signal = spikes @ back.detach().t()
        return own + psi * (signal - signal.detach())


class RecurrentSNN(nn.Module):
    """`forward(x [T, B, P]) -> (outputs [T, B, O], spikes [T, B, N])`.

    With `local` the gradient is that of e-prop (Bellec et al. 2020): every neuron's own past counts in full, what its
    spikes do to other neurons later does not, and errors come back through the read-out's feedback weights. It equals
    the sum over time of learning signals times eligibility traces of `snn_dt.learning.eprop`, found backwards, which
    takes memory for T steps and N instead of N P operations per step.
    """

    def __init__(self, inputs: int, neurons: RecurrentLIF, readout: Readout, recurrent: bool = True) -> None:
        super().__init__()
        self.input = Synapses(inputs, neurons.neurons)
        self.recurrent = Synapses(neurons.neurons, neurons.neurons, loops=False) if recurrent else None
        self.neurons, self.readout = neurons, readout

    def forward(self, x: Tensor, local: bool = False, state: RecurrentState | None = None) -> tuple[Tensor, Tensor]:
        """Run from rest, or from `state`."""
        back = None if self.recurrent is None else self.recurrent()
        spikes, _ = self.neurons(x @ self.input().t(), back, state, local)
        return self.readout(spikes, local), spikes

    @property
    def synapses(self) -> dict[str, Synapses]:
        """All connections by name: `input`, `recurrent` if there are any, `readout`."""
        parts = {"input": self.input, "recurrent": self.recurrent, "readout": self.readout.synapses}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def fan_out(self) -> Tensor:
        """Connections that leave each hidden neuron `[N]`."""
        return self.readout.synapses.fan_out + (0 if self.recurrent is None else self.recurrent.fan_out)

    def synaptic_operations(self, x: Tensor, spikes: Tensor) -> Tensor:
        """Return the accumulates of a sample, all steps: spikes times the connections that leave their neuron."""
        return ((x * self.input.fan_out).sum() + (spikes * self.fan_out).sum()) / x.shape[1]
