# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes of videos in a file of their own (JSON), as a teacher finds them or another program writes them.

{"format": "dff-boxes-1", "classes": ["car", "pedestrian"], "videos": [VIDEO, ...]}, with a VIDEO for each
sequence in its order, {"name": "monday", "size": [640, 360], "num_frames": 900, "frames": {"1": [BOX, ...]}}:
width and height, and for each frame that was searched (counted from 1) its boxes [x1, y1, x2, y2, class,
ignored]: edges in pixels, the number of the class, and 1 for a box that is neither object nor background.
Whatever else is there is not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dff_ros.data.boxes import boxes_of
from dff_ros.data.file_videos import Clip
from dff_ros.data.images import read_image
from dff_ros.data.video_set import Boxes
from dff_ros.errors import DataError

FORMAT = 'dff-boxes-1'
SUFFIX = '.json'

_DECIMALS = 2
_NUM_COLUMNS = 6


@dataclass(frozen=True)
class VideoBoxes:
    """The boxes of one sequence: `size` (height, width), `frames` by number from 1."""

    name: str
    size: tuple[int, int]
    num_frames: int
    frames: dict[int, Boxes] = field(default_factory=dict)


@dataclass(frozen=True)
class BoxTable:
    """The boxes of a video, or of each sequence of a folder, in their order."""

    class_names: tuple[str, ...]
    videos: tuple[VideoBoxes, ...]


def write_box_table(path: Path, table: BoxTable, facts: Mapping[str, object]) -> None:
    """Write the file, with `facts` (for its readers) beside the boxes; DataError where the disk refuses."""
    videos = [
        {
            'name': video.name,
            'size': video.size[::-1],
            'num_frames': video.num_frames,
            'frames': {str(number): _rows(boxes) for number, boxes in sorted(video.frames.items())},
        }
        for video in table.videos
    ]
    tree = {'format': FORMAT, 'classes': table.class_names, **facts, 'videos': videos}
    part = path.with_name(f'.{path.name}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(tree, separators=(',', ':')) + '\n', encoding='utf-8')
        part.replace(path)
    except OSError as error:
        raise DataError(f'cannot write {path}: {error}') from error


def _rows(boxes: Boxes) -> list[list[float]]:
    edges = np.round(boxes.boxes_xyxy.astype(float), _DECIMALS).tolist()
    columns = zip(
        edges,
        boxes.class_ids_N.tolist(),
        boxes.is_ignored_N.astype(int).tolist(),
        strict=True,
    )
    return [[*edge, *rest] for edge, *rest in columns]


def read_box_table(path: Path) -> BoxTable:
    """The file's boxes; DataError names it and what is wrong in it."""
    try:
        tree = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DataError(f'{path} cannot be read as boxes: {error}') from error
    try:
        if tree['format'] != FORMAT:
            raise ValueError(f'its format is {tree["format"]!r}, not {FORMAT!r}')
        names = tuple(str(name) for name in tree['classes'])
        return BoxTable(names, tuple(_video(item, len(names)) for item in tree['videos']))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f'{error} is missing' if isinstance(error, KeyError) else error
        raise DataError(f'{path} is no file of boxes as "dff data teach-boxes" writes it: {what}') from error


def _video(item: dict[str, Any], num_classes: int) -> VideoBoxes:
    width, height = (int(side) for side in item['size'])
    video = VideoBoxes(str(item['name']), (height, width), int(item['num_frames']))
    for number, rows in item['frames'].items():
        if not 1 <= int(number) <= video.num_frames:
            raise ValueError(f'{video.name} has no frame {number}')
        video.frames[int(number)] = _boxes(rows, num_classes, f'{video.name}, frame {number}')
    return video


def _boxes(rows: Sequence[Sequence[float]], num_classes: int, where: str) -> Boxes:
    if any(len(row) != _NUM_COLUMNS for row in rows):
        raise ValueError(f'{where}: a box takes {_NUM_COLUMNS} numbers')
    table = np.array(rows, float).reshape(-1, _NUM_COLUMNS)
    edges, ids = table[:, :4], table[:, 4]
    if not (np.isfinite(table).all() and np.isin(ids, np.arange(num_classes)).all()):
        raise ValueError(f'{where}: not a number, or no class of 0 to {num_classes - 1}')
    if not (edges[:, 2:] > edges[:, :2]).all():
        raise ValueError(f'{where}: a box has no area')
    return boxes_of(edges, ids, table[:, 5] != 0)


def with_boxes(clips: Sequence[Clip], table: BoxTable, path: Path) -> list[Clip]:
    """The sequences, whole, with boxes on the frames that were searched.

    `path` is the file they are from; DataError where it is of another video: of other numbers of sequences or
    frames, or of frames of another size.
    """
    if len(clips) != len(table.videos):
        raise DataError(f'{path} has boxes of {len(table.videos)} videos, there are {len(clips)}')
    found = []
    for clip, video in zip(clips, table.videos, strict=True):
        size = read_image(clip.frames[0].path).shape[:2]
        if (len(clip.frames), size) != (video.num_frames, video.size):
            raise DataError(
                f'{path} has boxes of {video.num_frames} frames of {video.size[1]}x{video.size[0]}, '
                f'{clip.name} has {len(clip.frames)} of {size[1]}x{size[0]}: make the boxes anew'
            )
        frames = (replace(frame, boxes=video.frames.get(n)) for n, frame in enumerate(clip.frames, 1))
        found.append(replace(clip, frames=tuple(frames)))
    return found
