# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Raw images to RGB: the encodings of sensor_msgs/Image and what becomes of each. Needs numpy alone.

A picture is refused before anything of its size is allocated. docs/inputs.md is the table for users.
"""

from __future__ import annotations

import array
import difflib
import functools
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ConversionError
from dff_ros.image_layouts import ENCODINGS, LAYOUTS, Layout, Plane
from dff_ros.image_limits import DEFAULT_LIMITS, MAX_16BIT, ImageLimits

__all__ = [
    'DEFAULT_LIMITS',
    'ENCODINGS',
    'ImageLimits',
    'RawImage',
    'check_num_pixels',
    'decode_raw',
    'refuse_measurements',
    'to_8bit',
]

_MEASUREMENT = re.compile(r'(8|16|32|64)[USF](C\d{1,3})?')
_MAX_NAME = 40  # of an encoding's characters in a message


class RawImage(Protocol):
    """What sensor_msgs/Image has, whoever made the class: rclpy, rosbags or a test."""

    @property
    def encoding(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def is_bigendian(self) -> int: ...
    @property
    def data(self) -> bytes | bytearray | memoryview | array.array[int] | NDArray[np.uint8]: ...


Converter = Callable[[str, Sequence[NDArray[np.uint8]]], NDArray[np.uint8] | None]
"""Makes RGB of the planes of an encoding; None where it does not know the encoding."""


def decode_raw(
    message: RawImage, limits: ImageLimits = DEFAULT_LIMITS, convert: Converter | None = None
) -> NDArray[np.uint8]:
    """RGB (height, width, 3), uint8, C-contiguous; of a tight rgb8 image a view of its data, else a copy.

    Rows may be padded (`step`; for two planes it is that of Y). The last one may come without its padding.
    `is_bigendian` counts for 16-bit encodings. YUV is BT.601 of limited range. Raises ConversionError on an
    encoding that is not in ENCODINGS, an empty image, one of more than `limits.max_pixels`, sides that the
    encoding cannot have, a `step` below a row of pixels, and too little or too much data.
    `convert` is asked first; without it, or where it does not know, numpy does it.
    """
    layout = _layout_of(message.encoding)
    _check_size(message, layout, limits)
    data = np.frombuffer(message.data, np.uint8)
    planes = layout.planes(message.height, message.width, message.step)
    _check_length(message, data.size, planes)
    rows, offset = [], 0
    for plane in planes:
        rows.append(_rows(data[offset:], plane))
        offset += plane.num_bytes
    if layout.is_16bit:
        order = _byte_order(message)
        rows = [to_8bit(samples.view(order), limits) for samples in rows]
    converted = None if convert is None else convert(message.encoding, rows)
    return layout.to_rgb(rows) if converted is None else converted


def to_8bit(samples: NDArray[np.uint16], limits: ImageLimits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """16-bit samples of any shape and byte order by black and white level; by default v / 257, rounded."""
    return np.take(_table(limits.black_level, limits.white_level), samples)


@functools.lru_cache(maxsize=8)
def _table(black: int, white: int) -> NDArray[np.uint8]:
    span = white - black
    above = np.clip(np.arange(MAX_16BIT + 1), black, white) - black
    return ((510 * above + span) // (2 * span)).astype(np.uint8)


def refuse_measurements(encoding: str) -> None:
    """ConversionError, with the remedy, for an encoding of depth or other measurements (32FC1, 16UC1)."""
    if encoding in LAYOUTS or not _MEASUREMENT.fullmatch(encoding):
        return
    hint = ', or to mono16 where 16-bit values are brightness, as of a thermal camera'
    raise ConversionError(
        f'image encoding {encoding!r} holds depth or other measurements, not a picture: subscribe to the '
        f'colour image of the camera, or set its driver to a colour encoding'
        f'{hint if encoding == "16UC1" else ""}'
    )


def _layout_of(encoding: str) -> Layout:
    if encoding in LAYOUTS:
        return LAYOUTS[encoding]
    refuse_measurements(encoding)
    name = encoding[:_MAX_NAME]
    near = difflib.get_close_matches(name.lower(), ENCODINGS, n=1)
    hint = f'did the publisher mean {near[0]}? Known are' if near else 'set the camera driver to one of'
    raise ConversionError(f'image encoding {name!r} is not supported; {hint} {", ".join(ENCODINGS)}')


def check_num_pixels(height: int, width: int, limits: ImageLimits) -> None:
    """ConversionError for an empty image and one above `max_pixels`."""
    if height < 1 or width < 1:
        raise ConversionError(f'the image is empty ({width}x{height} pixels): check the camera driver')
    if height * width > limits.max_pixels:
        raise ConversionError(
            f'the image claims {width}x{height} pixels, more than max_pixels ({limits.max_pixels}): check '
            'the camera driver, or raise max_pixels'
        )


def _check_size(message: RawImage, layout: Layout, limits: ImageLimits) -> None:
    height, width = message.height, message.width
    check_num_pixels(height, width, limits)
    down, across = layout.block
    if height % down or width % across:
        raise ConversionError(
            f'the image is {width}x{height} pixels, but {message.encoding} has one colour sample for '
            f'{across}x{down} pixels: sides must be multiples; crop the image in the camera driver'
        )
    if message.step < layout.row_bytes(width):
        raise ConversionError(
            f'the image step is {message.step} bytes, but {width} {message.encoding} pixels take '
            f'{layout.row_bytes(width)}: the publisher must set step to the bytes of one row'
        )


def _check_length(message: RawImage, num_bytes: int, planes: Sequence[Plane]) -> None:
    whole = sum(plane.num_bytes for plane in planes)
    least = whole - planes[-1].stride + planes[-1].row_bytes  # without the padding of the last row
    if least <= num_bytes <= whole:
        return
    what = 'truncated' if num_bytes < least else 'too long'
    raise ConversionError(
        f'the image data is {what}: {num_bytes} bytes, but {message.height} rows of {message.encoding} of '
        f'step {message.step} take {whole}; check the publisher of the image'
    )


def _rows(data: NDArray[np.uint8], plane: Plane) -> NDArray[np.uint8]:
    if plane.stride == plane.row_bytes:
        return data[: plane.num_bytes].reshape(plane.num_rows, plane.row_bytes)
    shape, strides = (plane.num_rows, plane.row_bytes), (plane.stride, 1)
    return np.lib.stride_tricks.as_strided(data, shape, strides, writeable=False)


def _byte_order(message: RawImage) -> np.dtype[np.uint16]:
    if message.is_bigendian not in (0, 1):
        raise ConversionError(
            f'is_bigendian is {message.is_bigendian} in an image of {message.encoding}: the publisher must '
            'set it to 0 or 1'
        )
    return np.dtype('>u2' if message.is_bigendian else '<u2')
