"""The light net: what every frame is looked at with, key frame or not, at a small part of the feature net's
cost.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.model_spec import LIGHT_STRIDE

_SLOPE = 0.1


class LightFeatures(NamedTuple):
    """What the light net sees at strides 8, 16 and 32; cell i is centred on pixel stride * i."""

    fine: Tensor
    middle: Tensor
    coarse: Tensor


class LightNet(nn.Module):
    """Plain 3x3 convs: normalised images (B, 3, H, W) -> `LightFeatures` of `channels`, 3/2 and 2 times as
    many.

    One net serves the three that need the current frame: the correlation flow net matches its features with
    those of the key frame, the correction branch replaces what the warp got wrong, and the head takes the
    detail that the feature's stride has lost. Raises ConfigError unless `channels` is a positive multiple
    of 8.
    """

    stride = LIGHT_STRIDE

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 8 or channels % 8:
            raise ConfigError(f'light_channels is {channels}; it takes a positive multiple of 8')
        self.channels = channels
        quarter, half, middle, coarse = channels // 4, channels // 2, channels * 3 // 2, channels * 2
        self.widths = channels, middle, coarse
        self.conv1 = _conv(3, quarter, 2)
        self.conv2 = _conv(quarter, half, 2)
        self.conv3 = _conv(half, channels, 2)
        self.conv3_1 = _conv(channels, channels)
        self.conv3_2 = _conv(channels, channels)
        self.conv4 = _conv(channels, middle, 2)
        self.conv4_1 = _conv(middle, middle)
        self.conv5 = _conv(middle, coarse, 2)
        self.conv5_1 = _conv(coarse, coarse)
        initialise(self)

    def forward(self, image: Tensor) -> LightFeatures:
        """The features of a batch of normalised images."""
        x = F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(image))))))
        fine = F.relu(self.conv3_2(F.relu(self.conv3_1(x))))
        middle = F.relu(self.conv4_1(F.relu(self.conv4(fine))))
        coarse = F.relu(self.conv5_1(F.relu(self.conv5(middle))))
        return LightFeatures(fine, middle, coarse)


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
    padded = F.pad(x, (0, 1, 0, 1), mode='replicate')
    # From corner to corner, n + 1 cells onto 2 n + 1: the step is exactly half a cell.
    size = 2 * x.shape[-2] + 1, 2 * x.shape[-1] + 1
    doubled = F.interpolate(padded, size=size, mode='bilinear', align_corners=True)
    return doubled[..., : like.shape[-2], : like.shape[-1]]


def _conv(num_in: int, num_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, 3, stride, 1)
