# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Seeded changes of a pair of frames: one placement for both frames, labels, boxes and flow, then colours."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.augment_config import AugmentConfig, ColourConfig
from dff_ros.data.box_config import BoxConfig
from dff_ros.data.boxes import place_boxes
from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.transforms import (
    Placement,
    change_colours,
    draw_colour_change,
    draw_placement,
    place_image,
    place_labels,
)

_EDGE_PX = 1.0
"""Where neighbouring flows differ by more, they are of different surfaces and must not be mixed."""

_OUTSIDE_PX = 1e6
_BOXES = BoxConfig()


def augment_pair(
    config: AugmentConfig,
    rng: np.random.Generator,
    pair: PairSample,
    crop: tuple[int, int],
    independent_colour: bool = False,
    fit: bool = False,
    cover: bool = False,
    boxes: BoxConfig = _BOXES,
) -> PairSample:
    """A random crop (height, width) of a pair with changed colours; labels are all 255 where there are none.

    `fit` and `cover` are those of `draw_placement`.

    The colours of both frames are changed alike, apart from the grain, or independently.
    """
    height, width = pair.current_HW3.shape[:2]
    placement = draw_placement(config, rng, (height, width), crop, fit, cover)
    placed = place_pair(pair, placement, crop, boxes)
    return colour_pair(config, rng, placed, independent_colour)


def colour_pair(
    config: ColourConfig, rng: np.random.Generator, pair: PairSample, independent: bool
) -> PairSample:
    """The pair with colours of both frames changed alike, apart from the grain, or independently."""
    if independent:
        current, key = (change_colours(config, rng, image) for image in (pair.current_HW3, pair.key_HW3))
    else:
        change = draw_colour_change(config, rng, pair.current_HW3)
        current, key = (change.apply(rng, image) for image in (pair.current_HW3, pair.key_HW3))
    return replace(pair, current_HW3=current, key_HW3=key)


def place_pair(
    pair: PairSample, placement: Placement, crop: tuple[int, int], config: BoxConfig = _BOXES
) -> PairSample:
    """Frames, labels, boxes and flow of a crop (height, width); flow stays backward, in pixels of the crop.

    Boxes are cut, and ignored where too little is left of them, as `place_boxes` tells.
    """
    labels, boxes = pair.labels_HW, pair.boxes
    if boxes is not None:
        size = pair.current_HW3.shape[0], pair.current_HW3.shape[1]
        boxes = place_boxes(boxes, placement, size, crop, config)
    flow, is_visible = pair.flow_2HW, pair.is_visible_HW
    padding = place_labels(np.zeros(pair.current_HW3.shape[:2], np.uint8), placement, crop)
    if flow is not None and is_visible is not None:
        flow, is_visible = place_flow(flow, is_visible, placement, crop)
    return replace(
        pair,
        current_HW3=place_image(pair.current_HW3, placement, crop),
        key_HW3=place_image(pair.key_HW3, placement, crop),
        labels_HW=(
            np.full(crop, IGNORE_ID, np.uint8) if labels is None else place_labels(labels, placement, crop)
        ),
        flow_2HW=flow,
        is_visible_HW=is_visible,
        is_inside_HW=padding == 0,
        boxes=boxes,
    )


def place_flow(
    flow_2HW: NDArray[np.float32],
    is_visible_HW: NDArray[np.bool_],
    placement: Placement,
    crop: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The flow (2, h, w) between the crops of two frames, and where (h, w) it is visible within them.

    Flow is interpolated within a surface and never between surfaces, and changed by the linear part of the
    placement: scaled, and x negated by a flip.
    """
    matrix = placement.matrix(crop[1])
    source = np.ascontiguousarray(flow_2HW.transpose(1, 2, 0))
    nearest, smooth = (
        cv2.warpAffine(source, matrix, crop[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        for flags in (cv2.INTER_NEAREST, cv2.INTER_LINEAR)
    )
    is_far = np.abs(smooth - nearest) > _EDGE_PX
    is_edge = is_far[..., :1] | is_far[..., 1:]  # many times faster than any(axis=2)
    flow = np.where(is_edge, nearest, smooth).transpose(2, 0, 1)
    flow = flow * np.array([matrix[0, 0], matrix[1, 1]], np.float32)[:, None, None]
    flow = np.ascontiguousarray(np.clip(flow, -_OUTSIDE_PX, _OUTSIDE_PX), np.float32)
    return flow, _is_visible(flow, is_visible_HW, matrix)


def _is_visible(
    flow: NDArray[np.float32], is_visible_HW: NDArray[np.bool_], matrix: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Where a pixel of the crop, and the place that its flow leads to, come from inside the source."""
    crop = flow.shape[1], flow.shape[2]
    visible = cv2.warpAffine(
        is_visible_HW.astype(np.uint8),
        matrix,
        crop[::-1],
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0,),
    )
    height, width = is_visible_HW.shape
    corners = matrix @ np.array([[0, width - 1], [0, height - 1], [1, 1]])
    positions = np.indices(crop, np.float32)[::-1]
    is_inside = np.ones(crop, np.bool_)
    for here, there, ends, size in zip(positions, positions + flow, corners, crop[::-1], strict=True):
        # Pixels on the rim of the source, which are partly padding, are outside.
        first, last = max(0, math.ceil(ends.min())), min(size - 1, math.floor(ends.max()))
        is_inside &= (here >= first) & (here <= last) & (there >= first) & (there <= last)
    return visible.astype(np.bool_) & is_inside
