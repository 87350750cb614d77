# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The seam for kernels that do in one pass what torch does in many, on a device that has them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Kernels(Protocol):
    """Each gives what the torch operators beside its call give, but for rounding; none has a gradient."""

    def resample(
        self,
        image_HW3: Tensor,
        taps: tuple[Tensor, Tensor, Tensor, Tensor],
        scale_3: Tensor,
        offset_3: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """uint8 image and the taps of its resize, times `scale_3` plus `offset_3`: (1, 3, h, w), channels
        last.
        """
        ...

    def propagate(self, feature: Tensor, flow: Tensor, scale_map: Tensor | None) -> Tensor:
        """Equation (3), see nets/warp.py; without a scale map equation (1). Channels last."""
        ...

    def decode(
        self, scores_Khw: Tensor, row_matrix_Hh: Tensor, col_matrix_wW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Class ids and confidences, uint8 (H, W), of `bounded` scores, see SegmentationHead. The matrices
        are those of `geometry.upsample_matrix`.
        """
        ...


class Fusable(nn.Module):
    """A module that takes such kernels where it has been given them (`use_kernels`)."""

    kernels: Kernels | None = None


def use_kernels(module: nn.Module, kernels: Kernels) -> None:
    """Let a module and its parts run on `kernels`; they no longer have a gradient, nor can be exported."""
    for part in module.modules():
        if isinstance(part, Fusable):
            part.kernels = kernels
