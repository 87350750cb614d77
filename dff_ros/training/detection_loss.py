# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The loss of the detection head: proposals and final boxes (R-FCN, Dai et al., NeurIPS 2016).

Nothing is drawn at random, so that runs are exactly repeatable: where the paper's code draws 256 anchors,
this is the mean over all such draws, and online hard example mining (Shrivastava et al., CVPR 2016) picks the
proposals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from dff_ros.nets.boxes import is_inside
from dff_ros.nets.dff import DffModel
from dff_ros.nets.light import LightFeatures
from dff_ros.nets.looking import Look
from dff_ros.nets.rfcn import DetectionHead, RawDetection
from dff_ros.training.box_targets import (
    RoiTargets,
    Truth,
    anchor_targets,
    is_within,
    roi_targets,
)

_NUM_ANCHORS, _MOST_OBJECT_ANCHORS = 256, 128
_NUM_HARD = 128
_RPN_BETA, _BOX_BETA = 1 / 9, 1.0
"""Where smooth L1 becomes linear: sigma 3 and 1."""
_CONFIDENT = 0.5

NAMES = ('proposal', 'proposal_box', 'box_class', 'box')
"""The terms: objectness and edges of proposals, class and edges of boxes."""


def detection_terms(
    head: DetectionHead, raw: RawDetection, truths: Sequence[Truth], size: tuple[int, int]
) -> dict[str, Tensor]:
    """Sum of each term over the images that `raw` is of, (height, width) pixels each.

    What the model itself takes for an object of a class that nobody looked for is not learnt as background.
    """
    device = raw.rpn_scores.device
    network_size = torch.tensor(size, dtype=torch.float32, device=device)
    anchors = head.anchors((raw.rpn_scores.shape[2], raw.rpn_scores.shape[3]))
    inside = is_inside(anchors, network_size)
    logits, deltas = head.objectness(raw), head.anchor_deltas(raw)
    proposals = head.proposals(raw, network_size)
    rows: list[dict[str, Tensor]] = []
    for image, truth in enumerate(truths):
        rois = torch.cat((proposals.boxes[image], truth.boxes))
        is_valid = F.pad(proposals.is_valid[image], (0, len(truth.boxes)), value=True)
        one = RawDetection(*(maps[image : image + 1] for maps in raw))
        scores, box_deltas = (found[0] for found in head.pool(one, rois[None]))
        truth = truth._replace(ignored=torch.cat((truth.ignored, _unlooked_for(rois, scores, truth))))
        rows.append(
            {
                **_proposal_terms(anchors, inside, logits[image], deltas[image], truth),
                **_box_terms(scores, box_deltas, roi_targets(rois, is_valid, truth), truth.is_known),
            }
        )
    return {name: torch.stack([row[name] for row in rows]).sum() for name in NAMES}


@torch.no_grad()
def _unlooked_for(rois: Tensor, scores: Tensor, truth: Truth) -> Tensor:
    """Proposals that the model takes for classes that nobody looked for, away from known objects."""
    if bool(truth.is_known.all()):
        return rois[:0]
    share = (scores.softmax(-1)[:, 1:] * ~truth.is_known).sum(-1)
    is_one = (share > _CONFIDENT) & ~is_within(rois, truth.boxes)
    return rois[is_one]


def _proposal_terms(
    anchors: Tensor, inside: Tensor, logits: Tensor, deltas: Tensor, truth: Truth
) -> dict[str, Tensor]:
    targets = anchor_targets(anchors, inside, truth)
    num_objects = targets.is_object.sum().clamp(max=_MOST_OBJECT_ANCHORS)
    num_background = torch.minimum(targets.is_background.sum(), _NUM_ANCHORS - num_objects)
    num = (num_objects + num_background).clamp(min=1)
    objects, background = (
        _mean(F.softplus(sign * logits), chosen)
        for sign, chosen in ((-1, targets.is_object), (1, targets.is_background))
    )
    edges = F.smooth_l1_loss(deltas, targets.deltas, reduction='none', beta=_RPN_BETA).sum(-1)
    return {
        'proposal': (num_objects * objects + num_background * background) / num,
        'proposal_box': num_objects * _mean(edges, targets.is_object) / _NUM_ANCHORS,
    }


def _box_terms(scores: Tensor, deltas: Tensor, targets: RoiTargets, is_known: Tensor) -> dict[str, Tensor]:
    """Means over the hardest proposals."""
    is_possible = F.pad(is_known, (1, 0), value=True)
    scores = scores.float().masked_fill(~is_possible, -torch.inf)
    class_cost = F.cross_entropy(scores, targets.labels, reduction='none')
    edges = F.smooth_l1_loss(deltas, targets.deltas, reduction='none', beta=_BOX_BETA).sum(-1)
    box_cost = torch.where(targets.labels > 0, edges, 0.0)
    with torch.no_grad():
        cost = torch.where(targets.counts, class_cost + box_cost, -1.0)
        hard, number = cost.topk(min(_NUM_HARD, len(cost)))
        is_hard = hard >= 0
    num = is_hard.sum().clamp(min=1)
    return {
        name: torch.where(is_hard, values[number], 0.0).sum() / num
        for name, values in (('box_class', class_cost), ('box', box_cost))
    }


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen ones, 0 without any."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)


class BoxLoss:
    """The terms of a model's detection head on some of the images of a batch."""

    def __init__(self, model: DffModel, autocast: Callable[[], AbstractContextManager[object]]) -> None:
        self._model, self._autocast = model, autocast

    def __call__(
        self, feature: Tensor, look: Look, truths: Sequence[Truth | None], size: tuple[int, int]
    ) -> Tensor:
        """Sum of the terms over the images, of `size` (height, width), that have a truth."""
        numbers = [number for number, truth in enumerate(truths) if truth is not None]
        if not numbers:
            return feature.new_zeros((), dtype=torch.float32)
        light = look.light if look.light is None else LightFeatures(*(x[numbers] for x in look.light))
        with self._autocast():
            raw = self._model.detect(feature[numbers], Look(look.image[numbers], light))
        head = cast(DetectionHead, self._model.heads[DetectionHead.task])
        found = detection_terms(head, raw, [truth for truth in truths if truth is not None], size)
        return torch.stack([*found.values()]).sum()
