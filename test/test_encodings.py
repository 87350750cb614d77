# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Raw images to RGB by value: every encoding, padding and byte order, against OpenCV where that is right."""

from __future__ import annotations

import array
import tracemalloc
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from raw_images import BGR, BYTES, CHANNELS, GREY, HEIGHT, RGB, WIDTH, raw, raw_16bit, raw_channels

from dff_ros import opencv_layouts
from dff_ros.encodings import ENCODINGS, ImageLimits, decode_raw, to_8bit
from dff_ros.errors import ConversionError
from dff_ros.image_layouts import LAYOUTS

RNG = np.random.default_rng(11)
BAYER = {'rggb': 'RGGB', 'bggr': 'BGGR', 'gbrg': 'GBRG', 'grbg': 'GRBG'}
PADDINGS = (0, 1, 41)


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('encoding', BYTES)
def test_channels_of_8_bits_with_and_without_row_padding(encoding, padding):
    image = decode_raw(raw_channels(encoding, padding))
    np.testing.assert_array_equal(image, GREY if encoding in ('mono8', '8UC1') else RGB)
    assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True)


@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('name', CHANNELS)
def test_channels_of_16_bits_in_both_byte_orders(name, padding, is_bigendian):
    values = np.minimum(CHANNELS[name] * 257.0 + 100, 65535)  # still rounds to the byte
    image = decode_raw(raw_16bit(f'{name}16', values, padding=padding, is_bigendian=is_bigendian))
    np.testing.assert_array_equal(image, GREY if name == 'mono' else RGB)


def test_16_bits_scale_to_8_by_rounding():
    values = np.arange(65536).astype(np.uint16)
    np.testing.assert_array_equal(to_8bit(values), np.rint(values / 257))


def test_black_and_white_level_stretch_16_bits():
    limits = ImageLimits(black_level=1000, white_level=1510)
    values = np.array([[0, 1000, 1001, 1002, 1255, 1509, 1510, 65535]], np.uint16)
    image = decode_raw(raw_16bit('mono16', values), limits)
    assert image[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255, 255, 255]  # 0.5 and 127.5 round up
    ten_bits = to_8bit(np.array([0, 511, 1023, 1024], np.uint16), ImageLimits(white_level=1023))
    assert ten_bits.tolist() == [0, 127, 255, 255]


def test_tight_rgb8_is_a_view_of_the_data_and_nothing_else_is():
    message = raw_channels('rgb8')
    assert np.shares_memory(decode_raw(message), np.frombuffer(message.data, np.uint8))
    padded = raw_channels('rgb8', padding=3)
    assert not np.shares_memory(decode_raw(padded), np.frombuffer(padded.data, np.uint8))


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda b: array.array('B', b)])
def test_data_of_any_buffer(kind):
    message = raw_channels('bgr8')
    message.data = kind(message.data)
    np.testing.assert_array_equal(decode_raw(message), RGB)


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('size', [(2, 2), (6, 10), (34, 130), (240, 322)])
@pytest.mark.parametrize('encoding', ENCODINGS)
def test_opencv_makes_the_same_bits(encoding, size, padding):
    pytest.importorskip('cv2')
    height, width = size
    layout = LAYOUTS[encoding]
    step = layout.row_bytes(width) + padding
    num_bytes = sum(plane.num_bytes for plane in layout.planes(height, width, step))
    data = RNG.integers(0, 256, num_bytes, dtype=np.uint8).tobytes()
    message = SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=0, data=data
    )
    plain = decode_raw(message)
    asked: list[bool] = []

    def convert(name: str, planes: Sequence[np.ndarray]) -> np.ndarray | None:
        image = opencv_layouts.convert(name, planes)
        asked.append(image is not None)
        return image

    found = decode_raw(message, convert=convert)
    np.testing.assert_array_equal(found, plain)
    assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True)
    assert asked == [not encoding.startswith(('rgb8', 'rgb16', 'bayer', 'nv24'))]


