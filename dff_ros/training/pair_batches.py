# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Batches of pairs of current and key frame as a pure function of seed and step.

A batch is put together from kinds of pairs: frames of videos, pairs made of images, rendered pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.box_config import BoxConfig
from dff_ros.data.order import shuffled
from dff_ros.data.pair_config import PairConfig
from dff_ros.data.pair_sample import ExactPairs, PairSample
from dff_ros.data.paired_transforms import augment_pair
from dff_ros.data.pairs import Pair, PairSampler, PairSource
from dff_ros.training.batch_stream import BatchStream
from dff_ros.training.pair_batch import PairBatch, stack_pairs

_AUGMENT = 4
"""Separates this random stream from others of the same seed."""
_FLIP = 11
"""The same."""
_AUGMENT_RENDERED = 12
"""The same."""
_BOXES = BoxConfig()


class PairKind(Protocol):
    """What makes some of the pairs of every batch."""

    def jobs(self, step: int) -> Sequence[Callable[[], PairSample]]:
        """What makes each pair of its share of a step's batch; all of one size."""
        ...


class PairBatches(BatchStream[PairSample, PairBatch]):
    """Batches of some kinds of pairs, in that order, for a model with these classes of boxes."""

    def __init__(
        self, kinds: Sequence[PairKind], workers: int, box_class_names: tuple[str, ...] = ()
    ) -> None:
        super().__init__(workers)
        self._kinds, self._box_class_names = kinds, box_class_names

    def jobs(self, step: int) -> list[Callable[[], PairSample]]:
        """What makes each pair of a step's batch."""
        return [job for kind in self._kinds for job in kind.jobs(step)]

    def gather(self, items: Sequence[PairSample]) -> PairBatch:
        """The pairs as a batch."""
        return stack_pairs(items, self._box_class_names)


class VideoPairs:
    """Random crops of pairs of frames of videos, with exact flow where it is known and wanted.

    A scale of 1 is that at which a frame has the area of the crop; frames of which nothing is told always
    cover it.
    Raises ConfigError as PairSampler.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        pairs: PairConfig,
        config: AugmentConfig,
        crop: tuple[int, int],
        seed: int,
        with_flow: bool = True,
        boxes: BoxConfig = _BOXES,
    ) -> None:
        self._sampler = PairSampler(sources, pairs, seed)
        self._config = config
        self._independent_colour = pairs.independent_colour
        self._crop = crop
        self._seed = seed
        self._with_flow = with_flow
        self._boxes = boxes

    def picks(self, step: int) -> list[Pair]:
        """The pairs of a step's batch."""
        return self._sampler.picks(step)

    def jobs(self, step: int) -> list[Callable[[], PairSample]]:
        """What makes each pair of a step's batch."""
        return [partial(self._make, step, slot, pair) for slot, pair in enumerate(self.picks(step))]

    def _make(self, step: int, slot: int, pair: Pair) -> PairSample:
        rng = np.random.default_rng((self._seed, _AUGMENT, step, slot))
        sample = self._sampler.read(pair, self._with_flow)
        # Nothing is learnt from a rim without a picture.
        cover = sample.labels_HW is None and sample.boxes is None
        return augment_pair(
            self._config, rng, sample, self._crop, self._independent_colour, True, cover, self._boxes
        )


class MadePairs:
    """`per_batch` new pairs, in order."""

    def __init__(self, pairs: ExactPairs, per_batch: int) -> None:
        self._pairs, self._per_batch = pairs, per_batch

    def jobs(self, step: int) -> list[Callable[[], PairSample]]:
        """What makes each pair of a step's batch."""
        first = step * self._per_batch
        return [partial(self._pairs.__getitem__, index) for index in range(first, first + self._per_batch)]


class _ShuffledPairs(ABC):
    """`per_batch` of a finite set, in a new order every epoch."""

    def __init__(self, pairs: ExactPairs, per_batch: int, seed: int) -> None:
        self._pairs, self._per_batch, self._seed = pairs, per_batch, seed

    def jobs(self, step: int) -> list[Callable[[], PairSample]]:
        """What makes each pair of a step's batch."""
        first = step * self._per_batch
        chosen = shuffled(self._seed, 0, len(self._pairs), range(first, first + self._per_batch))
        return [partial(self._make, step, slot, index) for slot, index in enumerate(chosen)]

    @abstractmethod
    def _make(self, step: int, slot: int, index: int) -> PairSample:
        """Pair `index` of the set, as it goes into that slot."""


class RenderedPairs(_ShuffledPairs):
    """`per_batch` of a finite set, in a new order every epoch, mirrored at random."""

    def _make(self, step: int, slot: int, index: int) -> PairSample:
        pair = self._pairs[index]
        is_mirrored = np.random.default_rng((self._seed, _FLIP, step, slot)).random() < 0.5
        return pair.flipped() if is_mirrored else pair


class AugmentedPairs(_ShuffledPairs):
    """`per_batch` random crops of a finite set, in a new order every epoch; some of them still, as
    `pairs.same` and `pairs.max_offset` say. Without `has_labels` label maps are left out.
    """

    def __init__(
        self,
        pairs: ExactPairs,
        per_batch: int,
        config: PairConfig,
        augment: AugmentConfig,
        crop: tuple[int, int],
        seed: int,
        has_labels: bool = True,
        boxes: BoxConfig = _BOXES,
    ) -> None:
        super().__init__(pairs, per_batch, seed)
        self._boxes = boxes
        self._config, self._augment, self._crop, self._has_labels = config, augment, crop, has_labels

    def _make(self, step: int, slot: int, index: int) -> PairSample:
        rng = np.random.default_rng((self._seed, _AUGMENT_RENDERED, step, slot))
        pair = self._pairs[index]
        if not self._has_labels:
            pair = replace(pair, labels_HW=None)
        same, others = self._config.same, self._config.max_offset
        if others == 0 or rng.random() * (same + others) < same:
            pair = pair.still()
        independent = self._config.independent_colour
        return augment_pair(self._augment, rng, pair, self._crop, independent, fit=True, boxes=self._boxes)
