# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The rule of docs/confidence.md where label maps are made: `confidence.ConfidenceRule` on a device."""

from __future__ import annotations

import torch
from torch import Tensor

from dff_ros.nets.task_graphs import Graph
from dff_ros.types import UNLABELED


class FinishGraph(Graph):
    """Label map and confidence of the head, uint8 (H, W); kept share and validity of the feature's cells
    (2, gh, gw); the matrices that upsample them, (H, gh) and (gw, W); `numbers` (258,): the table of
    calibrated probabilities, least validity and least confidence -> the final label map and confidence, the
    sum of the latter and the number of pixels without an answer, int64 (2,).
    """

    inputs = ('label_map', 'confidence', 'cells', 'row_matrix', 'col_matrix', 'numbers')
    outputs = ('final_label_map', 'final_confidence', 'sums')

    def forward(
        self,
        label_map: Tensor,
        confidence: Tensor,
        cells: Tensor,
        row_matrix: Tensor,
        col_matrix: Tensor,
        numbers: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        kept, validity = (row_matrix @ (cells @ col_matrix)).unbind(0)
        table, least_validity, least_confidence = numbers[:256], numbers[256], numbers[257]
        calibrated = table.index_select(0, confidence.flatten().int()).view_as(kept)
        final = (calibrated * kept + 0.5).clamp(min=1).to(torch.uint8)
        is_unknown = (label_map == UNLABELED) | (confidence == 0)
        is_unknown = is_unknown | (final < least_confidence) | (validity < least_validity)
        final = final.masked_fill(is_unknown, 0)
        sums = torch.stack((final.sum(dtype=torch.int64), is_unknown.sum(dtype=torch.int64)))
        return label_map.masked_fill(is_unknown, UNLABELED), final, sums
