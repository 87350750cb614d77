# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How sure each pixel is, and which pixels have no answer: the rule behind a published label map.

docs/confidence.md states the rule; this module is all of it. In numpy, from two numbers per feature cell,
mostly below 1 ms at 640x480, so that it is the same for each flow source, runtime and consumer of the engine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.photometric import MAX_RESIDUAL
from dff_ros.config import SegmentationConfig, named_size
from dff_ros.errors import ConfigError, ShapeError
from dff_ros.geometry import grid_size, network_size, upsample_taps
from dff_ros.types import UNLABELED, FeatureT, Propagation, Segmentation

Cells = NDArray[np.float32]
Table = NDArray[np.float32]

MIN_GAIN = 0.01
"""Below it confidence would not rise with the head's probability."""

MIN_DECAY_PER_S = 0.005
"""Of two pixels equal otherwise the one of the older key frame is less sure, whatever was fitted."""

_RANGES = {
    'gain': (MIN_GAIN, 100.0),
    'offset': (-20.0, 20.0),
    'disagreement_weight': (0.0, 20.0),
    'decay_per_s': (MIN_DECAY_PER_S, 100.0),
    'known_age_s': (0.1, 3600.0),
}
_END = 0.25
"""Of a step of 1/255: what the probabilities 0 and 1 are taken as short of them, for their logit."""

_SLACK = 1e-5
"""Of a validity: more than interpolation rounds off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceCalibration:
    """The numbers of a bundle's confidence; the defaults leave the head's probability on a
    key frame as it is.

    `gain` and `offset` are those of Platt scaling, sigmoid(gain * logit(p) + offset); `disagreement_weight`
    is the exponent of 1 - d, `decay_per_s` what the confidence loses with the age of the key frame, and
    `known_age_s` the oldest key frame that was looked at: beyond it there is nothing to trust. Within their
    ranges confidence never rises with age or disagreement nor falls with p. Raises ConfigError beyond.
    """

    gain: float = 1.0
    offset: float = 0.0
    disagreement_weight: float = 1.0
    decay_per_s: float = MIN_DECAY_PER_S
    known_age_s: float = 3600.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ConfigError(f'confidence.{name}: got {value!r}, allowed is from {low:g} to {high:g}')

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> ConfidenceCalibration:
        """As a manifest has it; ConfigError for an unknown or missing entry, or a value out of range."""
        if set(values) != set(_RANGES):
            differing = ', '.join(sorted(set(values) ^ set(_RANGES)))
            raise ConfigError(f'confidence: unknown or missing entries ({differing})')
        return cls(**values)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, float]:
        """As a manifest has it."""
        return dataclasses.asdict(self)

    @staticmethod
    def shares() -> NDArray[np.float64]:
        """The probability (256,) that each value of a head stands for: 0 and 1 are not reached."""
        return np.clip(np.arange(256) / 255, _END / 255, 1 - _END / 255)

    @property
    def table_256(self) -> Table:
        """255 x the calibrated probability, by 255 x the head's; nothing is made of 0."""
        return _table(self.gain, self.offset)

    def kept(self, disagreement_hw: Cells, age_s: float) -> Cells:
        """The factor (1 - d)^weight * fall(age), 0..1, of each cell; of a d that is not finite as of 1."""
        kept = np.subtract(1, disagreement_hw, dtype=np.float32)
        np.fmax(kept, 0, out=kept)  # also of what is not a number
        np.fmin(kept, 1, out=kept)
        np.power(kept, np.float32(self.disagreement_weight), out=kept)
        kept *= np.float32(self.fall(age_s))
        return kept

    def fall(self, age_s: float) -> float:
        """What the age of the key frame leaves of the confidence, 0..1: exp(-decay * age), beyond the known
        age divided by e with each further one.
        """
        unknown = max(age_s / self.known_age_s - 1, 0.0)
        return math.exp(-self.decay_per_s * max(age_s, 0.0) - unknown)


@lru_cache(maxsize=16)
def _table(gain: float, offset: float) -> Table:
    share = ConfidenceCalibration.shares()
    table = np.round(255 / (1 + np.exp(-gain * np.log(share / (1 - share)) - offset)), 6).astype(np.float32)
    table[0] = 0.0
    table.setflags(write=False)  # shared by every caller
    return table


@dataclass(frozen=True, slots=True)
class PixelRule:
    """`ConfidenceRule` for one frame in numbers, for a backend that applies it itself.

    `cells_2hw`: the share of its confidence that each cell keeps, and its validity. Below `least_validity`,
    or below `least_confidence` (of 255), a pixel has no answer. Without `has_confidence` none is told.
    """

    cells_2hw: NDArray[np.float32]
    table_256: Table
    least_validity: float
    least_confidence: float
    has_confidence: bool = True


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """The answer to a frame, and its `summary`."""

    segmentation: Segmentation
    mean_confidence: float | None
    share_unknown: float


