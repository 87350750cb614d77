# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The processes that each launch file starts. No rclpy, no launch: `launch_files` makes actions of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from dff_ros.cameras import CAMERAS, NO_NAME
from dff_ros.errors import ConfigError
from dff_ros.ros import launching
from dff_ros.ros.ending import ENDS_WITH_PARENT
from dff_ros.ros.launching import Argument

RVIZ_CONFIG = 'config/dff.rviz'
RVIZ_TOPICS = ('dff/segmentation', 'dff/confidence', 'dff/overlay', 'dff/camera_info')
"""Outputs that config/dff.rviz shows, without namespace; `image` is shown besides."""

ONE, EACH = 'one', 'each'
_PACKAGE = 'dff_ros'


@dataclass(frozen=True, kw_only=True)
class Process:
    """A node to start. `parameters`: files and names with values. `is_last`: the launch ends with it."""

    package: str = _PACKAGE
    executable: str
    namespace: str = ''
    parameters: list[str | dict[str, object]] = field(default_factory=list)
    remappings: list[tuple[str, str]] = field(default_factory=list)
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    is_last: bool = False


@dataclass(frozen=True)
class Surroundings:
    """Where a launch runs: the folder that holds config/, the environment, and which packages there are."""

    share: Path
    environ: Mapping[str, str]
    has_package: Callable[[str], bool]


def node(values: Mapping[str, str], around: Surroundings) -> list[Process]:
    """dff.launch.py: the node, and RViz where asked for. Raises ConfigError, naming a wrong argument."""
    return [_dff_node(values, around), *_rviz(values, around)]


def multi_camera_arguments(share: Path) -> list[Argument]:
    """Those of `multi_camera.launch.py`: the node's, and how many processes."""
    changed = {
        CAMERAS.name: Argument(CAMERAS.name, '', 'Names of the cameras, separated by commas: front,left'),
        'image': Argument('image', '/{camera}/image_raw', _argument(share, 'image').description),
    }
    processes = Argument(
        'processes',
        ONE,
        f'{ONE}: a node for all cameras, with one model; {EACH}: a process with a model of its own for each',
    )
    return [changed.get(argument.name, argument) for argument in launching.arguments(share)] + [processes]


def multi_camera(values: Mapping[str, str], around: Surroundings) -> list[Process]:
    """multi_camera.launch.py: the topics are the same with one process and with one for each camera."""
    cameras = launching.cameras_of(values)
    if cameras == (NO_NAME,):
        raise ConfigError('cameras: got none; name them, as cameras:=front,left')
    if values['processes'] == ONE:
        return node(values, around)
    if values['processes'] != EACH:
        raise ConfigError(f'processes: got {values["processes"]!r}, allowed is {ONE} or {EACH}')
    return [*(_alone(camera, values, around) for camera in cameras), *_rviz(values, around)]


def demo_arguments(share: Path) -> list[Argument]:
    """Those of `demo.launch.py`: the camera's, and the node's without those of its inputs."""
    from dff_ros.sources import STREET  # needs OpenCV, which the other launch files do without

    camera = [
        Argument(
            'source', STREET, f'{STREET}, a video file, a folder of images, a CamVid folder or /dev/videoN'
        ),
        Argument('rate', '30', 'Images per second; 0 waits for the answer to each'),
        Argument('duration', '0', 'Seconds until it ends by itself; 0: at the end of the source'),
        Argument('seed', '0', 'Seed of the street'),
    ]
    left_out = {'image', 'camera_info', CAMERAS.name, 'autostart'}
    return camera + [argument for argument in launching.arguments(share) if argument.name not in left_out]


def demo(values: Mapping[str, str], around: Surroundings) -> list[Process]:
    """demo.launch.py: camera, node, and RViz where asked for; it ends with the camera or the node."""
    values = {**{name: _argument(around.share, name).default for name in ('image', 'camera_info')}, **values}
    values |= {CAMERAS.name: '', 'autostart': 'true'}
    camera = Process(
        executable='dff_camera',
        namespace=values['namespace'],
        parameters=[
            {
                'source': values['source'],
                'rate': _number(values, 'rate'),
                'duration_s': _number(values, 'duration'),
                'seed': int(_number(values, 'seed')),
                'use_sim_time': launching.as_bool(values, 'use_sim_time'),
            }
        ],
        arguments=launching.log_arguments(values),
        environment=_environment(values, around),
        is_last=True,
    )
    return [camera, replace(_dff_node(values, around), is_last=True), *_rviz(values, around)]


def _dff_node(values: Mapping[str, str], around: Surroundings) -> Process:
    return Process(
        executable='dff_node',
        namespace=values['namespace'],
        parameters=[launching.parameter_file(values), launching.parameters(values)],
        remappings=launching.remappings(values),
        arguments=launching.log_arguments(values),
        environment=_environment(values, around),
    )


def _alone(camera: str, values: Mapping[str, str], around: Surroundings) -> Process:
    """The node of one camera, which is told nothing of others; its namespace makes the same topics."""
    topics = {
        topic: launching.asked_topics(values, topic).get(camera, '') for topic in ('image', 'camera_info')
    }
    own = {
        **values,
        CAMERAS.name: '',
        'namespace': '/' + launching.join_names(values['namespace'], camera),
        'image': topics['image'] or 'image',
        'camera_info': topics['camera_info'],
    }
    process = _dff_node(own, around)
    process.parameters.append({CAMERAS.name: ''})  # whatever the parameter file says
    return process


def _rviz(values: Mapping[str, str], around: Surroundings) -> list[Process]:
    if not launching.as_bool(values, 'rviz'):
        return []
    if not around.has_package('rviz2'):
        raise ConfigError('rviz: rviz2 is not installed; install ros-$ROS_DISTRO-rviz2, or leave rviz:=false')
    camera, *_ = launching.cameras_of(values)
    image = launching.asked_topics(values, 'image').get(camera, 'image')
    own = launching.join_names(values['namespace'], camera)
    if image == 'image':
        image = '/' + launching.join_names(own, image)
    elif not image.startswith('/'):
        image = '/' + launching.join_names(values['namespace'], image)
    outputs = [(f'/{topic}', '/' + launching.join_names(own, topic)) for topic in RVIZ_TOPICS]
    rviz = Process(
        package='rviz2',
        executable='rviz2',
        parameters=[{'use_sim_time': launching.as_bool(values, 'use_sim_time')}],
        remappings=[('/image', image), *(pair for pair in outputs if pair[0] != pair[1])],
        arguments=('-d', str(around.share / RVIZ_CONFIG)),
        environment=_environment(values, around),
    )
    return [rviz]


def _environment(values: Mapping[str, str], around: Surroundings) -> dict[str, str]:
    return launching.environment(values, around.share, around.environ) | {ENDS_WITH_PARENT: str(os.getpid())}


def _argument(share: Path, name: str) -> Argument:
    (found,) = (argument for argument in launching.arguments(share) if argument.name == name)
    return found


def _number(values: Mapping[str, str], name: str) -> float:
    value = yaml.safe_load(values[name])
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigError(f'{name}: got {values[name]!r}, expected a number')
    return float(value)
