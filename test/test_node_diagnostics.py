# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`/diagnostics` over real DDS: once a second in every state, with what happened to each camera."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fake_backend import FakeBackend
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_helpers import GatedBackend, Peer, image_message, stamp, wait_until

from dff_ros.backends.base import BackendInfo
from dff_ros.health import Level
from dff_ros.ros import diagnostics
from dff_ros.ros.node import DffNode
from dff_ros.stamps import KINDS

SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.fixture
def often(monkeypatch):
    """Twenty times a second."""
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.05)


def test_it_is_published_once_a_second(graph):
    node = graph.start_node(FakeBackend(), autostart=False)
    assert node._diagnostics._timer.timer_period_ns == 1_000_000_000


def watch(graph) -> tuple[Peer, list[DiagnosticArray]]:
    """A peer that records `/diagnostics`."""
    peer = Peer(graph.context)
    arrays: list[DiagnosticArray] = []
    peer.create_subscription(DiagnosticArray, '/diagnostics', peer._record(arrays), 10)
    graph.spin(peer)
    return peer, arrays


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def reported(node: DffNode, of: str = 'camera') -> tuple[Level, str, dict[str, object]]:
    (found,) = [report for report in node._reports() if report.of == of]
    return found.level, found.message, dict(found.values)


def test_it_goes_on_in_every_state_and_while_simulated_time_stands_still(graph, often):
    node = graph.start_node(FakeBackend(), autostart=False, use_sim_time=True, cameras=['front', 'rear'])
    peer, arrays = watch(graph)

    def next_array() -> DiagnosticArray:
        number = len(arrays)
        peer.wait_for(lambda: len(arrays) > number + 1, 'diagnostics of this state')  # one may be of before
        return arrays[-1]

    found = {}
    for steps, state in (
        ([], 'unconfigured'),
        ([node.trigger_configure], 'inactive'),
        ([node.trigger_activate], 'active'),
        ([node.trigger_shutdown], 'finalized'),
    ):
        assert [step() for step in steps] == [SUCCESS] * len(steps)
        array = found[state] = next_array()
        assert values(array.status[0])['state'] == state
        assert (array.status[0].name, array.status[0].level) == ('dff_node: node', DiagnosticStatus.OK)
        assert array.header.stamp.sec == 0  # there is no /clock
    messages = {state: [status.message for status in array.status] for state, array in found.items()}
    assert messages['unconfigured'] == ['unconfigured']
    assert messages['inactive'] == ['inactive'] * 3
    assert [status.name for status in found['active'].status] == [
        'dff_node: node', 'dff_node: camera front', 'dff_node: camera rear',
    ]  # fmt: skip
    assert [status.hardware_id for status in found['active'].status][1:] == ['/front/image', '/rear/image']
    facts = values(found['active'].status[0])
    model = {'bundle': 'road-r18', 'backend': 'fake', 'device': 'cpu', 'runtime': 'none', 'num_threads': '1'}
    assert (
        model | {'enabled': 'true', 'cameras': 'front,rear', 'clock': 'simulated'}
    ).items() <= facts.items()
    assert float(facts['memory_mb']) > 10
    assert found['active'].status[0].hardware_id.endswith(' cpu')


def test_counts_and_figures_are_those_of_the_cameras_status(graph):
    node = graph.start_node(FakeBackend(fail_on={7}), keyframe__interval=4)
    peer = graph.start_peer()
    for number in range(4):
        peer.ask(image_message(number))
    peer.ask(image_message(4, stamp_ns=stamp(3)))
    broken = image_message(5)
    broken.step = 1
    peer.ask(broken)
    peer.ask(image_message(7))
    last = peer.ask(image_message(8, size=(48, 32)))
    level, message, facts = reported(node)
    assert (level, message) == (
        Level.WARN,
        'dropped in the last second: conversion 1, duplicate_stamp 1, engine_error 1',
    )
    told = ('received', 'processed', 'dropped', 'lost', 'resets.error', 'dropped.conversion', 'stamps.past')
    assert {name: str(facts[name]) for name in told} == {name: last[name] for name in told}
    assert (facts['received'], facts['processed'], facts['stamps.duplicate'], facts['resets.error']) == (
        8,
        5,
        1,
        1,
    )
    assert facts['key_ratio'] == 2 / 5
    assert facts['age_frames_mean'] == (0 + 1 + 2 + 3 + 0) / 5
    assert facts['age_s_mean'] == pytest.approx(0.6 / 5)
    assert facts['degraded_ratio'] == 0
    assert facts['latency_p50_ms'] <= facts['latency_p99_ms']
    level, message, facts = reported(node)
    assert level is Level.OK  # those drops were of a second before
    assert facts['dropped_last_s'] == 0


