# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The pairs of joint training: labelled and unlabelled video, pairs made of images, the simulated street."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES, Colours
from dff_ros.data.motion import LayeredPairs
from dff_ros.data.pairs import PairSource, has_pairs
from dff_ros.data.textures import VideoTextures
from dff_ros.data.video_set import LabelledFrames
from dff_ros.training.joint_data_config import LABELLED, MADE, STREET, UNLABELLED, JointDataConfig
from dff_ros.training.joint_videos import open_joint_videos
from dff_ros.training.pair_batches import AugmentedPairs, MadePairs, PairBatches, PairKind, VideoPairs
from dff_ros.training.street import HELD_OUT_STREET, rendered_pairs

_HELD_OUT_STREAM = 1
"""Of the made pairs; training has 0."""
_MOST_HELD_OUT_STREET = 32
_AS_IT_IS = AugmentConfig(
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    gamma=0.0,
    blur=0.0,
    noise=0.0,
    scale_min=1.0,
    scale_max=1.0,
    flip=0.0,
)


@dataclass(frozen=True)
class JointData:
    """`held_out` has batches of one kind each, without augmentation and without end; its frames are never in
    `train`. `labelled` are the frames of training with label maps, None without; `class_names` what these
    mean (empty: there are none), `class_colours` how the data draws them (empty: it does not say);
    `box_class_names` are the classes of boxes (empty: no detection).
    """

    train: PairBatches
    held_out: dict[str, PairBatches]
    labelled: LabelledFrames | None
    class_names: tuple[str, ...]
    class_colours: Colours = ()
    box_class_names: tuple[str, ...] = ()

    def close(self) -> None:
        """Stop the threads."""
        for batches in (self.train, *self.held_out.values()):
            batches.close()


def open_joint_data(
    data: JointDataConfig,
    augment: AugmentConfig,
    crop: tuple[int, int],
    seed: int,
    batch: int,
    workers: int,
    street_cache: Path,
) -> JointData:
    """Everything a run is trained and validated on; batches are pure functions of seed and step.

    Opens data sets, unpacks video files and renders the street where that was not done before. Raises
    ConfigError and DataError that name what is missing, damaged, or does not go together.
    """
    return _Opener(data, augment, crop, seed, batch, workers, street_cache).open()


class _Opener:
    def __init__(
        self,
        data: JointDataConfig,
        augment: AugmentConfig,
        crop: tuple[int, int],
        seed: int,
        batch: int,
        workers: int,
        street_cache: Path,
    ) -> None:
        self._data, self._augment, self._crop, self._seed = data, augment, crop, seed
        self._batch, self._workers, self._street_cache = batch, workers, street_cache
        self._counts = data.per_batch(batch)
        self._videos = open_joint_videos(data, crop, self._counts)

    def open(self) -> JointData:
        videos = self._videos
        train = [self._video_kind(), *self._other_kinds()]
        return JointData(
            self._batches([kind for kind in train if kind is not None]),
            {name: self._batches([kind]) for name, kind in self._held_out_kinds().items()},
            videos.kinds[LABELLED].labelled,
            videos.class_names,
            videos.class_colours,
            videos.box_class_names,
        )

    def _batches(self, kinds: Sequence[PairKind]) -> PairBatches:
        return PairBatches(kinds, self._workers, self._videos.box_class_names)

    def _video_kind(self) -> PairKind | None:
        sources = [
            PairSource(found.train, self._counts[kind], kind == UNLABELLED)
            for kind, found in self._videos.kinds.items()
            if found.train is not None and kind in self._counts
        ]
        if not sources:
            return None
        data = self._data
        return VideoPairs(sources, data.pairs, self._augment, self._crop, self._seed, boxes=data.boxes)

    def _other_kinds(self) -> list[PairKind]:
        kinds: list[PairKind] = []
        if MADE in self._counts:
            textures = VideoTextures(self._videos.kinds[LABELLED].train, self._videos.images.train)
            kinds.append(MadePairs(self._made(textures, self._augment, 0), self._counts[MADE]))
        if STREET in self._counts:
            kinds.append(self._street(self._data.street, self._seed, self._counts[STREET], self._augment))
        return kinds

    def _held_out_kinds(self) -> dict[str, PairKind]:
        data, batch = self._data, self._batch
        kinds: dict[str, PairKind] = {}
        for name, found in self._videos.kinds.items():
            is_any = name == UNLABELLED
            if found.held_out is not None and has_pairs(found.held_out, data.pairs, is_any):
                source = PairSource(found.held_out, batch, is_any)
                kinds[name] = VideoPairs(
                    [source], data.pairs, _AS_IT_IS, self._crop, self._seed, boxes=data.boxes
                )
        textures = VideoTextures(self._videos.kinds[LABELLED].held_out, self._videos.images.held_out)
        if MADE in self._counts and len(textures):
            kinds[MADE] = MadePairs(self._made(textures, _AS_IT_IS, _HELD_OUT_STREAM), batch)
        if STREET in self._counts:
            seed = self._seed + HELD_OUT_STREET
            num_pairs = min(data.street, _MOST_HELD_OUT_STREET)
            kinds[STREET] = self._street(num_pairs, seed, batch, _AS_IT_IS)
        return kinds

    def _made(self, textures: VideoTextures, augment: AugmentConfig, stream: int) -> LayeredPairs:
        return LayeredPairs(
            textures,
            self._crop,
            self._data.motion,
            augment,
            self._seed,
            stream,
            independent_colour=self._data.pairs.independent_colour,
        )

    def _street(self, num_pairs: int, seed: int, per_batch: int, augment: AugmentConfig) -> PairKind:
        data = self._data
        spacing = max(data.pairs.max_offset, 1)
        with_boxes = not set(OBJECT_CLASSES).isdisjoint(self._videos.box_class_names)
        pairs = rendered_pairs(
            self._street_cache, num_pairs, seed, data.street_fps, spacing, self._crop, with_boxes
        )
        has_labels = self._videos.class_names == CAMVID_CLASSES
        return AugmentedPairs(pairs, per_batch, data.pairs, augment, self._crop, seed, has_labels, data.boxes)
