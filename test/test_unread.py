# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Nothing is made that nobody reads: messages, the overlay, with `pause_unread` the tasks themselves."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from fake_backend import FakeBackend
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from ros_helpers import BOX_SPEC, TIMEOUT_S, Graph, camera_info_message, image_message, stamp, wait_until
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

from dff_ros.messages import stamp_to_ns
from dff_ros.ros import publishers, qos
from dff_ros.ros.conversions import diagnostic_values
from dff_ros.ros.node import DffNode

SEGMENTATION, CONFIDENCE, CALIBRATION = 'dff/segmentation', 'dff/confidence', 'dff/camera_info'
DETECTIONS, OVERLAY = 'dff/detections', 'dff/overlay'
KINDS = {CALIBRATION: CameraInfo, DETECTIONS: Detection2DArray}
CONVERSIONS = ('fill_image', 'to_camera_info', 'to_detection_array')


class Reader(Node):
    """A camera that reads `dff/status`, and of the other outputs what it is told to."""

    def __init__(self, graph: Graph, node: DffNode) -> None:
        super().__init__('reader', context=graph.context)
        self.stamps: dict[str, list[int]] = {}
        self._outputs = node._topics[''].publishers._advertised
        self._readers: dict[str, object] = {}
        self._news = threading.Condition()
        self._statuses: list[dict[str, str]] = []
        self._camera = self.create_publisher(Image, 'image', 10)
        self._calibration = self.create_publisher(CameraInfo, 'camera_info', 10)
        self.create_subscription(DiagnosticArray, 'dff/status', self._store_status, qos.status_output())
        graph.spin(self)
        ends = self._camera, self._calibration, self._outputs['dff/status']
        wait_until(lambda: all(end.get_subscription_count() for end in ends), 'reader and node to match')

    def read(self, topic: str) -> None:
        """Subscribe; back once the node knows."""
        stamps = self.stamps.setdefault(topic, [])

        def store(message: Image | CameraInfo | Detection2DArray) -> None:
            with self._news:
                stamps.append(stamp_to_ns(message.header.stamp))
                self._news.notify_all()

        self._readers[topic] = self.create_subscription(
            KINDS.get(topic, Image), topic, store, qos.image_output()
        )
        wait_until(
            lambda: self._outputs[topic].get_subscription_count(), f'the node to see who reads {topic}'
        )

    def leave(self, topic: str) -> None:
        """Read it no more; back once the node knows."""
        self.destroy_subscription(self._readers.pop(topic))
        wait_until(lambda: not self._outputs[topic].get_subscription_count(), f'{topic} to be left')

    def ask(self, number: int) -> dict[str, str]:
        """Send the calibration and an image; the values of its status."""
        self._calibration.publish(camera_info_message(number))
        self._camera.publish(image_message(number))
        with self._news:
            assert self._news.wait_for(lambda: len(self._statuses) > number, TIMEOUT_S), f'image {number}'
            return self._statuses[number]

    def wait_for(self, topic: str, *numbers: int) -> None:
        """Until the answers to exactly these images have come."""
        with self._news:
            expected = [stamp(number) for number in numbers]
            assert self._news.wait_for(lambda: self.stamps[topic] == expected, TIMEOUT_S), self.stamps

    def _store_status(self, message: DiagnosticArray) -> None:
        with self._news:
            self._statuses.append(diagnostic_values(message))
            self._news.notify_all()


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """What was made of answers, by function, in order."""
    names: list[str] = []
    for name in CONVERSIONS:
        function = getattr(publishers, name)
        monkeypatch.setattr(publishers, name, lambda *args, n=name, f=function: names.append(n) or f(*args))
    return names


