# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Random images, whole and broken, into the conversions: the right picture or a named refusal, nothing else.

A few examples each here, 20,000 with `make fuzz`.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raw_images import RGB

from dff_ros.encodings import ENCODINGS, ImageLimits, decode_raw, to_8bit
from dff_ros.errors import ConversionError, ShapeError
from dff_ros.types import MIN_SIDE, Frame

MAX_PIXELS = 10_000
BLACK, WHITE = 300, 50_000
LIMITS = ImageLimits(MAX_PIXELS, BLACK, WHITE)
MOSAICS = {'rggb': 'RGGB', 'bggr': 'BGGR', 'gbrg': 'GBRG', 'grbg': 'GRBG'}
ORDERS = {'rgb': 'RGB', 'bgr': 'BGR', 'rgba': 'RGBA', 'bgra': 'BGRA', 'mono': 'G'}
NAMES_OF_OPENCV = {'8UC1': 'mono8', '8UC3': 'bgr8', '8UC4': 'bgra8'}
PLACES = {'uyvy': 'UYVY', 'yuv422': 'UYVY', 'yuyv': 'YUYV', 'yuv422_yuy2': 'YUYV'}
PLANAR = {'nv12': (2, 2, 0), 'nv21': (2, 2, 1), 'nv24': (1, 1, 0)}
"""Rows and columns of a colour sample, and the place of U in it."""

to_8bit(np.zeros(1, np.uint16), LIMITS)  # makes its table, which is kept


class Message(SimpleNamespace):
    """Names the length of its data in place of the bytes."""

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name != 'data'}
        return f'{shown} with {len(self.data)} bytes'


def bytes_per_pixel(encoding: str) -> int:
    """Of the first plane."""
    name = NAMES_OF_OPENCV.get(encoding, encoding)
    if name in PLANAR:
        return 1
    if name in PLACES:
        return 2
    wide = 2 if name.endswith('16') else 1
    if name.startswith('bayer_'):
        return wide
    return wide * len(ORDERS[name.rstrip('0123456789')])


def num_bytes(message: SimpleNamespace) -> tuple[int, int]:
    """With and without the padding of the last row."""
    height, width, step = message.height, message.width, message.step
    padding = step - width * bytes_per_pixel(message.encoding)
    if message.encoding not in PLANAR:
        return height * step, height * step - padding
    down, across, _ = PLANAR[message.encoding]
    whole = height * step + height // down * 2 * step // across
    return whole, whole - padding * 2 // across


def is_good(message: SimpleNamespace) -> bool:
    """What docs/inputs.md says is taken."""
    height, width = message.height, message.width
    if message.encoding not in ENCODINGS or min(height, width) < MIN_SIDE or height * width > MAX_PIXELS:
        return False
    if message.encoding in PLACES and width % 2:
        return False
    down, across, _ = PLANAR.get(message.encoding, (1, 1, 0))
    if height % down or width % across or message.step < width * bytes_per_pixel(message.encoding):
        return False
    if message.encoding.endswith('16') and message.is_bigendian > 1:
        return False
    most, least = num_bytes(message)
    return least <= len(message.data) <= most


def sample(message: SimpleNamespace, offset: int) -> int:
    """One sample as 8 bits."""
    if not message.encoding.endswith('16'):
        return message.data[offset]
    value = int.from_bytes(message.data[offset : offset + 2], 'big' if message.is_bigendian else 'little')
    return int((min(max(value, BLACK), WHITE) - BLACK) * 255 / (WHITE - BLACK) + 0.5)


def slow_pixel(message: SimpleNamespace, row: int, column: int) -> tuple[int | None, ...]:
    """Red, green, blue of one pixel from its bytes alone; None what its neighbours tell."""
    name = NAMES_OF_OPENCV.get(message.encoding, message.encoding)
    at = row * message.step + column * bytes_per_pixel(message.encoding)
    if name.startswith('bayer_'):
        colour = MOSAICS[name[6:10]][2 * (row % 2) + column % 2]
        return tuple(sample(message, at) if colour == channel else None for channel in 'RGB')
    if name in PLACES or name in PLANAR:
        return rgb_of(*yuv_at(message, row, column))
    order = ORDERS[name.rstrip('0123456789')]
    wide = 2 if name.endswith('16') else 1
    return tuple(sample(message, at + wide * max(order.find(channel), 0)) for channel in 'RGB')


