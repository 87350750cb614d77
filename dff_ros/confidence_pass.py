# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What `dff calibrate` does: confidence against labels, per frame and from every earlier key frame."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import available_cores, open_backend
from dff_ros.bundle import open_bundle
from dff_ros.confidence import ConfidenceCalibration, ConfidenceRule, disagreement
from dff_ros.config import DffConfig, SegmentationConfig
from dff_ros.errors import ConfigError
from dff_ros.eval_segmentation import SegmentationTask
from dff_ros.evaluation.confidence import ConfidenceCounts, Reliability, ReliabilityFigures
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.evaluation.offsets import known_mean, rounded
from dff_ros.source_pass import SourcePass
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.types import UNLABELED, KeyFeature, Propagation, Segmentation

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Judged:
    """What the head found in a labelled frame, `offset` frames and `age_s` after its key frame (0: it is)."""

    offset: int
    age_s: float
    found: Segmentation
    propagation: Propagation[object]
    labels_HW: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of image, labels and answer."""
        return self.labels_HW.shape[0], self.labels_HW.shape[1]

    @property
    def is_labelled_HW(self) -> NDArray[np.bool_]:
        """Which pixels count."""
        return np.asarray(self.labels_HW != UNLABELED)

    @property
    def is_right_N(self) -> NDArray[np.bool_]:
        """Of the labelled pixels, whether the head is right."""
        return np.asarray(self.found.label_map_HW == self.labels_HW)[self.is_labelled_HW]


class Collector(Protocol):
    """Takes the answers of a pass."""

    def add(self, judged: Judged) -> None:
        """Count a frame."""
        ...


class ConfidencePass(SourcePass):
    """Answers each labelled frame of a source per frame and from each frame before it that is at most
    `max_offset` frames and, if given, `max_age_s` older, for a collector; a context manager.

    Raises ConfigError for a bundle without segmentation, a source without labels or with labels of other
    classes, and the errors of bundle, backend and source as they are.
    """

    def __init__(
        self,
        config: DffConfig,
        source: FrameSource,
        collector: Collector,
        *,
        max_offset: int,
        max_age_s: float = math.inf,
        num_frames: int | None = None,
    ) -> None:
        super().__init__(config, source, num_frames)
        self.bundle = open_bundle(config.bundle)
        num_threads = config.num_threads or available_cores()
        task = SegmentationTask(self.bundle, source, 1, use_labels=True, num_threads=num_threads)
        if not task.has_truth:
            raise ConfigError(f'{source.name} has no labels, and confidence is measured against labels')
        self._max_age_s = max_age_s
        self._collector = collector
        self._keys: deque[tuple[int, KeyFeature[object, object]]] = deque(maxlen=max_offset)
        self._num_labelled = 0
        self._backend = open_backend(self.bundle, config)

    def _begin_sequence(self) -> None:
        self._keys.clear()

    def _take(self, item: SourceFrame) -> None:
        key = self._backend.extract(item.image_HW3)
        if item.labels_HW is not None:
            itself = Propagation(key.feature, np.ones((1, 1), np.float32), 0.0, 1.0)
            self._judge(item, item.labels_HW, 0, 0.0, itself)
            self._num_labelled += 1
            for offset, (stamp_ns, earlier) in enumerate(reversed(self._keys), 1):
                age_s = (item.stamp_ns - stamp_ns) / _NS_PER_S
                if age_s <= self._max_age_s:
                    propagation = self._backend.propagate(item.image_HW3, earlier)
                    self._judge(item, item.labels_HW, offset, age_s, propagation)
        self._keys.append((item.stamp_ns, key))

    def _judge(
        self,
        item: SourceFrame,
        labels_HW: NDArray[np.uint8],
        offset: int,
        age_s: float,
        propagation: Propagation[object],
    ) -> None:
        size = labels_HW.shape[0], labels_HW.shape[1]
        source = item.image_HW3.shape[0], item.image_HW3.shape[1]
        if size != source:
            raise ConfigError(f'{item.name}: the image is {source} and its labels {size}')
        found = self._backend.predict(propagation.feature, size, size)
        self._collector.add(Judged(offset, age_s, found, propagation, labels_HW))

    def facts(self) -> dict[str, object]:
        """What was taken, and what it ran on."""
        return {
            'num_frames': self._num_done,
            'num_labelled': self._num_labelled,
            **self._facts(self._backend.info),
        }

    def close(self) -> None:
        """Free the backend; calling it twice is harmless."""
        self._backend.close()


class FitCollector:
    """What a calibration is fitted to."""

    def __init__(self, rule: ConfidenceRule) -> None:
        self.counts = ConfidenceCounts()
        self._rule = rule

    def add(self, judged: Judged) -> None:
        """Count a frame."""
        is_labelled, is_right = judged.is_labelled_HW, judged.is_right_N
        probability = judged.found.known_confidence_HW[is_labelled]
        if judged.offset == 0:
            self.counts.add_direct(probability, is_right)
            return
        cells = disagreement(judged.propagation)
        d = self._rule.at_pixels(cells, judged.size, judged.size)[is_labelled]
        self.counts.add_propagated(judged.age_s, probability, d, is_right)


class ReliabilityCollector:
    """How far confidence can be believed: that of the head, of the rule without a calibration, and with that
    of the bundle; and what the pixels that are left without an answer cost.
    """

    def __init__(self, rule: ConfidenceRule, num_classes: int, intervals: Sequence[int]) -> None:
        self._intervals = sorted(set(intervals))
        num_offsets = self._intervals[-1]
        plain = dataclasses.replace(rule, calibration=ConfidenceCalibration())
        self._rules = {'uncalibrated': plain, 'calibrated': rule}
        self._reliability = {name: Reliability(num_offsets) for name in ('head', *self._rules)}
        self._confusions = {
            name: [ConfusionMatrix(num_classes) for _ in range(num_offsets)] for name in ('all', 'decided')
        }
        self._unknown = np.zeros((num_offsets, 3), np.int64)  # labelled; of them marked; of these right
        self._wanted = SegmentationConfig()

    def add(self, judged: Judged) -> None:
        """Count a frame."""
        offset, labels = judged.offset, judged.labels_HW
        is_labelled, is_right = judged.is_labelled_HW, judged.is_right_N
        self._reliability['head'].add(offset, judged.found.known_confidence_HW[is_labelled], is_right)
        for name, rule in self._rules.items():
            final = rule.apply(judged.found, judged.propagation, judged.age_s, judged.size, self._wanted)
            told = final.known_confidence_HW[is_labelled]
            self._reliability[name].add(offset, told[told > 0], is_right[told > 0])
        is_marked = told == 0
        self._unknown[offset] += len(told), int(is_marked.sum()), int((is_right & is_marked).sum())
        self._confusions['all'][offset].update(labels, judged.found.label_map_HW)
        self._confusions['decided'][offset].update(labels, final.label_map_HW)

    def rows(self) -> list[dict[str, object]]:
        """Of each interval, over its offsets."""
        return [self._row(interval) for interval in self._intervals]

    def offsets(self) -> list[dict[str, object]]:
        """Accuracy and mean confidence by offset."""
        return [
            {
                'offset': offset,
                'accuracy': rounded(self._at(offset, 'head').accuracy, 5),
                **{name: rounded(self._at(offset, name).mean, 5) for name in self._reliability},
            }
            for offset in range(self._intervals[-1])
        ]

    def _at(self, offset: int, name: str) -> ReliabilityFigures:
        return self._reliability[name].figures(offset, offset + 1)

    def _row(self, interval: int) -> dict[str, object]:
        labelled, marked, right = (int(number) for number in self._unknown[:interval].sum(0))
        mious = {
            name: rounded(known_mean(matrix.miou() for matrix in matrices[:interval]))
            for name, matrices in self._confusions.items()
        }
        return {
            'interval': interval,
            **{name: found.figures(0, interval).summary() for name, found in self._reliability.items()},
            'unknown_share': rounded(marked / labelled if labelled else float('nan'), 6),
            'unknown_accuracy': rounded(right / marked if marked else float('nan'), 4),
            'miou': mious['all'],
            'miou_with_unknown': mious['decided'],
        }
