# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Message <-> record by value; what the encodings become is in test_encodings.py."""

from __future__ import annotations

import array

import numpy as np
import pytest

pytest.importorskip('rclpy')
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from dff_ros.encodings import ImageLimits
from dff_ros.errors import ConversionError, ShapeError
from dff_ros.messages import stamp_to_ns, to_frame
from dff_ros.ros.conversions import (
    diagnostic_values,
    fill_image,
    ns_to_stamp,
    to_detection_array,
    to_detections,
    to_diagnostics,
    to_label_info,
)
from dff_ros.types import Detections

RGB = np.random.default_rng(7).integers(0, 256, (18, 23, 3), dtype=np.uint8)


def make_message(padding: int = 0) -> Image:
    """RGB as rgb8, each row followed by `padding` bytes of 0xEE."""
    padded = np.pad(RGB.reshape(18, -1), ((0, 0), (0, padding)), constant_values=0xEE)
    header = Header(stamp=Time(sec=12, nanosec=34), frame_id='camera_optical')
    message = Image(header=header, height=18, width=23, encoding='rgb8', step=padded.shape[1])
    message.data = array.array('B', padded.tobytes())
    return message


@pytest.mark.parametrize('padding', [0, 41])
def test_a_frame_has_the_pixels_and_the_header_of_its_message(padding):
    frame = to_frame(make_message(padding), camera='front')
    np.testing.assert_array_equal(frame.image_HW3, RGB)
    assert (frame.stamp_ns, frame.frame_id) == (12_000_000_034, 'camera_optical')
    assert (frame.encoding, frame.camera) == ('rgb8', 'front')


def test_tight_rgb8_is_a_view_of_the_message():
    message = make_message()
    frame = to_frame(message)
    assert np.shares_memory(frame.image_HW3, np.frombuffer(message.data, np.uint8))


def test_limits_reach_the_conversion():
    message = make_message()
    with pytest.raises(ConversionError, match=r'max_pixels \(413\)'):
        to_frame(message, limits=ImageLimits(max_pixels=413))
    assert to_frame(message, limits=ImageLimits(max_pixels=414)).size == (18, 23)
    message.encoding, message.width, message.step = 'mono16', 18, 69
    limits = ImageLimits(black_level=65534)
    assert set(np.unique(to_frame(message, limits=limits).image_HW3)) <= {0, 255}


def test_a_compressed_image_becomes_a_frame_within_the_limits():
    cv2 = pytest.importorskip('cv2')
    data = cv2.imencode('.png', np.ascontiguousarray(RGB[..., ::-1]))[1].tobytes()
    header = Header(stamp=Time(sec=12, nanosec=34), frame_id='camera_optical')
    message = CompressedImage(header=header, format='rgb8; png compressed bgr8', data=data)
    frame = to_frame(message, 'front', ImageLimits(max_pixels=414))
    np.testing.assert_array_equal(frame.image_HW3, RGB)
    assert (frame.stamp_ns, frame.frame_id) == (12_000_000_034, 'camera_optical')
    assert (frame.encoding, frame.camera) == ('png', 'front')
    with pytest.raises(ConversionError, match=r'max_pixels \(413\)'):
        to_frame(message, limits=ImageLimits(max_pixels=413))


def test_an_image_below_one_cell_is_refused():
    message = make_message()
    message.height = 15
    message.data = message.data[: 15 * 69]
    with pytest.raises(ShapeError, match='23x15'):
        to_frame(message)


def test_label_map_becomes_mono8_without_row_padding():
    labels = np.arange(18 * 23, dtype=np.uint16).astype(np.uint8).reshape(18, 23)
    header = Header(stamp=Time(sec=1, nanosec=2), frame_id='f')
    message = fill_image(Image(), header, labels)
    assert (message.height, message.width, message.step, message.encoding) == (18, 23, 23, 'mono8')
    assert message.header == header
    assert bytes(message.data) == labels.tobytes()


def test_fill_image_writes_colour_and_strided_arrays_by_value():
    message = fill_image(Image(), Header(), RGB[:, ::-1])
    assert (message.encoding, message.step) == ('rgb8', 69)
    np.testing.assert_array_equal(to_frame(message).image_HW3, RGB[:, ::-1])


