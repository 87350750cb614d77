# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The inputs of graphs that follow from image sizes alone, kept where the runtime takes them."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.runner import (
    TAP_NAMES,
    Array,
    GraphRunner,
    Size,
    Tensors,
    TensorT,
    image_taps,
    score_matrices,
)


class SizeInputs(Generic[TensorT]):
    """Inputs by name, for a runner; those of the last sizes are kept. `scores` and `cells` upsample the
    scores and what is known for each cell of the feature. `score_stride`, `stride`: see Bundle.
    """

    def __init__(self, runner: GraphRunner[TensorT], score_stride: int, stride: int) -> None:
        self._runner = runner
        self._taps = lru_cache(maxsize=16)(self._make_taps)
        self.scores = lru_cache(maxsize=16)(partial(self._make_matrices, score_stride))
        self.cells = lru_cache(maxsize=16)(partial(self._make_matrices, stride))
        self.boxes = lru_cache(maxsize=16)(self._make_scale)

    def image(self, image_HW3: NDArray[np.uint8], network: Size) -> Tensors[TensorT]:
        """Of a graph that takes a source image."""
        return {'image': self._runner.tensor(image_HW3), **self._taps(image_HW3.shape[:2], network)}

    def clear(self) -> None:
        """Let go of them."""
        for cached in (self._taps, self.scores, self.cells, self.boxes):
            cached.cache_clear()

    def _make_taps(self, source: Size, network: Size) -> Tensors[TensorT]:
        arrays: tuple[Array, ...] = image_taps(source, network)
        return {name: self._runner.tensor(array) for name, array in zip(TAP_NAMES, arrays, strict=True)}

    def _make_matrices(self, stride: int, output: Size, network: Size) -> Tensors[TensorT]:
        rows, columns = score_matrices(output, network, stride)
        return {'row_matrix': self._runner.tensor(rows), 'col_matrix': self._runner.tensor(columns)}

    def _make_scale(self, source: Size, network: Size) -> Tensors[TensorT]:
        size = np.array(network, np.float32)
        scale = np.array(source, np.float32) / size
        return {'network_size': self._runner.tensor(size), 'scale': self._runner.tensor(scale)}
