# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Faults of the backend, of publishing and of the model's files: each row of docs/reliability.md on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from faults import Line, assert_balanced, running_line
from numpy.typing import NDArray
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_helpers import BOX_SPEC, GatedBackend, ros_graph, wait_until
from sensor_msgs.msg import Image

from dff_ros.ros.conversions import fill_image
from dff_ros.ros.node import DffNode
from dff_ros.ros.publishers import Publishers
from dff_ros.types import KeyFeature, Propagation, Segmentation

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
STEPS = ('extract', 'propagate', 'predict', 'detect')


@dataclass
class FaultyBackend(FakeBackend):
    """Raises `faults[step]` once, when that step comes next."""

    faults: dict[str, BaseException] = field(default_factory=dict)

    def _meet(self, step: str) -> None:
        if step in self.faults:
            raise self.faults.pop(step)

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[int, int]:
        self._meet('extract')
        return super().extract(image_HW3)

    def propagate(self, image_HW3: NDArray[np.uint8], key: KeyFeature[int, int]) -> Propagation[int]:
        self._meet('propagate')
        return super().propagate(image_HW3, key)

    def predict(
        self, feature: int, source_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Segmentation:
        self._meet('predict')
        return super().predict(feature, source_size, output_size)

    def detect(self, feature: int, source_size: tuple[int, int], nms_iou: float, score_threshold: float):
        self._meet('detect')
        return super().detect(feature, source_size, nms_iou, score_threshold)


@pytest.fixture(scope='module')
def line() -> Iterator[Line]:
    with running_line(FaultyBackend, BOX_SPEC, keyframe__interval=2) as found:
        yield found


def next_is_key(line: Line) -> bool:
    """Whether the next frame will be a key frame; of two frames one is."""
    return line.is_good_answered()['state'] == 'propagated'


@pytest.mark.parametrize(
    ('error', 'reason', 'detail'),
    [
        (RuntimeError('the driver is gone'), 'engine_error', 'RuntimeError: the driver is gone'),
        (MemoryError(), 'out_of_memory', 'MemoryError'),
        (RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'), 'out_of_memory', 'CUDA out of memory'),
        (ValueError('shapes differ'), 'engine_error', 'ValueError: shapes differ'),
    ],
    ids=['error', 'MemoryError', 'GPU memory', 'wrong shape'],
)
@pytest.mark.parametrize('step', STEPS)
def test_a_backend_that_raises_costs_one_frame(line, step, error, reason, detail):
    while next_is_key(line) != (step == 'extract'):
        pass
    resets = line.count('resets.error')
    line.backend.faults[step] = error
    good = line.assert_dropped(line.next_image(), reason, detail, 'the next frame starts afresh')
    assert line.backend.faults == {}
    assert (good['state'], good['reset_cause']) == ('key', 'error')
    assert line.count('resets.error') == resets + 1


def test_an_exit_within_the_backend_costs_one_frame(line):
    before = line.count('dropped.internal_error')
    line.backend.faults['predict'] = SystemExit(3)
    line.send_unanswered()
    assert line.is_good_answered()['state'] in ('key', 'propagated')
    assert line.count('dropped.internal_error') == before + 1


@pytest.mark.parametrize('what', ['publish_segmentation', 'publish_detections', 'publish_status'])
def test_an_answer_that_cannot_be_published_costs_at_most_that_answer(line, monkeypatch, what):
    before = line.last

    def fail(*arguments: object) -> None:
        raise OSError('the middleware refuses')

    with monkeypatch.context() as patch:
        patch.setattr(Publishers, what, fail)
        line.send_unanswered()
    line.is_good_answered()
    is_lost = what != 'publish_status'  # else only the news of it
    assert line.count('dropped.internal_error') == int(before.get('dropped.internal_error', 0)) + is_lost
    assert line.count('processed') == int(before['processed']) + 2 - is_lost


def test_a_background_refresh_that_raises_costs_one_frame():
    worker = FaultyBackend()
    with running_line(refresh_backend=worker, refresh='worker', keyframe__interval=2) as line:
        assert line.is_good_answered()['state'] == 'propagated'
        worker.faults['extract'] = MemoryError()
        line.is_good_answered()  # due: the worker begins
        answers = []
        while not answers or answers[-1]['state'] != 'dropped':
            answers.append(line.ask(line.next_image()))
            assert len(answers) < 100
        assert answers[-1]['reason'] == 'out_of_memory'
        good = line.is_good_answered()
        assert (good['state'], good['reset_cause']) == ('key', 'error')
        assert (line.count('dropped.out_of_memory'), line.count('resets.error')) == (1, 1)


def test_a_slow_backend_loses_frames_to_newer_ones():
    with running_line(GatedBackend) as line:
        num_answers = len(line.peer.label_maps)
        line.backend.gate.clear()
        line.peer.camera.publish(line.next_image())
        wait_until(lambda: line.node._mailbox.is_item_in_hand, 'the frame in hand')
        for _ in range(20):
            received = line.node._mailbox.counts().received
            newest = line.next_image()
            line.peer.camera.publish(newest)
            wait_until(lambda before=received: line.node._mailbox.counts().received > before, 'an image')
        line.backend.gate.set()
        line.peer.wait_for(lambda: len(line.peer.label_maps) == num_answers + 2, 'two answers')
        assert line.peer.label_maps[-1].header == newest.header
        line.is_good_answered()
        assert (line.count('dropped.superseded'), line.count('dropped')) == (19, 19)


def test_a_flood_of_images_is_accounted_for():
    with running_line() as line:
        messages = [fill_image(Image(), line.next_image().header, IMAGE) for _ in range(300)]
        for message in messages:
            line.peer.camera.publish(message)
        facts = line.flush()
        for told in line.peer.facts():
            assert_balanced(told)
        stamps = line.peer.stamps()
        assert stamps == sorted(set(stamps))
        # The outputs keep the last few: a consumer slower than the node may miss some, never get one twice.
        assert 2 <= len(stamps) <= int(facts['processed']) <= int(facts['received']) <= line.number
        line.is_good_answered()


IMAGE = np.zeros((240, 320, 3), np.uint8)


def test_a_warm_up_that_raises_leaves_a_node_that_can_be_configured_again(monkeypatch, capfd):
    backend = FakeBackend()

    def fail(size: tuple[int, int]) -> None:
        raise MemoryError('no memory to warm up')

    with ros_graph('warm_up') as graph:
        with monkeypatch.context() as patch:
            patch.setattr(backend, 'warm_up', fail)
            node = graph.start_node(backend)
        assert (graph.exit_codes, backend.calls) == ([2], ['close'])
        assert 'no memory to warm up' in capfd.readouterr().err
        assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)
        Line(graph, node, graph.start_peer(), backend)


def test_a_close_that_raises_is_logged_and_the_node_can_be_configured_again(monkeypatch, capfd):
    with running_line() as line:

        def fail() -> None:
            raise OSError('the device is gone')

        with monkeypatch.context() as patch:
            patch.setattr(line.backend, 'close', fail)
            line.node.trigger_deactivate()
            assert line.node.trigger_cleanup() == SUCCESS
        assert 'the model did not close in order' in capfd.readouterr().err
        assert (line.node.trigger_configure(), line.node.trigger_activate()) == (SUCCESS, SUCCESS)
        line.wait_until_found()
        line.is_good_answered()


def spoil(folder, how: str) -> None:
    """Damage a copy of a bundle."""
    manifest, weights = folder / 'manifest.json', folder / 'weights.safetensors'
    graph = folder / json.loads(manifest.read_text())['graphs']['extract']['file']
    if how == 'removed':
        shutil.rmtree(folder)
    elif how == 'no manifest':
        manifest.unlink()
    elif how == 'manifest cut off':
        manifest.write_bytes(manifest.read_bytes()[:100])
    elif how == 'weights removed':
        weights.unlink()
    elif how == 'weights cut off':
        weights.write_bytes(weights.read_bytes()[:-1])
    elif how == 'graph emptied':
        graph.write_bytes(b'')
    else:  # one bit
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)


