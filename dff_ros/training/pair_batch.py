# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A batch of pairs of current and key frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import renamed
from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.video_set import Boxes


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Frames are uint8 RGB; labels, uint8, are 255 where the current frame has none.

    `flow_B2HW` (float32) is backward, in pixels; it counts in `is_visible_BHW`, which is false everywhere for
    a pair whose exact flow is not known. `offsets_B` counts spacings from key to current; it is -1 for made
    pairs. `is_inside_BHW` is false where a crop is padding.

    `boxes_B`: the objects of each current frame, in pixels of the crop; their class ids are those of the
    model's K box classes. `known_BK`: for which of those the frame was searched; where it was not, nothing is
    background. A pair searched for none has no boxes (None).
    """

    current_BHW3: NDArray[np.uint8]
    key_BHW3: NDArray[np.uint8]
    labels_BHW: NDArray[np.uint8]
    offsets_B: NDArray[np.int64]
    flow_B2HW: NDArray[np.float32]
    is_visible_BHW: NDArray[np.bool_]
    is_inside_BHW: NDArray[np.bool_]
    boxes_B: tuple[Boxes | None, ...]
    known_BK: NDArray[np.bool_]

    def taken(self, numbers: NDArray[np.int64]) -> PairBatch:
        """The pairs of those numbers, in that order."""
        arrays = {
            field.name: getattr(self, field.name)[numbers]
            for field in dataclasses.fields(self)
            if field.name != 'boxes_B'
        }
        return PairBatch(**arrays, boxes_B=tuple(self.boxes_B[number] for number in numbers))


def stack_pairs(samples: Sequence[PairSample], box_class_names: Sequence[str] = ()) -> PairBatch:
    """Samples of one size as a batch for a model with these classes of boxes."""
    size = samples[0].current_HW3.shape[:2]
    no_labels = np.full(size, IGNORE_ID, np.uint8)
    known = np.array(
        [
            [sample.boxes is not None and name in sample.box_classes for name in box_class_names]
            for sample in samples
        ],
        np.bool_,
    ).reshape(len(samples), len(box_class_names))
    no_flow, nowhere = np.zeros((2, *size), np.float32), np.zeros(size, np.bool_)
    return PairBatch(
        current_BHW3=np.stack([sample.current_HW3 for sample in samples]),
        key_BHW3=np.stack([sample.key_HW3 for sample in samples]),
        labels_BHW=np.stack([_or(sample.labels_HW, no_labels) for sample in samples]),
        offsets_B=np.array([sample.offset for sample in samples], np.int64),
        flow_B2HW=np.stack([_or(sample.flow_2HW, no_flow) for sample in samples]),
        is_visible_BHW=np.stack([_or(sample.is_visible_HW, nowhere) for sample in samples]),
        is_inside_BHW=np.stack([_or(sample.is_inside_HW, ~nowhere) for sample in samples]),
        boxes_B=tuple(
            renamed(sample.boxes, sample.box_classes, box_class_names)
            if sample.boxes is not None and is_known.any()
            else None
            for sample, is_known in zip(samples, known, strict=True)
        ),
        known_BK=known,
    )


def _or(array: NDArray[np.generic] | None, instead: NDArray[np.generic]) -> NDArray[np.generic]:
    return instead if array is None else array
