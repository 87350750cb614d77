# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Too little memory: the frame is dropped as such, what was held is let go, the next one is answered."""

from __future__ import annotations

import weakref

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from ros_helpers import image_message

from dff_ros import memory, pipeline
from dff_ros.types import KeyFeature

CUDA = RuntimeError('CUDA out of memory. Tried to allocate 20.00 GiB')
ONNX = RuntimeError(
    '[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer'
)
SPENT = {2: CUDA, 4: ONNX, 5: MemoryError('cannot allocate 8.00 GiB')}


class Feature(float):
    """A feature that can be watched."""


class SpentBackend(FakeBackend):
    """Raises what `spent` has for an image, and watches the key features it has made."""

    def __init__(self, spent: dict[int, Exception]) -> None:
        super().__init__()
        self.spent = spent
        self.features: list[weakref.ref[Feature]] = []

    def _number(self, image_HW3):
        number = super()._number(image_HW3)
        if number in self.spent:
            raise self.spent[number]
        return number

    def extract(self, image_HW3):
        feature = Feature(super().extract(image_HW3).feature)
        self.features.append(weakref.ref(feature))
        return KeyFeature(feature, 0)


def test_each_runtimes_error_drops_one_frame_with_the_remedy(graph, capfd):
    graph.start_node(SpentBackend(SPENT))
    peer = graph.start_peer()
    answers = [peer.ask(image_message(number)) for number in range(7)]
    assert [(a['state'], a.get('reset_cause', '')) for a in answers] == [
        ('key', ''), ('propagated', ''), ('dropped', ''), ('key', 'error'), ('dropped', ''), ('dropped', ''),
        ('key', 'error'),
    ]  # fmt: skip
    dropped = [answers[number] for number in SPENT]
    assert [answer['reason'] for answer in dropped] == ['out_of_memory'] * 3
    assert [answer['detail'].split(':')[0] for answer in dropped] == [
        'RuntimeError',
        'RuntimeError',
        'MemoryError',
    ]
    assert all(f'; {memory.REMEDY};' in answer['detail'] for answer in dropped)
    assert answers[-1]['dropped.out_of_memory'] == '3'
    assert 'out_of_memory, 1 so far' in capfd.readouterr().err


def test_the_key_frame_is_let_go_before_memory_is_released(graph, monkeypatch):
    backend = SpentBackend({2: CUDA})
    held: list[list[bool]] = []

    def release() -> None:
        memory_release()
        held.append([feature() is not None for feature in backend.features])

    memory_release = memory.release
    monkeypatch.setattr(pipeline.memory, 'release', release)
    graph.start_node(backend)
    peer = graph.start_peer()
    for number in range(3):
        peer.ask(image_message(number))
    assert held == [[False]]


def test_other_cameras_keep_their_key_frames(graph):
    graph.start_node(SpentBackend({2: CUDA}), cameras=['front', 'rear'], keyframe__interval=10)
    front, rear = graph.start_peer(camera='front'), graph.start_peer(camera='rear')
    states = [
        (front.ask(image_message(number))['state'], rear.ask(image_message(number + 10))['state'])
        for number in range(4)
    ]
    assert states == [('key', 'key'), ('propagated',) * 2, ('dropped', 'propagated'), ('key', 'propagated')]


def test_a_worker_without_memory_costs_one_frame_too(graph):
    """The frame on which its error comes to light; until then frames go on from the older key frame."""
    graph.start_node(
        FakeBackend(), refresh_backend=SpentBackend({2: CUDA}), keyframe__interval=2, keyframe__max_interval=3
    )
    peer = graph.start_peer()
    answers = [peer.ask(image_message(number)) for number in range(8)]
    reasons = [answer['reason'] for answer in answers if answer['state'] == 'dropped']
    assert reasons == ['out_of_memory']
    assert answers[-1]['processed'] == '7'


def test_an_image_too_large_to_convert_is_dropped_as_such(graph, monkeypatch):
    to_frame = pipeline.to_frame
    spent = [MemoryError('Unable to allocate 9.31 GiB')]

    def convert(*args: object):
        if spent:
            raise spent.pop()
        return to_frame(*args)

    monkeypatch.setattr(pipeline, 'to_frame', convert)
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    answers = [peer.ask(image_message(number)) for number in range(2)]
    assert [(a['state'], a['reason']) for a in answers] == [('dropped', 'out_of_memory'), ('key', 'no_key')]
