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
from dff_ros.nets.flownet import RAW_FLOW_PX, FlowPyramid
from dff_ros.nets.light import LightFeatures, double, initialise, leaky
from dff_ros.nets.warp import warp

RADIUS = 4
"""Cells searched to each side at each level: 128 px at stride 32, 64 px more at stride 16."""

_SIDE = 2 * RADIUS + 1
_MATCHED = 64
_CONTEXT = 32
_WIDTHS = (128, 96, 64)
_PREDICTION_STD = 1e-3
_SHARPNESS = 10.0
_TINY = 1e-6


class CorrelationFlow(nn.Module):
    """(current, key) `LightFeatures` -> backward flow (B, 2, h, w) in feature cells and scale map
    (B, channels, h, w) at stride 16.

    `light_widths`: channels of the light features. The flow of cell i is that around pixel 16 i of the image.
    """

    stride = 16
    scales = ((32, 0.5), (16, 1.0))
    """Stride and weight in the loss of each raw flow, from the coarsest."""

    def __init__(self, channels: int, light_widths: tuple[int, int, int]) -> None:
        super().__init__()
        if channels < 1:
            raise ConfigError(
                f'scale map channels is {channels}; it takes as many as the feature, at least 1'
            )
        self.channels = channels
        self.match_middle = nn.Conv2d(light_widths[1], _MATCHED, 1)
        self.match_coarse = nn.Conv2d(light_widths[2], _MATCHED, 1)
        self.coarse = _Decoder(_SIDE**2 + _MATCHED + 2)
        self.context = nn.Conv2d(_WIDTHS[-1], _CONTEXT, 1)
        self.middle = _Decoder(_SIDE**2 + _MATCHED + _CONTEXT + 4)
        self.scale = nn.Conv2d(_WIDTHS[-1], channels, 1)
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        steps = torch.arange(-RADIUS, RADIUS + 1.0)
        self.register_buffer('steps', steps[:, None, None], persistent=False)
        initialise(self)
        for decoder in (self.coarse, self.middle):
            nn.init.normal_(decoder.flow.weight, std=_PREDICTION_STD)
        nn.init.zeros_(self.scale.weight)
        if self.scale.bias is not None:
            nn.init.ones_(self.scale.bias)
            self.scale.bias.requires_grad_(False)

    def forward(self, current: LightFeatures, key: LightFeatures) -> tuple[Tensor, Tensor]:
        """Backward flow current -> key in feature cells, and scale map."""
        raw_flows, scale_map = self.pyramid(current, key)
        return raw_flows[-1] * (RAW_FLOW_PX / self.stride), scale_map

    def pyramid(self, current: LightFeatures, key: LightFeatures) -> FlowPyramid:
        """The predictions at both levels, for a multi-scale loss."""
        here, there = self.match_coarse(current.coarse), self.match_coarse(key.coarse)
        likeness, found = self._match(here, there)
        hidden, rest = self.coarse(torch.cat((likeness, here, found), dim=1))
        coarse = found + rest
        here, there = self.match_middle(current.middle), self.match_middle(key.middle)
        start = 2 * double(coarse, here)
        context = double(leaky(self.context(hidden)), here)
        likeness, found = self._match(here, warp(there, start))
        hidden, rest = self.middle(torch.cat((likeness, here, context, start, found), dim=1))
        flow = start + found + rest
        raw_flows = coarse.float() * (32 / RAW_FLOW_PX), flow.float() * (16 / RAW_FLOW_PX)
        return FlowPyramid(raw_flows, self.scale(hidden))

    def _match(self, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine of each cell with the key cells around it, and mean shift of the alike ones, in cells."""
        likeness = correlate(_unit(here), _unit(there), RADIUS)
        share = torch.softmax(likeness * self.sharpness, dim=1).unflatten(1, (_SIDE, _SIDE))
        steps: Tensor = self.steps  # type: ignore[assignment]
        return likeness, torch.stack([(share.sum(axis) * steps).sum(1) for axis in (1, 2)], dim=1)


class _Decoder(nn.Module):
    """3x3 convs -> (hidden, flow in cells of this level)."""

    def __init__(self, num_in: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip((num_in, *_WIDTHS), _WIDTHS, strict=False)]
        self.convs = nn.ModuleList(layers)
        self.flow = nn.Conv2d(_WIDTHS[-1], 2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for conv in self.convs:
            x = leaky(conv(x))
        return x, self.flow(x)


def _unit(x: Tensor) -> Tensor:
    """Each cell's vector at length 1, in at least single precision."""
    x = x.float() if x.dtype.itemsize < 4 else x
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + _TINY)


def correlate(current: Tensor, key: Tensor, radius: int) -> Tensor:
    """Product, summed over the channels, of each cell with the key cells around it, zeros outside.

    (B, C, h, w) twice -> (B, (2 radius + 1)^2, h, w), shifts row by row: channel (dy + radius) (2 radius +
    1) + dx + radius is that of the key cell (dx, dy) further.
    """
    batch, _, height, width = current.shape
    size = 2 * radius + 1
    padded = F.pad(key, (radius, radius, radius, radius))
    rows = torch.stack([padded[:, :, shift : shift + height] for shift in range(size)], dim=1)
    # All products of a row's cells with those of a key row, then the band around the diagonal: appending
    # zeros and cutting rows of one cell more shifts each row by one against the last.
    bands = torch.matmul(current.permute(0, 2, 3, 1).unsqueeze(1), rows.permute(0, 1, 3, 2, 4))
    bands = F.pad(bands.flatten(3), (0, width))
    bands = bands.reshape(batch, size, height, width, width + size)[..., :size]
    return bands.permute(0, 1, 4, 2, 3).flatten(1, 2)
