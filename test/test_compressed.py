# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Compressed images to RGB by value: what image_transport and drivers send, and what is refused of it."""

from __future__ import annotations

import builtins
import struct
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('cv2')
import cv2
from raw_images import BGR, GREY, HEIGHT, RGB, WIDTH

from dff_ros.compressed import decode_compressed
from dff_ros.encodings import ImageLimits, decode_raw
from dff_ros.errors import BackendUnavailableError, ConversionError
from dff_ros.image_files import read_facts

# Smooth, so that JPEG keeps it within some grey levels; red grows downwards, blue to the right.
SMOOTH = np.stack(
    [*np.meshgrid(np.linspace(40, 220, 48), np.linspace(30, 200, 64), indexing='ij')], axis=-1
).astype(np.uint8)
SMOOTH = np.concatenate([SMOOTH[..., :1], np.full((48, 64, 1), 90, np.uint8), SMOOTH[..., 1:]], axis=2)


def encoded(suffix: str, pixels: np.ndarray, *params: int) -> bytes:
    """A file of pixels in OpenCV's order."""
    is_encoded, data = cv2.imencode(suffix, pixels, params)
    assert is_encoded
    return data.tobytes()


PNG = encoded('.png', RGB[..., BGR])
JPEG = encoded('.jpg', SMOOTH[..., BGR], cv2.IMWRITE_JPEG_QUALITY, 95)
PROGRESSIVE = encoded('.jpg', SMOOTH[..., BGR], cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTING = encoded('.jpg', SMOOTH[..., BGR], cv2.IMWRITE_JPEG_RST_INTERVAL, 2)


def compressed(data: bytes, text: str = '') -> SimpleNamespace:
    return SimpleNamespace(format=text, data=data)


def decode(data: bytes, text: str = '', **limits: int) -> np.ndarray:
    image, _ = decode_compressed(compressed(data, text), ImageLimits(**limits))
    assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True)
    return image


@pytest.mark.parametrize(
    'text',
    ['png', 'rgb8; png compressed bgr8', 'bgra8; png compressed bgr8', '', 'jpeg', 'what; ever', 'x' * 999],
)
def test_png_is_exact_whatever_the_format_says(text):
    image, codec = decode_compressed(compressed(PNG, text))
    np.testing.assert_array_equal(image, RGB)
    assert codec == 'png'


@pytest.mark.parametrize('text', ['jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', 'bgr8; jpeg compressed bgr8'])
@pytest.mark.parametrize('data', [JPEG, PROGRESSIVE, RESTARTING], ids=['baseline', 'progressive', 'restarts'])
def test_jpeg_of_every_kind_and_its_colours(data, text):
    image, codec = decode_compressed(compressed(data, text))
    assert np.abs(image.astype(int) - SMOOTH).max() <= 12
    np.testing.assert_array_equal(image, cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., BGR])
    assert codec == 'jpeg'


@pytest.mark.parametrize('text', ['rgb8; png compressed rgb8', 'bgra8; png compressed '])
def test_colours_that_were_not_compressed_as_bgr_are_exchanged_as_image_transport_reads_them(text):
    np.testing.assert_array_equal(decode(PNG, text), RGB[..., BGR])


@pytest.mark.parametrize('text', ['mono8; png compressed ', 'mono8; png compressed mono8', 'png'])
def test_grey_png(text):
    np.testing.assert_array_equal(decode(encoded('.png', GREY[..., 0]), text), GREY)


def test_grey_jpeg():
    image = decode(encoded('.jpg', SMOOTH[..., 0]), 'mono8; jpeg compressed ')
    assert np.abs(image.astype(int) - SMOOTH[..., :1]).max() <= 8
    assert (image[..., 0] == image[..., 2]).all()


@pytest.mark.parametrize('text', ['mono16; png compressed ', 'png'])
def test_16_bit_grey_png_by_black_and_white_level(text):
    values = GREY[..., 0].astype(np.uint16) * 16
    data = encoded('.png', values)
    np.testing.assert_array_equal(decode(data, text), np.rint(GREY * 16.0 / 257))
    np.testing.assert_array_equal(decode(data, text, white_level=4080), GREY)


def test_16_bit_colour_png_and_alpha():
    np.testing.assert_array_equal(decode(encoded('.png', RGB[..., BGR].astype(np.uint16) * 257)), RGB)
    alpha = np.full((HEIGHT, WIDTH, 1), 3, np.uint8)
    np.testing.assert_array_equal(
        decode(encoded('.png', np.concatenate([RGB[..., BGR], alpha], axis=2))), RGB
    )


