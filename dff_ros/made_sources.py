# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Frame sources made of others: stop-and-go motion, and hard cuts between scenes; the files behind a name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ConfigError
from dff_ros.sources import CUT, STOP_AND_GO, FrameSource, SourceFrame

_NS_PER_S = 10**9
_PAUSE_NS = 60 * _NS_PER_S
_NOISE_SEED = 0
_EXAMPLES = {STOP_AND_GO: 'drive.mp4', CUT: 'drive.mp4,street'}


SPEEDS = {'normal': 1.0, 'half': 0.5, 'double': 2.0}
"""Frames of the source that go by in one frame. The camera stops after each of them."""

GAIT_S = 1.0
"""Seconds that each speed, and each stop, lasts."""

NOISE_LEVELS = 2.0
"""Deviation of the sensor noise on a picture that is shown again, in grey levels."""

SCENE_FRAMES = 15
"""Frames of a scene between two cuts."""


def open_made(text: str, split: str | None, open_part: Callable[[str], FrameSource]) -> FrameSource:
    """The source that `stopgo:SOURCE` or `cut:SOURCE,SOURCE...` names; `open_part` opens those in it.

    ConfigError as CutSource, and for cuts with a split.
    """
    for prefix, example in _EXAMPLES.items():
        if text.startswith(prefix) and not all(part.strip() for part in text.removeprefix(prefix).split(',')):
            raise ConfigError(f'{text}: there is no source where one should be; say {prefix}{example}')
    if text.startswith(STOP_AND_GO):
        return StopGoSource(open_part(text.removeprefix(STOP_AND_GO)))
    if split is not None:
        raise ConfigError(f'{text}: a split is of one data set; of each the usual one is taken')
    return CutSource([open_part(part) for part in text.removeprefix(CUT).split(',')])


def source_paths(text: str) -> list[Path]:
    """The files and folders that a source's name means, without prefixes as in `camvid:PATH`; nothing is
    there for a word as `street`.
    """
    path, (prefix, _, rest) = Path(text).expanduser(), text.partition(':')
    if path.exists() or not rest:
        return [path]
    parts = rest.split(',') if f'{prefix}:' == CUT else [rest]
    return [found for part in parts for found in source_paths(part)]


def stop_and_go(first: int, num_frames: int) -> Iterator[tuple[int, str]]:
    """Which frame of the source each frame shows, and what the camera does, without an end: `num_frames` at
    each speed, from number `first` of them on, and as many standing still after it.
    """
    position = 0.0
    for name, speed in itertools.islice(itertools.cycle(SPEEDS.items()), first, None):
        for gait, step in ((name, speed), ('still', 0.0)):
            for _ in range(num_frames):
                yield int(position), gait
                position += step


class StopGoSource:
    """A source in stop-and-go motion: a second each at its own, at half and at double speed, and a second of
    standing still after each of them, again and again, at the source's rate.

    Frames are repeated and left out, never interpolated, so labels and boxes follow exactly. A picture that
    is shown again gets sensor noise of its own (deviation of 2 grey levels, the same in every run): a camera
    that stands still gives no two equal pictures. The source is played three times, beginning with each speed
    in turn, so that each part of it is seen at several; these, and the sequences of the source, are sequences
    a minute apart.
    """

    num_frames: int | None = None

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.name = f'stop-and-go of {source.name}'
        self.fps, self.size, self.is_rendered = source.fps, source.size, source.is_rendered
        self.class_names, self.box_class_names = source.class_names, source.box_class_names
        self.split: str | None = getattr(source, 'split', None)  # where the source has any

    def __iter__(self) -> Iterator[SourceFrame]:
        start_ns = 0
        period_ns, gait_frames = round(_NS_PER_S / self.fps), max(1, round(GAIT_S * self.fps))
        noise = np.random.default_rng(_NOISE_SEED)
        for first in range(len(SPEEDS)):
            for name, items in itertools.groupby(self._source, lambda item: item.sequence):
                shown = _shown(items, stop_and_go(first, gait_frames), noise)
                stamp_ns = start_ns
                for index, item in enumerate(shown):
                    stamp_ns = start_ns + index * period_ns
                    yield replace(item, stamp_ns=stamp_ns, sequence=f'{name} pass {first + 1}')
                start_ns = stamp_ns + _PAUSE_NS

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """Labels of frame `index`; reads the source up to it."""
        return next(itertools.islice(self, index, None)).labels_HW


