# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Bad images, one after the other, to one running node: each row of docs/reliability.md on images."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('cv2')
import cv2
from faults import SIZE, Line, running_line
from ros_helpers import camera_info_message, image_message, wait_until
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from dff_ros.messages import stamp_to_ns
from dff_ros.ros.conversions import ns_to_stamp

BAD_IMAGES: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    'data too short': ({'data': bytes(4607)}, ('truncated', '4607 bytes')),
    'data too long': ({'data': bytes(4609)}, ('too long', '4609 bytes')),
    'no data': ({'data': b''}, ('truncated', '0 bytes')),
    'zero height': ({'height': 0}, ('empty', '48x0')),
    'zero width': ({'width': 0}, ('empty', '0x32')),
    'below the smallest side': ({'height': 15, 'data': bytes(15 * 144)}, ('48x15',)),
    'huge size claimed': ({'height': 100_000, 'width': 100_000}, ('100000x100000', 'max_pixels')),
    'largest size claimed': ({'height': 2**32 - 1, 'width': 2**32 - 1, 'step': 2**32 - 1}, ('max_pixels',)),
    'unknown encoding': ({'encoding': 'rgb9'}, ("'rgb9' is not supported", 'rgb8')),
    'no encoding': ({'encoding': ''}, ("encoding '' is not supported",)),
    'very long encoding': ({'encoding': 'x' * 100_000}, ('is not supported',)),
    'step too small': ({'step': 143}, ('step is 143 bytes', '144')),
    'step of zero': ({'step': 0}, ('step is 0 bytes',)),
    'step beyond the data': ({'step': 2**32 - 1}, ('truncated', 'step 4294967295')),
    'unknown byte order': (
        {'encoding': 'mono16', 'step': 96, 'data': bytes(3072), 'is_bigendian': 7},
        ('is_bigendian is 7',),
    ),
    'odd sides of yuv': (
        {'encoding': 'nv12', 'width': 47, 'height': 33, 'step': 47, 'data': bytes(2350)},
        ('47x33', 'multiples'),
    ),
    'depth with NaN': (
        {'encoding': '32FC1', 'step': 192, 'data': np.full(1536, np.nan, np.float32).tobytes()},
        ("'32FC1'", 'depth'),
    ),
}


@pytest.fixture(scope='module')
def line() -> Iterator[Line]:
    with running_line(max_pixels=100_000) as found:
        yield found


@pytest.mark.parametrize('name', BAD_IMAGES)
def test_a_bad_image_is_dropped(line, name):
    changes, details = BAD_IMAGES[name]
    resets = {key: value for key, value in line.last.items() if key.startswith('resets.')}
    good = line.assert_dropped(line.next_image(**changes), 'conversion', *details)
    assert {key: value for key, value in good.items() if key.startswith('resets.')} == resets


def test_an_image_above_max_pixels_is_dropped(line):
    message = image_message(1, size=(320, 320), stamp_ns=line.stamp_ns + 1)
    line.assert_dropped(message, 'conversion', '320x320', 'max_pixels (100000)')


def test_a_size_change_in_mid_stream_makes_a_key_frame(line):
    before = line.count('resets.size')
    other = image_message(7, size=(48, 64), stamp_ns=line.stamp_ns + 1)
    facts = line.ask(other)
    assert (facts['state'], facts['reset_cause']) == ('key', 'size')
    line.peer.wait_for(lambda: stamp_of(line.peer.label_maps[-1]) == line.stamp_ns + 1, 'the label map')
    assert (line.peer.label_maps[-1].height, line.peer.label_maps[-1].width) == (48, 64)
    back = line.is_good_answered()
    assert (back['state'], back['reset_cause'], line.count('resets.size')) == ('key', 'size', before + 2)


