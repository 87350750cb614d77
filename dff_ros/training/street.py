# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The pairs of the simulated street that a run is trained and measured on."""

from __future__ import annotations

from pathlib import Path

from dff_ros.data.street_pairs import StreetPairs, open_street_pairs
from dff_ros.training.progress import progress_bar

HELD_OUT_STREET = 2**31
"""Added to the seed: no training run has this one."""


def rendered_pairs(
    cache: str | Path,
    num_pairs: int,
    seed: int,
    fps: float,
    max_spacing: int,
    size: tuple[int, int],
    with_boxes: bool = False,
) -> StreetPairs:
    """As `open_street_pairs`, with a progress bar."""
    with progress_bar('rendering the street') as bar:
        return open_street_pairs(
            Path(cache), num_pairs, seed, fps, max_spacing, bar.show, size, with_boxes=with_boxes
        )
