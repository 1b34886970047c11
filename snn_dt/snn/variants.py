"""LIF neuron with all options in plain torch: delayed reset, adaptation and individual constants per neuron.

Shapes: `current` and spikes [T, ...]; every part of a state [...]. `leak` and `v_threshold` broadcast to [...].
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.snn.parameters import LIFParameters, LIFState
from snn_dt.snn.reference import SpikeFunction, drive, reset
from snn_dt.snn.surrogate import spike

Constant = Tensor | float


def rest(like: Tensor, p: LIFParameters) -> LIFState:
    """Return the rest state with one neuron per element of `like`."""
    return LIFState(torch.full_like(like, p.v_rest), torch.zeros_like(like), torch.zeros_like(like))


def begin(like: Tensor, state: LIFState | None, p: LIFParameters) -> LIFState:
    """Return `state` with each `None` replaced by rest. `None` as the state is rest."""
    start = rest(like, p)
    if state is None:
        return start
    trace, adaptation = state.spike_trace, state.adaptation
    return LIFState(
        state.v_mem,
        start.spike_trace if trace is None else trace,
        start.adaptation if adaptation is None else adaptation,
    )


def step(
    current: Tensor,
    state: LIFState,
    p: LIFParameters,
    leak: Constant,
    v_threshold: Constant,
    fire: SpikeFunction = spike,
) -> tuple[Tensor, LIFState]:
    """Advance the neurons by one step.

    b is the trace of threshold adaptation and w the adaptation current. rho = 1 - dt/tau_adaptation.

    ```
    charge_fire_reset                          delayed
    h  = V + leak (V_rest - V) + gain I - w    s0 = [V >= V_th + beta b]       the last step's spike
    s  = [h >= V_th + beta b]                  h  = V + leak (V_rest - V) + gain I - w
    V' = reset(h, s)                           V' = reset(h, s0)
    b' = rho b + s                             b' = rho b + s0
    w' = rho w + a (V' - V_rest) + c s         w' = rho w + a (V - V_rest) + c s0
                                               s  = [V' >= V_th + beta b']     the spike returned
    ```

    with beta, c, a = `threshold_adaptation`, `current_adaptation`, `voltage_adaptation`. A delayed hard reset loses the
    input of its step. In both orders the returned spike depends on the input of the same step. The two orders give
    different spike trains for equal weights.

    Source: ALIF of Bellec et al. 2020. The delayed order is that of snnTorch with `reset_mechanism="subtract"`.
    """
    v, b, w = state.v_mem, state.spike_trace, state.adaptation
    assert b is not None, "a state without gaps, see `begin`"
    assert w is not None, "a state without gaps, see `begin`"
    rho = 1.0 - p.dt / p.tau_adaptation
    h = v + leak * (p.v_rest - v) + drive(current, p) - w
    if p.reset_order == "charge_fire_reset":
        s = fire(h - (v_threshold + p.threshold_adaptation * b), p.slope, p.surrogate)
        v = reset(h, s, p, v_threshold)
        w = rho * w + p.voltage_adaptation * (v - p.v_rest) + p.current_adaptation * s
        return s, LIFState(v, rho * b + s, w)
    # Delayed order: the spike of the last step resets first, so w uses the membrane from before this step.
    s0 = fire(v - (v_threshold + p.threshold_adaptation * b), p.slope, p.surrogate)
    w = rho * w + p.voltage_adaptation * (v - p.v_rest) + p.current_adaptation * s0
    v, b = reset(h, s0, p, v_threshold), rho * b + s0
    return fire(v - (v_threshold + p.threshold_adaptation * b), p.slope, p.surrogate), LIFState(v, b, w)


def scan(
    current: Tensor,
    state: LIFState | None,
    p: LIFParameters,
    leak: Constant,
    v_threshold: Constant,
    fire: SpikeFunction = spike,
) -> tuple[Tensor, LIFState]:
    """Run `step` over the first axis of `current`. `None` as a state or a part of it is rest."""
    state, spikes = begin(current.new_empty(current.shape[1:]), state, p), []
    for now in current.unbind(0):
        s, state = step(now, state, p, leak, v_threshold, fire)
        spikes.append(s)
    # torch.stack rejects an empty list, which occurs for T = 0.
    return (torch.stack(spikes) if spikes else torch.empty_like(current)), state


def rate(
    current: Tensor,
    sim_steps: int,
    p: LIFParameters,
    leak: Constant,
    v_threshold: Constant,
    fire: SpikeFunction = spike,
) -> Tensor:
    """Return the mean spike in [0, 1] over `sim_steps` steps of a constant `current` [...] from rest."""
    count, state = torch.zeros_like(current), rest(current, p)
    for _ in range(sim_steps):
        s, state = step(current, state, p, leak, v_threshold, fire)
        count = count + s
    return count / sim_steps
