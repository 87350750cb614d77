# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Answers that are final when they leave a device: on the host the rule for each pixel would take longer than
the networks of a propagated frame.
"""

from __future__ import annotations

from typing import Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.graph import GraphBackend
from dff_ros.backends.handles import FrameFeature
from dff_ros.backends.runner import Size, TensorT
from dff_ros.confidence import FinalAnswer, PixelRule
from dff_ros.errors import ShapeError
from dff_ros.geometry import grid_size
from dff_ros.types import Segmentation

_FINAL = ('final_label_map', 'sums', 'final_confidence')

HandleT = TypeVar('HandleT', contravariant=True)


@runtime_checkable
class Finishing(Protocol[HandleT]):
    """A backend that also applies the rule for pixels."""

    def answer(self, feature: HandleT, source_size: Size, output_size: Size, rule: PixelRule) -> FinalAnswer:
        """What `ConfidenceRule.apply` makes of what `Backend.predict` gives; errors as both."""
        ...


class FinishingBackend(GraphBackend[TensorT]):
    """A GraphBackend whose runner has the graph `finish` (nets/finish.py)."""

    _held: tuple[NDArray[np.float32], TensorT] | None = None

    def answer(
        self,
        feature: FrameFeature[TensorT],
        source_size: Size,
        output_size: Size,
        rule: PixelRule,
    ) -> FinalAnswer:
        """See Finishing."""
        network = self._network_of(feature, source_size, 'segmentation')
        grid, expected = rule.cells_2hw.shape[1:], grid_size(network, self._stride)
        if grid != expected:
            raise ShapeError(f'{grid} cells; an image of {source_size} has {expected}')
        label_map, confidence = self._predict(feature, network, output_size)
        inputs = {
            'label_map': label_map,
            'confidence': confidence,
            'cells': self._runner.tensor(rule.cells_2hw),
            **self._sizes.cells(output_size, network),
            'numbers': self._numbers(rule),
        }
        names = _FINAL if rule.has_confidence else _FINAL[:2]
        arrays = self._runner.arrays(self._runner.run('finish', inputs, names))
        final, sums, *sure = cast(list[NDArray[np.uint8]], arrays)
        total, num_unknown = (int(value) / final.size for value in sums)
        segmentation = Segmentation(final, sure[0] if sure else None)
        return FinalAnswer(segmentation, total / 255 if sure else None, num_unknown)

    def warm_up(self, size: Size) -> None:
        """See GraphBackend; the final answers too."""
        super().warm_up(size)
        if 'segmentation' not in self._spec.tasks:
            return
        feature = self.extract(np.zeros((*size, 3), np.uint8)).feature
        cells = np.ones((2, *feature.feature.shape[2:]), np.float32)
        rule = PixelRule(cells, np.arange(256, dtype=np.float32), 0.5, 0.0)
        for _ in range(2):
            self.answer(feature, size, size, rule)

    def _numbers(self, rule: PixelRule) -> TensorT:
        """They change with settings only, so they stay on the device."""
        limits = np.array([rule.least_validity, rule.least_confidence], np.float32)
        numbers = np.concatenate((rule.table_256, limits))
        if self._held is None or not np.array_equal(self._held[0], numbers):
            self._held = numbers, self._runner.tensor(numbers)
        return self._held[1]
