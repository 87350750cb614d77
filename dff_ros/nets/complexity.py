"""Multiply-adds of feature and flow nets and the paper's ratio 1/r (equation 6), counted without any data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dff_ros.errors import ConfigError
from dff_ros.evaluation.speed import StageCost
from dff_ros.geometry import grid_size
from dff_ros.model_spec import HAND_MADE_FLOWS, ModelSpec
from dff_ros.nets.flownet import make_flow_net
from dff_ros.nets.resnet import make_feature_net
from dff_ros.nets.segmentation import SegmentationHead


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
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(*inputs)
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


def stage_gmac(spec: ModelSpec, stride: int, size: tuple[int, int]) -> StageCost:
    """10^9 multiply-adds of a model's feature net, flow net (0 for hand-made flow) and segmentation head.

    `stride`: that of the feature net; `size`: (height, width) of the network image. Warp and upsampling of
    scores are left out, as in equation (6).
    """
    image = (1, 3, *size)
    feature_net = partial(make_feature_net, spec.feature_net, spec.channels, last_stage=spec.last_stage)
    has_flow_net = spec.flow_source not in HAND_MADE_FLOWS
    flow_net = partial(make_flow_net, spec.flow_source, spec.channels)
    feature = (1, spec.channels, *grid_size(size, stride))
    return StageCost(
        extract=count_gmac(feature_net, image),
        propagate=count_gmac(flow_net, image, image) if has_flow_net else 0.0,
        predict=count_gmac(partial(SegmentationHead, spec.channels, spec.num_classes), feature),
    )


def _feature_net(name: str, channels: int) -> nn.Module:
    options = {} if name == 'resnet18' else {'stride_in_1x1': True}
    return make_feature_net(name, channels, **options)
