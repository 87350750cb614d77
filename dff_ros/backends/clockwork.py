# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Stage reuse (nets/clockwork.py) as a backend, in eager torch: a baseline of `dff eval`."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.backends.base import BackendInfo
from dff_ros.backends.graph import GraphBackend, checked_size
from dff_ros.backends.handles import FrameFeature, Key, KeyContext
from dff_ros.backends.torch import TorchRunner
from dff_ros.backends.use import GraphUse
from dff_ros.bundle import Bundle, task_graph_names
from dff_ros.config import DffConfig
from dff_ros.errors import ShapeError
from dff_ros.geometry import grid_size, network_size
from dff_ros.nets.clockwork import FRESH_STAGES, clockwork_graphs
from dff_ros.types import KeyFeature, Propagation


class ClockworkBackend(GraphBackend[Tensor]):
    """A bundle whose frames between key frames run the first stages only; see nets.clockwork.Clockwork.

    Nothing is warped: `validity_hw` and `coverage` of a propagation are 1 and `motion_px` is 0. Raises as
    TorchRunner.
    """

    def __init__(
        self, bundle: Bundle, num_threads: int, device: str = 'auto', fresh_stages: int = FRESH_STAGES
    ) -> None:
        make = partial(clockwork_graphs, fresh_stages=fresh_stages)
        graphs = ('extract', 'propagate', *task_graph_names(bundle.spec))
        runner = TorchRunner(bundle, num_threads, graphs, device, make)
        choice = 'it runs in torch only'
        info = BackendInfo(
            'clockwork', runner.device, runner.runtime, num_threads, choice, precision=runner.precision
        )
        super().__init__(runner, bundle, info, GraphUse.of(bundle.spec, DffConfig(flow='zero')))
        self._extracted, self._propagated = runner.outputs('extract'), runner.outputs('propagate')

    def extract(self, image_HW3: NDArray[np.uint8]) -> Key[Tensor]:
        """Feature of a key image, and what its deep blocks add."""
        size = checked_size(image_HW3)
        inputs = self._sizes.image(image_HW3, network_size(size, self._spec.nominal_size))
        names = self._extracted
        residuals = dict(zip(names, self._runner.run('extract', inputs, names), strict=True))
        feature = self._frame_feature([residuals.pop(name) for name in self._propagated])
        self._runner.wait()
        return KeyFeature(feature, KeyContext(size, None, residuals))

    def adopt(self, image_HW3: NDArray[np.uint8], key: Key[Tensor]) -> Key[Tensor]:
        """The key frame as it is: only another ClockworkBackend can have made it."""
        return key

    def propagate(self, image_HW3: NDArray[np.uint8], key: Key[Tensor]) -> Propagation[FrameFeature[Tensor]]:
        """The first stages of the current image, with what the key image's deep blocks add."""
        size = checked_size(image_HW3)
        if size != key.context.size:
            raise ShapeError(
                f'the current image is {size}, its key image {key.context.size}: extract a new key frame'
            )
        network = network_size(size, self._spec.nominal_size)
        inputs = {**self._sizes.image(image_HW3, network), **key.context.inputs}
        feature = self._frame_feature(self._runner.run('propagate', inputs, self._propagated))
        self._runner.wait()
        validity = np.ones(grid_size(network, self._stride), np.float32)
        return Propagation(feature, validity, motion_px=0.0, coverage=1.0)

    def _frame_feature(self, tensors: list[Tensor]) -> FrameFeature[Tensor]:
        feature, *light = tensors
        return FrameFeature(feature, dict(zip(self._spec.head_light, light, strict=True)))
