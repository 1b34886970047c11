"""Call the C++ kernels on CPU tensors through ctypes. `build.py` lists their source files.

Shapes: `current` and spikes [T, ...]; `v0` and the last membrane [...]. For a rate all tensors are [...]. Dtypes:
float32 and float64. The kernels in `SINGLE` take only float32.
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
SIZE, CONSTANTS = ctypes.c_int64, ctypes.c_void_p
# For each function: the number of tensor pointers and the types of the arguments after them. The number of threads is
# always the last argument.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "scan_forward": (4, SIZE, SIZE, CONSTANTS),
    "scan_backward": (6, SIZE, SIZE, CONSTANTS),
    "own_forward": (6, SIZE, SIZE, SIZE),
    "own_backward": (8, SIZE, SIZE, SIZE, ctypes.c_double),
    "rate_forward": (3, SIZE, SIZE, CONSTANTS),
    "norm_rate_forward": (6, SIZE, SIZE, SIZE, ctypes.c_double, CONSTANTS),
    "norm_rate_backward": (7, SIZE, SIZE),
    "column_sums": (4, SIZE, SIZE),
    "batch_norm_backward": (7, SIZE, SIZE),
    "pack_weight": (2, SIZE, SIZE, SIZE),
    "spike_linear": (4, SIZE, SIZE, SIZE),
    "spike_linear_backward": (4, SIZE, SIZE, SIZE),
    "last_token": (5, CONSTANTS, CONSTANTS),
    "decide": (5, CONSTANTS, CONSTANTS, CONSTANTS),
    "decide_whole": (2, CONSTANTS, CONSTANTS, CONSTANTS, CONSTANTS),
    "checksum": (3, SIZE, SIZE, SIZE),
    "stream_step": (0, ctypes.c_void_p, ctypes.c_void_p, CONSTANTS),
}
FLOAT32_KERNELS = (
    "pack_weight",
    "spike_linear",
    "spike_linear_backward",
    "last_token",
    "decide",
    "decide_whole",
    "checksum",
)  # float32 only; any, the last
PANEL_COLUMNS = 64  # columns that products.h takes at a time


class _Constants(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32 if name == "surrogate" else ctypes.c_double) for name in Coefficients._fields]


@lru_cache(maxsize=256)
def _constants(coefficients: Coefficients) -> ctypes.Structure:
    return _Constants(*coefficients)


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL | None:
    """Return the library with declared argument types, or `None` if it cannot be built."""
    library = load_library()
    if library is not None:
        for name, (pointers, *others) in ARGUMENTS.items():
            for suffix in ("f32",) if name in FLOAT32_KERNELS else SUFFIX.values():
                function = getattr(library, f"{name}_{suffix}")
                function.restype = None
                function.argtypes = [*[ctypes.c_void_p] * pointers, *others, ctypes.c_int]
    return library


@lru_cache
def function_of(name: str, dtype: torch.dtype) -> Any:
    """Return a function of the library for a dtype."""
    return getattr(load(), f"{name}_{SUFFIX[dtype]}")


def _call(name: str, tensors: tuple[Tensor | None, ...], *others: Any) -> None:
    assert tensors[0] is not None  # its dtype selects the function
    function = function_of(name, tensors[0].dtype)
    function(*[None if x is None else x.data_ptr() for x in tensors], *others, torch.get_num_threads())


def pointer_to_constants(p: LIFParameters) -> Any:
    """Return a pointer to the neuron constants as the kernels expect them."""
    return ctypes.byref(_constants(p.coefficients))


def scan_forward(current: Tensor, v0: Tensor | None, p: LIFParameters) -> tuple[Tensor, Tensor]:
    """Return spikes [T, ...] and the last membrane [...]. Inputs are contiguous; `v0=None` means rest."""
    spikes, v_mem = torch.empty_like(current), current.new_empty(current.shape[1:])
    _call("scan_forward", (current, v0, spikes, v_mem), current.shape[0], v_mem.numel(), pointer_to_constants(p))
    return spikes, v_mem


def scan_backward(
    current: Tensor, v0: Tensor | None, grad_spikes: Tensor | None, grad_v: Tensor | None, p: LIFParameters
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `current` and `v0`. The kernel recomputes h instead of storing it."""
    grad_current, grad_v0 = torch.empty_like(current), current.new_empty(current.shape[1:])
    tensors = current, v0, grad_spikes, grad_v, grad_current, grad_v0
    _call("scan_backward", tensors, current.shape[0], grad_v0.numel(), pointer_to_constants(p))
    return grad_current, grad_v0


