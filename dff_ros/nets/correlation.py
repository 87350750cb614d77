# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A flow net that compares light features of two frames instead of reading both images: coarse to fine.

FlowNet-S must learn to match from nothing; a correlation layer (FlowNetC) with warping between the levels
(Sun et al., "PWC-Net", CVPR 2018) has matching built in, and the mean shift of what matches is a first flow
before any training: it learns from far fewer pairs. The features are those that the light net computes for
every frame anyway, and those of the key frame are cached.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.flownet import RAW_FLOW_PX, FlowPyramid, Scales
from dff_ros.nets.light import JoiningConv, LightFeatures, double, initialise, leaky
from dff_ros.nets.warp import warp

_CONTEXT = 32
_PREDICTION_STD = 1e-3
_SHARPNESS = 10.0
_TINY = 1e-6


class CorrelationFlow(nn.Module):
    """(current, key) `LightFeatures` -> backward flow (B, 2, h, w) in feature cells and scale map
    (B, channels, h, w) at stride 16.

    Each level searches around the flow of the coarser one: up to 128 px to each side at stride 32, 64 more
    at stride 16, and if `is_fine` 24 more at stride 8, which takes as long as the other two together.
    `light_widths`: channels of the light features. The flow of cell i is that around pixel 16 i of the image.
    `scales`: stride and weight in the loss of each raw flow, from the coarsest.
    """

    stride = 16

    def __init__(self, channels: int, light_widths: tuple[int, int, int], is_fine: bool = True) -> None:
        super().__init__()
        if channels < 1:
            raise ConfigError(
                f'scale map channels is {channels}; it takes as many as the feature, at least 1'
            )
        self.channels = channels
        fine, middle, coarse = light_widths
        self.coarse = _Level(coarse, 0, matched=64, radius=4, widths=(128, 96, 64))
        self.middle = _Level(middle, 64, matched=64, radius=4, widths=(128, 96, 64))
        self.scales: Scales = ((32, 0.5), (16, 1.0))
        self.fine = None
        if is_fine:
            self.scales = (*self.scales, (8, 1.0))
            self.fine = _Level(fine, 64, matched=48, radius=3, widths=(64, 48))
        # Cell i lies on cell 2 i of that level, on cell i of the middle one.
        self._step = 2 if is_fine else 1
        self.scale = nn.Conv2d(64 if self.fine is None else 48, channels, 1, stride=self._step)
        nn.init.zeros_(self.scale.weight)
        if self.scale.bias is not None:
            nn.init.ones_(self.scale.bias)
            self.scale.bias.requires_grad_(False)

    def forward(self, current: LightFeatures, key: LightFeatures) -> tuple[Tensor, Tensor]:
        """Backward flow current -> key in feature cells, and scale map."""
        return self.answer(self.pyramid(current, key))

    def answer(self, pyramid: FlowPyramid) -> tuple[Tensor, Tensor]:
        """What `forward` makes of what `pyramid` gives."""
        flow = pyramid.raw_flows[-1][..., :: self._step, :: self._step]
        return flow * (RAW_FLOW_PX / self.stride), pyramid.scale_map

    def pyramid(self, current: LightFeatures, key: LightFeatures) -> FlowPyramid:
        """The predictions at all levels, for a multi-scale loss."""
        flow, hidden = self.coarse(current.coarse, key.coarse)
        flows = [flow]
        levels = (self.middle, current.middle, key.middle), (self.fine, current.fine, key.fine)
        for level, here, there in levels:
            if level is not None:
                flow, hidden = level(here, there, flow, hidden)
                flows.append(flow)
        raw_flows = tuple(
            flow.float() * (stride / RAW_FLOW_PX)
            for flow, (stride, _) in zip(flows, self.scales, strict=True)
        )
        return FlowPyramid(raw_flows, self.scale(hidden))


