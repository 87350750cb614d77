# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The detection task: R-FCN (Dai et al., NeurIPS 2016) on the feature that segmentation shares.

One half of the channels proposes boxes (the RPN of Faster R-CNN), the other scores them: k x k maps for each
class, one for each part of an object, are pooled over the proposal's parts and averaged. Nothing but 1x1
convs is computed for all cells, so hundreds of proposals cost little. Boxes are as nets/boxes.py has them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dff_ros.errors import ConfigError
from dff_ros.model_spec import ModelSpec
from dff_ros.nets.boxes import anchor_shapes, area, best, clip, decode, suppress
from dff_ros.nets.light import initialise, leaky
from dff_ros.nets.psroi import pool

RPN_STD = (0.1, 0.1, 0.4, 0.4)
"""What the RPN's box deltas are divided by (`boxes.encode`)."""
BOX_STD = (0.1, 0.1, 0.2, 0.2)
"""The same of the final boxes."""
PROPOSAL_IOU = 0.7
"""Proposals that overlap a better one by more are dropped."""
MIN_SCORE = 1e-4
"""Boxes with a lower probability are none, whatever the threshold asked for."""
RANK_COST = 1e-6
"""What each place among the proposals takes from a score. Small boxes that touch the same cells score the
same but for rounding, and this decides between them, alike in all runtimes.
"""

_STRIDE = 16
_NEW_LAYER_STD = 0.01
_LARGEST = torch.finfo(torch.float32).max


class RawDetection(NamedTuple):
    """What the convs of the head give, A anchors and C classes, B images.

    `rpn_scores` (B, 2 A, h, w): A scores of background, then A of foreground. `rpn_deltas` (B, 4 A, h, w):
    anchor by anchor. `class_maps` (B, (C + 1) k k, h, w): class by class, 0 is background, then row by row
    of the bins. `box_maps` (B, 4 k k, h, w): dx, dy, dw, dh, for all classes alike.
    """

    rpn_scores: Tensor
    rpn_deltas: Tensor
    class_maps: Tensor
    box_maps: Tensor


class Proposals(NamedTuple):
    """`boxes` (B, N, 4) within the image, best first, `logits` (B, N) foreground over background, and which
    rows are any, `is_valid` (B, N); the boxes of others are 0, their logits -inf.
    """

    boxes: Tensor
    logits: Tensor
    is_valid: Tensor


