# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The backend over the graphs of a bundle, whatever runs them: geometry, flow source, checks, timing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, cast

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import BackendInfo
from dff_ros.backends.flow import FlowSource, motion_px
from dff_ros.backends.handles import FrameFeature, Key, KeyContext
from dff_ros.backends.photometric import cell_brightness, warp_residual
from dff_ros.backends.runner import GraphRunner, Size, Tensors, TensorT
from dff_ros.backends.size_inputs import SizeInputs
from dff_ros.backends.use import GraphUse
from dff_ros.bundle import Bundle
from dff_ros.errors import ConfigError, ShapeError
from dff_ros.geometry import grid_size, network_size
from dff_ros.types import MIN_SIDE, Detections, KeyFeature, Propagation, Segmentation

_PROPAGATED = ('propagated', 'validity', 'flow')
_NORMALISED = 'normalised'
"""The output of `extract` that a flow net of the paper takes of the key frame, as `key_image`."""

_OTHER_KEY = 'the key frame was extracted with other settings of flow and correction: extract a new key frame'


@dataclass(frozen=True, slots=True)
class _Moved(Generic[TensorT]):
    """The warped key feature, the light features of the current frame, and when its flow was known."""

    feature: TensorT
    flow: TensorT
    validity: TensorT
    light: Tensors[TensorT]
    flow_known: object


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
        self._stride = bundle.stride
        self._info = info
        self._use = use
        self._flow_source = flow_source
        self._sizes = SizeInputs(runner, bundle.score_stride, bundle.stride)

    @property
    def info(self) -> BackendInfo:
        """What runs where."""
        return self._info

    def extract(self, image_HW3: NDArray[np.uint8]) -> Key[TensorT]:
        """Feature of a key image."""
        size = checked_size(image_HW3)
        network = network_size(size, self._spec.nominal_size)
        names = self._light_names + ((_NORMALISED,) if self._use.has_key_image else ())
        feature, *rest = self._runner.run(
            'extract', self._sizes.image(image_HW3, network), ('feature', *names)
        )
        seen = dict(zip(names, rest, strict=True))
        inputs = self._key_light(seen)
        if self._use.has_key_image:
            inputs['key_image'] = seen[_NORMALISED]
        grey = self._flow_source.prepare(image_HW3, network) if self._flow_source else None
        brightness = cell_brightness(image_HW3, network, self._stride)  # while a device computes
        self._runner.wait()
        return KeyFeature(self._feature(feature, seen), KeyContext(size, grey, inputs, brightness))

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
        return KeyFeature(key.feature, replace(context, grey=grey, inputs=inputs))

    def propagate(
        self, image_HW3: NDArray[np.uint8], key: Key[TensorT]
    ) -> Propagation[FrameFeature[TensorT]]:
        """Equation (3), then the correction and the quality net if they are in use. `flow_ms` contains the
        look at the current frame, and with a flow net in the graph the warp.
        """
        start = self._runner.mark()
        size = checked_size(image_HW3)
        if size != key.context.size:
            raise ShapeError(
                f'the current image is {size}, its key image {key.context.size}: extract a new key frame'
            )
        network = network_size(size, self._spec.nominal_size)
        moved = self._move(image_HW3, network, key)
        warped = self._runner.mark()
        feature, judged = self._finish(moved, key.context)
        end = self._runner.mark()
        brightness = cell_brightness(image_HW3, network, self._stride)  # while a device computes
        downloaded = self._runner.arrays([moved.flow, moved.validity, *judged])
        flow_ms, warp_ms, correct_ms = self._runner.ms_between((start, moved.flow_known, warped, end))
        flow, validity_hw, *disagreement = cast(list[NDArray[np.float32]], downloaded)
        disagreement_hw = disagreement[0] if disagreement else None
        return Propagation(
            self._feature(feature, moved.light),
            validity_hw,
            motion_px=motion_px(flow[0], self._stride, size, network),
            coverage=float(validity_hw.mean()),
            residual=_residual(brightness, key.context, flow[0], validity_hw),
            disagreement=None if disagreement_hw is None else float(disagreement_hw.mean()),
            disagreement_hw=disagreement_hw,
            flow_ms=flow_ms,
            warp_ms=warp_ms,
            correct_ms=correct_ms,
        )

    def predict(self, feature: FrameFeature[TensorT], source_size: Size, output_size: Size) -> Segmentation:
        """Label map and confidence of `output_size`; ShapeError if the feature is not of `source_size`,
        ConfigError if the bundle has no segmentation.
        """
        network = self._network_of(feature, source_size, 'segmentation')
        answer = self._runner.arrays(self._predict(feature, network, output_size))
        label_map, confidence = cast(list[NDArray[np.uint8]], answer)
        return Segmentation(label_map, confidence)

    def detect(
        self, feature: FrameFeature[TensorT], source_size: Size, nms_iou: float, score_threshold: float
    ) -> Detections:
        """Objects in pixels of the source image; errors as `predict`."""
        network = self._network_of(feature, source_size, 'detection')
        limits = {'nms_iou': nms_iou, 'score_threshold': score_threshold}
        inputs = {
            'feature': feature.feature,
            **self._sizes.boxes(source_size, network),
            **{name: self._runner.tensor(np.array([value], np.float32)) for name, value in limits.items()},
        }
        if 'middle' in self._spec.head_light:
            inputs['middle'] = feature.light['middle']
        outputs = self._runner.run('detect', inputs, ('boxes', 'num_boxes'))
        rows, number = self._runner.arrays(outputs)
        found = cast(NDArray[np.float32], rows)[: int(number[0])]
        # What was clipped to the network image may be off by a rounding error once it is scaled.
        edges = np.clip(found[:, :4], 0, np.array([*source_size[::-1]] * 2, np.float32))
        return Detections(edges, found[:, 5].astype(np.int64), found[:, 4].copy())

    def warm_up(self, size: Size) -> None:
        """Run each verb at an image size."""
        for one in self._runner.sizes or (size,):
            image = np.random.default_rng(0).integers(0, 256, (*one, 3), np.uint8)
            for _ in range(2):  # runtimes settle their buffers in the second run
                feature = self.propagate(image, self.extract(image)).feature
                if 'segmentation' in self._spec.tasks:
                    self.predict(feature, one, one)
                if 'detection' in self._spec.tasks:
                    self.detect(feature, one, nms_iou=0.5, score_threshold=0.5)

    def close(self) -> None:
        """Free the runtime."""
        self._sizes.clear()
        self._runner.close()

    @property
    def _light_names(self) -> tuple[str, ...]:
        return self._spec.light_outputs if self._use.is_looking else ()

    def _feature(self, feature: TensorT, light: Tensors[TensorT]) -> FrameFeature[TensorT]:
        return FrameFeature(feature, {name: light[name] for name in self._spec.head_light})

    def _predict(self, feature: FrameFeature[TensorT], network: Size, output_size: Size) -> list[TensorT]:
        """Label map and confidence, where they were computed."""
        inputs = {'feature': feature.feature, **self._sizes.scores(output_size, network)}
        if self._spec.detail:
            inputs['fine'] = feature.light['fine']
        return self._runner.run('predict', inputs, ('label_map', 'confidence'))

    def _network_of(self, feature: FrameFeature[TensorT], source_size: Size, task: str) -> Size:
        """Size of the network image of a feature that goes to the head of a task."""
        if task not in self._spec.tasks:
            raise ConfigError(f'the bundle has no {task}, only {", ".join(self._spec.tasks)}')
        network = network_size(source_size, self._spec.nominal_size)
        grid, expected = tuple(feature.feature.shape[2:]), grid_size(network, self._stride)
        if grid != expected:
            raise ShapeError(f'the feature has {grid} cells; an image of {source_size} has {expected}')
        return network

    def _key_light(self, light: Tensors[TensorT]) -> dict[str, TensorT]:
        """What later frames need of a key frame's light features, by the names of their graphs' inputs."""
        return {f'key_{name}': light[name] for name in self._use.key_light}

    def _look(self, image_HW3: NDArray[np.uint8], network: Size) -> Tensors[TensorT]:
        names = self._light_names
        light = self._runner.run('look', self._sizes.image(image_HW3, network), names)
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
            validity = self._runner.tensor(np.ones(grid, np.float32))
            return _Moved(feature, flow, validity, light, self._runner.mark())
        if self._flow_source is not None:
            if context.grey is None:
                raise ShapeError(_OTHER_KEY)
            current = self._flow_source.prepare(image_HW3, network)
            flow = self._runner.tensor(self._flow_source.flow(current, context.grey, network)[None])
            flow_known = self._runner.mark()
            inputs = {'feature': feature, 'flow': flow}
            warped, validity = self._runner.run(self._use.warp_graph, inputs, ('warped', 'validity'))
        else:
            own = {**_of_key(context, 'key_image'), 'key_feature': feature}
            inputs = {**self._sizes.image(image_HW3, network), **own}
            warped, validity, flow = self._runner.run('propagate', inputs, _PROPAGATED)
            flow_known = self._runner.mark()
        return _Moved(warped, flow, validity, light, flow_known)

    def _match(self, image_HW3: NDArray[np.uint8], network: Size, key: Key[TensorT]) -> _Moved[TensorT]:
        """The same with the correlation flow net, whose graph looks at the frame too."""
        names = self._light_names
        of_key = _of_key(key.context, *(f'key_{name}' for name in self._spec.matched))
        inputs = {**self._sizes.image(image_HW3, network), **of_key, 'key_feature': key.feature.feature}
        warped, validity, flow, *light = self._runner.run('propagate', inputs, (*_PROPAGATED, *names))
        return _Moved(warped, flow, validity, dict(zip(names, light, strict=True)), self._runner.mark())

    def _finish(self, moved: _Moved[TensorT], context: KeyContext[TensorT]) -> tuple[TensorT, list[TensorT]]:
        """The feature, corrected if that is in use, and with a quality net where its labels will not be those
        of per-frame inference.
        """
        use = self._use
        if not (use.is_correcting or use.is_judging):
            return moved.feature, []
        inputs = {'warped': moved.feature, 'flow': moved.flow, 'middle': moved.light['middle']}
        inputs |= _of_key(context, 'key_middle')
        names = ('disagreement',) if use.is_judging else ()
        if use.is_correcting:
            inputs['coarse'] = moved.light['coarse']
            feature, *judged = self._runner.run('correct', inputs, ('corrected', *names))
        else:
            feature, judged = moved.feature, self._runner.run('quality', inputs, names)
        return feature, judged


def _of_key(context: KeyContext[TensorT], *names: str) -> Tensors[TensorT]:
    if not all(name in context.inputs for name in names):
        raise ShapeError(_OTHER_KEY)
    return {name: context.inputs[name] for name in names}


def _residual(
    brightness_hw: NDArray[np.float32],
    context: KeyContext[TensorT],
    flow_2hw: NDArray[np.float32],
    validity_hw: NDArray[np.float32],
) -> float:
    """The photometric error of the warp."""
    if context.brightness_hw is None:
        raise ShapeError(_OTHER_KEY)
    return warp_residual(brightness_hw, context.brightness_hw, flow_2hw, validity_hw)


def checked_size(image_HW3: NDArray[np.uint8]) -> Size:
    """(height, width) of an image; ShapeError unless it is one that a backend takes."""
    if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.dtype != np.uint8:
        raise ShapeError(
            f'a backend takes a uint8 image (height, width, 3), not {image_HW3.dtype} {image_HW3.shape}'
        )
    if min(image_HW3.shape[:2]) < MIN_SIDE:
        raise ShapeError(f'the image is {image_HW3.shape[:2]}; each side must be at least {MIN_SIDE}')
    return image_HW3.shape[0], image_HW3.shape[1]
