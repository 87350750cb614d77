# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The kernels of nets/fused.py in Triton. Only to be imported where it is installed.

Each reads its inputs once and writes its outputs once, in single precision between; features lie channels
last, so that what one position takes of a neighbour is one run of memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dff_ros.geometry import upsample_matrix
from dff_ros.nets.segmentation import SegmentationHead
from dff_ros.nets.warp import propagate, warp

_MAX_OFFSET = 2**31
_TILE = 2048
"""Elements of the feature that one program writes."""
_WIDTH = 128
"""Pixels of a row that one program writes."""


@triton.jit
def _resample(
    image, row_index, row_weight, col_index, col_weight, scale, offset, out, source_width, width,
    ROW_TAPS: tl.constexpr, COL_TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    y = tl.program_id(0)
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_in = x < width
    red = tl.zeros((BLOCK,), tl.float32)
    green = tl.zeros((BLOCK,), tl.float32)
    blue = tl.zeros((BLOCK,), tl.float32)
    for col_tap in range(COL_TAPS):
        column = tl.load(col_index + x * COL_TAPS + col_tap, mask=is_in, other=0).to(tl.int32)
        col_share = tl.load(col_weight + x * COL_TAPS + col_tap, mask=is_in, other=0.0)
        for row_tap in range(ROW_TAPS):
            row = tl.load(row_index + y * ROW_TAPS + row_tap).to(tl.int32)
            share = col_share * tl.load(row_weight + y * ROW_TAPS + row_tap)
            pixel = image + (row * source_width + column) * 3
            red += share * tl.load(pixel, mask=is_in, other=0).to(tl.float32)
            green += share * tl.load(pixel + 1, mask=is_in, other=0).to(tl.float32)
            blue += share * tl.load(pixel + 2, mask=is_in, other=0).to(tl.float32)
    to = out + (y * width + x) * 3
    dtype = out.dtype.element_ty
    tl.store(to, (red * tl.load(scale) + tl.load(offset)).to(dtype), mask=is_in)
    tl.store(to + 1, (green * tl.load(scale + 1) + tl.load(offset + 1)).to(dtype), mask=is_in)
    tl.store(to + 2, (blue * tl.load(scale + 2) + tl.load(offset + 2)).to(dtype), mask=is_in)


@triton.jit
def _corner(feature, image, x, y, weight, channel, height, width, channels, is_cell, is_channel):
    """What one of four neighbours, at whole (x, y), adds to its position: zero outside of the feature."""
    is_in = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = ((image * height + y) * width + x) * channels
    mask = (is_cell & is_in)[:, None] & is_channel[None, :]
    value = tl.load(feature + place[:, None] + channel[None, :], mask=mask, other=0.0)
    return tl.where(is_in, weight, 0.0)[:, None] * value.to(tl.float32)


@triton.jit
def _propagate(
    feature, flow, scale_map, out, num_cells, height, width, channels,
    flow_image, flow_axis, flow_row, flow_column,
    HAS_SCALE: tl.constexpr, CELLS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    is_cell, is_channel = cell < num_cells, channel < channels
    column = cell % width
    row = (cell // width) % height
    image = cell // (width * height)
    at = flow + image * flow_image + row * flow_row + column * flow_column
    x = column + tl.load(at, mask=is_cell, other=0.0).to(tl.float32)
    y = row + tl.load(at + flow_axis, mask=is_cell, other=0.0).to(tl.float32)
    # Beyond one cell outside there is nothing, nor where a flow is no number.
    x = tl.where(x == x, tl.maximum(tl.minimum(x, width + 1.0), -2.0), -2.0)
    y = tl.where(y == y, tl.maximum(tl.minimum(y, height + 1.0), -2.0), -2.0)
    left, top = tl.floor(x), tl.floor(y)
    to_right, to_bottom = x - left, y - top
    x0, y0 = left.to(tl.int32), top.to(tl.int32)
    total = tl.zeros((CELLS, CHANNELS), tl.float32)
    for corner in tl.static_range(4):
        x_step, y_step = corner % 2, corner // 2
        weight_x = to_right if x_step else 1 - to_right
        weight_y = to_bottom if y_step else 1 - to_bottom
        total += _corner(
            feature, image, x0 + x_step, y0 + y_step, weight_x * weight_y, channel,
            height, width, channels, is_cell, is_channel,
        )  # fmt: skip
    offset = cell[:, None] * channels + channel[None, :]
    mask = is_cell[:, None] & is_channel[None, :]
    if HAS_SCALE:
        total *= tl.load(scale_map + offset, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _decode(
    scores, row_place, col_place, label_map, confidence, cell_rows, cell_columns, width,
    CLASSES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    y = tl.program_id(0)
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_in = x < width
    row = tl.load(row_place + y)
    top = tl.floor(row)
    down = row - top
    y0 = top.to(tl.int32)
    y1 = tl.minimum(y0 + 1, cell_rows - 1)
    column = tl.load(col_place + x, mask=is_in, other=0.0)
    left = tl.floor(column)
    right = column - left
    x0 = left.to(tl.int32)
    x1 = tl.minimum(x0 + 1, cell_columns - 1)
    best = tl.full((BLOCK,), float('-inf'), tl.float32)
    label = tl.zeros((BLOCK,), tl.int32)
    total = tl.zeros((BLOCK,), tl.float32)
    for index in range(CLASSES):
        plane = scores + index * cell_rows * cell_columns
        above, below = plane + y0 * cell_columns, plane + y1 * cell_columns
        high = tl.load(above + x0) * (1 - right) + tl.load(above + x1) * right
        low = tl.load(below + x0) * (1 - right) + tl.load(below + x1) * right
        score = high * (1 - down) + low * down
        is_better = score > best
        label = tl.where(is_better, index, label)
        best = tl.where(is_better, score, best)
        total += tl.exp(score)
    share = tl.floor(255.0 * tl.exp(best) / total + 0.5)
    share = tl.where(share == share, share, 0.0)
    to = y * width + x
    tl.store(label_map + to, label.to(tl.uint8), mask=is_in)
    tl.store(confidence + to, share.to(tl.int32).to(tl.uint8), mask=is_in)


class TritonKernels:
    """See `Kernels`."""

    def resample(
        self,
        image_HW3: Tensor,
        taps: tuple[Tensor, Tensor, Tensor, Tensor],
        scale_3: Tensor,
        offset_3: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """See Kernels."""
        row_index, row_weight, col_index, col_weight = taps
        height, width = row_index.shape[0], col_index.shape[0]
        out = torch.empty(
            (1, 3, height, width), dtype=dtype, device=image_HW3.device, memory_format=torch.channels_last
        )
        _resample[(height, triton.cdiv(width, _WIDTH))](
            image_HW3.contiguous(), row_index, row_weight, col_index, col_weight, scale_3, offset_3, out,
            image_HW3.shape[1], width,
            ROW_TAPS=row_index.shape[1], COL_TAPS=col_index.shape[1], BLOCK=_WIDTH,
        )  # fmt: skip
        return out

    def propagate(self, feature: Tensor, flow: Tensor, scale_map: Tensor | None) -> Tensor:
        """See Kernels."""
        if feature.numel() >= _MAX_OFFSET:
            return warp(feature, flow) if scale_map is None else propagate(feature, flow, scale_map)
        feature = feature.contiguous(memory_format=torch.channels_last)
        has_scale = scale_map is not None
        scale = scale_map.contiguous(memory_format=torch.channels_last) if scale_map is not None else feature
        batch, channels, height, width = feature.shape
        out = torch.empty_like(feature)
        block = min(triton.next_power_of_2(channels), _TILE // 4)
        cells = _TILE // block
        num_cells = batch * height * width
        _propagate[(triton.cdiv(num_cells, cells), triton.cdiv(channels, block))](
            feature, flow, scale, out, num_cells, height, width, channels, *flow.stride(),
            HAS_SCALE=has_scale, CELLS=cells, CHANNELS=block,
        )  # fmt: skip
        return out

    def decode(
        self, scores_Khw: Tensor, row_matrix_Hh: Tensor, col_matrix_wW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See Kernels."""
        # What is not finite in one cell is so in every pixel, as with the products of matrices.
        scores = (scores_Khw + 0.0 * scores_Khw.sum()).contiguous()
        num_classes, rows, columns = scores.shape
        # A row of a matrix is the shares of two neighbouring cells: its place is their mean.
        row_place = row_matrix_Hh @ torch.arange(rows, dtype=torch.float32, device=scores.device)
        col_place = torch.arange(columns, dtype=torch.float32, device=scores.device) @ col_matrix_wW
        size = len(row_place), len(col_place)
        label_map, confidence = (torch.empty(size, dtype=torch.uint8, device=scores.device) for _ in range(2))
        _decode[(size[0], triton.cdiv(size[1], _WIDTH))](
            scores, row_place, col_place, label_map, confidence, rows, columns, size[1],
            CLASSES=num_classes, BLOCK=_WIDTH,
        )  # fmt: skip
        return label_map, confidence


def check(kernels: TritonKernels, device: torch.device) -> None:
    """Compare them with torch on small inputs, in each precision; RuntimeError where they differ."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        feature, scale, flow = (
            noise(1, 24, 5, 7).to(dtype),
            noise(1, 24, 5, 7).to(dtype),
            3 * noise(1, 2, 5, 7),
        )
        expected = propagate(feature.float(), flow, scale.float())
        found = kernels.propagate(feature, flow, scale).float()
        _compare('warp', found, expected, 4 * torch.finfo(dtype).eps)
    row_matrix = torch.tensor(upsample_matrix(33, 80, 16)).to(device)
    col_matrix = torch.tensor(upsample_matrix(50, 112, 16)).to(device).T.contiguous()
    scores = SegmentationHead.bounded(4 * noise(6, 5, 7))
    wanted = SegmentationHead.decode(list((row_matrix @ (scores @ col_matrix)).unbind(0)))
    found_maps = kernels.decode(scores, row_matrix, col_matrix)
    _compare('labels', (found_maps[0] == wanted[0]).float().mean(), torch.ones((), device=device), 0.01)
    _compare('confidence', found_maps[1].float(), wanted[1].float(), 1.0)
    image = (255 * torch.rand((10, 9, 3), generator=generator)).to(torch.uint8).to(device)
    taps = _taps(10, device), _taps(9, device)
    scale_3, offset_3 = noise(3), noise(3)
    resampled = kernels.resample(image, (*taps[0], *taps[1]), scale_3, offset_3, torch.float32)
    _compare('resize', resampled[0].permute(1, 2, 0), image * scale_3 + offset_3, 1e-3)


def _taps(number: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of a resize to the same size: the pixel itself, twice at half weight."""
    index = torch.arange(number, device=device)[:, None].expand(number, 2).contiguous()
    return index, torch.full((number, 2), 0.5, device=device)


def _compare(name: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
        raise RuntimeError(f'the kernel of {name} is off by {float((found - expected).abs().max())}')
