"""Start dff_node on one camera or many.

`ros2 launch dff_ros dff.launch.py image:=/camera/image_raw`
`ros2 launch dff_ros dff.launch.py cameras:=front,left 'image:=/{camera}/image_raw'`
"""

from __future__ import annotations

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from dff_ros.ros import launching

SHARE = Path(__file__).parent.parent
ARGUMENTS = launching.arguments(SHARE)


def start_node(context: LaunchContext) -> list[Node]:
    """The node action; the arguments are texts only now."""
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    node = Node(
        package='dff_ros',
        executable='dff_node',
        namespace=values['namespace'],
        parameters=[launching.parameter_file(values), launching.parameters(values)],
        remappings=launching.remappings(values),
        arguments=['--ros-args', '--log-level', values['log_level']],
        additional_env=launching.environment(values, SHARE, os.environ),
        output='screen',
        emulate_tty=True,
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """Arguments and node."""
    declared = [
        DeclareLaunchArgument(a.name, default_value=a.default, description=a.description) for a in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_node)])
