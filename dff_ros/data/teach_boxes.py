# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What a teacher finds in a video, as a table of boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from dff_ros.data.box_table import BoxTable, VideoBoxes
from dff_ros.data.images import read_image
from dff_ros.data.teacher import TEACHER_CLASSES, Teacher
from dff_ros.data.teacher_config import TeacherConfig
from dff_ros.data.unlabelled import VideoRequest, open_clips
from dff_ros.errors import DataError

ShowProgress = Callable[[int, int], None]


def teach_boxes(
    request: VideoRequest, teacher: Teacher, cache: Path, show: ShowProgress | None = None
) -> BoxTable:
    """The boxes of the frames of the request in each of its videos; `show(done, total)` is called after each.

    Video files are unpacked into `cache`, as for training. Raises as `open_unlabelled`, and DataError where
    frames of a sequence have different sizes.
    """
    clips = open_clips(request, cache)
    ranges = [
        range(request.first, min(request.last or len(clip.frames), len(clip.frames)) + 1) for clip in clips
    ]
    total, done = sum(map(len, ranges)), 0
    if not total:
        raise DataError(f'{request.path} has no frame {request.first}')
    videos = []
    for clip, numbers in zip(clips, ranges, strict=True):
        height, width = read_image(clip.frames[0].path).shape[:2]
        video = VideoBoxes(_name(clip.name, request.path), (height, width), len(clip.frames))
        for number in numbers:
            path = clip.frames[number - 1].path
            image = read_image(path)
            if image.shape[:2] != video.size:
                raise DataError(
                    f'{path} is {image.shape[1]}x{image.shape[0]} pixels, the first frame {width}x{height}: '
                    f'they must be equal'
                )
            video.frames[number] = teacher.boxes(image)
            done += 1
            if show is not None:
                show(done, total)
        videos.append(video)
    return BoxTable(TEACHER_CLASSES, tuple(videos))


def _name(clip: str, root: Path) -> str:
    """A sequence without the folder its video lies in."""
    inside = Path(clip).relative_to(root)
    return str(Path(root.name) / inside)


def teacher_facts(path: Path, config: TeacherConfig) -> dict[str, object]:
    """Which teacher it was and what was taken of it, for those who read the file."""
    digest = sha256(path.read_bytes()).hexdigest()
    settings = {name: value for name, value in asdict(config).items() if name != 'threads'}
    return {'teacher': {'file': path.name, 'sha256': digest, **settings}}
