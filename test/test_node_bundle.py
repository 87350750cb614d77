# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node with a real bundle over real DDS: what it publishes is what the engine answers without ROS."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip('rclpy')
from PIL import Image as Picture
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_helpers import Peer, ros_graph
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros import cli
from dff_ros.config import DffConfig, replace
from dff_ros.model import open_model
from dff_ros.ros.conversions import fill_image, ns_to_stamp, to_detections
from dff_ros.ros.node import DffNode
from dff_ros.types import Frame

SIZE = (72, 100)


def clip(num_frames: int) -> list[np.ndarray]:
    """A noise picture that moves two pixels a frame."""
    scene = np.random.default_rng(3).integers(0, 256, (SIZE[0], SIZE[1] + 2 * num_frames, 3), dtype=np.uint8)
    return [np.ascontiguousarray(scene[:, 2 * i : 2 * i + SIZE[1]]) for i in range(num_frames)]


@contextmanager
def peer_of_node(settings: dict[str, object]) -> Iterator[Peer]:
    """A peer of a node with these parameters."""
    with ros_graph() as graph:
        overrides = [Parameter(name, value=value) for name, value in settings.items()]
        node = DffNode(context=graph.context, parameter_overrides=overrides)
        node.start(graph.exit_codes.append)
        graph.spin(node)
        yield graph.start_peer()


def test_label_maps_over_dds_equal_the_engines(dis_bundle):
    settings = {'bundle': str(dis_bundle.path), 'num_threads': 1, 'keyframe.interval': 3}
    engine = open_model(replace(DffConfig(), settings)).engine
    stamps = [1_000_000_000 + 50_000_000 * i for i in range(5)]
    frames = [Frame(image_HW3=image, stamp_ns=stamp) for image, stamp in zip(clip(5), stamps, strict=True)]
    expected = [engine.step(frame) for frame in frames]
    engine.backend.close()
    assert len(np.unique(expected[0].segmentation.label_map_HW)) > 1  # a constant map would prove nothing

    with peer_of_node(settings) as peer:
        facts = [
            peer.ask(fill_image(Image(), Header(stamp=ns_to_stamp(frame.stamp_ns)), frame.image_HW3))
            for frame in frames
        ]
        assert [c.class_name for c in peer.label_infos[0].class_map] == list(dis_bundle.spec.class_names)
        assert [f['state'] for f in facts] == ['key', 'propagated', 'propagated', 'key', 'propagated']
        for message, result in zip(peer.label_maps, expected, strict=True):
            label_map = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
            np.testing.assert_array_equal(label_map, result.segmentation.label_map_HW)
        for told, result in zip(facts, expected, strict=True):
            assert float(told['motion_px']) == pytest.approx(result.motion_px, abs=1e-3)
            assert (told['backend'], told['device']) == ('onnx', 'cpu')


def run_command(folder, *argv: object) -> list[dict]:
    """The lines that `dff run` writes of the boxes in a folder of pictures."""
    boxes = folder.parent / f'{folder.name}.jsonl'
    assert cli.main(['run', str(folder), '--boxes', str(boxes), *map(str, argv)]) == 0
    return [json.loads(line) for line in boxes.read_text().splitlines()]


