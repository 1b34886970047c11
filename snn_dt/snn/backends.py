"""Select the implementation that runs a layer of neurons over time.

| backend     | runs on                | what                                                                        |
|-------------|------------------------|-----------------------------------------------------------------------------|
| `reference` | anything               | `reference.py`, a Python loop under autograd                                |
| `cpp`       | CPU, float32, float64  | `lif.cpp`, `rate.cpp`, built on first use; need a C++ compiler              |
| `triton`    | CUDA, float32, float64 | `triton_kernels.py`; needs the package triton (also CPU, when interpreted)  |

`auto` selects `cpp` on CPU and `triton` on CUDA. It falls back to `reference` without a message. The environment
variable `SNN_DT_KERNEL` replaces `auto`. A backend that is requested by name and cannot run raises an error.

For equal currents all backends give bit-identical spikes, because each adds in the same order. Gradients agree to
rounding. A kernel with a layer norm sums in another order, so currents differ by rounding. A spike may then flip if the
membrane is within rounding of the threshold.

A kernel module defines `scan_forward`, `scan_backward` and `rate_forward`. A kernel module with a norm defines
`norm_rate_forward` and `norm_rate_backward`. `cpp.py` describes them.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

from snn_dt.snn import cpp

BACKENDS = ("auto", "reference", "cpp", "triton")


@lru_cache(maxsize=1)
def _triton() -> ModuleType | None:
    return import_module("snn_dt.snn.triton_kernels") if find_spec("triton") else None


def backend_for(device: str = "cpu", backend: str = "auto") -> str:
    """Resolve `backend` for a device type.

    Raises:
        ValueError: the backend is unknown or cannot run on this device.
    """
    asked = os.environ.get("SNN_DT_KERNEL") or "auto" if backend == "auto" else backend
    return _resolve(device, asked, "TRITON_INTERPRET" in os.environ)


# torch.compile must not trace the environment and ctypes. This line equals torch.compiler.assume_constant_result, which
# would import all of torch._dynamo and add 1.4 seconds to every process.
backend_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


@lru_cache  # called by every layer in every forward
def _resolve(device: str, asked: str, interpreted: bool) -> str:
    if asked not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}; found {asked!r}")
    can_cpp = device == "cpu" and asked in ("auto", "cpp") and cpp.load() is not None
    # Triton's interpreter runs kernels on the CPU. It is slow, so `auto` does not select it.
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


def wide(device: torch.device) -> torch.dtype:
    """Return the type of sums over many steps: float64, or float32 on mps, which has no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def kernels(name: str) -> ModuleType:
    """Return the kernel module named `cpp` or `triton`."""
    found = cpp if name == "cpp" else _triton()
    assert found is not None, "`backend_for` names what can run"
    return found


def norm_kernels(name: str) -> ModuleType:
    """Return the module of kernels with a layer norm for `cpp` or `triton`."""
    return cpp if name == "cpp" else import_module("snn_dt.snn.triton_norm")
