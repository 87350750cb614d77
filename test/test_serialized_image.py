# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Image messages as they come off the wire: every field, both byte orders, and bytes that are no image."""

from __future__ import annotations

import struct
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_ros.encodings import decode_raw
from dff_ros.errors import ConversionError, DffError
from dff_ros.messages import to_frame
from dff_ros.serialized_image import UnreadableImage, is_plain_cdr, read_image

PIXELS = bytes(range(48))
KINDS = {
    b'\x00\x00\x00\x00': '>',
    b'\x00\x01\x00\x00': '<',
    b'\x00\x06\x00\x00': '>',
    b'\x00\x07\x00\x03': '<',
}
UINT32 = st.integers(0, 2**32 - 1)


def text(order: str, value: str) -> bytes:
    data = value.encode() + b'\0'
    return struct.pack(f'{order}I', len(data)) + data


def serialized(
    head: bytes = b'\x00\x01\x00\x00',
    *,
    stamp: tuple[int, int] = (12, 34),
    frame_id: str = 'camera',
    size: tuple[int, int] = (2, 8),
    encoding: str = 'rgb8',
    is_bigendian: int = 0,
    step: int = 24,
    data: bytes = PIXELS,
    num_bytes: int | None = None,
) -> bytes:
    """A sensor_msgs/Image in plain CDR; `head` tells its byte order."""
    order = KINDS[head]
    body = struct.pack(f'{order}iI', *stamp) + text(order, frame_id)
    body += bytes(-len(body) % 4) + struct.pack(f'{order}II', *size) + text(order, encoding)
    body += struct.pack('B', is_bigendian)
    body += bytes(-len(body) % 4)
    return head + body + struct.pack(f'{order}II', step, len(data) if num_bytes is None else num_bytes) + data


@pytest.mark.parametrize('head', KINDS)
@pytest.mark.parametrize('frame_id', ['', 'a', 'front_left', 'Kamera-\u00e4'])
@pytest.mark.parametrize('encoding', ['rgb8', 'bayer_rggb16'])
def test_every_field_is_read_wherever_the_texts_end(head, frame_id, encoding):
    message = serialized(head, frame_id=frame_id, encoding=encoding, is_bigendian=1, stamp=(-3, 2**32 - 1))
    found = read_image(message)
    assert (found.stamp, found.frame_id, found.encoding) == ((-3, 2**32 - 1), frame_id, encoding)
    assert (found.height, found.width, found.is_bigendian, found.step) == (2, 8, 1, 24)
    assert bytes(found.data) == PIXELS


def test_pixels_stay_in_the_message():
    message = serialized()
    image = decode_raw(read_image(message))
    assert np.shares_memory(image, np.frombuffer(message, np.uint8))
    np.testing.assert_array_equal(image.reshape(-1), np.frombuffer(PIXELS, np.uint8))
    assert not image.flags.writeable


def test_a_frame_is_made_of_it():
    found = read_image(serialized(size=(16, 16), step=48, data=PIXELS * 16))
    stamp = types.SimpleNamespace(sec=found.stamp[0], nanosec=found.stamp[1])
    found.header = types.SimpleNamespace(stamp=stamp, frame_id=found.frame_id)
    frame = to_frame(found, 'left')
    assert (frame.size, frame.stamp_ns, frame.frame_id, frame.camera) == (
        (16, 16),
        12_000_000_034,
        'camera',
        'left',
    )


@pytest.mark.parametrize('end', [4, 5, 11, 12, 18, 22, 30, 36, 41, 45, 52, 58, 60, 99])
def test_what_is_cut_off_is_told(end):
    message = serialized()
    with pytest.raises(ConversionError, match=rf'truncated: it has {end} bytes, its fields take \d+ or more'):
        read_image(message[:end])


def test_more_pixels_than_there_are_take_no_memory():
    with pytest.raises(
        ConversionError, match='truncated: it has 100 bytes, its fields take 4294967347 or more'
    ):
        read_image(serialized(num_bytes=2**32 - 1))


@pytest.mark.parametrize(
    'head', [b'', b'\x00', b'\x00\x02\x00\x00', b'\x00\x03\x00\x00', b'\x00\x09\x00\x00', b'PK']
)
def test_other_encodings_of_messages_are_left_to_the_middleware(head):
    message = head + serialized()[4:] if len(head) == 4 else head
    assert not is_plain_cdr(message)
    with pytest.raises(ConversionError, match='which is no plain CDR'):
        read_image(message)
    assert all(map(is_plain_cdr, KINDS))


def test_an_unreadable_image_raises_where_it_is_looked_at():
    image = UnreadableImage('header', ConversionError('broken'))
    assert image.header == 'header'
    with pytest.raises(ConversionError, match='broken'):
        to_frame(image)


@given(
    st.sampled_from(sorted(KINDS)),
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda start, size, step, num_bytes: serialized(
                size=size, step=step, num_bytes=num_bytes
            )[4:start],
            st.integers(4, 120), st.tuples(UINT32, UINT32), UINT32, UINT32,
        ),
    ),
)  # fmt: skip
def test_any_bytes_are_an_image_or_an_error(head, body):
    try:
        found = read_image(head + body)
        assert len(found.data) <= len(body)
        decode_raw(found)
    except DffError:
        pass
