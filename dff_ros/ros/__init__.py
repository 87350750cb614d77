# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The ROS 2 side: nodes, message conversion, parameters. Needs rclpy; never imports the command line."""
