# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Image pairs of the simulated street with exact flow and labels, rendered once and mapped from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from dff_ros.data.boxes import boxes_of, renamed
from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.street_set import ShowProgress, StreetSetSpec, render_once
from dff_ros.data.video_set import Boxes
from dff_ros.errors import ConfigError, DataError

IMAGES_FILE = 'pairs.npy'
FLOW_FILE = 'flow.npy'
LABELS_FILE = 'labels.npy'
BOXES_FILE = 'boxes.npy'

_BOXES_FOLDER = 'boxes'
"""In that of the set: boxes are added to a set that was rendered without."""
_MOST_BOXES = 256
_BOX_COLUMNS = 6
"""Edges x1, y1, x2, y2, class id, visibility; all 0 behind the last box."""

_STEPS_PER_PX = 64
"""Flow is kept as whole 1 / this of a pixel: half the room of float32, and images tell no finer."""
_INVALID = np.int16(-32768)
"""Instead of a flow: what the pixel shows is not seen in the key image, or moves by more than 511 px."""
_ANCHOR_S = 3.0
"""Between two current frames: a driver sees another scene by then."""
_SPACING = 7
"""It separates the random stream."""


@dataclass(frozen=True, kw_only=True)
class StreetPairSpec(StreetSetSpec):
    """Pairs whose key frame is 1 .. `max_spacing` frames, at `fps`, before the current one."""

    fps: float
    max_spacing: int

    @property
    def folder_name(self) -> str:
        """Unique name of the set's folder."""
        return f'labelled-pairs-{self.fps:g}hz-{self.max_spacing}-{super().folder_name}'

    def pair(self, street: int, position: int) -> tuple[int, int]:
        """(current, key) frame numbers of a street's pair."""
        spacing = np.random.default_rng((self.seed, _SPACING, street, position)).integers(self.max_spacing)
        current = self.max_spacing + round(position * _ANCHOR_S * self.fps)
        return current, current - 1 - int(spacing)


class StreetPairs:
    """The rendered pairs in a folder; DataError where files are missing, damaged or of another set."""

    def __init__(self, folder: Path, spec: StreetPairSpec, with_boxes: bool = False) -> None:
        try:
            self._images = np.load(folder / IMAGES_FILE, mmap_mode='r')
            self._flow = np.load(folder / FLOW_FILE, mmap_mode='r')
            self._labels = np.load(folder / LABELS_FILE, mmap_mode='r')
            boxes = folder / _BOXES_FOLDER / BOXES_FILE
            self._boxes = np.load(boxes, mmap_mode='r') if with_boxes else None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f'the rendered street in {folder} is unusable: {error}. Delete the folder'
            ) from error
        self._spec = spec
        found = self._images.shape, self._flow.shape, self._labels.shape
        size = spec.size
        expected = tuple((spec.num_frames, *shape) for shape in ((2, *size, 3), (2, *size), size))
        if found != expected:
            raise DataError(f'{folder} has arrays {found}, which are not of this set. Delete the folder')
        if self._boxes is not None and self._boxes.shape != (spec.num_frames, _MOST_BOXES, _BOX_COLUMNS):
            raise DataError(f'{folder} has boxes {self._boxes.shape}, not of this set. Delete the folder')

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> PairSample:
        current, key = np.array(self._images[index])
        labels: NDArray[np.uint8] = np.array(self._labels[index])
        current_number, key_number = self._spec.pair(*self._spec.place(index))
        flow, is_visible = _unpack(self._flow[index])
        offset = current_number - key_number
        boxes = None if self._boxes is None else _unpack_boxes(self._boxes[index])
        return PairSample(
            f'street pair {index}',
            current,
            key,
            labels,
            flow,
            is_visible,
            offset,
            boxes=boxes,
            box_classes=() if boxes is None else OBJECT_CLASSES,
        )