def test_each_output_is_made_only_while_someone_reads_it(graph, made):
    node = graph.start_node(FakeBackend(), BOX_SPEC)
    reader = Reader(graph, node)
    published: list[str] = []
    for topic, publisher in reader._outputs.items():
        _count_into(published, topic, publisher)
    assert reader.ask(0)['tasks'] == 'segmentation,detection'  # all is computed
    assert (made, published) == ([], ['dff/status', *_others(reader)])
    for number, (topic, conversion) in enumerate(
        [
            (SEGMENTATION, 'fill_image'),
            (CONFIDENCE, 'fill_image'),
            (CALIBRATION, 'to_camera_info'),
            (DETECTIONS, 'to_detection_array'),
            (OVERLAY, 'fill_image'),
        ],
        start=1,
    ):
        made.clear()
        published.clear()
        reader.read(topic)
        facts = reader.ask(number)
        reader.wait_for(topic, number)
        assert (made, published) == ([conversion], [topic, 'dff/status', *_others(reader)])
        assert facts['camera_info'] == 'published'  # it could be, whoever reads
        reader.leave(topic)


def _count_into(published: list[str], topic: str, publisher: Publisher) -> None:
    publish = publisher.publish
    publisher.publish = lambda message: published.append(topic) or publish(message)


def _others(reader: Reader) -> list[str]:
    """Of the status in numbers, where dff_msgs is there."""
    return ['dff/frame_status'] if 'dff/frame_status' in reader._outputs else []


def test_an_output_that_users_made_latched_is_made_for_late_readers(graph):
    name = 'qos_overrides./dff/detections.publisher.durability'
    node = graph.start_node(FakeBackend(), BOX_SPEC, pause_unread=True, **{name: 'transient_local'})
    reader = Reader(graph, node)
    assert reader.ask(0)['tasks'] == 'detection'
    late: list[int] = []
    reader.create_subscription(
        Detection2DArray, DETECTIONS, lambda m: late.append(stamp_to_ns(m.header.stamp)), qos.latched()
    )
    wait_until(lambda: late == [stamp(0)], 'the boxes of before')


def test_tasks_that_nobody_reads_pause_and_go_on_with_the_next_image_after_someone_does(graph):
    backend = FakeBackend()
    node = graph.start_node(backend, BOX_SPEC, pause_unread=True, keyframe__interval=3)
    reader = Reader(graph, node)
    del backend.calls[:]
    facts = [reader.ask(0)]
    for number, (topic, is_read) in enumerate(
        [(DETECTIONS, True), (CONFIDENCE, True), (DETECTIONS, False), (CONFIDENCE, False), (OVERLAY, True)],
        start=1,
    ):
        (reader.read if is_read else reader.leave)(topic)
        facts.append(reader.ask(number))
    assert [(fact['state'], fact['tasks']) for fact in facts] == [
        ('idle', ''),
        ('key', 'detection'),
        ('propagated', 'segmentation,detection'),
        ('propagated', 'segmentation'),
        ('idle', ''),
        ('key', 'segmentation,detection'),
    ]
    assert [fact['reason'] for fact in facts if fact['state'] == 'idle'] == ['unread', 'unread']
    assert [call.split(' (')[0] for call in backend.calls] == [
        'extract 1', 'detect 1', 'propagate 1->2', 'detect 101', 'propagate 1->3', 'extract 5', 'detect 5',
    ]  # fmt: skip
    assert (facts[-1]['processed'], facts[-1]['dropped']) == ('6', '0')


def test_both_settings_change_while_running(graph):
    node = graph.start_node(FakeBackend(), BOX_SPEC)
    reader = Reader(graph, node)
    reader.read(CONFIDENCE)
    steps = [
        {},
        {'segmentation.confidence': False},
        {'pause_unread': True},
        {'segmentation.confidence': True, 'segmentation.min_confidence': 0.5},
    ]
    facts = []
    for number, changes in enumerate(steps):
        result = node.set_parameters_atomically([Parameter(k, value=v) for k, v in changes.items()])
        assert result.successful
        facts.append(reader.ask(number))
    assert [(fact['mean_confidence'], fact['tasks']) for fact in facts] == [
        ('0.784', 'segmentation,detection'),
        ('', 'segmentation,detection'),
        ('', 'segmentation'),
        ('0.784', 'segmentation'),
    ]
    assert {fact['share_unknown'] for fact in facts} == {'0.000'}
    reader.wait_for(CONFIDENCE, 0, 3)
    refused = node.set_parameters_atomically([Parameter('segmentation.confidence', value=False)])
    assert not refused.successful
    assert 'segmentation.min_confidence: got 0.5, which takes the confidence' in refused.reason
