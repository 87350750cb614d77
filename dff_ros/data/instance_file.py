# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The boxes of a frame of Cityscapes in its map of instances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import boxes_of
from dff_ros.data.video_set import Boxes
from dff_ros.errors import DataError

_NAME_OF = {
    24: 'person',
    25: 'rider',
    26: 'car',
    27: 'truck',
    28: 'bus',
    31: 'train',
    32: 'motorcycle',
    33: 'bicycle',
}
CLASSES = tuple(_NAME_OF.values())

_NUMBER_OF = {label_id: number for number, label_id in enumerate(_NAME_OF)}
_NOT_EVALUATED = (29, 30)
"""Caravan and trailer: they have instances, but are no classes."""
_LAST_ID = 33
_PER_CLASS = 1000
"""Instance i of label id c has the value 1000 c + i; several that nobody told apart have c."""


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """A `..._instanceIds.png`."""

    path: Path

    def read(self) -> Boxes:
        """The visible extent of each instance, with class ids of CLASSES, and of each connected part of a
        group, which is ignored. DataError where the file is damaged or has other values.
        """
        values = cv2.imread(str(self.path), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise DataError(f'{self.path} cannot be decoded: it is missing or damaged')
        if values.ndim != 2 or values.dtype not in (np.uint16, np.uint8):
            raise DataError(
                f'{self.path} must have one channel of 16 bits, it is {values.dtype} {values.shape}'
            )
        edges, ids, tracks, is_ignored = [], [], [], []
        for value in np.unique(values).tolist():
            label_id, is_group = (value, True) if value < _PER_CLASS else (value // _PER_CLASS, False)
            if label_id > _LAST_ID or not (is_group or label_id in (*_NAME_OF, *_NOT_EVALUATED)):
                raise DataError(f'{self.path} has instance id {value}, which Cityscapes does not know')
            if label_id not in _NUMBER_OF:
                continue
            for box in _parts(values == value) if is_group else [_extent(values == value)]:
                edges.append(box)
                ids.append(_NUMBER_OF[label_id])
                tracks.append(-1 if is_group else value)
                is_ignored.append(is_group)
        return boxes_of(edges, ids, is_ignored, tracks)


def _extent(mask_HW: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _parts(mask_HW: NDArray[np.bool_]) -> list[tuple[int, int, int, int]]:
    """The extent of each connected part."""
    count, _, facts, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8), connectivity=8)
    found = []
    for part in range(1, count):
        x, y, width, height = (int(value) for value in facts[part][:4])
        found.append((x, y, x + width, y + height))
    return found
