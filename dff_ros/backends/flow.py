# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Flow sources that are no networks: the seam, and the length of a flow."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_RANK = 0.95


class FlowSource(Protocol):
    """Backward flow, current -> key, at the feature grid, from two images."""

    def prepare(self, image_HW3: NDArray[np.uint8], network_size: tuple[int, int]) -> NDArray[np.uint8]:
        """What `flow` needs of an image; owned by the caller."""
        ...

    def flow(
        self, current: NDArray[np.uint8], key: NDArray[np.uint8], network_size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Flow (2, gh, gw), x then y, in feature cells, from two results of `prepare` at one network size.

        The flow of cell i is that around network pixel stride * i.
        """
        ...


def motion_px(
    flow_2hw: NDArray[np.float32], stride: int, source_size: tuple[int, int], network_size: tuple[int, int]
) -> float:
    """95th percentile of the length of a flow in cells, in source-image pixels."""
    x = flow_2hw[0] * (stride * source_size[1] / network_size[1])
    y = flow_2hw[1] * (stride * source_size[0] / network_size[0])
    squares = (x * x + y * y).reshape(-1)
    place = _RANK * (squares.size - 1)
    below = int(place)
    above = min(below + 1, squares.size - 1)
    squares.partition((below, above, squares.size - 1))  # what is not a number comes last
    low, high, longest = (math.sqrt(squares[index]) for index in (below, above, -1))
    return math.nan if math.isnan(longest) else low + (high - low) * (place - below)
