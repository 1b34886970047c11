"""Effect of the surrogate's slope on the size and direction of the gradient of each layer.

Shapes: T steps; B inputs; D width. W is the weight matrix of a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.learning.slopes import set_slope
from snn_dt.snn import LIF

Draw = tuple[nn.Module, Callable[[], Tensor]]


def gradient_rows(draws: Iterable[Draw], slopes: Sequence[float], reference: float = 100.0) -> list[dict[str, Any]]:
    """Measure the gradient of every weight matrix at every slope. The draws are models with their losses.

    ```
    magnitude = mean |dL/dW|_k        cosine = <dL/dW_k, dL/dW_ref> / (|dL/dW_k| |dL/dW_ref|),  0 if either is 0
    ```

    Weights, inputs and spikes of a draw are the same at all slopes. The reference is the gradient at the slope
    `reference`. A steep surrogate is close to the Heaviside step, but its gradient is not the true one. The slope of
    the model is changed in place.

    Returns:
        One object per layer and slope, with layers in the order of the model. The keys are `layer`, `slope`,
        `reference`, `draws` and the means `magnitude` and `cosine` over the draws.

    Source: section on gradients of Van den Berghe et al. 2025 (arXiv 2510.24461).
    """
    slopes = sorted({*slopes, reference})  # the reference is measured once, as one of the slopes
    totals: dict[tuple[str, float], Tensor] = {}  # (layer, slope): sums of magnitude and cosine
    count = 0
    for model, loss in draws:
        count += 1
        # the same layers in every draw
        weights = {name: m.weight for name, m in model.named_modules() if isinstance(m, nn.Linear)}
        at = {slope: _gradients(model, loss, weights, slope) for slope in slopes}
        for slope in slopes:
            for name, g, known in zip(weights, at[slope], at[reference], strict=True):
                found = torch.stack([g.abs().mean(), cosine(g, known)]).double().cpu()  # [2]
                totals[name, slope] = totals.get((name, slope), torch.zeros(2, dtype=torch.float64)) + found
    means = {key: (total / count).tolist() for key, total in totals.items()}
    names = dict.fromkeys(name for name, _ in means)  # order of the model, each name once
    return [
        {
            "layer": name,
            "slope": slope,
            "magnitude": magnitude,
            "cosine": cosine,
            "reference": reference,
            "draws": count,
        }
        for name in names
        for slope in slopes
        for magnitude, cosine in [means[name, slope]]
    ]


def _gradients(model: nn.Module, loss: Callable[[], Tensor], weights: dict[str, Tensor], slope: float) -> list[Tensor]:
    set_slope(model, slope)
    # a weight that the loss does not use has a gradient of 0
    found = torch.autograd.grad(loss(), list(weights.values()), allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights.values(), found, strict=True)]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine between two tensors, or 0 if either is 0."""
    a, b = a.flatten().double(), b.flatten().double()  # the norm of small gradients underflows in float32
    norms: Tensor = a.norm() * b.norm()
    return a @ b / norms if norms > 0 else norms


class SpikingMLP(nn.Module):
    """The network of the paper's gradient analysis: four spiking layers of width 64 and a linear readout of every step.

    Neurons: leak 0.1, threshold 1, soft detached reset. Weights have no biases; their variance is 1/64 in the first
    layer and the readout and 4/64 in the others. With Gaussian input every layer then fires at a rate of 0.13 to 0.19.
    """

    def __init__(self, generator: torch.Generator, width: int = 64, layers: int = 4, outputs: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.neurons = nn.ModuleList(LIF(10.0, reset="soft", detach_reset=True) for _ in range(layers))
        self.readout = nn.Linear(width, outputs, bias=False)
        for i, layer in enumerate([*self.layers, self.readout]):
            gain = 1.0 if i in (0, layers) else 2.0  # first layer and readout
            nn.init.normal_(layer.weight, std=gain * width**-0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [T, B, D] to the readout of every step [T, B, outputs]."""
        for layer, neurons in zip(self.layers, self.neurons, strict=True):
            x, _ = neurons(layer(x))
        y: Tensor = self.readout(x)
        return y


def paper_draws(count: int = 100, seed: int = 0, steps: int = 20) -> Iterator[Draw]:
    """Yield new networks with their losses: half the squared error on Gaussian inputs and targets of `steps` steps."""
    for i in range(count):
        generator = torch.Generator().manual_seed(seed + i)
        model = SpikingMLP(generator)
        # [T, 1, D] and [T, 1, outputs]
        x, y = (torch.randn(steps, 1, d, generator=generator) for d in (64, model.readout.out_features))
        yield model, partial(_half_squared_error, model, x, y)


def _half_squared_error(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    error: Tensor = model(x) - y
    return error.square().sum() / 2
