# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Flow nets (the paper's F): FlowNet-S, its half-width variant and one of inception blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.precision import widened

RAW_FLOW_PX = 40.0
"""Image pixels per unit of a raw flow: FlowNet predicts flow / 20, and it sees the image at half size."""

_SLOPE = 0.1
_PREDICTION_STD = 1e-3


class FlowPyramid(NamedTuple):
    """All that a flow net predicts.

    `raw_flows`: (B, 2, h, w) from the coarsest, at the strides of its `scales`, in units of RAW_FLOW_PX image
    pixels; `scale_map`: (B, C, h, w) at stride 16.
    """

    raw_flows: tuple[Tensor, ...]
    scale_map: Tensor


class Skips(NamedTuple):
    """What an encoder hands to the decoder: at strides 8, 16, 32, 64 and 128 of the image."""

    conv2: Tensor
    conv3: Tensor
    conv4: Tensor
    conv5: Tensor
    conv6: Tensor


Scales = tuple[tuple[int, float], ...]
"""Stride and weight in the loss of each raw flow, from the coarsest."""


class FlowNet(nn.Module):
    """Base of the flow nets: the decoder, shared by all encoders.

    (current, key) images (B, 3, H, W), normalised alike -> backward flow (B, 2, h, w) in feature cells and
    scale map (B, channels, h, w), with h = ceil(H / 16). The flow of cell i is that around pixel 16 i of the
    image.
    `skips`: widths of the encoder's outputs at strides 8 to 128; `deconvs`: widths of deconv5 to deconv2.
    Layer names are those of the paper's release. Source: FlowNet-S, and the paper's section 4.
    """

    stride = 16
    scales: Scales = ((128, 0.25), (64, 0.25), (32, 0.25), (16, 0.5), (16, 1.0))
    """FlowNet weighs sums over cells by 0.32, 0.08, 0.02, 0.01 and 0.005. Each scale has four times the cells
    of the coarser one, so as weights of means these are in the ratio of 1/4, 1/4, 1/4, 1/2 and 1.
    """

    def __init__(self, channels: int, skips: tuple[int, ...], deconvs: tuple[int, ...]) -> None:
        super().__init__()
        if channels < 1:
            raise ConfigError(
                f'scale map channels is {channels}; it takes as many as the feature, at least 1'
            )
        self.channels = channels
        num_in = skips[4]
        for index, (level, skip, width) in enumerate(zip((5, 4, 3, 2), skips[3::-1], deconvs, strict=True)):
            self.add_module(f'Convolution{index + 1}', nn.Conv2d(num_in, 2, 3, padding=1))
            self.add_module(f'deconv{level}', nn.ConvTranspose2d(num_in, width, 4, 2, 1))
            self.add_module(f'upsample_flow{level + 1}to{level}', nn.ConvTranspose2d(2, 2, 4, 2, 1))
            num_in = skip + width + 2
        self.Convolution5 = nn.Conv2d(num_in, 2, 3, padding=1)
        self.Convolution5_scale = nn.Conv2d(num_in, channels, 1)

    def encode(self, pair: Tensor) -> Skips:
        """Encoder outputs for an image pair (B, 6, H, W) at half size."""
        raise NotImplementedError

    def forward(self, current: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Backward flow current -> key in feature cells, and scale map."""
        return self.answer(self.pyramid(current, key))

    def answer(self, pyramid: FlowPyramid) -> tuple[Tensor, Tensor]:
        """What `forward` makes of what `pyramid` gives."""
        return widened(pyramid.raw_flows[-1]) * (RAW_FLOW_PX / self.stride), pyramid.scale_map

    def between(self, current: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` of images that `halve` has been applied to."""
        return self.answer(self._decode(torch.cat((current, key), dim=1)))

    def pyramid(self, current: Tensor, key: Tensor) -> FlowPyramid:
        """The predictions at every scale, for a multi-scale loss."""
        return self._decode(halve(torch.cat((current, key), dim=1)))

    def _decode(self, pair: Tensor) -> FlowPyramid:
        skips = self.encode(pair)
        x = skips.conv6
        raw_flows = []
        for index, level in enumerate((5, 4, 3, 2)):
            skip = skips[level - 2]
            raw_flow = getattr(self, f'Convolution{index + 1}')(x)
            up = _crop(getattr(self, f'deconv{level}')(x), skip)
            up_flow = _crop(getattr(self, f'upsample_flow{level + 1}to{level}')(raw_flow), skip)
            x = torch.cat((skip, F.leaky_relu(up, _SLOPE), up_flow), dim=1)
            raw_flows.append(raw_flow)
        x = halve(x)
        raw_flows.append(self.Convolution5(x))
        return FlowPyramid(tuple(raw_flows), self.Convolution5_scale(x))

    def initialise(self) -> None:
        """Start values: near-zero flow, scale map 1 (its bias stays there), bilinear upsampling of flow."""
        for name, module in self.named_modules():
            if isinstance(module, nn.ConvTranspose2d) and name.startswith('upsample_flow'):
                _make_bilinear(module)
            elif isinstance(module, nn.ConvTranspose2d):
                # Each output of a 4x4/2 deconv sums over a quarter of the kernel.
                fan_in = module.in_channels * module.weight[0, 0].numel() / 4
                nn.init.normal_(module.weight, std=nn.init.calculate_gain('leaky_relu', _SLOPE) / fan_in**0.5)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, _SLOPE)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for index in range(1, 6):
            nn.init.normal_(getattr(self, f'Convolution{index}').weight, std=_PREDICTION_STD)
        nn.init.zeros_(self.Convolution5_scale.weight)
        bias = self.Convolution5_scale.bias
        if bias is not None:
            nn.init.ones_(bias)
            bias.requires_grad_(False)


