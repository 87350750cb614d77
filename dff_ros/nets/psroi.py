# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Position-sensitive RoI pooling and vote (R-FCN) as products of matrices.

The mean over a bin is a product of a mean over rows and one over columns. So pooling all bins of all boxes,
and averaging the bins, is one matrix product with the columns' weights and a short sum with the rows': the
same in every runtime, exact, and its gradient needs no scattering.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-6


def pool(maps: Tensor, edges: Tensor, num_bins: int, is_smooth: bool = False) -> Tensor:
    """Maps (B, Q k k, h, w), k = `num_bins`, and boxes (B, N, 4) as edges x1, y1, x2, y2 in cells, cell i
    spanning i to i + 1 -> (B, N, Q): bin (row, column) of a box averages channel (q k + row) k + column over
    itself, and what comes out is the mean of the k k bins.

    The bin takes part with the whole cells that it touches, empty bins with 0 (the paper's). `is_smooth`:
    with the exact mean of the bilinear interpolation between cell centres over the bin (Jiang et al.,
    "Acquisition of Localization Confidence", ECCV 2018), which follows a box that moves less than a cell.
    Computed in single precision; differentiable with respect to the maps.
    """
    weigh = smooth_weights if is_smooth else cell_weights
    edges = edges.detach().float()
    height, width = maps.shape[2:]
    rows = weigh(edges[..., 1], edges[..., 3], height, num_bins)
    columns = weigh(edges[..., 0], edges[..., 2], width, num_bins)
    with torch.autocast(maps.device.type, enabled=False):
        parts = maps.float().unflatten(1, (-1, num_bins, num_bins)).transpose(3, 4)  # (B, Q, k, h, k, w)
        across = parts.flatten(4).flatten(1, 3) @ columns.flatten(2).transpose(1, 2)
        # (B, Q k h, N), summed over columns of bins and cells
        voted = across.unflatten(1, (parts.shape[1], -1)) * rows.flatten(2).transpose(1, 2)[:, None]
        return voted.sum(2).transpose(1, 2) / num_bins**2


def cell_weights(low: Tensor, high: Tensor, num_cells: int, num_bins: int) -> Tensor:
    """Share of each cell in the mean over each bin: (B, N, k, cells) for edges (B, N) of boxes.

    A bin takes the cells from the floor of its start to the ceiling of its end, each alike.
    """
    start, end, cell = _bins(low, high, num_cells, num_bins)
    start, end = start.floor().clamp(0, num_cells), end.ceil().clamp(0, num_cells)
    is_in = (cell >= start) & (cell < end)
    return is_in / (end - start).clamp(min=1)


def smooth_weights(low: Tensor, high: Tensor, num_cells: int, num_bins: int) -> Tensor:
    """The same for the mean, over the bin, of values interpolated between the cells' centres; beyond the
    first and the last one they repeat.
    """
    start, end, cell = _bins(low, high, num_cells, num_bins)
    # Between the centres of cells i - 1 and i the share of all cells from i on rises from 0 to 1.
    from_on = _ramp_integral(end - cell[1:]) - _ramp_integral(start - cell[1:])
    size = end - start
    share = torch.cat((size, from_on), -1) - torch.cat((from_on, torch.zeros_like(size)), -1)
    return share / size.clamp(min=_TINY)


def _bins(low: Tensor, high: Tensor, num_cells: int, num_bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Starts and ends (B, N, k, 1) of the bins and numbers (cells,) of the cells."""
    number = torch.arange(num_bins, device=low.device, dtype=low.dtype)
    step = ((high - low) / num_bins)[..., None]
    start, end = (low[..., None] + (number + shift) * step for shift in (0, 1))
    cell = torch.arange(num_cells, device=low.device, dtype=low.dtype)
    return start[..., None], end[..., None], cell


def _ramp_integral(x: Tensor) -> Tensor:
    """Integral from below of what rises from 0 at -1/2 to 1 at 1/2."""
    return (x + 0.5).clamp(0, 1) ** 2 / 2 + (x - 0.5).clamp(min=0)
