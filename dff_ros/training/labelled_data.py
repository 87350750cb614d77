# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The labelled data sets of a run: opened, and found to have labels of the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dff_ros.data.classes import Colours, class_colours
from dff_ros.data.kept_videos import Span, VideoPart
from dff_ros.data.layouts import layout_named, named_root, open_videos
from dff_ros.data.unlabelled import VideoRequest, parse_request
from dff_ros.data.video_set import VideoSet
from dff_ros.errors import ConfigError, DataError

_EVALUATION_SPLITS = ('test', 'val')
_WHOLE = ('all',)
"""The splits of a data set that is not divided."""


@dataclass(frozen=True)
class LabelledSets:
    """`class_colours` are those that the first set with any tells; empty: none does."""

    sets: tuple[VideoSet, ...]
    class_names: tuple[str, ...]
    class_colours: Colours


def open_labelled(
    paths: Sequence[str],
    split: str,
    setting: str,
    with_boxes: bool = False,
    class_names: tuple[str, ...] = (),
) -> LabelledSets:
    """That split of each data set, LAYOUT:PATH or PATH, or with #FIRST-LAST some frames of each sequence.

    A set that is not divided into splits is taken whole. DataError as `open_videos`, and where no sequence
    has frames in the range; ConfigError, naming the setting, where a set has no labels, nor (`with_boxes`)
    boxes, or other classes than those before it, of which the first were `class_names`; of boxes, classes may
    differ.
    """
    sets: list[VideoSet] = []
    names = class_names
    colours: Colours = ()
    for path in paths:
        request = _request(path, setting)
        root, split_there = str(request.path), _split_of(str(request.path), split)
        files = open_videos(root, split_there)
        if not any(info.labelled or (with_boxes and info.boxed) for info in files.sequences):
            wanted = 'labelled frames or boxes' if with_boxes else 'labelled frames'
            raise ConfigError(
                f'{setting}: {path} has no {wanted} in {split_there}; "dff data check" shows which splits do'
            )
        if names and files.class_names and files.class_names != names:
            raise ConfigError(
                f'{setting}: {path} has the classes {", ".join(files.class_names)}, those before '
                f'{", ".join(names)}; they must be the same, in the same order: write the '
                f'labels of one with the ids of the other, or leave it out'
            )
        names, colours = names or files.class_names, colours or files.class_colours
        sets.append(files if request == VideoRequest(request.path) else _part(files, request))
    return LabelledSets(tuple(sets), names, colours)


def _request(text: str, setting: str) -> VideoRequest:
    request = parse_request(text, setting)
    if request.fps is not None or request.boxes is not None:
        raise ConfigError(
            f'{setting}: got {text!r}; a data set tells its own frame rate and boxes: leave @ and = out'
        )
    return request


def _split_of(path: str, split: str) -> str:
    root, layout = named_root(path)
    return _WHOLE[0] if layout_named(layout).splits(root) == _WHOLE else split


def _part(videos: VideoSet, request: VideoRequest) -> VideoPart:
    """The frames of the range of each sequence that reaches it."""
    lengths = [len(info) for info in videos.sequences]
    spans = [
        Span(number, request.first - 1, min(request.last or length, length))
        for number, length in enumerate(lengths)
        if length >= request.first
    ]
    if not spans:
        raise DataError(f'{request.path} has no frame {request.first}: its frames are 1 to {max(lengths)}')
    return VideoPart(videos, spans)


def evaluation_splits(path: str) -> list[str]:
    """Those splits of a data set that a run is evaluated on when it is done."""
    root, layout = named_root(whole_set(path))
    return [split for split in _EVALUATION_SPLITS if split in layout_named(layout).splits(root)]


def whole_set(path: str) -> str:
    """LAYOUT:PATH or PATH without the range of frames."""
    return str(parse_request(path, 'data').path)


def model_colours(
    class_names: tuple[str, ...], told: Colours, start_names: tuple[str, ...] = (), start: Colours = ()
) -> Colours:
    """The colours of a model's classes: those the data tells, else those of start weights with the same
    classes, else evenly spread ones.
    """
    if told:
        return told
    return start if class_names == start_names else class_colours(class_names)


def data_name(path: str) -> str:
    """A data set in words, without the folder it lies in: its layout where that is given, else its name."""
    layout, separator, _ = path.partition(':')
    return layout if separator else Path(whole_set(path)).name
