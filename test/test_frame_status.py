# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""dff/frame_status over real DDS: the typed form of the facts, beside the texts of dff/status."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

pytest.importorskip('dff_msgs.msg')
from dff_msgs.msg import FrameStatus
from fake_backend import FakeBackend
from ros_helpers import BOX_SPEC, GatedBackend, Graph, Peer, camera_info_message, image_message, stamp

from dff_ros.deadline import DeadlineController
from dff_ros.messages import stamp_to_ns
from dff_ros.ros.conversions import diagnostic_values

STATES = {
    name.lower(): getattr(FrameStatus, name)
    for name in ('KEY', 'PROPAGATED', 'DEGRADED', 'IDLE', 'SKIPPED', 'DROPPED')
}
CAMERA_INFOS = {
    name: getattr(FrameStatus, f'CAMERA_INFO_{name.upper()}')
    for name in ('none', 'published', 'unfit', 'uncalibrated')
}
FIELDS = {  # of the message, and the key of the text; seconds and milliseconds apart
    'camera': 'camera', 'reason': 'reason', 'detail': 'detail', 'is_refreshed': 'is_refreshed',
    'reset_cause': 'reset_cause', 'age_frames': 'age_frames', 'age': 'age_s',
    'mean_confidence': 'mean_confidence', 'share_unknown': 'share_unknown', 'motion': 'motion_px',
    'coverage': 'coverage', 'residual': 'residual', 'disagreement': 'disagreement',
    'num_detections': 'num_detections', 'received': 'received', 'processed': 'processed',
    'pending': 'pending', 'lost': 'lost', 'camera_infos_refused': 'camera_info.refused',
}  # fmt: skip
TIMES = {
    'convert': 'convert_ms', 'extract': 'extract_ms', 'propagate': 'propagate_ms', 'flow': 'flow_ms',
    'warp': 'warp_ms', 'correct': 'correct_ms', 'segmentation': 'predict_segmentation_ms',
    'detection': 'predict_detection_ms', 'total': 'total_ms',
}  # fmt: skip


def number(text: str) -> float:
    """Of a text of dff/status: NaN for none."""
    return float(text) if text else math.nan


def check_equal(message: FrameStatus, texts: dict[str, str]) -> None:
    """The message and the texts tell the same."""
    assert (message.state, message.camera_info) == (
        STATES[texts['state']], CAMERA_INFOS[texts['camera_info']],
    )  # fmt: skip
    for field, key in FIELDS.items():
        if key not in texts:
            continue
        found, text = getattr(message, field), texts[key]
        if isinstance(found, bool):
            assert text == str(found).lower(), field
        elif isinstance(found, str):
            assert text == found, field
        elif field == 'num_detections':
            assert found == (int(text) if text else -1)
        else:
            assert found == pytest.approx(number(text), abs=6e-4, nan_ok=True), field
    for field, key in TIMES.items():
        if key in texts:
            assert getattr(message.stages, field) * 1e3 == pytest.approx(number(texts[key]), abs=6e-4), field
    if 'latency_ms' in texts:
        assert message.latency * 1e3 == pytest.approx(number(texts['latency_ms']), abs=6e-4, nan_ok=True)
    assert ','.join(message.tasks) == texts.get('tasks', '')
    for prefix, counts in (
        ('dropped.', message.drops),
        ('resets.', message.resets),
        ('stamps.', message.stamps),
    ):
        told = {key.removeprefix(prefix): int(text) for key, text in texts.items() if key.startswith(prefix)}
        assert {count.name: count.number for count in counts} == told


def statuses(peer: Peer, num: int) -> list[FrameStatus]:
    """The first messages, each checked against its texts."""
    peer.wait_for(lambda: len(peer.frame_statuses) == len(peer.statuses) == num, f'{num} of both statuses')
    for message, told in zip(peer.frame_statuses, peer.statuses, strict=True):
        assert message.header == told.header
        check_equal(message, diagnostic_values(told))
    return list(peer.frame_statuses)


