# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The graphs of a bundle: what torch runs and what is exported to ONNX, with pre- and post-processing inside.

`extract`, `propagate` and the tasks' (nets/task_graphs.py) are those of the paper. A model with a light net
also has `look`, one with a correction branch `correct`, and one with a quality net `quality`, so that a
backend runs what its settings need and no more.

Sizes never appear in them. The caller hands in the resize of the image as taps (`geometry.resample_taps`,
transposed: for each output row or column its K source indices and weights) and that of the scores as two
matrices (`geometry.upsample_matrix`), so every axis but the channels is dynamic. Operators and their order
were chosen by timing both runtimes on the CPU.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from dff_ros.backends.runner import TAP_NAMES
from dff_ros.errors import ConfigError
from dff_ros.nets.correction import Correction
from dff_ros.nets.correlation import CorrelationFlow
from dff_ros.nets.dff import DffModel
from dff_ros.nets.flownet import FlowNet, halve
from dff_ros.nets.fused import Fusable
from dff_ros.nets.light import LightFeatures
from dff_ros.nets.quality import QualityNet
from dff_ros.nets.task_graphs import Graph, task_graphs
from dff_ros.nets.warp import coverage, propagate, warp

IMAGE_INPUTS = ('image', *TAP_NAMES)
"""Inputs of the graphs that take a source image."""


def make_graphs(model: DffModel) -> dict[str, Graph]:
    """The graphs of a model by the names that a bundle gives them (bundle.GRAPHS)."""
    graphs: dict[str, Graph] = {'extract': ExtractGraph(model)}
    if model.flow_net is None:
        graphs['propagate'] = WarpGraph()
    else:
        is_matching = isinstance(model.flow_net, CorrelationFlow)
        graphs['propagate'] = MatchGraph(model) if is_matching else PropagateGraph(model)
        graphs['warp'] = WarpGraph()
    if model.spec.light_outputs:
        graphs['look'] = LookGraph(model)
    if model.correction is not None:
        graphs['correct'] = CorrectGraph(model)
    if model.quality is not None:
        graphs['quality'] = QualityGraph(model)
    return {**graphs, **task_graphs(model)}


class Resample(Fusable):
    """uint8 image (H, W, 3) and taps -> normalised network image (1, 3, h, w), as the networks take it. Rows
    first: they are contiguous.
    """

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        image_HW3: Tensor,
        row_index_hK: Tensor,
        row_weight_hK: Tensor,
        col_index_wK: Tensor,
        col_weight_wK: Tensor,
    ) -> Tensor:
        model = self.model
        if self.kernels is not None:
            taps = row_index_hK, row_weight_hK, col_index_wK, col_weight_wK
            scale, offset = model.pixel_scale.flatten(), model.pixel_offset.flatten()
            return self.kernels.resample(image_HW3, taps, scale, offset, model.image_dtype)
        # A product of each output's weights with its gathered lines: several times faster than a weighted sum
        # of slices, because nothing of the size of the source is written as float.
        lines_hKx = image_HW3.flatten(1)[row_index_hK].float()
        rows_h1x = torch.matmul(row_weight_hK.unsqueeze(1), lines_hKx)
        planes_Wx = rows_h1x.reshape(rows_h1x.shape[0], -1, 3).permute(1, 2, 0).flatten(1)
        columns_w1x = torch.matmul(col_weight_wK.unsqueeze(1), planes_Wx[col_index_wK])
        image_3hw = columns_w1x.reshape(columns_w1x.shape[0], 3, -1).permute(1, 2, 0)
        image = model.normalise(image_3hw.unsqueeze(0))
        if image.dtype == model.image_dtype:
            return image
        return image.to(model.image_dtype, memory_format=torch.channels_last)


