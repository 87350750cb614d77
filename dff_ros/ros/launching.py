"""The arguments of the launch file, and the parameters and environment that follow from them. No rclpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from dff_ros.config import SHORT_NAMES, DffConfig, Parameter, walk
from dff_ros.errors import ConfigError
from dff_ros.ros.cameras import CAMERAS, NO_NAME, camera_names, topic_of
from dff_ros.settings import names_in

PROFILES_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
"""Environment variable by which Fast DDS takes a profile."""

SHARED_MEMORY_PROFILE = 'fastdds_shm.xml'
"""The profile in config/: images of any size go through shared memory."""


_IMAGE = 'image'
_PLACE_OF_NAME = '{camera}'


@dataclass(frozen=True, slots=True)
class Argument:
    """A launch argument; an empty default leaves the parameter to the parameter file."""

    name: str
    default: str
    description: str


def arguments(share: Path) -> list[Argument]:
    """The launch arguments; `share` is the folder that holds config/."""
    fixed = [
        Argument(
            _IMAGE,
            _IMAGE,
            'Topic of the camera images; with cameras one for each, separated by commas, or one in which '
            f'{_PLACE_OF_NAME} stands for its name (default: NAME/image)',
        ),
        Argument(CAMERAS.name, '', f'{CAMERAS.description} (default: as in params_file)'),
        Argument('params_file', str(share / 'config' / 'dff.yaml'), 'Parameter file'),
        Argument('namespace', '', 'Namespace of the node; outputs are NAMESPACE/dff/...'),
        Argument('use_sim_time', 'false', 'Take the time from /clock'),
        Argument('log_level', 'info', 'debug, info, warn, error or fatal'),
        Argument(
            'shared_memory', 'true', f'Images through shared memory (unless {PROFILES_VARIABLE} is set)'
        ),
        Argument('autostart', '', 'Configure and activate the node by itself (default: as in params_file)'),
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
    given: dict[str, object] = {'use_sim_time': _as_bool('use_sim_time', values['use_sim_time'])}
    if values['autostart']:
        given['autostart'] = _as_bool('autostart', values['autostart'])
    if values[CAMERAS.name]:
        given[CAMERAS.name] = list(_cameras(values))
    for name, parameter in _node_arguments().items():
        if values[name]:
            text = values[name]
            given[parameter.name] = parameter.check(text if parameter.kind is str else yaml.safe_load(text))
    return given


def remappings(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """From the image topic of each camera to the one asked for; ConfigError where they do not fit."""
    cameras, asked = _cameras(values), names_in(values[_IMAGE])
    if cameras == (NO_NAME,):
        if _PLACE_OF_NAME in values[_IMAGE] or len(asked) > 1:
            raise ConfigError(
                f'image: got {values[_IMAGE]!r}, which is for cameras with names; give them on the command '
                f'line too, as {CAMERAS.name}:=front,left'
            )
        return [(_IMAGE, values[_IMAGE])]
    if asked == [_IMAGE]:
        return []
    if len(asked) == 1 and _PLACE_OF_NAME in asked[0]:
        asked = [asked[0].replace(_PLACE_OF_NAME, camera) for camera in cameras]
    if len(asked) != len(cameras):
        raise ConfigError(
            f'image: got {values[_IMAGE]!r} for the cameras {", ".join(cameras)}; give one topic for each, '
            f'separated by commas, or one with {_PLACE_OF_NAME} in it, as /{_PLACE_OF_NAME}/image_raw'
        )
    twice = sorted({topic for topic in asked if asked.count(topic) > 1})
    if twice:
        raise ConfigError(f'image: got {", ".join(twice)} for two cameras; each needs a topic of its own')
    return [(topic_of(camera, _IMAGE), topic) for camera, topic in zip(cameras, asked, strict=True)]


def _cameras(values: Mapping[str, str]) -> tuple[str, ...]:
    return camera_names(yaml.load(values[CAMERAS.name], Loader=yaml.BaseLoader))  # lists and texts only


def parameter_file(values: Mapping[str, str]) -> str:
    """The parameter file; ConfigError where it is missing (launch would only warn, and use the defaults)."""
    path = values['params_file']
    if not Path(path).is_file():
        raise ConfigError(f'params_file: there is no file {path!r}; give the path of a parameter file')
    return path


def environment(values: Mapping[str, str], share: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables to add for the node: the shared-memory profile, unless switched off or set by the user."""
    wants_shared_memory = _as_bool('shared_memory', values['shared_memory'])
    if not wants_shared_memory or PROFILES_VARIABLE in environ:
        return {}
    return {PROFILES_VARIABLE: str(share / 'config' / SHARED_MEMORY_PROFILE)}


def _as_bool(name: str, text: str) -> bool:
    known = {'true': True, 'false': False}
    if text.lower() not in known:
        raise ConfigError(f'{name}: got {text!r}, allowed is true or false')
    return known[text.lower()]
