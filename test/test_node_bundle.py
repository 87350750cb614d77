"""The node with a real bundle over real DDS: what it publishes is what the engine answers without ROS."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')
from rclpy.parameter import Parameter
from ros_helpers import ros_graph
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.config import DffConfig, replace
from dff_ros.ros.conversions import fill_image, ns_to_stamp
from dff_ros.ros.node import DffNode
from dff_ros.ros.worker import open_model
from dff_ros.types import Frame

SIZE = (72, 100)


def clip(num_frames: int) -> list[np.ndarray]:
    """A noise picture that moves two pixels a frame."""
    scene = np.random.default_rng(3).integers(0, 256, (SIZE[0], SIZE[1] + 2 * num_frames, 3), dtype=np.uint8)
    return [np.ascontiguousarray(scene[:, 2 * i : 2 * i + SIZE[1]]) for i in range(num_frames)]


def test_label_maps_over_dds_equal_the_engines(dis_bundle):
    settings = {'bundle': str(dis_bundle.path), 'num_threads': 1, 'keyframe.interval': 3}
    engine = open_model(replace(DffConfig(), settings)).engine
    stamps = [1_000_000_000 + 50_000_000 * i for i in range(5)]
    frames = [Frame(image_HW3=image, stamp_ns=stamp) for image, stamp in zip(clip(5), stamps, strict=True)]
    expected = [engine.step(frame) for frame in frames]
    engine.backend.close()
    assert len(np.unique(expected[0].segmentation.label_map_HW)) > 1  # a constant map would prove nothing

    with ros_graph() as graph:
        overrides = [Parameter(name, value=value) for name, value in settings.items()]
        node = DffNode(context=graph.context, parameter_overrides=overrides)
        node.start(graph.exit_codes.append)
        graph.spin(node)
        peer = graph.start_peer()
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