@dataclass(frozen=True, slots=True)
class ConfidenceRule:
    """The rule for one bundle: where its cells lie, and its calibration.

    `nominal_size` (height, width) and `stride` are the bundle's; without a nominal size the network image is
    as large as the source.
    """

    nominal_size: tuple[int, int] | None = None
    stride: int = 16
    calibration: ConfidenceCalibration = field(default_factory=ConfidenceCalibration)

    def output_size(self, wanted: SegmentationConfig, source: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the label map of an image of `source` size."""
        named = {'source': source, 'network': self._network(source)}
        return named.get(wanted.output_size) or named_size(wanted.output_size)

    def apply(
        self,
        found: Segmentation,
        propagation: Propagation[FeatureT],
        age_s: float,
        source: tuple[int, int],
        wanted: SegmentationConfig,
    ) -> Segmentation:
        """The final answer of what the head found in the feature of `propagation`, `age_s` after its key
        frame: every pixel has a class and a confidence of at least 1, or is 255 with confidence 0. Without a
        confidence where `wanted` has none.

        `source` is the size of the image. ShapeError where the cells are not those of such an image.
        """
        confidence = None
        if wanted.confidence and found.confidence_HW is not None:
            kept_hw = self.calibration.kept(disagreement(propagation), age_s)
            confidence = self._scaled(found.confidence_HW, kept_hw, source)
        is_unknown = self._unknown(found, propagation.validity_hw, confidence, source, wanted)
        if is_unknown is None or not is_unknown.any():
            return Segmentation(found.label_map_HW, confidence)
        marks = np.negative(is_unknown.view(np.uint8))  # 255 where unknown
        return Segmentation(found.label_map_HW | marks, None if confidence is None else confidence & ~marks)

    def numbers(
        self, propagation: Propagation[FeatureT], age_s: float, wanted: SegmentationConfig
    ) -> PixelRule:
        """What `apply` goes by."""
        kept_hw = self.calibration.kept(disagreement(propagation), age_s)
        return PixelRule(
            np.stack((kept_hw, np.nan_to_num(propagation.validity_hw, nan=0.0))),
            self.calibration.table_256,
            wanted.min_validity - _SLACK,
            255 * wanted.min_confidence if wanted.confidence else 0.0,
            wanted.confidence,
        )

    def _scaled(
        self, head_HW: NDArray[np.uint8], kept_hw: Cells, source: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """The confidence of every pixel that the head decided on, 1..255."""
        table = self.calibration.table_256
        if kept_hw.min() == kept_hw.max():
            return np.take(_rounded(table * kept_hw.flat[0]), head_HW)
        scaled = np.take(table, head_HW)
        scaled *= self.at_pixels(kept_hw, head_HW.shape, source)
        return _rounded(scaled)

    def _unknown(
        self,
        found: Segmentation,
        validity_hw: Cells,
        confidence: NDArray[np.uint8] | None,
        source: tuple[int, int],
        wanted: SegmentationConfig,
    ) -> NDArray[np.bool_] | None:
        """Where there is no answer, None for nowhere. A head that computes with what is not finite tells
        confidence 0.
        """
        least = wanted.min_validity - _SLACK
        is_seen = bool(validity_hw.min() >= least)  # not where one is not a number
        is_sure = confidence is None or wanted.min_confidence <= 0
        is_decided = found.label_map_HW.max() != UNLABELED
        is_decided &= found.confidence_HW is None or found.confidence_HW.min() > 0
        if is_seen and is_sure and is_decided:  # as on most frames
            return None
        is_unknown = np.asarray(found.label_map_HW == UNLABELED)
        if found.confidence_HW is not None:
            is_unknown |= found.confidence_HW == 0
        if confidence is not None and wanted.min_confidence > 0:
            is_unknown |= confidence < 255 * wanted.min_confidence
        if not is_seen:
            validity_hw = np.nan_to_num(validity_hw, nan=0.0)
            is_unknown |= self.at_pixels(validity_hw, is_unknown.shape, source) < least
        return is_unknown

    def at_pixels(self, cells_hw: Cells, output: tuple[int, ...], source: tuple[int, int]) -> Cells:
        """Cells at the pixels of a map of `output` size, bilinear; ShapeError if they are not the image's."""
        network = self._network(source)
        if cells_hw.shape != grid_size(network, self.stride):
            raise ShapeError(
                f'{cells_hw.shape} cells; an image of {source} has {grid_size(network, self.stride)}'
            )
        rows, columns = (upsample_taps(output[axis], network[axis], self.stride) for axis in (0, 1))
        # No matrix products, which NumPy shares among threads: these would wait for those of the networks.
        return _between(_between(cells_hw.astype(np.float32).T, *columns).T, *rows)

    def _network(self, source: tuple[int, int]) -> tuple[int, int]:
        return source if self.nominal_size is None else network_size(source, self.nominal_size)


def disagreement(propagation: Propagation[FeatureT]) -> Cells:
    """Predicted disagreement d of each cell; without a quality net 1 - validity * (1 - residual / 255)."""
    if propagation.disagreement_hw is not None:
        return propagation.disagreement_hw
    d: Cells = 1 - propagation.validity_hw * np.float32(1 - propagation.residual / MAX_RESIDUAL)
    return d


def summary(answer: Segmentation) -> tuple[float | None, float]:
    """Mean confidence over all pixels, None without one, and the share of those without an answer; 0..1."""
    num_pixels = answer.label_map_HW.size
    if answer.confidence_HW is None:
        return None, np.count_nonzero(answer.label_map_HW == UNLABELED) / num_pixels
    values = answer.confidence_HW.reshape(-1)
    total = int(np.add.reduce(values, dtype=np.uint32 if num_pixels < 1 << 24 else np.uint64))
    return total / (255 * num_pixels), 1 - np.count_nonzero(values) / num_pixels


def _between(
    cells_hx: Cells, taps_2H: NDArray[np.int64], weights_2H: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Rows of cells at the places of taps: (H, x)."""
    sampled = np.take(cells_hx, taps_2H[0], axis=0)
    sampled *= weights_2H[0, :, None]
    other = np.take(cells_hx, taps_2H[1], axis=0)
    other *= weights_2H[1, :, None]
    sampled += other
    return sampled


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """To the nearest of 1..255; the values are lost."""
    values += np.float32(0.5)
    np.maximum(values, 1, out=values)
    return values.astype(np.uint8)
