# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A model in half precision: its convolutions, and nothing that tells places or probabilities apart.

Positions, flow, correlation, softmax and boxes stay in single precision: half of it has 11 bits (bfloat16
8), too few for the cells of a wide grid. Single precision spreads by the promotion of types, and is narrowed
where it enters a convolution.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from dff_ros.nets.normalise import NormalisingModel

ModelT = TypeVar('ModelT', bound=NormalisingModel)


def narrow(model: ModelT, dtype: torch.dtype) -> ModelT:
    """The same model, its convolutions in `dtype` and in the memory layout (channels last) in which tensor
    cores take them; `image_dtype` says what its networks then take.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.to(dtype=dtype)
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.image_dtype = dtype
    return model


def narrowed(x: Tensor, like: Tensor) -> Tensor:
    """In the precision of the weights `like` where those are narrower; never widened."""
    return x.to(like.dtype) if like.dtype.itemsize < x.dtype.itemsize else x


def widened(x: Tensor) -> Tensor:
    """In at least single precision."""
    return x.float() if x.dtype.itemsize < 4 else x
