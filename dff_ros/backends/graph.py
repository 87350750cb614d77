"""The backend over the graphs of a bundle, whatever runs them: geometry, flow source, checks, timing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import BackendInfo
from dff_ros.backends.flow import FlowSource, motion_px
from dff_ros.errors import ShapeError
from dff_ros.geometry import grid_size, network_size, resample_taps, upsample_matrix
from dff_ros.model_spec import ModelSpec
from dff_ros.types import MIN_SIDE, KeyFeature, Propagation, Segmentation

TensorT = TypeVar('TensorT')
Size = tuple[int, int]
Taps = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


class GraphRunner(Protocol[TensorT]):
    """The graphs of nets/graphs.py in one runtime. Tensors that it returns own their memory."""

    @property
    def device(self) -> str:
        """Where it runs."""
        ...

    @property
    def runtime(self) -> str:
        """Name and version."""
        ...

    def extract(self, image_HW3: NDArray[np.uint8], network: Size) -> tuple[TensorT, TensorT | None]:
        """Feature, and the normalised key image if the bundle's flow net is in use."""
        ...

    def warp(self, feature: TensorT, flow_2hw: NDArray[np.float32]) -> tuple[TensorT, NDArray[np.float32]]:
        """Warped feature and validity (gh, gw)."""
        ...

    def propagate(
        self, image_HW3: NDArray[np.uint8], network: Size, key_image: TensorT, key_feature: TensorT
    ) -> tuple[TensorT, NDArray[np.float32], NDArray[np.float32]]:
        """Feature, validity (gh, gw) and flow (2, gh, gw) of the bundle's flow net."""
        ...

    def predict(
        self, feature: TensorT, network: Size, output: Size
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Label map and confidence of size `output`."""
        ...

    def grid(self, feature: TensorT) -> Size:
        """(gh, gw) of a feature."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class KeyContext(Generic[TensorT]):
    """What `propagate` needs of a key image: its size, and the input of flow net or flow source."""

    size: Size
    image: TensorT | None
    grey: NDArray[np.uint8] | None


class GraphBackend(Generic[TensorT]):
    """`Backend` over a GraphRunner.

    `flow`: 'zero' copies the key feature, 'dis' asks `flow_source`, any other is the bundle's own flow net.
    """

    def __init__(
        self,
        runner: GraphRunner[TensorT],
        spec: ModelSpec,
        stride: int,
        info: BackendInfo,
        flow: str,
        flow_source: FlowSource | None = None,
    ) -> None:
        self._runner = runner
        self._spec = spec
        self._stride = stride
        self._info = info
        self._is_copying = flow == 'zero'
        self._flow_source = flow_source

    @property
    def info(self) -> BackendInfo:
        """What runs where."""
        return self._info

    def extract(self, image_HW3: NDArray[np.uint8]) -> KeyFeature[TensorT, KeyContext[TensorT]]:
        """Feature of a key image."""
        size = _checked_size(image_HW3)
        network = network_size(size, self._spec.nominal_size)
        feature, key_image = self._runner.extract(image_HW3, network)
        grey = self._flow_source.prepare(image_HW3, network) if self._flow_source else None
        return KeyFeature(feature, KeyContext(size, key_image, grey))

    def adopt(
        self, image_HW3: NDArray[np.uint8], key: KeyFeature[TensorT, KeyContext[TensorT]]
    ) -> KeyFeature[TensorT, KeyContext[TensorT]]:
        """Adds the input of a flow source. That of a flow net only its own backend makes: let it extract."""
        context = key.context
        if self._flow_source is None or context.grey is not None:
            return key
        network = network_size(context.size, self._spec.nominal_size)
        grey = self._flow_source.prepare(image_HW3, network)
        return KeyFeature(key.feature, KeyContext(context.size, context.image, grey))

    def propagate(
        self, image_HW3: NDArray[np.uint8], key: KeyFeature[TensorT, KeyContext[TensorT]]
    ) -> Propagation[TensorT]:
        """Equation (3). With a flow net in the graph, `flow_ms` contains the warp."""
        start_ns = time.perf_counter_ns()
        size = _checked_size(image_HW3)
        context = key.context
        if size != context.size:
            raise ShapeError(
                f'the current image is {size}, its key image {context.size}: extract a new key frame'
            )
        network = network_size(size, self._spec.nominal_size)
        if self._is_copying:
            validity = np.ones(grid_size(network, self._stride), np.float32)
            return Propagation(key.feature, validity, motion_px=0.0, coverage=1.0)
        if self._flow_source is not None and context.grey is not None:
            current = self._flow_source.prepare(image_HW3, network)
            flow = self._flow_source.flow(current, context.grey, network)
            flow_ns = time.perf_counter_ns()
            feature, validity = self._runner.warp(key.feature, flow)
        elif context.image is not None:
            feature, validity, flow = self._runner.propagate(image_HW3, network, context.image, key.feature)
            flow_ns = time.perf_counter_ns()
        else:
            raise ShapeError('the key frame was extracted with another flow source: extract a new key frame')
        end_ns = time.perf_counter_ns()
        return Propagation(
            feature,
            validity,
            motion_px=motion_px(flow, self._stride, size, network),
            coverage=float(validity.mean()),
            flow_ms=(flow_ns - start_ns) / 1e6,
            warp_ms=(end_ns - flow_ns) / 1e6,
        )

    def predict(self, feature: TensorT, source_size: Size, output_size: Size) -> Segmentation:
        """Label map and confidence of `output_size`; ShapeError if the feature is not of `source_size`."""
        network = network_size(source_size, self._spec.nominal_size)
        grid, expected = self._runner.grid(feature), grid_size(network, self._stride)
        if grid != expected:
            raise ShapeError(f'the feature has {grid} cells; an image of {source_size} has {expected}')
        return Segmentation(*self._runner.predict(feature, network, output_size))

    def warm_up(self, size: Size) -> None:
        """Run each verb at an image size."""
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        for _ in range(2):  # runtimes settle their buffers in the second run
            propagation = self.propagate(image, self.extract(image))
            self.predict(propagation.feature, size, size)

    def close(self) -> None:
        """Free the runtime."""
        self._runner.close()


@lru_cache(maxsize=16)
def image_taps(source: Size, network: Size) -> Taps:
    """Inputs row_index, row_weight, col_index, col_weight of the graphs: (outputs, taps), C-contiguous."""
    taps = [array for axis in (0, 1) for array in resample_taps(network[axis], source[axis])]
    row_index, row_weight, col_index, col_weight = (np.ascontiguousarray(array.T) for array in taps)
    return row_index, row_weight, col_index, col_weight  # type: ignore[return-value]


@lru_cache(maxsize=16)
def score_matrices(
    output: Size, network: Size, stride: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inputs row_matrix (H, gh) and col_matrix (gw, W) of the predict graph."""
    rows, columns = (upsample_matrix(output[axis], network[axis], stride) for axis in (0, 1))
    return rows, np.ascontiguousarray(columns.T)


def _checked_size(image_HW3: NDArray[np.uint8]) -> Size:
    if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.dtype != np.uint8:
        raise ShapeError(
            f'a backend takes a uint8 image (height, width, 3), not {image_HW3.dtype} {image_HW3.shape}'
        )
    if min(image_HW3.shape[:2]) < MIN_SIDE:
        raise ShapeError(f'the image is {image_HW3.shape[:2]}; each side must be at least {MIN_SIDE}')
    return image_HW3.shape[0], image_HW3.shape[1]
