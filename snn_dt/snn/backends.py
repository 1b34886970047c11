"""Which code runs a layer of neurons through time.

| backend     | runs on                | what                                                                        |
|-------------|------------------------|-----------------------------------------------------------------------------|
| `reference` | anything               | `reference.py`, a Python loop under autograd                                |
| `cpp`       | CPU, float32, float64  | `lif.cpp`, `rate.cpp`, built on first use; need a C++ compiler              |
| `triton`    | CUDA, float32, float64 | `triton_kernels.py`; needs the package triton (also CPU, when interpreted)  |

`auto` takes `cpp` on CPU and `triton` on CUDA where they can be had, else `reference`, quietly; the environment
variable `SNN_DT_KERNEL` replaces `auto`. A backend that is asked for by name and cannot run is an error.

For the same currents all give the same spikes, bit for bit, as a neuron is one addition after the other in each of
them, and the same gradients to rounding. Where a layer norm is part of the kernel its sums are in another order: a
current differs by rounding, and a spike may flip where a membrane lies that near to its threshold.

A module of kernels has `scan_forward`, `scan_backward` and `rate_forward`, one with a norm `norm_rate_forward` and
`norm_rate_backward`, as described in `cpp.py`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from snn_dt.snn import cpp

BACKENDS = ("auto", "reference", "cpp", "triton")


@lru_cache(maxsize=1)
def _triton() -> ModuleType | None:
    return import_module("snn_dt.snn.triton_kernels") if find_spec("triton") else None


def backend_for(device: str = "cpu", backend: str = "auto") -> str:
    """Return what `backend` stands for on a device type; `ValueError` if it is unknown or cannot run there."""
    asked = os.environ.get("SNN_DT_KERNEL") or "auto" if backend == "auto" else backend
    return _resolve(device, asked, "TRITON_INTERPRET" in os.environ)


# torch.compile must not look into the environment and ctypes. This is torch.compiler.assume_constant_result without
# the import of all of torch._dynamo, 1.4 seconds of every process.
backend_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache  # asked for at every layer of every forward
def _resolve(device: str, asked: str, interpreted: bool) -> str:
    if asked not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}; found {asked!r}")
    can_cpp = device == "cpu" and asked in ("auto", "cpp") and cpp.load() is not None
    can_triton = (device == "cuda" or interpreted) and asked != "reference" and _triton() is not None
    if asked == "auto":
        return "triton" if can_triton and device == "cuda" else "cpp" if can_cpp else "reference"
    if asked == "cpp" and not can_cpp:
        raise ValueError(
            f"backend 'cpp': expected a CPU tensor and a C++ compiler ($CXX, g++, c++ or clang++) on {device}"
        )
    if asked == "triton" and not can_triton:
        raise ValueError(f"backend 'triton': expected a CUDA tensor and the package triton; found a {device} tensor")
    return asked


def kernels(name: str) -> ModuleType:
    """Return the module of the kernels called `cpp` or `triton`."""
    found = cpp if name == "cpp" else _triton()
    assert found is not None, "`backend_for` names what can run"
    return found


def norm_kernels(name: str) -> ModuleType:
    """Return the module of the kernels with a layer norm in them, called `cpp` or `triton`."""
    return cpp if name == "cpp" else import_module("snn_dt.snn.triton_norm")
