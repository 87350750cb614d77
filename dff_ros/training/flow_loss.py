# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Multi-scale end-point error, the loss of FlowNet.

Dosovitskiy et al., "FlowNet: Learning Optical Flow with Convolutional Networks", ICCV 2015.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.errors import ShapeError
from dff_ros.nets.flownet import RAW_FLOW_PX, Scales

_TINY = 1e-6


@lru_cache(maxsize=64)
def cell_matrix(num_pixels: int, stride: int) -> NDArray[np.float32]:
    """Matrix (ceil(num_pixels / stride), num_pixels) that sums pixels over cells along one axis.

    Cell i takes the pixels within stride / 2 of pixel stride * i, those at that very distance by half: a mean
    with these weights is that of the cell's middle for any linear flow, away from the border.
    """
    centre = stride * np.arange(math.ceil(num_pixels / stride))
    distance = np.abs(np.arange(num_pixels) - centre[:, None])
    matrix: NDArray[np.float32] = np.clip(0.5 + 0.5 * stride - distance, 0, 1).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def cell_flow(flow_B2HW: Tensor, is_valid_BHW: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Mean flow of each cell over its valid pixels, (B, 2, h, w) in pixels (0 without any), and the valid
    share of its window within the image, (B, 1, h, w).
    """
    rows, columns = _cell_matrices(flow_B2HW, stride)
    valid = is_valid_BHW[:, None].to(flow_B2HW)
    counted = rows @ valid @ columns
    mean = (rows @ (flow_B2HW * valid) @ columns) / counted.clamp_min(_TINY)
    return mean, counted / (rows.sum(1)[:, None] * columns.sum(0))


def valid_share(is_valid_BHW: Tensor, stride: int) -> Tensor:
    """The second of what `cell_flow` gives."""
    valid = is_valid_BHW[:, None].float()
    rows, columns = _cell_matrices(valid, stride)
    return (rows @ valid @ columns) / (rows.sum(1)[:, None] * columns.sum(0))


def _cell_matrices(pixels: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """(h, H) and (W, w) for maps of that size (..., H, W)."""
    rows, columns = (torch.from_numpy(cell_matrix(side, stride).copy()) for side in pixels.shape[-2:])
    return rows.to(pixels), columns.T.to(pixels)


def end_point_error(flow: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean length of the difference of two flows (B, 2, h, w); `weight` is (B, 1, h, w); 0 where it
    is nowhere positive.
    """
    return summed_error(flow, target, weight) / weight.sum().clamp_min(_TINY)


def summed_error(flow: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """What `end_point_error` divides by the sum of the weights."""
    length = torch.linalg.vector_norm(flow - target, dim=1, keepdim=True)
    return (length * weight).sum()


def scale_totals(scales: Scales, is_valid_BHW: Tensor) -> Tensor:
    """What `multi_scale_loss` divides the error of each scale by: the cells' valid shares, summed; (S,)."""
    return torch.stack([valid_share(is_valid_BHW, stride).sum() for stride, _ in scales])


def multi_scale_loss(
    raw_flows: tuple[Tensor, ...],
    scales: Scales,
    flow_B2HW: Tensor,
    is_valid_BHW: Tensor,
    totals_S: Tensor | None = None,
) -> Tensor:
    """Weighted sum over the `scales` of a flow net of the end-point error in units of RAW_FLOW_PX pixels.

    A cell counts by its valid share; `totals_S` are the sums of all shares where this batch is only a part of
    what is averaged over. ShapeError where the predictions are not at those scales.
    """
    height, width = flow_B2HW.shape[-2:]
    expected = [(math.ceil(height / stride), math.ceil(width / stride)) for stride, _ in scales]
    got = [tuple(raw_flow.shape[-2:]) for raw_flow in raw_flows]
    if got != expected:
        raise ShapeError(
            f'predictions have sizes {got}, the loss of {width}x{height} pixels takes {expected}'
        )
    loss = flow_B2HW.new_zeros(())
    for index, (raw_flow, (stride, scale_weight)) in enumerate(zip(raw_flows, scales, strict=True)):
        target, share = cell_flow(flow_B2HW, is_valid_BHW, stride)
        total = share.sum() if totals_S is None else totals_S[index]
        error = summed_error(raw_flow.float(), target / RAW_FLOW_PX, share)
        loss = loss + scale_weight * error / total.clamp_min(_TINY)
    return loss
