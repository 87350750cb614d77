# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Compressed images to RGB: jpeg and png, as image_transport and camera drivers send them. Needs OpenCV.

The structure of the file is read first (`image_files`): what is cut off, too large, or of another kind is
refused before OpenCV sees it, which would return a half grey picture.
"""

from __future__ import annotations

import array
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.encodings import check_num_pixels, decode_raw, refuse_measurements, to_8bit
from dff_ros.errors import BackendUnavailableError, ConversionError
from dff_ros.image_files import FileFacts, read_facts
from dff_ros.image_limits import DEFAULT_LIMITS, ImageLimits

_COLOUR = re.compile(r'(rgb|bgr)a?(8|16)')
_MAX_FORMAT = 60  # of its characters in a message


class CompressedMessage(Protocol):
    """What sensor_msgs/CompressedImage has, whoever made the class."""

    @property
    def format(self) -> str: ...
    @property
    def data(self) -> bytes | bytearray | memoryview | array.array[int] | NDArray[np.uint8]: ...


@dataclass(frozen=True, slots=True)
class _Mosaic:
    """A mosaic that was compressed as if it were grey: a RawImage."""

    encoding: str
    height: int
    width: int
    step: int
    is_bigendian: int
    data: NDArray[np.uint8]


def decode_compressed(
    message: CompressedMessage, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[NDArray[np.uint8], str]:
    """RGB (height, width, 3), uint8, C-contiguous, and what the file is: `jpeg` or `png`.

    The bytes say what the file is; of `format`, only what image_transport writes there counts: a Bayer
    encoding before the `;`, and red and blue exchanged where colours were not compressed as bgr. 16-bit PNGs
    are narrowed as 16-bit raw images are. Alpha is dropped. The orientation in EXIF is ignored, for
    `camera_info` holds for the picture as it was taken. Raises ConversionError on other kinds of files, cut
    ones, an empty image or one above `limits.max_pixels`, CMYK, depth images and what the decoder refuses;
    BackendUnavailableError without OpenCV.
    """
    encoding, compression = _read_format(message.format)
    data = bytes(message.data)
    facts = read_facts(data)
    check_num_pixels(facts.height, facts.width, limits)
    is_mosaic = facts.is_grey and encoding.startswith('bayer_')
    pixels = _decode(data, facts, limits, is_grey=is_mosaic)
    if is_mosaic:
        name = f'{encoding.removesuffix("16").removesuffix("8")}8'
        mosaic = _Mosaic(name, facts.height, facts.width, facts.width, 0, pixels.reshape(-1))
        return decode_raw(mosaic, limits), facts.codec
    if not _is_swapped(encoding, compression):
        cv2 = require_opencv()
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels, facts.codec


def require_opencv(who: str = 'compressed images need') -> ModuleType:
    """OpenCV; BackendUnavailableError says who needs it and what to install where it is missing or does not
    load.
    """
    try:
        import cv2
    except Exception as error:  # built for another NumPy it may raise anything
        raise BackendUnavailableError(
            f'{who} OpenCV ({error}): install python3-opencv, or by pip '
            'opencv-python-headless; OpenCV of a system loads with the NumPy of that system'
        ) from error
    return cv2


def _read_format(text: str) -> tuple[str, str]:
    """What image_transport puts before and after the `;`: the encoding that was compressed, and how."""
    if 'compressedDepth' in text:
        raise ConversionError(
            f'format {text[:_MAX_FORMAT]!r} is a compressed depth image: subscribe to the colour image of '
            'the camera'
        )
    encoding, separator, compression = text.partition(';')
    if not separator:
        return '', ''
    refuse_measurements(encoding)
    return encoding, compression


def _is_swapped(encoding: str, compression: str) -> bool:
    """Whether red and blue are exchanged in the file: what image_transport says of colours not made bgr."""
    is_bgr = 'compressed bgr' in compression or 'compressed' not in compression
    return _COLOUR.fullmatch(encoding) is not None and not is_bgr


def _decode(data: bytes, facts: FileFacts, limits: ImageLimits, *, is_grey: bool) -> NDArray[np.uint8]:
    """(H, W, 3) in the order of OpenCV, or (H, W) if `is_grey`."""
    cv2 = require_opencv()
    kind = cv2.IMREAD_GRAYSCALE if is_grey else cv2.IMREAD_COLOR
    flags = kind | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ConversionError(f'the {facts.codec} image cannot be decoded: {error}') from error
    if pixels is None or pixels.shape[:2] != (facts.height, facts.width):
        raise ConversionError(
            f'the {facts.codec} image of {facts.width}x{facts.height} pixels is damaged: check the publisher '
            'and the network'
        )
    return to_8bit(pixels, limits) if pixels.dtype == np.uint16 else pixels
