"""The neuron with all its options, in plain torch: delayed reset, adaptation, constants of each neuron's own.

Shapes: `current` [T, ...], every part of a state [...], spikes [T, ...]; `leak` and `v_threshold` broadcast to [...].
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.snn.parameters import LIFParameters, LIFState
from snn_dt.snn.reference import SpikeFunction, drive, reset
from snn_dt.snn.surrogate import spike

Constant = Tensor | float


def rest(like: Tensor, p: LIFParameters) -> LIFState:
    """Return the state of neurons at rest, one per element of `like`."""
    return LIFState(torch.full_like(like, p.v_rest), torch.zeros_like(like), torch.zeros_like(like))


def begin(like: Tensor, state: LIFState | None, p: LIFParameters) -> LIFState:
    """Return `state` with rest for what is `None` in it, or for all of it."""
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
    """Advance one step; b is the trace of threshold adaptation, w the adaptation current, rho = 1 - dt/tau_adaptation.

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
    input of its step. Both return the spike that the step's input can cause; the same weights give different trains.

    Source: ALIF of Bellec et al. 2020; the delayed order is that of snnTorch with `reset_mechanism="subtract"`.
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
    """Run `step` over the first axis of `current`; `None`, as a state or a part of one, is rest."""
    state, spikes = begin(current.new_empty(current.shape[1:]), state, p), []
    for now in current.unbind(0):
        s, state = step(now, state, p, leak, v_threshold, fire)
        spikes.append(s)
    return (torch.stack(spikes) if spikes else torch.empty_like(current)), state


def rate(
    current: Tensor,
    sim_steps: int,
    p: LIFParameters,
    leak: Constant,
    v_threshold: Constant,
    fire: SpikeFunction = spike,
) -> Tensor:
    """Return the mean spike over `sim_steps` steps of the constant `current` [...], from rest: in [0, 1]."""
    count, state = torch.zeros_like(current), rest(current, p)
    for _ in range(sim_steps):
        s, state = step(current, state, p, leak, v_threshold, fire)
        count = count + s
    return count / sim_steps
