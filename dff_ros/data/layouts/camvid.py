# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""CamVid as video: its recordings, cut where frames are not evenly spaced.

Boxes of cars, pedestrians and bicyclists are made of its label maps, which tell no instances: `label_boxes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from dff_ros.data.camvid import (
    CODING,
    RATE_HZ,
    SPLITS,
    image_path,
    label_path,
    read_list,
    recording_and_number,
)
from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES, class_colours
from dff_ros.data.file_videos import FrameFile, LabelFile, Scan, cut
from dff_ros.data.label_boxes import label_boxes
from dff_ros.data.label_files import read_values
from dff_ros.data.numbering import median_step, runs
from dff_ros.data.video_set import Boxes
from dff_ros.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelBoxes:
    """The boxes of a label map."""

    path: Path

    def read(self) -> Boxes:
        """The boxes of the OBJECT_CLASSES; DataError as of a label map."""
        labels = CODING.decode(read_values(self.path), self.path)
        return label_boxes(labels, CAMVID_CLASSES, OBJECT_CLASSES)


def matches(root: Path) -> bool:
    """Whether the folder has CamVid's."""
    return (root / 'images').is_dir() and (root / 'splits').is_dir()


def splits(root: Path) -> tuple[str, ...]:
    """Those of train, val and test that have a list."""
    return tuple(split for split in SPLITS if (root / 'splits' / f'{split}.txt').is_file())


def scan(root: Path, split: str) -> Scan:
    """The recordings of a split; a pause in one is a break."""
    found = Scan(CAMVID_CLASSES, OBJECT_CLASSES, class_colours=class_colours(CAMVID_CLASSES))
    try:
        named = [(*recording_and_number(name), name) for name in read_list(root, split)]
    except DataError as error:
        found.report('bad_file', f'splits/{split}.txt', str(error))
        return found
    for recording, group in groupby(named, key=lambda item: item[0]):
        _add_recording(found, root, split, recording, [(number, name) for _, number, name in group])
    _report_unused(found, root, split, {name for _, _, name in named})
    return found


def _add_recording(found: Scan, root: Path, split: str, recording: str, named: list[tuple[int, str]]) -> None:
    numbers = [number for number, _ in named]
    if sorted(set(numbers)) != numbers:
        found.report('numbering', f'splits/{split}.txt', f'the frames of {recording} do not ascend')
        return
    frames = []
    for number, name in named:
        image, label = image_path(root, split, name), label_path(root, split, name)
        for path in (image, label):
            if not path.is_file():
                found.report('missing_file', path.relative_to(root))
        stamp_ns = (number - numbers[0]) * 10**9 // RATE_HZ
        frames.append(FrameFile(image, stamp_ns, LabelFile(label, CODING), LabelBoxes(label)))
    parts = runs(numbers, median_step(numbers))
    for part in parts[1:]:
        before, after = numbers[part.start - 1], numbers[part.start]
        found.report('recording_pause', f'splits/{split}.txt', f'{recording}: {before} to {after}')
    found.clips += cut(recording, frames, parts)


def _report_unused(found: Scan, root: Path, split: str, names: set[str]) -> None:
    for folder in ('images', 'labels'):
        for path in sorted((root / folder / split).glob('*')):
            if path.stem not in names:
                found.report('stray_file', path.relative_to(root), f'not in splits/{split}.txt')
