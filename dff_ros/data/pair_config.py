# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How pairs of frames are drawn; apart from the sampler, so that flags need no data set."""

from __future__ import annotations

from dataclasses import dataclass

from dff_ros.config import Validated, param


@dataclass(frozen=True, kw_only=True)
class PairConfig(Validated):
    """The paper's pairs by default: a labelled frame, and a key frame 0 to 9 frames before it."""

    max_offset: int = param(
        9, 'The key frame is 0 to this many spacings before the current one', minimum=0, maximum=1000
    )
    spacing: int = param(1, 'Frames of one spacing', minimum=1, maximum=10_000, unit='frames')
    spacing_s: float = param(
        0.0, 'Length of one spacing; 0: it is counted in frames', minimum=0.0, maximum=3600.0, unit='s'
    )
    max_gap_s: float = param(
        1.5,
        'The key frame is at most so long before the current one, whatever the spacing; 0: no limit',
        minimum=0.0,
        maximum=3600.0,
        unit='s',
    )
    same: float = param(
        1.0,
        'How often the current frame is its own key frame, against 1 for each other one',
        minimum=0.0,
        maximum=1000.0,
    )
    independent_colour: bool = param(
        False, 'Colours of current and key frame are changed independently, not alike'
    )
