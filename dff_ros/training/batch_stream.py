# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Batches prepared ahead by threads.

Decoding, affine maps and colour changes run outside Python's lock, so threads are enough, and data sets that
are held in memory need no copies per worker.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

_BATCHES_AHEAD = 3

ItemT = TypeVar('ItemT')
BatchT = TypeVar('BatchT')


class BatchStream(ABC, Generic[ItemT, BatchT]):
    """Makes the samples of a step's batch in threads; a batch is a pure function of the step."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix='batches')

    def batch(self, step: int, slots: range | None = None) -> BatchT:
        """The batch of one step, or only those of its samples: what one of several processes needs."""
        return self._collect(self._submit(step, slots))

    def ahead(self, first: int, end: int, slots: range | None = None) -> Iterator[BatchT]:
        """The batches of steps first .. end - 1, prepared while earlier ones are used; `slots` as above."""
        waiting: deque[list[Future[ItemT]]] = deque()
        next_step = first
        for _ in range(first, end):
            while next_step < end and len(waiting) < _BATCHES_AHEAD:
                waiting.append(self._submit(next_step, slots))
                next_step += 1
            yield self._collect(waiting.popleft())

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)

    @abstractmethod
    def jobs(self, step: int) -> Sequence[Callable[[], ItemT]]:
        """What makes each sample of the step's batch."""

    @abstractmethod
    def gather(self, items: Sequence[ItemT]) -> BatchT:
        """The samples as one batch."""

    def _submit(self, step: int, slots: range | None) -> list[Future[ItemT]]:
        jobs = self.jobs(step)
        return [self._pool.submit(jobs[slot]) for slot in (range(len(jobs)) if slots is None else slots)]

    def _collect(self, futures: Sequence[Future[ItemT]]) -> BatchT:
        return self.gather([future.result() for future in futures])
