"""Weights and sizes of a policy as constants of a C file, in float32 or in fixed point with int8 weights.

O outputs, I inputs of a linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_dt.errors import ExportError
from snn_dt.snn.goal_norm import GoalNorm
from snn_dt.snn.neurons import LIF

Weights = Literal["float32", "int8"]
ONE = 1 << 16
"""The number that stands for 1 in fixed point."""
TOGETHER = 8
"""Outputs that `add_rows` computes at a time; rows of weights are padded to a multiple of it."""
MOST_INPUTS = 2048  # of a product with int8 weights, whose accumulator has 32 bits
AFTER_SPIKE = {"hard": "0", "soft": "((h) - (threshold))", "none": "(h)"}
NUMBERS_PER_LINE = 16


class Constants:
    """Collects the constants of a C source. Each method adds some and returns the C expression that names them.

    Args:
        weights: `float32` or `int8`. With `int8` the other numbers are int32 in fixed point.

    Attributes:
        lines: the definitions so far.
        value: C type of other numbers.
        flash_bytes: size of the arrays.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.value = "float" if weights == "float32" else "int32_t"
        self.lines: list[str] = []
        self.flash_bytes = 0
        self.reset: str | None = None

    def array(self, name: str, values: Any, c_type: str) -> str:
        """Add an array. Values of type float are written with all digits of float32, of double with all of float64."""
        flat = np.asarray(values).ravel()
        if not np.isfinite(flat.astype(np.float64)).all():
            raise ExportError(f"{name}: expected finite numbers, found NaN or infinity; train the policy again")
        text = [_literal(x, c_type) for x in flat.tolist()]
        rows = [", ".join(text[i : i + NUMBERS_PER_LINE]) for i in range(0, len(text), NUMBERS_PER_LINE)]
        body = ",\n    ".join(rows)
        self.lines.append(f"static const {c_type} {name}[{flat.size}] = {{\n    {body},\n}};")
        self.flash_bytes += flat.size * {"float": 4, "double": 8, "int8_t": 1}.get(c_type, 4)
        return name

    def values(self, name: str, values: Any) -> str:
        """Add numbers in the arithmetic of the policy: float, or int32 in fixed point."""
        if self.weights == "float32":
            return self.array(name, values, "float")
        return self.array(name, _whole(np.asarray(values, dtype=np.float64) * ONE, name), "int32_t")

    def linear(self, name: str, weight: Tensor, bias: Tensor | None) -> str:
        """Add a layer whose inputs are numbers: `weight [O, I]`."""
        outputs, inputs = weight.shape
        w, b = _numbers(weight), _numbers(torch.zeros(outputs) if bias is None else bias)
        if self.weights == "int8" and inputs > MOST_INPUTS:
            raise ExportError(
                f"expected layers of at most {MOST_INPUTS} inputs with int8 weights, found {inputs} in {name}; export "
                "with --weights float32"
            )
        padding = ((0, -outputs % 4), (0, -inputs % 4))
        parts = self._layer(name, lambda rows: np.pad(rows, padding), w, b, ("float", "int8_t"))
        return f"{{{', '.join(parts)}, {inputs}, {inputs + -inputs % 4}, {outputs}}}"

    def spike_linear(self, name: str, weight: Tensor, bias: Tensor | None, share: float = 1.0) -> str:
        """Add a layer whose inputs are spikes: `weight [O, I]`, stored transposed. A spike counts as `share`."""
        outputs = len(weight)
        w, b = _numbers(weight) * share, _numbers(torch.zeros(outputs) if bias is None else bias)
        b, padding = _padded(b), ((0, 0), (0, -outputs % TOGETHER))

        def transposed(rows: NDArray[Any]) -> NDArray[Any]:
            if self.weights == "float32":
                return np.pad(rows.T, padding)  # [I, O] padded
            bytes_ = np.pad(rows.T + 128, padding).reshape(rows.shape[1], -1, 4)  # [I, words, 4]
            packed: NDArray[Any] = (bytes_ << np.array([0, 8, 16, 24])).sum(-1)  # the first output is the lowest byte
            return packed

        parts = self._layer(name, transposed, w, b, ("float", "uint32_t"))
        return f"{{{', '.join(parts)}, {len(b) // (1 if self.weights == 'float32' else 4)}, {outputs}}}"

    def _layer(
        self, name: str, arrange: Callable[[NDArray[Any]], NDArray[Any]], w: Any, b: Any, types: tuple[str, str]
    ) -> list[str]:
        """Add weights, bias and, for int8, the scale of each output."""
        if self.weights == "float32":
            return [self.array(f"{name}_weight", arrange(w), types[0]), self.array(f"{name}_bias", b, "float")]
        rows, scale = _rows(w)
        parts = [self.array(f"{name}_weight", arrange(rows), types[1]), self.values(f"{name}_bias", b)]
        whole = _whole(np.pad(scale, (0, len(b) - len(scale))) * 2.0**32, name)
        return [*parts, self.array(f"{name}_scale", whole, "int32_t")]

    def norm(self, name: str, norm: nn.LayerNorm) -> str:
        """Add a layer norm, whose map may depend on the goal.

        Raises:
            ExportError: it is of another type.
        """
        if type(norm) not in (nn.LayerNorm, GoalNorm):
            raise ExportError(f"expected layer norms for C, found {type(norm).__name__}; export to pt2 or onnx")
        gain, shift = _numbers(norm.weight), _numbers(norm.bias)
        if isinstance(norm, GoalNorm):  # a row for each goal, [n, D]
            factor = 1 + _numbers(norm.gain)
            gain, shift = gain * factor, shift * factor + _numbers(norm.shift)
        parts = [self.values(f"{name}_gain", gain), self.values(f"{name}_shift", shift)]
        return f"{{{', '.join(parts)}, {_literal(norm.eps, 'float')}}}"

    def lif(self, neuron: nn.Module) -> str:
        """Add the constants of a layer of neurons.

        Raises:
            ExportError: the neuron is not a plain `LIF` at rest at 0 with constants of its layer.
        """
        c: Any = getattr(neuron, "constants", None)
        if type(neuron) is not LIF or not c.plain or c.v_rest or c.gain != 1:
            raise ExportError(
                "expected lif or plif neurons that rest at 0, without adaptation, for C, found "
                f"{type(neuron).__name__}({neuron.extra_repr()}); export to pt2 or onnx"
            )
        reset = c.reset
        assert self.reset in (None, reset), "the neurons of a model share model.reset"
        self.reset = reset
        keep, threshold = (torch.as_tensor(x).reshape(-1) for x in (1 - neuron.leak, neuron.v_threshold))
        if len(keep) > 1 or len(threshold) > 1:
            raise ExportError("expected one time constant and threshold per layer for C, found one per neuron")
        numbers = keep.item(), threshold.item()
        if self.weights == "float32":
            return "{" + ", ".join(_literal(x, "float") for x in numbers) + "}"
        return "{" + ", ".join(str(round(x * ONE)) for x in numbers) + "}"