def _shown(
    items: Iterator[SourceFrame], wanted: Iterator[tuple[int, str]], noise: np.random.Generator
) -> Iterator[SourceFrame]:
    """The frames of a sequence that are wanted, until one is beyond its end."""
    numbered = enumerate(items)
    at, item = next(numbered)
    is_again, is_cut = False, item.is_cut
    for number, gait in wanted:
        while at < number:
            following = next(numbered, None)
            if following is None:
                return
            (at, item), is_again = following, False
            is_cut = is_cut or item.is_cut  # also of a picture that is left out
        name = f'{item.name} {gait}'
        if is_again:
            yield replace(item, image_HW3=_noisy(item.image_HW3, noise), name=name, is_cut=False)
        else:
            yield replace(item, name=name, is_cut=is_cut)
        is_again, is_cut = True, False


def _noisy(image_HW3: NDArray[np.uint8], noise: np.random.Generator) -> NDArray[np.uint8]:
    levels = noise.normal(0.0, NOISE_LEVELS, image_HW3.shape)
    return np.clip(np.rint(image_HW3 + levels), 0, 255).astype(np.uint8)


class CutSource:
    """Scenes of several sources, 15 frames each, in turn, as one sequence of hard cuts (`is_cut`) at the
    first source's rate and size.

    A source goes on where it was left; all end with the first that does. Pictures of another shape are
    cropped to it around their middle and resized, labels with them. Boxes are left out. ConfigError for less
    than two sources, and for labels of different classes.
    """

    box_class_names: tuple[str, ...] = ()
    num_frames: int | None = None

    def __init__(self, sources: Sequence[FrameSource]) -> None:
        if len(sources) < 2:
            raise ConfigError('cut takes at least two sources, separated by commas: cut:A,B')
        first = sources[0]
        self._sources = sources
        self.name = f'cuts between {", ".join(source.name for source in sources)}'
        self.fps, self.size = first.fps, first.size
        self.is_rendered = any(source.is_rendered for source in sources)
        self.class_names: tuple[str, ...] = ()
        for source in sources:
            if source.class_names and self.class_names and source.class_names != self.class_names:
                raise ConfigError(
                    f'{source.name} has other classes than the sources before it: take sources whose labels '
                    f'are of the same classes, or have none'
                )
            self.class_names = self.class_names or source.class_names

    def __iter__(self) -> Iterator[SourceFrame]:
        playing = [(source.name, iter(source)) for source in self._sources]
        number = 0
        for name, frames in itertools.cycle(playing):
            scene = list(itertools.islice(frames, SCENE_FRAMES))
            before = ''
            for place, item in enumerate(scene):
                is_cut = number > 0 and (place == 0 or item.sequence != before)
                before = item.sequence
                yield self._frame(item, number, f'{name} {item.name}', is_cut)
                number += 1
            if len(scene) < SCENE_FRAMES:
                return

    def _frame(self, item: SourceFrame, number: int, name: str, is_cut: bool) -> SourceFrame:
        labels = item.labels_HW
        return SourceFrame(
            _fitted(item.image_HW3, self.size, cv2.INTER_AREA),
            round(number * _NS_PER_S / self.fps),
            None if labels is None else _fitted(labels, self.size, cv2.INTER_NEAREST),
            name,
            is_cut=is_cut,
        )

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """Labels of frame `index`; reads the sources up to it."""
        return next(itertools.islice(self, index, None)).labels_HW


def _fitted(picture: NDArray[np.uint8], size: tuple[int, int], interpolation: int) -> NDArray[np.uint8]:
    """The middle of a picture, (H, W) or (H, W, 3), at a size; as it is where it has that."""
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    scale = min(height / size[0], width / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = picture[top : top + rows, left : left + columns]
    return np.ascontiguousarray(cv2.resize(middle, size[::-1], interpolation=interpolation), np.uint8)
