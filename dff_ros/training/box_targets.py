# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the detection head should have said: boxes assigned to anchors and to proposals.

Ren et al., "Faster R-CNN", NeurIPS 2015, for anchors; Girshick, "Fast R-CNN", ICCV 2015, for proposals.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dff_ros.nets.boxes import area, encode, iou
from dff_ros.nets.rfcn import BOX_STD, RPN_STD

_ANCHOR_OBJECT, _ANCHOR_BACKGROUND = 0.7, 0.3
_ROI_OBJECT = 0.5
_IGNORED_SHARE = 0.5
"""What lies in something ignored with more of its area is no background."""
_TINY = 1e-6


class Truth(NamedTuple):
    """The objects of an image: `boxes` (N, 4) in pixels of the network image, `class_ids` (N,) of the box
    classes, areas to ignore (M, 4), and which of the K classes somebody looked for, `is_known` (K,).
    """

    boxes: Tensor
    class_ids: Tensor
    ignored: Tensor
    is_known: Tensor


class AnchorTargets(NamedTuple):
    """`is_object`, `is_background` (A,): neither is left out; `deltas` (A, 4) of the objects."""

    is_object: Tensor
    is_background: Tensor
    deltas: Tensor


class RoiTargets(NamedTuple):
    """`labels` (R,): 0 background, else 1 + class id; `counts` (R,): False is left out; `deltas` (R, 4) of
    the objects.
    """

    labels: Tensor
    counts: Tensor
    deltas: Tensor


@torch.no_grad()
def anchor_targets(anchors: Tensor, is_inside: Tensor, truth: Truth) -> AnchorTargets:
    """Of anchors (A, 4), those within the image, `is_inside` (A,): an object's are the ones that overlap it
    best or by at least 0.7, background those that overlap every object by less than 0.3.
    """
    overlap = _overlap(anchors, truth.boxes) * is_inside[:, None]
    best, number = overlap.max(1)
    best_of_object = overlap[:, 1:].amax(0)
    is_best = ((overlap[:, 1:] == best_of_object) & (best_of_object > _TINY)).any(1)
    is_object = is_inside & ((best >= _ANCHOR_OBJECT) | is_best)
    is_background = is_inside & ~is_object & (best < _ANCHOR_BACKGROUND)
    is_background &= ~is_within(anchors, truth.ignored)
    return AnchorTargets(is_object, is_background, encode(anchors, _matched(anchors, truth, number), RPN_STD))


@torch.no_grad()
def roi_targets(rois: Tensor, is_valid: Tensor, truth: Truth) -> RoiTargets:
    """Of proposals (R, 4), those that are any, `is_valid` (R,): an object's are those that overlap it by at
    least 0.5, all others are background.
    """
    best, number = _overlap(rois, truth.boxes).max(1)
    is_object = is_valid & (best >= _ROI_OBJECT)
    class_ids = torch.cat((truth.class_ids.new_zeros(1), truth.class_ids + 1))
    labels = torch.where(is_object, class_ids[number], 0)
    counts = is_object | (is_valid & ~is_within(rois, truth.ignored))
    return RoiTargets(labels, counts, encode(rois, _matched(rois, truth, number), BOX_STD))


def is_within(boxes: Tensor, regions: Tensor) -> Tensor:
    """Which boxes (N,) have more than half of their area in one of the regions (M, 4)."""
    if not len(regions):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    first = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    last = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    common = area(torch.cat((first, last), -1))
    return (common > _IGNORED_SHARE * area(boxes)[:, None].clamp(min=_TINY)).any(1)


def _overlap(boxes: Tensor, objects: Tensor) -> Tensor:
    """IoU (N, 1 + M); the first column, of no object, is 0."""
    return torch.cat((boxes.new_zeros(len(boxes), 1), iou(boxes, objects)), 1)


def _matched(boxes: Tensor, truth: Truth, number: Tensor) -> Tensor:
    """The object of each box; itself where it has none."""
    if not len(truth.boxes):
        return boxes
    return torch.where((number > 0)[:, None], truth.boxes[(number - 1).clamp(min=0)], boxes)
