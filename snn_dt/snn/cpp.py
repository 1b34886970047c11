"""The C++ kernels of `lif.cpp` on CPU tensors, through ctypes.

Shapes: `current` and spikes [T, ...], `v0` and the last membrane [...]; for a rate all [...]. Dtypes: float32, float64.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from snn_dt.snn.build import load_library
from snn_dt.snn.parameters import Coefficients, LIFParameters

SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


class _Constants(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32 if name == "surrogate" else ctypes.c_double) for name in Coefficients._fields]


@lru_cache(maxsize=256)
def _constants(coefficients: Coefficients) -> ctypes.Structure:
    return _Constants(*coefficients)


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL | None:
    """Return the library, built if need be, or `None` where it cannot be had."""
    library = load_library()
    if library is not None:
        for name, pointers in {"scan_forward": 4, "scan_backward": 6, "rate_forward": 3}.items():
            for suffix in SUFFIX.values():
                function = getattr(library, f"{name}_{suffix}")
                function.restype = None
                steps_neurons = [ctypes.c_int64] * 2
                function.argtypes = [*[ctypes.c_void_p] * pointers, *steps_neurons, ctypes.c_void_p, ctypes.c_int]
    return library


@lru_cache
def _function(name: str, dtype: torch.dtype) -> Any:
    return getattr(load(), f"{name}_{SUFFIX[dtype]}")


def _call(name: str, tensors: tuple[Tensor | None, ...], steps: int, neurons: int, p: LIFParameters) -> None:
    function = _function(name, tensors[0].dtype)
    addresses = [None if x is None else x.data_ptr() for x in tensors]
    function(*addresses, steps, neurons, ctypes.byref(_constants(p.coefficients)), torch.get_num_threads())


def scan_forward(current: Tensor, v0: Tensor | None, p: LIFParameters) -> tuple[Tensor, Tensor]:
    """Return spikes [T, ...] and the last membrane [...]; all tensors contiguous, `v0=None` at rest."""
    spikes, v_mem = torch.empty_like(current), current.new_empty(current.shape[1:])
    _call("scan_forward", (current, v0, spikes, v_mem), current.shape[0], v_mem.numel(), p)
    return spikes, v_mem


def scan_backward(
    current: Tensor, v0: Tensor | None, grad_spikes: Tensor | None, grad_v: Tensor | None, p: LIFParameters
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `current` and of `v0`, h recomputed."""
    grad_current, grad_v0 = torch.empty_like(current), current.new_empty(current.shape[1:])
    tensors = current, v0, grad_spikes, grad_v, grad_current, grad_v0
    _call("scan_backward", tensors, current.shape[0], grad_v0.numel(), p)
    return grad_current, grad_v0


def rate_forward(current: Tensor, sim_steps: int, p: LIFParameters, derivative: bool) -> tuple[Tensor, Tensor | None]:
    """Return the rate and, if asked for, its derivative with respect to `current`, elementwise."""
    rate, by_current = torch.empty_like(current), torch.empty_like(current) if derivative else None
    _call("rate_forward", (current, rate, by_current), sim_steps, current.numel(), p)
    return rate, by_current
