# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The light net: what every frame is looked at with, key frame or not, at a small part of the feature net's
cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.model_spec import LIGHT_STRIDE
from dff_ros.nets.precision import narrowed
from dff_ros.nets.resnet import Layers, basic_stage

_SLOPE = 0.1
_CHANNEL_BLOCK = 16
_MIN_PADDED = 2**14
"""Fewer weights cost little, and the exporter would store them a second time, with the zeros."""


class LightFeatures(NamedTuple):
    """What the light net sees at strides 8, 16 and 32; cell i is centred on pixel stride * i."""

    fine: Tensor
    middle: Tensor
    coarse: Tensor


class LightNet(nn.Module):
    """The first stages of ResNet-18 on the image at half size, and a shallow look at all of its pixels:
    normalised images (B, 3, H, W) -> `LightFeatures` of 3/2, 2 and 4 times `channels`.

    One net serves the three that need the current frame: the correlation flow net matches its features with
    those of the key frame, the correction branch replaces what the warp got wrong, and the head takes the
    detail that the feature's stride has lost. What they need of it is meaning, and that takes more images
    than anyone labels: with 64 channels it starts from the weights of a ResNet-18 (`load_start_weights`),
    whose names it has. Raises ConfigError unless `channels` is a positive multiple of 8.
    """

    stride = LIGHT_STRIDE

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 8 or channels % 8:
            raise ConfigError(f'light_channels is {channels}; it takes a positive multiple of 8')
        self.channels = channels
        quarter, half = channels // 4, channels // 2
        self.widths = channels + half, channels * 2, channels * 4
        layers = Layers()
        self.sharp1 = layers.conv(3, quarter, 3, 2)
        self.sharp2 = layers.conv(quarter, half, 3, 2)
        self.sharp3 = layers.conv(half, half, 3, 2)
        self.conv1 = layers.conv(3, channels, 7, 2)
        self.layer1 = basic_stage(channels, channels, 1, layers)
        self.layer2 = basic_stage(channels, channels * 2, 2, layers)
        self.layer3 = basic_stage(channels * 2, channels * 4, 2, layers)
        initialise(self)
        for block in (*self.layer1, *self.layer2, *self.layer3):
            # Without start weights a block passes its input on at first; without batch norm it would blow
            # it up.
            nn.init.zeros_(block.last_conv().weight)
        taps = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer('blur', torch.outer(taps, taps).expand(3, 1, 3, 3).clone(), persistent=False)

    def forward(self, image: Tensor) -> LightFeatures:
        """The features of a batch of normalised images."""
        sharp = F.relu(self.sharp3(F.relu(self.sharp2(F.relu(self.sharp1(image))))))
        x = F.max_pool2d(F.relu(self.conv1(self._half(image))), 3, 2, 1)
        fine = self.layer1(x)
        middle = self.layer2(fine)
        return LightFeatures(torch.cat((fine, sharp), dim=1), middle, self.layer3(middle))

    def _half(self, image: Tensor) -> Tensor:
        """Every second pixel of the blurred image: pixel i lies on pixel 2 i, as the grids have it."""
        blur: Tensor = self.blur  # type: ignore[assignment]
        return F.conv2d(
            F.pad(image, (1, 1, 1, 1), mode='replicate'), blur.to(image.dtype), stride=2, groups=3
        )


def leaky(x: Tensor) -> Tensor:
    """The activation of flow nets."""
    return F.leaky_relu(x, _SLOPE)


def initialise(module: nn.Module) -> None:
    """He initialisation for that activation; biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, _SLOPE)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def double(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear interpolation onto the grid of half the stride, with the size of `like`.

    Cell 2 i lies on cell i, cell 2 i + 1 between two; beyond the last one it repeats.
    """
    if torch.compiler.is_exporting():
        return _doubling(x, like, -2) @ (x @ _doubling(x, like, -1).transpose(0, 1))
    padded = F.pad(x, (0, 1, 0, 1), mode='replicate')
    # From corner to corner, n + 1 cells onto 2 n + 1: the step is exactly half a cell.
    size = 2 * x.shape[-2] + 1, 2 * x.shape[-1] + 1
    doubled = F.interpolate(padded, size=size, mode='bilinear', align_corners=True)
    return doubled[..., : like.shape[-2], : like.shape[-1]]


def _doubling(x: Tensor, like: Tensor, axis: int) -> Tensor:
    """The matrix of that interpolation along an axis. ONNX Runtime multiplies small grids by it faster than
    it pads, resizes and cuts them.
    """
    last = x.shape[axis] - 1
    position = (torch.arange(like.shape[axis], device=x.device) / 2).clamp(max=last)
    distance = (position[:, None] - torch.arange(x.shape[axis], device=x.device)).abs()
    return (1 - distance).clamp(min=0).to(x.dtype)


class JoiningConv(nn.Conv2d):
    """A conv over the channels of all its inputs together.

    ONNX Runtime has its fast convolutions for multiples of 16 channels only, so what is exported has zeros
    beside the others.
    """

    def forward(self, parts: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """The conv of `parts`, each (B, channels, h, w)."""
        missing = -self.in_channels % _CHANNEL_BLOCK
        is_worth_it = missing > 0 and self.weight.numel() >= _MIN_PADDED
        if not (is_worth_it and torch.compiler.is_exporting()):
            return super().forward(narrowed(torch.cat(tuple(parts), dim=1), self.weight))
        zeros = torch.zeros_like(parts[0][:, :1]).expand(-1, missing, -1, -1)
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, missing))
        return self._conv_forward(torch.cat((*parts, zeros), dim=1), weight, self.bias)
