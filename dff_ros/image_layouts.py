# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How the pixels of each image encoding lie in memory, and what makes RGB of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.demosaic import demosaic
from dff_ros.errors import ConversionError
from dff_ros.yuv import yuv_to_rgb


@dataclass(frozen=True, slots=True)
class Plane:
    """Rows of bytes, `stride` bytes from one to the next."""

    num_rows: int
    row_bytes: int
    stride: int

    @property
    def num_bytes(self) -> int:
        return self.num_rows * self.stride


@dataclass(frozen=True, slots=True)
class Layout(ABC):
    """How the samples of an encoding lie. Sides must be multiples of `block`, and at least it."""

    samples_per_pixel: int = 1
    is_16bit: bool = False
    block: tuple[int, int] = (1, 1)

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of the first plane without padding."""
        return width * self.samples_per_pixel * (2 if self.is_16bit else 1)

    def planes(self, height: int, width: int, step: int) -> tuple[Plane, ...]:
        """Where the bytes are, plane after plane."""
        return (Plane(height, self.row_bytes(width), step),)

    @abstractmethod
    def to_rgb(self, planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """(H, W, 3), C-contiguous, of the 8-bit samples (rows, samples of a row) of each plane."""


@dataclass(frozen=True, slots=True)
class _Channels(Layout):
    """`order`: where red, green and blue lie among the samples of a pixel."""

    order: tuple[int, int, int] = (0, 1, 2)

    def to_rgb(self, planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        height, row = planes[0].shape
        pixels = planes[0].reshape(height, row // self.samples_per_pixel, self.samples_per_pixel)
        if self.samples_per_pixel == 3 and self.order == (0, 1, 2):
            return np.ascontiguousarray(pixels)
        image = np.empty((*pixels.shape[:2], 3), np.uint8)
        for target, source in enumerate(self.order):  # faster than one copy by a reversed axis
            image[..., target] = pixels[..., source]
        return image


@dataclass(frozen=True, slots=True)
class _Mosaic(Layout):
    """`red`: row and column, 0 or 1, of the first red sample."""

    red: tuple[int, int] = (0, 0)

    def to_rgb(self, planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        if min(planes[0].shape) < 2:
            height, width = planes[0].shape
            raise ConversionError(f'the image is {width}x{height} pixels: a Bayer mosaic has 2x2 at least')
        return demosaic(planes[0], self.red)


@dataclass(frozen=True, slots=True)
class _PackedYuv(Layout):
    """Two pixels in four bytes; `luma` and `chroma` are the places of the first Y and of U."""

    luma: int = 0
    chroma: int = 1

    def to_rgb(self, planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        (bytes_HW2,) = planes
        return yuv_to_rgb(
            bytes_HW2[:, self.luma :: 2], bytes_HW2[:, self.chroma :: 4], bytes_HW2[:, self.chroma + 2 :: 4]
        )


@dataclass(frozen=True, slots=True)
class _PlanarYuv(Layout):
    """A plane of Y, then one of U and V in turn, V first where `is_vu`; `step` is that of Y."""

    is_vu: bool = False

    def planes(self, height: int, width: int, step: int) -> tuple[Plane, ...]:
        down, across = self.block
        chroma = Plane(height // down, 2 * width // across, 2 * step // across)
        return (Plane(height, width, step), chroma)

    def to_rgb(self, planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        luma, chroma = planes
        first, second = chroma[:, 0::2], chroma[:, 1::2]
        return yuv_to_rgb(luma, second, first) if self.is_vu else yuv_to_rgb(luma, first, second)


def _layouts() -> dict[str, Layout]:
    bgr, grey = (2, 1, 0), (0, 0, 0)
    found: dict[str, Layout] = {}
    for bits, is_16bit in (('8', False), ('16', True)):
        found[f'rgb{bits}'] = _Channels(3, is_16bit)
        found[f'bgr{bits}'] = _Channels(3, is_16bit, order=bgr)
        found[f'rgba{bits}'] = _Channels(4, is_16bit)
        found[f'bgra{bits}'] = _Channels(4, is_16bit, order=bgr)
        found[f'mono{bits}'] = _Channels(1, is_16bit, order=grey)
    for bits, is_16bit in (('8', False), ('16', True)):
        for name, red in (('rggb', (0, 0)), ('bggr', (1, 1)), ('gbrg', (1, 0)), ('grbg', (0, 1))):
            found[f'bayer_{name}{bits}'] = _Mosaic(1, is_16bit, red=red)
    for name in ('uyvy', 'yuv422'):
        found[name] = _PackedYuv(2, block=(1, 2), luma=1, chroma=0)
    for name in ('yuyv', 'yuv422_yuy2'):
        found[name] = _PackedYuv(2, block=(1, 2), luma=0, chroma=1)
    found['nv12'] = _PlanarYuv(1, block=(2, 2))
    found['nv21'] = _PlanarYuv(1, block=(2, 2), is_vu=True)
    found['nv24'] = _PlanarYuv(1, block=(1, 1))
    # Names without a colour order: that of OpenCV, as RViz and cv_bridge take them.
    found |= {'8UC1': found['mono8'], '8UC3': found['bgr8'], '8UC4': found['bgra8']}
    return found


LAYOUTS = _layouts()
ENCODINGS = tuple(LAYOUTS)
"""The encodings that `decode_raw` takes."""
