# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""sensor_msgs/Image as it came off the wire: the fields are read, the pixels stay where they are.

A message class of rclpy copies the pixels twice. Needs Python alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from dff_ros.errors import ConversionError

_ORDERS = {b'\x00\x00': '>', b'\x00\x01': '<', b'\x00\x06': '>', b'\x00\x07': '<'}
"""Byte orders of plain CDR, versions 1 and 2, by the first bytes of a message. The fields of an image are
aligned alike in both.
"""

_HEAD = 4
"""Bytes before the fields, from whose end they are aligned."""


@dataclass(slots=True)
class ImageFields:
    """An image that refers to the bytes of its message. `header` is the reader's to fill in: a
    std_msgs/Header made of `stamp` (seconds, nanoseconds) and `frame_id`.
    """

    stamp: tuple[int, int]
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview
    header: Any = None


class UnreadableImage:
    """In place of an image whose bytes are not one: raises `error` where it is looked at."""

    def __init__(self, header: Any, error: ConversionError) -> None:
        self.header = header
        self._error = error

    @property
    def encoding(self) -> str:
        """Raises the error."""
        raise self._error


def is_plain_cdr(message: bytes) -> bool:
    """Whether `read_image` knows how the message is encoded."""
    return message[:2] in _ORDERS


def read_image(message: bytes) -> ImageFields:
    """The fields of a serialized sensor_msgs/Image; ConversionError where the bytes are not one."""
    reader = _Reader(message)
    stamp = reader.numbers('iI')
    frame_id = reader.text()
    height, width = reader.numbers('II')
    encoding = reader.text()
    (is_bigendian,) = reader.numbers('B')
    step, num_bytes = reader.numbers('II')
    return ImageFields(
        stamp=(stamp[0], stamp[1]),
        frame_id=frame_id,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=step,
        data=reader.bytes(num_bytes),
    )


class _Reader:
    """Reads a message field by field; ConversionError at its end."""

    def __init__(self, message: bytes) -> None:
        if not is_plain_cdr(message):
            raise ConversionError(f'the image message begins with {message[:4]!r}, which is no plain CDR')
        self._order = _ORDERS[message[:2]]
        self._message = memoryview(message)
        self._at = _HEAD

    def numbers(self, kinds: str) -> tuple[int, ...]:
        """Numbers of the kinds of `struct`, all of one size, aligned to it."""
        size = struct.calcsize(f'={kinds[0]}')
        self._at += -(self._at - _HEAD) % size
        at = self._at
        self._advance(size * len(kinds))
        return struct.unpack_from(self._order + kinds, self._message, at)

    def text(self) -> str:
        """A string; its last byte, a zero, is left out."""
        (num_bytes,) = self.numbers('I')
        return str(self.bytes(num_bytes)[:-1], 'utf-8', 'replace')

    def bytes(self, number: int) -> memoryview:
        """So many bytes, where they are."""
        at = self._at
        self._advance(number)
        return self._message[at : self._at]

    def _advance(self, number: int) -> None:
        self._at += number
        if self._at > len(self._message):
            raise ConversionError(
                f'the image message is truncated: it has {len(self._message)} bytes, its fields take '
                f'{self._at} or more; check the publisher of the image'
            )
