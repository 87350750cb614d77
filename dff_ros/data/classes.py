"""The 11 CamVid classes: names in id order and the colours for drawing them. Numpy only."""

import numpy as np

from dff_ros.types import UNLABELED

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

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)
