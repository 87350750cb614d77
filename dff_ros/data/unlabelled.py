# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Video without labels: files, folders of frames, folders of such folders."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dff_ros.data.box_table import read_box_table, with_boxes
from dff_ros.data.file_videos import Clip, FileVideos, FrameFile, Scan
from dff_ros.data.images import image_folders
from dff_ros.data.unpack import unpack_video
from dff_ros.errors import ConfigError, DataError

_OPTIONS = re.compile(
    r'(?P<path>.+?)(#(?P<first>\d+)-(?P<last>\d+))?(@(?P<fps>\d+(\.\d+)?))?(=(?P<boxes>[^=]+\.json))?$'
)
_DEFAULT_FPS = 30.0

ShowProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """Frames `first` .. `last` (from 1, in the order of their names; None: all) of each video at a path.

    `fps` is the rate of frames in folders; `boxes` a file with boxes of the whole video.
    """

    path: Path
    first: int = 1
    last: int | None = None
    fps: float | None = None
    boxes: Path | None = None


def parse_requests(text: str, setting: str) -> list[VideoRequest]:
    """`PATH[#FIRST-LAST][@FPS][=BOXES.json]`, separated by commas; ConfigError names setting and item."""
    return [parse_request(item, setting) for item in filter(None, map(str.strip, text.split(',')))]


def parse_request(item: str, setting: str) -> VideoRequest:
    """One item of `parse_requests`."""
    match = _OPTIONS.match(item)
    first, last = (int(match[name]) if match and match[name] else None for name in ('first', 'last'))
    fps = float(match['fps']) if match and match['fps'] else None
    if match is None or fps == 0 or (first is not None and last is not None and not 0 < first <= last):
        raise ConfigError(
            f'{setting}: got {item!r}, expected PATH, PATH#FIRST-LAST (frames, counted from 1), PATH@FPS'
        )
    boxes = Path(match['boxes']).expanduser() if match['boxes'] else None
    return VideoRequest(Path(match['path']).expanduser(), first or 1, last, fps, boxes)


def open_unlabelled(request: VideoRequest, cache: Path, show: ShowProgress | None = None) -> FileVideos:
    """A video file, or every folder of images at and below the path as a sequence.

    Files are unpacked into `cache` once, which `show(done, total)` reports. DataError where the path is
    missing, holds no video, or has no frame in the range, or the file of boxes is not of this video.
    """
    clips = open_clips(request, cache, show)
    names: tuple[str, ...] = ()
    if request.boxes is not None:
        table = read_box_table(request.boxes)
        clips, names = with_boxes(clips, table, request.boxes), table.class_names
    chosen = [
        Clip(clip.name, clip.frames[request.first - 1 : request.last])
        for clip in clips
        if len(clip.frames) >= request.first
    ]
    if not chosen:
        longest = max(len(clip.frames) for clip in clips)
        raise DataError(f'{request.path} has no frame {request.first}: its frames are 1 to {longest}')
    return FileVideos(Scan(box_class_names=names, clips=chosen))


def open_clips(request: VideoRequest, cache: Path, show: ShowProgress | None = None) -> list[Clip]:
    """All frames of the request's videos, whatever its range; raises as `open_unlabelled`."""
    if not request.path.exists():
        raise DataError(f'there is no video {request.path}: give a video file or a folder of images')
    if request.path.is_dir():
        period_ns = 1e9 / (request.fps or _DEFAULT_FPS)
        return [
            Clip(str(folder), tuple(FrameFile(path, round(i * period_ns)) for i, path in enumerate(paths)))
            for folder, paths in image_folders(request.path).items()
        ]
    if request.fps is not None:
        raise ConfigError(f'{request.path}@{request.fps:g}: a video file has its own frame rate; leave @ out')
    frames = unpack_video(request.path, cache, show)
    return [Clip(str(request.path), tuple(FrameFile(path, stamp_ns) for path, stamp_ns in frames))]
