# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""dff_node on the fake backend, as a process of its own."""

from __future__ import annotations

import sys

from fake_backend import FakeBackend
from ros_helpers import fake_model

from dff_ros.ros import process
from dff_ros.ros.node import DffNode

if __name__ == '__main__':
    sys.exit(process.run(lambda: DffNode(open_model=fake_model(FakeBackend())), sys.argv))
