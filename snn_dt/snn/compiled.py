# mypy: disable-error-code="untyped-decorator"
# torch.library.custom_op returns an object without types.
"""Register the fused kernels as torch operators for `torch.compile` and `torch.export`.

Eager code calls the kernels directly, because a dispatched operator costs more than the arithmetic of a small layer.
The slope is a tensor so that a schedule can change it under a compiled graph. A number would be fixed in the graph.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from snn_dt.snn.backends import kernels
from snn_dt.snn.parameters import LIFParameters

CONSTANTS = (
    "Tensor slope, str backend, float tau_mem, float dt, float c_m, float v_rest, float v_threshold, str reset, "
    "bool detach_reset, str surrogate"
)
# The fields of `LIFParameters` that follow slope and backend in the schema.
NAMES = [part.split()[1] for part in CONSTANTS.split(", ")[2:]]


def _operator(name: str, signature: str) -> Any:
    return torch.library.custom_op(f"snn_dt::{name}", mutates_args=(), schema=signature.replace("CONSTANTS", CONSTANTS))


def _parameters(slope: Tensor, constants: tuple[Any, ...]) -> LIFParameters:
    return _neuron(float(slope), *constants)


@lru_cache(maxsize=256)  # building and checking the dataclass costs more than a lookup
def _neuron(slope: float, *constants: Any) -> LIFParameters:
    return LIFParameters(**dict(zip(NAMES, constants, strict=True)), surrogate_slope=slope)


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


@_operator("lif_scan", "(Tensor current, Tensor? v0, CONSTANTS) -> (Tensor, Tensor)")
def _scan(current: Tensor, v0: Tensor | None, slope: Tensor, backend: str, *constants: Any) -> tuple[Tensor, Tensor]:
    return kernels(backend).scan_forward(current.contiguous(), _dense(v0), _parameters(slope, constants))


@_operator("lif_scan_backward", "(Tensor current, Tensor? v0, Tensor? gs, Tensor? gv, CONSTANTS) -> (Tensor, Tensor)")
def _scan_backward(
    current: Tensor,
    v0: Tensor | None,
    gs: Tensor | None,
    gv: Tensor | None,
    slope: Tensor,
    backend: str,
    *constants: Any,
) -> tuple[Tensor, Tensor]:
    return kernels(backend).scan_backward(
        current.contiguous(), _dense(v0), _dense(gs), _dense(gv), _parameters(slope, constants)
    )


@_operator("lif_rate", "(Tensor current, int sim_steps, CONSTANTS) -> (Tensor, Tensor)")
def _rate(current: Tensor, sim_steps: int, slope: Tensor, backend: str, *constants: Any) -> tuple[Tensor, Tensor]:
    return kernels(backend).rate_forward(current.contiguous(), sim_steps, _parameters(slope, constants), True)


# The fakes give shapes and dtypes to the tracer.
@_scan.register_fake
def _(current: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return current.new_empty(current.shape), current.new_empty(current.shape[1:])


@_scan_backward.register_fake
def _(current: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return current.new_empty(current.shape), current.new_empty(current.shape[1:])


@_rate.register_fake
def _(current: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return current.new_empty(current.shape), current.new_empty(current.shape)


def _keep_scan(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    current, v0, slope, *ctx.constants = inputs
    ctx.save_for_backward(current, v0, slope)


def _scan_gradient(ctx: Any, grad_spikes: Tensor | None, grad_v: Tensor | None) -> tuple[Any, ...]:
    current, v0, slope = ctx.saved_tensors
    grad_current, grad_v0 = _scan_backward(current, v0, grad_spikes, grad_v, slope, *ctx.constants)
    return grad_current, None if v0 is None else grad_v0, None, *[None] * len(ctx.constants)


def _keep_rate(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])  # the derivative of the rate by its current, elementwise
    ctx.others = len(inputs) - 1


def _rate_gradient(ctx: Any, grad_rate: Tensor, _: Any) -> tuple[Any, ...]:
    return grad_rate * ctx.saved_tensors[0], *[None] * ctx.others


_scan.register_autograd(_scan_gradient, setup_context=_keep_scan)
_rate.register_autograd(_rate_gradient, setup_context=_keep_rate)


def _constants(params: LIFParameters, backend: str) -> tuple[Any, ...]:
    return params.slope, backend, *[getattr(params, name) for name in NAMES]  # a plain neuron uses no other constants


def scan(current: Tensor, v0: Tensor | None, params: LIFParameters, backend: str) -> tuple[Tensor, Tensor]:
    """Run `lif_scan` as one operator. It is differentiable once."""
    return _scan(current, v0, *_constants(params, backend))


def rate(current: Tensor, sim_steps: int, params: LIFParameters, backend: str) -> Tensor:
    """Run `lif_rate` as one operator. It is differentiable once."""
    return _rate(current, sim_steps, *_constants(params, backend))[0]
