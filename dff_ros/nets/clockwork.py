"""Clockwork-style stage reuse, a baseline: shallow stages see every frame, deep ones only key frames.

Shelhamer, Rakelly, Hoffman, Darrell, "Clockwork Convnets for Video Semantic Segmentation", 2016, reuse the
scores of deep stages beside fresh shallow ones, fused by the skips of their FCN. A residual network without
such a head has its skips inside: what a deep block adds is reused and what it adds to is fresh. It needs no
training and no flow, and nothing follows the motion.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dff_ros.errors import ConfigError
from dff_ros.evaluation.speed import StageCost
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel
from dff_ros.nets.resnet import Block, ResNetFeature

FRESH_STAGES = 3
"""Stages that see every frame: those up to stride 8, where edges are.

With ResNet-18 and the 3x3 reduction conv a frame then costs 38 % of a key frame (2: 26 %, 4: 50 %), with the
deeper nets 44 to 61 %. On CamVid val the choice moves the mIoU by 0.1 up to stage 3 and 0.3 to 0.7 with 4.
"""

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


def clockwork_gmac(spec: ModelSpec, size: tuple[int, int], fresh_stages: int = FRESH_STAGES) -> StageCost:
    """10^9 multiply-adds of the three stages at a network image (height, width), as `stage_gmac` counts them.

    The light net is part of the first two where the head takes its detail.
    """
    with torch.device('meta'):
        model = DffModel(spec).eval()
        image = torch.empty(1, 3, *size)
    clockwork = Clockwork(model.feature_net, fresh_stages)
    detail_net = model.light_net if spec.detail else None
    with torch.no_grad():
        feature, residuals = clockwork.extract(image)
        detail = None if detail_net is None else detail_net(image).fine
        detail_gmac = 0.0 if detail_net is None else _gmac_of(lambda: detail_net(image))
        return StageCost(
            extract=_gmac_of(lambda: clockwork.extract(image)) + detail_gmac,
            propagate=_gmac_of(lambda: clockwork(image, residuals)) + detail_gmac,
            predict=_gmac_of(lambda: model.heads['segmentation'](feature, detail)),
        )


def _gmac_of(run: Callable[[], object]) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops() / 2e9
