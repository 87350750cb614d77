# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a JPEG or PNG file is, read from its structure without decoding it; one that is cut is refused."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from dff_ros.errors import ConversionError

JPEG, PNG = 'jpeg', 'png'

_JPEG_START = b'\xff\xd8'
_PNG_START = b'\x89PNG\r\n\x1a\n'
_SCAN, _END, _TEM = 0xDA, 0xD9, 0x01
_SIZES = range(0xC0, 0xC3)  # baseline, extended and progressive: what libjpeg decodes
_OTHER_SIZES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8, 0xCC}  # without tables and extensions
_MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')  # stuffed bytes and restarts belong to a scan
_MAX_SCANS = 100  # a progressive file has some ten; each costs a pass over the image
_PNG_FRAME = 12  # length, kind and check sum of a chunk
_GREY_TYPES = (0, 4)  # of PNG, without and with alpha


@dataclass(frozen=True, slots=True)
class FileFacts:
    """`codec` is `jpeg` or `png`; `is_grey`: one channel and no palette."""

    codec: str
    height: int
    width: int
    is_grey: bool


def read_facts(data: bytes) -> FileFacts:
    """Of a whole file; ConversionError on any other kind, on one that is cut or has no picture, and on JPEG
    of CMYK, 12 bits, or lossless. What follows the end of the file is ignored: drivers pad with zeros.
    """
    if data.startswith(_JPEG_START):
        return _read_jpeg(data)
    if data.startswith(_PNG_START):
        return _read_png(data)
    found = data[:4].hex(' ') if data else 'nothing'
    raise ConversionError(
        f'the compressed image is neither jpeg nor png (it begins with {found}): set the publisher to '
        'one of them'
    )


def _cut(codec: str, num_bytes: int) -> ConversionError:
    return ConversionError(
        f'the {codec} image is truncated or damaged ({num_bytes} bytes): check the publisher and the '
        'network, and that the transport carries messages of this size'
    )


def _read_jpeg(data: bytes) -> FileFacts:
    """Segments up to a scan, its data up to the next marker, and so on to the end of the image."""
    facts: FileFacts | None = None
    num_scans, position = 0, len(_JPEG_START)
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            raise _cut(JPEG, len(data))
        marker, position = data[found.end() - 1], found.end()
        if marker == _END:
            break
        if marker == _TEM:
            continue
        segment = _jpeg_segment(data, position)
        position += 2 + len(segment)
        if marker in _SIZES or marker in _OTHER_SIZES:
            if facts is not None:
                raise _cut(JPEG, len(data))
            facts = _jpeg_facts(marker, segment, len(data))
        num_scans += marker == _SCAN
        if num_scans > _MAX_SCANS:
            raise ConversionError(f'the jpeg image has more than {_MAX_SCANS} scans: send a baseline jpeg')
    if facts is None or not num_scans:
        raise _cut(JPEG, len(data))
    return facts


def _jpeg_segment(data: bytes, position: int) -> bytes:
    """What follows the length of two bytes, which counts itself."""
    length = int.from_bytes(data[position : position + 2], 'big')
    segment = data[position + 2 : position + length]
    if length < 2 or len(segment) != length - 2:
        raise _cut(JPEG, len(data))
    return segment


def _jpeg_facts(marker: int, segment: bytes, num_bytes: int) -> FileFacts:
    if len(segment) < 6:
        raise _cut(JPEG, num_bytes)
    bits, height, width, num_channels = struct.unpack_from('>BHHB', segment)
    if marker not in _SIZES or bits != 8:
        raise ConversionError(
            f'the jpeg image is lossless, arithmetic or of {bits} bits: set the publisher to baseline jpeg'
        )
    if num_channels not in (1, 3):
        raise ConversionError(
            f'the jpeg image has {num_channels} channels (CMYK has 4): set the publisher to grey or colour'
        )
    return FileFacts(JPEG, height, width, num_channels == 1)


def _read_png(data: bytes) -> FileFacts:
    """Chunk after chunk, with its check sum, to the last one."""
    view, position = memoryview(data), len(_PNG_START)
    facts: FileFacts | None = None
    has_pixels = False
    while True:
        if position + _PNG_FRAME > len(data):
            raise _cut(PNG, len(data))
        length, kind = struct.unpack_from('>I4s', data, position)
        end = position + _PNG_FRAME + length
        if end > len(data) or zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], 'big'
        ):
            raise _cut(PNG, len(data))
        if facts is None:
            facts = _png_facts(kind, data[position + 8 : end - 4], len(data))
        has_pixels |= kind == b'IDAT'
        if kind == b'IEND':
            break
        position = end
    if not has_pixels:
        raise _cut(PNG, len(data))
    return facts


def _png_facts(kind: bytes, header: bytes, num_bytes: int) -> FileFacts:
    if kind != b'IHDR' or len(header) != 13:
        raise _cut(PNG, num_bytes)
    width, height, _, colour_type = struct.unpack_from('>IIBB', header)
    return FileFacts(PNG, height, width, colour_type in _GREY_TYPES)
