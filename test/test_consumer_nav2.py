# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What Nav2's semantic segmentation layer makes of the outputs, by its own rules, over real DDS.

The rules are those of kiwicampus/semantic_segmentation_layer, the plugin of Nav2's tutorial "Navigating with
Semantic Segmentation" (src/semantic_segmentation_layer.cpp, src/segmentation_buffer.cpp and its header).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip('rclpy')
from consumers import (
    CAR,
    CAR_CONFIDENCE,
    ROAD,
    ROAD_CONFIDENCE,
    UNKNOWN,
    Consumer,
    ExactTime,
    SceneBackend,
    latched,
    sensor_data,
)
from rclpy.context import Context
from rclpy.parameter import Parameter
from ros_helpers import Graph, Peer, image_message, wait_until
from sensor_msgs.msg import Image, PointCloud2, PointField
from vision_msgs.msg import LabelInfo

RESOLUTION = 0.5
PIXELS_PER_TILE = 4
BEYOND = 100.0  # of what the layer looks at (max_obstacle_distance)


@dataclass(frozen=True)
class Costs:
    """Of a class in the layer's parameters (CostHeuristicParams)."""

    base_cost: int
    max_cost: int
    mark_confidence: int
    samples_to_max_cost: int = 1


FREE = Costs(0, 0, 0)


def cloud_message(image: Image, size: tuple[int, int]) -> PointCloud2:
    """The organised cloud of a depth camera, one point per pixel: each block of pixels falls on one tile."""
    height, width = size
    xyz = np.ones((height, width, 3), np.float32)
    row, column = np.mgrid[:height, :width]
    xyz[..., 0] = (row + 0.5) / PIXELS_PER_TILE * RESOLUTION
    xyz[..., 1] = (column + 0.5) / PIXELS_PER_TILE * RESOLUTION
    fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate('xyz')
    ]
    message = PointCloud2(header=image.header, height=height, width=width, fields=fields)
    message.point_step, message.row_step = 12, 12 * width
    message.data = xyz.tobytes()
    return message


