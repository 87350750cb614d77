# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""ImageNet VID as it is distributed: a JPEG for each frame of a video and an XML file of its boxes.

`Data/VID/train/ILSVRC2015_VID_train_0000/VIDEO/000000.JPEG` (in `val` and `test` without the folder between),
`Annotations/VID/...` likewise with `.xml`. The root is the folder with both, or the one above it.
Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dff_ros.data.file_videos import FrameFile, Scan, cut
from dff_ros.data.numbering import runs
from dff_ros.data.vid_file import CLASSES, VidFile

_FRAMES, _BOXES = Path('Data/VID'), Path('Annotations/VID')
_RELEASES = ('', 'ILSVRC2015', 'ILSVRC')
_FRAME_SUFFIX, _BOX_SUFFIX = '.JPEG', '.xml'
_RATE_HZ = 25
"""The files do not tell it; most of the videos have 25 or 30."""


def matches(root: Path) -> bool:
    """Whether the folder has the frames of VID."""
    return _release(root) is not None


def splits(root: Path) -> tuple[str, ...]:
    """Those of train, val and test that have frames."""
    release = _release(root)
    if release is None:
        return ()
    return tuple(sorted(path.name for path in (release / _FRAMES).glob('*') if path.is_dir()))


def scan(root: Path, split: str) -> Scan:
    """The videos of a split, cut where frames are missing."""
    found, release = Scan(box_class_names=CLASSES), _release(root)
    if release is None:
        found.report('empty_split', split)
        return found
    for folder in _video_folders(release / _FRAMES / split):
        _add_video(found, root, release, folder)
    if not found.clips and not found.findings:
        found.report('empty_split', split)
    elif not any(frame.boxes is not None for clip in found.clips for frame in clip.frames):
        found.report('no_labels', split, f'no {_BOXES / split}')
    return found


def _release(root: Path) -> Path | None:
    """The folder with `Data` and `Annotations`."""
    return next((root / name for name in _RELEASES if (root / name / _FRAMES).is_dir()), None)


def _video_folders(split: Path) -> Iterator[Path]:
    """The folders without folders in them, at whatever depth."""
    for folder in _folders(split):
        yield from _folders(folder) or [folder]


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def _add_video(found: Scan, root: Path, release: Path, folder: Path) -> None:
    inside = folder.relative_to(release / _FRAMES)
    frames = _numbered(found, root, folder, _FRAME_SUFFIX)
    files = _numbered(found, root, release / _BOXES / inside, _BOX_SUFFIX)
    if not frames:
        found.report('empty_sequence', folder.relative_to(root))
        return
    for number in sorted(files.keys() - frames.keys()):
        found.report('label_without_frame', files[number].relative_to(root))
    if files:
        for number in sorted(frames.keys() - files.keys()):
            name = frames[number].with_suffix(_BOX_SUFFIX).name
            found.report('missing_file', (release / _BOXES / inside / name).relative_to(root))
    numbers = sorted(frames)
    parts = runs(numbers, 1)
    for part in parts[1:]:
        before, after = numbers[part.start - 1], numbers[part.start]
        where = frames[after].relative_to(root)
        found.report('numbering', where, f'{before} is followed by {after}, the step is 1')
    clip = [
        FrameFile(
            frames[number],
            number * 10**9 // _RATE_HZ,
            boxes=VidFile(files[number]) if number in files else None,
        )
        for number in numbers
    ]
    found.clips += cut(str(inside), clip, parts)


def _numbered(found: Scan, root: Path, folder: Path, suffix: str) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for path in sorted(folder.glob('*')):
        if path.suffix != suffix or not path.stem.isdecimal():
            found.report('stray_file', path.relative_to(root), f'not of the form 000000{suffix}')
        else:
            files[int(path.stem)] = path
    return files
