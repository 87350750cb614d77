# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Multiply-adds of feature and flow nets and the paper's ratio 1/r (equation 6), counted without any data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dff_ros.backends.use import GraphUse
from dff_ros.config import DffConfig
from dff_ros.errors import ConfigError
from dff_ros.evaluation.speed import StageCost
from dff_ros.model_spec import HAND_MADE_FLOWS, TASKS, ModelSpec
from dff_ros.nets.dff import DffModel
from dff_ros.nets.flownet import make_flow_net
from dff_ros.nets.resnet import make_feature_net


@dataclass(frozen=True, slots=True)
class Complexity:
    """10^9 multiply-adds of a feature net and a flow net on one image, and their ratio `inv_r`, 1/r.

    The reduction conv belongs to the feature net and the scale conv to the flow net; warp and head are left
    out, as in equation (6).
    """

    feature_net: str
    flow_net: str
    inv_r: float
    extract_gmac: float
    flow_gmac: float


def count_gmac(make_net: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> float:
    """10^9 multiply-adds of a network's convolutions and matrix products for inputs of `shapes`.

    The network is built and run on the meta device: nothing is allocated or computed.
    """
    with torch.device('meta'):
        net = make_net().eval()
        inputs: list[Tensor] = [torch.empty(shape) for shape in shapes]
    return gmac_of(lambda: net(*inputs))


def gmac_of(run: Callable[[], object]) -> float:
    """10^9 multiply-adds of what a call runs, on the meta device too."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2e9


def complexity_table(
    size: tuple[int, int], feature_nets: Sequence[str], flow_nets: Sequence[str], channels: int
) -> list[Complexity]:
    """Every feature net with every flow net, at an image (height, width).

    The bottleneck nets are counted in the form of the release, with the stride in the first 1x1 conv.
    Raises ConfigError on an unknown network or a side below 1.
    """
    if min(size) < 1:
        raise ConfigError(f'image size is {size[0]}x{size[1]}; both sides must be at least 1')
    image = (1, 3, *size)
    extract = {name: count_gmac(partial(_feature_net, name, channels), image) for name in feature_nets}
    flow = {name: count_gmac(partial(make_flow_net, name, channels), image, image) for name in flow_nets}
    return [
        Complexity(
            feature_net, flow_net, extract[feature_net] / flow[flow_net], extract[feature_net], flow[flow_net]
        )
        for feature_net in feature_nets
        for flow_net in flow_nets
    ]


@dataclass(frozen=True, slots=True)
class PartCost:
    """10^9 multiply-adds of each part of a model on one frame; 0 for a part that it does not have."""

    feature: float
    light: float
    flow: float
    correction: float
    head: float
    detection: float = 0.0
    quality: float = 0.0

    def heads(self, tasks: Sequence[str]) -> float:
        """Those of some tasks."""
        by_task = dict(zip(TASKS, (self.head, self.detection), strict=True))
        return sum(by_task[task] for task in tasks)


def part_gmac(spec: ModelSpec, size: tuple[int, int]) -> PartCost:
    """What each network of a model costs on a network image of `size` (height, width).

    `head` is the segmentation's, with what detail adds to it, `detection` the other one's. Warps,
    interpolations, the upsampling of scores and the pooling of boxes are left out, as in equation (6); the
    products of a correlation are counted.
    """
    with torch.device('meta'), torch.no_grad():
        model = DffModel(spec).eval()
        image = torch.empty(1, 3, *size)
        feature, look = model.feature_net(image), model.look(image)
        flow = torch.empty(1, 2, *feature.shape[2:])
    light, correction, quality = look.light, model.correction, model.quality

    def correct() -> None:
        if correction is not None and light is not None:
            correction(feature, flow, light, light.middle)

    def judge() -> None:
        if quality is not None and light is not None:
            quality(feature, flow, light.middle, light.middle)

    return PartCost(
        feature=gmac_of(lambda: model.feature_net(image)),
        light=gmac_of(lambda: model.look(image)),
        flow=gmac_of(lambda: model.estimate_flow(look, look)) if model.flow_net is not None else 0.0,
        correction=gmac_of(correct),
        head=gmac_of(lambda: model.scores(feature, look)) if 'segmentation' in spec.tasks else 0.0,
        detection=gmac_of(lambda: model.detect(feature, look)) if 'detection' in spec.tasks else 0.0,
        quality=gmac_of(judge),
    )


def stage_gmac(
    spec: ModelSpec,
    size: tuple[int, int],
    flow: str = 'bundle',
    correction: bool = True,
    tasks: Sequence[str] = TASKS,
) -> StageCost:
    """10^9 multiply-adds of `extract`, `propagate` and the heads of `tasks`, with the settings `flow` and
    `correction`.

    The light net runs on key frames and on others, where the settings leave anything that takes its
    features. Hand-made flow counts as 0.
    """
    use, parts = GraphUse.of(spec, DffConfig(flow=flow, correction=correction)), part_gmac(spec, size)
    light = parts.light if use.is_looking else 0.0
    own_flow = 0.0 if use.flow in HAND_MADE_FLOWS else parts.flow
    return StageCost(
        extract=parts.feature + light,
        propagate=light + own_flow + (parts.correction if use.is_correcting else 0.0) + parts.quality,
        predict=parts.heads(tasks),
    )


def _feature_net(name: str, channels: int) -> nn.Module:
    options = {} if name == 'resnet18' else {'stride_in_1x1': True}
    return make_feature_net(name, channels, **options)