def test_fill_image_keeps_its_buffer_while_the_size_stays():
    message = fill_image(Image(), Header(), RGB)
    data = message.data
    fill_image(message, Header(), 255 - RGB)
    assert message.data is data
    assert bytes(data) == (255 - RGB).tobytes()
    fill_image(message, Header(), RGB[:17])
    assert bytes(message.data) == RGB[:17].tobytes()


@pytest.mark.parametrize('image', [RGB.astype(np.float32), RGB[..., :2], RGB[0, 0]])
def test_fill_image_refuses_what_no_encoding_holds(image):
    with pytest.raises(ConversionError, match='takes uint8'):
        fill_image(Image(), Header(), image)


@pytest.mark.parametrize('stamp_ns', [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789])
def test_stamps_go_both_ways(stamp_ns):
    assert stamp_to_ns(ns_to_stamp(stamp_ns)) == stamp_ns


def test_label_info_names_ids_in_order():
    message = to_label_info(['sky', 'road'], Time(sec=5), threshold=0.5)
    assert [(c.class_id, c.class_name) for c in message.class_map] == [(0, 'sky'), (1, 'road')]
    assert (message.header.stamp.sec, message.threshold) == (5, 0.5)


def test_diagnostics_carry_values_as_text():
    header = Header(stamp=Time(sec=3), frame_id='cam')
    message = to_diagnostics(
        header, 'dff_node', 'key', False, {'is_key': True, 'age_s': 0.25, 'n': 3, 'why': 'x'}
    )
    assert message.header == header
    assert diagnostic_values(message) == {'is_key': 'true', 'age_s': '0.250', 'n': '3', 'why': 'x'}
    assert (message.status[0].level, message.status[0].hardware_id) == (DiagnosticStatus.OK, 'cam')
    assert to_diagnostics(header, 'n', 's', True, {}).status[0].level == DiagnosticStatus.WARN


NAMES = ('car', 'pedestrian')
FOUND = Detections(
    np.array([(10.0, 20.5, 30.0, 60.0), (0.0, 0.0, 640.0, 480.0)], np.float32),
    np.array([1, 0]),
    np.array([0.75, 0.3], np.float32),
)


def test_detections_become_centre_size_name_and_score():
    header = Header(stamp=Time(sec=3, nanosec=4), frame_id='left')
    message = to_detection_array(header, FOUND, NAMES)
    assert message.header == header
    assert [detection.header for detection in message.detections] == [header, header]
    boxes = [
        (
            d.bbox.center.position.x,
            d.bbox.center.position.y,
            d.bbox.size_x,
            d.bbox.size_y,
            d.bbox.center.theta,
        )
        for d in message.detections
    ]
    assert boxes == [(20.0, 40.25, 20.0, 39.5, 0.0), (320.0, 240.0, 640.0, 480.0, 0.0)]
    hypotheses = [
        [(h.hypothesis.class_id, h.hypothesis.score) for h in d.results] for d in message.detections
    ]
    assert hypotheses == [[('pedestrian', 0.75)], [('car', pytest.approx(0.3))]]
    assert [detection.id for detection in message.detections] == ['', '']


@pytest.mark.parametrize('found', [FOUND, Detections.none()], ids=['two', 'none'])
def test_detections_come_back_as_they_were(found):
    back = to_detections(to_detection_array(Header(), found, NAMES), NAMES)
    np.testing.assert_array_equal(back.boxes_xyxy, found.boxes_xyxy)
    np.testing.assert_array_equal(back.class_ids_N, found.class_ids_N)
    np.testing.assert_array_equal(back.scores_N, found.scores_N)
    assert (back.boxes_xyxy.dtype, back.class_ids_N.dtype, back.scores_N.dtype) == (
        np.float32, np.int64, np.float32,
    )  # fmt: skip


def test_detections_of_an_unknown_class_are_refused_by_name():
    with pytest.raises(ConversionError, match="class 'car'; known are dog"):
        to_detections(to_detection_array(Header(), FOUND.chosen(np.array([1])), NAMES), ('dog',))