class SegmentationLayer(Consumer):
    """The layer with one source, exact time synchronisation and cost-based selection (its default)."""

    def __init__(self, context: Context, costs: dict[str, Costs]) -> None:
        super().__init__(context, 'semantic_segmentation_layer')
        self._costs_by_name = costs
        self._costs_by_id: dict[int, Costs] = {}
        self._tiles: defaultdict[tuple[int, int], defaultdict[int, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.errors: list[str] = []
        self.num_buffered = 0
        # onInitialize: message_filters subscribers with SensorDataQoS(50), LatchedSubscriptionQoS(5)
        self.sync = ExactTime(3, 1000, self._on_set)
        self.label_infos = self.listen(LabelInfo, 'dff/label_info', latched(5), self._on_labels)
        self.masks = self.listen(Image, 'dff/segmentation', sensor_data(50), self.sync.add(0))
        self.confidences = self.listen(Image, 'dff/confidence', sensor_data(50), self.sync.add(1))
        self.listen(PointCloud2, 'cloud', sensor_data(50), self.sync.add(2))

    def _on_labels(self, message: LabelInfo) -> None:
        """createSegmentationCostMultimap: a class without parameters is a CRITICAL ERROR in the log."""
        for entry in message.class_map:
            if entry.class_name not in self._costs_by_name:
                self.errors.append(f'class {entry.class_name}')
            else:
                self._costs_by_id[entry.class_id % 256] = self._costs_by_name[entry.class_name]

    def _on_set(self, mask: Image, confidence: Image, cloud: PointCloud2) -> None:
        """syncSegmConfPointcloudCb: what does not fit is not buffered. The size of the confidence is not
        checked, but read by the index of the mask.
        """
        if mask.width * mask.height != cloud.width * cloud.height:
            self.errors.append('sizes')
        elif len(mask.data) < mask.width * mask.height:
            self.errors.append('data')
        elif not self._costs_by_id:
            self.errors.append('no labels')
        else:
            self.buffer(np.array(mask.data), np.array(confidence.data), mask, cloud)
            self.num_buffered += 1

    def buffer(self, ids: np.ndarray, confidences: np.ndarray, mask: Image, cloud: PointCloud2) -> None:
        """bufferSegmentation: of the pixels on a tile the first with the highest max_cost is an observation,
        if its class is in LabelInfo. Pixels are found by `row * width + column`, whatever `step` says.
        """
        xyz = np.frombuffer(cloud.data, np.float32).reshape(-1, 3)
        best: dict[tuple[int, int], int] = {}
        for row in range(mask.height):
            for column in range(mask.width):
                index = row * mask.width + column
                x, y = np.floor(xyz[index, :2] / RESOLUTION)
                tile = int(x), int(y)
                if tile not in best or self._max_cost(ids[index]) > self._max_cost(ids[best[tile]]):
                    best[tile] = index
        for tile, index in best.items():
            if int(ids[index]) in self._costs_by_id:
                self._tiles[tile][int(ids[index])].append(int(confidences[index]))

    def _max_cost(self, class_id: int) -> int:
        return self._costs_by_id.get(int(class_id), FREE).max_cost

    def costmap(self) -> dict[tuple[int, int], int]:
        """updateBounds: max_cost for the class with most observations if there are enough and their mean
        confidence is strictly above mark_confidence, else its base_cost. Other tiles are left alone.
        """
        costs = {}
        for tile, observed in self._tiles.items():
            class_id, values = max(observed.items(), key=lambda item: len(item[1]))
            of_class = self._costs_by_id[class_id]
            is_marked = len(values) >= of_class.samples_to_max_cost
            is_marked = is_marked and sum(values) / len(values) > of_class.mark_confidence
            costs[tile] = of_class.max_cost if is_marked else of_class.base_cost
        return costs

    def forget(self) -> None:
        """reset."""
        self._tiles.clear()


def start(graph: Graph, costs: dict[str, Costs], **parameters: object):
    """Node, depth camera and the layer, which joins when the class names were told long ago."""
    node = graph.start_node(SceneBackend(), **parameters)
    peer = graph.start_peer()
    layer = SegmentationLayer(graph.context, costs)
    graph.spin(layer)
    clouds = peer.create_publisher(PointCloud2, 'cloud', 50)
    outputs = node._topics[''].publishers._advertised
    wait_until(
        lambda: (
            clouds.get_subscription_count()
            and all(
                outputs[f'dff/{name}'].get_subscription_count() == 2
                for name in ('segmentation', 'confidence')
            )
        ),
        'the layer to match',
    )
    layer.wait_for(lambda: layer.label_infos, 'label_info')
    return node, peer, layer, clouds


def show(peer: Peer, clouds, number: int, size: tuple[int, int]) -> None:
    image = image_message(number)
    clouds.publish(cloud_message(image, size))
    peer.ask(image)


COSTS = {'road': Costs(10, 50, ROAD_CONFIDENCE - 1), 'car': Costs(100, 254, CAR_CONFIDENCE)}


def test_a_key_frame_marks_tiles_by_class_and_confidence_strictly_above_the_threshold(graph: Graph):
    _, peer, layer, clouds = start(graph, COSTS, segmentation__output_size='24x16')
    show(peer, clouds, 0, (16, 24))
    layer.wait_for(lambda: layer.num_buffered == 1, 'the layer to buffer')
    assert layer.errors == []
    costs = layer.costmap()
    assert costs == {
        (row, column): 50 if column < 2 else 100 for row in range(4) for column in range(6)
    }  # road 240 > 239: its max cost; car 180 is not above 180: its base cost


def test_pixels_without_information_touch_no_tile_because_255_is_no_class_and_not_because_of_confidence_0(
    graph: Graph,
):
    """bufferSegmentation asks hasClassId alone: an unsure pixel that keeps its class writes the base cost."""
    _, peer, layer, clouds = start(graph, COSTS, segmentation__output_size='24x16')
    show(peer, clouds, 0, (16, 24))
    layer.wait_for(lambda: layer.num_buffered == 1, 'the key frame')
    layer.forget()
    show(peer, clouds, 1, (16, 24))
    layer.wait_for(lambda: layer.num_buffered == 2, 'the propagated frame')
    mask, confidence = (
        np.array(found[-1].data).reshape(16, 24) for found in (layer.masks, layer.confidences)
    )
    is_unknown = mask == UNKNOWN
    np.testing.assert_array_equal(confidence == 0, is_unknown)
    assert is_unknown[:, 12:].all() and not is_unknown[:, :12].any()
    assert set(mask[~is_unknown]) == {ROAD, CAR}
    untouched = {tile for tile in np.ndindex(4, 6) if tile not in layer.costmap()}
    assert untouched == {(row, column) for row in range(4) for column in (3, 4, 5)}
    layer.forget()
    kept = np.where(is_unknown, CAR, mask)  # what a node would publish that only lowers the confidence
    layer.buffer(kept.ravel(), confidence.ravel(), layer.masks[-1], cloud_message(image_message(1), (16, 24)))
    assert {layer.costmap()[tile] for tile in untouched} == {COSTS['car'].base_cost}


def test_masks_of_another_size_than_the_cloud_are_dropped_until_output_size_is_set(graph: Graph):
    node, peer, layer, clouds = start(graph, COSTS)
    show(peer, clouds, 0, (16, 24))
    layer.wait_for(lambda: layer.errors, 'the layer to refuse')
    assert (layer.errors, layer.num_buffered) == (['sizes'], 0)
    assert node.set_parameters([Parameter('segmentation.output_size', value='24x16')])[0].successful
    show(peer, clouds, 1, (16, 24))
    layer.wait_for(lambda: layer.num_buffered == 1, 'the layer to buffer')
    assert layer.errors == ['sizes']


def test_masks_and_confidences_come_in_pairs_without_row_padding_and_all_are_taken(graph: Graph):
    """An odd width, which a publisher that aligns rows would pad."""
    _, peer, layer, clouds = start(graph, COSTS, segmentation__output_size='23x15')
    for number in range(6):
        show(peer, clouds, number, (15, 23))
    layer.wait_for(lambda: layer.num_buffered == 6, 'all sets')
    assert (layer.errors, layer.sync.dropped) == ([], [])
    for mask, confidence in zip(layer.masks, layer.confidences, strict=True):
        assert mask.header == confidence.header
        for message in (mask, confidence):
            layout = message.encoding, message.height, message.width, message.step, len(message.data)
            assert layout == ('mono8', 15, 23, 23, 15 * 23)
            assert message.is_bigendian == 0


def test_class_names_are_told_once_and_not_with_each_frame_and_255_is_not_among_them(graph: Graph):
    """A LabelInfo builds the layer's table anew and writes its CRITICAL ERROR lines again; until one has come
    no mask is used.
    """
    node, peer, layer, clouds = start(graph, {'road': COSTS['road']})
    assert layer.errors == ['class car']
    for number in range(8):
        show(peer, clouds, number, (32, 48))
    layer.wait_for(lambda: layer.num_buffered == 8, 'all sets')
    assert node.set_parameters([Parameter('keyframe.interval', value=2)])[0].successful
    show(peer, clouds, 8, (32, 48))
    layer.wait_for(lambda: layer.num_buffered == 9, 'another set')
    assert len(layer.label_infos) == 1
    assert layer.errors == ['class car']  # once, and no mask came before the names
    (names,) = layer.label_infos
    assert {entry.class_id: entry.class_name for entry in names.class_map} == {ROAD: 'road', CAR: 'car'}
    assert UNKNOWN not in {entry.class_id for entry in names.class_map}
    late = SegmentationLayer(graph.context, COSTS)
    graph.spin(late)
    late.wait_for(lambda: late.label_infos, 'the names, to a late subscriber')
    assert late.label_infos == layer.label_infos
