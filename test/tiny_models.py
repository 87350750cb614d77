# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Small models with random weights whose label maps show many classes, and moving textures to run them on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dff_ros.bundle import Bundle
from dff_ros.export import write_bundle
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.dff import DffModel
from dff_ros.nets.flownet import FlowNet

CLASS_NAMES = ('sky', 'wall', 'road', 'tree', 'car')


def tiny_spec(flow_source: str = 'dis', **changes: object) -> ModelSpec:
    """ResNet-18 up to stage 4, 16 channels, 96x128."""
    colours = tuple((50 * index, 255 - 50 * index, 128) for index in range(len(CLASS_NAMES)))
    values: dict[str, object] = {
        'class_names': CLASS_NAMES,
        'class_colours': colours,
        'channels': 16,
        'last_stage': 4,
        'flow_source': flow_source,
        'nominal_size': (96, 128),
    }
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]


LIGHT = {'light_channels': 16, 'detail': True, 'correction_channels': 8}
"""Changes to `tiny_spec` that turn on all that the light net serves."""

QUALITY = {**LIGHT, 'quality_channels': 6}
"""The same and a quality net."""

DETECTION: dict[str, object] = {
    'box_class_names': ('car', 'person'),
    'anchor_scales': (0.5, 1.0, 2.0),
    'proposals_before_nms': 300,
    'num_proposals': 30,
    'max_boxes': 25,
}
"""Changes to `tiny_spec` that add a detection head."""
ONLY_DETECTION: dict[str, object] = {**DETECTION, 'class_names': (), 'class_colours': ()}
BOTH: dict[str, object] = {**DETECTION, 'light_channels': 16, 'detail': True, 'detection_channels': 24}
"""Changes that let both heads see the current frame."""


def tiny_model(flow_source: str = 'dis', seed: int = 0, **changes: object) -> DffModel:
    """All weights away from their start values, and class scores balanced over a textured image."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the layers that keep their start values
        model = DffModel(tiny_spec(flow_source, **changes)).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith('running_var'):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif name.endswith('running_mean'):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
            elif value.dim() == 4 and not name.startswith('flow_net.Convolution'):
                gain = 2.0 if name.startswith('flow_net') else 1.0
                value.copy_(torch.randn(value.shape, generator=generator) * (gain / value[0].numel()) ** 0.5)
        if isinstance(model.flow_net, FlowNet):
            _randomise_scale(model.flow_net.Convolution5_scale.weight, generator)
            model.flow_net.Convolution5.weight.mul_(20)
        elif model.flow_net is not None:
            _randomise_scale(model.flow_net.scale.weight, generator)
        if model.quality is not None:
            model.quality.answer.weight.mul_(20)
        image = model.normalise(torch.from_numpy(texture((96, 128), seed)).permute(2, 0, 1)[None])
        if 'segmentation' in model.heads:
            _balance_scores(model, image)
        if 'detection' in model.heads:
            _spread_boxes(model, image)
    return model


def _balance_scores(model: DffModel, image: torch.Tensor) -> None:
    head = model.heads['segmentation']
    scores = model(image)
    for layer in [head.score] if head.detail is None else [head.score, head.detail.score]:
        layer.weight.div_(scores.std((0, 2, 3))[:, None, None, None] / 2)
    head.score.bias.copy_(-model(image).mean((0, 2, 3)) + head.score.bias)


def _spread_boxes(model: DffModel, image: torch.Tensor) -> None:
    """Raw outputs of mean 0 in each channel: scores far apart, small deltas."""
    head = model.heads['detection']
    raw = model.detect(model.feature_net(image), model.look(image))
    for name, values in raw._asdict().items():
        layer, spread = getattr(head, name), 1.0 if name in ('rpn_deltas', 'box_maps') else 6.0
        factor = spread / values.std((0, 2, 3))
        layer.weight.mul_(factor[:, None, None, None])
        layer.bias.copy_(-values.mean((0, 2, 3)) * factor)


def _randomise_scale(weight: torch.Tensor, generator: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)


def write_tiny_bundle(folder: Path, flow_source: str = 'dis', **changes: object) -> Bundle:
    """A bundle of `tiny_model`."""
    return write_bundle(tiny_model(flow_source, **changes).folded(), folder, created_by='a test')


def texture(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Colour noise at several scales, (H, W, 3): everywhere enough structure for optical flow."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3), np.float32)
    for cell in (4, 12, 40):
        coarse = rng.normal(size=(size[0] // cell + 2, size[1] // cell + 2, 3)).astype(np.float32)
        total += cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC) * cell**0.5
    return np.clip(128 + 40 * total / total.std(), 0, 255).astype(np.uint8)


def moving_clip(size: tuple[int, int], num_frames: int, step_xy: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """A window that moves over a still texture by `step_xy` pixels a frame: content moves the other way."""
    margin_y, margin_x = abs(step_xy[1]) * num_frames, abs(step_xy[0]) * num_frames
    canvas = texture((size[0] + margin_y, size[1] + margin_x))
    clip = []
    for index in range(num_frames):
        y = index * step_xy[1] + (margin_y if step_xy[1] < 0 else 0)
        x = index * step_xy[0] + (margin_x if step_xy[0] < 0 else 0)
        clip.append(np.ascontiguousarray(canvas[y : y + size[0], x : x + size[1]]))
    return clip
