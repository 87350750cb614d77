# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The one place that knows how image pixels, network pixels and feature cells relate.

* Source and network image are related by half-pixel centres: `source = (net + 0.5) * N_src / N_net - 0.5`.
* Feature cell i of stride s is centred on network pixel `s * i` (what 7x7/2 pad 3 and 3x3/2 pad 1 convs
  give), so there are `ceil(N_net / s)` cells and network pixel p samples the feature at `p / s`.

Both maps are separable and linear, so they are handed to the graphs as small tap lists and matrices: any
image size works, the graphs stay free of size arithmetic, and torch and ONNX compute the same thing.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ConfigError

_SIZE_MULTIPLE = 8
"""Network sides are rounded to this, so that neighbouring source sizes share buffers."""


def grid_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(height, width) of the feature grid of a network image of `size`."""
    return math.ceil(size[0] / stride), math.ceil(size[1] / stride)


def network_size(source: tuple[int, int], nominal: tuple[int, int]) -> tuple[int, int]:
    """Network image size for a source: the source's shape, the nominal area.

    A bundle is trained at a nominal size; objects keep that scale when the area is kept, and nothing is
    squeezed when the aspect ratio is. The nominal size itself is returned unchanged. Raises ConfigError on a
    side below 1.
    """
    if min(*source, *nominal) < 1:
        raise ConfigError(f'image sizes must be positive, got source {source} and nominal {nominal}')
    if source == nominal:
        return nominal
    scale = math.sqrt(nominal[0] * nominal[1] / (source[0] * source[1]))
    height, width = (max(2, round(side * scale / _SIZE_MULTIPLE)) * _SIZE_MULTIPLE for side in source)
    return height, width


@lru_cache(maxsize=64)
def resample_taps(num_out: int, num_in: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Taps of a 1-D bilinear resize, antialiased when it shrinks (triangle filter as wide as the scale).

    Returns `index_KN` (int64, within 0..num_in-1) and `weight_KN` (float32, columns sum to 1):
    `out[n] = sum_k weight[k, n] * in[index[k, n]]`. Equal sizes give one tap, the identity.
    Half-pixel centres, border clamped by leaving outside taps out and renormalising.
    """
    if min(num_out, num_in) < 1:
        raise ConfigError(f'cannot resize {num_in} to {num_out} pixels: both must be at least 1')
    if num_out == num_in:
        return _frozen(np.arange(num_out, dtype=np.int64)[None], np.ones((1, num_out), np.float32))
    scale = num_in / num_out
    support = max(scale, 1.0)
    centre = (np.arange(num_out) + 0.5) * scale - 0.5
    num_taps = math.ceil(2 * support) + 1
    first = np.ceil(centre - support).astype(np.int64)
    index = first[None] + np.arange(num_taps)[:, None]
    weight = np.clip(1.0 - np.abs(index - centre[None]) / support, 0.0, None)
    weight[(index < 0) | (index >= num_in)] = 0.0
    used = weight.max(axis=1) > 0
    index, weight = np.clip(index[used], 0, num_in - 1), weight[used]
    return _frozen(index, (weight / weight.sum(axis=0)).astype(np.float32))


@lru_cache(maxsize=64)
def upsample_taps(num_out: int, num_net: int, stride: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where output pixels lie between cells: the two cells (2, num_out) and the weight of each.

    Output pixel y lies on network pixel `(y + 0.5) * num_net / num_out - 0.5` and that on cell `/ stride`,
    clamped to the first and last cell.
    """
    if min(num_out, num_net, stride) < 1:
        raise ConfigError(
            f'cannot upsample: output {num_out}, network {num_net}, stride {stride} must be positive'
        )
    num_cells = math.ceil(num_net / stride)
    pixel = (np.arange(num_out) + 0.5) * num_net / num_out - 0.5
    cell = np.clip(pixel / stride, 0, num_cells - 1)
    low = np.minimum(cell.astype(np.int64), max(num_cells - 2, 0))
    high = np.minimum(low + 1, num_cells - 1)
    fraction = (cell - low).astype(np.float32)
    return _frozen(np.stack([low, high]), np.stack([1 - fraction, fraction]))


@lru_cache(maxsize=64)
def upsample_matrix(num_out: int, num_net: int, stride: int) -> NDArray[np.float32]:
    """`upsample_taps` as a matrix (num_out, ceil(num_net / stride)); rows sum to 1."""
    cells, weights = upsample_taps(num_out, num_net, stride)
    matrix = np.zeros((num_out, math.ceil(num_net / stride)), np.float32)
    for cell, weight in zip(cells, weights, strict=True):
        np.add.at(matrix, (np.arange(num_out), cell), weight)
    matrix.setflags(write=False)
    return matrix


def _frozen(
    index: NDArray[np.int64], weight: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    index.setflags(write=False)  # cached and shared by every caller
    weight.setflags(write=False)
    return index, weight
