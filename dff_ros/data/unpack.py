# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Video files as folders of images, unpacked once: a video decodes in order only, training reads anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2

from dff_ros.data.whole_folder import whole_folder
from dff_ros.errors import ConversionError, DataError

FACTS_FILE = 'video.json'

_JPEG_QUALITY = 95

ShowProgress = Callable[[int, int], None]


def unpack_video(path: Path, cache: Path, show: ShowProgress | None = None) -> list[tuple[Path, int]]:
    """(Image file, stamp in nanoseconds) of each frame, in a folder of `cache` that is filled now if need be.

    The folder is for the file as it is now: a changed file gets another one. DataError where the file cannot
    be decoded to its end, or the disk refuses.
    """
    status = path.stat()
    identity = f'{path.resolve()} {status.st_size} {status.st_mtime_ns}'
    folder = cache / f'{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}'
    if not (folder / FACTS_FILE).is_file():
        with whole_folder(folder, f'unpack {path} into', is_shared=True) as temporary:
            stamps_ns = _write_frames(path, temporary, show or (lambda done, total: None))
            (temporary / FACTS_FILE).write_text(json.dumps({'stamps_ns': stamps_ns}), encoding='utf-8')
    try:
        stamps_ns = json.loads((folder / FACTS_FILE).read_text(encoding='utf-8'))['stamps_ns']
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f'the unpacked video in {folder} is unusable: {error}. Delete the folder') from error
    return [(folder / _name(number), stamp_ns) for number, stamp_ns in enumerate(stamps_ns, 1)]


def _write_frames(path: Path, folder: Path, show: ShowProgress) -> list[int]:
    from dff_ros.video import VideoReader

    stamps_ns: list[int] = []
    try:
        with VideoReader(path) as reader:
            for image, stamp_ns in reader:
                stamps_ns.append(stamp_ns)
                bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
                (folder / _name(len(stamps_ns))).write_bytes(jpeg.tobytes())
                show(len(stamps_ns), max(reader.num_frames or 0, len(stamps_ns)))
            period_ns = 1e9 / reader.fps
    except ConversionError as error:
        raise DataError(
            f'{error}. Mend it (ffmpeg -i {path.name} mended.mp4 keeps what can be read), or leave it out'
        ) from error
    if any(later <= earlier for earlier, later in zip(stamps_ns, stamps_ns[1:], strict=False)):
        return [round(number * period_ns) for number in range(len(stamps_ns))]  # the file's are of no use
    return stamps_ns


def _name(number: int) -> str:
    return f'{number:06d}.jpg'