def own_forward(current: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Return membranes and spikes [T, M, N] of M sequences.

    `decay` and `threshold` are [N]; `v0` is [M, N]. All tensors are contiguous.
    """
    membranes, spikes = torch.empty_like(current), torch.empty_like(current)
    _call("own_forward", (current, v0, decay, threshold, membranes, spikes), *current.shape)
    return membranes, spikes


def own_backward(
    membranes: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, grad_spikes: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the current [T, M, N] and of decay and threshold [N] each."""
    # One row of sums per sequence: threads then never write to the same address.
    grad_current, sums = torch.empty_like(membranes), membranes.new_zeros(2, *v0.shape)  # sums [2, M, N]
    tensors = membranes, v0, decay, threshold, grad_spikes, grad_current, *sums.unbind()
    _call("own_backward", tensors, *membranes.shape, slope)
    d_decay, d_threshold = sums.sum(1).unbind()  # [N], [N]
    return grad_current, d_decay, d_threshold


def rate_forward(current: Tensor, sim_steps: int, p: LIFParameters, derivative: bool) -> tuple[Tensor, Tensor | None]:
    """Return the rate and its elementwise derivative by `current` (None unless `derivative`)."""
    rate, grad_current = torch.empty_like(current), torch.empty_like(current) if derivative else None
    _call("rate_forward", (current, rate, grad_current), sim_steps, current.numel(), pointer_to_constants(p))
    return rate, grad_current


def norm_rate_forward(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, sim_steps: int, p: LIFParameters, derivative: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the rate for the current `LayerNorm(x)` and the two tensors that `norm_rate_backward` needs."""
    rows, width = x.numel() // x.shape[-1], x.shape[-1]
    rate = torch.empty_like(x)
    # `stats` [rows, 2]: mean and inverse standard deviation of each row
    grad_current, stats = (torch.empty_like(x), x.new_empty(rows, 2)) if derivative else (None, None)
    tensors = x, weight, bias, rate, grad_current, stats
    _call("norm_rate_forward", tensors, sim_steps, rows, width, eps, pointer_to_constants(p))
    return rate, grad_current, stats


def norm_rate_backward(
    x: Tensor, weight: Tensor, grad_current: Tensor, stats: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `x` and of the norm's weight and bias."""
    # Each thread sums into its own slice of `parts` [threads, 2, D].
    grad_x, parts = torch.empty_like(x), x.new_zeros(torch.get_num_threads(), 2, x.shape[-1])
    _call("norm_rate_backward", (x, weight, grad_current, stats, grad, grad_x, parts), len(stats), x.shape[-1])
    grad_weight, grad_bias = parts.sum(0)
    return grad_x, grad_weight, grad_bias


def column_sums(x: Tensor, y: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sums over rows of `w y` and `w x y`, `[D]` each.

    `x` and `y` are `[N, D]`; `weights` is `[N]`. `None` stands for weights of 1.
    """
    # [threads, 2, D]: one slice per thread
    sums = x.new_zeros(torch.get_num_threads(), 2, x.shape[1])
    _call("column_sums", (x, y, weights, sums), *x.shape)
    plain, products = sums.sum(0)
    return plain, products


def batch_norm_backward(x: Tensor, grad: Tensor, weights: Tensor, gain: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """Return `gain grad + weights (shift + slope x)` `[N, D]`."""
    grad_x = torch.empty_like(x)
    _call("batch_norm_backward", (x, grad, weights, gain, slope, shift, grad_x), *x.shape)
    return grad_x


def pack_weight(weight: Tensor, dense: bool = False) -> Tensor:
    """Return `weight [O, I]` of a linear layer as kernels read it, for rows that are mostly zeros or for dense ones."""
    packed = weight.new_empty(-(-weight.shape[0] // PANEL_COLUMNS), weight.shape[1], PANEL_COLUMNS)
    _call("pack_weight", (weight.contiguous(), packed), weight.shape[1], weight.shape[0], dense)
    return packed


def spike_linear(x: Tensor, packed: Tensor, bias: Tensor, outputs: int) -> Tensor:
    """Return `x W^T + b` `[..., O]` for `x [..., I]` and a packed weight. Products with zero inputs are skipped."""
    y = x.new_empty(*x.shape[:-1], outputs)
    _call("spike_linear", (x, packed, bias, y), x.numel() // x.shape[-1], x.shape[-1], outputs)
    return y


def spike_linear_backward(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the weight `[O, I]` and the bias `[O]`."""
    # One slice per thread: [threads, I, O] and [threads, O]
    threads, inputs, outputs = torch.get_num_threads(), x.shape[-1], grad.shape[-1]
    grad_weight, by_bias = x.new_zeros(threads, inputs, outputs), x.new_zeros(threads, outputs)
    _call("spike_linear_backward", (x, grad, grad_weight, by_bias), x.numel() // inputs, inputs, outputs)
    return grad_weight.sum(0).t().contiguous(), by_bias.sum(0)  # [I, O] -> [O, I]; [O]


class Checksum:
    """Checksum of the content of tensors: `checksum() -> bytes`.

    The tensors must be contiguous and stay at their addresses. A single changed number always changes the checksum.
    Several changes cancel with a probability of at most 2^-32.
    """

    def __init__(self, tensors: list[Tensor]) -> None:
        n = len(tensors)
        self._arguments = (
            (ctypes.c_void_p * n)(*[x.data_ptr() for x in tensors]),
            (ctypes.c_int64 * n)(*[x.nbytes for x in tensors]),
            ctypes.create_string_buffer(64),
            n,
        )
        self._function = function_of("checksum", torch.float32)

    def __call__(self, part: int = 0, parts: int = 1) -> bytes:
        """Read all tensors, or the first line of 64 bytes of each and one of so many `parts` of them all.

        All of them take about 20 us per million bytes.
        """
        self._function(*self._arguments, part, parts, torch.get_num_threads())
        return self._arguments[2].raw


class Watch:
    """Tells cheaply whether tensors have changed since it was made.

    A write through torch counts up the version of a tensor. A write past it (`x.data`, numpy) is noticed in the numbers
    that a call of `changed` reads. These are the first of each tensor and one of `PARTS` parts of all, at each call
    another. So such a write is noticed at once if it changes a whole tensor, and within `PARTS` calls in any case.
    `anything` reads all, as `changed` does where a tensor has no version (made in inference mode).
    """

    PARTS = 64

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors, self._checksum, self._turn = tensors, Checksum(tensors), 0
        self._counted = not any(x.is_inference() for x in tensors)
        self._versions, self._whole = self._read_versions(), self._checksum()
        self._parts = [self._checksum(part, self.PARTS) for part in range(self.PARTS)]

    def changed(self) -> bool:
        """Return whether a version or one of the numbers read has changed."""
        if not self._counted:
            return self.anything()
        self._turn = (self._turn + 1) % self.PARTS
        same = self._checksum(self._turn, self.PARTS) == self._parts[self._turn]
        return not same or self._read_versions() != self._versions

    def _read_versions(self) -> list[int]:
        return [x._version for x in self._tensors] if self._counted else []

    def anything(self) -> bool:
        """Return whether anything has changed."""
        return self._checksum() != self._whole


class Shape(ctypes.Structure):
    """Sizes of a stack of blocks, as `blocks.h` has them."""

    _fields_ = [
        *((name, SIZE) for name in ("batch", "length", "width", "hidden", "heads", "layers", "sim_steps")),
        *((name, ctypes.c_double) for name in ("eps", "scale", "gain")),
    ]


class Stack:
    """Weights and sizes of the blocks for `last_token`.

    Each block has 26 tensors: pairs in the order of `Part` in `blocks.cpp`. None marks an absent tensor. `constants`
    are those of the neurons. `shape` holds the other fields of `Shape` in `blocks.cpp`.
    """

    def __init__(self, weights: list[Tensor | None], constants: LIFParameters, **shape: Any) -> None:
        # `weights` is kept because the pointers do not keep the tensors alive.
        self.weights, self.constants, self.shape = weights, constants, shape
        self.pointers = torch.tensor([0 if w is None else w.data_ptr() for w in weights], dtype=torch.int64)


def last_token(x: Tensor, real: Tensor, stack: Stack) -> Tensor:
    """Run `x [B, L, D]` through a stack of blocks and return the last token `[B, 1, D]`.

    `real [B, L]` is False on pads. `x` is overwritten.
    """
    batch, length, width = x.shape
    tokens = 2 * batch * length
    q, kv = x.new_empty(tokens * width), x.new_empty(tokens * 2 * width)
    shape = Shape(batch=batch, length=length, width=width, **stack.shape)
    _call("last_token", (x, real, stack.pointers, q, kv), ctypes.byref(shape), pointer_to_constants(stack.constants))
    return x[:, -1:]