class DetectionHead(nn.Module):
    """Feature (B, channels, h, w) at stride 16 -> boxes, for the box classes of a spec.

    `middle_channels`: those of the light features that the layers before see too (0: none). Order of anchors
    wherever they are in a row: shape by shape, and within row by row of the cells. Raises ConfigError where
    the spec has no box classes.
    """

    task = 'detection'

    def __init__(self, spec: ModelSpec, middle_channels: int = 0) -> None:
        super().__init__()
        if not spec.box_class_names:
            raise ConfigError('a detection head needs box classes: the model has no box_class_names')
        self.spec = spec
        self.num_classes = len(spec.box_class_names)
        shapes = anchor_shapes(spec.anchor_ratios, spec.anchor_scales)
        self.register_buffer('anchor_shapes', shapes, persistent=False)
        width = spec.detection_channels
        self.stem = _Stem(spec.channels, middle_channels, width) if width else None
        half = (width or spec.channels) // 2
        bins = spec.box_bins**2
        self.rpn_scores = _new_layer(half, 2 * len(shapes))
        self.rpn_deltas = _new_layer(half, 4 * len(shapes))
        self.class_maps = _new_layer(half, (self.num_classes + 1) * bins)
        self.box_maps = _new_layer(half, 4 * bins)

    def forward(self, feature: Tensor, middle: Tensor | None = None) -> RawDetection:
        """The convs. `middle`: light features of the same frame, (B, middle_channels, h, w)."""
        x = feature if self.stem is None else self.stem(feature, middle)
        proposing, scoring = x.chunk(2, dim=1)
        return RawDetection(
            self.rpn_scores(proposing),
            self.rpn_deltas(proposing),
            self.class_maps(scoring),
            self.box_maps(scoring),
        )

    def anchors(self, grid: tuple[int, int]) -> Tensor:
        """All anchors (A h w, 4) of a feature grid (h, w); they may reach beyond the image."""
        shapes: Tensor = self.anchor_shapes  # type: ignore[assignment]
        x, y = (torch.arange(num, device=shapes.device, dtype=shapes.dtype) for num in (grid[1], grid[0]))
        cells = torch.stack((x[None].expand(grid), y[:, None].expand(grid)), -1)
        centre, half = cells * _STRIDE + self.spec.cell_centre, shapes[:, None, None] * 0.5
        return torch.cat((centre - half, centre + half), -1).flatten(0, 2)

    def objectness(self, raw: RawDetection) -> Tensor:
        """Logits of foreground over background (B, A h w), in the order of the anchors."""
        background, foreground = raw.rpn_scores.float().chunk(2, dim=1)
        return (foreground - background).flatten(1)

    def anchor_deltas(self, raw: RawDetection) -> Tensor:
        """Deltas (B, A h w, 4), in the order of the anchors."""
        return raw.rpn_deltas.float().unflatten(1, (-1, 4)).movedim(2, -1).flatten(1, 3)

    @torch.no_grad()
    def proposals(self, raw: RawDetection, network_size: Tensor) -> Proposals:
        """The best `num_proposals` boxes after suppression, clipped to the network image (2,); without
        gradient.
        """
        before, logits = self.spec.proposals_before_nms, self.objectness(raw)
        anchors = self.anchors((raw.rpn_scores.shape[2], raw.rpn_scores.shape[3]))
        padding = logits.new_full((logits.shape[0], before), -torch.inf)  # small grids have fewer anchors
        logits, number = best(torch.cat((_or_none(logits), padding), 1), before)
        number = number.clamp(max=anchors.shape[0] - 1)
        deltas = self.anchor_deltas(raw).gather(1, number[..., None].expand(-1, -1, 4))
        boxes = clip(decode(anchors[number], deltas, RPN_STD), network_size)
        logits = torch.where(_is_box(boxes), logits, -torch.inf)
        overlap, lowest = (logits.new_tensor([value]) for value in (PROPOSAL_IOU, -_LARGEST))
        keep = suppress(boxes, logits[:, None], overlap, lowest, self.spec.num_proposals)
        kept = torch.where(keep[:, 0], logits, -torch.inf)
        logits, row = best(kept, min(before, self.spec.num_proposals))
        is_valid = logits > -torch.inf
        boxes = boxes.gather(1, row[..., None].expand(-1, -1, 4))
        return Proposals(torch.where(is_valid[..., None], boxes, 0.0), logits, is_valid)

    def pool(self, raw: RawDetection, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (B, N, C + 1), before the softmax, and deltas (B, N, 4) of boxes (B, N, 4)."""
        # Edges in cells: cell i spans i to i + 1.
        edges = (boxes - self.spec.cell_centre) / _STRIDE + 0.5
        is_smooth = self.spec.box_pooling == 'smooth'
        scores = pool(raw.class_maps, edges, self.spec.box_bins, is_smooth)
        return scores, pool(raw.box_maps, edges, self.spec.box_bins, is_smooth)

    def decode(
        self,
        raw: RawDetection,
        network_size: Tensor,
        scale: Tensor,
        nms_iou: Tensor,
        score_threshold: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Boxes (max_boxes, 6) of one image and their number (1,).

        Rows are x1, y1, x2, y2, score, class id, best first, and zeros after the end. `scale` (2,), y then x,
        multiplies them; `nms_iou` and `score_threshold` are (1,). What is not finite gives no box.
        """
        proposals = self.proposals(raw, network_size)
        logits, deltas = self.pool(raw, proposals.boxes)
        boxes = clip(decode(proposals.boxes, deltas, BOX_STD), network_size)
        is_box = proposals.is_valid & _is_box(boxes) & (logits.abs() <= _LARGEST).all(-1)
        rank = torch.arange(boxes.shape[1], device=boxes.device, dtype=boxes.dtype)[:, None]
        probability = logits.softmax(-1)[..., 1:] - RANK_COST * rank
        scores = torch.where(is_box[..., None], probability, 0.0).transpose(1, 2)
        boxes = torch.where(is_box[..., None], boxes, 0.0)
        threshold = score_threshold.clamp(min=MIN_SCORE)
        keep = suppress(boxes, scores, nms_iou, threshold, self.spec.max_boxes)
        kept = torch.where(keep, scores, 0.0).flatten()
        values, number = best(kept, min(len(kept), self.spec.max_boxes))
        num_rows = boxes.shape[1]
        edges = boxes[0, number % num_rows] * scale[[1, 0, 1, 0]]
        rows = torch.cat((edges, torch.stack((values, (number // num_rows).to(values)), -1)), -1)
        rows = torch.where((values > 0)[:, None], rows, 0.0)
        missing = rows.new_zeros(self.spec.max_boxes - rows.shape[0], 6)
        return torch.cat((rows, missing)), (values > 0).sum(0, keepdim=True)


class _Stem(nn.Module):
    """What detection sees beside the shared feature: the current frame, and the cells around."""

    def __init__(self, channels: int, middle_channels: int, width: int) -> None:
        super().__init__()
        self.feature = nn.Conv2d(channels, width, 1)
        self.middle = nn.Conv2d(middle_channels, width, 1) if middle_channels else None
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        initialise(self)

    def forward(self, feature: Tensor, middle: Tensor | None) -> Tensor:
        x = self.feature(feature)
        if self.middle is not None and middle is not None:
            x = x + self.middle(middle)
        x = leaky(x)
        return leaky(x + self.conv(x))


def _new_layer(num_in: int, num_out: int) -> nn.Conv2d:
    layer = nn.Conv2d(num_in, num_out, 1)
    nn.init.normal_(layer.weight, std=_NEW_LAYER_STD)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _or_none(logits: Tensor) -> Tensor:
    """-inf in place of what is not finite."""
    return torch.where(logits.abs() <= _LARGEST, logits, -torch.inf)


def _is_box(boxes: Tensor) -> Tensor:
    """Which of clipped boxes have an area; false where an edge is NaN."""
    return area(boxes) > 0
