# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""dff_node on the fake backend, whose model opens only when standard input ends, as a process of its own."""

from __future__ import annotations

import sys

from fake_backend import FakeBackend
from ros_helpers import fake_model

from dff_ros.config import DffConfig
from dff_ros.model import Model
from dff_ros.ros import process
from dff_ros.ros.node import DffNode

OPENING = 'opening the model'


def open_when_told(config: DffConfig) -> Model:
    print(OPENING, flush=True)
    sys.stdin.read()
    return fake_model(FakeBackend())(config)


if __name__ == '__main__':
    sys.exit(process.run(lambda: DffNode(open_model=open_when_told), sys.argv))
