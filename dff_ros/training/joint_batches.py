"""The pairs of joint training: labelled and unlabelled video, pairs made of images, the simulated street."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES, Colours, class_colours
from dff_ros.data.kept_videos import (
    FrameMemory,
    KeptVideos,
    VideoPart,
    hold_out_labelled,
    hold_out_tail,
    whole_sequences,
)
from dff_ros.data.motion import LayeredPairs
from dff_ros.data.pairs import PairSource, check_usable, has_pairs
from dff_ros.data.textures import VideoTextures
from dff_ros.data.unlabelled import open_unlabelled, parse_requests
from dff_ros.data.video_set import LabelledFrames, VideoSet
from dff_ros.training.config import path_list
from dff_ros.training.joint_data_config import LABELLED, MADE, STREET, UNLABELLED, JointDataConfig
from dff_ros.training.labelled_data import LabelledSets, open_labelled
from dff_ros.training.pair_batches import AugmentedPairs, MadePairs, PairBatches, PairKind, VideoPairs
from dff_ros.training.progress import progress_bar
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


@dataclass(frozen=True)
class _Videos:
    """Video of one kind: what is trained on and what is held out; None where there is nothing of it."""

    train: VideoPart | None = None
    held_out: VideoPart | None = None

    @property
    def labelled(self) -> LabelledFrames | None:
        """The frames of training with label maps."""
        frames = None if self.train is None else LabelledFrames(self.train)
        return frames if frames else None


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
        self._memory = FrameMemory(data.memory_mib)

    def open(self) -> JointData:
        classes, unlabelled_sets = self._open_labelled(), self._open_unlabelled('unlabelled')
        self._class_names = classes.class_names
        self._box_classes = self._choose_boxes((*classes.sets, *unlabelled_sets))
        labelled = self._labelled_videos(classes.sets)
        unlabelled = self._unlabelled_videos(unlabelled_sets)
        images = self._unlabelled_videos(self._open_unlabelled('made_images'))
        videos = {LABELLED: labelled, UNLABELLED: unlabelled}
        train = [self._video_kind(videos, self._counts), *self._other_kinds(labelled, images)]
        return JointData(
            self._batches([kind for kind in train if kind is not None]),
            {name: self._batches([kind]) for name, kind in self._held_out_kinds(videos, images).items()},
            labelled.labelled,
            classes.class_names,
            classes.class_colours,
            self._box_classes,
        )

    def _batches(self, kinds: Sequence[PairKind]) -> PairBatches:
        return PairBatches(kinds, self._workers, self._box_classes)

    def _open_labelled(self) -> LabelledSets:
        """The labelled sets, and the classes of their labels or else those of the street."""
        data = self._data
        found = open_labelled(path_list(data.labelled), data.split, 'data.labelled', data.boxes.is_used)
        if found.class_names or not data.street:
            return found
        return replace(found, class_names=CAMVID_CLASSES, class_colours=class_colours(CAMVID_CLASSES))

    def _open_unlabelled(self, setting: str) -> list[VideoSet]:
        sets: list[VideoSet] = []
        is_used = {'unlabelled': UNLABELLED, 'made_images': MADE}[setting] in self._counts
        for request in parse_requests(getattr(self._data, setting), f'data.{setting}') if is_used else ():
            with progress_bar(f'unpacking {request.path.name}') as bar:
                videos = open_unlabelled(request, Path(self._data.video_cache), bar.show)
            if setting == 'unlabelled':
                check_usable(videos, self._data.pairs, True, str(request.path))
            sets.append(videos)
        return sets

    def _choose_boxes(self, sets: Sequence[VideoSet]) -> tuple[str, ...]:
        """The model's classes of boxes, of those that the data has."""
        known = [name for videos in sets for info in videos.sequences for name in info.box_classes]
        return self._data.boxes.chosen((*known, *(OBJECT_CLASSES if STREET in self._counts else ())))

    def _kept(self, sets: Sequence[VideoSet]) -> KeptVideos:
        return KeptVideos(sets, self._crop[0] * self._crop[1], self._memory, self._box_classes)

    def _labelled_videos(self, sets: Sequence[VideoSet]) -> _Videos:
        videos, data = self._kept(sets), self._data
        for path, which in zip(path_list(data.labelled), videos.sets, strict=True):
            check_usable(whole_sequences(videos, which), data.pairs, False, path)
        return _Videos(*hold_out_labelled(videos, data.held_out, videos.sets)) if sets else _Videos()

    def _unlabelled_videos(self, sets: Sequence[VideoSet]) -> _Videos:
        return _Videos(*hold_out_tail(self._kept(sets), self._data.held_out)) if sets else _Videos()

    def _video_kind(self, videos: dict[str, _Videos], counts: dict[str, int]) -> PairKind | None:
        sources = [
            PairSource(found.train, counts[kind], kind == UNLABELLED)
            for kind, found in videos.items()
            if found.train is not None and kind in counts
        ]
        if not sources:
            return None
        data = self._data
        return VideoPairs(sources, data.pairs, self._augment, self._crop, self._seed, boxes=data.boxes)

    def _other_kinds(self, labelled: _Videos, images: _Videos) -> list[PairKind]:
        kinds: list[PairKind] = []
        if MADE in self._counts:
            textures = VideoTextures(labelled.train, images.train)
            kinds.append(MadePairs(self._made(textures, self._augment, 0), self._counts[MADE]))
        if STREET in self._counts:
            kinds.append(self._street(self._data.street, self._seed, self._counts[STREET], self._augment))
        return kinds

    def _held_out_kinds(self, videos: dict[str, _Videos], images: _Videos) -> dict[str, PairKind]:
        data, batch = self._data, self._batch
        kinds: dict[str, PairKind] = {}
        for name, found in videos.items():
            is_any = name == UNLABELLED
            if found.held_out is not None and has_pairs(found.held_out, data.pairs, is_any):
                source = PairSource(found.held_out, batch, is_any)
                kinds[name] = VideoPairs(
                    [source], data.pairs, _AS_IT_IS, self._crop, self._seed, boxes=data.boxes
                )
        textures = VideoTextures(videos[LABELLED].held_out, images.held_out)
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
        with_boxes = not set(OBJECT_CLASSES).isdisjoint(self._box_classes)
        pairs = rendered_pairs(
            self._street_cache, num_pairs, seed, data.street_fps, spacing, self._crop, with_boxes
        )
        has_labels = self._class_names == CAMVID_CLASSES
        return AugmentedPairs(pairs, per_batch, data.pairs, augment, self._crop, seed, has_labels, data.boxes)