def open_street_pairs(
    cache: Path,
    num_pairs: int,
    seed: int,
    fps: float,
    max_spacing: int,
    show: ShowProgress | None = None,
    size: tuple[int, int] = (360, 480),
    processes: int | None = None,
    with_boxes: bool = False,
) -> StreetPairs:
    """The set in `cache`, rendered now if it is not there; `show(done, total)` is called as pairs are done.

    The pairs depend on the arguments and the renderer only. A set that was rendered without boxes gets them
    when they are first asked for. Raises ConfigError on fewer than 1 pair,
    DataError where the disk refuses.
    """
    if num_pairs < 1:
        raise ConfigError(f'a set of street pairs needs at least 1 pair, got {num_pairs}')
    spec = StreetPairSpec(num_frames=num_pairs, size=size, seed=seed, fps=fps, max_spacing=max_spacing)
    folder = cache / spec.folder_name
    arrays = {
        IMAGES_FILE: ('uint8', (2, *size, 3)),
        FLOW_FILE: ('int16', (2, *size)),
        LABELS_FILE: ('uint8', size),
    }
    render_once(folder, spec, arrays, _render_street, show, processes)
    if with_boxes:
        boxes = {BOXES_FILE: ('float32', (_MOST_BOXES, _BOX_COLUMNS))}
        render_once(folder / _BOXES_FOLDER, spec, boxes, _find_boxes, show, processes)
    return StreetPairs(folder, spec, with_boxes)


def _render_street(folder: Path, spec: StreetPairSpec, street: int) -> int:
    import cv2

    from dff_ros.data.street import Street

    cv2.setNumThreads(1)
    images = open_memmap(folder / IMAGES_FILE, 'r+')
    flows = open_memmap(folder / FLOW_FILE, 'r+')
    labels = open_memmap(folder / LABELS_FILE, 'r+')
    drive = Street(spec.street_seed(street), spec.size, spec.fps)
    samples = spec.frames(street)
    for position, sample in enumerate(samples):
        current, key = spec.pair(street, position)
        frame = drive.frame(current)
        images[sample], labels[sample] = (frame.image_HW3, drive.frame(key).image_HW3), frame.labels_HW
        flows[sample] = _pack(*drive.flow(current, key))
    return len(samples)


def _find_boxes(folder: Path, spec: StreetPairSpec, street: int) -> int:
    import cv2

    from dff_ros.data.street import Street

    cv2.setNumThreads(1)
    found = open_memmap(folder / BOXES_FILE, 'r+')
    drive = Street(spec.street_seed(street), spec.size, spec.fps)
    samples = spec.frames(street)
    for position, sample in enumerate(samples):
        boxes = drive.frame(spec.pair(street, position)[0]).boxes
        nearest = sorted(boxes, key=lambda box: box.xyxy[3] - box.xyxy[1], reverse=True)[:_MOST_BOXES]
        for row, box in enumerate(nearest):
            found[sample, row] = *box.xyxy, box.class_id, box.visibility
    return len(samples)


def _unpack_boxes(rows: NDArray[np.float32]) -> Boxes:
    used = rows[rows[:, 2] > 0]
    boxes = boxes_of(used[:, :4], used[:, 4], visibility_N=used[:, 5])
    return renamed(boxes, CAMVID_CLASSES, OBJECT_CLASSES)


def _pack(flow_2HW: NDArray[np.float32], is_valid_HW: NDArray[np.bool_]) -> NDArray[np.int16]:
    steps = np.rint(flow_2HW * _STEPS_PER_PX)
    is_kept = is_valid_HW & (np.abs(steps).max(axis=0) < -int(_INVALID))
    return np.where(is_kept, steps, _INVALID).astype(np.int16)


def _unpack(packed_2HW: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flow and validity; the flow of invalid pixels is 0."""
    is_valid = packed_2HW[0] != _INVALID
    return np.where(is_valid, packed_2HW / np.float32(_STEPS_PER_PX), np.float32(0)), is_valid
