r"""A recurrent spiking network with the gradient of BPTT or e-prop.

Shapes: T steps; B samples; P inputs; N neurons; O outputs. Input spikes `x` are [T, B, P]. Hidden spikes are [T, B, N].
Outputs are [T, B, O].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snn_dt.experimental.leaky_sum import leaky_sum
from snn_dt.experimental.rsnn.recurrent import RecurrentLIF, RecurrentState

FEEDBACK = ("symmetric", "random", "adaptive")


class Synapses(nn.Module):
    """Weights [targets, sources] of standard deviation `1 / sqrt(sources)`. `mask` is 1 where a connection exists."""

    mask: Tensor

    def __init__(self, sources: int, targets: int, self_connections: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(targets, sources) * sources**-0.5)
        mask = torch.ones(targets, sources)
        # saved with the weights; topology.py changes it
        self.register_buffer("mask", mask if self_connections else mask.fill_diagonal_(0))

    def forward(self) -> Tensor:
        """Return the weights with 0 for missing connections."""
        return self.weight * self.mask

    @property
    def fan_out(self) -> Tensor:
        """Number of connections from each source [sources]. It is also the number of operations per spike."""
        return self.mask.sum(0)


class _Feedback(torch.autograd.Function):
    """Product `z W^T`. Its gradient by z uses the feedback weights instead of W."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(z, feedback)  # W itself is not needed
        return z @ weight.t()  # [T, B, N] @ [N, O]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, feedback = ctx.saved_tensors
        grad_weight = grad.flatten(0, -2).t() @ z.flatten(0, -2)  # [O, T B] @ [T B, N]
        # adaptive feedback weights get the same increments as W
        return grad @ feedback, grad_weight, grad_weight.clone()


class Readout(nn.Module):
    """Synapses W to the outputs and the feedback weights B, which carry errors to the neurons in e-prop.

    `symmetric`: B is W. `random`: B is fixed with standard deviation `feedback_scale`. `adaptive`: B starts random and
    gets the increments of W. Weight decay then makes B converge to W (Kolen and Pollack 1994).
    """

    fixed_feedback: Tensor | None
    feedback: nn.Parameter | None

    def __init__(
        self, neurons: int, outputs: int, feedback: str = "symmetric", feedback_scale: float | None = None
    ) -> None:
        super().__init__()
        if feedback not in FEEDBACK:
            raise ValueError(f"feedback: expected one of {', '.join(FEEDBACK)}; found {feedback!r}")
        self.synapses = Synapses(neurons, outputs)
        # drawn in every case, so that all kinds of feedback start from the same other weights
        back = torch.randn(outputs, neurons) * (neurons**-0.5 if feedback_scale is None else feedback_scale)
        self.register_buffer("fixed_feedback", back if feedback == "random" else None)
        self.register_parameter("feedback", nn.Parameter(back) if feedback == "adaptive" else None)

    @property
    def back(self) -> Tensor:
        """Feedback weights B [outputs, neurons]."""
        for feedback in (self.fixed_feedback, self.feedback):
            if feedback is not None:
                return feedback
        weight: Tensor = self.synapses()
        return weight

    def drive(self, spikes: Tensor, local: bool) -> Tensor:
        """Return `W z` [T, B, O]. With `local` its gradient by z goes through B."""
        weight: Tensor = self.synapses()
        symmetric = self.fixed_feedback is None and self.feedback is None
        if symmetric or not local:
            return spikes @ weight.t()  # [T, B, N] @ [N, O]
        through_feedback: Any = _Feedback.apply  # torch does not type it
        driven: Tensor = through_feedback(spikes, weight, self.back)
        return driven


