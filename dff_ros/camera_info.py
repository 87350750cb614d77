# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The calibration of an image from that of its camera: region of interest, binning and output size taken in.

`CameraInfo` tells of a whole, unbinned image; the image beside it may be a part of it (`roi`), binned, or
both, and a label map may be of another size again. What is told here is of the label map's own pixels, so
that a reader who looks at width, height and K alone (nvblox) is right.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import DffError

NONE, PUBLISHED, UNFIT, UNCALIBRATED = 'none', 'published', 'unfit', 'uncalibrated'
"""What became of the newest calibration: none was received, it was republished, its size is not that of the
image, it holds no focal length.
"""


class CameraInfoError(DffError):
    """A calibration that cannot be republished; `state` is UNFIT or UNCALIBRATED."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state


_NUM_KEPT = 30
"""As many as come while an image waits and is answered."""


class Region(Protocol):
    """The fields of sensor_msgs/RegionOfInterest that are read."""

    x_offset: int
    y_offset: int
    height: int
    width: int


class Info(Protocol):
    """The fields of sensor_msgs/CameraInfo that are read, of rclpy or of rosbags."""

    height: int
    width: int
    k: NDArray[np.float64]
    p: NDArray[np.float64]
    binning_x: int
    binning_y: int

    @property
    def roi(self) -> Region:
        """Zeros: the whole image."""


class Stamped(Protocol):
    """The field of std_msgs/Header by which calibration and image are matched."""

    @property
    def stamp(self) -> object:
        """Compared with that of an image."""


class StampedInfo(Info, Protocol):
    """Such a calibration with its header."""

    @property
    def header(self) -> Stamped:
        """That of the image beside it."""


class CameraInfos:
    """The newest calibrations of one camera. Thread-safe."""

    def __init__(self) -> None:
        self._kept: deque[StampedInfo] = deque(maxlen=_NUM_KEPT)
        self._lock = threading.Lock()

    def store(self, message: StampedInfo) -> None:
        """Keep a calibration that was received."""
        with self._lock:
            self._kept.append(message)

    def at(self, stamp: object) -> StampedInfo | None:
        """The one that was stamped like an image, else the newest; None before the first."""
        with self._lock:
            newest_first = list(reversed(self._kept))
        same = (message for message in newest_first if message.header.stamp == stamp)
        return next(same, newest_first[0] if newest_first else None)


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """K (3, 3) and P (3, 4) in pixels of an image of `size`, (height, width)."""

    size: tuple[int, int]
    k_33: NDArray[np.float64]
    p_34: NDArray[np.float64]


def intrinsics_of(info: Info, image_size: tuple[int, int], output_size: tuple[int, int]) -> Intrinsics:
    """Of a label map of `output_size`, made from an image of `image_size` beside which `info` came.

    Pixel x of the whole image is pixel `(x - roi.x_offset) / binning_x` of the image, and that times the
    ratio of the widths one of the label map: focal lengths, principal point and baseline term are multiplied
    alike, as image_proc's ResizeNode and image_geometry's PinholeCameraModel do it. By half-pixel centres, as
    cv2.resize places pixels, cx would be `(cx + 0.5) * s - 0.5`: of a smaller output, less than half a pixel
    away.
    Raises CameraInfoError where there is no focal length, a number is not finite, or the size is not that of
    the image.
    """
    k_33 = np.asarray(info.k, np.float64).reshape(3, 3)
    p_34 = np.asarray(info.p, np.float64).reshape(3, 4)
    is_finite = bool(np.isfinite(k_33).all() and np.isfinite(p_34).all())
    if not is_finite or k_33[0, 0] <= 0 or k_33[1, 1] <= 0:
        raise CameraInfoError(
            UNCALIBRATED,
            f'camera_info holds no calibration (fx {k_33[0, 0]:g}, fy {k_33[1, 1]:g}): calibrate the camera, '
            'or give its driver the calibration file (camera_info_url)',
        )
    step_x, step_y = max(info.binning_x, 1), max(info.binning_y, 1)
    region = info.roi if info.roi.width and info.roi.height else None
    width, height = (region.width, region.height) if region else (info.width, info.height)
    if (height // step_y, width // step_x) != image_size:
        raise CameraInfoError(
            UNFIT,
            f'camera_info tells of {width}x{height} pixels with binning {step_x}x{step_y}, but the image has '
            f'{image_size[1]}x{image_size[0]}: remap camera_info to the topic of the camera that takes the '
            'image, or calibrate at its size',
        )
    scale_x = output_size[1] / (image_size[1] * step_x)
    scale_y = output_size[0] / (image_size[0] * step_y)
    left, top = (region.x_offset, region.y_offset) if region else (0, 0)
    to_output = np.array([[scale_x, 0, -left * scale_x], [0, scale_y, -top * scale_y], [0, 0, 1.0]])
    return Intrinsics(output_size, to_output @ k_33, to_output @ p_34)
