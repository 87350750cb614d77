# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The contenders of an evaluation: the backends behind its methods, and how long they take."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, available_cores, open_backend
from dff_ros.backends.choice import choose_backend
from dff_ros.bundle import Bundle
from dff_ros.config import DffConfig, replace
from dff_ros.errors import BackendUnavailableError
from dff_ros.eval_task import AnswerT, EvalTask, Predict
from dff_ros.evaluation.speed import StageCost, StageTimes
from dff_ros.geometry import network_size
from dff_ros.methods import CLOCKWORK, Setup, setups_of
from dff_ros.model_spec import HAND_MADE_FLOWS, ModelSpec
from dff_ros.timing import ms_since
from dff_ros.types import KeyFeature

Key = KeyFeature[object, object]


@dataclass(slots=True)
class Contender(Generic[AnswerT]):
    """One way to propagate, and its times. `flow`: the source in use, empty for none.

    `gmac`: multiply-adds of its stages, None where they are not counted.
    """

    setup: Setup
    backend: Backend[object, object]
    predict: Predict[AnswerT]
    times: StageTimes
    flow: str
    gmac: StageCost | None

    def propagate(self, image: NDArray[np.uint8], key: Key, offset: int) -> AnswerT:
        """The answer to an image from a key frame `offset` frames before it."""
        start_ns = time.perf_counter_ns()
        propagation = self.backend.propagate(image, key)
        propagate_ms = ms_since(start_ns)
        start_ns = time.perf_counter_ns()
        answer = self.predict(self.backend, propagation.feature, image)
        self.times.add_propagated(offset, propagate_ms, ms_since(start_ns))
        return answer


class Family(Generic[AnswerT]):
    """Contenders that share key frames: the first one's backend extracts them for all."""

    def __init__(self, contenders: Sequence[Contender[AnswerT]]) -> None:
        self.contenders = contenders
        self.extractor = contenders[0].backend

    def extract(self, image: NDArray[np.uint8]) -> Key:
        """A key frame that all of them can propagate from."""
        key = self.extractor.extract(image)
        for contender in self.contenders:
            key = contender.backend.adopt(image, key)
        return key

    def answer(self, image: NDArray[np.uint8]) -> tuple[AnswerT, Key]:
        """Per-frame inference with its times, and the key frame."""
        start_ns = time.perf_counter_ns()
        key = self.extractor.extract(image)
        extract_ms = ms_since(start_ns)
        start_ns = time.perf_counter_ns()
        direct = self.contenders[0].predict(self.extractor, key.feature, image)
        predict_ms = ms_since(start_ns)
        for contender in self.contenders:
            start_ns = time.perf_counter_ns()
            key = contender.backend.adopt(image, key)
            contender.times.add_key(extract_ms + ms_since(start_ns), predict_ms)
        return direct, key


class Field(Generic[AnswerT]):
    """All contenders of an evaluation, open and warmed up; closed by `close`.

    Several methods can be one contender, as `dff` and `dis` where the bundle's own flow is DIS. `notes` say
    what was left out, and why. `methods`: None takes all, but those whose runtime is not installed.
    Raises ConfigError for a method that is unknown, and the errors of `open_backend`.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: DffConfig,
        task: EvalTask[AnswerT],
        methods: Sequence[str] | None,
        size: tuple[int, int],
        num_offsets: int,
    ) -> None:
        self.notes: list[str] = []
        setups = setups_of(methods, bundle.spec, task.name)
        opened: dict[Setup, Contender[AnswerT]] = {}
        with ExitStack() as stack:
            for setup in dict.fromkeys(setups.values()):
                try:
                    backend = _open_backend(bundle, config, setup)
                except BackendUnavailableError as error:
                    if setup.flow != CLOCKWORK or methods is not None:
                        raise
                    self.notes.append(f'{CLOCKWORK} is left out: {error}')
                    continue
                stack.callback(backend.close)
                backend.warm_up(size)
                opened[setup] = Contender(
                    setup,
                    backend,
                    task.predict,
                    StageTimes(num_offsets),
                    flow='' if setup.flow == CLOCKWORK else bundle.spec.flow_in_use(setup.flow),
                    gmac=count_gmac(bundle.spec, size, setup, task.name),
                )
            self._stack = stack.pop_all()
        self.by_method = {method: opened[setup] for method, setup in setups.items() if setup in opened}
        self.families = [Family([opened[setup] for setup in family]) for family in _families(opened)]

    def close(self) -> None:
        """Free the backends; calling it twice is harmless."""
        self._stack.close()


def count_gmac(spec: ModelSpec, size: tuple[int, int], setup: Setup, task: str) -> StageCost | None:
    """Multiply-adds of the stages at an image size, with the head of the task; None where torch, which counts
    them, is not installed.
    """
    network = network_size(size, spec.nominal_size)
    try:
        if setup.flow == CLOCKWORK:
            from dff_ros.nets.clockwork import clockwork_gmac

            return clockwork_gmac(spec, network, tasks=[task])
        from dff_ros.nets.complexity import stage_gmac
    except ImportError:
        return None
    return stage_gmac(spec, network, setup.flow, setup.is_corrected, [task])


def _families(setups: Collection[Setup]) -> list[list[Setup]]:
    """Which contenders share key frames. Stage reuse keeps more of them, and torch's own."""
    # Only a backend with a flow net makes that net's input, so one is the first, which extracts.
    shared = sorted(
        (setup for setup in setups if setup.flow != CLOCKWORK),
        key=lambda setup: setup.flow in HAND_MADE_FLOWS,
    )
    own = [setup for setup in setups if setup.flow == CLOCKWORK]
    return [family for family in (shared, own) if family]


def _open_backend(bundle: Bundle, config: DffConfig, setup: Setup) -> Backend[object, object]:
    if setup.flow != CLOCKWORK:
        return open_backend(bundle, replace(config, {'flow': setup.flow, 'correction': setup.is_corrected}))
    try:
        from dff_ros.backends.clockwork import ClockworkBackend
    except ImportError as error:
        raise BackendUnavailableError(f'it runs in torch ({error}): pip install "dff_ros[torch]"') from error
    device = config.device if choose_backend(config)[0] == 'torch' else 'cpu'
    backend = ClockworkBackend(bundle, config.num_threads or available_cores(), device)
    return cast(Backend[object, object], backend)
