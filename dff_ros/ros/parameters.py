# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""ROS parameters from the config dataclass: declared, read, checked and changed by walking it.

`python -m dff_ros.ros.parameters` prints the parameter file of the package, config/dff.yaml.
"""

from __future__ import annotations

import difflib
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from dff_ros import config as config_module
from dff_ros.cameras import CAMERAS, camera_names
from dff_ros.config import DffConfig, Parameter, walk
from dff_ros.errors import ConfigError

ConfigT = TypeVar('ConfigT')

AUTOSTART = Parameter(
    'autostart',
    bool,
    True,
    'Configure and activate the node by itself; false leaves it to a lifecycle manager',
)

NODE_PARAMETERS = (AUTOSTART, CAMERAS)
"""Those that only ROS knows, read at start."""

_FOREIGN = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')  # declared by rclpy
_KIND_NAMES = {bool: 'true or false', int: 'an integer', float: 'a decimal number', str: 'a text'}


def describe(parameter: Parameter, *, is_read_only: bool = True) -> ParameterDescriptor:
    """Description, unit, range and when it may change, as `ros2 param describe` shows them.

    `is_read_only` is for parameters that may not change at runtime: false where the node checks the time of a
    change itself, by RuntimeParameters.
    """
    when = when_allowed(parameter, is_read_only)
    descriptor = ParameterDescriptor(
        description=f'{_sentence(parameter)}; {when}', read_only=is_read_only and not parameter.runtime
    )
    if parameter.choices:
        descriptor.additional_constraints = parameter.allowed
    if parameter.minimum is None or parameter.maximum is None:
        return descriptor
    if parameter.kind is int:
        low, high = int(parameter.minimum), int(parameter.maximum)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    else:
        descriptor.floating_point_range = [
            FloatingPointRange(
                from_value=float(parameter.minimum), to_value=float(parameter.maximum), step=0.0
            )
        ]
    return descriptor


def _sentence(parameter: Parameter) -> str:
    return parameter.description + (f' [{parameter.unit}]' if parameter.unit else '')


def when_allowed(parameter: Parameter, is_read_only: bool) -> str:
    """When a parameter may change, in words; `is_read_only` as in `describe`."""
    if parameter.runtime:
        return 'may change while running'
    return 'read at start' if is_read_only else 'may change while the node is unconfigured'


def declare(node: Node, parameters: Iterable[Parameter], *, is_read_only: bool = True) -> dict[str, object]:
    """Declare parameters on a node; their values, from the defaults, parameter files and arguments.

    Raises ConfigError, naming parameter, value and what is allowed, where a value does not fit.
    """
    values: dict[str, object] = {}
    for parameter in parameters:
        try:
            descriptor = describe(parameter, is_read_only=is_read_only)
            value = node.declare_parameter(parameter.name, parameter.default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            kind = _KIND_NAMES[parameter.kind]
            raise ConfigError(
                f'{error} Parameter {parameter.name} takes {kind}: {parameter.allowed}.'
            ) from error
        values[parameter.name] = parameter.check(value)
    return values


def read_config(node: Node) -> DffConfig:
    """Declare everything in DffConfig on the node and read it; raises as `declare` does."""
    return config_module.replace(DffConfig(), declare(node, walk(DffConfig), is_read_only=False))


def declare_cameras(node: Node) -> tuple[str, ...]:
    """Declare `cameras` on the node; its names. Raises ConfigError as `camera_names` does."""
    # Of any type: ROS has no empty list of texts, and -p cameras:=front gives a text.
    descriptor = ParameterDescriptor(
        description=f'{_sentence(CAMERAS)}; {when_allowed(CAMERAS, is_read_only=True)}',
        read_only=True,
        dynamic_typing=True,
    )
    return camera_names(node.declare_parameter(CAMERAS.name, CAMERAS.default, descriptor).value)


def declare_unchecked(node: Node, parameters: Iterable[Parameter]) -> None:
    """Declare parameters of any value and type, for `check_values` later: a bad one can be set right."""
    for parameter in parameters:
        descriptor = ParameterDescriptor(
            description=f'{_sentence(parameter)}; {when_allowed(parameter, is_read_only=False)}',
            additional_constraints=parameter.allowed,
            dynamic_typing=True,
        )
        node.declare_parameter(parameter.name, parameter.default, descriptor)


def check_values(node: Node, parameters: Iterable[Parameter]) -> None:
    """ConfigError names the first parameter of the node whose value is not allowed."""
    for parameter in parameters:
        parameter.check(node.get_parameter(parameter.name).value)


def unknown_overrides(node: Node) -> list[str]:
    """One line for each parameter given that the node does not have: ROS ignores them silently."""
    given = node._parameter_overrides  # rclpy has no public accessor
    return unknown_names(
        node, (name for name in given if not name.startswith(_FOREIGN)), 'unknown and ignored'
    )


def unknown_names(node: Node, names: Iterable[str], what: str = 'unknown') -> list[str]:
    """One line for each name of which the node has no parameter, with one that is nearly so."""
    known = [parameter.name for parameter in (*NODE_PARAMETERS, *walk(DffConfig))]
    lines = []
    for name in names:
        if node.has_parameter(name):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean {near[0]!r}?' if near else 'ros2 param list shows the known ones'
        lines.append(f'parameter {name!r} is {what}: {hint}')
    return lines


class RuntimeParameters:
    """Keeps a config equal to the node's parameters: refuses bad sets as a whole, applies good ones.

    `check` raises ConfigError for a config that is good by itself but not for the model in use. Parameters
    that are not `runtime`, of the config or of `others`, change only while `is_unconfigured()`.
    """

    def __init__(
        self,
        node: Node,
        config: DffConfig,
        on_change: Callable[[DffConfig], None] = lambda config: None,
        *,
        is_unconfigured: Callable[[], bool] = lambda: True,
        check: Callable[[DffConfig], None] = lambda config: None,
        others: Iterable[Parameter] = (),
    ) -> None:
        self.config = config
        self._node = node
        self._on_change = on_change
        self._is_unconfigured = is_unconfigured
        self._check_config = check
        self._known = {parameter.name: parameter for parameter in (*walk(DffConfig), *others)}
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def _changed(self, parameters: Sequence[RosParameter]) -> DffConfig:
        known = config_module.to_flat(self.config)
        changes = {parameter.name: parameter.value for parameter in parameters if parameter.name in known}
        return config_module.replace(self.config, changes)

    def _check(self, parameters: list[RosParameter]) -> SetParametersResult:
        try:
            for parameter in parameters:
                self._check_one(parameter)
            self._check_config(self._changed(parameters))
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check_one(self, given: RosParameter) -> None:
        parameter = self._known.get(given.name)
        if parameter is None:
            return
        parameter.check(given.value)
        is_change = given.value != self._node.get_parameter(given.name).value
        if is_change and not parameter.runtime and not self._is_unconfigured():
            raise ConfigError(
                f'{given.name} may change only while the node is unconfigured: deactivate and cleanup first'
            )

    def _apply(self, parameters: list[RosParameter]) -> None:
        config = self._changed(parameters)
        if config != self.config:
            self.config = config
            self._on_change(config)


def usage(program: str, summary: str, parameters: Iterable[Parameter]) -> str:
    """The help text of a node's executable: how to pass parameters, and which there are."""
    lines = [
        f'usage: {program} [--help] [--ros-args [-p NAME:=VALUE]... [--params-file FILE] [-r FROM:=TO]...]',
        '',
        summary,
        '',
        f'example: {program} --ros-args -p autostart:=false -r image:=/camera/image_raw',
        '',
        'parameters (-p NAME:=VALUE):',
    ]
    for parameter in parameters:
        lines.append(f'  {parameter.name}:={_yaml_value(parameter.default)}')
        text = f'{parameter.description}: {parameter.allowed}'
        lines += textwrap.wrap(
            text, 90, initial_indent=' ' * 6, subsequent_indent=' ' * 6, break_on_hyphens=False
        )
    return '\n'.join(lines) + '\n'


def to_yaml(node_name: str = 'dff_node') -> str:
    """A parameter file with every parameter at its default, its description, range and unit as comments."""
    lines = [
        '# Parameters of dff_node and their defaults, made by `python -m dff_ros.ros.parameters`.',
        f'/**/{node_name}:',
        '  ros__parameters:',
    ]
    groups: list[str] = []
    for parameter in (*NODE_PARAMETERS, *walk(DffConfig)):
        *path, name = parameter.name.split('.')
        indent = ' ' * (4 + 2 * len(path))
        if path != groups:
            lines += [
                f'{" " * (4 + 2 * depth)}{group}:' for depth, group in enumerate(path) if path != groups
            ]
            groups = path
        when = when_allowed(parameter, is_read_only=parameter in NODE_PARAMETERS)
        comment = f'{parameter.description}. {parameter.allowed.capitalize()}; {when}.'
        lines += [f'{indent}# {line}' for line in textwrap.wrap(comment, 110 - len(indent))]
        lines.append(f'{indent}{name}: {_yaml_value(parameter.default)}')
    return '\n'.join(lines) + '\n'


def _yaml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else repr(value)


if __name__ == '__main__':
    sys.stdout.write(to_yaml())
