# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Clockwork-style stage reuse, a baseline: shallow stages see every frame, deep ones only key frames.

Shelhamer, Rakelly, Hoffman, Darrell, "Clockwork Convnets for Video Semantic Segmentation", 2016, reuse the
scores of deep stages beside fresh shallow ones, fused by the skips of their FCN. A residual network without
such a head has its skips inside: what a deep block adds is reused and what it adds to is fresh. It needs no
training and no flow, and nothing follows the motion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.evaluation.speed import StageCost
from dff_ros.model_spec import TASKS, ModelSpec
from dff_ros.nets.complexity import gmac_of, part_gmac
from dff_ros.nets.dff import DffModel
from dff_ros.nets.graphs import IMAGE_INPUTS, TAP_NAMES, Resample
from dff_ros.nets.resnet import Block, ResNetFeature
from dff_ros.nets.task_graphs import Graph, task_graphs

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

    @property
    def residual_names(self) -> tuple[str, ...]:
        """A name for each of the residuals."""
        return tuple(f'residual_{index}' for index in range(len(self._deep_blocks())))

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


class _ExtractGraph(Graph):
    """As graphs.ExtractGraph, with the residuals of the deep blocks in turn."""

    inputs = IMAGE_INPUTS

    def __init__(self, model: DffModel, clockwork: Clockwork) -> None:
        super().__init__()
        self.resample = Resample(model)
        self.model = model
        self.clockwork = clockwork
        self.outputs = ('feature', *model.spec.head_light, *clockwork.residual_names)

    def forward(self, image: Tensor, **taps: Tensor) -> tuple[Tensor, ...]:
        normalised = self.resample(image, *(taps[name] for name in TAP_NAMES))
        feature, residuals = self.clockwork.extract(normalised)
        return (feature, *_head_light(self.model, normalised), *residuals)


class _PropagateGraph(Graph):
    """Source image and taps of the current frame, residuals of the key frame -> feature, and the light
    features that heads take.
    """

    def __init__(self, model: DffModel, clockwork: Clockwork) -> None:
        super().__init__()
        self.resample = Resample(model)
        self.model = model
        self.clockwork = clockwork
        self.inputs = (*IMAGE_INPUTS, *clockwork.residual_names)
        self.outputs = ('feature', *model.spec.head_light)

    def forward(self, image: Tensor, **inputs: Tensor) -> tuple[Tensor, ...]:
        normalised = self.resample(image, *(inputs[name] for name in TAP_NAMES))
        residuals = tuple(inputs[name] for name in self.clockwork.residual_names)
        return (self.clockwork(normalised, residuals), *_head_light(self.model, normalised))


def clockwork_graphs(model: DffModel, fresh_stages: int = FRESH_STAGES) -> dict[str, Graph]:
    """`extract`, `propagate` and the tasks' graphs of a model with stage reuse."""
    clockwork = Clockwork(model.feature_net, fresh_stages)
    return {
        'extract': _ExtractGraph(model, clockwork),
        'propagate': _PropagateGraph(model, clockwork),
        **task_graphs(model),
    }


def clockwork_gmac(
    spec: ModelSpec,
    size: tuple[int, int],
    fresh_stages: int = FRESH_STAGES,
    tasks: Sequence[str] = TASKS,
) -> StageCost:
    """10^9 multiply-adds of the three stages at a network image (height, width), as `stage_gmac` counts them.

    The light net is part of the first two where a head takes its features.
    """
    with torch.device('meta'):
        clockwork = Clockwork(DffModel(spec).eval().feature_net, fresh_stages)
        image = torch.empty(1, 3, *size)
        _, residuals = clockwork.extract(image)
    parts = part_gmac(spec, size)
    light = parts.light if spec.head_light else 0.0
    return StageCost(
        extract=parts.feature + light,
        propagate=gmac_of(lambda: clockwork(image, residuals)) + light,
        predict=parts.heads(tasks),
    )


def _head_light(model: DffModel, image: Tensor) -> tuple[Tensor, ...]:
    light = model.look(image).light if model.spec.head_light else None
    return () if light is None else tuple(getattr(light, name) for name in model.spec.head_light)
