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
from dff_ros.nets.flownet import RAW_FLOW_PX

Scales = tuple[tuple[int, float], ...]


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
    height, width = flow_B2HW.shape[-2:]
    rows = torch.from_numpy(cell_matrix(height, stride).copy()).to(flow_B2HW)
    columns = torch.from_numpy(cell_matrix(width, stride).T.copy()).to(flow_B2HW)
    valid = is_valid_BHW[:, None].to(flow_B2HW)
    area = rows.sum(1)[:, None] * columns.sum(0)
    counted = rows @ valid @ columns
    mean = (rows @ (flow_B2HW * valid) @ columns) / counted.clamp_min(1e-6)
    return mean, counted / area


def end_point_error(flow: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean length of the difference of two flows (B, 2, h, w); `weight` is (B, 1, h, w); 0 where it
    is nowhere positive.
    """
    length = torch.linalg.vector_norm(flow - target, dim=1, keepdim=True)
    return (length * weight).sum() / weight.sum().clamp_min(1e-6)


def multi_scale_loss(
    raw_flows: tuple[Tensor, ...], scales: Scales, flow_B2HW: Tensor, is_valid_BHW: Tensor
) -> Tensor:
    """Weighted sum over the `scales` of a flow net of the end-point error in units of RAW_FLOW_PX pixels.

    A cell counts by its valid share. ShapeError where the predictions are not at those scales.
    """
    height, width = flow_B2HW.shape[-2:]
    expected = [(math.ceil(height / stride), math.ceil(width / stride)) for stride, _ in scales]
    got = [tuple(raw_flow.shape[-2:]) for raw_flow in raw_flows]
    if got != expected:
        raise ShapeError(
            f'predictions have sizes {got}, the loss of {width}x{height} pixels takes {expected}'
        )
    loss = flow_B2HW.new_zeros(())
    for raw_flow, (stride, scale_weight) in zip(raw_flows, scales, strict=True):
        target, share = cell_flow(flow_B2HW, is_valid_BHW, stride)
        loss = loss + scale_weight * end_point_error(raw_flow.float(), target / RAW_FLOW_PX, share)
    return loss