@pytest.mark.parametrize(
    ('field', 'value', 'cause'),
    [('encoding', 'bgr8', 'encoding'), ('header.frame_id', 'other', 'frame_id')],
    ids=['encoding', 'frame_id'],
)
def test_another_encoding_or_frame_id_in_mid_stream_makes_a_key_frame(line, field, value, cause):
    before = line.count(f'resets.{cause}')
    message = line.next_image()
    owner, name = (message, field) if '.' not in field else (message.header, field.split('.')[1])
    setattr(owner, name, value)
    facts = line.ask(message)
    assert (facts['state'], facts['reset_cause']) == ('key', cause)
    back = line.is_good_answered()
    assert (back['reset_cause'], line.count(f'resets.{cause}')) == (cause, before + 2)


def file_message(number: int, stamp_ns: int, suffix: str = '.jpg') -> CompressedImage:
    """The good image as a file."""
    is_encoded, data = cv2.imencode(suffix, np.full((*SIZE, 3), number, np.uint8))
    assert is_encoded
    header = Header(stamp=ns_to_stamp(stamp_ns), frame_id='camera')
    return CompressedImage(header=header, format=f'rgb8; {suffix[1:]} compressed bgr8', data=data.tobytes())


@pytest.fixture(scope='module')
def file_line() -> Iterator[Line]:
    with running_line(make_message=file_message, max_pixels=100_000, image_transport='compressed') as found:
        yield found


def huge_jpeg(data: bytes) -> bytes:
    """A file whose header claims 65,000 rows."""
    place = data.index(b'\xff\xc0') + 5
    return data[:place] + (65_000).to_bytes(2, 'big') + data[place + 2 :]


def huge_png(data: bytes) -> bytes:
    """The same, with the check sum of that header."""
    header = b'IHDR' + (65_000).to_bytes(4, 'big') * 2 + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, 'big') + data[33:]


BAD_FILES = {
    'truncated JPEG': ('.jpg', lambda data: data[: len(data) // 2], ('truncated',)),
    'truncated PNG': ('.png', lambda data: data[: len(data) // 2], ('truncated',)),
    'JPEG without its last byte': ('.jpg', lambda data: data[:-1], ('truncated',)),
    'empty file': ('.jpg', lambda data: b'', ('neither jpeg nor png',)),
    'another kind of file': ('.jpg', lambda data: b'RIFF0000WEBP' + data, ('neither jpeg nor png',)),
    'JPEG of huge size': ('.jpg', huge_jpeg, ('max_pixels',)),
    'PNG of huge size': ('.png', huge_png, ('max_pixels',)),
}


@pytest.mark.parametrize('name', BAD_FILES)
def test_a_bad_file_is_dropped(file_line, name):
    suffix, spoil, details = BAD_FILES[name]
    message = file_message(7, file_line.stamp_ns + 1, suffix)
    message.data = spoil(bytes(message.data))
    file_line.assert_dropped(message, 'conversion', *details)


def test_a_compressed_depth_image_is_dropped(file_line):
    message = file_message(7, file_line.stamp_ns + 1, '.png')
    message.format = '16UC1; compressedDepth png'
    file_line.assert_dropped(message, 'conversion', 'compressed depth image')


def test_a_format_that_lies_is_answered_by_what_the_file_is(file_line):
    message = file_line.next_image(format='bgr8; png compressed bgr8')  # a JPEG
    num_answers = len(file_line.peer.label_maps)
    assert file_line.ask(message)['state'] in ('key', 'propagated')
    file_line.peer.wait_for(lambda: len(file_line.peer.label_maps) > num_answers, 'the label map')
    file_line.is_good_answered()


def test_a_camera_info_of_another_size_is_refused_and_counted(line):
    before = line.count('camera_info.refused')
    info = camera_info_message(1, size=(100, 100))
    line.peer.calibration.publish(info)
    kept = line.node._topics[''].pipeline.camera_infos._kept
    wait_until(lambda: kept, 'the calibration')
    facts = line.is_good_answered()
    assert facts['camera_info'] != 'published'
    assert line.count('camera_info.refused') == before + 1
    line.is_good_answered()


def stamp_of(message: Image) -> int:
    return stamp_to_ns(message.header.stamp)
