# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Start dff_node on several cameras: one node for all of them, or a process for each.

`ros2 launch dff_ros multi_camera.launch.py cameras:=front,left`
`ros2 launch dff_ros multi_camera.launch.py cameras:=front,left processes:=each num_threads:=2`
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription

from dff_ros.ros import launch_plans
from dff_ros.ros.launch_files import describe

SHARE = Path(__file__).absolute().parent.parent


def generate_launch_description() -> LaunchDescription:
    """Arguments, the nodes, and RViz on the first camera where asked for."""
    return describe(SHARE, launch_plans.multi_camera_arguments(SHARE), launch_plans.multi_camera)
