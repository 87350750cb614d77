# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Video sets that are files: what a layout finds in its folders, and the reader of all layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.classes import Colours
from dff_ros.data.findings import Finding
from dff_ros.data.images import read_image
from dff_ros.data.label_files import LabelCoding, read_values
from dff_ros.data.video_set import Boxes, SequenceInfo, VideoFrame


@dataclass(frozen=True, slots=True)
class LabelFile:
    """A label map and what its values mean."""

    path: Path
    coding: LabelCoding


class BoxFile(Protocol):
    """A file that boxes are read from when they are needed."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def read(self) -> Boxes:
        """The boxes of one frame; DataError where the file cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class FrameFile:
    """A frame, its label map and its boxes (or the file that has them), where there are any."""

    path: Path
    stamp_ns: int
    label: LabelFile | None = None
    boxes: Boxes | BoxFile | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """The files of one uninterrupted sequence; `size` (height, width) if a file tells it."""

    name: str
    frames: tuple[FrameFile, ...]
    size: tuple[int, int] | None = None


@dataclass(slots=True)
class Scan:
    """What a layout found of one split, without opening an image; `class_colours` empty: it tells none."""

    class_names: tuple[str, ...] = ()
    box_class_names: tuple[str, ...] = ()
    class_colours: Colours = ()
    clips: list[Clip] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def report(self, kind: str, where: Path | str, detail: str = '') -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, str(where), detail))


class Layout(Protocol):
    """How a data set lies in folders; each is a module of `dff_ros.data.layouts`."""

    def matches(self, root: Path) -> bool:
        """Whether the folder looks like it."""
        ...

    def splits(self, root: Path) -> tuple[str, ...]:
        """The splits that are there."""
        ...

    def scan(self, root: Path, split: str) -> Scan:
        """The files of one split and what is wrong with their names and lists; never raises DataError."""
        ...


class FileVideos:
    """The VideoSet of a scan."""

    def __init__(self, scan: Scan) -> None:
        self._clips = tuple(scan.clips)
        self.class_colours = scan.class_colours
        self.class_names = scan.class_names
        self.box_class_names = scan.box_class_names
        self.sequences: Sequence[SequenceInfo] = tuple(
            _info_of(clip, scan.box_class_names) for clip in self._clips
        )

    def frame(self, sequence: int, index: int) -> VideoFrame:
        """One frame; DataError where the file cannot be decoded."""
        file = self._clips[sequence].frames[index]
        return VideoFrame(str(file.path), read_image(file.path), file.stamp_ns)

    def labels(self, sequence: int, index: int) -> NDArray[np.uint8] | None:
        """Class ids; DataError where the file cannot be decoded or has values outside the classes."""
        label = self._clips[sequence].frames[index].label
        return None if label is None else label.coding.decode(read_values(label.path), label.path)

    def boxes(self, sequence: int, index: int) -> Boxes | None:
        """The boxes of the frame, if its data set has any; DataError where their file cannot be used."""
        boxes = self._clips[sequence].frames[index].boxes
        return boxes if boxes is None or isinstance(boxes, Boxes) else boxes.read()


def _info_of(clip: Clip, box_class_names: tuple[str, ...]) -> SequenceInfo:
    boxed = tuple(index for index, frame in enumerate(clip.frames) if frame.boxes is not None)
    return SequenceInfo(
        clip.name,
        tuple(frame.stamp_ns for frame in clip.frames),
        tuple(index for index, frame in enumerate(clip.frames) if frame.label is not None),
        boxed,
        box_class_names if boxed else (),
    )


def cut(
    name: str, frames: list[FrameFile], parts: list[range], size: tuple[int, int] | None = None
) -> list[Clip]:
    """The uninterrupted parts of a sequence as clips `name`, `name#2`, ..."""
    return [
        Clip(name if not number else f'{name}#{number + 1}', tuple(frames[part.start : part.stop]), size)
        for number, part in enumerate(parts)
    ]
