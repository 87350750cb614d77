# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Cityscapes with its video: the 30 frames around each finely labelled one.

Frames are `leftImg8bit_sequence/SPLIT/CITY/CITY_SEQ_FRAME_leftImg8bit.png`, labels
`gtFine/SPLIT/CITY/CITY_SEQ_FRAME_gtFine_labelTrainIds.png` or, where those were not made, `..._labelIds.png`;
boxes are made of `..._instanceIds.png`.
Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from dff_ros.data.file_videos import FrameFile, LabelFile, Scan, cut
from dff_ros.data.instance_file import CLASSES as BOX_CLASSES
from dff_ros.data.instance_file import InstanceFile
from dff_ros.data.label_files import coding
from dff_ros.data.numbering import runs

CLASSES = (
    'road',
    'sidewalk',
    'building',
    'wall',
    'fence',
    'pole',
    'traffic light',
    'traffic sign',
    'vegetation',
    'terrain',
    'sky',
    'person',
    'rider',
    'car',
    'truck',
    'bus',
    'train',
    'motorcycle',
    'bicycle',
)

FRAMES_BEFORE = 19
"""Each labelled frame is the 20th of its 30."""

_FRAMES, _LABELS = 'leftImg8bit_sequence', 'gtFine'
_INSTANCES = 'instanceIds'
_UNTOLD = 'test'
"""The split whose label files are there, but tell nothing."""
_RATE_HZ = 17
_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each class in turn; all others are not evaluated."""
_NAME = re.compile(
    r'(?P<clip>.+_\d+)_(?P<number>\d+)_(?:leftImg8bit|gtFine_(?:label(?:TrainI|I)|instanceI)ds)$'
)
_CODINGS = {  # the first that a frame has is used
    'labelTrainIds': coding(CLASSES),
    'labelIds': coding(
        CLASSES,
        {label_id: class_id for class_id, label_id in enumerate(_IDS)},
        (*(number for number in range(34) if number not in _IDS), 255),
    ),
}

Key = tuple[str, int]
"""Which clip (city and recording) and which frame."""


def matches(root: Path) -> bool:
    """Whether the folder has the video of Cityscapes, or its labels."""
    return (root / _FRAMES).is_dir() or (root / _LABELS).is_dir()


def splits(root: Path) -> tuple[str, ...]:
    """Those that have frames or labels."""
    found = {
        path.name for folder in (_FRAMES, _LABELS) for path in (root / folder).glob('*') if path.is_dir()
    }
    return tuple(sorted(found))


def scan(root: Path, split: str) -> Scan:
    """The recordings of a split, cut where their numbers have holes."""
    found = Scan(CLASSES, BOX_CLASSES)
    frames = _files(found, root, root / _FRAMES / split, '*_leftImg8bit.png')
    labels: dict[Key, LabelFile] = {}
    for name, label_coding in reversed(_CODINGS.items()):
        paths = _files(found, root, root / _LABELS / split, f'*_{name}.png')
        labels |= {key: LabelFile(path, label_coding) for key, path in paths.items()}
    boxes = {} if split == _UNTOLD else _boxes(found, root, split)
    if not frames:
        found.report('empty_split', f'{_FRAMES}/{split}')
    if frames and not labels:
        found.report('no_labels', f'{_LABELS}/{split}')
    for key in sorted(labels.keys() - frames.keys()):
        found.report('label_without_frame', labels[key].path.relative_to(root))
    for key in sorted(boxes.keys() - frames.keys()):
        found.report('label_without_frame', boxes[key].path.relative_to(root))
    if boxes:
        for key in sorted(labels.keys() - boxes.keys()):
            found.report('no_boxes', labels[key].path.relative_to(root), f'no ..._{_INSTANCES}.png beside it')
    numbers_of: dict[str, list[int]] = defaultdict(list)
    for clip, number in sorted(frames):
        numbers_of[clip].append(number)
    for clip, numbers in numbers_of.items():
        files = [
            FrameFile(frames[clip, n], n * 10**9 // _RATE_HZ, labels.get((clip, n)), boxes.get((clip, n)))
            for n in numbers
        ]
        _add_clip(found, clip, numbers, files)
    return found


def _boxes(found: Scan, root: Path, split: str) -> dict[Key, InstanceFile]:
    paths = _files(found, root, root / _LABELS / split, f'*_{_INSTANCES}.png')
    return {key: InstanceFile(path) for key, path in paths.items()}


def _add_clip(found: Scan, clip: str, numbers: list[int], files: list[FrameFile]) -> None:
    parts = runs(numbers, 1)
    for part in parts:
        for before, file in enumerate(files[part.start : part.stop]):
            if file.label is not None and before < FRAMES_BEFORE:
                found.report(
                    'missing_frames_before', file.path.name, f'{before} of {FRAMES_BEFORE} are there'
                )
    found.clips += cut(clip, files, parts)


def _files(found: Scan, root: Path, folder: Path, pattern: str) -> dict[Key, Path]:
    files: dict[Key, Path] = {}
    for path in sorted(folder.glob(f'*/{pattern}')):
        match = _NAME.match(path.stem)
        if match is None:
            found.report('stray_file', path.relative_to(root), 'not of the form CITY_SEQ_FRAME_...')
        else:
            files[match['clip'], int(match['number'])] = path
    return files