def yuv_at(message: SimpleNamespace, row: int, column: int) -> tuple[int, ...]:
    if message.encoding in PLACES:
        four = message.data[row * message.step + column // 2 * 4 :][:4]
        places = PLACES[message.encoding]
        luma = [byte for byte, place in zip(four, places, strict=True) if place == 'Y'][column % 2]
        return luma, four[places.index('U')], four[places.index('V')]
    down, across, place_of_u = PLANAR[message.encoding]
    chroma = message.height * message.step + row // down * 2 * message.step // across + column // across * 2
    u, v = message.data[chroma + place_of_u], message.data[chroma + 1 - place_of_u]
    return message.data[row * message.step + column], u, v


def rgb_of(luma: int, u: int, v: int) -> tuple[int, ...]:
    grey, u, v = 1.164 * (max(luma, 16) - 16), u - 128, v - 128
    exact = grey + 1.596 * v, grey - 0.813 * v - 0.391 * u, grey + 2.018 * u
    return tuple(round(min(max(value, 0), 255)) for value in exact)


@st.composite
def raw_messages(draw: st.DrawFn) -> SimpleNamespace:
    """Most are good but for one thing, some in all."""
    encoding = draw(st.sampled_from(ENCODINGS))
    height, width = (2 * draw(st.integers(8, 20)) for _ in range(2))
    padding = draw(st.sampled_from([0, 0, 1, 2, 7]))
    message = Message(encoding=encoding, height=height, width=width, data=b'')
    message.is_bigendian = draw(st.integers(0, 1))
    message.step = width * bytes_per_pixel(encoding) + padding
    number = draw(st.integers(0, 2**32 - 1))
    length = draw(st.sampled_from(num_bytes(message))) + draw(st.sampled_from([0, 0, 0, 0, -1, 1, -500, 300]))
    message.data = np.random.default_rng(number).integers(0, 256, max(length, 0), np.uint8).tobytes()
    for name, values in draw(st.sampled_from(CHANGES)).items():
        setattr(message, name, draw(values))
    return message


UINT32 = st.integers(0, 2**32 - 1)
MEASUREMENTS = st.sampled_from(['32FC1', '64FC3', '16UC1', '8UC2', '16SC1', '32FC', '8UC999999'])
CHANGES: list[dict[str, st.SearchStrategy]] = [
    {},
    {},
    {'encoding': st.sampled_from(ENCODINGS)},
    {'encoding': st.text(max_size=12) | MEASUREMENTS},
    {'height': st.integers(0, 45)},
    {'width': st.integers(0, 45)},
    {'height': UINT32},
    {'step': UINT32 | st.integers(0, 200)},
    {'is_bigendian': st.integers(0, 255)},
    {'data': st.binary(max_size=40)},
    {'height': UINT32, 'width': UINT32, 'step': UINT32, 'encoding': st.sampled_from(ENCODINGS)},
]


def to_image(decode: object, message: SimpleNamespace) -> np.ndarray | None:
    """The picture or None; fails on any other exception, and where memory was taken out of proportion."""
    tracemalloc.start()
    try:
        return Frame(image_HW3=decode(message, LIMITS), stamp_ns=0).image_HW3  # type: ignore[operator]
    except (ConversionError, ShapeError) as error:
        assert 20 < len(str(error)) < 700
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000 + 10 * len(message.data)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    message=raw_messages(), places=st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), min_size=3)
)
def test_fuzzed_raw_images_are_right_or_refused(message, places):
    image = to_image(decode_raw, message)
    assert (image is not None) == is_good(message)
    if image is None:
        return
    assert (image.shape, image.dtype) == ((message.height, message.width, 3), np.uint8)
    for down, right in [(0, 0), (0.999, 0.999), *places]:
        row, column = int(down * message.height), int(right * message.width)
        expected = slow_pixel(message, row, column)
        found = image[row, column].tolist()
        assert all(e is None or abs(e - f) <= 1 for e, f in zip(expected, found, strict=True)), (row, column)


