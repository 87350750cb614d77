# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Batches of single frames as a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.order import shuffled
from dff_ros.data.samples import LabelledImages, Sample
from dff_ros.data.transforms import augment
from dff_ros.training.batch_stream import BatchStream

_AUGMENT = 2
"""Separates this random stream from others of the same seed."""

Augmented = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Batch:
    """`images_BHW3` uint8 RGB and `labels_BHW` uint8."""

    images_BHW3: NDArray[np.uint8]
    labels_BHW: NDArray[np.uint8]


class InMemory:
    """A data set read once and kept: decoding a file costs more than the whole augmentation."""

    def __init__(self, source: LabelledImages, workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            self._samples: list[Sample] = list(pool.map(source.__getitem__, range(len(source))))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


@dataclass(frozen=True, slots=True)
class Source:
    """A data set and how many samples of each batch come from it."""

    samples: LabelledImages
    per_batch: int


class Batches(BatchStream[Augmented, Batch]):
    """Random batches of given sources: each source is gone through in a new order every epoch.

    `batch(step)` depends on the seed and the step only, so a resumed run sees what an uninterrupted one sees.
    """

    def __init__(
        self, sources: Sequence[Source], config: AugmentConfig, crop: tuple[int, int], seed: int, workers: int
    ) -> None:
        super().__init__(workers)
        self._sources = [source for source in sources if source.per_batch > 0]
        self._config = config
        self._crop = crop
        self._seed = seed

    def picks(self, step: int) -> list[tuple[int, int]]:
        """(source, index) of each sample of a step's batch."""
        return [
            (number, index)
            for number, source in enumerate(self._sources)
            for index in shuffled(
                self._seed,
                number,
                len(source.samples),
                range(step * source.per_batch, (step + 1) * source.per_batch),
            )
        ]

    def jobs(self, step: int) -> list[partial[Augmented]]:
        return [
            partial(self._make, step, slot, number, index)
            for slot, (number, index) in enumerate(self.picks(step))
        ]

    def _make(self, step: int, slot: int, number: int, index: int) -> Augmented:
        rng = np.random.default_rng((self._seed, _AUGMENT, step, slot))
        sample = self._sources[number].samples[index]
        return augment(self._config, rng, sample, self._crop, fit=True)

    def gather(self, items: Sequence[Augmented]) -> Batch:
        images, labels = zip(*items, strict=True)
        return Batch(np.stack(images), np.stack(labels))
