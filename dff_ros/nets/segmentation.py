# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The segmentation task: class scores per feature cell, their bilinear upsampling, loss and decoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.light import double, initialise, leaky
from dff_ros.types import UNLABELED

_NEW_LAYER_STD = 0.01
_DETAIL_WIDTH = 64
_LEAST_SCORE = -110.0
"""Of four cells, the best of one counts at least a quarter: nowhere is every class below -83,
where exp has its last full digits."""


class SegmentationHead(nn.Module):
    """1x1 conv from a feature (B, channels, h, w) to class scores (B, num_classes, h, w) at the feature grid.

    `num_classes` is what the data labels, a background class included if it has one (the paper's C + 1). With
    `detail_channels`, that many channels of the current frame at half the feature's stride sharpen the
    scores, which then have their grid: what a stride of 16 loses (poles, signs, edges) needs no warp.
    Raises ConfigError on fewer than 1 channel, fewer than 2 classes or more than 255.
    """

    task = 'segmentation'

    def __init__(self, channels: int, num_classes: int, detail_channels: int = 0) -> None:
        super().__init__()
        if channels < 1 or not 2 <= num_classes <= UNLABELED:
            raise ConfigError(
                f'a segmentation head takes at least 1 channel and 2 to {UNLABELED} classes, '
                f'not {channels} channels and {num_classes} classes'
            )
        self.channels = channels
        self.num_classes = num_classes
        self.score = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.score.weight, std=_NEW_LAYER_STD)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]
        self.detail = _Detail(channels, detail_channels, num_classes) if detail_channels else None

    def forward(self, feature: Tensor, detail: Tensor | None = None) -> Tensor:
        """Class scores before the softmax, at the feature grid, or at that of `detail`."""
        scores: Tensor = self.score(feature)
        if self.detail is None or detail is None:
            return scores
        return double(scores, detail) + self.detail(feature, detail)

    def loss(self, scores_BKHW: Tensor, target_BHW: Tensor, class_weight_K: Tensor | None = None) -> Tensor:
        """Mean pixel softmax cross entropy; 255 is ignored, a target without a labelled pixel costs 0."""
        # A sum over the pixels of a batch overflows half precision.
        scores = scores_BKHW.float() if scores_BKHW.dtype.itemsize < 4 else scores_BKHW
        target = target_BHW.long()
        weight = None if class_weight_K is None else class_weight_K.to(scores)
        cost = F.cross_entropy(scores, target, weight, ignore_index=UNLABELED, reduction='sum')
        is_labelled = target != UNLABELED
        if weight is None:
            total = is_labelled.sum()
        else:
            total = torch.where(is_labelled, weight[target.where(is_labelled, 0)], 0).sum()
        return cost / total.clamp(min=torch.finfo(scores.dtype).tiny)

    @staticmethod
    def bounded(scores_Khw: Tensor) -> Tensor:
        """Scores less the best of their cell, at least -110: what is interpolated from them has the same
        softmax (classes further below count as that far), and its exponentials neither overflow nor vanish.
        """
        return (scores_Khw - scores_Khw.amax(0, keepdim=True)).clamp(min=_LEAST_SCORE)

    @staticmethod
    def decode(planes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """One plane of scores for each class, interpolated from `bounded` ones -> class ids and confidences,
        uint8 of the planes' shape.

        Confidence is 255 x the softmax probability of the class, rounded. The first of equal scores wins.
        """
        # One class plane at a time and a running maximum: arg-max and softmax over the leading axis of one
        # large array take twice as long in ONNX Runtime and ten times in torch.
        best, label = planes[0], torch.zeros_like(planes[0], dtype=torch.uint8)
        for index, plane in enumerate(planes[1:], start=1):
            label = label.masked_fill(plane > best, index)
            best = torch.maximum(best, plane)
        total = torch.exp(planes[0])
        for plane in planes[1:]:
            total = total + torch.exp(plane)
        return label, torch.round(255.0 * torch.exp(best) / total).to(torch.uint8)


class _Detail(nn.Module):
    """What the fine features add to the scores; nothing at the start."""

    def __init__(self, channels: int, detail_channels: int, num_classes: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(channels, _DETAIL_WIDTH, 1)
        self.fine = nn.Conv2d(detail_channels, _DETAIL_WIDTH, 1)
        self.conv = nn.Conv2d(_DETAIL_WIDTH, _DETAIL_WIDTH, 3, padding=1)
        self.score = nn.Conv2d(_DETAIL_WIDTH, num_classes, 1)
        initialise(self)
        nn.init.zeros_(self.score.weight)

    def forward(self, feature: Tensor, detail: Tensor) -> Tensor:
        x = leaky(double(self.coarse(feature), detail) + self.fine(detail))
        scores: Tensor = self.score(leaky(self.conv(x)))
        return scores


def upsample_scores(scores_BKhw: Tensor, row_matrix_Hh: Tensor, col_matrix_wW: Tensor) -> Tensor:
    """Scores at the pixels of an image of any size, (B, K, H, W), interpolated bilinearly.

    Two matrix products do it: faster on a CPU than resizing a small grid, and the same in ONNX.
    `row_matrix_Hh` is `geometry.upsample_matrix(H, ...)`, `col_matrix_wW` the transposed one of the width.
    """
    return row_matrix_Hh @ (scores_BKhw @ col_matrix_wW)
