# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Small data sets in the true layouts, for tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = (24, 32)


def write_frame(path: Path, value: int, size: tuple[int, int] = SIZE) -> None:
    """A frame of one grey; lossless if it is a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))


def write_label(path: Path, *values: int, size: tuple[int, int] = SIZE) -> None:
    """A label map whose columns are divided evenly among the values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.array(values, np.uint8)[np.arange(size[1]) * len(values) // size[1]]
    assert cv2.imwrite(str(path), np.tile(columns, (size[0], 1)))


CLASSES_YAML = 'classes: [road, {name: car}, sky]\nvoid: [255, 7]\nfps: 10\n'


def write_folder(root: Path) -> None:
    """train: `drive` of frames 1..12 (2, 10 labelled) and `walk` of 0..4 (4 labelled); val: one of each."""
    root.mkdir(parents=True, exist_ok=True)
    (root / 'classes.yaml').write_text(CLASSES_YAML)
    for number in range(1, 13):
        write_frame(root / f'train/drive/frames/img_{number}.png', 10 + number)
    write_label(root / 'train/drive/labels/img_2.png', 0, 1)
    write_label(root / 'train/drive/labels/img_10.png', 2, 255)
    for number in range(5):
        write_frame(root / f'train/walk/frames/{number:03d}.png', 50 + number)
    write_label(root / 'train/walk/labels/004.png', 1, 7)
    write_frame(root / 'val/still/frames/0.png', 99)
    write_label(root / 'val/still/labels/0.png', 0)


def write_cityscapes(root: Path, clips: tuple[tuple[str, int], ...] = (('aachen_000003', 0),)) -> None:
    """train: 30 frames for each (city and sequence, first number), the 20th labelled by label ids."""
    for clip, first in clips:
        city = clip.split('_')[0]
        for number in range(first, first + 30):
            name = f'{clip}_{number:06d}_leftImg8bit.png'
            write_frame(root / 'leftImg8bit_sequence/train' / city / name, number % 200)
        name = f'{clip}_{first + 19:06d}_gtFine_labelIds.png'
        write_label(root / 'gtFine/train' / city / name, 7, 26, 4, 33)


def write_mot(root: Path, rows: str, num_frames: int = 4, name: str = 'MOT16-99') -> None:
    """A sequence of MOTChallenge."""
    for number in range(1, num_frames + 1):
        write_frame(root / f'img1/{number:06d}.png', number)
    (root / 'gt').mkdir()
    (root / 'gt/gt.txt').write_text(rows)
    (root / 'seqinfo.ini').write_text(
        f'[Sequence]\nname={name}\nimDir=img1\nframeRate=20\nseqLength={num_frames}\n'
        f'imWidth={SIZE[1]}\nimHeight={SIZE[0]}\nimExt=.png\n'
    )
