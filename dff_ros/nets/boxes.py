# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes: anchors, overlap, encoding, clipping and suppression.

Boxes are (..., 4) edges x1, y1, x2, y2 in pixels of the network image, x right, y down; pixel i spans
[i, i + 1]. Sizes are tensors (2,), height then width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ANCHOR_BASE = 16
"""Side in pixels of an anchor of scale 1 and ratio 1."""

_MAX_GROWTH = 4.135
"""Largest logarithm of a decoded size over its anchor's, 1000 / 16: above it nothing but noise, and no
number of single precision overflows.
"""
_TINY = 1e-9
_CHUNK = 512


def anchor_shapes(ratios: Sequence[float], scales: Sequence[float]) -> Tensor:
    """Widths and heights (A, 2) in pixels, ratio-major; sides of scale 1 are rounded, as in the release."""
    shapes = []
    for ratio in ratios:
        width = round((ANCHOR_BASE**2 / ratio) ** 0.5)
        height = max(1, round(width * ratio))
        shapes += [(max(1, width) * scale, height * scale) for scale in scales]
    return torch.tensor(shapes, dtype=torch.float32)


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...); 0 where an edge lies before its opposite."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of boxes (..., N, 4) and (..., M, 4); 0 with an empty box."""
    a, b = boxes[..., :, None, :], others[..., None, :, :]
    first, last = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    common = area(torch.cat((first, last), -1))
    return common / (area(a) + area(b) - common).clamp(min=_TINY)


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Edges within an image of `size` (2,)."""
    limit = size.to(boxes)[[1, 0, 1, 0]]
    return torch.minimum(boxes.clamp(min=0), limit)


def is_inside(boxes: Tensor, size: Tensor) -> Tensor:
    """Which boxes (...) lie inside of an image of `size` (2,) with all their edges."""
    limit = size.to(boxes)
    return (boxes[..., :2] >= 0).all(-1) & (boxes[..., 2] <= limit[1]) & (boxes[..., 3] <= limit[0])


def encode(anchors: Tensor, boxes: Tensor, std: Sequence[float]) -> Tensor:
    """Deltas (..., 4) that turn anchors, or proposals, into boxes: shift of the centre over the anchor's
    size and logarithm of the growth, x then y, each divided by its `std` (Girshick et al., R-CNN).
    """
    (centre, size), (target_centre, target_size) = _centre_size(anchors), _centre_size(boxes)
    size, target_size = size.clamp(min=_TINY), target_size.clamp(min=_TINY)
    deltas = torch.cat(((target_centre - centre) / size, (target_size / size).log()), -1)
    return deltas / deltas.new_tensor(std)


def decode(anchors: Tensor, deltas: Tensor, std: Sequence[float]) -> Tensor:
    """Back from `encode`: boxes (..., 4). Growth is limited to the 62-fold."""
    centre, size = _centre_size(anchors)
    scaled = deltas * deltas.new_tensor(std)
    new_centre = centre + scaled[..., :2] * size
    half = size * scaled[..., 2:].clamp(max=_MAX_GROWTH).exp() * 0.5
    return torch.cat((new_centre - half, new_centre + half), -1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    first, last = boxes[..., :2], boxes[..., 2:]
    return (first + last) * 0.5, last - first


def best(values: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """The `num` highest of the last axis, from the highest, and their places; of equal ones the first."""
    if torch.compiler.is_exporting():
        return torch.topk(values, num)  # it promises no order of equal ones, that of ONNX does
    order = values.argsort(dim=-1, descending=True, stable=True)[..., :num]
    return values.gather(-1, order), order


def suppress(
    boxes: Tensor, scores: Tensor, iou_threshold: Tensor, score_threshold: Tensor, max_kept: int
) -> Tensor:
    """Non-maximum suppression of each class by itself: which to keep, bool (B, K, N).

    `boxes` (B, N, 4), `scores` (B, K, N), thresholds (1,). From the best score down, a box is kept unless it
    overlaps one that was kept by more than `iou_threshold`; at most `max_kept` of a class, the first of
    equal scores first. A score must be greater than `score_threshold`. In ONNX it is NonMaxSuppression.
    """
    arguments = boxes.detach(), scores.detach(), iou_threshold, score_threshold
    if torch.compiler.is_exporting():
        keep: Tensor = torch.ops.dff_ros.suppress(*arguments, max_kept)
        return keep
    return _suppress(*arguments, max_kept)


def _suppress(
    boxes: Tensor, scores: Tensor, iou_threshold: Tensor, score_threshold: Tensor, max_kept: int
) -> Tensor:
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(scores.shape[0]):
        for number, values in enumerate(scores[image]):
            order = values.argsort(descending=True, stable=True)
            order = order[values[order] > score_threshold]
            kept = _greedy(boxes[image, order], iou_threshold, max_kept)
            keep[image, number, order[kept]] = True
    return keep


def _greedy(boxes: Tensor, iou_threshold: Tensor, max_kept: int) -> Tensor:
    """Numbers of what is kept of boxes (N, 4), best first."""
    kept = torch.zeros(0, dtype=torch.long, device=boxes.device)
    for start, chunk in enumerate(boxes.split(_CHUNK)):
        is_free = ~(iou(chunk, boxes[kept]) > iou_threshold).any(1)
        found = _fixpoint(iou(chunk, chunk) > iou_threshold, is_free)
        kept = torch.cat((kept, found.nonzero()[:, 0] + start * _CHUNK))
        if len(kept) >= max_kept:
            break
    return kept[:max_kept]


def _fixpoint(overlaps: Tensor, is_free: Tensor) -> Tensor:
    """What greedy suppression keeps of the free ones, where (N, N) says which overlap.

    A box is kept if it is free and no kept one before it overlaps it. Of that there is one solution; each
    step makes at least one more of the first ones right.
    """
    before = overlaps.triu(1)
    keep = is_free
    while True:
        found = is_free & ~(before & keep[:, None]).any(0)
        if torch.equal(found, keep):
            return keep
        keep = found


_exported_suppress = torch.library.custom_op(
    'dff_ros::suppress',
    _suppress,
    mutates_args=(),
    schema='(Tensor boxes, Tensor scores, Tensor iou_threshold, Tensor score_threshold, int max_kept) '
    '-> Tensor',
)
_exported_suppress.register_fake(
    lambda boxes, scores, iou_threshold, score_threshold, max_kept: torch.empty_like(scores, dtype=torch.bool)
)