class FlowNetS(FlowNet):
    """FlowNet-S; `divisor` divides all widths (2 is the paper's FlowNet Half)."""

    def __init__(self, channels: int, divisor: int = 1) -> None:
        c64, c128, c256, c512, c1024 = (width // divisor for width in (64, 128, 256, 512, 1024))
        super().__init__(channels, (c128, c256, c512, c512, c1024), (c512, c256, c128, c64))
        self.flow_conv1 = nn.Conv2d(6, c64, 7, 2, 3)
        self.conv2 = nn.Conv2d(c64, c128, 5, 2, 2)
        self.conv3 = nn.Conv2d(c128, c256, 5, 2, 2)
        self.conv3_1 = nn.Conv2d(c256, c256, 3, 1, 1)
        self.conv4 = nn.Conv2d(c256, c512, 3, 2, 1)
        self.conv4_1 = nn.Conv2d(c512, c512, 3, 1, 1)
        self.conv5 = nn.Conv2d(c512, c512, 3, 2, 1)
        self.conv5_1 = nn.Conv2d(c512, c512, 3, 1, 1)
        self.conv6 = nn.Conv2d(c512, c1024, 3, 2, 1)
        self.conv6_1 = nn.Conv2d(c1024, c1024, 3, 1, 1)
        self.initialise()

    def encode(self, pair: Tensor) -> Skips:
        """Encoder outputs for an image pair (B, 6, H, W) at half size."""
        conv2 = _conv(self.conv2, _conv(self.flow_conv1, pair))
        conv3 = _conv(self.conv3_1, _conv(self.conv3, conv2))
        conv4 = _conv(self.conv4_1, _conv(self.conv4, conv3))
        conv5 = _conv(self.conv5_1, _conv(self.conv5, conv4))
        conv6 = _conv(self.conv6_1, _conv(self.conv6, conv5))
        return Skips(conv2, conv3, conv4, conv5, conv6)


class InceptionBlock(nn.Module):
    """Four branches side by side: 1x1; 1x1 and 3x3; 1x1 and two 3x3; 3x3 max-pool and 1x1.

    `num_out` channels are a quarter 1x1, half 3x3, an eighth double 3x3 and an eighth pooled; at stride 2 the
    1x1 branch is left out and its quarter goes to the pooled one.
    """

    def __init__(self, num_in: int, num_out: int, stride: int = 1) -> None:
        super().__init__()
        quarter, half, eighth = num_out // 4, num_out // 2, num_out // 8
        self.stride = stride
        self.point = nn.Conv2d(num_in, quarter, 1) if stride == 1 else None
        self.reduce3 = nn.Conv2d(num_in, half // 2, 1)
        self.conv3 = nn.Conv2d(half // 2, half, 3, stride, 1)
        self.reduce5 = nn.Conv2d(num_in, eighth, 1)
        self.conv5a = nn.Conv2d(eighth, eighth, 3, 1, 1)
        self.conv5b = nn.Conv2d(eighth, eighth, 3, stride, 1)
        self.pool = nn.Conv2d(num_in, eighth if stride == 1 else eighth + quarter, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_in, h, w) -> (B, num_out, ceil(h / stride), ceil(w / stride))."""
        branches = [] if self.point is None else [self.point(x)]
        branches.append(self.conv3(_conv(self.reduce3, x)))
        branches.append(self.conv5b(_conv(self.conv5a, _conv(self.reduce5, x))))
        branches.append(self.pool(F.max_pool2d(x, 3, self.stride, 1)))
        return F.leaky_relu(torch.cat(branches, dim=1), _SLOPE)


class FlowNetInception(FlowNet):
    """FlowNet's strides and decoder around inception blocks, at the paper's cost of FlowNet Inception.

    The paper does not publish its layer table; this one is the project's.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, skips=(64, 128, 224, 320, 384), deconvs=(128, 80, 64, 32))
        self.flow_conv1 = nn.Conv2d(6, 32, 7, 2, 3)
        self.inception2 = InceptionBlock(32, 64, 2)
        self.inception3 = InceptionBlock(64, 128, 2)
        self.inception3_1 = InceptionBlock(128, 128)
        self.inception4 = InceptionBlock(128, 224, 2)
        self.inception4_1 = InceptionBlock(224, 224)
        self.inception5 = InceptionBlock(224, 320, 2)
        self.inception5_1 = InceptionBlock(320, 320)
        self.inception6 = InceptionBlock(320, 384, 2)
        self.inception6_1 = InceptionBlock(384, 384)
        self.initialise()

    def encode(self, pair: Tensor) -> Skips:
        """Encoder outputs for an image pair (B, 6, H, W) at half size."""
        conv2 = self.inception2(_conv(self.flow_conv1, pair))
        conv3 = self.inception3_1(self.inception3(conv2))
        conv4 = self.inception4_1(self.inception4(conv3))
        conv5 = self.inception5_1(self.inception5(conv4))
        return Skips(conv2, conv3, conv4, conv5, self.inception6_1(self.inception6(conv5)))


def _conv(layer: nn.Module, x: Tensor) -> Tensor:
    return F.leaky_relu(layer(x), _SLOPE)


def _crop(x: Tensor, like: Tensor) -> Tensor:
    """The top left of x, as large as `like`: a deconv doubles, an odd size came from rounding up."""
    return x[..., : like.shape[-2], : like.shape[-1]]


def halve(x: Tensor) -> Tensor:
    """2x2 average pool, sizes rounded up; a half-covered border cell averages what it covers."""
    return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


@torch.no_grad()
def _make_bilinear(deconv: nn.ConvTranspose2d) -> None:
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    deconv.weight.zero_()
    for channel in range(deconv.in_channels):
        deconv.weight[channel, channel] = torch.outer(taps, taps)


FLOW_NETS: dict[str, Callable[[int], FlowNet]] = {
    'flownet_s': FlowNetS,
    'flownet_half': partial(FlowNetS, divisor=2),
    'flownet_inception': FlowNetInception,
}


def make_flow_net(name: str, channels: int = 1024) -> FlowNet:
    """A flow net by name whose scale map has `channels`; ConfigError lists the known names."""
    if name not in FLOW_NETS:
        raise ConfigError(f'unknown flow net {name!r}; known are ' + ', '.join(FLOW_NETS))
    return FLOW_NETS[name](channels)
