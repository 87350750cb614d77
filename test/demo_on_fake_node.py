# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The demo with dff_node on the fake backend, as a process of its own; takes the demo's arguments.

DFF_TEST_NODE names another module than fake_node for the node.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from unittest import mock

from ros_helpers import SPEC

from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.ros import demo

CAMVID_SPEC = dataclasses.replace(
    SPEC, class_names=CAMVID_CLASSES, class_colours=tuple(tuple(rgb) for rgb in CAMVID_COLOURS.tolist())
)

if __name__ == '__main__':
    with (
        mock.patch('dff_ros.ros.demo.read_spec', return_value=CAMVID_SPEC),
        mock.patch('dff_ros.ros.demo.NODE_MODULE', os.environ.get('DFF_TEST_NODE', 'fake_node')),
    ):
        sys.exit(demo.main())