class _Level(nn.Module):
    """One level: features of both frames, and what the coarser level found -> (flow in its cells, hidden).

    `matched`: channels that are compared, up to `radius` cells to each side of the coarser level's flow.
    """

    def __init__(
        self, num_in: int, num_coarser: int, matched: int, radius: int, widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.radius = radius
        self.match = nn.Conv2d(num_in, matched, 1)
        self.context = nn.Conv2d(num_coarser, _CONTEXT, 1) if num_coarser else None
        num_seen = (2 * radius + 1) ** 2 + matched + 2 + (_CONTEXT + 2 if num_coarser else 0)
        self.convs = nn.ModuleList(
            JoiningConv(a, b, 3, padding=1) for a, b in zip((num_seen, *widths), widths, strict=False)
        )
        self.flow = nn.Conv2d(widths[-1], 2, 3, padding=1)
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        steps = torch.arange(-radius, radius + 1.0)
        self.register_buffer('steps', steps, persistent=False)
        initialise(self)
        nn.init.normal_(self.flow.weight, std=_PREDICTION_STD)

    def forward(
        self, current: Tensor, key: Tensor, coarser: Tensor | None = None, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        here, there = self.match(current), self.match(key)
        if coarser is None or hidden is None or self.context is None:
            likeness, found = self._compare(here, there)
            seen: tuple[Tensor, ...] = likeness, here, found
        else:
            context = leaky(self.context(hidden))
            context_and_start = double(torch.cat((context, 2 * coarser), dim=1), here)
            start = context_and_start[:, _CONTEXT:]
            likeness, found = self._compare(here, warp(there, start))
            seen = likeness, here, context_and_start, found
            found = start + found
        for conv in self.convs:
            seen = (leaky(conv(seen)),)
        (x,) = seen
        return found + self.flow(x), x

    def _compare(self, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine of each cell with the key cells around it, and mean shift of the alike ones, in cells."""
        likeness = correlate(_unit(here), _unit(there), self.radius)
        # A softmax over channels, but divided last: ONNX Runtime's own is far slower along this axis.
        sharp = likeness * self.sharpness
        share = torch.exp(sharp - sharp.amax(1, keepdim=True))
        steps: Tensor = self.steps  # type: ignore[assignment]
        return likeness, _mean_shift(share, steps)


def _mean_shift(share: Tensor, steps: Tensor) -> Tensor:
    """Mean (dx, dy) over the channels of `correlate`, weighted by `share`: (B, 2, h, w)."""
    if torch.compiler.is_exporting():
        # One product for all sums: in ONNX Runtime each step costs more than its numbers.
        moments = torch.stack((steps.repeat(len(steps)), steps.repeat_interleave(len(steps))))
        moments = torch.cat((moments, torch.ones_like(moments[:1])))
        sums = F.conv2d(share, moments[..., None, None])
        return sums[:, :2] / sums[:, 2:]
    shares = share.unflatten(1, (len(steps), len(steps)))
    sums_of_axes = [shares.sum(axis) for axis in (1, 2)]
    return torch.stack([(part * steps[:, None, None]).sum(1) / part.sum(1) for part in sums_of_axes], dim=1)


def _unit(x: Tensor) -> Tensor:
    """Each cell's vector at length 1, in at least single precision."""
    x = x.float() if x.dtype.itemsize < 4 else x
    return x * torch.rsqrt((x * x).sum(1, keepdim=True) + _TINY)


def correlate(current: Tensor, key: Tensor, radius: int) -> Tensor:
    """Product, summed over the channels, of each cell with the key cells around it, zeros outside.

    (B, C, h, w) twice -> (B, (2 radius + 1)^2, h, w), shifts row by row: channel (dy + radius) (2 radius +
    1) + dx + radius is that of the key cell (dx, dy) further.
    """
    batch, _, height, width = current.shape
    size = 2 * radius + 1
    padded = F.pad(key, (radius, radius, radius, radius)).transpose(1, 2)
    near = torch.arange(size, device=key.device)[:, None] + torch.arange(height, device=key.device)
    rows = padded.index_select(1, near.flatten()).unflatten(1, (size, height))
    # All products of a row's cells with those of a key row, then the band around the diagonal: appending
    # zeros and cutting rows of one cell more shifts each row by one against the last.
    bands = torch.matmul(current.permute(0, 2, 3, 1).unsqueeze(1), rows)
    bands = F.pad(bands.flatten(3), (0, width))
    bands = bands.reshape(batch, size, height, width, width + size)[..., :size]
    return bands.permute(0, 1, 4, 2, 3).flatten(1, 2)
