"""Stage reuse (nets/clockwork.py) as a backend, in eager torch: a baseline of `dff eval`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_ros.backends.base import BackendInfo
from dff_ros.backends.graph import Size, _checked_size, image_taps, score_matrices
from dff_ros.backends.torch import _load_model
from dff_ros.bundle import Bundle
from dff_ros.errors import ShapeError
from dff_ros.geometry import grid_size, network_size
from dff_ros.nets.clockwork import FRESH_STAGES, Clockwork, Residuals
from dff_ros.nets.graphs import _Resample
from dff_ros.nets.segmentation import SegmentationHead, upsample_scores
from dff_ros.types import KeyFeature, Propagation, Segmentation


class ClockworkFeature(NamedTuple):
    """A feature, and the detail of the same frame where the head takes one."""

    feature: Tensor
    detail: Tensor | None


@dataclass(frozen=True, slots=True)
class ClockworkContext:
    """Of a key image: its size, and what its deep blocks add."""

    size: Size
    residuals: Residuals


Key = KeyFeature[ClockworkFeature, ClockworkContext]


class ClockworkBackend:
    """A bundle whose frames between key frames run the first stages only; see nets.clockwork.Clockwork.

    Nothing is warped: `validity_hw` and `coverage` of a propagation are 1 and `motion_px` is 0.
    `num_threads` is set for torch in the whole process. Raises BundleError for weights that do not fit.
    """

    def __init__(self, bundle: Bundle, num_threads: int, fresh_stages: int = FRESH_STAGES) -> None:
        torch.set_num_threads(num_threads)
        self._device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        self._model = _load_model(bundle).to(self._device)
        self._spec, self._stride = bundle.spec, bundle.stride
        self._resample = _Resample(self._model)
        self._clockwork = Clockwork(self._model.feature_net, fresh_stages)
        self._head = cast(SegmentationHead, self._model.heads['segmentation'])
        self._taps = lru_cache(maxsize=16)(self._make_taps)
        self._matrices = lru_cache(maxsize=16)(self._make_matrices)
        self._num_threads = num_threads

    @property
    def info(self) -> BackendInfo:
        """What runs where."""
        return BackendInfo(
            'clockwork', self._device.type, f'torch {torch.__version__}', self._num_threads, 'a baseline'
        )

    @torch.inference_mode()
    def extract(self, image_HW3: NDArray[np.uint8]) -> Key:
        """Feature of a key image, and what its deep blocks add."""
        size = _checked_size(image_HW3)
        image = self._normalised(image_HW3, size)
        feature, residuals = self._clockwork.extract(image)
        return KeyFeature(ClockworkFeature(feature, self._detail(image)), ClockworkContext(size, residuals))

    def adopt(self, image_HW3: NDArray[np.uint8], key: Key) -> Key:
        """The key frame as it is: only another ClockworkBackend can have made it."""
        return key

    @torch.inference_mode()
    def propagate(self, image_HW3: NDArray[np.uint8], key: Key) -> Propagation[ClockworkFeature]:
        """The first stages of the current image, with what the key image's deep blocks add."""
        size = _checked_size(image_HW3)
        if size != key.context.size:
            raise ShapeError(
                f'the current image is {size}, its key image {key.context.size}: extract a new key frame'
            )
        image = self._normalised(image_HW3, size)
        feature = self._clockwork(image, key.context.residuals)
        validity = np.ones(feature.shape[2:], np.float32)
        return Propagation(
            ClockworkFeature(feature, self._detail(image)), validity, motion_px=0.0, coverage=1.0
        )

    @torch.inference_mode()
    def predict(self, feature: ClockworkFeature, source_size: Size, output_size: Size) -> Segmentation:
        """Label map and confidence of `output_size`; ShapeError if the feature is not of `source_size`."""
        network = network_size(source_size, self._spec.nominal_size)
        grid, expected = tuple(feature.feature.shape[2:]), grid_size(network, self._stride)
        if grid != expected:
            raise ShapeError(f'the feature has {grid} cells; an image of {source_size} has {expected}')
        scores = upsample_scores(self._head(*feature), *self._matrices(output_size, network))[0]
        label_map, confidence = self._head.decode(scores.unbind(0))
        return Segmentation(label_map.cpu().numpy(), confidence.cpu().numpy())

    def warm_up(self, size: Size) -> None:
        """Run each verb at an image size."""
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        for _ in range(2):
            self.predict(self.propagate(image, self.extract(image)).feature, size, size)

    def close(self) -> None:
        """Forget what was made for image sizes."""
        self._taps.cache_clear()
        self._matrices.cache_clear()

    def _normalised(self, image_HW3: NDArray[np.uint8], size: Size) -> Tensor:
        taps = self._taps(size, network_size(size, self._spec.nominal_size))
        image: Tensor = self._resample(self._tensor(image_HW3), *taps)
        return image

    def _detail(self, image: Tensor) -> Tensor | None:
        if not self._spec.detail or self._model.light_net is None:
            return None
        detail: Tensor = self._model.light_net(image).fine
        return detail

    def _make_taps(self, source: Size, network: Size) -> tuple[Tensor, ...]:
        return tuple(self._tensor(array) for array in image_taps(source, network))

    def _make_matrices(self, output: Size, network: Size) -> tuple[Tensor, Tensor]:
        rows, columns = score_matrices(output, network, self._model.score_stride)
        return self._tensor(rows), self._tensor(columns)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        # torch has no read-only tensors and warns; nothing here writes to its inputs
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self._device)