def _rows(weight: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Round `weight [O, I]` to int8 and return it with the scale of each output: `weight = scale rows`."""
    scale = np.abs(weight).max(axis=1, initial=0.0) / 127
    scale[scale == 0] = 1.0 / ONE  # of an output without weights any scale will do
    return np.rint(weight / scale[:, None]).astype(np.int64), scale


def _padded(b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append zeros up to a multiple of the outputs that are computed at a time."""
    return np.pad(b, (0, -len(b) % TOGETHER))


def _whole(values: NDArray[np.float64], name: str) -> NDArray[np.int64]:
    whole = np.rint(values)
    if np.abs(whole).max(initial=0) >= 2**31:
        raise ExportError(
            f"expected numbers that fit in fixed point with int8 weights, found {np.abs(values).max() / ONE:.3g} in "
            f"{name}; export with --weights float32"
        )
    return whole.astype(np.int64)


def _numbers(x: Tensor) -> NDArray[np.float64]:
    return x.detach().cpu().double().numpy()


def _literal(x: float, c_type: str) -> str:
    if c_type == "double":
        return repr(float(x))
    if c_type != "float":
        return f"{int(x)}u" if c_type == "uint32_t" else str(int(x))
    text = f"{np.float32(x):.9g}"
    return f"{text}f" if set(text) & set(".en") else f"{text}.0f"


def sizes(**numbers: int) -> str:
    """Return an enum of sizes."""
    return "enum { " + ", ".join(f"{name.upper()} = {value}" for name, value in numbers.items()) + " };"


def bits_for(largest: Iterable[float]) -> int:
    """Return the bits that hold numbers up to the largest of these."""
    return max(0, math.ceil(math.log2(max(largest))))
