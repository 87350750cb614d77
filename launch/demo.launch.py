# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Start a camera and dff_node: the simulated street, a video, a folder of images or a webcam.

`ros2 launch dff_ros demo.launch.py rviz:=true`
`ros2 launch dff_ros demo.launch.py source:=drive.mp4 duration:=20`
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription

from dff_ros.ros import launch_plans
from dff_ros.ros.launch_files import describe

SHARE = Path(__file__).absolute().parent.parent


def generate_launch_description() -> LaunchDescription:
    """Arguments, camera and node, and RViz where asked for; it ends with the camera or the node."""
    return describe(SHARE, launch_plans.demo_arguments(SHARE), launch_plans.demo)
