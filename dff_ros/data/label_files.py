# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Reading label maps from files; what their values mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import IGNORE_ID
from dff_ros.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelCoding:
    """How files write classes: value v means class `ids[v]` (255: none), if `is_allowed[v]`."""

    class_names: tuple[str, ...]
    ids: NDArray[np.uint8]
    is_allowed: NDArray[np.bool_]
    allowed: str

    def unknown(self, values_HW: NDArray[np.uint8]) -> list[int]:
        """The values in a file that mean nothing, ascending."""
        present = np.flatnonzero(np.bincount(values_HW.ravel(), minlength=256))
        return [int(value) for value in present if not self.is_allowed[value]]

    def decode(self, values_HW: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
        """Class ids of a file's values; DataError names the file and a value that is not allowed."""
        if unknown := self.unknown(values_HW):
            raise DataError(f'{path} has class id {unknown[0]}; allowed are {self.allowed}')
        return self.ids[values_HW]


def coding(
    class_names: tuple[str, ...],
    values: Mapping[int, int] | None = None,
    void: tuple[int, ...] = (IGNORE_ID,),
) -> LabelCoding:
    """{value: class id}, or by default each class id as itself; the values `void` are unlabelled."""
    used = {class_id: class_id for class_id in range(len(class_names))} if values is None else dict(values)
    used |= dict.fromkeys(void, IGNORE_ID)
    ids, is_allowed = np.full(256, IGNORE_ID, np.uint8), np.zeros(256, np.bool_)
    for value, class_id in used.items():
        ids[value], is_allowed[value] = class_id, True
    classes = f'0 to {len(class_names) - 1}' if values is None else f'{min(used)} to {max(values)}'
    return LabelCoding(class_names, ids, is_allowed, f'{classes}, and {" or ".join(map(str, void))} for void')


def read_values(path: Path) -> NDArray[np.uint8]:
    """The values (H, W) of a label map: grey levels, or the indices of a palette image."""
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise DataError(f'{path} cannot be decoded: it is missing or damaged')
    if values.ndim == 3 and values.dtype == np.uint8:
        values = _palette_indices(path, values)
    if values.ndim != 2 or values.dtype != np.uint8:
        raise DataError(f'{path} must have one channel of 8 bits, it is {values.dtype} {values.shape}')
    return values


def _palette_indices(path: Path, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OpenCV looks the colours up, but the indices are the classes."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image, np.uint8) if image.mode == 'P' else colours
