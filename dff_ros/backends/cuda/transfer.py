# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Between numpy and a CUDA device, through page-locked memory, in the order of the current stream.

The memory is torch's own: its host allocator hands a block out again once the copies that used it are done,
so after the first frames none is locked or freed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dff_ros.backends.runner import Array
from dff_ros.nets.precision import widened

_SLICE = 1 << 20
"""Bytes of an upload that begins while the next are still copied to page-locked memory."""

with warnings.catch_warnings():  # torch warns of read-only memory, once; nothing here writes to its inputs
    warnings.simplefilter('ignore')
    _read_only = np.zeros(1)
    _read_only.setflags(write=False)
    torch.from_numpy(_read_only)


def shared(array: Array) -> Tensor:
    """The memory of an array as a tensor on the CPU; only to be read."""
    return torch.from_numpy(array)


def upload(array: Array, device: torch.device) -> Tensor:
    """A copy on the device; returns before it is there. The array may be written to at once."""
    source = shared(array).contiguous()
    locked = torch.empty_like(source, pin_memory=device.type == 'cuda')
    target = torch.empty_like(source, device=device)
    # On one axis, else the rows of a wide image would be more slices than a narrow one's.
    flat = source.reshape(-1), locked.view(-1), target.view(-1)
    size = max(_SLICE // source.element_size(), 1)
    for part, locked_part, target_part in zip(*(whole.split(size) for whole in flat), strict=True):
        locked_part.copy_(part)
        target_part.copy_(locked_part, non_blocking=True)
    return target


def download(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies on the CPU, in at least single precision; there once what the stream has to do is done."""
    wide = [widened(tensor) if tensor.is_floating_point() else tensor for tensor in tensors]
    return [
        torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda).copy_(
            tensor, non_blocking=True
        )
        for tensor in wide
    ]
