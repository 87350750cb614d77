"""The three graphs of a bundle: what torch runs and what is exported to ONNX, with pre- and post-processing
inside.

Sizes never appear in them. The caller hands in the resize of the image as taps (`geometry.resample_taps`,
transposed: for each output row or column its K source indices and weights) and that of the scores as two
matrices (`geometry.upsample_matrix`), so every axis but the channels is dynamic. Operators and their order
were chosen by timing both runtimes on the CPU.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from dff_ros.errors import ConfigError
from dff_ros.nets.dff import DffModel
from dff_ros.nets.segmentation import SegmentationHead
from dff_ros.nets.warp import coverage, warp

TAP_NAMES = ('row_index', 'row_weight', 'col_index', 'col_weight')


class _Resample(nn.Module):
    """uint8 image (H, W, 3) and taps -> normalised network image (1, 3, h, w). Rows first: they are
    contiguous.
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
        # A product of each output's weights with its gathered lines: several times faster than a weighted sum
        # of slices, because nothing of the size of the source is written as float.
        lines_hKx = image_HW3.flatten(1)[row_index_hK].float()
        rows_h1x = torch.matmul(row_weight_hK.unsqueeze(1), lines_hKx)
        planes_Wx = rows_h1x.reshape(rows_h1x.shape[0], -1, 3).permute(1, 2, 0).flatten(1)
        columns_w1x = torch.matmul(col_weight_wK.unsqueeze(1), planes_Wx[col_index_wK])
        image_3hw = columns_w1x.reshape(columns_w1x.shape[0], 3, -1).permute(1, 2, 0)
        return self.model.normalise(image_3hw.unsqueeze(0))


class ExtractGraph(nn.Module):
    """Source image and taps -> feature (1, C, gh, gw); with a flow net also the normalised network image."""

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.resample = _Resample(model)
        self.model = model

    def forward(
        self, image: Tensor, row_index: Tensor, row_weight: Tensor, col_index: Tensor, col_weight: Tensor
    ) -> tuple[Tensor, ...]:
        normalised = self.resample(image, row_index, row_weight, col_index, col_weight)
        feature = self.model.feature_net(normalised)
        return (feature,) if self.model.flow_net is None else (feature, normalised)


class WarpGraph(nn.Module):
    """Hand-made flow, scale map 1: feature (1, C, gh, gw), flow (1, 2, gh, gw) in cells -> feature, validity
    (gh, gw).
    """

    def forward(self, feature: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        return warp(feature, flow), coverage(flow)[0, 0]


class PropagateGraph(nn.Module):
    """Equation (3) with the model's flow net: current source image and taps, the key frame's normalised image
    and
    feature -> feature, validity (gh, gw), flow (1, 2, gh, gw) in cells."""

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        if model.flow_net is None:
            raise ConfigError(f'flow_source {model.spec.flow_source!r} has no flow net: use WarpGraph')
        self.resample = _Resample(model)
        self.flow_net = model.flow_net

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
        current = self.resample(image, row_index, row_weight, col_index, col_weight)
        flow, scale_map = self.flow_net(current, key_image)
        return warp(key_feature, flow) * scale_map, coverage(flow)[0, 0], flow


class PredictGraph(nn.Module):
    """Feature (1, C, gh, gw), row matrix (H, gh), column matrix (gw, W) -> label map and confidence, uint8
    (H, W).

    `SegmentationHead.decode` says what they mean.
    """

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.head = cast(SegmentationHead, model.heads['segmentation'])

    def forward(self, feature: Tensor, row_matrix: Tensor, col_matrix: Tensor) -> tuple[Tensor, Tensor]:
        columns = self.head(feature)[0] @ col_matrix
        return self.head.decode([row_matrix @ plane for plane in columns.unbind(0)])
