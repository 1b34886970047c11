"""Encoders of image observations: bytes of a state become features.

B batch, K steps, S bytes of a state, d numbers beside the image, D width of the model, C, H, W channels, rows and
columns of an image. Between the layers of an encoder an image is flat, `[B, K, C H W]`, so that energy rules and
spiking layers find steps and features where they are everywhere else.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.interface import TaskShape, is_streaming
from snn_dt.models.layers import SpikeLinear
from snn_dt.registry import ENCODERS, register_encoder
from snn_dt.snn import RateLIF, build_neuron

Shape = tuple[int, int, int]
SMALL = 36
"""Below this number of rows or columns an image gets the layers of `SMALL_LAYERS`."""
LAYERS = {"nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)), "impala-small": ((16, 8, 4), (32, 4, 2))}
SMALL_LAYERS = {"nature": ((16, 3, 1),), "impala-small": ((16, 3, 1), (32, 3, 1))}
"""Convolutions as (channels, kernel, stride)."""


class ImageEncoder(nn.Module):
    """Features of states with an image: `[B, K, S] uint8 -> [B, K, d + D]`.

    Pixels become floats here, divided by 255. The features are the numbers beside the image, which are normalised
    already, and D outputs of the encoder `config.encoder`. The linear map of states that follows adds its images of
    the two, so each has an embedding of its own.

    Attributes:
        out_features: d + D.
    """

    def __init__(self, config: ModelConfig, task: TaskShape) -> None:
        super().__init__()
        assert task.image is not None
        self.axes, self.numbers = (task.frames, *task.image), task.numbers
        # The two longest axes of the image are rows and columns, however many frames (axis 0) there are.
        longest = sorted(range(1, len(self.axes)), key=lambda i: -self.axes[i])[:2]
        self._order = (*(i for i in range(len(self.axes)) if i not in longest), *sorted(longest))
        *channels, h, w = (self.axes[i] for i in self._order)
        self.net: nn.Module = ENCODERS[config.encoder](config, (math.prod(channels), h, w))
        self.out_features = self.numbers + config.d_model

    def forward(self, states: Tensor) -> Tensor:
        """Encode each state by itself."""
        numbers, pixels = states.tensor_split([4 * self.numbers], -1)
        lead = states.dim() - 1
        image = pixels.unflatten(-1, self.axes).permute(*range(lead), *(lead + i for i in self._order))
        dtype = next(self.net.parameters()).dtype
        features = self.net(image.flatten(lead).to(dtype) / 255)  # [B, K, C H W] -> [B, K, D]
        return torch.cat([floats(numbers).to(features.dtype), features], -1)


class Convolution(nn.Conv2d):
    """Convolution of flat images: `[..., C H W] -> [..., C' H' W']`.

    Args:
        shape: C, H, W.
        channels, kernel, stride, padding: C' and the rest as in `nn.Conv2d`.

    Attributes:
        shape, out_shape: of input and output images.
    """

    def __init__(self, shape: Shape, channels: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__(shape[0], channels, kernel, stride, padding)
        self.shape = shape
        h, w = ((size + 2 * padding - kernel) // stride + 1 for size in shape[1:])
        self.out_shape: Shape = (channels, h, w)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each image."""
        y = super().forward(x.reshape(-1, *self.shape))  # [n, C', H', W']
        return y.flatten(1).unflatten(0, x.shape[:-1])

    def fan_out(self) -> Tensor:
        """Return the number of outputs that each input is added to, `[C H W]`; fewer at the borders."""
        ones = torch.ones(1, self.out_channels, *self.out_shape[1:], dtype=torch.float64)
        kernel = torch.ones(self.out_channels, 1, *self.kernel_size, dtype=torch.float64)
        reached = nn.functional.conv_transpose2d(ones, kernel, stride=self.stride)  # [1, 1, h, w], with the padding
        h, w = self.shape[1:]
        top, left = (int(p) for p in self.padding)
        whole = ones.new_zeros(h + 2 * top, w + 2 * left)
        whole[: reached.shape[2], : reached.shape[3]] = reached[0, 0]
        return whole[top : top + h, left : left + w].expand(self.shape).flatten()


class SpikeConvolution(Convolution):
    """Convolution with spikes as input, or their rates over T steps; see `SpikeLinear`."""

    def __init__(self, shape: Shape, channels: int, kernel: int, stride: int, sim_steps: int) -> None:
        super().__init__(shape, channels, kernel, stride)
        self.sim_steps = sim_steps


def _layers(name: str, shape: Shape) -> tuple[tuple[int, int, int], ...]:
    return (SMALL_LAYERS if min(shape[1:]) < SMALL else LAYERS)[name]


def _dense(name: str) -> Any:
    def build(config: ModelConfig, shape: Shape) -> nn.Module:
        parts: list[nn.Module] = []
        for layer in _layers(name, shape):
            parts += [convolution := Convolution(shape, *layer), nn.ReLU()]
            shape = convolution.out_shape
        return nn.Sequential(*parts, nn.Linear(math.prod(shape), config.d_model), nn.ReLU())

    return build


def _spiking(config: ModelConfig, shape: Shape) -> nn.Module:
    """Convolution, LIF, convolution, LIF, linear: the image is a constant current for T steps, the rest reads spikes.

    The neurons begin each frame at rest, so that its features depend on nothing else and can be kept.
    """
    first, *others = _layers("impala-small", shape)
    t = config.sim_steps
    convolution = Convolution(shape, *first)
    parts: list[nn.Module] = [convolution, _neurons(config, convolution)]
    for layer in others:
        convolution = SpikeConvolution(convolution.out_shape, *layer, sim_steps=t)
        parts += [convolution, _neurons(config, convolution)]
    return nn.Sequential(*parts, SpikeLinear(math.prod(convolution.out_shape), config.d_model, t))


def _neurons(config: ModelConfig, before: Convolution) -> RateLIF:
    return RateLIF(config.sim_steps, math.prod(before.out_shape), build_neuron(config))


register_encoder("nature", _dense("nature"))
register_encoder("impala-small", _dense("impala-small"))
register_encoder("spiking", _spiking)


def floats(numbers: Tensor) -> Tensor:
    """Return bytes `[..., 4 d]` as the float32 numbers `[..., d]` that they are."""
    lead, d = numbers.shape[:-1], numbers.shape[-1] // 4
    return numbers.reshape(-1).clone().view(torch.float32).reshape(*lead, d)  # a copy begins at a whole number


def build_encoder(config: ModelConfig, task: TaskShape) -> ImageEncoder | None:
    """Return the encoder of a task's images; None without images."""
    return None if task.image is None else ImageEncoder(config, task)


def encoded(model: Any, states: Tensor) -> Tensor:
    """Return the features `[B, d + D]` of states `[B, S]` of bytes, which a model takes in their place.

    A context keeps them, so a decision encodes its new state only. Other states are returned as they are.
    """
    if states.dtype != torch.uint8:
        return states
    axis = 0 if is_streaming(model) else 1  # [1, B, S] or [B, 1, S]
    features: Tensor = model.embedding.encoder(states.unsqueeze(axis))
    return features.squeeze(axis)


def kept_dim(model: Any) -> int:
    """Return the size of what a context keeps of a state: its own, or that of its features."""
    encoder = getattr(getattr(model, "embedding", None), "encoder", None)
    return int(model.state_dim if encoder is None else encoder.out_features)
