# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The correction branch: a new feature where the warped one is wrong or was never seen.

The paper has none: whatever flow cannot explain (what comes into view, what the flow net gets wrong) stays
wrong until the next key frame. In the spirit of Accel (Jain et al., CVPR 2019), with the light net as the
branch that looks at every frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.light import JoiningConv, LightFeatures, double, initialise, leaky
from dff_ros.nets.warp import coverage, warp

_COMPARED = 32
_DILATIONS = (2, 4)
_NEW_LAYER_STD = 0.01
_START_LOGIT = -1.0
"""At the start the gate lets through 27 % of the new feature."""


class DilatedBlock(nn.Module):
    """Two 3x3 convs beside an identity; the second looks further."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to the same."""
        return leaky(x + self.conv2(leaky(self.conv1(x))))


class Correction(nn.Module):
    """f = ReLU((1 - g) warped + g d): gate g (B, 1, h, w), 0..1, and new feature d (B, channels, h, w).

    Both are made of the current frame's light features, the warped feature, what differs between the
    current and the warped key frame's light features, and the coverage. `width`: channels within, which set
    its cost.
    """

    def __init__(self, channels: int, light_widths: tuple[int, int, int], width: int) -> None:
        super().__init__()
        if channels < 1 or width < 1:
            raise ConfigError(f'a correction takes at least 1 channel, not {channels} with {width} within')
        self.channels = channels
        self.width = width
        self.compare = nn.Conv2d(light_widths[1], _COMPARED, 1)
        self.context = nn.Conv2d(light_widths[2], width, 1)
        self.join = JoiningConv(light_widths[1] + channels + _COMPARED + 1, width, 1)
        self.blocks = nn.ModuleList(DilatedBlock(width, dilation) for dilation in _DILATIONS)
        self.gate = nn.Conv2d(width, 1, 1)
        self.new = nn.Conv2d(width, channels, 1)
        initialise(self)
        nn.init.normal_(self.new.weight, std=_NEW_LAYER_STD)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, _START_LOGIT)  # type: ignore[arg-type]

    def forward(
        self, warped: Tensor, flow: Tensor, current: LightFeatures, key_middle: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Corrected feature, gate, new feature. `key_middle`: the key frame's `middle` light features."""
        difference = (self.compare(current.middle) - warp(self.compare(key_middle), flow)).abs()
        seen = self.join((current.middle, warped, difference, coverage(flow)))
        x = leaky(seen + double(self.context(current.coarse), seen))
        for block in self.blocks:
            x = block(x)
        gate = torch.sigmoid(self.gate(x))
        new = self.new(x)
        return F.relu(warped + gate * (new - warped)), gate, new
