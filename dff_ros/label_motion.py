# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Follows labels from one frame to the next by DIS flow of the images, for the temporal consistency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.dis import DisFlow

STEP_PX = 2
"""Every second pixel of each axis is followed: the grid of the flow, and enough of them."""


@dataclass(frozen=True, slots=True)
class Step:
    """N sampled pixels that are in both pictures: flat indices of where they are now and were before."""

    now_N: NDArray[np.intp]
    before_N: NDArray[np.intp]


class LabelMotion:
    """Backward flow from each image to the one before it. Pixels that come from outside are left out;
    uncovered ones are not, as the flow does not tell them.
    """

    def __init__(self, num_threads: int) -> None:
        self._dis = DisFlow(STEP_PX, num_threads)
        self._grey: NDArray[np.uint8] | None = None

    def reset(self) -> None:
        """The next image has none before it."""
        self._grey = None

    def step(self, image_HW3: NDArray[np.uint8]) -> Step | None:
        """From the image before to this one; None for the first. Images must have one size until `reset`."""
        size = image_HW3.shape[0], image_HW3.shape[1]
        before, self._grey = self._grey, self._dis.prepare(image_HW3, size)
        if before is None:
            return None
        flow_2hw = self._dis.flow(self._grey, before, size)
        rows, columns = (STEP_PX * index for index in np.indices(flow_2hw.shape[1:]))
        sources = np.stack((rows, columns)) + np.rint(STEP_PX * flow_2hw[::-1]).astype(np.intp)
        is_inside = ((sources >= 0) & (sources < np.reshape(size, (2, 1, 1)))).all(0)
        return Step(
            now_N=(rows * size[1] + columns)[is_inside],
            before_N=(sources[0] * size[1] + sources[1])[is_inside],
        )
