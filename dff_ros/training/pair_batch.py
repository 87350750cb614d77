"""A batch of pairs of current and key frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.pair_sample import PairSample


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Frames are uint8 RGB; labels, uint8, are 255 where the current frame has none.

    `flow_B2HW` (float32) is backward, in pixels; it counts in `is_visible_BHW`, which is false everywhere for
    a pair whose exact flow is not known. `offsets_B` counts spacings from key to current; it is -1 for made
    pairs. `is_inside_BHW` is false where a crop is padding.
    """

    current_BHW3: NDArray[np.uint8]
    key_BHW3: NDArray[np.uint8]
    labels_BHW: NDArray[np.uint8]
    offsets_B: NDArray[np.int64]
    flow_B2HW: NDArray[np.float32]
    is_visible_BHW: NDArray[np.bool_]
    is_inside_BHW: NDArray[np.bool_]


def stack_pairs(samples: Sequence[PairSample]) -> PairBatch:
    """Samples of one size as a batch."""
    size = samples[0].current_HW3.shape[:2]
    no_labels = np.full(size, IGNORE_ID, np.uint8)
    no_flow, nowhere = np.zeros((2, *size), np.float32), np.zeros(size, np.bool_)
    return PairBatch(
        current_BHW3=np.stack([sample.current_HW3 for sample in samples]),
        key_BHW3=np.stack([sample.key_HW3 for sample in samples]),
        labels_BHW=np.stack([_or(sample.labels_HW, no_labels) for sample in samples]),
        offsets_B=np.array([sample.offset for sample in samples], np.int64),
        flow_B2HW=np.stack([_or(sample.flow_2HW, no_flow) for sample in samples]),
        is_visible_BHW=np.stack([_or(sample.is_visible_HW, nowhere) for sample in samples]),
        is_inside_BHW=np.stack([_or(sample.is_inside_HW, ~nowhere) for sample in samples]),
    )


def _or(array: NDArray[np.generic] | None, instead: NDArray[np.generic]) -> NDArray[np.generic]:
    return instead if array is None else array
