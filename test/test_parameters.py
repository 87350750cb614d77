# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""ROS parameters are the config dataclass: same names, defaults, ranges; sets are checked as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rclpy')
import yaml
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from ros_helpers import ros_graph

from dff_ros.config import DffConfig, Parameter, flatten, replace, to_flat, walk
from dff_ros.errors import ConfigError
from dff_ros.ros.parameters import (
    RuntimeParameters,
    check_values,
    declare_unchecked,
    describe,
    read_config,
    to_yaml,
    unknown_overrides,
)

PARAMETER_FILE = Path(__file__).parent.parent / 'config' / 'dff.yaml'
KNOWN = {parameter.name: parameter for parameter in walk(DffConfig)}


@pytest.fixture
def make_node():
    with ros_graph() as graph:
        nodes: list[Node] = []

        def make(*cli_args: str, **overrides: object) -> Node:
            given = [RosParameter(name.replace('__', '.'), value=value) for name, value in overrides.items()]
            nodes.append(
                Node(
                    'dff_node',
                    context=graph.context,
                    parameter_overrides=given,
                    cli_args=list(cli_args) or None,
                )
            )
            return nodes[-1]

        yield make
        for node in nodes:
            node.destroy_node()


def test_without_overrides_the_node_has_the_defaults_of_the_dataclass(make_node):
    node = make_node()
    assert read_config(node) == DffConfig()
    assert {name: node.get_parameter(name).value for name in KNOWN} == to_flat(DffConfig())


def test_overrides_are_read(make_node):
    config = read_config(
        make_node(keyframe__interval=7, overlay__alpha=0.25, bundle='other', backend='torch')
    )
    expected = {'keyframe.interval': 7, 'overlay.alpha': 0.25, 'bundle': 'other', 'backend': 'torch'}
    assert config == replace(DffConfig(), expected)


@pytest.mark.parametrize(
    ('overrides', 'complaint'),
    [
        ({'keyframe__interval': 0}, 'keyframe.interval.*from 1 to 1000 frames'),
        ({'keyframe__interval': 2.5}, 'keyframe.interval takes an integer'),
        ({'keyframe__max_age_s': 2}, 'keyframe.max_age_s takes a decimal number'),
        ({'overlay__alpha': 1.5}, 'overlay.alpha.*from 0 to 1'),
        ({'backend': 'tensorflow'}, "backend: got 'tensorflow', allowed is one of auto, onnx, torch"),
        ({'bundle': 3}, 'bundle takes a text'),
    ],
)
def test_a_bad_override_is_refused_by_name_and_range(make_node, overrides, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_config(make_node(**overrides))


@pytest.mark.parametrize('parameter', KNOWN.values(), ids=KNOWN)
def test_descriptor_repeats_description_unit_range_and_read_only(parameter):
    descriptor = describe(parameter)
    assert parameter.description in descriptor.description
    assert parameter.unit in descriptor.description
    assert descriptor.read_only == (not parameter.runtime)
    assert not describe(parameter, is_read_only=False).read_only
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    if parameter.minimum is None:
        assert ranges == []
    else:
        assert [(r.from_value, r.to_value) for r in ranges] == [(parameter.minimum, parameter.maximum)]
    if parameter.choices:
        assert all(choice in descriptor.additional_constraints for choice in parameter.choices)


def test_descriptor_tells_when_a_parameter_may_change():
    assert describe(KNOWN['keyframe.interval']).description.endswith('; may change while running')
    assert describe(KNOWN['bundle']).description.endswith('; read at start')
    settable = describe(KNOWN['bundle'], is_read_only=False)
    assert settable.description.endswith('; may change while the node is unconfigured')


def test_interval_ages_and_alpha_change_at_runtime_and_nothing_else():
    runtime = {name for name, parameter in KNOWN.items() if parameter.runtime}
    assert runtime >= {'keyframe.interval', 'keyframe.max_age_s', 'keyframe.max_gap_s', 'overlay.alpha'}
    assert runtime.isdisjoint({'bundle', 'backend', 'device', 'flow', 'correction', 'num_threads'})


def test_a_good_set_is_applied_once_as_a_whole(make_node):
    node = make_node()
    changes: list[DffConfig] = []
    runtime = RuntimeParameters(node, read_config(node), changes.append)
    result = node.set_parameters_atomically(
        [RosParameter('keyframe.interval', value=9), RosParameter('overlay.alpha', value=0.75)]
    )
    assert result.successful
    assert changes == [replace(DffConfig(), {'keyframe.interval': 9, 'overlay.alpha': 0.75})]
    assert runtime.config == changes[-1]


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('keyframe.interval', 0, 'keyframe.interval'),
        ('keyframe.interval', 'five', 'type'),
        ('overlay.alpha', float('nan'), 'overlay.alpha out of range'),
        ('overlay.alpha', None, 'cannot be undeclared'),
        ('bundle', 'other', 'deactivate and cleanup first'),
    ],
)
def test_one_bad_value_refuses_the_whole_list_and_changes_nothing(make_node, name, value, reason):
    node = make_node()
    changes: list[DffConfig] = []
    config = read_config(node)
    runtime = RuntimeParameters(node, config, changes.append, is_unconfigured=lambda: False)
    result = node.set_parameters_atomically(
        [RosParameter('keyframe.max_age_s', value=1.0), RosParameter(name, value=value)]
    )
    assert not result.successful
    assert reason in result.reason
    assert changes == []
    assert runtime.config == DffConfig()
    assert node.get_parameter('keyframe.max_age_s').value == DffConfig().keyframe.max_age_s


