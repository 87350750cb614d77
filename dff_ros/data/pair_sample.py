# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A current and a key frame, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import mirrored
from dff_ros.data.video_set import Boxes
from dff_ros.errors import DataError

MADE = -1
"""The offset of pairs that are no frames of a video."""


@dataclass(frozen=True, slots=True)
class PairSample:
    """`current_HW3`, `key_HW3`: uint8 RGB. `labels_HW`: those of the current frame, None without.

    `flow_2HW`: float32, exact backward flow (current -> key), x then y, in pixels; `is_visible_HW`: where
    what is seen in the current frame is seen in the key frame too, so that the flow counts. Without exact
    flow both are None. `offset` counts spacings from key to current. `is_inside_HW`: False
    where a crop is padding; None: nowhere. `boxes`: the objects of the current frame, None where nobody
    looked for any; their class ids index `box_classes`, the classes that were looked for.
    """

    name: str
    current_HW3: NDArray[np.uint8]
    key_HW3: NDArray[np.uint8]
    labels_HW: NDArray[np.uint8] | None = None
    flow_2HW: NDArray[np.float32] | None = None
    is_visible_HW: NDArray[np.bool_] | None = None
    offset: int = MADE
    is_inside_HW: NDArray[np.bool_] | None = None
    boxes: Boxes | None = None
    box_classes: tuple[str, ...] = ()

    def exact_flow(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The flow and where it counts; DataError where it is not known."""
        if self.flow_2HW is None or self.is_visible_HW is None:
            raise DataError(f'the flow of {self.name} is not known')
        return self.flow_2HW, self.is_visible_HW

    def still(self) -> PairSample:
        """The same with the current frame as its own key frame."""
        size = self.current_HW3.shape[:2]
        return replace(
            self,
            key_HW3=self.current_HW3,
            flow_2HW=np.zeros((2, *size), np.float32),
            is_visible_HW=np.ones(size, np.bool_),
            offset=0,
        )

    def flipped(self) -> PairSample:
        """Its mirror image, left and right exchanged."""
        flow, labels, is_visible = self.flow_2HW, self.labels_HW, self.is_visible_HW
        is_inside = self.is_inside_HW
        if flow is not None:
            flow = flow[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None]
        return replace(
            self,
            current_HW3=np.ascontiguousarray(self.current_HW3[:, ::-1]),
            key_HW3=np.ascontiguousarray(self.key_HW3[:, ::-1]),
            labels_HW=None if labels is None else np.ascontiguousarray(labels[:, ::-1]),
            flow_2HW=flow,
            is_visible_HW=None if is_visible is None else np.ascontiguousarray(is_visible[:, ::-1]),
            is_inside_HW=None if is_inside is None else np.ascontiguousarray(is_inside[:, ::-1]),
            boxes=None if self.boxes is None else mirrored(self.boxes, self.current_HW3.shape[1]),
        )


class ExactPairs(Protocol):
    """Pairs of one size with exact flow, 0 .. len - 1, which may be read from several threads at once."""

    def __len__(self) -> int:
        """How many pairs there are."""
        ...

    def __getitem__(self, index: int) -> PairSample:
        """One pair."""
        ...