def test_it_tells_what_the_texts_tell_of_every_state(graph: Graph, monkeypatch):
    graph.start_node(FakeBackend(fail_on={6}), BOX_SPEC, segmentation__every=2, detection__every=4)
    peer = graph.start_peer()
    peer.calibration.publish(camera_info_message(0, size=(1, 1)))
    broken = image_message(5)
    broken.encoding = 'unknown'
    messages = [image_message(0, frame_id='left'), *(image_message(n, frame_id='left') for n in (1, 2, 4, 6))]
    for message in (*messages, broken, image_message(8, frame_id='left')):
        peer.ask(message)
    with monkeypatch.context() as patch:
        patch.setattr(DeadlineController, 'is_skipping', property(lambda self: True))
        peer.ask(image_message(9, frame_id='left'))
    found = statuses(peer, 8)
    assert [message.state for message in found] == [
        STATES[name]
        for name in ('key', 'idle', 'propagated', 'idle', 'dropped', 'dropped', 'idle', 'skipped')
    ]
    key, idle, propagated = found[:3]
    assert stamp_to_ns(key.header.stamp) == stamp(0)
    assert (key.header.frame_id, key.reason, key.num_detections, key.age) == ('left', 'no_key', 2, 0.0)
    assert (propagated.age_frames, propagated.age, propagated.motion) == (2, pytest.approx(0.2), 4.0)
    assert (list(propagated.tasks), propagated.num_detections) == (['segmentation'], -1)
    assert math.isnan(idle.mean_confidence) and math.isnan(idle.motion) and list(idle.tasks) == []
    assert math.isnan(idle.latency) and idle.stages.convert > 0
    assert 0 < propagated.stages.total <= propagated.latency < 20


def test_it_tells_of_a_key_frame_that_could_not_be_had(graph: Graph):
    slow = GatedBackend()
    slow.gate.clear()
    graph.start_node(FakeBackend(), refresh_backend=slow, refresh='worker', keyframe__interval=2)
    peer = graph.start_peer()
    for index in range(4):
        peer.ask(image_message(index))
    found = statuses(peer, 4)
    assert [message.state for message in found] == [
        STATES[name] for name in ('key', 'propagated', 'propagated', 'degraded')
    ]
    assert [message.reason for message in found[2:]] == ['interval', 'refreshing']
    slow.gate.set()


def test_a_package_of_other_definitions_is_not_used_and_told():
    """Built before a field came, or after one went."""
    script = (
        'import sys, dff_msgs.msg as messages\n'
        'class Older(messages.FrameStatus):\n'
        '    def __init__(self, **fields):\n'
        '        assert "stamps" not in fields, "stamps"\n'
        'messages.FrameStatus = Older\n'
        'from dff_ros.ros import frame_status\n'
        'print(frame_status.FrameStatus, frame_status.OUTDATED)\n'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert done.stdout == (
        'None no dff/frame_status: dff_msgs has other definitions, build it again (AssertionError: stamps)\n'
    )


def test_without_dff_msgs_the_node_has_the_texts_alone():
    script = (
        'import sys; sys.modules["dff_msgs"] = None\n'
        'from dff_ros.ros import frame_status\n'
        'from dff_ros.frame_facts import FrameFacts\n'
        'assert frame_status.FrameStatus is None\n'
        'try: frame_status.to_frame_status(None, FrameFacts(state="key", reason=""))\n'
        'except RuntimeError as error: print(error)\n'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
    assert done.stdout == 'dff_msgs is not installed: build interfaces/dff_msgs\n'


def test_messages_whose_libraries_are_missing_are_not_used_and_told(monkeypatch):
    from dff_ros.ros import frame_status

    assert frame_status._load() == (frame_status._messages, '')
    monkeypatch.setitem(sys.modules, 'dff_msgs.dff_msgs_s__rosidl_typesupport_c', None)  # its import fails
    messages, why = frame_status._load()
    assert messages is None
    assert why.startswith(
        'no dff/frame_status: dff_msgs cannot be loaded, build it for this ROS and Python ('
    )