def test_what_is_read_at_configure_changes_while_unconfigured_only(make_node):
    node = make_node()
    runtime = RuntimeParameters(node, read_config(node), lambda config: None, is_unconfigured=lambda: True)
    assert node.set_parameters([RosParameter('bundle', value='other')])[0].successful
    assert runtime.config == replace(DffConfig(), {'bundle': 'other'})
    (bad,) = node.set_parameters([RosParameter('backend', value='tensorflow')])
    assert (bad.successful, 'one of auto, onnx, torch' in bad.reason) == (False, True)
    assert runtime.config.backend == 'auto'


def test_a_whole_parameter_file_may_be_set_again_while_configured(make_node):
    node = make_node()
    config = read_config(node)
    RuntimeParameters(node, config, lambda config: None, is_unconfigured=lambda: False)
    same = [RosParameter(name, value=value) for name, value in to_flat(config).items()]
    assert node.set_parameters_atomically(same).successful


def test_a_bad_value_of_an_unchecked_parameter_is_named_later_and_can_be_set_right(make_node):
    depth = Parameter('qos_overrides./x.publisher.depth', int, 5, 'Depth', minimum=1, maximum=9)
    node = make_node('--ros-args', '-p', f'{depth.name}:=abc')
    declare_unchecked(node, [depth])
    RuntimeParameters(node, read_config(node), lambda config: None, others=[depth])
    with pytest.raises(ConfigError, match=f"{depth.name}: got 'abc'.*from 1 to 9"):
        check_values(node, [depth])
    for wrong in ('def', -3, 10, None):
        (result,) = node.set_parameters([RosParameter(depth.name, value=wrong)])
        assert (result.successful, 'from 1 to 9' in result.reason) == (False, True)
    assert node.set_parameters([RosParameter(depth.name, value=9)])[0].successful
    check_values(node, [depth])


def test_setting_the_same_value_is_no_change(make_node):
    node = make_node()
    changes: list[DffConfig] = []
    RuntimeParameters(node, read_config(node), changes.append)
    assert node.set_parameters([RosParameter('keyframe.interval', value=5)])[0].successful
    assert changes == []


def test_a_misspelt_override_is_reported(make_node):
    node = make_node(keyframe__intervall=3, use_sim_time=False)
    read_config(node)
    assert unknown_overrides(node) == [
        "parameter 'keyframe.intervall' is unknown and ignored: did you mean 'keyframe.interval'?"
    ]


def test_the_parameter_file_is_what_the_dataclass_generates():
    assert PARAMETER_FILE.read_text() == to_yaml(), 'run: python -m dff_ros.ros.parameters > config/dff.yaml'


def test_the_parameter_file_holds_every_parameter_at_its_default():
    parameters = yaml.safe_load(to_yaml())['/**/dff_node']['ros__parameters']
    assert flatten(parameters) == {'autostart': True, 'cameras': '', **to_flat(DffConfig())}


def test_ros_loads_the_parameter_file(make_node, tmp_path):
    path = tmp_path / 'dff.yaml'
    path.write_text(to_yaml().replace('interval: 5', 'interval: 8').replace('alpha: 0.5', 'alpha: 0.125'))
    node = make_node('--ros-args', '--params-file', str(path))
    config = read_config(node)
    assert config == replace(DffConfig(), {'keyframe.interval': 8, 'overlay.alpha': 0.125})
    assert node.describe_parameter('overlay.alpha').type == ParameterType.PARAMETER_DOUBLE