@functools.cache
def files() -> dict[str, bytes]:
    """A whole file of each kind."""
    cv2 = pytest.importorskip('cv2')
    alpha = np.dstack([RGB, RGB[..., :1]])
    wide = RGB.astype(np.uint16) * 257

    def encoded(suffix: str, pixels: np.ndarray, *params: int) -> bytes:
        return cv2.imencode(suffix, np.ascontiguousarray(pixels), params)[1].tobytes()

    return {
        'jpeg': encoded('.jpg', RGB),
        'grey jpeg': encoded('.jpg', RGB[..., 0]),
        'progressive': encoded('.jpg', RGB, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        'restarts': encoded('.jpg', RGB, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        'png': encoded('.png', RGB),
        'grey png': encoded('.png', RGB[..., 0]),
        'alpha': encoded('.png', alpha),
        '16 bits': encoded('.png', wide),
        '16 bits grey': encoded('.png', wide[..., 0]),
        'one bit': encoded('.png', RGB[..., 0], cv2.IMWRITE_PNG_BILEVEL, 1),
    }


KINDS = ['jpeg', 'grey jpeg', 'progressive', 'restarts'] + [
    'png',
    'grey png',
    'alpha',
    '16 bits',
    '16 bits grey',
    'one bit',
]


@dataclasses.dataclass(frozen=True)
class Damage:
    """`num_gone` bytes at a share of the file's length replaced by others."""

    place: float
    num_gone: int
    inserted: bytes

    def to(self, data: bytes) -> bytes:
        at = int(self.place * len(data))
        return data[:at] + self.inserted + data[at + self.num_gone :]


MARKERS = st.sampled_from(
    [b'\xff\xd9', b'\xff\xd8', b'\xff\xda\0\x0c', b'\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03']
)
DAMAGES = st.lists(
    st.builds(
        Damage,
        st.floats(0, 1),
        st.sampled_from([0, 1, 1, 2, 4, 50, 10**6]),
        st.binary(max_size=4) | MARKERS | st.just(bytes(300)),
    ),
    max_size=4,
)
FORMATS = st.sampled_from(
    [
        'jpeg',
        'png',
        'rgb8; jpeg compressed bgr8',
        'bayer_rggb8; png compressed ',
        'bayer_gbrg16; jpeg compressed ',
    ]
) | st.text(max_size=20)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(KINDS), damages=DAMAGES, text=FORMATS)
def test_fuzzed_files_are_right_or_refused(name, damages, text):
    from dff_ros.compressed import decode_compressed

    whole = files()[name]
    data = whole
    for damage in damages:
        data = damage.to(data)

    def decode(message: SimpleNamespace, limits: ImageLimits) -> np.ndarray:
        return decode_compressed(message, limits)[0]

    image = to_image(decode, SimpleNamespace(format=text, data=data))
    is_untouched = data.startswith(whole)
    is_depth = 'compressedDepth' in text
    assert image is not None or not is_untouched or is_depth
    if image is not None and (is_untouched or data.startswith(b'\x89PNG')):
        # Whatever was done to a PNG, its check sums let nothing through but the picture.
        np.testing.assert_array_equal(image, decode(SimpleNamespace(format=text, data=whole), LIMITS))
    if image is not None:
        assert image.shape[0] * image.shape[1] <= MAX_PIXELS


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.sampled_from([b'', b'\xff\xd8', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n']),
    rest=st.binary(max_size=300),
)
@example(start=b'\xff\xd8', rest=b'\xff' * 5000)
@example(start=b'\xff\xd8', rest=b'\xff\xe0\0\x02' * 5000)
def test_fuzzed_bytes_are_refused(start, rest):
    pytest.importorskip('cv2')
    from dff_ros.compressed import decode_compressed

    message = SimpleNamespace(format='jpeg', data=start + rest)
    assert to_image(lambda m, limits: decode_compressed(m, limits)[0], message) is None


@st.composite
def png_chunks(draw: st.DrawFn) -> bytes:
    """A PNG of right check sums; the rest is mostly wrong."""
    depth = draw(st.sampled_from([1, 2, 4, 8, 16]) | st.integers(0, 17))
    colour = draw(st.sampled_from([0, 2, 3, 4, 6]) | st.integers(0, 7))
    sides = [draw(st.integers(14, 24) | UINT32) for _ in range(2)]
    header = struct.pack('>IIBBBBB', *sides, depth, colour, 0, 0, draw(st.integers(0, 2)))
    row = 1 + (sides[0] * {2: 3, 4: 2, 6: 4}.get(colour, 1) * depth + 7) // 8
    length = draw(st.sampled_from([row * sides[1], 100]))
    pixels = zlib.compress(bytes(min(length, 10_000)))
    kinds = st.sampled_from(
        [b'IHDR', b'PLTE', b'tRNS', b'gAMA', b'IDAT', b'eXIf', b'acTL', b'fcTL', b'IEND', b'abcd']
    )
    chunks = [(b'IHDR', header), *draw(st.lists(st.tuples(kinds, st.binary(max_size=30)), max_size=4))]
    chunks += [(b'IDAT', pixels), (b'IEND', b'')]
    parts = [
        len(body).to_bytes(4, 'big') + kind + body + zlib.crc32(kind + body).to_bytes(4, 'big')
        for kind, body in chunks
    ]
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(data=png_chunks())
def test_fuzzed_png_chunks_never_break_the_decoder(data):
    pytest.importorskip('cv2')
    from dff_ros.compressed import decode_compressed

    image = to_image(
        lambda m, limits: decode_compressed(m, limits)[0], SimpleNamespace(format='png', data=data)
    )
    if image is not None:
        assert image.shape == (*struct.unpack_from('>II', data, 16)[::-1], 3)
