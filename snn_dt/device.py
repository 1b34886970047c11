"""Device, CPU threads and memory allocator."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re

import torch

from snn_dt.errors import ConfigError, DeviceError
from snn_dt.model_config import MAX_THREADS


def choose_device(name: str) -> torch.device:
    """Return the device named `auto`, `cpu`, `cuda`, `cuda:N`, `mps` (Apple) or `xpu` (Intel).

    `auto` is a CUDA GPU if there is one, else the CPU: on these small models other devices are not known to be faster.

    Raises:
        DeviceError: unknown name, or a device that this machine or this build of torch does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name in ("mps", "xpu"):
        backend = torch.backends.mps if name == "mps" else torch.xpu
        if not backend.is_available():
            raise _missing(name, "none")
        return torch.device(name)
    if not re.fullmatch(r"cuda(:\d+)?", name, re.ASCII):
        raise DeviceError(f"expected the device auto, cpu, cuda, cuda:N, mps or xpu, found {name!r}; change --device")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(name[5:] or 0) >= count:
        raise _missing(name, f"{count} CUDA devices")
    return torch.device(name)


def _missing(name: str, found: str) -> DeviceError:
    kind = name.partition(":")[0].replace("cuda", "CUDA")
    return DeviceError(
        f"expected the device {name}, found {found} with torch {torch.__version__}; use --device cpu "
        f"(train: --train.device cpu), or install a driver and a build of torch for {kind}"
    )


def device_name(device: torch.device) -> str:
    """Return `cpu` or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def tune_allocator() -> None:
    """Make glibc keep freed large blocks, which saves a training step of a spiking model about a tenth of its time.

    Otherwise they go back to the kernel, which clears them page by page for the next allocation. Without glibc this
    does nothing.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
        for parameter, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 1 << 28)):
            mallopt(parameter, value)


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int, processes: int = 1) -> int:
    """Set torch's CPU threads and return their number. 0 takes OMP_NUM_THREADS or this process's share of the cores.

    Raises:
        ConfigError: a negative number, or more than `MAX_THREADS`.
    """
    if not threads and os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = int(os.environ["OMP_NUM_THREADS"])
    if not 0 <= threads <= MAX_THREADS:
        raise ConfigError(
            f"expected 0 to {MAX_THREADS} CPU threads, found {threads}; change --threads (train: --train.threads) or "
            "OMP_NUM_THREADS"
        )
    threads = threads or max(1, available_cores() // processes)
    torch.set_num_threads(threads)
    return threads
