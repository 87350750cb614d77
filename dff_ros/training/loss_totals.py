# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the sums of the joint loss are divided by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-6


@dataclass(frozen=True)
class Totals:
    """What sums are divided by: the weights of labelled pixels, cells of the score grid that are no padding
    (in all pairs; in those that move), pairs that move, pairs with boxes, and for each scale of the flow net
    the shares of known flow.
    """

    pixels: Tensor
    all_cells: Tensor
    cells: Tensor
    pairs: Tensor
    boxed: Tensor
    flow_S: Tensor

    def packed(self) -> Tensor:
        """All in one vector."""
        single = torch.stack((self.pixels, self.all_cells, self.cells, self.pairs, self.boxed))
        return torch.cat((single, self.flow_S))

    @classmethod
    def unpacked(cls, vector: Tensor) -> Totals:
        """Back from `packed`; what there is nothing of is a tiny number."""
        vector = vector.clamp_min(TINY)
        return cls(vector[0], vector[1], vector[2], vector[3], vector[4], vector[5:])


def cells_inside(is_inside: Tensor, stride: int) -> Tensor:
    """Whether the middle of each cell (M, h, w) is no padding: 1 or 0."""
    return is_inside[:, ::stride, ::stride].float()