DAMAGE = {
    'removed': 'there is no bundle',
    'no manifest': 'manifest.json',
    'manifest cut off': 'manifest.json',
    'weights removed': 'weights.safetensors cannot be read',
    'weights cut off': 'the manifest says',
    'graph emptied': 'has 0 bytes',
    'wrong hash': 'SHA-256 differs',
}


@pytest.fixture(scope='module')
def files(dis_bundle, tmp_path_factory) -> Iterator[tuple[Line, object]]:
    """A line on a real model, and the folder of its bundle."""
    folder = tmp_path_factory.mktemp('bundle') / 'bundle'
    shutil.copytree(dis_bundle.path, folder)
    overrides = {'bundle': str(folder), 'num_threads': 1}
    with ros_graph('files') as graph:
        parameters = [Parameter(name, value=value) for name, value in overrides.items()]
        node = DffNode(context=graph.context, namespace='files', parameter_overrides=parameters)
        node.start(graph.exit_codes.append)
        graph.spin(node)
        yield Line(graph, node, graph.start_peer(), FakeBackend()), folder


@pytest.mark.parametrize('how', DAMAGE)
def test_a_damaged_model_is_named_at_configure_and_a_good_one_then_serves(files, capfd, how):
    line, folder = files
    kept = folder.with_name('kept')
    shutil.copytree(folder, kept)
    try:
        spoil(folder, how)
        line.is_good_answered()  # what runs does not read its files again
        line.node.trigger_deactivate()
        line.node.trigger_cleanup()
        capfd.readouterr()
        assert line.node.trigger_configure() == FAILURE
        (fatal,) = [text for text in capfd.readouterr().err.splitlines() if '[FATAL]' in text]
        assert DAMAGE[how] in fatal and str(folder) in fatal
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        kept.rename(folder)
    assert (line.node.trigger_configure(), line.node.trigger_activate()) == (SUCCESS, SUCCESS)
    line.wait_until_found()
    line.is_good_answered()


def test_a_model_that_vanishes_while_running_is_not_missed(files):
    line, folder = files
    kept = folder.with_name('kept')
    folder.rename(kept)
    try:
        assert {line.is_good_answered()['state'] for _ in range(12)} == {'key', 'propagated'}
    finally:
        kept.rename(folder)
