"""Clockwork-style stage reuse, a baseline: shallow stages see every frame, deep ones only key frames.

Shelhamer, Rakelly, Hoffman, Darrell, "Clockwork Convnets for Video Semantic Segmentation", 2016, reuse the
scores of deep stages beside fresh shallow ones, fused by the skips of their FCN. A residual network without
such a head has its skips inside: what a deep block adds is reused and what it adds to is fresh. It needs no
training and no flow, and nothing follows the motion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.resnet import Block, ResNetFeature

FRESH_STAGES = 3
"""Stages that see every frame: up to stride 8, which keeps edges in place at about a third of the feature net's
multiply-adds (ResNet-18 with stage 5; less for the deeper nets). Stage 4 too would leave little to save."""

Residuals = tuple[Tensor, ...]


class Clockwork(nn.Module):
    """A feature net that reuses, of a key frame, what the blocks after stage `fresh_stages` add.

    Raises ConfigError unless `fresh_stages` is from 1 to the last stage, with which nothing is reused.
    """

    def __init__(self, net: ResNetFeature, fresh_stages: int = FRESH_STAGES) -> None:
        super().__init__()
        if not 1 <= fresh_stages <= net.last_stage:
            raise ConfigError(f'fresh_stages is {fresh_stages}; allowed is from 1 to {net.last_stage}')
        self.net = net
        self.fresh_stages = fresh_stages

    def extract(self, image: Tensor) -> tuple[Tensor, Residuals]:
        """Normalised images (B, 3, H, W) -> the net's feature, and the residuals that `propagate` reuses."""
        x = self._fresh(image)
        residuals = []
        for block in self._deep_blocks():
            residual = block.residual(x)
            x = F.relu(residual + block.shortcut(x))
            residuals.append(residual)
        return self._reduced(x), tuple(residuals)

    def forward(self, image: Tensor, residuals: Residuals) -> Tensor:
        """Feature (B, channels, h, w) of current images with the residuals of their key frames."""
        x = self._fresh(image)
        for block, residual in zip(self._deep_blocks(), residuals, strict=True):
            x = F.relu(residual + block.shortcut(x))
        return self._reduced(x)

    def _fresh(self, image: Tensor) -> Tensor:
        x = self.net.stem(image)
        for stage in self.net.residual_stages()[: self.fresh_stages - 1]:
            x = stage(x)
        return x

    def _deep_blocks(self) -> list[Block]:
        stages = self.net.residual_stages()[self.fresh_stages - 1 :]
        return [block for stage in stages for block in stage if isinstance(block, Block)]

    def _reduced(self, x: Tensor) -> Tensor:
        return F.relu(self.net.reduce(x))
