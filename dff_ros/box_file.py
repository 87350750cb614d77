# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Detections written to a file, frame by frame: JSON lines, or the result JSON of COCO's tools."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TextIO

from dff_ros.closing import Closing
from dff_ros.errors import DffError
from dff_ros.output_files import PART
from dff_ros.types import Detections, StepResult

LINES, COCO = '.jsonl', '.json'
SUFFIXES = (LINES, COCO)
"""Endings of the files that can be written."""


class BoxWriter(Closing):
    """Writes the boxes of each frame on which detection ran; a context manager.

    `NAME.jsonl` has a line for each of these frames, also where it has no objects: {"frame", "sequence",
    "stamp_ns", "size", "is_key", "age_frames", "boxes"}, `size` as [height, width], `boxes` best first as
    {"class", "class_id", "score", "box_xyxy"}. `NAME.json` is COCO's list of results: {"image_id",
    "category_id", "bbox", "score"}, `image_id` the number of the frame in its source, `category_id` 1 + class
    id, `bbox` [x, y, width, height]. Edges are in pixels of the source image; pixel i spans [i, i + 1].

    The file appears under its name when it is closed, also on Ctrl-C; until then it is `NAME.part`.
    `is_written` says whether it is there. Raises DffError, naming the file, where it cannot be written.
    """

    def __init__(self, path: Path, class_names: tuple[str, ...]) -> None:
        self.path = path
        self.is_written = False
        if path.suffix.lower() not in SUFFIXES:
            raise DffError(f'cannot write {path}: the file name must end in one of {", ".join(SUFFIXES)}')
        self._is_coco = path.suffix.lower() == COCO
        self._class_names = class_names
        self._part = path.with_name(path.name + PART)
        self._file: TextIO | None = None
        self._num_entries = 0

    def write(self, number: int, size: tuple[int, int], result: StepResult) -> None:
        """Add a frame by its number in the source; nothing where detection did not run on it."""
        if result.detections is None:
            return
        entries = (
            _coco_entries(number, result.detections)
            if self._is_coco
            else [_line(number, size, result, result.detections, self._class_names)]
        )
        try:
            file = self._open()
            for entry in entries:
                file.write(self._before_entry() + json.dumps(entry, allow_nan=False))
                self._num_entries += 1
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Finish the file; calling it twice is harmless. Without a frame no file is written."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with file:
                file.write(self._after_entries())
            os.replace(self._part, self.path)
            self.is_written = True
        except OSError as error:
            raise self._failed(error) from error

    def _open(self) -> TextIO:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open('w', encoding='utf-8')
        return self._file

    def _before_entry(self) -> str:
        if self._is_coco:
            return ',\n' if self._num_entries else '[\n'
        return '\n' if self._num_entries else ''

    def _after_entries(self) -> str:
        if self._is_coco:
            return '\n]\n' if self._num_entries else '[]\n'
        return '\n'

    def _failed(self, error: OSError) -> DffError:
        file, self._file = self._file, None
        # The error that led here is the one to report.
        with contextlib.suppress(OSError):
            if file is not None:
                file.close()
        with contextlib.suppress(OSError):
            self._part.unlink()
        return DffError(f'cannot write {self.path}: {error.strerror}')


def _line(
    number: int, size: tuple[int, int], result: StepResult, found: Detections, class_names: tuple[str, ...]
) -> dict[str, object]:
    boxes = [
        {'class': class_names[class_id], 'class_id': class_id, 'score': score, 'box_xyxy': box}
        for box, class_id, score in _values(found)
    ]
    return {
        'frame': number,
        'sequence': result.frame_id,
        'stamp_ns': result.stamp_ns,
        'size': list(size),
        'is_key': result.is_key,
        'age_frames': result.age_frames,
        'boxes': boxes,
    }


def _coco_entries(number: int, found: Detections) -> list[dict[str, object]]:
    return [
        {
            'image_id': number,
            'category_id': 1 + class_id,
            'bbox': [left, top, right - left, bottom - top],
            'score': score,
        }
        for (left, top, right, bottom), class_id, score in _values(found)
    ]


def _values(found: Detections) -> list[tuple[list[float], int, float]]:
    """(box, class id, score), with the shortest decimals that give the same float32 back."""
    return [
        ([float(str(edge)) for edge in box], int(class_id), float(str(score)))
        for box, class_id, score in zip(found.boxes_xyxy, found.class_ids_N, found.scores_N, strict=True)
    ]
