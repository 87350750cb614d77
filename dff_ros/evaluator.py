"""What `dff eval` does: every frame is a key frame in its turn, propagated to those after it and scored."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import available_cores
from dff_ros.bundle import Bundle, open_bundle
from dff_ros.cache import KeyFrameCache
from dff_ros.config import DffConfig
from dff_ros.contenders import Contender, Family, Field, Key
from dff_ros.errors import ConfigError
from dff_ros.eval_detection import DetectionTask
from dff_ros.eval_segmentation import SegmentationTask
from dff_ros.eval_task import EvalTask
from dff_ros.evaluation.offsets import rounded
from dff_ros.evaluation.table import Name, cost
from dff_ros.model_spec import TASKS
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.types import Frame


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


class Evaluator:
    """Scores methods of propagation at several key intervals in one pass over a source; a context manager.

    Each frame is extracted once, by each family of contenders; each pair of a key frame and one of the
    `max(intervals) - 1` frames after it is propagated once by each contender. Intervals and methods share
    them. A frame that cannot follow the one before it (another sequence, `keyframe.max_gap_s`, size, stamp)
    begins a new sequence, as it resets a stream.
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
        self.num_frames = _checked_length(source, self._num_offsets, num_frames)
        self._bundle = open_bundle(config.bundle)
        self._config, self._source = config, source
        self._task = _make_task(task, self._bundle, config, source, self._num_offsets, use_labels)
        self._skips_unlabelled = self._task.has_truth and not answer_all
        self._admission: KeyFrameCache[object, object] = KeyFrameCache()
        self._candidates: deque[_Candidate] = deque(maxlen=self._num_offsets - 1)
        self._num_done = self._num_answered = self._num_sequences = 0
        self._wall_s = 0.0
        self._is_complete = False
        self._field = Field(self._bundle, config, self._task, methods, source.size, self._num_offsets)
        self._main = self._field.families[0]

    def frames(self) -> Iterator[int]:
        """Score one frame after the other; yields how many are done."""
        start_s = time.perf_counter() - self._wall_s
        for item in itertools.islice(self._source, self.num_frames):
            self._admit(item)
            self._take(item)
            self._num_done += 1
            self._wall_s = time.perf_counter() - start_s
            yield self._num_done
        self._is_complete = True

    def _admit(self, item: SourceFrame) -> None:
        frame = Frame(image_HW3=item.image_HW3, stamp_ns=item.stamp_ns, frame_id=item.sequence)
        cause = self._admission.admit(frame, self._config.keyframe.max_gap_s)
        if cause is not None or self._num_done == 0:
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
        """The figures so far, as JSON takes them; accuracies in percent. `complete`: the source was read to
        its end (or as far as was asked).
        """
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
            'complete': self._is_complete,
            'size': list(self._source.size),
            'backend': info.name,
            'device': info.device,
            'runtime': info.runtime,
            'num_threads': info.num_threads,
            'cores': available_cores(),
            'wall_s': round(self._wall_s, 1),
            'notes': [*self._task.notes, *self._field.notes],
        }

    def _row(self, method: str, contender: Contender[object], interval: int) -> dict[str, object]:
        runtime = contender.backend.info.runtime
        name: Name = {
            'method': method, 'flow': contender.flow, 'runtime': runtime, 'interval': interval
        }  # fmt: skip
        figures = self._task.figures(contender.setup, interval)
        return {**name, **figures, **cost(contender.times, contender.gmac, interval)}

    def close(self) -> None:
        """Free the backends; calling it twice is harmless."""
        self._field.close()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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


def _checked_length(source: FrameSource, num_offsets: int, num_frames: int | None) -> int | None:
    if num_frames is None and source.num_frames is None and source.is_rendered:
        raise ConfigError(f'{source.name} has no end: say how many frames to take (--num-frames N)')
    known = [number for number in (source.num_frames, num_frames) if number is not None]
    length = min(known, default=None)
    if length is not None and length < num_offsets:
        raise ConfigError(
            f'{source.name}: {length} frames are too few for a key interval of {num_offsets}; '
            f'take more frames or intervals of at most {length}'
        )
    return length
