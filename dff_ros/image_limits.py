# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What images are taken, by size and by the range of 16-bit samples. No numpy: the settings need it."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PIXELS = 8192 * 8192
"""Default of `ImageLimits.max_pixels`."""

MAX_16BIT = 65535
"""Largest sample of a 16-bit encoding, the default of `ImageLimits.white_level`."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is taken, and how 16-bit samples become 8-bit ones: `black_level` and what is below becomes 0,
    `white_level` and what is above 255, linear and rounded between them.

    `max_pixels` is the largest height x width.
    """

    max_pixels: int = MAX_PIXELS
    black_level: int = 0
    white_level: int = MAX_16BIT


DEFAULT_LIMITS = ImageLimits()
