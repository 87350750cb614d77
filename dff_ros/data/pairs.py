# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Pairs of current and key frame as the paper draws them, a pure function of seed and step.

Zhu, Xiong, Dai, Yuan, Wei, "Deep Feature Flow for Video Recognition", CVPR 2017, section 4: the key frame is
any of the frames 0 to 9 before a labelled one, labelled itself or not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import renamed
from dff_ros.data.order import shuffled
from dff_ros.data.pair_config import PairConfig
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.video_set import FlowVideoSet, SequenceInfo, VideoSet, read_labels
from dff_ros.errors import ConfigError, DataError

_KEYS = 3
"""Separates this random stream from others of the same seed."""


@dataclass(frozen=True, slots=True)
class PairSource:
    """A video set and how many pairs of each batch come from it.

    `any_current`: every frame is a current one, with labels or boxes or without.
    """

    videos: VideoSet
    per_batch: int
    any_current: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Frame numbers within a sequence of a source; `offset` counts spacings from key to current, 0..9."""

    source: int
    sequence: int
    current: int
    key: int
    offset: int


def keys_of(info: SequenceInfo, current: int, config: PairConfig) -> list[tuple[int, int]]:
    """The (offset, key) that frame `current` can have, by offset; the first is (0, current).

    Spacings of a length in seconds take the nearest frame, if it is less than half a spacing away.
    """
    earliest_ns = info.stamps_ns[current] - config.max_gap_s * 1e9
    keys = _spaced_keys(info, current, config)
    return [
        (offset, key) for offset, key in keys if config.max_gap_s == 0 or info.stamps_ns[key] >= earliest_ns
    ]


def _spaced_keys(info: SequenceInfo, current: int, config: PairConfig) -> list[tuple[int, int]]:
    if config.spacing_s == 0:
        offsets = range(min(config.max_offset, current // config.spacing) + 1)
        return [(offset, current - offset * config.spacing) for offset in offsets]
    spacing_ns = config.spacing_s * 1e9
    keys = [(0, current)]
    for offset in range(1, config.max_offset + 1):
        wanted = info.stamps_ns[current] - offset * spacing_ns
        after = bisect_left(info.stamps_ns, wanted)
        near = [index for index in (after - 1, after) if 0 <= index < current]
        key = min(near, key=lambda index: abs(info.stamps_ns[index] - wanted), default=None)
        if key is not None and abs(info.stamps_ns[key] - wanted) < spacing_ns / 2:
            keys.append((offset, key))
    return keys


class PairSampler:
    """Which pairs each training step takes: every current frame once an epoch, its key frame drawn from those
    it can have.

    Raises ConfigError as `check_usable`.
    """

    def __init__(self, sources: Sequence[PairSource], config: PairConfig, seed: int) -> None:
        self.sources = [source for source in sources if source.per_batch > 0]
        self._config, self._seed = config, seed
        for source in self.sources:
            check_usable(source.videos, config, source.any_current)
        self._currents = [currents_of(source.videos, source.any_current) for source in self.sources]

    def __len__(self) -> int:
        """How many current frames there are in all sources."""
        return sum(map(len, self._currents))

    def picks(self, step: int) -> list[Pair]:
        """The pairs of a step's batch."""
        found: list[Pair] = []
        for number, source in enumerate(self.sources):
            currents = self._currents[number]
            positions = range(step * source.per_batch, (step + 1) * source.per_batch)
            for index in shuffled(self._seed, number, len(currents), positions):
                sequence, current = currents[index]
                keys = keys_of(source.videos.sequences[sequence], current, self._config)
                rng = np.random.default_rng((self._seed, _KEYS, step, len(found)))
                offset, key = _draw_key(rng, keys, self._config.same)
                found.append(Pair(number, sequence, current, key, offset))
        return found

    def read(self, pair: Pair, with_flow: bool = False) -> PairSample:
        """The frames, labels and exact flow (if wanted and known) of a pair; DataError as the data set."""
        return read_pair(self.sources[pair.source].videos, pair, with_flow)


def currents_of(videos: VideoSet, any_current: bool) -> list[tuple[int, int]]:
    """(sequence, index) of the frames with labels or boxes, or of all."""
    return [
        (number, index)
        for number, info in enumerate(videos.sequences)
        for index in (range(len(info)) if any_current else info.annotated)
    ]


def has_pairs(videos: VideoSet, config: PairConfig, any_current: bool) -> bool:
    """Whether there is a current frame, and, unless `max_offset` is 0, one that can have another as key."""
    return any(
        config.max_offset == 0 or len(keys_of(videos.sequences[number], index, config)) > 1
        for number, index in currents_of(videos, any_current)
    )


def check_usable(videos: VideoSet, config: PairConfig, any_current: bool, name: str = 'the data set') -> None:
    """ConfigError where a set has no current frame, or none that any other frame can be the key of."""
    currents = currents_of(videos, any_current)
    if not currents:
        kind = '' if any_current else ' with labels, or boxes of the classes wanted,'
        raise ConfigError(f'{name} has no frames{kind} to draw pairs for')
    if not has_pairs(videos, config, any_current):
        spacing = f'{config.spacing_s:g} s' if config.spacing_s else f'{config.spacing} frames'
        within = f' and at most {config.max_gap_s:g} s' if config.max_gap_s else ''
        raise ConfigError(
            f'spacing: no current frame of {name} has any frame {spacing}{within} before it in its sequence; '
            f'choose another spacing or max_gap_s, or max_offset 0 for per-frame training'
        )


def _draw_key(rng: np.random.Generator, keys: Sequence[tuple[int, int]], same: float) -> tuple[int, int]:
    """The first of the keys with weight `same`, the others with weight 1."""
    if len(keys) == 1 or rng.random() * (same + len(keys) - 1) < same:
        return keys[0]
    return keys[int(rng.integers(1, len(keys)))]


def read_pair(videos: VideoSet, pair: Pair, with_flow: bool = False) -> PairSample:
    """The frames, labels and exact flow (if wanted and known) of a pair; DataError where sizes differ."""
    current = videos.frame(pair.sequence, pair.current)
    is_same = pair.key == pair.current
    key = current if is_same else videos.frame(pair.sequence, pair.key)
    size = current.image_HW3.shape[:2]
    if key.image_HW3.shape[:2] != size:
        raise DataError(
            f'{key.name} is {key.image_HW3.shape[1]}x{key.image_HW3.shape[0]} pixels, {current.name} of the '
            f'same sequence {size[1]}x{size[0]}: they must be equal'
        )
    info = videos.sequences[pair.sequence]
    is_labelled = pair.current in info.labelled
    labels = read_labels(videos, pair.sequence, pair.current, current) if is_labelled else None
    flow: NDArray[np.float32] | None = None
    is_visible: NDArray[np.bool_] | None = None
    if with_flow and is_same:
        flow, is_visible = np.zeros((2, *size), np.float32), np.ones(size, np.bool_)
    elif with_flow and isinstance(videos, FlowVideoSet):
        flow, is_visible = videos.flow(pair.sequence, pair.current, pair.key)
    boxes = videos.boxes(pair.sequence, pair.current) if pair.current in info.boxed else None
    return PairSample(
        current.name,
        current.image_HW3,
        key.image_HW3,
        labels,
        flow,
        is_visible,
        pair.offset,
        boxes=None if boxes is None else renamed(boxes, videos.box_class_names, info.box_classes),
        box_classes=() if boxes is None else info.box_classes,
    )