@pytest.mark.parametrize('bits', [8, 16])
def test_a_mosaic_compressed_as_grey_gets_its_colours(bits):
    mosaic = RGB[..., 0]
    samples = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    image = decode(encoded('.png', samples), f'bayer_gbrg{bits}; png compressed ')
    raw = SimpleNamespace(
        encoding='bayer_gbrg8', height=HEIGHT, width=WIDTH, step=WIDTH, is_bigendian=0, data=mosaic.tobytes()
    )
    np.testing.assert_array_equal(image, decode_raw(raw))
    assert (image[..., 0] != image[..., 2]).any()
    coloured = decode(PNG, 'bayer_gbrg8; png compressed bgr8')  # was a picture already
    np.testing.assert_array_equal(coloured, RGB)


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with a segment more, behind its start."""
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, 'big') + content + data[2:]


def test_the_orientation_in_exif_is_ignored():
    tiff = b'II*\0' + struct.pack('<IHHHIHHI', 8, 1, 0x0112, 3, 1, 6, 0, 0)  # rotated by 90 degrees
    data = with_segment(JPEG, 0xE1, b'Exif\0\0' + tiff)
    turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (64, 48, 3)  # OpenCV by itself turns it
    np.testing.assert_array_equal(decode(data), decode(JPEG))


@pytest.mark.parametrize('data', [JPEG, PNG, PROGRESSIVE], ids=['jpeg', 'png', 'progressive'])
@pytest.mark.parametrize('behind', [bytes(4096), b'\xff\xd9', b'rest of a buffer'])
def test_what_follows_the_end_of_the_file_is_ignored(data, behind):
    np.testing.assert_array_equal(decode(data + behind), decode(data))


@pytest.mark.parametrize(
    'data', [JPEG, PNG, PROGRESSIVE, RESTARTING], ids=['jpeg', 'png', 'progressive', 'rst']
)
def test_a_file_cut_anywhere_is_refused(data):
    for length in range(len(data)):
        with pytest.raises(ConversionError, match='truncated or damaged|neither jpeg nor png'):
            read_facts(data[:length])
        with pytest.raises(ConversionError):
            read_facts(data[:length] + bytes(64))  # a buffer of zeros that was not filled


def test_a_thumbnail_with_an_end_of_its_own_does_not_hide_a_cut():
    whole = with_segment(JPEG, 0xE1, b'Exif\0\0' + encoded('.jpg', GREY))
    np.testing.assert_array_equal(decode(whole), decode(JPEG))
    with pytest.raises(ConversionError, match='truncated'):
        decode(whole[: len(whole) - 300])


@pytest.mark.parametrize('position', [20, 60, len(PNG) // 2, len(PNG) - 5])
def test_a_changed_byte_of_a_png_is_noticed(position):
    damaged = bytearray(PNG)
    damaged[position] ^= 0x10
    with pytest.raises(ConversionError, match='png image is truncated or damaged'):
        decode(bytes(damaged))


def size_of_jpeg(height: int, width: int, data: bytes = JPEG, *, bits: int = 8, channels: int = 3) -> bytes:
    at = data.index(b'\xff\xc0')
    return data[: at + 4] + struct.pack('>BHHB', bits, height, width, channels) + data[at + 10 :]


def size_of_png(height: int, width: int) -> bytes:
    chunk = b'IHDR' + struct.pack('>II', width, height) + PNG[24:29]
    return PNG[:12] + chunk + zlib.crc32(chunk).to_bytes(4, 'big') + PNG[33:]


BAD = [
    (b'', '', r'neither jpeg nor png \(it begins with nothing\)'),
    (b'\xff', '', r'begins with ff\)'),
    (b'RIFF1234WEBPVP8 ', 'webp', 'begins with 52 49 46 46.*set the publisher to one of them'),
    (bytes(100), 'jpeg', 'begins with 00 00 00 00'),
    (
        b'\xff\xd8\xff\xd9',
        'jpeg',
        'jpeg image is truncated or damaged .4 bytes.: check the publisher and the net',
    ),
    (JPEG[: JPEG.index(b'\xff\xda')] + b'\xff\xd9', 'jpeg', 'jpeg image is truncated or damaged'),
    (PNG[:33] + PNG[-12:], 'png', 'png image is truncated or damaged'),
    (size_of_jpeg(65535, 65535), '', r'claims 65535x65535 pixels, more than max_pixels \(67108864\)'),
    (size_of_png(2**31 - 1, 2**31 - 1), '', r'claims 2147483647x2147483647 pixels, more than max_pixels'),
    (size_of_jpeg(0, 64), '', 'empty .64x0 pixels'),
    (size_of_png(HEIGHT, 0), '', 'empty .0x18 pixels'),
    (size_of_png(HEIGHT * 2, WIDTH), '', 'png image of 24x36 pixels is damaged'),
    (size_of_jpeg(48, 64, channels=4), '', r'4 channels \(CMYK has 4\): set the publisher to grey or colour'),
    (size_of_jpeg(48, 64, bits=12), '', 'lossless, arithmetic or of 12 bits'),
    (JPEG.replace(b'\xff\xc0', b'\xff\xc3'), '', 'lossless, arithmetic'),
    (PNG, '32FC1; compressedDepth png', 'is a compressed depth image: subscribe to the colour image'),
    (PNG, '16UC1; png compressed ', "'16UC1' holds depth or other measurements"),
    (JPEG[:-2] + b'\xff\xda\x00\x02' * 101 + b'\xff\xd9', '', 'more than 100 scans'),
]


@pytest.mark.parametrize(('data', 'text', 'complaint'), BAD)
def test_what_is_refused_and_why(data, text, complaint):
    tracemalloc.start()
    try:
        with pytest.raises(ConversionError, match=complaint):
            decode_compressed(compressed(data, text))
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_a_picture_without_its_data_is_refused():
    """The check sums are right and the pixels too few: only the decoder can tell."""
    at = PNG.index(b'IDAT')
    chunk = b'IDAT' + zlib.compress(bytes(100))
    short = PNG[: at - 4] + struct.pack('>I', len(chunk) - 4) + chunk + zlib.crc32(chunk).to_bytes(4, 'big')
    with pytest.raises(ConversionError, match='24x18 pixels is damaged'):
        decode(short + PNG[-12:])


@pytest.mark.parametrize(
    'error',
    [ImportError('No module named cv2'), AttributeError('_ARRAY_API not found')],
    ids=['absent', 'numpy'],
)
def test_without_opencv_it_says_what_to_install(monkeypatch, error):
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name == 'cv2':
            raise error
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, '__import__', refuse)
    with pytest.raises(BackendUnavailableError, match=f'{error}.*python3-opencv.*opencv-python-headless'):
        decode(PNG)