def test_a_camera_without_images_is_stale_and_a_node_that_does_not_answer_an_error(graph):
    backend = GatedBackend()
    node = graph.start_node(backend, diagnostics__stale_s=0.1)
    wait_until(lambda: reported(node)[0] is Level.STALE, 'silence')
    assert 'no image for' in reported(node)[1]
    peer = graph.start_peer()
    node.set_parameters([Parameter('diagnostics.stale_s', value=3600.0)])
    peer.ask(image_message(0))
    assert reported(node)[0] is Level.OK
    backend.gate.clear()
    peer.camera.publish(image_message(1))
    assert backend.entered.acquire(timeout=20)
    health = node._topics[''].pipeline.health
    wait_until(lambda: health.figures(node._mailbox.counts('')).unanswered_s > 0.1, 'a wait')
    node.set_parameters([Parameter('diagnostics.stale_s', value=0.1)])
    health.arrived()  # images go on coming
    level, message, _ = reported(node)
    assert (level, message.split(' for ')[0]) == (Level.ERROR, 'images come, but none was answered')
    backend.gate.set()
    peer.wait_for(lambda: len(peer.statuses) == 2, 'the answer')


def test_thresholds_are_parameters_that_change_while_it_runs(graph):
    node = graph.start_node(FakeBackend(), diagnostics__latency_warn_ms=60000.0)
    peer = graph.start_peer()
    peer.ask(image_message(0))
    assert reported(node)[0] is Level.OK
    for name, level in (('latency_warn_ms', Level.WARN), ('latency_error_ms', Level.ERROR)):
        node.set_parameters([Parameter(f'diagnostics.{name}', value=0.001)])
        node.set_parameters(
            [Parameter('diagnostics.latency_error_ms', value=60000.0)] if level is Level.WARN else []
        )
        found, message, facts = reported(node)
        assert found is level
        assert message.startswith('latency p99')
        assert facts[name] == 0.001


def test_disabled_is_no_fault_and_begins_anew_when_enabled(graph):
    node = graph.start_node(FakeBackend(), diagnostics__stale_s=0.1)
    graph.start_peer().ask(image_message(0))
    node._operators.is_enabled = False
    node._set_enabled(False)
    assert reported(node)[:2] == (Level.OK, 'disabled')
    assert reported(node, 'node')[:2] == (Level.OK, 'disabled')
    node.set_parameters([Parameter('diagnostics.stale_s', value=3600.0)])
    node._operators.is_enabled = True
    node._set_enabled(True)
    assert reported(node)[:2] == (Level.OK, 'waiting for the first answer')


def test_a_node_that_could_not_be_configured_says_why(graph, capfd):
    def fail(config):
        raise RuntimeError('Failed to allocate memory for requested buffer of size 99')

    node = DffNode(open_model=fail, context=graph.context)
    graph.spin(node)
    node.start(graph.exit_codes.append)
    level, message, facts = reported(node, 'node')
    assert (level, facts['state'], facts['bundle']) == (Level.ERROR, 'unconfigured', 'road-r18')
    assert message.startswith(
        "could not be configured: with bundle 'road-r18': RuntimeError('Failed to allocate"
    )
    assert message.endswith('use a smaller image, fewer cameras or tasks, or refresh: inline')
    assert f'dff_node {message}' in capfd.readouterr().err


def test_a_report_that_fails_is_logged_and_the_node_goes_on(graph, often, monkeypatch, capfd):
    node = graph.start_node(FakeBackend())
    peer, arrays = watch(graph)
    failing = [True]
    reports = node._diagnostics._reports

    def fail_once():
        if failing.pop() if failing else False:
            raise RuntimeError('no report')
        return reports()

    monkeypatch.setattr(node._diagnostics, '_reports', fail_once)
    wait_until(lambda: not failing, 'the failure')
    number = len(arrays)
    peer.wait_for(lambda: len(arrays) > number, 'diagnostics after the failure')
    assert 'no diagnostics:' in capfd.readouterr().err


def test_the_page_for_operators_has_every_key(graph):
    node = graph.start_node(FakeBackend(fail_on={1}), cameras='front', refresh_backend=FakeBackend())
    peer = graph.start_peer(camera='front')
    for number in (2, 1, 0):
        peer.ask(image_message(number))
    page = (Path(__file__).parents[1] / 'docs' / 'operations.md').read_text()
    families = {'dropped': 'REASON', 'dropped_last_s': 'REASON', 'resets': 'CAUSE', 'stamps': 'KIND'}
    keys = {key for report in node._reports() for key in report.values}
    assert {'dropped.engine_error', 'resets.error', 'stamps.backward', 'refresh_threads'} <= keys
    for key in keys:
        family, _, member = key.partition('.')
        name = f'{family}.{families[family]}' if member and family in families else key
        assert f'`{name}`' in page, key
    assert all(f'`{kind}`' in page for kind in KINDS)


def test_a_node_that_computes_on_the_cpu_in_place_of_what_was_asked_for_warns(graph):
    class FallenBack(FakeBackend):
        info = BackendInfo('fake', 'cpu', 'none', 1, 'asked for', 'cpu', 'fp32', fallback='no CUDA device')

    node = graph.start_node(FallenBack())
    answer = graph.start_peer().ask(image_message(1))
    level, message, facts = reported(node, 'node')
    assert (level, message) == (Level.WARN, 'the CPU computes, as fallback is set: no CUDA device')
    told = {'device': 'cpu', 'provider': 'cpu', 'precision': 'fp32', 'fallback': 'no CUDA device'}
    assert told.items() <= facts.items()
    assert told.items() <= answer.items()
