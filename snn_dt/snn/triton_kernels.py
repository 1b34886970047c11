# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Kernel functions are written in the language of Triton, which has no types.
"""Triton versions of the kernels in `lif.cpp` for CUDA tensors. A program runs a block of neurons over all T steps.

Shapes: `current` and spikes [T, ...]; `v0` and the last membrane [...]. For a rate all tensors are [...]. Dtypes:
float32 and float64. The neuron constants are passed as a tensor, because Triton passes Python floats in single
precision. With TRITON_INTERPRET=1 the kernels run on CPU tensors. Tests without a GPU use this.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from snn_dt.snn.parameters import LIFParameters

SIZES = ((64 * 1024, 256, 4, 8), (0, 32, 1, 16))
"""Launch sizes: minimum number of neurons, neurons per program, warps and pipeline stages of a scan.

A small layer needs small programs to occupy the GPU. It waits only for memory, so it prefetches more steps.
"""


@triton.jit
def _psi(u, slope, SURROGATE: tl.constexpr):
    a = tl.abs(slope * u)
    if SURROGATE == 0:
        return 1 / ((1 + a) * (1 + a))
    if SURROGATE == 1:
        e = tl.exp(-a)
        return 4 * e / ((1 + e) * (1 + e))
    if SURROGATE == 2:
        return tl.maximum(1 - a, 0)
    if SURROGATE == 3:
        return 1 / (1 + a * a)
    return (a <= 1).to(a.dtype)


@triton.jit
def _held(drive):
    # Same clamp as `drive` in reference.py. NaN passes through both comparisons.
    drive = tl.where(drive > 1e30, 1e30, drive)
    return tl.where(drive < -1e30, -1e30, drive)


@triton.jit
def _scan_forward(x, v0, s, v_end, c, T, n, BLOCK: tl.constexpr, STAGES: tl.constexpr):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < n
    x, s = x + lane, s + lane
    leak, gain, v_rest, v_threshold = tl.load(c), tl.load(c + 1), tl.load(c + 2), tl.load(c + 3)
    keep, add = tl.load(c + 5), tl.load(c + 6)
    v = tl.zeros([BLOCK], v_rest.dtype) + v_rest
    if v0 is not None:
        v = tl.load(v0 + lane, mask=real)
    for _ in tl.range(0, T, num_stages=STAGES):
        h = (v + leak * (v_rest - v)) + _held(gain * tl.load(x, mask=real))
        fired = h - v_threshold >= 0
        tl.store(s, fired.to(h.dtype), mask=real)
        v = tl.where(fired, keep * h + add, h)
        x, s = x + n, s + n
    tl.store(v_end + lane, v, mask=real)


@triton.jit
def _scan_backward(
    x, v0, gs, gv_end, gx, gv0, c, T, n, SURROGATE: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr
):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < n
    x, gs, gx = x + lane, gs + lane, gx + lane
    leak, gain, v_rest, v_threshold = tl.load(c), tl.load(c + 1), tl.load(c + 2), tl.load(c + 3)
    slope, keep, add, attach = tl.load(c + 4), tl.load(c + 5), tl.load(c + 6), tl.load(c + 7)
    v = tl.zeros([BLOCK], v_rest.dtype) + v_rest
    gv = tl.zeros([BLOCK], v_rest.dtype)
    if v0 is not None:
        v = tl.load(v0 + lane, mask=real)
    if gv_end is not None:
        gv = tl.load(gv_end + lane, mask=real)
    # Forward sweep: recompute h and store it in the gradient's memory, which the second sweep overwrites.
    for _ in tl.range(0, T, num_stages=STAGES):
        h = (v + leak * (v_rest - v)) + _held(gain * tl.load(x, mask=real))
        tl.store(gx, h, mask=real)
        v = tl.where(h - v_threshold >= 0, keep * h + add, h)
        x, gs, gx = x + n, gs + n, gx + n
    tl.debug_barrier()  # the second sweep reads what the first has written
    # Backward sweep: the pointers start one step past the end.
    for _ in tl.range(0, T, num_stages=STAGES):
        gs, gx = gs - n, gx - n
        h = tl.load(gx, mask=real)
        u = h - v_threshold
        # dL/ds: directly and through the reset, unless the reset is detached (attach = 0)
        by_s = tl.load(gs, mask=real) + attach * ((keep - 1) * h + add) * gv
        # dL/dh: through the reset membrane and through the surrogate of the spike
        gh = tl.where(u >= 0, keep, 1.0) * gv + _psi(u, slope, SURROGATE) * by_s
        tl.store(gx, gain * gh, mask=real)
        gv = (1 - leak) * gh
    tl.store(gv0 + lane, gv, mask=real)


@triton.jit
def rate_steps(drive, c, T, DERIVATIVE: tl.constexpr, SURROGATE: tl.constexpr):
    """Return the mean spike over T steps of a constant `drive` (gain times current) and its derivative by current."""
    leak, gain, v_rest, v_threshold = tl.load(c), tl.load(c + 1), tl.load(c + 2), tl.load(c + 3)
    slope, keep, add, attach = tl.load(c + 4), tl.load(c + 5), tl.load(c + 6), tl.load(c + 7)
    drive, zero = _held(drive), tl.zeros_like(drive)
    v, dv, spikes, dspikes = zero + v_rest, zero, zero, zero
    for _ in range(T):
        h = (v + leak * (v_rest - v)) + drive
        u = h - v_threshold
        fired = u >= 0
        spikes += fired.to(h.dtype)
        v = tl.where(fired, keep * h + add, h)
        if DERIVATIVE:
            # Forward-mode derivatives by the current: of h, the spike and the membrane after the reset
            dh = (1 - leak) * dv + gain
            ds = _psi(u, slope, SURROGATE) * dh
            dspikes += ds
            dv = tl.where(fired, keep, 1.0) * dh + attach * ((keep - 1) * h + add) * ds
    return _divided(spikes, T), _divided(dspikes, T)


@triton.jit
def _divided(x, T):
    # float32 division must round to nearest, or a rate would differ from k / T. float64 division always does.
    if x.dtype == tl.float32:
        y = tl.div_rn(x, tl.zeros_like(x) + T)
    else:
        y = x / T
    return y


@triton.jit
def _rate_forward(x, rate, grad_x, c, T, n, SURROGATE: tl.constexpr, BLOCK: tl.constexpr):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < n
    drive = tl.load(c + 1) * tl.load(x + lane, mask=real)
    spikes, by_drive = rate_steps(drive, c, T, grad_x is not None, SURROGATE)
    tl.store(rate + lane, spikes, mask=real)
    if grad_x is not None:
        tl.store(grad_x + lane, by_drive, mask=real)


def launch(kernel: Any, programs: int, *arguments: Any, **static: Any) -> None:
    """Run a kernel with the given number of programs on the device of its first argument."""
    if programs:
        # No fp fusion: a fused multiply-add rounds differently from torch and flips spikes at the threshold.
        with torch.cuda.device_of(arguments[0]):
            kernel[(programs,)](*arguments, enable_fp_fusion=False, **static)


def _launch_over(neurons: int, kernel: Any, *arguments: Any, scan: bool = False, **static: int) -> None:
    block, warps, stages = next(size for least, *size in SIZES if neurons >= least)
    if scan:
        static["STAGES"] = stages
    launch(kernel, triton.cdiv(neurons, block), *arguments, neurons, BLOCK=block, num_warps=warps, **static)


def scan_forward(current: Tensor, v0: Tensor | None, p: LIFParameters) -> tuple[Tensor, Tensor]:
    """Return spikes [T, ...] and the last membrane [...]. Inputs are contiguous; `v0=None` means rest."""
    spikes, v_mem = torch.empty_like(current), current.new_empty(current.shape[1:])
    tensors = current, v0, spikes, v_mem, p.on(current.device, current.dtype)
    _launch_over(v_mem.numel(), _scan_forward, *tensors, len(current), scan=True)
    return spikes, v_mem


def scan_backward(
    current: Tensor, v0: Tensor | None, grad_spikes: Tensor | None, grad_v: Tensor | None, p: LIFParameters
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `current` and `v0`. The kernel recomputes h instead of storing it."""
    grad_current, grad_v0 = torch.empty_like(current), current.new_empty(current.shape[1:])
    # The kernel has no branch for an absent gradient of the spikes.
    grad_spikes = torch.zeros_like(current) if grad_spikes is None else grad_spikes
    tensors = current, v0, grad_spikes, grad_v, grad_current, grad_v0, p.on(current.device, current.dtype)
    surrogate = p.coefficients.surrogate
    _launch_over(grad_v0.numel(), _scan_backward, *tensors, len(current), scan=True, SURROGATE=surrogate)
    return grad_current, grad_v0


def rate_forward(current: Tensor, sim_steps: int, p: LIFParameters, derivative: bool) -> tuple[Tensor, Tensor | None]:
    """Return the rate and its elementwise derivative by `current` (None unless `derivative`)."""
    rate, grad_current = torch.empty_like(current), torch.empty_like(current) if derivative else None
    tensors = current, rate, grad_current, p.on(current.device, current.dtype)
    _launch_over(current.numel(), _rate_forward, *tensors, sim_steps, SURROGATE=p.coefficients.surrogate)
    return rate, grad_current
