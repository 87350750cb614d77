# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Command-line flags derived from the config dataclasses; shared by `dff run`, `dff train` and the demo."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Container, Mapping
from pathlib import Path

from dff_ros.config import SHORT_NAMES, DffConfig, Parameter, Scalar, flatten, replace, walk
from dff_ros.errors import ConfigError

_DEST_PREFIX = 'config:'
_MAX_SEED = 2**31 - 1
_ROS_OWN = ('autostart', 'cameras', 'use_sim_time', 'qos_overrides.', 'start_type_description_service')
"""Parameters that only the ROS node has; a parameter file may set them."""


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE` and one flag for each setting of DffConfig (`--keyframe.interval 5`)."""
    group = parser.add_argument_group('settings (flags win over --config)')
    group.add_argument(
        '--config', metavar='FILE', type=Path, help='YAML file: a nested mapping, or a ROS 2 parameter file'
    )
    add_flags(group, DffConfig)


def add_flags(
    group: argparse._ActionsContainer, config_type: type, names_of: Container[str] | None = None
) -> None:
    """Add one flag for each setting of a config dataclass, or those of the dotted names `names_of`;
    `given_flags` reads them.
    """
    for parameter in walk(config_type):
        if names_of is not None and parameter.name not in names_of:
            continue
        names = [f'--{short}' for short, name in SHORT_NAMES.items() if name == parameter.name]
        names.append(f'--{parameter.name}')
        is_switch = parameter.kind is bool
        group.add_argument(
            *names,
            dest=_DEST_PREFIX + parameter.name,
            default=argparse.SUPPRESS,
            type=_converter(parameter),
            metavar=_metavar(parameter),
            help=_help(parameter),
            nargs='?' if is_switch else None,
            const=True if is_switch else None,
        )


def config_from_flags(args: argparse.Namespace) -> DffConfig:
    """The config of parsed flags: defaults, `--config`, then the flags given. ConfigError on bad values."""
    config = DffConfig()
    if args.config is not None:
        config = replace(config, read_config_file(args.config))
    return replace(config, given_flags(args))


def given_flags(args: argparse.Namespace) -> dict[str, object]:
    """{dotted name: value} of the settings that were given as flags."""
    return {
        dest.removeprefix(_DEST_PREFIX): value
        for dest, value in vars(args).items()
        if dest.startswith(_DEST_PREFIX)
    }


def read_config_file(path: Path) -> dict[str, object]:
    """A YAML config as {dotted name: value}; ConfigError where the file is missing or not a mapping."""
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigError(f'cannot read {path}: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path} is not valid YAML: {" ".join(str(error).split())}') from error
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise ConfigError(f'{path} must hold a mapping of settings, not a {type(tree).__name__}')
    sections = _ros_sections(tree)
    if not sections:
        return flatten(tree)
    merged: dict[str, object] = {}
    for section in sections:
        merged.update(flatten(section))
    return {name: value for name, value in merged.items() if not name.startswith(_ROS_OWN)}


def _ros_sections(tree: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The `ros__parameters` mappings of a ROS 2 parameter file, the wildcard nodes' first."""
    sections: list[Mapping[str, object]] = []
    for name, value in sorted(tree.items(), key=lambda item: '*' not in str(item[0])):
        if isinstance(value, Mapping):
            sections += [value] if name == 'ros__parameters' else _ros_sections(value)
    return sections


def positive(text: str) -> int:
    """A count as a flag's `type`."""
    return _whole(text, 1, None)


def intervals(text: str) -> tuple[int, ...]:
    """Key intervals, separated by commas, as a flag's `type`; ascending."""
    return tuple(sorted({positive(part) for part in text.split(',')}))


def seed(text: str) -> int:
    """The seed of the simulated street as a flag's `type`: what every generator takes."""
    return _whole(text, 0, _MAX_SEED)


def above_zero(text: str) -> float:
    """A rate or a time as a flag's `type`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1e5:
        raise argparse.ArgumentTypeError(f'got {text!r}, expected a number above 0, at most 100000')
    return value


def image_size(text: str) -> tuple[int, int]:
    """(height, width) of WIDTHxHEIGHT, as a flag's `type`."""
    found = re.fullmatch(r'([1-9]\d{1,4})x([1-9]\d{1,4})', text)
    if not found:
        raise argparse.ArgumentTypeError(f'got {text!r}, expected WIDTHxHEIGHT, as 480x360')
    return int(found[2]), int(found[1])


def _whole(text: str, minimum: int, maximum: int | None) -> int:
    allowed = f'of at least {minimum}' if maximum is None else f'from {minimum} to {maximum}'
    try:
        number = int(text)
    except ValueError:
        number = minimum - 1
    if number < minimum or (maximum is not None and number > maximum):
        raise argparse.ArgumentTypeError(f'got {text!r}, expected a whole number {allowed}')
    return number


def _converter(parameter: Parameter) -> Callable[[str], Scalar]:
    def convert(text: str) -> Scalar:
        try:
            return parameter.check(_parse(parameter.kind, text))
        except ConfigError as error:
            message = str(error).removeprefix(f'{parameter.name}: ')
            raise argparse.ArgumentTypeError(message) from error

    return convert


def _parse(kind: type, text: str) -> object:
    if kind is bool:
        return {'true': True, 'false': False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text  # Parameter.check says what is allowed


def _metavar(parameter: Parameter) -> str:
    if parameter.choices:
        return '{' + ','.join(parameter.choices) + '}'
    return {bool: 'BOOL', str: 'TEXT', int: 'N', float: 'X'}[parameter.kind]


def _help(parameter: Parameter) -> str:
    allowed = '' if parameter.choices or parameter.kind is str else f'; {parameter.allowed}'
    return f'{parameter.description}{allowed} (default: {parameter.default})'.replace('%', '%%')
