"""Batches as a pure function of seed and step, prepared ahead by threads.

Decoding, affine maps and colour changes run outside Python's lock, so threads are enough, and data sets that
are held in memory need no copies per worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.samples import LabelledImages, Sample
from dff_ros.data.transforms import augment

ItemT = TypeVar('ItemT')
BatchT = TypeVar('BatchT')

_BATCHES_AHEAD = 3
_SHUFFLE, _AUGMENT = 1, 2
"""They separate the random streams."""


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


class BatchStream(Generic[ItemT, BatchT]):
    """Batches made ahead by threads, one job for each item.

    A kind of training derives from it and gives `jobs` and `gather`. `batch(step)` must depend on the seed
    and the step only, so that a resumed run sees what an uninterrupted one sees.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix='batches')

    def jobs(self, step: int) -> list[Callable[[], ItemT]]:
        """What to run for each item of a step's batch, in any thread."""
        raise NotImplementedError

    def gather(self, items: list[ItemT]) -> BatchT:
        """A batch of the items in order."""
        raise NotImplementedError

    def batch(self, step: int) -> BatchT:
        """The batch of one step."""
        return self._collect(self._submit(step))

    def ahead(self, first: int, end: int) -> Iterator[BatchT]:
        """The batches of steps first .. end - 1, prepared while earlier ones are used."""
        waiting: deque[list[Future[ItemT]]] = deque()
        next_step = first
        for _ in range(first, end):
            while next_step < end and len(waiting) < _BATCHES_AHEAD:
                waiting.append(self._submit(next_step))
                next_step += 1
            yield self._collect(waiting.popleft())

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self, step: int) -> list[Future[ItemT]]:
        return [self._pool.submit(job) for job in self.jobs(step)]

    def _collect(self, futures: list[Future[ItemT]]) -> BatchT:
        return self.gather([future.result() for future in futures])


class Batches(BatchStream[tuple[NDArray[np.uint8], NDArray[np.uint8]], Batch]):
    """Random batches of given sources: each source is gone through in a new order every epoch."""

    def __init__(
        self, sources: Sequence[Source], config: AugmentConfig, crop: tuple[int, int], seed: int, workers: int
    ) -> None:
        super().__init__(workers)
        self._sources = [source for source in sources if source.per_batch > 0]
        self._config = config
        self._crop = crop
        self._seed = seed

    def jobs(self, step: int) -> list[Callable[[], tuple[NDArray[np.uint8], NDArray[np.uint8]]]]:
        """What makes each sample of a step's batch."""
        return [
            partial(self._make, step, slot, number, index)
            for slot, (number, index) in enumerate(self.picks(step))
        ]

    def gather(self, items: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> Batch:
        """A batch of (image, labels)."""
        images, labels = zip(*items, strict=True)
        return Batch(np.stack(images), np.stack(labels))

    def picks(self, step: int) -> list[tuple[int, int]]:
        """(source, index) of each sample of a step's batch."""
        return [
            (number, index)
            for number, source in enumerate(self._sources)
            for index in pick(self._seed, number, len(source.samples), source.per_batch, step)
        ]

    def _make(
        self, step: int, slot: int, number: int, index: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rng = np.random.default_rng((self._seed, _AUGMENT, step, slot))
        return augment(self._config, rng, self._sources[number].samples[index], self._crop)


def pick(seed: int, number: int, size: int, per_batch: int, step: int) -> list[int]:
    """Which samples of source `number`, of that size, are in a step's batch: a new order every epoch."""
    return [
        int(_order(seed, number, taken // size, size)[taken % size])
        for taken in range(step * per_batch, (step + 1) * per_batch)
    ]


@lru_cache(maxsize=8)
def _order(seed: int, number: int, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, _SHUFFLE, number, epoch)).permutation(size)
