# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""dff_mask: which pixels it masks, and that it answers label maps over DDS with their own header."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_helpers import wait_until
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo

from dff_ros.errors import ConfigError
from dff_ros.ros import qos
from dff_ros.ros.conversions import fill_image, ns_to_stamp, to_label_info
from dff_ros.ros.mask import MASK_TOPIC, MaskNode, mask_table

IDS = {'sky': 0, 'road': 1, 'pedestrian': 2, 'car': 3}
LABEL_MAP = np.array([[0, 1, 2, 255], [3, 2, 1, 0]], np.uint8)


def test_the_named_classes_are_masked_and_nothing_else():
    table = mask_table('pedestrian, car', IDS)
    assert table.nonzero()[0].tolist() == [2, 3]
    assert set(table.tolist()) == {0, 255}
    assert mask_table('', IDS).sum() == 0
    with pytest.raises(ConfigError, match="classes: got 'dog', the label map has sky, road, pedestrian, car"):
        mask_table('car,dog', IDS)


def test_label_maps_become_masks_with_their_header(graph):
    node = MaskNode(context=graph.context)
    graph.spin(node)
    peer = Node('segmenter', context=graph.context)
    masks: list[Image] = []
    names = peer.create_publisher(LabelInfo, 'dff/label_info', qos.latched())
    label_maps = peer.create_publisher(Image, 'dff/segmentation', qos.image_output())
    peer.create_subscription(Image, MASK_TOPIC, masks.append, 10)
    graph.spin(peer)
    ends = label_maps, node._mask
    wait_until(lambda: all(end.get_subscription_count() for end in ends), 'node and peer to match')

    def ask(number: int) -> None:
        header = Header(stamp=ns_to_stamp(number), frame_id='front')
        label_maps.publish(fill_image(Image(), header, LABEL_MAP))

    names.publish(to_label_info(tuple(IDS), ns_to_stamp(1)))
    wait_until(lambda: node._table_256 is not None, 'the names')
    ask(7)
    wait_until(lambda: len(masks) == 1, 'a mask')
    (mask,) = masks
    assert (mask.header.stamp, mask.header.frame_id) == (ns_to_stamp(7), 'front')
    assert (mask.encoding, mask.width, mask.height, mask.step) == ('mono8', 4, 2, 4)
    assert list(mask.data) == [0, 0, 255, 0, 0, 255, 0, 0]

    refused, taken = node.set_parameters(
        [Parameter('classes', value='dog'), Parameter('classes', value='car')]
    )
    assert (refused.successful, taken.successful) == (False, True)
    assert "got 'dog'" in refused.reason
    ask(8)
    wait_until(lambda: len(masks) == 2, 'another mask')
    assert list(masks[1].data) == [0, 0, 0, 0, 255, 0, 0, 0]
