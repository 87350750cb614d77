# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How far propagation can be trusted: where its label will differ from that of per-frame inference.

The paper leaves the schedule of key frames as future work. A scheduler that knows this share makes a key
frame when it is worth one; the net learns it without labels, from the per-frame output itself
(`dff train scheduler`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dff_ros.errors import ConfigError
from dff_ros.nets.correction import DilatedBlock
from dff_ros.nets.light import JoiningConv, initialise, leaky
from dff_ros.nets.warp import coverage, warp

_DILATION = 2
_START_SHARE = 0.1
"""Before any training, what is predicted everywhere."""


class QualityNet(nn.Module):
    """Logit (B, 1, h, w) of the probability that the label of a propagated cell is not the per-frame one.

    It sees what the flow net matched: the light features of the current frame and what differs between them
    and those of the key frame, warped by the flow; flow and coverage; the propagated feature, from which the
    label is made; and the gate of the correction. `width`: channels within, which set its cost.
    """

    def __init__(self, channels: int, light_widths: tuple[int, int, int], width: int) -> None:
        super().__init__()
        if channels < 1 or width < 1:
            raise ConfigError(f'a quality net takes at least 1 channel, not {channels} with {width} within')
        self.width = width
        self.compare = nn.Conv2d(light_widths[1], width, 1)
        self.reduce = nn.Conv2d(channels, width, 1)
        self.join = JoiningConv(3 * width + 4, width, 1)
        self.block = DilatedBlock(width, _DILATION)
        self.answer = nn.Conv2d(width, 1, 1)
        initialise(self)
        nn.init.zeros_(self.answer.weight)
        start = math.log(_START_SHARE / (1 - _START_SHARE))
        nn.init.constant_(self.answer.bias, start)  # type: ignore[arg-type]

    def forward(
        self, feature: Tensor, flow: Tensor, middle: Tensor, key_middle: Tensor, gate: Tensor | None = None
    ) -> Tensor:
        """Of the propagated feature (B, channels, h, w), flow (B, 2, h, w) in cells and the `middle` light
        features of both frames. `gate` (B, 1, h, w): the correction's; None where nothing was corrected.
        """
        here = self.compare(middle)
        difference = (here - warp(self.compare(key_middle), flow)).abs()
        covered = coverage(flow)
        gate = torch.zeros_like(covered) if gate is None else gate
        parts = (leaky(here), difference, leaky(self.reduce(feature)), flow, covered, gate)
        logit: Tensor = self.answer(self.block(leaky(self.join(parts))))
        return logit
