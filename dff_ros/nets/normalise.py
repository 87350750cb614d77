# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Base of the models: their spec, and the images' normalisation that it states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dff_ros.model_spec import ModelSpec


class NormalisingModel(nn.Module):
    """A model of `spec`; `normalise` makes of RGB 0..255 what its networks take, but for the precision:
    `image_dtype` (nets/precision.py).
    """

    image_dtype = torch.float32
    pixel_scale: Tensor
    pixel_offset: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        # (rgb / 255 - mean) / std as one multiplication and one addition; no weights, so not in the state
        # dict.
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer('pixel_scale', (1 / (255 * std)).view(3, 1, 1), persistent=False)
        self.register_buffer('pixel_offset', (-mean / std).view(3, 1, 1), persistent=False)

    def normalise(self, image_B3HW: Tensor) -> Tensor:
        """RGB 0..255 of any dtype -> what the networks take: (rgb / 255 - mean) / std."""
        return image_B3HW.to(self.pixel_scale.dtype) * self.pixel_scale + self.pixel_offset
