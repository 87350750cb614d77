"""The arguments of the launch file, and the parameters and environment that follow from them. No rclpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from dff_ros.config import SHORT_NAMES, DffConfig, Parameter, walk
from dff_ros.errors import ConfigError

PROFILES_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
"""Environment variable by which Fast DDS takes a profile."""

SHARED_MEMORY_PROFILE = 'fastdds_shm.xml'
"""The profile in config/: images of any size go through shared memory."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A launch argument; an empty default leaves the parameter to the parameter file."""

    name: str
    default: str
    description: str


def arguments(share: Path) -> list[Argument]:
    """The launch arguments; `share` is the folder that holds config/."""
    fixed = [
        Argument('image', 'image', 'Topic of the camera images'),
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
    for name, parameter in _node_arguments().items():
        if values[name]:
            text = values[name]
            given[parameter.name] = parameter.check(text if parameter.kind is str else yaml.safe_load(text))
    return given


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
