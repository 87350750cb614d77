"""Batches of image pairs with exact flow, as a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.flow_pair import FlowPair, FlowPairs
from dff_ros.data.order import shuffled
from dff_ros.training.batch_stream import BatchStream

_FLIP = 11
"""It separates the random stream."""


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """`current_BHW3`, `key_BHW3`: uint8 RGB; `flow_B2HW`: float32 in pixels; `is_valid_BHW`: bool."""

    current_BHW3: NDArray[np.uint8]
    key_BHW3: NDArray[np.uint8]
    flow_B2HW: NDArray[np.float32]
    is_valid_BHW: NDArray[np.bool_]


class FlowBatches(BatchStream[FlowPair, FlowBatch]):
    """`num_made` new pairs of `made`, in order, and `num_rendered` of a finite set, in a new order every
    epoch and mirrored at random. None where its number is 0.
    """

    def __init__(
        self,
        made: FlowPairs | None,
        num_made: int,
        rendered: FlowPairs | None,
        num_rendered: int,
        seed: int,
        workers: int,
    ) -> None:
        super().__init__(workers)
        self._made, self._num_made = made, num_made
        self._rendered, self._num_rendered = rendered, num_rendered
        self._seed = seed

    def jobs(self, step: int) -> list[Callable[[], FlowPair]]:
        """What makes each pair of a step's batch."""
        jobs: list[Callable[[], FlowPair]] = []
        if self._made is not None:
            first = step * self._num_made
            jobs += [partial(self._made.__getitem__, index) for index in range(first, first + self._num_made)]
        if self._rendered is not None:
            size = len(self._rendered)
            first = step * self._num_rendered
            chosen = shuffled(self._seed, 0, size, range(first, first + self._num_rendered))
            jobs += [partial(self._mirrored, step, slot, index) for slot, index in enumerate(chosen)]
        return jobs

    def gather(self, items: Sequence[FlowPair]) -> FlowBatch:
        """A batch of the pairs."""
        return FlowBatch(
            np.stack([pair.current_HW3 for pair in items]),
            np.stack([pair.key_HW3 for pair in items]),
            np.stack([pair.flow_2HW for pair in items]),
            np.stack([pair.is_valid_HW for pair in items]),
        )

    def _mirrored(self, step: int, slot: int, index: int) -> FlowPair:
        pair = self._rendered[index]  # type: ignore[index]
        is_mirrored = np.random.default_rng((self._seed, _FLIP, step, slot)).random() < 0.5
        return pair.flipped() if is_mirrored else pair
