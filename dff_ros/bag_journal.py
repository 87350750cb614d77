# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the networks told the engine, kept and told again: a stream that goes on where it was ended.

Whatever the engine decides follows from images, stamps and the few numbers that the networks give back. A
journal of these brings a stream into the state it had, by its own code, without a network: images are decoded
and decided on as before, and the one key frame that is in use at the end is extracted again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, BackendInfo
from dff_ros.memory import is_out_of_memory
from dff_ros.types import Detections, KeyFeature, Propagation, Segmentation

Entry = list[Any]
"""One call: [verb], or [verb, motion, coverage, residual, disagreement] of propagate, or of one that raised
[verb, 'error', text, is_out_of_memory].
"""

T = TypeVar('T')
_ERROR = 'error'


class _Held:
    """A key feature, or the image that it is made of when it is needed."""

    def __init__(self, image_HW3: NDArray[np.uint8], key: KeyFeature[Any, Any] | None) -> None:
        self._image_HW3 = image_HW3
        self._key = key

    def real(self, backend: Backend[Any, Any]) -> KeyFeature[Any, Any]:
        if self._key is None:
            self._key = backend.extract(self._image_HW3)
        return self._key


class JournalBackend:
    """A Backend that writes a journal of another one; `past` is answered from first."""

    def __init__(self, backend: Backend[Any, Any], past: Iterable[Entry] = ()) -> None:
        self._backend = backend
        self._past = deque(past)
        self._entries: list[Entry] = []
        self.misfit = ''
        """How the past differs from what was asked for now, if it does: it is that of another run."""

    @property
    def is_replaying(self) -> bool:
        """Whether there is a past left."""
        return bool(self._past)

    def take_entries(self) -> list[Entry]:
        """What was computed since the last time."""
        entries, self._entries = self._entries, []
        return entries

    @property
    def info(self) -> BackendInfo:
        """See Backend."""
        return self._backend.info

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[_Held, None]:
        """See Backend."""
        past = self._replayed('extract')
        key = None if past else self._kept('extract', lambda: self._backend.extract(image_HW3))
        return KeyFeature(_Held(image_HW3, key), None)

    def adopt(self, image_HW3: NDArray[np.uint8], key: KeyFeature[Any, Any]) -> KeyFeature[Any, Any]:
        """See Backend; of key frames made in the background, which have no journal."""
        return KeyFeature(_Held(image_HW3, self._backend.adopt(image_HW3, key)), None)

    def propagate(self, image_HW3: NDArray[np.uint8], key: KeyFeature[_Held, None]) -> Propagation[Any]:
        """See Backend."""
        past = self._replayed('propagate')
        if past:
            _, motion_px, coverage, residual, disagreement = past
            cells = None if disagreement is None else np.full((1, 1), disagreement, np.float32)
            return Propagation(
                None, np.ones((1, 1), np.float32), motion_px, coverage, residual, disagreement, cells
            )
        return self._kept(
            'propagate',
            lambda: self._backend.propagate(image_HW3, key.feature.real(self._backend)),
            _figures,
        )

    def predict(
        self, feature: Any, source_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Segmentation:
        """See Backend; without content in a replay."""
        if self._replayed('predict'):
            return Segmentation(np.zeros(output_size, np.uint8), np.zeros(output_size, np.uint8))
        return self._kept(
            'predict', lambda: self._backend.predict(self._real(feature), source_size, output_size)
        )

    def detect(
        self, feature: Any, source_size: tuple[int, int], nms_iou: float, score_threshold: float
    ) -> Detections:
        """See Backend; none in a replay."""
        if self._replayed('detect'):
            return Detections.none()
        return self._kept(
            'detect',
            lambda: self._backend.detect(self._real(feature), source_size, nms_iou, score_threshold),
        )

    def warm_up(self, size: tuple[int, int]) -> None:
        """See Backend."""
        self._backend.warm_up(size)

    def close(self) -> None:
        """See Backend."""
        self._backend.close()

    def _real(self, feature: Any) -> Any:
        return feature.real(self._backend).feature if isinstance(feature, _Held) else feature

    def _replayed(self, verb: str) -> Entry | None:
        """The entry of the past that a call is, if there is one; raises what the call raised then."""
        if not self._past:
            return None
        entry = self._past.popleft()
        if entry[0] != verb:
            self.misfit = f'{verb} was asked for where {entry[0]} was'
            self._past.clear()
            return None
        if entry[1:2] == [_ERROR]:
            raise (MemoryError if entry[3] else RuntimeError)(entry[2])
        return entry

    def _kept(
        self, verb: str, compute: Callable[[], T], figures: Callable[[T], list[Any]] = lambda made: []
    ) -> T:
        try:
            made = compute()
        except Exception as error:
            self._entries.append([verb, _ERROR, str(error), is_out_of_memory(error)])
            raise
        self._entries.append([verb, *figures(made)])
        return made


def _figures(made: Propagation[Any]) -> list[float | None]:
    values = made.motion_px, made.coverage, made.residual, made.disagreement
    return [None if value is None else float(value) for value in values]
