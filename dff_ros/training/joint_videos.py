# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The videos of joint training: opened, put together by kind, divided into training and held-out parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES, Colours, class_colours
from dff_ros.data.kept_videos import (
    FrameMemory,
    KeptVideos,
    VideoPart,
    hold_out_labelled,
    hold_out_tail,
    whole_sequences,
)
from dff_ros.data.pairs import check_usable
from dff_ros.data.unlabelled import open_unlabelled, parse_requests
from dff_ros.data.video_set import LabelledFrames, VideoSet
from dff_ros.training.config import path_list
from dff_ros.training.joint_data_config import BOXED, LABELLED, MADE, STREET, UNLABELLED, JointDataConfig
from dff_ros.training.labelled_data import open_labelled
from dff_ros.training.progress import progress_bar


@dataclass(frozen=True)
class VideoParts:
    """Video of one kind: what is trained on and what is held out; None where there is nothing of it."""

    train: VideoPart | None = None
    held_out: VideoPart | None = None

    @property
    def labelled(self) -> LabelledFrames | None:
        """The frames of training with label maps; None without any."""
        frames = None if self.train is None else LabelledFrames(self.train)
        return frames if frames else None


@dataclass(frozen=True)
class JointVideos:
    """`kinds`: the videos that pairs are taken of; `images`: those that pairs are made of besides the
    labelled ones. `class_names` and `class_colours` are of label maps, `box_class_names` of boxes.
    """

    kinds: Mapping[str, VideoParts]
    images: VideoParts
    class_names: tuple[str, ...]
    class_colours: Colours
    box_class_names: tuple[str, ...]


def open_joint_videos(data: JointDataConfig, crop: tuple[int, int], counts: Mapping[str, int]) -> JointVideos:
    """The videos of the kinds of pairs that a batch has (`counts`), in frames of at most the area of a crop.

    Unpacks video files where that was not done before. Raises ConfigError and DataError that name what is
    missing, damaged, or does not go together.
    """
    return _Opener(data, crop, counts).open()


@dataclass
class _Opener:
    data: JointDataConfig
    crop: tuple[int, int]
    counts: Mapping[str, int]
    class_names: tuple[str, ...] = ()
    class_colours: Colours = ()
    box_class_names: tuple[str, ...] = ()
    memory: FrameMemory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = FrameMemory(self.data.memory_mib)

    def open(self) -> JointVideos:
        annotated = {kind: self._open_annotated(kind) for kind in (LABELLED, BOXED)}
        unlabelled = self._open_unlabelled('unlabelled', UNLABELLED)
        if not self.class_names and self.data.street:
            self.class_names, self.class_colours = CAMVID_CLASSES, class_colours(CAMVID_CLASSES)
        self.box_class_names = self._choose_boxes((*annotated[LABELLED], *annotated[BOXED], *unlabelled))
        kinds = {kind: self._annotated_parts(kind, sets) for kind, sets in annotated.items()}
        kinds[UNLABELLED] = self._unlabelled_parts(unlabelled)
        images = self._unlabelled_parts(self._open_unlabelled('made_images', MADE))
        return JointVideos(kinds, images, self.class_names, self.class_colours, self.box_class_names)

    def _open_annotated(self, kind: str) -> Sequence[VideoSet]:
        """The sets of the setting of that name, whose labels are of one list of classes."""
        setting, with_boxes = f'data.{kind}', self.data.boxes.is_used
        found = open_labelled(self._paths(kind), self.data.split, setting, with_boxes, self.class_names)
        self.class_names = found.class_names
        self.class_colours = self.class_colours or found.class_colours
        return found.sets

    def _paths(self, kind: str) -> list[str]:
        """Labelled ones serve the made pairs too, whatever their own share."""
        return path_list(getattr(self.data, kind)) if kind == LABELLED or kind in self.counts else []

    def _open_unlabelled(self, setting: str, kind: str) -> list[VideoSet]:
        sets: list[VideoSet] = []
        text = getattr(self.data, setting) if kind in self.counts else ''
        for request in parse_requests(text, f'data.{setting}'):
            with progress_bar(f'unpacking {request.path.name}') as bar:
                videos = open_unlabelled(request, Path(self.data.video_cache), bar.show)
            if kind == UNLABELLED:
                check_usable(videos, self.data.pairs, True, str(request.path))
            sets.append(videos)
        return sets

    def _choose_boxes(self, sets: Sequence[VideoSet]) -> tuple[str, ...]:
        """The model's classes of boxes, of those that the data has."""
        known = [name for videos in sets for info in videos.sequences for name in info.box_classes]
        return self.data.boxes.chosen((*known, *(OBJECT_CLASSES if STREET in self.counts else ())))

    def _annotated_parts(self, kind: str, sets: Sequence[VideoSet]) -> VideoParts:
        videos = self._kept(sets)
        for path, which in zip(self._paths(kind), videos.sets, strict=True):
            check_usable(whole_sequences(videos, which), self.data.pairs, False, path)
        return self._parts(videos, lambda videos, share: hold_out_labelled(videos, share, videos.sets))

    def _unlabelled_parts(self, sets: Sequence[VideoSet]) -> VideoParts:
        return self._parts(self._kept(sets), hold_out_tail)

    def _kept(self, sets: Sequence[VideoSet]) -> KeptVideos:
        return KeptVideos(sets, self.crop[0] * self.crop[1], self.memory, self.box_class_names)

    def _parts(
        self, videos: KeptVideos, hold_out: Callable[[KeptVideos, float], tuple[VideoPart, VideoPart]]
    ) -> VideoParts:
        return VideoParts(*hold_out(videos, self.data.held_out)) if videos.sequences else VideoParts()
