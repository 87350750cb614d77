# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""One recording through `dff bag` and, image by image over DDS, through the live node: the same answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip('rosbags')
pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from made_bags import SPEC, camera_info, facts, image, item, on, read_bag, stamp_of, write_bag
from rclpy.serialization import deserialize_message
from ros_helpers import fake_model
from sensor_msgs.msg import CameraInfo, Image

from dff_ros.bag_job import BagJob, BagOptions
from dff_ros.bag_run import answer_bag
from dff_ros.config import DffConfig, KeyframeConfig
from dff_ros.ros.conversions import diagnostic_values

TOPIC, INFO = '/camera/image_raw', '/camera/camera_info'
FAILING = {9}


def recording(folder):
    """Padded rows, broken images, a stamp twice, one before, another size, one that fails, stamp 0."""
    truncated = image(4)
    truncated.data = truncated.data[:-200]
    messages = [
        image(0), image(1, padding=12), image(2, encoding='32FC1'), image(3), truncated,
        image(5), image(6, stamp_ns=stamp_of(5)), image(7, size=(40, 56)), image(8, size=(40, 56)),
        image(9), image(10, padding=1), image(11, stamp_ns=stamp_of(9)), image(12), image(13, stamp_ns=0),
        image(14),
    ]  # fmt: skip
    items = []
    for number, message in enumerate(messages):
        time_ns = stamp_of(number)
        if number % 3 != 2:
            items.append(item(INFO, camera_info(number), time_ns))
        items.append(item(TOPIC, message, time_ns + 1))
    return write_bag(folder / 'in', items), items


def live(graph, items):
    """What the node publishes when it is asked one image after the other."""
    # Simulated time without a clock: there is none that the stamps could be ahead of or behind.
    graph.start_node(FakeBackend(fail_on=FAILING), SPEC, keyframe__interval=3, tasks='all', use_sim_time=True)
    peer = graph.start_peer()
    (node,) = (node for node, _ in graph._running if hasattr(node, '_topics'))
    kept = node._topics[''].pipeline.camera_infos
    for one in items:
        if one.topic == INFO:
            kept.store(
                deserialize_message(one.data, CameraInfo)
            )  # that it comes over DDS is tested elsewhere
        else:
            peer.ask(deserialize_message(one.data, Image))
    statuses = [diagnostic_values(message) for message in peer.statuses]
    num_labels = sum('segmentation' in s.get('tasks', '') for s in statuses)
    num_infos = sum(s['camera_info'] == 'published' for s in statuses if 'segmentation' in s.get('tasks', ''))
    peer.wait_for(lambda: len(peer.confidences) == len(peer.label_maps) == num_labels, 'label maps')
    peer.wait_for(lambda: len(peer.box_arrays) == num_labels, 'boxes')
    peer.wait_for(lambda: len(peer.camera_infos) >= num_infos, 'calibrations')
    return peer, statuses


def plain(message):
    """Fields of a message as plain values, whoever made its class."""
    if hasattr(message, 'get_fields_and_field_types'):
        return {name: plain(getattr(message, name)) for name in message.get_fields_and_field_types()}
    if dataclasses.is_dataclass(message):
        names = [field.name for field in dataclasses.fields(message) if field.name != '__msgtype__']
        return {name: plain(getattr(message, name)) for name in names}
    if isinstance(message, (list, tuple)) and message and not isinstance(message[0], (int, float)):
        return [plain(one) for one in message]
    if isinstance(message, (str, int, float, bytes)) or not np.ndim(message):
        return message[0] if isinstance(message, bytes) else message
    return np.asarray(message).tolist()


def without_times(values):
    return {key: value for key, value in values.items() if not key.endswith('_ms')}


def test_the_live_node_answers_each_message_alike(graph, tmp_path):
    source, items = recording(tmp_path)
    config = DffConfig(keyframe=KeyframeConfig(interval=3))
    answer_bag(
        BagJob(source, tmp_path / 'out', config, BagOptions()),
        open_model=fake_model(FakeBackend(fail_on=FAILING), SPEC),
    )
    peer, statuses = live(graph, items)
    found = read_bag(tmp_path / 'out')
    assert [without_times(f) for f in facts(found)] == [without_times(s) for s in statuses]
    for topic, messages in (
        ('segmentation', peer.label_maps),
        ('confidence', peer.confidences),
        ('camera_info', peer.camera_infos),
        ('detections', peer.box_arrays),
    ):
        recorded = on(found, f'/dff/{topic}')
        assert [plain(m) for m in recorded] == [plain(m) for m in messages], topic
    headers = [plain(m.header) for m in on(found, '/dff/status')]
    assert headers == [plain(m.header) for m in peer.statuses]
    assert [plain(m.status[0].name) for m in on(found, '/dff/status')] == ['dff_node'] * len(statuses)
    # all that was to be compared did happen
    reasons = {s.get('reason') for s in statuses}
    assert reasons >= {'conversion', 'duplicate_stamp', 'engine_error', 'interval', 'no_key'}
    causes = {s.get('reset_cause') for s in statuses} - {None, ''}
    assert causes == {'size', 'backward_stamp', 'error'}
    assert {s['camera_info'] for s in statuses} >= {'published', 'unfit'}
    assert len(peer.label_maps) == 11 and len(peer.camera_infos) > 5
