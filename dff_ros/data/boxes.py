# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes of a frame: made, chosen from, and moved as the frame is.

Edges are in pixels, x to the right and y down; pixel i spans i to i + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dff_ros.data.box_config import BoxConfig
from dff_ros.data.transforms import Placement
from dff_ros.data.video_set import Boxes

NO_TRACK = -1
"""The track of a box whose data set follows nothing."""


def boxes_of(
    boxes_xyxy: ArrayLike,
    class_ids_N: ArrayLike,
    is_ignored_N: ArrayLike | None = None,
    track_ids_N: ArrayLike | None = None,
    visibility_N: ArrayLike | None = None,
) -> Boxes:
    """Boxes of plain lists; by default they count, are of no track and wholly visible."""
    edges = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    num = len(edges)
    return Boxes(
        boxes_xyxy=edges,
        class_ids_N=np.asarray(class_ids_N, np.int64).reshape(num),
        track_ids_N=_or(track_ids_N, np.full(num, NO_TRACK, np.int64)),
        visibility_N=_or(visibility_N, np.ones(num, np.float32)),
        is_ignored_N=_or(is_ignored_N, np.zeros(num, np.bool_)),
    )


def _or(given: ArrayLike | None, instead: NDArray) -> NDArray:
    return instead if given is None else np.asarray(given, instead.dtype).reshape(len(instead))


def changed(
    boxes: Boxes,
    which: NDArray | slice = slice(None),
    boxes_xyxy: NDArray[np.float32] | None = None,
    class_ids_N: NDArray[np.int64] | None = None,
    is_ignored_N: NDArray[np.bool_] | None = None,
) -> Boxes:
    """Those of the boxes that `which` chooses, after replacing what is given of all."""
    return Boxes(
        boxes_xyxy=(boxes.boxes_xyxy if boxes_xyxy is None else boxes_xyxy)[which],
        class_ids_N=(boxes.class_ids_N if class_ids_N is None else class_ids_N)[which],
        track_ids_N=boxes.track_ids_N[which],
        visibility_N=boxes.visibility_N[which],
        is_ignored_N=(boxes.is_ignored_N if is_ignored_N is None else is_ignored_N)[which],
    )


def renamed(boxes: Boxes, names: Sequence[str], new_names: Sequence[str]) -> Boxes:
    """Boxes whose class ids index `names`, with ids that index `new_names`; of other classes none is left."""
    number = {name: index for index, name in enumerate(new_names)}
    table = np.array([number.get(name, -1) for name in names], np.int64)
    ids = table[boxes.class_ids_N] if len(boxes.class_ids_N) else boxes.class_ids_N
    return changed(boxes, ids >= 0, class_ids_N=ids)


def scaled(boxes: Boxes, factor_x: float, factor_y: float) -> Boxes:
    """The boxes of a frame that was resized by these factors."""
    factors = np.array([factor_x, factor_y, factor_x, factor_y], np.float32)
    return changed(boxes, boxes_xyxy=boxes.boxes_xyxy * factors)


def mirrored(boxes: Boxes, width: float) -> Boxes:
    """The boxes of the mirror image, left and right exchanged, of a frame of that width."""
    x1, y1, x2, y2 = boxes.boxes_xyxy.T
    return changed(boxes, boxes_xyxy=np.stack([width - x2, y1, width - x1, y2], axis=1).astype(np.float32))


def place_boxes(
    boxes: Boxes, placement: Placement, source: tuple[int, int], crop: tuple[int, int], config: BoxConfig
) -> Boxes:
    """What of the boxes of a frame lies in its crop, in pixels of the crop; sizes are (height, width).

    A box of which little is left, as `config` says, is ignored; one of which nothing is left drops out. What
    lies outside the frame itself is cut off before, and counts as if it had never been.
    """
    whole = _clipped(boxes.boxes_xyxy, source) * np.float32(placement.scale)
    whole = whole - np.array([*placement.offset_xy, *placement.offset_xy], np.float32)
    if placement.is_flipped:
        whole = mirrored(changed(boxes, boxes_xyxy=whole), crop[1]).boxes_xyxy
    left = _clipped(whole, crop)
    (whole_w, whole_h), (left_w, left_h) = ((edges[:, 2:] - edges[:, :2]).T for edges in (whole, left))
    is_hard = (
        (left_w * left_h < config.min_share * whole_w * whole_h)
        | (np.minimum(left_w, left_h) < config.min_side)
        | (boxes.visibility_N < config.min_visibility)
    )
    is_left = (left_w > 0) & (left_h > 0)
    return changed(boxes, is_left, boxes_xyxy=left, is_ignored_N=boxes.is_ignored_N | is_hard)


def _clipped(boxes_xyxy: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size
    return np.clip(boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
