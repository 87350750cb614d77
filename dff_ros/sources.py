# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Where frames come from: the simulated street, a video, a folder of images, a data set, or a camera."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES
from dff_ros.data.images import IMAGE_SUFFIXES, images_in, read_image
from dff_ros.data.layouts import LAYOUTS, find_layout
from dff_ros.data.video_set import Boxes
from dff_ros.errors import ConfigError, ConversionError

_NS_PER_S = 10**9
_DEFAULT_FPS = 30.0
_STREET_SIZE = (360, 480)

STREET = 'street'
"""Name of the simulated street as a source."""

STOP_AND_GO, CUT = 'stopgo:', 'cut:'
"""What stands before the names of the sources that one is made of."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame: `image_HW3` uint8 RGB, C-contiguous; `labels_HW` uint8 class ids with 255 unlabelled, or
    None; `boxes` its objects, or None where nobody looked for any.

    `stamp_ns` is the time within the source, `name` says which frame it is in words (file, frame number).
    Frames of different `sequence` do not follow each other; `is_cut`: another scene begins within one.
    """

    image_HW3: NDArray[np.uint8]
    stamp_ns: int
    labels_HW: NDArray[np.uint8] | None
    name: str
    sequence: str = ''
    boxes: Boxes | None = None
    is_cut: bool = False


class FrameSource(Protocol):
    """Frames in order; every iteration starts at the first.

    `size` is the (height, width) of the first frame (others may differ), `fps` the nominal rate, `num_frames`
    None where the end is not known (street, cameras, some videos), `class_names` what label ids mean (empty:
    no labels), `box_class_names` those of boxes (empty: no boxes, or not asked for), `is_rendered` whether
    frames and labels are computed, which takes time, rather than read. An unreadable frame raises
    ConversionError or DataError naming the file.
    """

    name: str
    fps: float
    size: tuple[int, int]
    num_frames: int | None
    class_names: tuple[str, ...]
    box_class_names: tuple[str, ...]
    is_rendered: bool

    def __iter__(self) -> Iterator[SourceFrame]:
        """The frames from the first on."""
        ...

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """Ground truth (uint8 class ids, 255 unlabelled) of frame `index`; None where the source has none."""
        ...


class StreetSource:
    """The simulated street, endless, with exact labels and boxes; frame i depends on seed, size and fps
    only.
    """

    num_frames: int | None = None
    class_names = CAMVID_CLASSES
    is_rendered = True

    def __init__(self, seed: int, size: tuple[int, int], fps: float, with_boxes: bool = False) -> None:
        from dff_ros.data.street import Street

        self.box_class_names = OBJECT_CLASSES if with_boxes else ()
        self.name, self.size, self.fps = STREET, size, fps
        self._street = Street(seed=seed, size=size, fps=fps)

    def __iter__(self) -> Iterator[SourceFrame]:
        from dff_ros.data.street_videos import street_boxes

        index = 0
        while True:
            frame, name = self._street.frame(index), f'street {index}'
            boxes = street_boxes(frame.boxes) if self.box_class_names else None
            yield SourceFrame(frame.image_HW3, frame.stamp_ns, frame.labels_HW, name, boxes=boxes)
            index += 1

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """Exact labels of frame `index`."""
        return self._street.frame(index).labels_HW


class ImageFolderSource:
    """The images of a folder in natural order (2 before 10), `1 / fps` apart; sizes may differ from image to
    image.
    """

    class_names: tuple[str, ...] = ()
    box_class_names: tuple[str, ...] = ()
    is_rendered = False

    def __init__(self, folder: Path, fps: float) -> None:
        try:
            self._paths = images_in(folder)
        except OSError as error:
            raise ConversionError(f'cannot read the folder {folder}: {error.strerror}') from error
        if not self._paths:
            raise ConversionError(f'{folder} holds no image; known are {", ".join(sorted(IMAGE_SUFFIXES))}')
        self.name, self.fps = str(folder), fps
        self.num_frames: int | None = len(self._paths)
        height, width = read_image(self._paths[0]).shape[:2]
        self.size = height, width

    def __iter__(self) -> Iterator[SourceFrame]:
        for index, path in enumerate(self._paths):
            yield SourceFrame(read_image(path), round(index * _NS_PER_S / self.fps), None, path.name)

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """A plain folder has no labels."""
        return None


