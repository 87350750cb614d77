# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What `dff eval --schedulers` does: every pair of a key frame and a later frame is measured once, then the
schedulers are played over them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import available_cores
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig
from dff_ros.contenders import Contender, Field, Key
from dff_ros.errors import ConfigError
from dff_ros.eval_segmentation import SegmentationTask
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.evaluation.pair_table import Answer, Pair, PairRow, Rows
from dff_ros.evaluation.scheduler_rows import BUDGET, LEARNED, SCHEDULERS, SchedulerRows, far_from_wanted
from dff_ros.methods import CLOCKWORK
from dff_ros.scheduling import Measured
from dff_ros.source_pass import SourcePass
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.thumbnails import Thumbnail, change, make_thumbnail

LabelMap = NDArray[np.uint8]

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A frame that later ones are propagated from."""

    key: Key
    stamp_ns: int
    thumbnail: Thumbnail


class SchedulerEvaluator(SourcePass):
    """Scores key-frame schedulers at wanted mean key ratios; a context manager.

    Each frame is extracted once; each pair of a frame and one before it, as far as `keyframe.max_interval`
    and `keyframe.max_age_s` allow, is propagated once by each method. Sequences begin where a stream would be
    reset. Without labels (or with `use_labels` false) there is agreement with per-frame inference alone.
    Raises ConfigError for an unknown method, scheduler or key ratio, a bundle without segmentation or without
    what a scheduler needs, labels of other classes than the bundle's, and a rendered source without
    `num_frames`, and the errors of bundle, backend and source as they are.
    """

    def __init__(
        self,
        config: DffConfig,
        source: FrameSource,
        *,
        schedulers: Sequence[str],
        key_ratios: Sequence[float],
        methods: Sequence[str] | None = None,
        num_frames: int | None = None,
        use_labels: bool = True,
    ) -> None:
        super().__init__(config, source, num_frames)
        self._bundle = open_bundle(config.bundle)
        if CLOCKWORK in (methods or ()):
            raise ConfigError(f'method {CLOCKWORK} has no flow, which schedulers go by: leave it out')
        asked = {*schedulers, config.keyframe.budget_over if BUDGET in schedulers else ''}
        if LEARNED in asked and not self._bundle.spec.quality_channels:
            known = ', '.join(name for name in SCHEDULERS if name != LEARNED)
            raise ConfigError(
                f'scheduler {LEARNED}: bundle {self._bundle.name} predicts no disagreement; '
                f'it can serve {known}'
            )
        num_threads = config.num_threads or available_cores()
        task = SegmentationTask(
            self._bundle, source, num_offsets=1, use_labels=use_labels, num_threads=num_threads
        )
        self._has_truth = task.has_truth
        self._rows = SchedulerRows(config.keyframe, self._bundle.spec.num_classes, schedulers, key_ratios)
        self._candidates: deque[_Candidate] = deque(maxlen=config.keyframe.max_interval)
        self._field = Field(self._bundle, config, task, methods or ('dff',), source.size, num_offsets=1)
        (self._family,) = self._field.families
        self._sequences: dict[str, list[list[PairRow]]] = {method: [] for method in self._field.by_method}

    def _begin_sequence(self) -> None:
        self._candidates.clear()
        for sequences in self._sequences.values():
            sequences.append([])

    def _take(self, item: SourceFrame) -> None:
        """Answer a frame by per-frame inference and from each key frame kept, newest first."""
        oldest_ns = item.stamp_ns - self._config.keyframe.max_age_s * _NS_PER_S
        while self._candidates and self._candidates[0].stamp_ns < oldest_ns:
            self._candidates.popleft()
        image, thumbnail = item.image_HW3, make_thumbnail(item.image_HW3)
        direct, key = self._family.answer(image)
        last = self._candidates[-1].thumbnail if self._candidates else thumbnail
        for method, contender in self._field.by_method.items():
            pairs = tuple(
                self._pair(item, thumbnail, direct, earlier, contender)
                for earlier in reversed(self._candidates)
            )
            row = PairRow(
                stamp_ns=item.stamp_ns,
                change=change(thumbnail, last),
                is_cut=item.is_cut,
                direct=Answer(self._counts(item, direct)),
                pairs=pairs,
            )
            self._sequences[method][-1].append(row)
        self._candidates.append(_Candidate(key, item.stamp_ns, thumbnail))

    def _pair(
        self,
        item: SourceFrame,
        thumbnail: Thumbnail,
        direct: LabelMap,
        earlier: _Candidate,
        contender: Contender[LabelMap],
    ) -> Pair:
        propagation = contender.backend.propagate(item.image_HW3, earlier.key)
        labels = contender.predict(contender.backend, propagation.feature, item.image_HW3)
        return Pair(
            key_change=change(thumbnail, earlier.thumbnail),
            measured=Measured.of(propagation),
            answer=Answer(self._counts(item, labels), float(np.mean(labels != direct))),
        )

    def _counts(self, item: SourceFrame, labels: LabelMap) -> NDArray[np.int32] | None:
        if not self._has_truth or item.labels_HW is None:
            return None
        confusion = ConfusionMatrix(self._bundle.spec.num_classes)
        confusion.update(item.labels_HW, labels)
        return confusion.counts_KK1.astype(np.int32)

    def report(self) -> dict[str, object]:
        """The figures so far, as JSON takes them; accuracies in percent."""
        tables: dict[str, list[Rows]] = {
            method: [rows for rows in sequences if rows] for method, sequences in self._sequences.items()
        }
        info, keyframe = self._family.extractor.info, self._config.keyframe
        found = self._rows.report(tables)
        return {
            **found,
            'task': 'schedulers',
            'bundle': self._bundle.name,
            'max_age_s': keyframe.max_age_s,
            'max_interval': keyframe.max_interval,
            'num_frames': self._num_done,
            'num_answered': self._num_done,
            'num_sequences': len(next(iter(tables.values()))),
            **self._facts(info),
            'notes': [*self._field.notes, *far_from_wanted(found['rows'])],
        }

    def close(self) -> None:
        """Free the backends; calling it twice is harmless."""
        self._field.close()
