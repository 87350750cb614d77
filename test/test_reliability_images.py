# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Bad images, one after the other, to one running node: each row of docs/reliability.md on images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip('rclpy')
from faults import Line, running_line
from ros_helpers import image_message
from sensor_msgs.msg import Image

from dff_ros.ros.conversions import stamp_to_ns

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


def stamp_of(message: Image) -> int:
    return stamp_to_ns(message.header.stamp)
