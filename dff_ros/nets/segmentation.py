"""The segmentation task: class scores per feature cell, their bilinear upsampling, loss and decoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.types import UNLABELED

_NEW_LAYER_STD = 0.01


class SegmentationHead(nn.Module):
    """1x1 conv from a feature (B, channels, h, w) to class scores (B, num_classes, h, w) at the feature grid.

    `num_classes` is what the data labels, a background class included if it has one (the paper's C + 1).
    Raises ConfigError on fewer than 1 channel, fewer than 2 classes or more than 255.
    """

    task = 'segmentation'

    def __init__(self, channels: int, num_classes: int) -> None:
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

    def forward(self, feature: Tensor) -> Tensor:
        """Class scores before the softmax, at the feature grid."""
        scores: Tensor = self.score(feature)
        return scores

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
    def decode(planes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """One plane of scores for each class -> class ids and confidences, uint8 of the planes' shape.

        Confidence is 255 x the softmax probability of the class, rounded. The first of equal scores wins.
        """
        # One class plane at a time and a running maximum: arg-max and softmax over the leading axis of one
        # large array take twice as long in ONNX Runtime and ten times in torch.
        best, label = planes[0], torch.zeros_like(planes[0], dtype=torch.uint8)
        for index, plane in enumerate(planes[1:], start=1):
            label = torch.where(
                plane > best, torch.tensor(index, dtype=torch.uint8, device=plane.device), label
            )
            best = torch.maximum(best, plane)
        total = torch.exp(planes[0] - best)
        for plane in planes[1:]:
            total = total + torch.exp(plane - best)
        return label, torch.round(255.0 / total).to(torch.uint8)


def upsample_scores(scores_BKhw: Tensor, row_matrix_Hh: Tensor, col_matrix_wW: Tensor) -> Tensor:
    """Scores at the pixels of an image of any size, (B, K, H, W), interpolated bilinearly.

    Two matrix products do it: faster on a CPU than resizing a small grid, and the same in ONNX.
    `row_matrix_Hh` is `geometry.upsample_matrix(H, ...)`, `col_matrix_wW` the transposed one of the width.
    """
    return row_matrix_Hh @ (scores_BKhw @ col_matrix_wW)
