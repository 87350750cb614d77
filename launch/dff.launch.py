# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Start dff_node on one camera or many.

`ros2 launch dff_ros dff.launch.py image:=/camera/image_raw`
`ros2 launch dff_ros dff.launch.py cameras:=front,left 'image:=/{camera}/image_raw'`
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription

from dff_ros.ros import launch_plans, launching
from dff_ros.ros.launch_files import describe

SHARE = Path(__file__).absolute().parent.parent


def generate_launch_description() -> LaunchDescription:
    """Arguments, the node, and RViz where asked for."""
    return describe(SHARE, launching.arguments(SHARE), launch_plans.node)
