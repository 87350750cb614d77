# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The layout of MOTChallenge: `img1/000001.jpg` ..., `gt/gt.txt` and `seqinfo.ini` for each sequence.

The root is a sequence, or holds sequences (both are the split `all`), or holds splits of sequences.
A row of gt.txt is frame, id, left, top, width, height, flag, class, visibility, counted from 1; MOT15 has
world coordinates after the flag instead. Flag 1 and class 1 (MOT15: any) are pedestrians; all other boxes are
ignored. Box edges are taken as they are written.
"""

from __future__ import annotations

import configparser
import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dff_ros.data.file_videos import FrameFile, Scan, cut
from dff_ros.data.numbering import runs
from dff_ros.data.video_set import Boxes
from dff_ros.errors import DataError

CLASSES = ('pedestrian',)

_ALL = 'all'
_INFO, _GT = 'seqinfo.ini', 'gt/gt.txt'
_NUM_COLUMNS_15 = 10

Row = list[float]


@dataclass(frozen=True, slots=True)
class _Info:
    """seqinfo.ini."""

    name: str
    folder: str
    suffix: str
    rate_hz: float
    num_frames: int
    size: tuple[int, int]


def matches(root: Path) -> bool:
    """Whether the folder is a sequence or has any one or two levels down."""
    return any(next(root.glob(f'{levels}img1'), None) is not None for levels in ('', '*/', '*/*/'))


def splits(root: Path) -> tuple[str, ...]:
    """`all`, or the folders of sequences."""
    if _is_sequence(root) or any(_is_sequence(path) for path in root.glob('*')):
        return (_ALL,)
    return tuple(sorted(path.name for path in root.glob('*') if any(map(_is_sequence, path.glob('*')))))


def scan(root: Path, split: str) -> Scan:
    """The sequences of a split, cut where frames are missing."""
    found = Scan(box_class_names=CLASSES)
    if _is_sequence(root):
        folders = [root]
    else:
        folders = sorted(filter(_is_sequence, (root if split == _ALL else root / split).glob('*')))
    for folder in folders:
        try:
            _add_sequence(found, root, folder)
        except DataError as error:
            found.report('bad_file', folder.relative_to(root) / _INFO, str(error))
    if not any(frame.boxes is not None for clip in found.clips for frame in clip.frames):
        found.report('no_labels', split, f'no {_GT}')
    return found


def _is_sequence(folder: Path) -> bool:
    return (folder / 'img1').is_dir() or (folder / _INFO).is_file()


def _add_sequence(found: Scan, root: Path, folder: Path) -> None:
    info = _read_info(folder / _INFO)
    boxes = _read_boxes(found, root, folder, info.num_frames)
    paths = {
        number: folder / info.folder / f'{number:06d}{info.suffix}'
        for number in range(1, info.num_frames + 1)
    }
    present = [number for number, path in paths.items() if path.is_file()]
    for number in sorted(paths.keys() - set(present)):
        found.report('missing_file', paths[number].relative_to(root))
    for path in sorted(set((folder / info.folder).glob(f'*{info.suffix}')) - set(paths.values())):
        found.report('numbering', path.relative_to(root), f'{_INFO} has frames 1 to {info.num_frames}')
    frames = [
        FrameFile(
            paths[number],
            round((number - 1) * 1e9 / info.rate_hz),
            boxes=None if boxes is None else boxes[number],
        )
        for number in present
    ]
    found.clips += cut(info.name, frames, runs(present, 1), info.size)


def _read_info(path: Path) -> _Info:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding='utf-8'))
        facts = parser['Sequence']
        info = _Info(
            name=facts.get('name', path.parent.name),
            folder=facts.get('imDir', 'img1'),
            suffix=facts.get('imExt', '.jpg'),
            rate_hz=float(facts['frameRate']),
            num_frames=int(facts['seqLength']),
            size=(int(facts['imHeight']), int(facts['imWidth'])),
        )
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError, ValueError) as error:
        raise DataError(f'{path} cannot be read: {" ".join(str(error).split())}') from error
    if not (info.rate_hz > 0 and info.num_frames > 0 and min(info.size) > 0):
        raise DataError(f'{path}: frameRate, seqLength, imWidth and imHeight must be above 0')
    return info


def _read_boxes(found: Scan, root: Path, folder: Path, length: int) -> dict[int, Boxes] | None:
    """The boxes of each frame; None where nobody marked any."""
    path = folder / _GT
    if not path.is_file():
        return None
    rows: dict[int, list[Row]] = defaultdict(list)
    try:
        with path.open(encoding='utf-8', newline='') as file:
            for line, cells in enumerate(csv.reader(file), 1):
                if problem := _add_row(rows, cells, length):
                    found.report('bad_box', path.relative_to(root), f'row {line} {problem}')
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found.report('bad_file', path.relative_to(root), str(error))
    return {number: _boxes(rows[number]) for number in range(1, length + 1)}


def _add_row(rows: dict[int, list[Row]], cells: list[str], length: int) -> str:
    """What is wrong with the row; empty if nothing is."""
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return 'is not of numbers'
    if len(values) < 7 or not np.isfinite(values).all():
        return 'needs at least 7 numbers'
    if not (values[0].is_integer() and 1 <= values[0] <= length):
        return f'is of frame {cells[0]}, the frames are 1 to {length}'
    if values[4] <= 0 or values[5] <= 0:
        return f'has width {cells[4]} and height {cells[5]}'
    rows[int(values[0])].append(values)
    return ''


def _boxes(rows: list[Row]) -> Boxes:
    is_15 = [len(row) >= _NUM_COLUMNS_15 or len(row) < 8 for row in rows]
    corner = np.array([row[2:6] for row in rows], np.float32).reshape(-1, 4)
    is_object = [row[6] == 1 and (old or row[7] == 1) for row, old in zip(rows, is_15, strict=True)]
    visibility = [1.0 if old or len(row) < 9 else row[8] for row, old in zip(rows, is_15, strict=True)]
    return Boxes(
        boxes_xyxy=np.hstack([corner[:, :2], corner[:, :2] + corner[:, 2:]]),
        class_ids_N=np.zeros(len(rows), np.int64),
        track_ids_N=np.array([int(row[1]) for row in rows], np.int64),
        visibility_N=np.array(visibility, np.float32),
        is_ignored_N=~np.array(is_object, np.bool_),
    )
