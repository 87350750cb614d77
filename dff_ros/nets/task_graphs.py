# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The last graph of a bundle for each task: `predict` for segmentation, `detect` for detection."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from dff_ros.nets.dff import DffModel
from dff_ros.nets.fused import Fusable
from dff_ros.nets.precision import narrowed, widened
from dff_ros.nets.rfcn import DetectionHead
from dff_ros.nets.segmentation import SegmentationHead


class Graph(Fusable):
    """Base of the graphs: `forward` takes `inputs` by name and returns `outputs` in order.

    `is_static`: what it does depends on shapes alone, so that a CUDA graph can repeat it.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_static = True


def task_graphs(model: DffModel) -> dict[str, Graph]:
    """Those of the tasks that a model has, by the names that a bundle gives them (bundle.GRAPHS)."""
    graphs: dict[str, Graph] = {}
    if SegmentationHead.task in model.spec.tasks:
        graphs['predict'] = PredictGraph(model)
    if DetectionHead.task in model.spec.tasks:
        graphs['detect'] = DetectGraph(model)
    return graphs


class PredictGraph(Graph):
    """Feature (1, C, gh, gw), row matrix (H, h), column matrix (w, W), and `fine` light features of the same
    frame if the head takes them -> label map and confidence, uint8 (H, W).

    (h, w) is the grid of the scores. `SegmentationHead.decode` says what the outputs mean.
    """

    outputs = ('label_map', 'confidence')

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.head = cast(SegmentationHead, model.heads['segmentation'])
        self.inputs = ('feature', 'row_matrix', 'col_matrix', *(('fine',) if model.spec.detail else ()))

    def forward(
        self, feature: Tensor, row_matrix: Tensor, col_matrix: Tensor, fine: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        feature = narrowed(feature, self.head.score.weight)
        scores = self.head.bounded(widened(self.head(feature, fine)[0]))
        if self.kernels is not None:
            return self.kernels.decode(scores, row_matrix, col_matrix)
        columns = scores @ col_matrix
        return self.head.decode([row_matrix @ plane for plane in columns.unbind(0)])


class DetectGraph(Graph):
    """Feature (1, C, gh, gw), size of the network image (2,), size of the source image over it (2,), both
    height or y first, `nms_iou` (1,), `score_threshold` (1,), and `middle` light features of the same frame
    if the head takes them -> boxes (max_boxes, 6) in source pixels and their number (1,), int64.

    `DetectionHead.decode` says what the rows are.
    """

    outputs = ('boxes', 'num_boxes')
    is_static = False

    def __init__(self, model: DffModel) -> None:
        super().__init__()
        self.head = cast(DetectionHead, model.heads['detection'])
        light = tuple(name for name in ('middle',) if name in model.spec.head_light)
        self.inputs = ('feature', 'network_size', 'scale', 'nms_iou', 'score_threshold', *light)

    def forward(
        self,
        feature: Tensor,
        network_size: Tensor,
        scale: Tensor,
        nms_iou: Tensor,
        score_threshold: Tensor,
        middle: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        raw = self.head(narrowed(feature, self.head.rpn_scores.weight), middle)
        return self.head.decode(raw, network_size, scale, nms_iou, score_threshold)
