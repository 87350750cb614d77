# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The 11 CamVid classes: names in id order and the colours for drawing them; colours for any others. Numpy
only.
"""

import colorsys

import numpy as np

from dff_ros.types import UNLABELED

Colours = tuple[tuple[int, int, int], ...]
"""R, G, B of each class, 0..255."""

IGNORE_ID = UNLABELED
"""Label of pixels without a class; left out of losses and metrics."""

CAMVID_CLASSES: tuple[str, ...] = (
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
)

CAMVID_COLOURS: np.ndarray = np.array(
    [
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ],
    dtype=np.uint8,
)
CAMVID_COLOURS.setflags(write=False)

OBJECT_CLASSES: tuple[str, ...] = ('car', 'pedestrian', 'bicyclist')
"""Those of CamVid's classes whose things can be counted."""

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)


def class_colours(class_names: tuple[str, ...]) -> Colours:
    """CamVid's colours for its classes, evenly spread hues for others."""
    if class_names == CAMVID_CLASSES:
        return tuple((int(r), int(g), int(b)) for r, g, b in CAMVID_COLOURS)
    hues = [
        colorsys.hsv_to_rgb(k / len(class_names), 0.7, 0.6 + 0.4 * (k % 2)) for k in range(len(class_names))
    ]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues)
