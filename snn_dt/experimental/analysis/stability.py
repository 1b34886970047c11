"""Growth and decay of gradients and of changes of a neuron's state over the simulation steps.

Shapes: T steps; `...` independent instances (batch, tokens); N neurons; S parts of a neuron's state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.experimental.analysis.jacobian import Linearised, full_state, linearise, recurrent_jacobian
from snn_dt.experimental.analysis.membrane_recorder import Trace, recording
from snn_dt.snn import LIFState
from snn_dt.snn.surrogate import get_surrogate

SATURATED_RATE = 0.95
"""Firing rate from which a neuron counts as saturated. It no longer distinguishes inputs."""


def stability_rows(model: nn.Module, loss: Callable[[], Tensor]) -> list[dict[str, Any]]:
    """Return one row of `layer_stability` per layer of neurons of `model` for the forward pass of `loss()`."""
    model.zero_grad(set_to_none=True)
    with recording(model) as traces:
        torch.autograd.backward(loss())
    model.zero_grad(set_to_none=True)
    return [{"layer": name, **layer_stability(trace)} for name, trace in traces.items()]


@torch.no_grad()
def layer_stability(trace: Trace, weight: Tensor | None = None) -> dict[str, Any]:
    """Return the measures of one run of a layer. `weight` [N, N] feeds its spikes back one step later.

    ```
    J_t = d state_t / d state_(t-1)                  of the layer: block diagonal without `weight`
    spectral_radius[t] = max |eigenvalues of J_t|    mean over instances; spectral_radius_max: the largest
    state_gradient[t]  = |dL/dV_t|                   over all instances and neurons
    lyapunov           = log |J_T ... J_1| / T       largest singular value, mean over instances; -inf if it is 0
    decay_measured[t]  = rms dV_t / dV_0             decay_predicted[t] = (1 - dt/tau)^t, of a neuron without spikes
    critical_gain      = dt/tau / (gain rms psi)     spread g of a random loop, W ~ N(0, g^2 / N), where |J| passes 1
    critical_scale                                   factor on `weight` for an exponent of 0
    dead, saturated                                  share of neurons that never fire; that fire in 95 % of the steps
    ```

    Source: `critical_gain` follows from the circular law for a detached soft reset. The others are definitions.
    """
    neuron, p = trace.neuron, trace.neuron.constants
    steps = [
        linearise(current, _detached(state), p, neuron.leak, neuron.v_threshold)
        for current, state in zip(trace.currents, trace.states[:-1], strict=True)
    ]
    own = torch.stack([step.state for step in steps])  # per neuron, [T, ..., N, S, S]
    if weight is None:
        # neurons are independent: the layer's value is the largest of its neurons
        radius = spectral_radius(own).amax(-1)  # [T, ...]
        exponent = lyapunov(own).amax(-1)
    else:
        # the whole layer is one system
        loop = torch.stack([recurrent_jacobian(step, weight) for step in steps])  # [T, ..., (S + 1) N, (S + 1) N]
        radius, exponent = spectral_radius(loop), lyapunov(loop)
    rates = torch.stack(trace.spikes).flatten(0, -2).mean(0)  # [N]
    psi = _rms_psi(trace)
    leak = torch.as_tensor(neuron.leak).double().mean().item()  # mean over neurons where it is learned
    return {
        "spectral_radius": radius.reshape(len(steps), -1).mean(1).tolist(),  # [T, ...] -> [T]
        "spectral_radius_max": radius.max().item(),
        "state_gradient": [g.norm().item() for g in trace.state_gradients()],
        "lyapunov": exponent.mean().item(),
        "decay_measured": _decay(own),
        "decay_predicted": [(1 - leak) ** t for t in range(1, len(steps) + 1)],
        "critical_gain": leak / (p.gain * psi) if psi > 0 else math.inf,
        "critical_scale": None if weight is None else critical_scale(steps, weight),
        "firing_rate": rates.mean().item(),
        "dead": (rates == 0).double().mean().item(),
        "saturated": (rates >= SATURATED_RATE).double().mean().item(),
    }


def spectral_radius(jacobian: Tensor) -> Tensor:
    """Return the largest absolute eigenvalue [...] of matrices [..., M, M]."""
    if jacobian.shape[-1] == 1:
        return jacobian[..., 0, 0].abs()
    eigenvalues: Tensor = torch.linalg.eigvals(jacobian)  # [..., M], complex
    return eigenvalues.abs().amax(-1)


def lyapunov(jacobians: Tensor) -> Tensor:
    """Return the largest Lyapunov exponent [...] per step of Jacobians [T, ..., M, M]: `log |J_T ... J_1| / T`.

    Against overflow the product is rescaled to Frobenius norm 1 after each step and the logarithms are summed. The
    exponent is -inf where the product is 0.
    """
    # [M, M] -> [..., M, M]
    product = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype, device=jacobians.device).expand(jacobians.shape[1:])
    total = jacobians.new_zeros(jacobians.shape[1:-2])
    for jacobian in jacobians:
        product = jacobian @ product
        norm = torch.linalg.matrix_norm(product)
        total = total + norm.log()
        product = product / norm.clamp(min=torch.finfo(norm.dtype).tiny)[..., None, None]  # a product of 0 stays 0
    if product.shape[-1] > 1:
        total = total + torch.linalg.matrix_norm(product, 2).log()
    return total / len(jacobians)


def critical_loop(keep_v: float, keep_i: float) -> tuple[float, float]:
    """Return the range of W in which the loop `v' = keep_v v + i`, `i' = keep_i i + W v` is stable.

    ```
    -(1 - keep_v keep_i) < W < (1 - keep_v)(1 - keep_i)
    ```

    Below the range the loop oscillates. Above it the loop grows without bound. In continuous time (`v' = -v/tau_m + i`,
    `i' = -i/tau_s + W v`) the upper bound is `1 / (tau_m tau_s)`. Forward Euler with step dt (W dt^2,
    keep = 1 - dt/tau) has the same bound.
    """
    return -(1 - keep_v * keep_i), (1 - keep_v) * (1 - keep_i)


def critical_scale(steps: list[Linearised], weight: Tensor, largest: float = 1e4) -> float | None:
    """Return the factor c for which the loop `c weight` has a mean Lyapunov exponent of 0 with the recorded spikes.

    The result is None if the loop is stable up to `largest`. It is 0 if the neurons are unstable without a loop.
    """

    def exponent(scale: float) -> float:
        return lyapunov(torch.stack([recurrent_jacobian(step, scale * weight) for step in steps])).mean().item()

    low, high = 0.0, 1.0
    if exponent(low) >= 0:
        return 0.0
    # double the factor until the loop is unstable
    while exponent(high) < 0:
        low, high = high, 2 * high
        if high > largest:
            return None
    for _ in range(40):  # bisection
        middle = (low + high) / 2
        low, high = (middle, high) if exponent(middle) < 0 else (low, middle)
    return high


def _decay(own: Tensor) -> list[float]:
    """Return the root mean square of `dV_t / dV_0` for t = 1 ... T."""
    # the product J_t ... J_1 holds d state_t / d state_0
    product, found = torch.eye(own.shape[-1], dtype=own.dtype, device=own.device), []
    for jacobian in own:
        product = jacobian @ product
        found.append(product[..., 0, 0].double().square().mean().sqrt().item())  # entry (V, V)
    return found


def _detached(state: LIFState) -> LIFState:
    return LIFState._make(None if part is None else part.detach() for part in state)


def _rms_psi(trace: Trace) -> float:
    """Return the root mean square of the surrogate derivative over steps, instances and neurons."""
    neuron, p = trace.neuron, trace.neuron.constants
    squares = []
    for current, state in zip(trace.currents, trace.states[:-1], strict=True):
        v, b, w = full_state(state)
        charged = v + neuron.leak * (p.v_rest - v) + p.gain * current - w
        # as in `jacobian.linearise`
        u = (v if p.reset_order == "delayed" else charged) - neuron.v_threshold - p.threshold_adaptation * b
        squares.append(get_surrogate(p.surrogate).derivative(u, p.surrogate_slope).double().square().mean())
    return math.sqrt(float(torch.stack(squares).mean()))
