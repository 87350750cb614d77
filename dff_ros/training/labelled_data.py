"""The labelled data sets of a run: opened, and found to have labels of the same classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dff_ros.data.classes import Colours, class_colours
from dff_ros.data.file_videos import FileVideos
from dff_ros.data.layouts import layout_named, named_root, open_videos
from dff_ros.errors import ConfigError

_EVALUATION_SPLITS = ('test', 'val')


@dataclass(frozen=True)
class LabelledSets:
    """`class_colours` are those that the first set with any tells; empty: none does."""

    sets: tuple[FileVideos, ...]
    class_names: tuple[str, ...]
    class_colours: Colours


def open_labelled(paths: Sequence[str], split: str, setting: str) -> LabelledSets:
    """That split of each data set, LAYOUT:PATH or PATH.

    DataError as `open_videos`; ConfigError, naming the setting, where a set has no labels or other classes
    than those before it.
    """
    sets: list[FileVideos] = []
    for path in paths:
        videos = open_videos(path, split)
        if not any(info.labelled for info in videos.sequences):
            raise ConfigError(
                f'{setting}: {path} has no labelled frames in {split}; "dff data check" shows which splits do'
            )
        if sets and videos.class_names != sets[0].class_names:
            raise ConfigError(
                f'{setting}: {path} has the classes {", ".join(videos.class_names)}, those before '
                f'{", ".join(sets[0].class_names)}; they must be the same, in the same order: write the '
                f'labels of one with the ids of the other, or leave it out'
            )
        sets.append(videos)
    colours = next((videos.class_colours for videos in sets if videos.class_colours), ())
    return LabelledSets(tuple(sets), sets[0].class_names if sets else (), colours)


def evaluation_splits(path: str) -> list[str]:
    """Those splits of a data set that a run is evaluated on when it is done."""
    root, layout = named_root(path)
    return [split for split in _EVALUATION_SPLITS if split in layout_named(layout).splits(root)]


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
    return layout if separator else Path(path).name
