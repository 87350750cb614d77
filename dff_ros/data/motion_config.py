# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How far the layers of made image pairs move; apart from the renderer, so that flags need no OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.config import Validated, other_default, param
from dff_ros.data.augment_config import ColourConfig


@dataclass(frozen=True, kw_only=True)
class MotionConfig(Validated):
    """Motion between the two images of a made pair; lengths are in pixels of the made image.

    Each layer's values are drawn up to these, all of them times one speed of 0 to 1 that the layer has: slow
    pairs, as from neighbouring frames, are as frequent as fast ones.
    """

    shift: float = param(40.0, 'Largest shift of the background', minimum=0.0, maximum=1000.0, unit='px')
    zoom: float = param(
        0.25, 'Largest zoom of the background, as the logarithm of the factor', minimum=0.0, maximum=1.0
    )
    rotation: float = param(
        4.0, 'Largest rotation of the background', minimum=0.0, maximum=180.0, unit='degrees'
    )
    perspective: float = param(
        0.15, 'Largest change of scale from the middle to the border', minimum=0.0, maximum=0.3
    )
    bend: float = param(4.0, 'Largest smooth bending of any layer', minimum=0.0, maximum=100.0, unit='px')
    still: float = param(0.05, 'Probability that the background stands still', minimum=0.0, maximum=1.0)
    patches: int = param(6, 'Most patches in front of the background', minimum=0, maximum=100)
    patch_shift: float = param(
        30.0, 'Largest shift of a patch against the background', minimum=0.0, maximum=1000.0, unit='px'
    )
    patch_zoom: float = param(
        0.25, 'Largest zoom of a patch against it, as a logarithm', minimum=0.0, maximum=1.0
    )
    patch_rotation: float = param(
        8.0, 'Largest rotation of a patch against it', minimum=0.0, maximum=180.0, unit='degrees'
    )
    patch_still: float = param(
        0.3, 'Probability that a patch moves with the background', minimum=0.0, maximum=1.0
    )


STILL = MotionConfig(
    shift=0.0,
    zoom=0.0,
    rotation=0.0,
    perspective=0.0,
    bend=0.0,
    patch_shift=0.0,
    patch_zoom=0.0,
    patch_rotation=0.0,
)
"""Nothing moves."""


@dataclass(frozen=True, kw_only=True)
class PairColourConfig(ColourConfig):
    """How far the colours of the two images of a pair are changed, each on its own."""

    brightness: float = other_default(ColourConfig, 'brightness', 0.1)
    contrast: float = other_default(ColourConfig, 'contrast', 0.1)
    saturation: float = other_default(ColourConfig, 'saturation', 0.1)
    hue: float = other_default(ColourConfig, 'hue', 3.0)
    gamma: float = other_default(ColourConfig, 'gamma', 0.1)
    blur: float = other_default(ColourConfig, 'blur', 0.05)
