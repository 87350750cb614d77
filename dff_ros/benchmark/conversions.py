# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What it takes to make RGB of an image message, by its encoding; one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from dff_ros.encodings import decode_raw
from dff_ros.image_layouts import LAYOUTS
from dff_ros.opencv_layouts import convert

COMMON = ('rgb8', 'bgr8', 'rgba8', 'mono8', 'yuv422_yuy2', 'bayer_rggb8')
"""What colour cameras send most."""


def raw_image(encoding: str, size: tuple[int, int], rng: np.random.Generator) -> SimpleNamespace:
    """The fields of a sensor_msgs/Image of noise, `size` (height, width), rows without padding."""
    height, width = size
    layout = LAYOUTS[encoding]
    step = layout.row_bytes(width)
    num_bytes = sum(plane.num_bytes for plane in layout.planes(height, width, step))
    data = rng.integers(0, 256, num_bytes, np.uint8).tobytes()
    return SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=0, data=data
    )


def times_ms(convert: Callable[[], object], num_runs: int) -> list[float]:
    """Of each of so many runs, after one that does not count."""
    convert()
    found = []
    for _ in range(num_runs):
        start_ns = time.perf_counter_ns()
        convert()
        found.append((time.perf_counter_ns() - start_ns) / 1e6)
    return found


def conversions_ms(size: tuple[int, int], num_runs: int = 15) -> dict[str, float]:
    """Median for each of COMMON, of those that an image of this size can have."""
    rng = np.random.default_rng(0)
    found = {}
    for encoding in COMMON:
        down, across = LAYOUTS[encoding].block
        if size[0] % down or size[1] % across:
            continue
        message = raw_image(encoding, size, rng)
        times = times_ms(lambda message=message: decode_raw(message, convert=convert), num_runs)  # type: ignore[misc]
        found[encoding] = round(statistics.median(times), 3)
    return found
