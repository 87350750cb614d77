# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The frames of videos as textures of made pairs."""

from __future__ import annotations

from dff_ros.data.layers import Texture
from dff_ros.data.pairs import currents_of
from dff_ros.data.video_set import VideoSet, read_labels


class VideoTextures:
    """The annotated frames of `labelled`, with their label maps, then all frames of `unlabelled`."""

    def __init__(self, labelled: VideoSet | None, unlabelled: VideoSet | None) -> None:
        self._where: list[tuple[VideoSet, int, int, bool]] = []
        for videos, any_frame in ((labelled, False), (unlabelled, True)):
            if videos is None:
                continue
            for sequence, index in currents_of(videos, any_frame):
                has_labels = not any_frame and index in videos.sequences[sequence].labelled
                self._where.append((videos, sequence, index, has_labels))

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Texture:
        videos, sequence, number, has_labels = self._where[index]
        frame = videos.frame(sequence, number)
        return Texture(frame.image_HW3, read_labels(videos, sequence, number, frame) if has_labels else None)
