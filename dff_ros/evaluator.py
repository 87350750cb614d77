# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What `dff eval` does: every frame is a key frame in its turn, propagated to those after it and scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import available_cores
from dff_ros.bundle import Bundle, open_bundle
from dff_ros.config import DffConfig
from dff_ros.contenders import Contender, Family, Field, Key
from dff_ros.errors import ConfigError
from dff_ros.eval_detection import DetectionTask
from dff_ros.eval_segmentation import SegmentationTask
from dff_ros.eval_task import EvalTask
from dff_ros.evaluation.offsets import rounded
from dff_ros.evaluation.table import Name, cost
from dff_ros.model_spec import TASKS
from dff_ros.source_pass import SourcePass
from dff_ros.sources import FrameSource, SourceFrame


class _Candidate:
    """A frame that may become a key frame: each family extracts it when it is first propagated from."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self._image = image
        self._keys: dict[int, Key] = {}

    def answer(self, number: int, family: Family[object]) -> object:
        """Per-frame inference; the key frame is kept."""
        direct, self._keys[number] = family.answer(self._image)
        return direct

    def key(self, number: int, family: Family[object]) -> Key:
        """The key frame of family `number`."""
        if number not in self._keys:
            self._keys[number] = family.extract(self._image)
        return self._keys[number]


class Evaluator(SourcePass):
    """Scores methods of propagation at several key intervals in one pass over a source; a context manager.

    Each frame is extracted once, by each family of contenders; each pair of a key frame and one of the
    `max(intervals) - 1` frames after it is propagated once by each contender. Intervals and methods share
    them.
    Of a source with a truth of the task (labels, boxes) only the frames that have one are answered, and only
    their key frames extracted, unless `answer_all`; label maps can also be evaluated without it, or with
    `use_labels` false: there is agreement alone.
    Raises ConfigError for an unknown method or task, a bundle without the head, labels or boxes of other
    classes than the bundle's, and a source that does not end or is too short, and the errors of bundle,
    backend and source as they are.
    """

    def __init__(
        self,
        config: DffConfig,
        source: FrameSource,
        *,
        intervals: Sequence[int],
        task: str = TASKS[0],
        methods: Sequence[str] | None = None,
        num_frames: int | None = None,
        use_labels: bool = True,
        answer_all: bool = False,
    ) -> None:
        self._intervals = sorted(set(intervals))
        self._num_offsets = self._intervals[-1]
        super().__init__(config, source, num_frames)
        _check_length(source, self._num_offsets, self.num_frames)
        self._bundle = open_bundle(config.bundle)
        self._task = _make_task(task, self._bundle, config, source, self._num_offsets, use_labels)
        self._skips_unlabelled = self._task.has_truth and not answer_all
        self._candidates: deque[_Candidate] = deque(maxlen=self._num_offsets - 1)
        self._num_answered = self._num_sequences = 0
        self._field = Field(self._bundle, config, self._task, methods, source.size, self._num_offsets)
        self._main = self._field.families[0]

    def _begin_sequence(self) -> None:
        self._candidates.clear()
        self._task.forget()
        self._num_sequences += 1

    def _take(self, item: SourceFrame) -> None:
        candidate = _Candidate(item.image_HW3)
        if self._skips_unlabelled and not self._task.is_labelled(item):
            self._task.forget()
        else:
            self._score_frame(item, candidate)
            self._num_answered += 1
        self._candidates.append(candidate)

    def _score_frame(self, item: SourceFrame, candidate: _Candidate) -> None:
        """Answer a frame as key frame and from each one kept, newest (offset 1) first."""
        image = item.image_HW3
        self._task.begin(item, self._num_done, self._num_sequences)
        direct: object = None
        for number, family in enumerate(self._field.families):
            own = candidate.answer(number, family)
            direct = own if direct is None else direct
            keys = [earlier.key(number, family) for earlier in reversed(self._candidates)]
            for contender in family.contenders:
                propagated = (contender.propagate(image, key, offset) for offset, key in enumerate(keys, 1))
                self._task.count(contender.setup, [direct, *propagated])

    def report(self) -> dict[str, object]:
        """The figures so far, as JSON takes them; accuracies in percent."""
        info, main = self._main.extractor.info, self._main.contenders[0]
        direct, gmac = cost(main.times, main.gmac, 1), main.gmac
        return {
            'rows': [
                self._row(method, contender, interval)
                for method, contender in self._field.by_method.items()
                for interval in self._intervals
            ],
            **self._task.summary(main.setup),
            'per_frame_ms': direct['ms_per_frame'],
            'per_frame_gmac': direct['gmac_per_frame'],
            'gmac': None
            if gmac is None
            else {stage: rounded(getattr(gmac, stage), 4) for stage in ('extract', 'propagate', 'predict')},
            'task': self._task.name,
            'bundle': self._bundle.name,
            'num_frames': self._num_done,
            'num_answered': self._num_answered,
            'num_sequences': self._num_sequences,
            **self._facts(info),
            'notes': [*self._task.notes, *self._field.notes],
        }

    def _row(self, method: str, contender: Contender[object], interval: int) -> dict[str, object]:
        info = contender.backend.info
        name: Name = {
            'method': method, 'flow': contender.flow, 'runtime': info.runtime, 'precision': info.precision,
            'interval': interval,
        }  # fmt: skip
        figures = self._task.figures(contender.setup, interval)
        return {**name, **figures, **cost(contender.times, contender.gmac, interval)}

    def close(self) -> None:
        """Free the backends; calling it twice is harmless."""
        self._field.close()


def _make_task(
    name: str, bundle: Bundle, config: DffConfig, source: FrameSource, num_offsets: int, use_labels: bool
) -> EvalTask[object]:
    if name not in TASKS:
        raise ConfigError(f'unknown task {name!r}; known are {", ".join(TASKS)}')
    if name == 'detection':
        boxes = DetectionTask(bundle, source, num_offsets, nms_iou=config.detection.nms_iou)
        return cast('EvalTask[object]', boxes)
    num_threads = config.num_threads or available_cores()
    task = SegmentationTask(bundle, source, num_offsets, use_labels=use_labels, num_threads=num_threads)
    return cast('EvalTask[object]', task)


def _check_length(source: FrameSource, num_offsets: int, length: int | None) -> None:
    if length is not None and length < num_offsets:
        raise ConfigError(
            f'{source.name}: {length} frames are too few for a key interval of {num_offsets}; '
            f'take more frames or intervals of at most {length}'
        )
