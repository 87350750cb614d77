# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""dff_node on a fake backend that takes its time, as a process of its own."""

from __future__ import annotations

import sys
import time

import numpy as np
from fake_backend import FakeBackend
from numpy.typing import NDArray
from ros_helpers import fake_model

from dff_ros.ros import process
from dff_ros.ros.node import DffNode

DELAY_S = 0.3


class SlowBackend(FakeBackend):
    """Slower than any camera of the tests."""

    def _number(self, image_HW3: NDArray[np.uint8]) -> int:
        time.sleep(DELAY_S)
        return super()._number(image_HW3)


if __name__ == '__main__':
    sys.exit(process.run(lambda: DffNode(open_model=fake_model(SlowBackend())), sys.argv))
