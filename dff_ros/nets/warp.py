# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Feature warping and propagation (the paper's equations 1 to 3).

The grid convention, for the whole project:

* Position (x, y) of a grid counts cells from 0; cell i of a feature of stride s is centred on network-image
  pixel s * i, so an image pixel p lies on position p / s and a flow of d image pixels is d / s cells.
* Flow is backward, current -> key, (B, 2, h, w), x then y, in cells of its own grid: what is at p in the
  current frame was at p + flow(p) in the key frame.
* Outside of the grid a feature is zero.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(feature: Tensor, flow: Tensor) -> Tensor:
    """Equation (1): the key feature (B, C, h, w), bilinearly sampled at p + flow(p); zeros outside.

    `flow` is (B, 2, h, w). Differentiable with respect to both. Positions are computed in at least float32.
    """
    grid = _sampling_grid(flow, feature.shape[-2], feature.shape[-1])
    source = feature.to(grid.dtype)
    warped = F.grid_sample(source, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
    return warped.to(feature.dtype)


def coverage(flow: Tensor) -> Tensor:
    """The share of each cell's bilinear weight that lies inside the key frame: (B, 1, h, w), 0..1.

    The bilinear kernel is a product of one per axis, and so is what it has inside: min(x + 1, w - x), within
    0..1.
    """
    x, y = _positions(flow)
    height, width = flow.shape[-2], flow.shape[-1]
    inside_x = torch.minimum(x + 1, width - x).clamp(0, 1)
    inside_y = torch.minimum(y + 1, height - y).clamp(0, 1)
    return (inside_x * inside_y).unsqueeze(1).to(flow.dtype)


def propagate(feature: Tensor, flow: Tensor, scale_map: Tensor) -> Tensor:
    """Equation (3): the warped key feature times the scale map, element by element."""
    return warp(feature, flow) * scale_map


def _positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """x and y, each (B, h, w), that a flow points to."""
    # Half precision could not tell the cells of a wide grid apart.
    flow = flow.float() if flow.dtype.itemsize < 4 else flow
    height, width = flow.shape[-2], flow.shape[-1]
    column = torch.arange(width, device=flow.device, dtype=flow.dtype)
    row = torch.arange(height, device=flow.device, dtype=flow.dtype)
    return flow[:, 0] + column, flow[:, 1] + row[:, None]


def _sampling_grid(flow: Tensor, height: int, width: int) -> Tensor:
    # With align_corners=False, -1 and 1 are the outer edges of the border cells: position x is (2x + 1) /
    # width - 1, defined for one cell too, where aligned corners would divide by zero.
    x, y = _positions(flow)
    return torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
