# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How far training samples are changed at random; apart from the transforms, so that flags need no OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.config import Validated, param


@dataclass(frozen=True, kw_only=True)
class ColourConfig(Validated):
    """How far the colours of an image are changed; all zeros leave them as they are."""

    brightness: float = param(
        0.3, 'Brightness is multiplied by 1 - this .. 1 + this', minimum=0.0, maximum=0.9
    )
    contrast: float = param(
        0.3, 'Contrast around the mean grey is multiplied by 1 - this .. 1 + this', minimum=0.0, maximum=0.9
    )
    saturation: float = param(
        0.3, 'Saturation is multiplied by 1 - this .. 1 + this', minimum=0.0, maximum=1.0
    )
    hue: float = param(
        10.0, 'Hue is turned by up to this angle to either side', minimum=0.0, maximum=180.0, unit='degrees'
    )
    gamma: float = param(
        0.25, 'Brightness curve: exponent from 1 / (1 + this) to 1 + this', minimum=0.0, maximum=2.0
    )
    blur: float = param(0.1, 'Probability of a slight blur', minimum=0.0, maximum=1.0)
    noise: float = param(0.1, 'Probability of sensor noise', minimum=0.0, maximum=1.0)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(ColourConfig):
    """How far training samples are changed; all zeros and scales of 1 leave them as they are."""

    scale_min: float = param(0.6, 'Smallest random scale', minimum=0.1, maximum=10.0)
    scale_max: float = param(2.0, 'Largest random scale', minimum=0.1, maximum=10.0)
    flip: float = param(0.5, 'Probability of a left-right flip', minimum=0.0, maximum=1.0)
