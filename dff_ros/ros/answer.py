# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What is known of one published frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.tasks import DETECTION, SEGMENTATION
from dff_ros.types import Detections


@dataclass(slots=True)
class Answer:
    """One published frame, as far as its parts have come: `index` is its number in the source.

    `image_HW3` stays None where the image did not reach the monitor, or had to be given up for memory.
    """

    stamp_ns: int
    index: int | None = None
    image_HW3: NDArray[np.uint8] | None = None
    label_map_HW: NDArray[np.uint8] | None = None
    detections: Detections | None = None
    facts: Mapping[str, str] | None = None
    latency_ms: float = 0.0

    @property
    def is_answered(self) -> bool:
        """The status has come, and the answer of each task that it says ran on the frame."""
        if self.facts is None:
            return False
        answers = {SEGMENTATION: self.label_map_HW, DETECTION: self.detections}
        return all(answers[task] is not None for task in self.facts['tasks'].split(',') if task)