def test_without_opencv_numpy_does_it(monkeypatch):
    monkeypatch.setattr(opencv_layouts, '_opencv', lambda: None)
    message = raw_channels('bgr8')
    np.testing.assert_array_equal(decode_raw(message, convert=opencv_layouts.convert), RGB)


def yuv_planes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y (H, W) of every value, U and V (H, W / 2)."""
    luma, u, v = (RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8) for _ in range(3))
    return luma, u[:, ::2], v[:, ::2]


def interleaved(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=-1).reshape(len(columns[0]), -1)


def packed_yuv(encoding: str, luma: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    if encoding in ('uyvy', 'yuv422'):
        return interleaved(u, luma[:, ::2], v, luma[:, 1::2])
    return interleaved(luma[:, ::2], u, luma[:, 1::2], v)


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('encoding', ['uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2'])
def test_yuv_422_is_what_opencv_makes_of_it(encoding, padding):
    cv2 = pytest.importorskip('cv2')
    rows = packed_yuv(encoding, *yuv_planes())
    code = cv2.COLOR_YUV2RGB_UYVY if encoding in ('uyvy', 'yuv422') else cv2.COLOR_YUV2RGB_YUYV
    expected = cv2.cvtColor(rows.reshape(HEIGHT, WIDTH, 2), code)
    np.testing.assert_array_equal(decode_raw(raw(encoding, rows, padding=padding)), expected)


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_nv12_and_nv21_are_what_opencv_makes_of_them(encoding, padding):
    cv2 = pytest.importorskip('cv2')
    luma, u, v = yuv_planes()
    u, v = u[::2], v[::2]
    rows = np.concatenate([luma, interleaved(u, v) if encoding == 'nv12' else interleaved(v, u)])
    code = cv2.COLOR_YUV2RGB_NV12 if encoding == 'nv12' else cv2.COLOR_YUV2RGB_NV21
    message = raw(encoding, rows, padding=padding)
    np.testing.assert_array_equal(decode_raw(message), cv2.cvtColor(rows, code))


@pytest.mark.parametrize('padding', [0, 5])
def test_nv24_has_colour_for_every_pixel(padding):
    luma, u, v = yuv_planes()
    full_u, full_v = np.repeat(u, 2, axis=1), np.repeat(v, 2, axis=1)
    chroma = np.pad(interleaved(full_u, full_v), ((0, 0), (0, 2 * padding)))
    message = raw('nv24', luma, padding=padding)
    message.data += chroma.tobytes()
    same = decode_raw(raw('yuyv', packed_yuv('yuyv', luma, u, v)))
    np.testing.assert_array_equal(decode_raw(message), same)


@pytest.mark.parametrize(
    ('yuv', 'rgb'),
    [  # BT.601, limited range
        ((16, 128, 128), (0, 0, 0)),
        ((235, 128, 128), (255, 255, 255)),
        ((0, 128, 128), (0, 0, 0)),
        ((81, 90, 240), (254, 0, 0)),
        ((145, 54, 34), (0, 255, 1)),
        ((41, 240, 110), (0, 0, 255)),
    ],
)
def test_known_colours_of_yuv(yuv, rgb):
    luma, u, v = (np.full((2, width), value, np.uint8) for width, value in zip((4, 2, 2), yuv, strict=True))
    message = raw('uyvy', packed_yuv('uyvy', luma, u, v), height=2, width=4)
    image = decode_raw(message).astype(int)
    assert np.abs(image - rgb).max() <= 1


def colour_at(pattern: str, row: int, column: int) -> int:
    """0, 1 or 2: the channel that a mosaic has there."""
    return 'RGB'.index(pattern[2 * (row % 2) + column % 2])


def slow_demosaic(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """The mean of the nearest samples of each colour, pixel by pixel; mirrored at the border."""
    height, width = mosaic.shape
    around = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    image = np.zeros((height, width, 3), int)
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                near = [
                    (abs(y) + abs(x), y, x)
                    for y, x in around
                    if colour_at(pattern, row + y, column + x) == channel
                ]
                values = [
                    mosaic[mirror(row + y, height), mirror(column + x, width)]
                    for distance, y, x in near
                    if distance == min(near)[0]
                ]
                image[row, column, channel] = int(np.mean(values) + 0.5)
    return image


def mirror(index: int, size: int) -> int:
    return size - 1 - abs(size - 1 - abs(index))


@pytest.mark.parametrize('size', [(HEIGHT, WIDTH), (19, 17), (2, 2), (67, 5)])
@pytest.mark.parametrize('name', BAYER)
def test_bayer_takes_the_mean_of_the_nearest_samples_of_a_colour(name, size):
    mosaic = RNG.integers(0, 256, size, dtype=np.uint8)
    expected = slow_demosaic(mosaic, BAYER[name])
    for padding in (0, 3):
        message = raw(f'bayer_{name}8', mosaic, height=size[0], width=size[1], padding=padding)
        np.testing.assert_array_equal(decode_raw(message), expected)
    for is_bigendian in (0, 1):
        wide = raw_16bit(f'bayer_{name}16', mosaic.astype(np.uint16) * 257, is_bigendian=is_bigendian)
        np.testing.assert_array_equal(decode_raw(wide), expected)


@pytest.mark.parametrize('name', BAYER)
def test_bayer_inside_the_border_is_what_opencv_makes_of_it(name):
    cv2 = pytest.importorskip('cv2')
    mosaic = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    # OpenCV names a mosaic by its second row from the second column on.
    code = {'rggb': 'BG', 'bggr': 'RG', 'gbrg': 'GR', 'grbg': 'GB'}[name]
    oracle = cv2.cvtColor(mosaic, getattr(cv2, f'COLOR_Bayer{code}2RGB'))
    image = decode_raw(raw(f'bayer_{name}8', mosaic))
    np.testing.assert_array_equal(image[1:-1, 1:-1], oracle[1:-1, 1:-1])


@pytest.mark.parametrize('encoding', [e for e in BYTES if not e.startswith('8U')])
def test_agrees_with_rosbags_image_on_tight_rows(encoding):
    rosbags_image = pytest.importorskip('rosbags.image')
    message = raw_channels(encoding)
    oracle = rosbags_image.message_to_cvimage(message, 'rgb8')
    np.testing.assert_array_equal(decode_raw(message), oracle)


@pytest.mark.parametrize('is_bigendian', [0, 1])
@pytest.mark.parametrize('name', CHANNELS)
def test_agrees_with_rosbags_image_on_16_bits_but_for_its_rounding_down(name, is_bigendian):
    rosbags_image = pytest.importorskip('rosbags.image')
    values = RNG.integers(0, 65536, CHANNELS[name].shape, dtype=np.uint16)
    message = raw_16bit(f'{name}16', values, is_bigendian=is_bigendian)
    native = raw_16bit(f'{name}16', values)  # rosbags-image cannot convert swapped samples
    oracle = rosbags_image.message_to_cvimage(native, 'rgb8').astype(int)
    assert set(np.unique(decode_raw(message) - oracle)) <= {0, 1}


def test_every_encoding_is_decoded_by_some_test():
    covered = set(BYTES) | {f'{name}16' for name in CHANNELS}
    covered |= {f'bayer_{name}{bits}' for name in BAYER for bits in (8, 16)}
    covered |= {'uyvy', 'yuv422', 'yuyv', 'yuv422_yuy2', 'nv12', 'nv21', 'nv24'}
    assert covered == set(ENCODINGS)


BAD = [
    ({'encoding': 'yuv420'}, "'yuv420' is not supported.* rgb8, bgr8, rgba8"),
    ({'encoding': 'RGB8'}, "'RGB8' is not supported; did the publisher mean rgb8"),
    ({'encoding': ''}, "'' is not supported; set the camera driver to one of rgb8"),
    ({'encoding': 'x' * 10_000}, "^image encoding 'x{40}' is not"),
    (
        {'encoding': '32FC1'},
        "'32FC1' holds depth or other measurements, not a picture: subscribe to the colour",
    ),
    ({'encoding': '64FC3'}, "'64FC3' holds depth"),
    ({'encoding': '16UC1'}, "'16UC1' holds depth.*or to mono16 where 16-bit values are brightness"),
    ({'encoding': '8UC2'}, "'8UC2' holds depth"),
    ({'height': 0}, r'empty \(24x0 pixels\): check the camera driver'),
    ({'width': 0}, r'empty \(0x18 pixels\)'),
    ({'step': 71}, 'step is 71 bytes, but 24 rgb8 pixels take 72: the publisher must set step'),
    ({'step': 0}, 'step is 0 bytes'),
    ({'height': 19}, 'truncated: 1296 bytes, but 19 rows of rgb8 of step 72 take 1368; check the publisher'),
    ({'height': 17}, 'too long: 1296 bytes, but 17 rows of rgb8 of step 72 take 1224'),
    (
        {'height': 4_294_967_295},
        r'claims 24x4294967295 pixels, more than max_pixels \(67108864\).*raise max_pix',
    ),
    ({'width': 4_294_967_295, 'height': 1, 'step': 4_294_967_295}, 'more than max_pixels'),
    ({'step': 4_294_967_295}, 'truncated'),
    ({'data': b''}, 'truncated: 0 bytes'),
    ({'encoding': 'uyvy', 'width': 23}, 'is 23x18 pixels, but uyvy has one colour sample for 2x1 pixels'),
    ({'encoding': 'nv12', 'height': 17}, 'is 24x17 pixels, but nv12 has one colour sample for 2x2 pixels'),
    ({'encoding': 'nv21', 'width': 25}, 'nv21 has one colour sample for 2x2 pixels: sides must be multiples'),
    (
        {'encoding': 'mono16', 'is_bigendian': 77, 'step': 72},
        'is_bigendian is 77 in an image of mono16.*0 or 1',
    ),
    ({'encoding': 'bayer_rggb8', 'height': 1, 'data': bytes(72)}, '24x1 pixels: a Bayer mosaic has 2x2'),
]


@pytest.mark.parametrize(('changes', 'complaint'), BAD)
def test_a_bad_image_is_refused_by_name_without_taking_memory(changes, complaint):
    message = raw_channels('rgb8')
    vars(message).update(changes)
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match=complaint) as caught:
            decode_raw(message)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 600


def test_the_largest_image_taken_is_a_setting():
    assert decode_raw(raw_channels('mono8'), ImageLimits(max_pixels=432)).shape == (18, 24, 3)
    with pytest.raises(ConversionError, match=r'24x18 pixels, more than max_pixels \(431\)'):
        decode_raw(raw_channels('mono8'), ImageLimits(max_pixels=431))


@pytest.mark.parametrize('encoding', ['bgr8', 'nv12', 'bayer_rggb16'])
def test_the_last_row_may_lack_its_padding_and_no_more(encoding):
    num_bytes = {'bgr8': 3, 'nv12': 1, 'bayer_rggb16': 2}[encoding] * WIDTH
    rows = RNG.integers(
        0, 256, (HEIGHT * 3 // 2 if encoding == 'nv12' else HEIGHT, num_bytes), dtype=np.uint8
    )
    message = raw(encoding, rows, padding=8)
    whole = decode_raw(message)
    message.data = message.data[:-8]
    np.testing.assert_array_equal(decode_raw(message), whole)
    message.data = message.data[:-1]
    with pytest.raises(ConversionError, match='truncated'):
        decode_raw(message)


@pytest.mark.parametrize('is_bigendian', [1, 2, 255])
def test_byte_order_says_nothing_of_bytes(is_bigendian):
    message = raw_channels('bgra8')
    message.is_bigendian = is_bigendian
    np.testing.assert_array_equal(decode_raw(message), RGB)


def test_order_of_names_without_colours_is_that_of_opencv():
    image = decode_raw(raw('8UC3', np.array([[1, 2, 3]], np.uint8), height=1, width=1))
    assert image[0, 0].tolist() == [3, 2, 1]
    assert BGR == (2, 1, 0)