class VideoSource:
    """A video file, or a V4L2 camera where `device` is true."""

    class_names: tuple[str, ...] = ()
    box_class_names: tuple[str, ...] = ()
    is_rendered = False

    def __init__(self, path: str, *, device: bool = False, options: dict[str, str] | None = None) -> None:
        from dff_ros.video import VideoReader

        self.name = path
        self._device = 'v4l2' if device else None
        self._options = options
        with VideoReader(path, device=self._device, options=options) as reader:
            self.size, self.fps, self.num_frames = reader.size, reader.fps, reader.num_frames

    def __iter__(self) -> Iterator[SourceFrame]:
        from dff_ros.video import VideoReader

        with VideoReader(self.name, device=self._device, options=self._options) as reader:
            for index, (image, stamp_ns) in enumerate(reader):
                yield SourceFrame(image, stamp_ns, None, f'frame {index}')

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """A video has no labels."""
        return None


def open_source(
    text: str,
    *,
    split: str | None = None,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    with_boxes: bool = False,
) -> FrameSource:
    """The source that a word or path names: `street`, `/dev/videoN`, a data set of any layout that
    `dff data check` knows (`LAYOUT:PATH` says which), a folder of images, a video file; `stopgo:SOURCE` and
    `cut:SOURCE,SOURCE...` are made of others (made_sources.py).

    `split` chooses in a data set (None: `val`, or the only one), `seed` the street. `fps` is for the street,
    cameras and folders of images; a video and a data set keep their own. `size` (height, width) is for the
    street and cameras. `with_boxes`: frames come with the boxes that the source has. ConfigError for a size
    elsewhere and where nothing has that name; ConversionError or DataError, naming the file, where it cannot
    be read.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise ConfigError(f'frames per second must be above 0 and at most 1000, got {fps:g}')
    if text.startswith((STOP_AND_GO, CUT)):
        from dff_ros.made_sources import open_made

        return open_made(
            text,
            split,
            partial(open_source, split=split, seed=seed, size=size, fps=fps, with_boxes=with_boxes),
        )
    if text == STREET:
        return StreetSource(seed, size or _STREET_SIZE, fps or _DEFAULT_FPS, with_boxes)
    if text.partition(':')[0] in LAYOUTS and ':' in text and size is None:
        return _open_data_set(text, split, with_boxes)
    if re.fullmatch(r'/dev/video\d+', text):
        return _open_camera(text, size, fps)
    if size is not None:
        raise ConfigError(
            f'{text} has its own frame size; a size can be chosen for {STREET} and /dev/videoN only'
        )
    path = Path(text).expanduser()
    if path.is_dir():
        is_data_set = find_layout(path) is not None
        if is_data_set:
            return _open_data_set(text, split, with_boxes)
        return ImageFolderSource(path, fps or _DEFAULT_FPS)
    if not path.exists():
        raise ConfigError(
            f'there is no source {text!r}: give {STREET}, a video file, a folder of images, a data set '
            f'or /dev/videoN'
        )
    return VideoSource(str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """The arguments of `open_source`, to open the same source in another process."""

    text: str
    split: str | None = None
    seed: int = 0
    fps: float | None = None

    def open(self) -> FrameSource:
        """The source; raises as `open_source`."""
        return open_source(self.text, split=self.split, seed=self.seed, fps=self.fps)


def _open_data_set(text: str, split: str | None, with_boxes: bool) -> FrameSource:
    from dff_ros.video_set_source import VideoSetSource

    return VideoSetSource(text, split, with_boxes)


def _open_camera(text: str, size: tuple[int, int] | None, fps: float | None) -> FrameSource:
    if not Path(text).exists():
        present = sorted(str(path) for path in Path('/dev').glob('video*'))
        raise ConfigError(f'there is no camera {text}; present are: {", ".join(present) or "none"}')
    options = {} if size is None else {'video_size': f'{size[1]}x{size[0]}'}
    if fps is not None:
        options['framerate'] = f'{fps:g}'
    return VideoSource(text, device=True, options=options)