def halved(index_nK: Tensor, weight_nK: Tensor) -> tuple[Tensor, Tensor]:
    """Taps of an axis for the means of two neighbours: half as many, rounded up; the last of an odd number is
    its own neighbour. An image that a flow net only takes at half size is never made whole.
    """
    last = index_nK.shape[0] - 1
    first = 2 * torch.arange((last + 2) // 2, device=index_nK.device)
    pairs = torch.stack((first, (first + 1).clamp(max=last)), dim=1)
    return index_nK[pairs].flatten(1), weight_nK[pairs].flatten(1) / 2


class ExtractGraph(Graph):
    """Source image and taps -> feature (1, C, gh, gw), the light features that later steps need, and with a
    flow net of the paper the normalised network image at half size, as the flow net reads it.
    """

    inputs = IMAGE_INPUTS

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.resample = Resample(model)
        self.model = model
        self.has_key_image = not (model.flow_net is None or isinstance(model.flow_net, CorrelationFlow))
        self.outputs = (
            'feature',
            *model.spec.light_outputs,
            *(('normalised',) if self.has_key_image else ()),
        )

    def forward(
        self, image: Tensor, row_index: Tensor, row_weight: Tensor, col_index: Tensor, col_weight: Tensor
    ) -> tuple[Tensor, ...]:
        normalised = self.resample(image, row_index, row_weight, col_index, col_weight)
        feature = self.model.feature_net(normalised)
        light = _light_outputs(self.model, normalised)
        return (feature, *light, halve(normalised)) if self.has_key_image else (feature, *light)


class LookGraph(Graph):
    """Source image and taps -> the light features that later steps need of a current frame."""

    inputs = IMAGE_INPUTS

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.resample = Resample(model)
        self.model = model
        self.outputs = model.spec.light_outputs

    def forward(
        self, image: Tensor, row_index: Tensor, row_weight: Tensor, col_index: Tensor, col_weight: Tensor
    ) -> tuple[Tensor, ...]:
        return _light_outputs(self.model, self.resample(image, row_index, row_weight, col_index, col_weight))


class WarpGraph(Graph):
    """Flow made elsewhere, scale map 1: feature (1, C, gh, gw), flow (1, 2, gh, gw) in cells -> feature,
    validity (gh, gw).
    """

    inputs = ('feature', 'flow')
    outputs = ('warped', 'validity')

    def forward(self, feature: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        warped = self.kernels.propagate(feature, flow, None) if self.kernels else warp(feature, flow)
        return warped, coverage(flow)[0, 0]


class _MovingGraph(Graph):
    """Base of those that end with equation (3)."""

    def propagate(self, key_feature: Tensor, flow: Tensor, scale_map: Tensor) -> Tensor:
        """Equation (3)."""
        move = propagate if self.kernels is None else self.kernels.propagate
        return move(key_feature, flow, scale_map)


class PropagateGraph(_MovingGraph):
    """Equation (3) with a flow net of the paper: current source image and taps, the key frame's halved
    image and feature -> feature, validity (gh, gw), flow (1, 2, gh, gw) in cells.
    """

    inputs = (*IMAGE_INPUTS, 'key_image', 'key_feature')
    outputs = ('propagated', 'validity', 'flow')

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        if model.flow_net is None:
            raise ConfigError(f'flow_source {model.spec.flow_source!r} has no flow net: use WarpGraph')
        self.resample = Resample(model)
        self.flow_net = cast(FlowNet, model.flow_net)

    def forward(
        self,
        image: Tensor,
        row_index: Tensor,
        row_weight: Tensor,
        col_index: Tensor,
        col_weight: Tensor,
        key_image: Tensor,
        key_feature: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        current = self.resample(image, *halved(row_index, row_weight), *halved(col_index, col_weight))
        flow, scale_map = self.flow_net.between(current, key_image)
        return self.propagate(key_feature, flow, scale_map), coverage(flow)[0, 0], flow


class MatchGraph(_MovingGraph):
    """Equation (3) with the correlation flow net: current source image and taps, the key frame's light
    features and feature -> as PropagateGraph, and the current frame's light features that are needed later.
    """

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.look = LookGraph(model)
        self.flow_net = cast(CorrelationFlow, model.flow_net)
        fine = ('key_fine',) if 'fine' in model.spec.matched else ()
        self.inputs = (*IMAGE_INPUTS, 'key_middle', 'key_coarse', 'key_feature', *fine)
        self.outputs = (*PropagateGraph.outputs, *self.look.outputs)

    def forward(
        self,
        image: Tensor,
        row_index: Tensor,
        row_weight: Tensor,
        col_index: Tensor,
        col_weight: Tensor,
        key_middle: Tensor,
        key_coarse: Tensor,
        key_feature: Tensor,
        key_fine: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        light = self.look(image, row_index, row_weight, col_index, col_weight)
        seen = dict(zip(self.look.outputs, light, strict=True))
        nothing = key_middle.new_empty(0)
        current = LightFeatures(seen.get('fine', nothing), seen['middle'], seen['coarse'])
        key = LightFeatures(nothing if key_fine is None else key_fine, key_middle, key_coarse)
        flow, scale_map = self.flow_net(current, key)
        return self.propagate(key_feature, flow, scale_map), coverage(flow)[0, 0], flow, *light


class CorrectGraph(Graph):
    """Warped feature (1, C, gh, gw), flow (1, 2, gh, gw) in cells, light features of the current frame and
    `middle` of the key frame -> feature, and with a quality net the disagreement (gh, gw), 0..1.

    A graph of its own for it would cost a further wake-up of the runtime's threads.
    """

    inputs = ('warped', 'flow', 'middle', 'coarse', 'key_middle')

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.correction = cast(Correction, model.correction)
        self.quality = model.quality
        self.outputs = ('corrected', *(QualityGraph.outputs if self.quality is not None else ()))

    def forward(
        self, warped: Tensor, flow: Tensor, middle: Tensor, coarse: Tensor, key_middle: Tensor
    ) -> tuple[Tensor, ...]:
        # It does not read the fine features: the graph has no input for them.
        current = LightFeatures(middle.new_empty(0), middle, coarse)
        feature, gate, _ = self.correction(warped, flow, current, key_middle)
        if self.quality is None:
            return (feature,)
        return feature, torch.sigmoid(self.quality(feature, flow, middle, key_middle, gate))[0, 0]


class QualityGraph(Graph):
    """Propagated feature (1, C, gh, gw) that was not corrected, flow (1, 2, gh, gw) in cells, `middle` light
    features of both frames -> disagreement (gh, gw), 0..1.
    """

    inputs = ('warped', 'flow', 'middle', 'key_middle')
    outputs = ('disagreement',)

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.quality = cast(QualityNet, model.quality)

    def forward(self, warped: Tensor, flow: Tensor, middle: Tensor, key_middle: Tensor) -> tuple[Tensor]:
        return (torch.sigmoid(self.quality(warped, flow, middle, key_middle))[0, 0],)


def _light_outputs(model: DffModel, image: Tensor) -> tuple[Tensor, ...]:
    light = model.look(image).light
    return () if light is None else tuple(getattr(light, name) for name in model.spec.light_outputs)
