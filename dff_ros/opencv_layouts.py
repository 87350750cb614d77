# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Raw images to RGB by OpenCV, where it is there: the bits of `image_layouts` in a tenth of the time."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dff_ros.compressed import require_opencv
from dff_ros.errors import BackendUnavailableError

_CHANNELS = {
    **dict.fromkeys(('bgr8', 'bgr16', '8UC3'), 'COLOR_BGR2RGB'),
    **dict.fromkeys(('rgba8', 'rgba16'), 'COLOR_RGBA2RGB'),
    **dict.fromkeys(('bgra8', 'bgra16', '8UC4'), 'COLOR_BGRA2RGB'),
    **dict.fromkeys(('mono8', 'mono16', '8UC1'), 'COLOR_GRAY2RGB'),
    **dict.fromkeys(('uyvy', 'yuv422'), 'COLOR_YUV2RGB_UYVY'),
    **dict.fromkeys(('yuyv', 'yuv422_yuy2'), 'COLOR_YUV2RGB_YUYV'),
}
_TWO_PLANES = {'nv12': 'COLOR_YUV2RGB_NV12', 'nv21': 'COLOR_YUV2RGB_NV21'}
_SAMPLES = {'BGR': 3, 'RGBA': 4, 'BGRA': 4, 'GRAY': 1, 'YUV': 2}
"""Of a pixel, by the first word of a code."""


def convert(encoding: str, planes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """RGB (H, W, 3) of the 8-bit samples (rows, samples of a row) of each plane; None of an encoding that
    OpenCV would make something else of, and without OpenCV.
    """
    code = _CHANNELS.get(encoding) or _TWO_PLANES.get(encoding)
    cv2 = None if code is None else _opencv()
    if code is None or cv2 is None:
        return None
    image: NDArray[np.uint8]
    if encoding in _TWO_PLANES:
        image = cv2.cvtColorTwoPlane(planes[0], _pixels(planes[1], 2), getattr(cv2, code))
    else:
        samples = _SAMPLES[code.removeprefix('COLOR_').split('2')[0]]
        image = cv2.cvtColor(_pixels(planes[0], samples), getattr(cv2, code))
    return image


def _pixels(plane: NDArray[np.uint8], samples: int) -> NDArray[np.uint8]:
    height, row = plane.shape
    return plane.reshape(height, row // samples, samples)


def _opencv() -> ModuleType | None:
    try:
        return require_opencv()
    except BackendUnavailableError:
        return None
