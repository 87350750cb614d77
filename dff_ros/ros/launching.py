# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The arguments of the launch files, and the parameters, topics and environment that follow. No rclpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from dff_ros.cameras import CAMERAS, NO_NAME, camera_names, topic_of
from dff_ros.config import SHORT_NAMES, DffConfig, Parameter, walk
from dff_ros.errors import ConfigError
from dff_ros.settings import names_in

PROFILES_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
"""Environment variable by which Fast DDS takes a profile."""

SHARED_MEMORY_PROFILE = 'fastdds_shm.xml'
"""The profile in config/: images of any size go through shared memory."""

LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')

_IMAGE, _CAMERA_INFO = 'image', 'camera_info'
_MODEL, _BUNDLE = 'model', 'bundle'
_PLACE_OF_NAME = '{camera}'


@dataclass(frozen=True, slots=True)
class Argument:
    """A launch argument; an empty default leaves the parameter to the parameter file."""

    name: str
    default: str
    description: str


def arguments(share: Path) -> list[Argument]:
    """The launch arguments of one node; `share` is the folder that holds config/."""
    each = f'with cameras one each, separated by commas, or one in which {_PLACE_OF_NAME} stands for its name'
    fixed = [
        Argument(_IMAGE, _IMAGE, f'Topic of the camera images; {each} (default: NAME/image)'),
        Argument(
            _CAMERA_INFO, '', f'Topic of the calibration (default: camera_info beside the images); {each}'
        ),
        Argument(CAMERAS.name, '', f'{CAMERAS.description} (default: as in params_file)'),
        Argument('params_file', str(share / 'config' / 'dff.yaml'), 'Parameter file'),
        Argument('namespace', '', 'Namespace of the node; outputs are NAMESPACE/dff/...'),
        Argument('use_sim_time', 'false', 'Take the time from /clock'),
        Argument('log_level', 'info', ', '.join(LOG_LEVELS)),
        Argument(
            'shared_memory', 'true', f'Images through shared memory (unless {PROFILES_VARIABLE} is set)'
        ),
        Argument('autostart', '', 'Configure and activate the node by itself (default: as in params_file)'),
        Argument('rviz', 'false', 'Start RViz with config/dff.rviz, where rviz2 is installed'),
        Argument(_MODEL, '', f'Another name of {_BUNDLE}'),
    ]
    derived = [
        Argument(name, '', f'{parameter.description}: {parameter.allowed} (default: as in params_file)')
        for name, parameter in _node_arguments().items()
    ]
    return fixed + derived


def _node_arguments() -> dict[str, Parameter]:
    known = {parameter.name: parameter for parameter in walk(DffConfig)}
    plain = {name: parameter for name, parameter in known.items() if '.' not in name}
    return plain | {alias: known[name] for alias, name in SHORT_NAMES.items()}


def parameters(values: Mapping[str, str]) -> dict[str, object]:
    """Node parameters of the arguments that were given; ConfigError where one does not fit."""
    given: dict[str, object] = {'use_sim_time': as_bool(values, 'use_sim_time')}
    if values['autostart']:
        given['autostart'] = as_bool(values, 'autostart')
    if values[CAMERAS.name]:
        given[CAMERAS.name] = list(cameras_of(values))
    for name, parameter in _node_arguments().items():
        text = _bundle(values) if name == _BUNDLE else values[name]
        if text:
            given[parameter.name] = parameter.check(text if parameter.kind is str else yaml.safe_load(text))
    return given


def _bundle(values: Mapping[str, str]) -> str:
    asked = {values[_BUNDLE], values[_MODEL]} - {''}
    if len(asked) > 1:
        raise ConfigError(
            f'{_MODEL} and {_BUNDLE} are one setting, got {values[_MODEL]!r} and {values[_BUNDLE]!r}: '
            'give one of them'
        )
    return ''.join(asked)


def remappings(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """From the input topics of each camera to those asked for; ConfigError where they do not fit."""
    return [
        (topic_of(camera, topic), asked)
        for topic in (_IMAGE, _CAMERA_INFO)
        for camera, asked in asked_topics(values, topic).items()
    ]


def asked_topics(values: Mapping[str, str], topic: str) -> dict[str, str]:
    """The topic asked for of each camera, by its name; none where the node's own is to be used.

    Raises ConfigError where the argument `topic` (`image` or `camera_info`) does not fit the cameras.
    """
    cameras, text, asked = cameras_of(values), values[topic], names_in(values[topic])
    if cameras == (NO_NAME,):
        if _PLACE_OF_NAME in text or len(asked) > 1:
            raise ConfigError(
                f'{topic}: got {text!r}, which is for cameras with names; give them on the command line too, '
                f'as {CAMERAS.name}:=front,left'
            )
        return dict.fromkeys(cameras, text) if asked else {}
    if asked in ([], [_IMAGE]):
        return {}
    if len(asked) == 1 and _PLACE_OF_NAME in asked[0]:
        asked = [asked[0].replace(_PLACE_OF_NAME, camera) for camera in cameras]
    if len(asked) != len(cameras):
        raise ConfigError(
            f'{topic}: got {text!r} for the cameras {", ".join(cameras)}; give one topic for each, '
            f'separated by commas, or one with {_PLACE_OF_NAME} in it, as /{_PLACE_OF_NAME}/{topic}'
        )
    twice = sorted({name for name in asked if asked.count(name) > 1})
    if twice and topic == _IMAGE:
        raise ConfigError(f'image: got {", ".join(twice)} for two cameras; each needs a topic of its own')
    return dict(zip(cameras, asked, strict=True))


def cameras_of(values: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the cameras that were given; ConfigError as `camera_names`."""
    return camera_names(yaml.load(values[CAMERAS.name], Loader=yaml.BaseLoader))  # lists and texts only


def parameter_file(values: Mapping[str, str]) -> str:
    """The parameter file; ConfigError where it is missing (launch would only warn, and use the defaults)."""
    path = values['params_file']
    if not Path(path).is_file():
        raise ConfigError(f'params_file: there is no file {path!r}; give the path of a parameter file')
    return path


def environment(values: Mapping[str, str], share: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables to add for the node: the shared-memory profile, unless switched off or set by the user."""
    if not as_bool(values, 'shared_memory') or PROFILES_VARIABLE in environ:
        return {}
    return {PROFILES_VARIABLE: str(share / 'config' / SHARED_MEMORY_PROFILE)}


def log_arguments(values: Mapping[str, str]) -> tuple[str, ...]:
    """What sets the log level of a process; ConfigError for a level that there is not."""
    level = values['log_level'].lower()
    if level not in LOG_LEVELS:
        raise ConfigError(
            f'log_level: got {values["log_level"]!r}, allowed is one of {", ".join(LOG_LEVELS)}'
        )
    return ('--ros-args', '--log-level', level)


def as_bool(values: Mapping[str, str], name: str) -> bool:
    """An argument that is true or false; ConfigError for anything else."""
    known = {'true': True, 'false': False}
    if values[name].lower() not in known:
        raise ConfigError(f'{name}: got {values[name]!r}, allowed is true or false')
    return known[values[name].lower()]


def join_names(*parts: str) -> str:
    """Namespaces and names as one, `/` between them."""
    return '/'.join(part.strip('/') for part in parts if part.strip('/'))
