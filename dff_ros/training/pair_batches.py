"""Batches of pairs of current and key frame as a pure function of seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.pair_config import PairConfig
from dff_ros.data.paired_transforms import augment_pair
from dff_ros.data.pairs import Pair, PairSample, PairSampler, PairSource
from dff_ros.training.batch_stream import BatchStream

_AUGMENT = 4
"""Separates this random stream from others of the same seed."""

Augmented = tuple[Pair, PairSample]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Frames are uint8 RGB; labels, uint8, are 255 where the current frame has none.

    `flow_B2HW` (float32, backward, pixels) and `is_visible_BHW` are there if wanted: a pair whose exact flow
    is not known is nowhere visible. `offsets_B` counts spacings from key to current.
    """

    current_BHW3: NDArray[np.uint8]
    key_BHW3: NDArray[np.uint8]
    labels_BHW: NDArray[np.uint8]
    offsets_B: NDArray[np.int64]
    flow_B2HW: NDArray[np.float32] | None
    is_visible_BHW: NDArray[np.bool_] | None


class PairBatches(BatchStream[Augmented, PairBatch]):
    """Random batches of pairs; `batch(step)` depends on the seed and the step only.

    `with_flow` asks for exact flow. Raises ConfigError as PairSampler.
    """

    def __init__(
        self,
        sources: Sequence[PairSource],
        pairs: PairConfig,
        config: AugmentConfig,
        crop: tuple[int, int],
        seed: int,
        workers: int,
        with_flow: bool = False,
    ) -> None:
        self._sampler = PairSampler(sources, pairs, seed)
        super().__init__(workers)
        self._config = config
        self._independent_colour = pairs.independent_colour
        self._crop = crop
        self._seed = seed
        self._with_flow = with_flow

    def picks(self, step: int) -> list[Pair]:
        """The pairs of a step's batch."""
        return self._sampler.picks(step)

    def jobs(self, step: int) -> list[partial[Augmented]]:
        return [partial(self._make, step, slot, pair) for slot, pair in enumerate(self.picks(step))]

    def _make(self, step: int, slot: int, pair: Pair) -> Augmented:
        rng = np.random.default_rng((self._seed, _AUGMENT, step, slot))
        sample = self._sampler.read(pair, self._with_flow)
        return pair, augment_pair(self._config, rng, sample, self._crop, self._independent_colour)

    def gather(self, items: Sequence[Augmented]) -> PairBatch:
        pairs, samples = zip(*items, strict=True)
        blank = np.zeros((2, *self._crop), np.float32)
        flows = [blank if s.flow_2HW is None else s.flow_2HW for s in samples]
        visible = [blank[0] > 0 if s.is_visible_HW is None else s.is_visible_HW for s in samples]
        return PairBatch(
            current_BHW3=np.stack([sample.current_HW3 for sample in samples]),
            key_BHW3=np.stack([sample.key_HW3 for sample in samples]),
            labels_BHW=np.stack([sample.labels_HW for sample in samples]),
            offsets_B=np.array([pair.offset for pair in pairs], np.int64),
            flow_B2HW=np.stack(flows) if self._with_flow else None,
            is_visible_BHW=np.stack(visible) if self._with_flow else None,
        )