class LeakyReadout(Readout):
    """Leaky outputs `y_t = kappa y_(t-1) + gain W z_t` plus a bias.

    `kappa = e^(-1/tau_out)`. `gain=None` means 1 - kappa.
    """

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
        # in float64, as alpha of the neurons
        self.kappa = float(torch.exp(torch.tensor(-1 / tau_out, dtype=torch.float64)))
        self.gain = 1 - self.kappa if gain is None else gain
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, spikes: Tensor, local: bool = False) -> Tensor:
        """Map spikes [T, B, N] to outputs [T, B, O]."""
        y = leaky_sum(self.drive(spikes, local), self.kappa) * self.gain  # [T, B, O]
        return y if self.bias is None else y + self.bias


class SpikingReadout(Readout):
    """One LIF neuron per output; its firing rate is the output (`rates.py`).

    With `local` the gradient of its own synapses is exact through time. The hidden neurons get an error through its
    surrogate at the same step only, without the trace of its membrane.
    """

    def __init__(self, neurons: int, outputs: int, lif: dict[str, Any], **feedback: Any) -> None:
        super().__init__(neurons, outputs, **feedback)
        self.neurons = RecurrentLIF(outputs, **lif)

    def forward(self, spikes: Tensor, local: bool = False) -> Tensor:
        """Map spikes [T, B, N] to output spikes [T, B, O]."""
        out: Tensor
        if not local:
            out, _ = self.neurons(self.drive(spikes, local))
            return out
        out, _ = self.neurons(self.drive(spikes.detach(), local))  # gradient of the synapses only
        with torch.no_grad():
            weight, back = self.synapses(), self.back
            u = self.neurons.run(spikes @ weight.t()).u  # distance of the outputs to their threshold, [T, B, O]
            psi = self.neurons.psi(u) * self.neurons.constants.gain  # d(output)/d(current) of the same step
        # adds 0 to the output, and psi B^T dL/dout to the gradient of the hidden spikes
        signal = spikes @ back.detach().t()  # [T, B, O]
        return out + psi * (signal - signal.detach())


class RecurrentSNN(nn.Module):
    """A network with `forward(x [T, B, P]) -> (outputs [T, B, O], spikes [T, B, N])`.

    With `local` the gradient is that of e-prop (Bellec et al. 2020). It contains each neuron's own past and omits later
    effects of its spikes on other neurons. Errors come through the read-out's feedback weights. It equals the sum over
    time of learning signals times eligibility traces (`tests/experimental/rsnn/eprop_reference.py`). It is computed
    backward in time. This takes memory for T steps, and N instead of N P operations per step.
    """

    def __init__(self, inputs: int, neurons: RecurrentLIF, readout: Readout, recurrent: bool = True) -> None:
        super().__init__()
        self.input = Synapses(inputs, neurons.neurons)
        self.recurrent = Synapses(neurons.neurons, neurons.neurons, self_connections=False) if recurrent else None
        self.neurons, self.readout = neurons, readout

    def forward(self, x: Tensor, local: bool = False, state: RecurrentState | None = None) -> tuple[Tensor, Tensor]:
        """Run from `state` or from rest."""
        back = None if self.recurrent is None else self.recurrent()  # [N, N] (to, from)
        spikes, _ = self.neurons(x @ self.input().t(), back, state, local)  # [T, B, P] @ [P, N] -> [T, B, N]
        y: Tensor = self.readout(spikes, local)
        return y, spikes

    @property
    def synapses(self) -> dict[str, Synapses]:
        """All connections by name: `input`, `recurrent` (if present) and `readout`."""
        parts = {"input": self.input, "recurrent": self.recurrent, "readout": self.readout.synapses}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def fan_out(self) -> Tensor:
        """Number of connections from each hidden neuron [N]."""
        return self.readout.synapses.fan_out + (0 if self.recurrent is None else self.recurrent.fan_out)

    def synaptic_operations(self, x: Tensor, spikes: Tensor) -> Tensor:
        """Return the accumulates per sample over all steps: spikes times the fan-out of their neuron."""
        # sum over T, B and neurons, per sample
        return ((x * self.input.fan_out).sum() + (spikes * self.fan_out).sum()) / x.shape[1]
