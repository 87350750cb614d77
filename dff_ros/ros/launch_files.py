# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the launch files share: arguments declared, processes as actions. Imports launch when called."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dff_ros.ros.launch_plans import Process, Surroundings
from dff_ros.ros.launching import Argument

if TYPE_CHECKING:
    from launch import LaunchContext, LaunchDescription
    from launch_ros.actions import Node

Plan = Callable[[Mapping[str, str], Surroundings], list[Process]]


def describe(share: Path, arguments: Sequence[Argument], plan: Plan) -> LaunchDescription:
    """The launch description of a plan; `share` is the folder that holds config/ and launch/."""
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    def start(context: LaunchContext) -> list[Node]:
        return actions(context, share, arguments, plan)

    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.description)
        for argument in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def actions(context: LaunchContext, share: Path, arguments: Sequence[Argument], plan: Plan) -> list[Node]:
    """The actions of a plan, by the values that the context has of its arguments."""
    from launch.substitutions import LaunchConfiguration

    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in arguments}
    return [_action(process) for process in plan(values, Surroundings(share, os.environ, _has_package))]


def _action(process: Process) -> Node:
    from launch.actions import Shutdown
    from launch_ros.actions import Node

    return Node(
        package=process.package,
        executable=process.executable,
        # By name, launch writes the arguments for this node; else for /**, and a file with both kinds wins.
        name=process.executable,
        namespace=process.namespace,
        parameters=process.parameters,
        remappings=process.remappings,
        arguments=list(process.arguments),
        additional_env=process.environment,
        on_exit=Shutdown() if process.is_last else None,
        output='screen',
        emulate_tty=True,
    )


def _has_package(name: str) -> bool:
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix(name)
    except PackageNotFoundError:
        return False
    return True
