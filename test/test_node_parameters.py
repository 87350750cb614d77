# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Parameters over DDS: refusals that say why, sets that are whole or not at all, dumps that load back."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rclpy')
import yaml
from fake_backend import FakeBackend
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter import parameter_value_to_python
from ros_helpers import Peer, fake_model, image_message, stamp

from dff_ros.config import DffConfig, to_flat
from dff_ros.ros.node import DffNode

RELIABILITY = 'qos_overrides./image.subscription.reliability'


def message(name: str, value: object) -> Parameter:
    return RosParameter(name, value=value).to_parameter_msg()


def set_each(peer: Peer, **changes: object) -> list[tuple[bool, str]]:
    """The results of `set_parameters`, with `__` for the dot."""
    asked = [message(name.replace('__', '.'), value) for name, value in changes.items()]
    response = peer.call(SetParameters, '/dff_node/set_parameters', parameters=asked)
    return [(result.successful, result.reason) for result in response.results]


@pytest.fixture
def peer(graph):
    graph.start_node(FakeBackend())
    return graph.start_peer()


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('keyframe.interval', 0, 'keyframe.interval out of range'),
        ('keyframe.interval', 10**12, 'keyframe.interval out of range'),
        ('keyframe.interval', 2.5, "expected 'Type.INTEGER' got 'Type.DOUBLE'"),
        ('keyframe.interval', 'five', "expected 'Type.INTEGER' got 'Type.STRING'"),
        ('keyframe.interval', [5], "expected 'Type.INTEGER' got 'Type.INTEGER_ARRAY'"),
        ('keyframe.interval', None, 'cannot be undeclared'),
        ('overlay.alpha', float('nan'), 'overlay.alpha out of range'),
        ('overlay.alpha', float('inf'), 'overlay.alpha out of range'),
        ('budget_ms', float('-inf'), 'budget_ms out of range'),
        (
            'keyframe.scheduler',
            'guess',
            "keyframe.scheduler: got 'guess', allowed is one of fixed, period, motion",
        ),
        ('tasks', 'depth', 'depth'),
        ('autostart', False, 'read-only parameter: autostart'),
        ('cameras', 'front', 'read-only parameter: cameras'),
        ('bundle', 'other', 'bundle may change only while the node is unconfigured'),
        (RELIABILITY, 'reliable', 'may change only while the node is unconfigured'),
        (RELIABILITY, 'certain', 'allowed is one of system_default, reliable, best_effort'),
        (
            'keyframe.intervall',
            3,
            "parameter 'keyframe.intervall' is unknown: did you mean 'keyframe.interval'?",
        ),
        ('diagnostics.stale_s', 0.0, 'diagnostics.stale_s out of range'),
    ],
)
def test_a_refusal_says_why_and_the_list_it_is_in_changes_nothing(peer, name, value, reason):
    asked = [message('keyframe.max_age_s', 1.0), message(name, value)]
    result = peer.call(
        SetParametersAtomically, '/dff_node/set_parameters_atomically', parameters=asked
    ).result
    assert not result.successful
    assert reason in result.reason
    kept = peer.call(
        GetParameters, '/dff_node/get_parameters', names=['keyframe.max_age_s', 'keyframe.interval']
    )
    assert [parameter_value_to_python(value) for value in kept.values] == [2.0, 5]


def test_a_request_that_cannot_be_read_is_refused(graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    garbage = Parameter(name='keyframe.interval', value=ParameterValue(type=99))
    client = peer.create_client(SetParameters, '/dff_node/set_parameters')
    assert client.wait_for_service(20)
    (refused,) = client.call(SetParameters.Request(parameters=[garbage]), 20).results
    assert refused.reason == "'keyframe.interval' has a value of type 99, which ROS does not have"
    assert set_each(peer, keyframe__interval=7) == [(True, '')]
    assert peer.ask(image_message(0))['state'] == 'key'
    assert node._parameters_now.config.keyframe.interval == 7


def dump(peer: Peer, path: Path) -> dict[str, object]:
    """What `ros2 param dump` writes, from the same services; all values by name."""
    names = peer.call(ListParameters, '/dff_node/list_parameters').result.names
    values = peer.call(GetParameters, '/dff_node/get_parameters', names=names).values
    found = {name: parameter_value_to_python(value) for name, value in zip(names, values, strict=True)}
    tree: dict[str, object] = {}
    for name, value in sorted(found.items()):
        *groups, last = name.split('.')
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    path.write_text(yaml.safe_dump({'/dff_node': {'ros__parameters': tree}}))
    return found


@pytest.mark.parametrize('cameras', ['', 'front,rear'])
def test_a_dump_of_a_changed_node_starts_one_that_is_equal(graph, ros_context, tmp_path, cameras):
    changes = {'keyframe.interval': 8, 'overlay.alpha': 0.25, 'diagnostics.stale_s': 3.0}
    node = graph.start_node(FakeBackend(), cameras=cameras, bundle='other', num_threads=2)
    peer = Peer(graph.context)
    graph.spin(peer)
    assert (
        set_each(peer, **{name.replace('.', '__'): value for name, value in changes.items()})
        == [(True, '')] * 3
    )
    path = tmp_path / 'dump.yaml'
    found = dump(peer, path)
    assert {name: found[name] for name in to_flat(DffConfig())} == to_flat(node._parameters_now.config)
    twin = DffNode(
        open_model=fake_model(FakeBackend()),
        context=ros_context,
        cli_args=['--ros-args', '--params-file', str(path)],
    )
    try:
        assert twin._parameters_now.config == node._parameters_now.config
        assert twin._cameras == node._cameras
        exit_codes: list[int] = []
        twin.start(exit_codes.append)
        assert exit_codes == []
        names = [name for name in found if twin.has_parameter(name)]
        assert set(found) == set(names)
        assert {name: twin.get_parameter(name).value for name in names} == found
    finally:
        twin.destroy_node()


def test_a_thousand_sets_while_images_run_lose_nothing(graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    num_images = 100
    for number in range(num_images):
        for turn in range(5):
            interval = 1 + (number * 5 + turn) % 1000
            assert (
                set_each(peer, keyframe__interval=interval, overlay__alpha=interval / 1000)
                == [(True, '')] * 2
            )
        peer.ask(image_message(number))
    assert peer.stamps() == [stamp(number) for number in range(num_images)]
    last = peer.facts()[-1]
    assert (last['received'], last['processed'], last['dropped']) == ('100', '100', '0')
    assert last['interval'] == str(node._parameters_now.config.keyframe.interval) == '500'
