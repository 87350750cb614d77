# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Batches of pairs as the joint loss takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.backends.dis import DisFlow
from dff_ros.data.classes import IGNORE_ID
from dff_ros.data.video_set import Boxes
from dff_ros.geometry import grid_size
from dff_ros.training.box_targets import Truth
from dff_ros.training.pair_batch import PairBatch

ToDevice = Callable[[NDArray[Any]], Tensor]
HandFlow = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
"""(current, key) images (H, W, 3) -> backward flow (2, h, w) in cells."""


@dataclass(frozen=True)
class Pairs:
    """A batch on the device: first the M pairs that move, then those whose current frame is the key frame.

    `current` (M, H, W, 3) and `key` (B, H, W, 3) uint8; `labels` (B, H, W) uint8; `is_inside` (B, H, W): not
    padding. `labelled`: numbers of the pairs with labels. `exact`: of those that move, the ones of known
    flow; `flow` (E, 2, H, W) in pixels and `is_visible` (E, H, W) are theirs. `hand_flow` (M, 2, h, w) in
    cells, if no net makes the flow. `truths` (B): the objects of the frames that labels are for; None where
    nobody looked for any.
    """

    current: Tensor
    key: Tensor
    labels: Tensor
    is_inside: Tensor
    labelled: list[int]
    exact: list[int]
    flow: Tensor
    is_visible: Tensor
    hand_flow: Tensor | None = None
    truths: tuple[Truth | None, ...] = ()

    @property
    def num_moving(self) -> int:
        """M."""
        return self.current.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.labels.shape[1], self.labels.shape[2]


def parts_of(batch: PairBatch, num_parts: int) -> list[PairBatch]:
    """The batch in so many parts of nearly equal size, or fewer where it has no more pairs."""
    size = len(batch.offsets_B)
    numbers = np.array_split(np.arange(size), min(num_parts, size))
    return [batch.taken(part) for part in numbers]


def to_pairs(
    batch: PairBatch, to_device: ToDevice, hand_flow: HandFlow | None, is_per_frame: bool = False
) -> Pairs:
    """The pairs on the device. `is_per_frame` takes each current frame as its own key frame, as offset 0 is:
    the paper then uses the unwarped feature.
    """
    offsets = 0 * batch.offsets_B if is_per_frame else batch.offsets_B
    order = np.argsort(offsets == 0, kind='stable')
    num_moving = int(np.count_nonzero(offsets))
    moving = order[:num_moving]
    current, labels = batch.current_BHW3[moving], batch.labels_BHW[order]
    key = (batch.current_BHW3 if is_per_frame else batch.key_BHW3)[order]
    exact = [index for index, number in enumerate(moving) if batch.is_visible_BHW[number].any()]
    made = None
    if hand_flow is not None and num_moving:
        made = to_device(np.stack([hand_flow(*pair) for pair in zip(current, key[:num_moving], strict=True)]))
    return Pairs(
        to_device(current),
        to_device(key),
        to_device(labels),
        to_device(batch.is_inside_BHW[order]),
        [index for index, labels_HW in enumerate(labels) if (labels_HW != IGNORE_ID).any()],
        exact,
        to_device(batch.flow_B2HW[moving[exact]]),
        to_device(batch.is_visible_BHW[moving[exact]]),
        made,
        tuple(_truth(batch.boxes_B[number], batch.known_BK[number], to_device) for number in order),
    )


def _truth(boxes: Boxes | None, known_K: NDArray[np.bool_], to_device: ToDevice) -> Truth | None:
    if boxes is None:
        return None
    ignored = boxes.is_ignored_N
    return Truth(
        to_device(boxes.boxes_xyxy[~ignored]),
        to_device(boxes.class_ids_N[~ignored]),
        to_device(boxes.boxes_xyxy[ignored]),
        to_device(known_K),
    )


def hand_made_flow(name: str, stride: int) -> HandFlow | None:
    """What makes the flow of that flow source; None if it is a net."""
    if name == 'dis':
        dis = DisFlow(stride, torch.get_num_threads())

        def flow(current: NDArray[np.uint8], key: NDArray[np.uint8]) -> NDArray[np.float32]:
            size = current.shape[0], current.shape[1]
            return dis.flow(dis.prepare(current, size), dis.prepare(key, size), size)

        return flow
    if name == 'zero':
        return lambda current, key: np.zeros((2, *grid_size(current.shape[:2], stride)), np.float32)
    return None
