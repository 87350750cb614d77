# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Settings of the simulated street as a video set; apart from it, so that flags need no OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.config import Validated, param


@dataclass(frozen=True, kw_only=True)
class StreetVideosConfig(Validated):
    """Which streets, how long and how densely labelled."""

    sequences: int = param(8, 'Streets, each a sequence', minimum=1, maximum=1_000_000)
    frames: int = param(120, 'Frames of each', minimum=1, maximum=1_000_000)
    every: int = param(
        1, 'Each frame of such a number is labelled, from the first on', minimum=1, maximum=1_000_000
    )
    height: int = param(360, 'Height of the frames', minimum=32, maximum=4096, unit='px')
    width: int = param(480, 'Width of the frames', minimum=32, maximum=4096, unit='px')
    fps: float = param(30.0, 'Frames per second', minimum=0.1, maximum=1000.0)
    seed: int = param(0, 'Sequence i is the street of this seed + i', minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class RenderConfig(StreetVideosConfig):
    """A data set of streets: `sequences` are those of train, and those of val come after them."""

    val_sequences: int = param(1, 'Further streets, for the split val', minimum=0, maximum=1_000_000)
