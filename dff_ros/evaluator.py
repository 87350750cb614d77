"""What `dff eval` does: every frame is a key frame in its turn, propagated to those after it and scored."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, available_cores, open_backend
from dff_ros.bundle import Bundle, open_bundle
from dff_ros.cache import KeyFrameCache
from dff_ros.config import DffConfig, replace
from dff_ros.errors import ConfigError
from dff_ros.evaluation.offsets import rounded
from dff_ros.evaluation.speed import StageCost
from dff_ros.evaluation.table import METHODS, MethodScores, Row
from dff_ros.geometry import network_size
from dff_ros.label_motion import LabelMotion
from dff_ros.model_spec import HAND_MADE_FLOWS
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.timing import ms_since
from dff_ros.types import Frame, KeyFeature

Key = KeyFeature[object, object]
LabelMap = NDArray[np.uint8]

_FLOW_OF_METHOD = {'copy': 'zero', 'dis': 'dis'}


class Evaluator:
    """Scores methods of propagation at several key intervals in one pass over a source; a context manager.

    Each frame is extracted once; each pair of a key frame and one of the `max(intervals) - 1` frames after it
    is propagated once for each flow source. Intervals and methods share them. A frame that cannot follow the
    one before it (`keyframe.max_gap_s`, size, stamp) begins a new sequence, as it resets a stream.
    Raises ConfigError for an unknown method or a source that does not end or is too short, and the errors of
    bundle, backend and source as they are.
    """

    def __init__(
        self,
        config: DffConfig,
        source: FrameSource,
        *,
        methods: Sequence[str],
        intervals: Sequence[int],
        num_frames: int | None = None,
    ) -> None:
        self._max_frames = _checked_length(source, max(intervals), num_frames)
        self._bundle = open_bundle(config.bundle)
        self._config, self._source, self._intervals = config, source, sorted(set(intervals))
        self._flows = {method: _flow_of(method, self._bundle) for method in dict.fromkeys(methods)}
        self._num_offsets = self._intervals[-1]
        self._has_labels = source.class_names == self._bundle.spec.class_names
        num_classes = self._bundle.spec.num_classes
        # Only the backend with the flow net makes that net's input, so it is the one that extracts.
        ordered = sorted(dict.fromkeys(self._flows.values()), key=lambda flow: flow in HAND_MADE_FLOWS)
        self._backends: dict[str, Backend[object, object]] = {}
        self._scores = {flow: MethodScores(self._num_offsets, num_classes) for flow in ordered}
        self._admission: KeyFrameCache[object, object] = KeyFrameCache()
        self._keys: deque[Key] = deque(maxlen=self._num_offsets - 1)
        self._before: dict[str, list[LabelMap]] = {}
        self._num_done = self._num_sequences = 0
        self._is_complete = False
        try:
            for flow in ordered:
                self._backends[flow] = open_backend(self._bundle, replace(config, {'flow': flow}))
                self._backends[flow].warm_up(source.size)
            self._extractor = self._backends[ordered[0]]
            self._motion = LabelMotion(self._extractor.info.num_threads)
        except BaseException:
            self.close()
            raise

    @property
    def num_answers(self) -> int | None:
        """Label maps that a whole pass computes, for a progress bar; None where the length is not known."""
        num_frames = self._max_frames
        if num_frames is None:
            return None
        num_pairs = sum(max(0, num_frames - offset) for offset in range(1, self._num_offsets))
        return num_frames + len(self._scores) * num_pairs

    def frames(self) -> Iterator[int]:
        """Score one frame after the other; yields how many label maps each took."""
        for item in itertools.islice(self._source, self._max_frames):
            self._admit(item)
            num_keys = len(self._keys)
            self._score_frame(item)
            self._num_done += 1
            yield 1 + num_keys * len(self._scores)
        self._is_complete = True

    def _admit(self, item: SourceFrame) -> None:
        frame = Frame(image_HW3=item.image_HW3, stamp_ns=item.stamp_ns)
        cause = self._admission.admit(frame, self._config.keyframe.max_gap_s)
        if cause is not None or self._num_done == 0:
            self._keys.clear()
            self._before.clear()
            self._motion.reset()
            self._num_sequences += 1

    def _score_frame(self, item: SourceFrame) -> None:
        """Answer a frame as key frame and from each key frame kept, newest (offset 1) first."""
        image = item.image_HW3
        step = self._motion.step(image)
        direct, key = self._answer_key(image)
        for flow in self._scores:
            answers = [direct]
            for offset, earlier in enumerate(reversed(self._keys), 1):
                answers.append(self._answer_propagated(flow, image, earlier, offset))
            self._count(flow, item, answers)
            if step is not None:
                before_N = [answer.ravel()[step.before_N] for answer in self._before[flow]]
                now_N = [answer.ravel()[step.now_N] for answer in answers]
                self._scores[flow].consistency.count(before_N, now_N)
            self._before[flow] = answers
        self._keys.append(key)

    def _answer_key(self, image: NDArray[np.uint8]) -> tuple[LabelMap, Key]:
        start_ns = time.perf_counter_ns()
        key = self._extractor.extract(image)
        extract_ms = ms_since(start_ns)
        start_ns = time.perf_counter_ns()
        direct = self._predict(self._extractor, key.feature, image)
        predict_ms = ms_since(start_ns)
        for flow, backend in self._backends.items():
            start_ns = time.perf_counter_ns()
            key = backend.adopt(image, key)
            self._scores[flow].times.add_key(extract_ms + ms_since(start_ns), predict_ms)
        return direct, key

    def _answer_propagated(self, flow: str, image: NDArray[np.uint8], key: Key, offset: int) -> LabelMap:
        backend = self._backends[flow]
        start_ns = time.perf_counter_ns()
        propagation = backend.propagate(image, key)
        propagate_ms = ms_since(start_ns)
        start_ns = time.perf_counter_ns()
        answer = self._predict(backend, propagation.feature, image)
        self._scores[flow].times.add_propagated(offset, propagate_ms, ms_since(start_ns))
        return answer

    @staticmethod
    def _predict(backend: Backend[object, object], feature: object, image: NDArray[np.uint8]) -> LabelMap:
        size = image.shape[0], image.shape[1]
        return backend.predict(feature, size, size).label_map_HW

    def _count(self, flow: str, item: SourceFrame, answers: list[LabelMap]) -> None:
        scores = self._scores[flow]
        for offset, answer in enumerate(answers):
            scores.agreement.update(offset, answers[0], answer)
            if self._has_labels and item.labels_HW is not None:
                scores.accuracy.update(offset, item.labels_HW, answer)

    def report(self) -> dict[str, object]:
        """The figures so far, as JSON takes them; accuracies in percent. `complete`: the source was read to
        its end (or as far as was asked).
        """
        spec, info = self._bundle.spec, self._extractor.info
        any_scores = next(iter(self._scores.values()))
        gmac = _count_gmac(self._bundle, self._config, self._source.size)
        direct = any_scores.row('dff', '', 1, spec.class_names, gmac)
        return {
            'rows': self._rows(),
            'per_frame_miou': direct['miou'],
            'per_frame_iou_per_class': direct['iou_per_class'],
            'per_frame_consistency': direct['consistency'],
            'per_frame_ms': direct['ms_per_frame'],
            'per_frame_gmac': direct['gmac_per_frame'],
            'gmac': None
            if gmac is None
            else {stage: rounded(getattr(gmac, stage), 4) for stage in ('extract', 'propagate', 'predict')},
            'bundle': self._bundle.name,
            'num_frames': self._num_done,
            'num_sequences': self._num_sequences,
            'complete': self._is_complete,
            'labelled': any_scores.is_labelled,
            'size': list(self._source.size),
            'backend': info.name,
            'device': info.device,
            'runtime': info.runtime,
            'num_threads': info.num_threads,
            'cores': available_cores(),
        }

    def _rows(self) -> list[Row]:
        spec = self._bundle.spec
        rows = []
        for method, flow in self._flows.items():
            own = _count_gmac(self._bundle, replace(self._config, {'flow': flow}), self._source.size)
            name = spec.flow_in_use(flow)
            rows += [
                self._scores[flow].row(method, name, interval, spec.class_names, own)
                for interval in self._intervals
            ]
        return rows

    def close(self) -> None:
        """Free the backends; calling it twice is harmless."""
        for backend in self._backends.values():
            backend.close()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _flow_of(method: str, bundle: Bundle) -> str:
    """The flow setting behind a method. Hand-made flow of the bundle is named, so that it runs once."""
    if method == 'dff':
        own = bundle.spec.flow_source
        return own if own in HAND_MADE_FLOWS else 'bundle'
    if method not in _FLOW_OF_METHOD:
        raise ConfigError(f'unknown method {method!r}; known are {", ".join(METHODS)}')
    return _FLOW_OF_METHOD[method]


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


def _count_gmac(bundle: Bundle, config: DffConfig, size: tuple[int, int]) -> StageCost | None:
    """Multiply-adds of the stages at an image size; None where torch, which counts them, is not installed."""
    try:
        from dff_ros.nets.complexity import stage_gmac
    except ImportError:
        return None
    network = network_size(size, bundle.spec.nominal_size)
    return stage_gmac(bundle.spec, network, config.flow, config.correction)
