"""The methods of an evaluation: what each propagates with, and the backends behind them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, available_cores, open_backend
from dff_ros.bundle import Bundle
from dff_ros.config import DffConfig, replace
from dff_ros.errors import BackendUnavailableError, ConfigError
from dff_ros.evaluation.speed import StageCost
from dff_ros.evaluation.table import METHODS, MethodScores
from dff_ros.geometry import network_size
from dff_ros.model_spec import HAND_MADE_FLOWS, ModelSpec
from dff_ros.timing import ms_since
from dff_ros.types import KeyFeature

Key = KeyFeature[object, object]
LabelMap = NDArray[np.uint8]

CLOCKWORK = 'clockwork'

_FLOW_OF_METHOD = {'dff': 'bundle', 'copy': 'zero', 'dis': 'dis', CLOCKWORK: CLOCKWORK}


@dataclass(slots=True)
class Contender:
    """One way to propagate, and everything counted about it. `flow`: the source in use, empty for none.

    `gmac`: multiply-adds of its stages, None where they are not counted.
    """

    backend: Backend[object, object]
    scores: MethodScores
    flow: str
    gmac: StageCost | None

    def propagate(self, image: NDArray[np.uint8], key: Key, offset: int) -> LabelMap:
        """The label map of an image from a key frame `offset` frames before it."""
        start_ns = time.perf_counter_ns()
        propagation = self.backend.propagate(image, key)
        propagate_ms = ms_since(start_ns)
        start_ns = time.perf_counter_ns()
        answer = predict(self.backend, propagation.feature, image)
        self.scores.times.add_propagated(offset, propagate_ms, ms_since(start_ns))
        return answer


class Family:
    """Contenders that share key frames: the first one's backend extracts them for all."""

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self.contenders = contenders
        self.extractor = contenders[0].backend

    def extract(self, image: NDArray[np.uint8]) -> Key:
        """A key frame that all of them can propagate from."""
        key = self.extractor.extract(image)
        for contender in self.contenders:
            key = contender.backend.adopt(image, key)
        return key

    def answer(self, image: NDArray[np.uint8]) -> tuple[LabelMap, Key]:
        """Per-frame inference with its times, and the key frame."""
        start_ns = time.perf_counter_ns()
        key = self.extractor.extract(image)
        extract_ms = ms_since(start_ns)
        start_ns = time.perf_counter_ns()
        direct = predict(self.extractor, key.feature, image)
        predict_ms = ms_since(start_ns)
        for contender in self.contenders:
            start_ns = time.perf_counter_ns()
            key = contender.backend.adopt(image, key)
            contender.scores.times.add_key(extract_ms + ms_since(start_ns), predict_ms)
        return direct, key


class Field:
    """All contenders of an evaluation, open and warmed up; closed by `close`.

    Several methods can be one contender, as `dff` and `dis` where the bundle's own flow is DIS. `notes` say
    what was left out, and why. `methods`: None takes all, but those whose runtime is not installed.
    Raises ConfigError for a method that is unknown, and the errors of `open_backend`.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: DffConfig,
        methods: Sequence[str] | None,
        size: tuple[int, int],
        num_offsets: int,
    ) -> None:
        self.notes: list[str] = []
        self.families: list[Family] = []
        flows = {method: _flow_of(method, bundle.spec) for method in dict.fromkeys(methods or METHODS)}
        opened: dict[str, Contender] = {}
        with ExitStack() as stack:
            for flow in dict.fromkeys(flows.values()):
                try:
                    backend = _open_backend(bundle, config, flow)
                except BackendUnavailableError as error:
                    if flow != CLOCKWORK or methods is not None:
                        raise
                    self.notes.append(f'{CLOCKWORK} is left out: {error}')
                    continue
                stack.callback(backend.close)
                backend.warm_up(size)
                scores = MethodScores(num_offsets, bundle.spec.num_classes)
                name = '' if flow == CLOCKWORK else bundle.spec.flow_in_use(flow)
                opened[flow] = Contender(backend, scores, name, count_gmac(bundle, size, flow))
            self._stack = stack.pop_all()
        self.by_method = {method: opened[flow] for method, flow in flows.items() if flow in opened}
        for flow_group in _families(opened):
            self.families.append(Family([opened[flow] for flow in flow_group]))

    @property
    def contenders(self) -> Iterator[Contender]:
        """Each once, in the order in which they run."""
        return (contender for family in self.families for contender in family.contenders)

    def close(self) -> None:
        """Free the backends; calling it twice is harmless."""
        self._stack.close()


def predict(backend: Backend[object, object], feature: object, image: NDArray[np.uint8]) -> LabelMap:
    """The label map of an image, at its size."""
    size = image.shape[0], image.shape[1]
    return backend.predict(feature, size, size).label_map_HW


def count_gmac(bundle: Bundle, size: tuple[int, int], flow: str) -> StageCost | None:
    """Multiply-adds of the stages at an image size; None where torch, which counts them, is not installed."""
    network = network_size(size, bundle.spec.nominal_size)
    try:
        if flow == CLOCKWORK:
            from dff_ros.nets.clockwork import clockwork_gmac

            return clockwork_gmac(bundle.spec, network)
        from dff_ros.nets.complexity import stage_gmac
    except ImportError:
        return None
    own = stage_gmac(bundle.spec, bundle.stride, network)
    return own if flow == 'bundle' else StageCost(own.extract, 0.0, own.predict)


def _families(flows: Collection[str]) -> list[list[str]]:
    """Which contenders share key frames. Stage reuse keeps more of them, and torch's own."""
    # Only the backend with the flow net makes that net's input, so it is the one that extracts.
    shared = sorted((flow for flow in flows if flow != CLOCKWORK), key=HAND_MADE_FLOWS.__contains__)
    return [family for family in (shared, [flow for flow in flows if flow == CLOCKWORK]) if family]


def _open_backend(bundle: Bundle, config: DffConfig, flow: str) -> Backend[object, object]:
    if flow != CLOCKWORK:
        return open_backend(bundle, replace(config, {'flow': flow}))
    try:
        from dff_ros.backends.clockwork import ClockworkBackend
    except ImportError as error:
        raise BackendUnavailableError(f'it runs in torch ({error}): pip install "dff_ros[torch]"') from error
    backend = ClockworkBackend(bundle, config.num_threads or available_cores())
    return cast(Backend[object, object], backend)


def _flow_of(method: str, spec: ModelSpec) -> str:
    """The flow setting behind a method. Hand-made flow of the bundle is named, so that it runs once."""
    if method not in _FLOW_OF_METHOD:
        raise ConfigError(f'unknown method {method!r}; known are {", ".join(METHODS)}')
    flow = _FLOW_OF_METHOD[method]
    return spec.flow_source if flow == 'bundle' and spec.flow_source in HAND_MADE_FLOWS else flow
