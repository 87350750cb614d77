# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The camera node over real DDS: order, stamps, lock-step, end."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from fake_backend import FakeBackend
from PIL import Image as PillowImage
from rclpy.parameter import Parameter
from ros_helpers import TIMEOUT_S, Peer, wait_until
from sensor_msgs.msg import Image

from dff_ros.errors import ConfigError
from dff_ros.messages import stamp_to_ns
from dff_ros.ros import qos
from dff_ros.ros.camera import STAMP_ORIGIN_NS, CameraNode
from dff_ros.ros.conversions import diagnostic_values

NUM_FRAMES = 4


@pytest.fixture
def folder(tmp_path):
    """Four images whose pixels hold 1, 2, 3 and 4."""
    for number in range(1, NUM_FRAMES + 1):
        PillowImage.fromarray(np.full((32, 48, 3), number, np.uint8)).save(tmp_path / f'{number}.png')
    return tmp_path


class Viewer(Peer):
    """A peer that also follows the camera."""

    def __init__(self, context) -> None:
        super().__init__(context)
        self.images: list[Image] = []
        self.told: list[dict[str, str]] = []
        self.create_subscription(Image, 'image', self._record(self.images), qos.image_output())
        self.create_subscription(DiagnosticArray, 'dff_camera/status', self._keep, qos.history_output())

    def _keep(self, message: DiagnosticArray) -> None:
        facts = diagnostic_values(message) | {'stamp_ns': str(stamp_to_ns(message.header.stamp))}
        self._record(self.told)(facts)


def start_camera(graph, source, **parameters):
    """A started camera and the event and list that tell its end."""
    overrides = [
        Parameter(name, value=value) for name, value in ({'source': str(source)} | parameters).items()
    ]
    camera = CameraNode(context=graph.context, parameter_overrides=overrides)
    graph.spin(camera)
    ended, codes = threading.Event(), []

    def finish(code: int) -> None:
        codes.append(code)
        ended.set()

    camera.start(finish)
    return camera, ended, codes


def start_viewer(graph) -> Viewer:
    viewer = Viewer(graph.context)
    graph.spin(viewer)
    return viewer


def test_lock_step_sends_each_frame_after_the_answer_to_the_one_before(graph, folder):
    backend = FakeBackend(fail_on={3})
    graph.start_node(backend, keyframe__interval=2)
    viewer = start_viewer(graph)
    _, ended, codes = start_camera(graph, folder, rate=0.0, min_subscribers=2)
    assert ended.wait(TIMEOUT_S)
    assert codes == [0]
    viewer.wait_for(lambda: viewer.told and viewer.told[-1]['state'] == 'finished', 'the end')
    viewer.wait_for(lambda: len(viewer.statuses) == NUM_FRAMES, 'all answers')
    assert [facts['state'] for facts in viewer.facts()] == ['key', 'propagated', 'dropped', 'key']
    last = viewer.facts()[-1]
    assert (last['received'], last['processed'], last['dropped.engine_error']) == ('4', '3', '1')
    stamps = [
        STAMP_ORIGIN_NS + round(index * 1e9 / 30) for index in range(NUM_FRAMES)
    ]  # a folder has 30 a second
    assert [stamp_to_ns(message.header.stamp) for message in viewer.images] == stamps
    assert [message.data[0] for message in viewer.images] == [1, 2, 3, 4]
    images = [facts for facts in viewer.told if facts['state'] == 'published']
    assert [(f['index'], f['name'], f['stamp_ns']) for f in images] == [
        (str(index), f'{index + 1}.png', str(stamp)) for index, stamp in enumerate(stamps)
    ]
    assert (viewer.told[-1]['published'], viewer.told[-1]['error']) == ('4', '')


def test_live_camera_stamps_with_the_clock_loops_and_ends_after_its_number_of_frames(graph, folder):
    viewer = start_viewer(graph)
    before_ns = viewer.get_clock().now().nanoseconds
    camera, ended, codes = start_camera(
        graph, folder, rate=200.0, num_frames=6, loop=True, frame_id='front', min_subscribers=1
    )
    assert ended.wait(TIMEOUT_S)
    assert codes == [0]
    viewer.wait_for(lambda: viewer.told and viewer.told[-1]['state'] == 'finished', 'the end')
    viewer.wait_for(lambda: len(viewer.images) == 6, 'six images')
    stamps = [stamp_to_ns(message.header.stamp) for message in viewer.images]
    assert stamps == sorted(set(stamps))
    assert before_ns < stamps[0]
    assert stamps[-1] < camera.get_clock().now().nanoseconds
    assert (
        stamps[-1] - stamps[0] >= 5 * 4_000_000
    )  # five periods of 5 ms; a sleep may end early by its resolution
    assert [message.data[0] for message in viewer.images] == [1, 2, 3, 4, 1, 2]
    assert {message.header.frame_id for message in viewer.images} == {'front'}
    assert [facts['index'] for facts in viewer.told[:-1]] == ['0', '1', '2', '3', '4', '5']


def test_nothing_is_sent_before_the_subscribers_are_there(graph, folder):
    camera, ended, codes = start_camera(graph, folder, rate=1000.0, min_subscribers=1)
    wait_until(lambda: camera._thread.is_alive(), 'the camera thread')
    assert camera._num_published == 0
    viewer = start_viewer(graph)
    assert ended.wait(TIMEOUT_S)
    viewer.wait_for(lambda: len(viewer.images) == NUM_FRAMES, 'all images')
    assert [message.data[0] for message in viewer.images] == [1, 2, 3, 4]


def test_an_unreadable_frame_ends_the_camera_with_code_1(graph, folder):
    (folder / '3.png').write_bytes(b'no image')
    viewer = start_viewer(graph)
    _, ended, codes = start_camera(graph, folder, rate=1000.0)
    assert ended.wait(TIMEOUT_S)
    assert codes == [1]
    viewer.wait_for(lambda: viewer.told and viewer.told[-1]['state'] == 'finished', 'the end')
    assert viewer.told[-1]['published'] == '2'
    assert '3.png cannot be decoded as an image' in viewer.told[-1]['error']
    assert len(viewer.images) <= 2


def test_a_missing_source_and_a_bad_parameter_are_refused_by_name(graph, tmp_path):
    with pytest.raises(ConfigError, match='nothing.mp4'):
        start_camera(graph, tmp_path / 'nothing.mp4')
    with pytest.raises(ConfigError, match='rate'):
        start_camera(graph, tmp_path, rate=-1.0)
