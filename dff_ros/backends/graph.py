"""The backend over the graphs of a bundle, whatever runs them: geometry, flow source, checks, timing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import BackendInfo
from dff_ros.backends.flow import FlowSource, motion_px
from dff_ros.backends.handles import FrameFeature, Key, KeyContext
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
from dff_ros.backends.use import GraphUse
from dff_ros.bundle import Bundle
from dff_ros.errors import ShapeError
from dff_ros.geometry import grid_size, network_size
from dff_ros.types import MIN_SIDE, KeyFeature, Propagation, Segmentation

_PROPAGATED = ('propagated', 'validity', 'flow')
_NORMALISED = 'normalised'
"""The output of `extract` that a flow net of the paper takes of the key frame, as `key_image`."""

_OTHER_KEY = 'the key frame was extracted with other settings of flow and correction: extract a new key frame'


@dataclass(frozen=True, slots=True)
class _Moved(Generic[TensorT]):
    """The warped key feature, the light features of the current frame, and when its flow was known."""

    feature: TensorT
    flow: TensorT
    validity_hw: NDArray[np.float32]
    light: Tensors[TensorT]
    flow_ns: int


class GraphBackend(Generic[TensorT]):
    """`Backend` over a GraphRunner.

    `flow` of `use`: 'zero' copies the key feature, 'dis' asks `flow_source`, any other is the bundle's own
    flow net.
    """

    def __init__(
        self,
        runner: GraphRunner[TensorT],
        bundle: Bundle,
        info: BackendInfo,
        use: GraphUse,
        flow_source: FlowSource | None = None,
    ) -> None:
        self._runner = runner
        self._spec = bundle.spec
        self._stride, self._score_stride = bundle.stride, bundle.score_stride
        self._info = info
        self._use = use
        self._flow_source = flow_source
        self._taps = lru_cache(maxsize=16)(self._make_taps)
        self._matrices = lru_cache(maxsize=16)(self._make_matrices)

    @property
    def info(self) -> BackendInfo:
        """What runs where."""
        return self._info

    def extract(self, image_HW3: NDArray[np.uint8]) -> Key[TensorT]:
        """Feature of a key image."""
        size = checked_size(image_HW3)
        network = network_size(size, self._spec.nominal_size)
        names = self._light_names + ((_NORMALISED,) if self._use.has_key_image else ())
        feature, *rest = self._runner.run('extract', self._image(image_HW3, network), ('feature', *names))
        seen = dict(zip(names, rest, strict=True))
        inputs = self._key_light(seen)
        if self._use.has_key_image:
            inputs['key_image'] = seen[_NORMALISED]
        grey = self._flow_source.prepare(image_HW3, network) if self._flow_source else None
        return KeyFeature(self._feature(feature, seen), KeyContext(size, grey, inputs))

    def adopt(self, image_HW3: NDArray[np.uint8], key: Key[TensorT]) -> Key[TensorT]:
        """Adds the input of a flow source, and the light features. The key image of a flow net of the paper
        only its own backend makes: let it extract.
        """
        context = key.context
        network = network_size(context.size, self._spec.nominal_size)
        grey, inputs = context.grey, context.inputs
        if self._flow_source is not None and grey is None:
            grey = self._flow_source.prepare(image_HW3, network)
        if not all(f'key_{name}' in inputs for name in self._use.key_light):
            inputs = {**inputs, **self._key_light(self._look(image_HW3, network))}
        if grey is context.grey and inputs is context.inputs:
            return key
        return KeyFeature(key.feature, KeyContext(context.size, grey, inputs))

    def propagate(
        self, image_HW3: NDArray[np.uint8], key: Key[TensorT]
    ) -> Propagation[FrameFeature[TensorT]]:
        """Equation (3), then the correction if it is in use. `flow_ms` contains the look at the current
        frame, and with a flow net in the graph the warp.
        """
        start_ns = time.perf_counter_ns()
        size = checked_size(image_HW3)
        if size != key.context.size:
            raise ShapeError(
                f'the current image is {size}, its key image {key.context.size}: extract a new key frame'
            )
        network = network_size(size, self._spec.nominal_size)
        moved = self._move(image_HW3, network, key)
        warp_ns = time.perf_counter_ns()
        feature = self._correct(moved, key.context) if self._use.is_correcting else moved.feature
        end_ns = time.perf_counter_ns()
        flow = cast(NDArray[np.float32], self._runner.array(moved.flow))[0]
        return Propagation(
            self._feature(feature, moved.light),
            moved.validity_hw,
            motion_px=motion_px(flow, self._stride, size, network),
            coverage=float(moved.validity_hw.mean()),
            flow_ms=(moved.flow_ns - start_ns) / 1e6,
            warp_ms=(warp_ns - moved.flow_ns) / 1e6,
            correct_ms=(end_ns - warp_ns) / 1e6,
        )

    def predict(self, feature: FrameFeature[TensorT], source_size: Size, output_size: Size) -> Segmentation:
        """Label map and confidence of `output_size`; ShapeError if the feature is not of `source_size`."""
        network = network_size(source_size, self._spec.nominal_size)
        grid, expected = tuple(feature.feature.shape[2:]), grid_size(network, self._stride)
        if grid != expected:
            raise ShapeError(f'the feature has {grid} cells; an image of {source_size} has {expected}')
        inputs = {'feature': feature.feature, **self._matrices(output_size, network)}
        if feature.detail is not None:
            inputs['fine'] = feature.detail
        label_map, confidence = (
            cast(NDArray[np.uint8], self._runner.array(tensor))
            for tensor in self._runner.run('predict', inputs, ('label_map', 'confidence'))
        )
        return Segmentation(label_map, confidence)

    def warm_up(self, size: Size) -> None:
        """Run each verb at an image size."""
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        for _ in range(2):  # runtimes settle their buffers in the second run
            propagation = self.propagate(image, self.extract(image))
            self.predict(propagation.feature, size, size)

    def close(self) -> None:
        """Free the runtime."""
        self._taps.cache_clear()
        self._matrices.cache_clear()
        self._runner.close()

    @property
    def _light_names(self) -> tuple[str, ...]:
        return self._spec.light_outputs if self._use.is_looking else ()

    def _feature(self, feature: TensorT, light: Tensors[TensorT]) -> FrameFeature[TensorT]:
        return FrameFeature(feature, light['fine'] if self._spec.detail else None)

    def _key_light(self, light: Tensors[TensorT]) -> dict[str, TensorT]:
        """What later frames need of a key frame's light features, by the names of their graphs' inputs."""
        return {f'key_{name}': light[name] for name in self._use.key_light}

    def _look(self, image_HW3: NDArray[np.uint8], network: Size) -> Tensors[TensorT]:
        names = self._light_names
        light = self._runner.run('look', self._image(image_HW3, network), names)
        return dict(zip(names, light, strict=True))

    def _move(self, image_HW3: NDArray[np.uint8], network: Size, key: Key[TensorT]) -> _Moved[TensorT]:
        """The key feature, warped along the flow in use."""
        feature, context = key.feature.feature, key.context
        if self._use.is_matching:
            return self._match(image_HW3, network, key)
        light = self._look(image_HW3, network) if self._use.is_looking else {}
        if self._use.flow == 'zero':
            grid = grid_size(network, self._stride)
            flow = self._runner.tensor(np.zeros((1, 2, *grid), np.float32))
            return _Moved(feature, flow, np.ones(grid, np.float32), light, time.perf_counter_ns())
        if self._flow_source is not None:
            if context.grey is None:
                raise ShapeError(_OTHER_KEY)
            current = self._flow_source.prepare(image_HW3, network)
            flow = self._runner.tensor(self._flow_source.flow(current, context.grey, network)[None])
            flow_ns = time.perf_counter_ns()
            inputs = {'feature': feature, 'flow': flow}
            warped, validity = self._runner.run(self._use.warp_graph, inputs, ('warped', 'validity'))
        else:
            own = {**_of_key(context, 'key_image'), 'key_feature': feature}
            inputs = {**self._image(image_HW3, network), **own}
            warped, validity, flow = self._runner.run('propagate', inputs, _PROPAGATED)
            flow_ns = time.perf_counter_ns()
        return _Moved(warped, flow, cast(NDArray[np.float32], self._runner.array(validity)), light, flow_ns)

    def _match(self, image_HW3: NDArray[np.uint8], network: Size, key: Key[TensorT]) -> _Moved[TensorT]:
        """The same with the correlation flow net, whose graph looks at the frame too."""
        names = self._light_names
        of_key = _of_key(key.context, *(f'key_{name}' for name in self._spec.matched))
        inputs = {**self._image(image_HW3, network), **of_key, 'key_feature': key.feature.feature}
        warped, validity, flow, *light = self._runner.run('propagate', inputs, (*_PROPAGATED, *names))
        flow_ns = time.perf_counter_ns()
        validity_hw = cast(NDArray[np.float32], self._runner.array(validity))
        return _Moved(warped, flow, validity_hw, dict(zip(names, light, strict=True)), flow_ns)

    def _correct(self, moved: _Moved[TensorT], context: KeyContext[TensorT]) -> TensorT:
        inputs = {
            'warped': moved.feature,
            'flow': moved.flow,
            'middle': moved.light['middle'],
            'coarse': moved.light['coarse'],
            **_of_key(context, 'key_middle'),
        }
        (corrected,) = self._runner.run('correct', inputs, ('corrected',))
        return corrected

    def _image(self, image_HW3: NDArray[np.uint8], network: Size) -> Tensors[TensorT]:
        """The inputs of a graph that takes a source image."""
        return {'image': self._runner.tensor(image_HW3), **self._taps(image_HW3.shape[:2], network)}

    def _make_taps(self, source: Size, network: Size) -> Tensors[TensorT]:
        arrays: tuple[Array, ...] = image_taps(source, network)
        return {name: self._runner.tensor(array) for name, array in zip(TAP_NAMES, arrays, strict=True)}

    def _make_matrices(self, output: Size, network: Size) -> Tensors[TensorT]:
        rows, columns = score_matrices(output, network, self._score_stride)
        return {'row_matrix': self._runner.tensor(rows), 'col_matrix': self._runner.tensor(columns)}


def _of_key(context: KeyContext[TensorT], *names: str) -> Tensors[TensorT]:
    if not all(name in context.inputs for name in names):
        raise ShapeError(_OTHER_KEY)
    return {name: context.inputs[name] for name in names}


def checked_size(image_HW3: NDArray[np.uint8]) -> Size:
    """(height, width) of an image; ShapeError unless it is one that a backend takes."""
    if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.dtype != np.uint8:
        raise ShapeError(
            f'a backend takes a uint8 image (height, width, 3), not {image_HW3.dtype} {image_HW3.shape}'
        )
    if min(image_HW3.shape[:2]) < MIN_SIDE:
        raise ShapeError(f'the image is {image_HW3.shape[:2]}; each side must be at least {MIN_SIDE}')
    return image_HW3.shape[0], image_HW3.shape[1]