@pytest.mark.parametrize(
    'size', [(360, 480), (720, 1280), (150, 370)], ids=lambda size: f'{size[1]}x{size[0]}'
)
def test_boxes_over_dds_are_those_of_dff_run_in_pixels_of_the_source(detection_bundle, tmp_path, size):
    from tiny_models import moving_clip

    settings = {
        'bundle': str(detection_bundle.path),
        'num_threads': 1,
        'keyframe.interval': 2,
        'detection.nms_iou': 0.5,
        'detection.max_detections': 12,
    }
    names = detection_bundle.spec.box_class_names
    images = moving_clip(size, 3, (4, -2))
    images.append(np.full_like(images[0], 0))
    folder = tmp_path / 'images'
    folder.mkdir()
    for number, image in enumerate(images):
        Picture.fromarray(image).save(folder / f'{number}.png', compress_level=1)
    lines = run_command(folder, *(f'--{name}={value}' for name, value in settings.items()))
    assert [line['size'] for line in lines] == [list(size)] * 4
    assert [line['is_key'] for line in lines] == [True, False, True, False]
    edges = np.array([box['box_xyxy'] for line in lines for box in line['boxes']])
    assert len(edges) > 8
    assert (edges.max(0)[2:] > 0.7 * np.array(size[::-1])).all()  # far beyond the 96x128 of the network

    with peer_of_node(settings) as peer:
        for line, image in zip(lines, images, strict=True):
            header = Header(stamp=ns_to_stamp(1 + line['stamp_ns']), frame_id='front')
            assert peer.ask(fill_image(Image(), header, image))['num_detections'] == str(len(line['boxes']))
        peer.wait_for(lambda: len(peer.box_arrays) == 4, 'the boxes of every image')
    for message, line in zip(peer.box_arrays, lines, strict=True):
        found = to_detections(message, names)
        expected = line['boxes']
        np.testing.assert_allclose(
            found.boxes_xyxy, np.reshape([box['box_xyxy'] for box in expected], (-1, 4)), atol=1e-3
        )
        np.testing.assert_allclose(found.scores_N, [box['score'] for box in expected], atol=1e-6)
        assert [names[class_id] for class_id in found.class_ids_N] == [box['class'] for box in expected]


def with_a_spoiled_detection_head(bundle, folder, value: float) -> None:
    """Write a copy of a bundle whose detection head has one value for all its weights."""
    shutil.copytree(bundle.path, folder)
    path, manifest = folder / 'weights.safetensors', folder / 'manifest.json'
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], 'little')
    for name, entry in json.loads(content[8:start]).items():
        if name.startswith('heads.detection.'):
            first, end = (start + offset for offset in entry['data_offsets'])
            kind = np.dtype({'F16': np.float16, 'F32': np.float32}[entry['dtype']])
            np.frombuffer(content, kind, (end - first) // kind.itemsize, first)[:] = value
    path.write_bytes(content)
    facts = json.loads(manifest.read_text())
    facts['files'][path.name]['sha256'] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ('value', 'threshold', 'allowed'),
    [
        (np.nan, 0.0, range(1)),
        (np.inf, 0.0, range(1)),
        (0.0, 0.25, range(1, 26)),  # every anchor and every class alike: 1/3 for each class and background
    ],
)
def test_a_broken_detection_head_costs_no_frame(detection_bundle, tmp_path, value, threshold, allowed):
    with_a_spoiled_detection_head(detection_bundle, tmp_path / 'spoiled', value)
    settings = {'bundle': str(tmp_path / 'spoiled'), 'num_threads': 1, 'detection.score_threshold': threshold}
    with peer_of_node(settings) as peer:
        facts = [
            peer.ask(fill_image(Image(), Header(stamp=ns_to_stamp(10**9 + number)), image))
            for number, image in enumerate(clip(3))
        ]
        peer.wait_for(lambda: len(peer.box_arrays) == len(peer.label_maps) == 3, 'the answers')
    assert [fact['state'] for fact in facts] == ['key', 'propagated', 'propagated']
    assert all(int(fact['num_detections']) in allowed for fact in facts), facts
    assert len(set(bytes(peer.label_maps[0].data))) > 1  # segmentation goes on


def test_a_file_that_goes_between_two_configures_is_named_and_may_come_back(dis_bundle, tmp_path, capfd):
    bundle = tmp_path / 'bundle'
    shutil.copytree(dis_bundle.path, bundle)
    weights = next(bundle.glob('*.safetensors'))
    overrides = [Parameter('bundle', value=str(bundle)), Parameter('num_threads', value=1)]
    with ros_graph() as graph:
        node = DffNode(context=graph.context, parameter_overrides=overrides)
        node.start(graph.exit_codes.append)
        graph.spin(node)
        node.trigger_deactivate()
        node.trigger_cleanup()
        weights.rename(tmp_path / 'away')
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        (line,) = [line for line in capfd.readouterr().err.splitlines() if '[FATAL]' in line]
        assert weights.name in line
        (tmp_path / 'away').rename(weights)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        message = fill_image(Image(), Header(stamp=ns_to_stamp(10**9)), clip(1)[0])
        assert graph.start_peer().ask(message)['state'] == 'key'
