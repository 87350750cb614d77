# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The runner for GPUs, with the CPU in their place: bound inputs and outputs, fixed sizes, half precision."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('cv2')
import onnxruntime
from tiny_models import moving_clip, texture

from dff_ros.backends import onnx_device
from dff_ros.backends.base import BackendInfo, open_backend
from dff_ros.backends.dis import DisFlow
from dff_ros.backends.graph import GraphBackend
from dff_ros.backends.onnx_device import HOST_OUTPUTS, DeviceRunner, DeviceTensor
from dff_ros.backends.onnx_editing import HALF_TENSORS
from dff_ros.backends.onnx_providers import Provider, cpu_provider
from dff_ros.backends.use import GraphUse
from dff_ros.config import DffConfig
from dff_ros.types import KeyFeature

BUNDLES = ('dis_bundle', 'flow_bundle', 'light_bundle', 'detection_bundle')
SIZE = (96, 128)
OTHER_SIZE = (131, 90)
CONFIG = DffConfig(backend='onnx', device='cpu', num_threads=1)


def device_backend(bundle, precision: str = 'fp32', config: DffConfig = CONFIG) -> GraphBackend[DeviceTensor]:
    """What `open_backend` gives on a GPU, but with the CPU in its place."""
    use = GraphUse.of(bundle.spec, config)
    runner = DeviceRunner(bundle, use.graphs, cpu_provider(precision))
    info = BackendInfo('onnx', runner.device, runner.runtime, 1, 'a test')
    source = DisFlow(bundle.stride, 1) if use.flow == 'dis' else None
    return GraphBackend(runner, bundle, info, use, source)


@pytest.fixture(params=BUNDLES)
def bundle(request):
    return request.getfixturevalue(request.param)


def numbers(backend, clip) -> dict[str, np.ndarray]:
    """All that a backend gives of a key frame and one propagated from it, as single precision."""
    size = clip[0].shape[:2]
    key = backend.extract(clip[0])
    moved = backend.propagate(clip[1], key)
    found = {'key': key.feature, 'moved': moved.feature, 'validity': moved.validity_hw}
    found |= {'motion': moved.motion_px, 'residual': moved.residual, 'coverage': moved.coverage}
    if moved.disagreement_hw is not None:
        found['disagreement'] = moved.disagreement_hw
    if 'segmentation' in backend._spec.tasks:
        answer = backend.predict(moved.feature, size, (50, 70))
        found |= {'labels': answer.label_map_HW, 'confidence': answer.confidence_HW}
    if 'detection' in backend._spec.tasks:
        boxes = backend.detect(moved.feature, size, 0.5, 0.05)
        found |= {'boxes': boxes.boxes_xyxy, 'scores': boxes.scores_N}
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def test_bound_runs_at_fixed_sizes_give_what_plain_runs_give(bundle):
    with closing(device_backend(bundle)) as bound, closing(open_backend(bundle, CONFIG)) as plain:
        for size in (SIZE, OTHER_SIZE, SIZE):
            clip = moving_clip(size, 2, (3, -2))
            expected, found = numbers(plain, clip), numbers(bound, clip)
            assert found.keys() == expected.keys()
            for name in set(expected) - {'labels', 'confidence'}:
                np.testing.assert_allclose(found[name], expected[name], atol=1e-3, err_msg=name)
            if 'labels' in expected:
                assert (found['labels'] == expected['labels']).mean() >= 0.999
                assert len(np.unique(expected['labels'])) > 1


def test_half_precision_is_near_single_precision(bundle):
    clip = moving_clip(SIZE, 2, (3, -2))
    with closing(device_backend(bundle, 'fp16')) as half, closing(open_backend(bundle, CONFIG)) as plain:
        expected, found = numbers(plain, clip), numbers(half, clip)
        assert half.extract(clip[0]).feature.feature.numpy().dtype == np.float16
    for name in ('key', 'moved'):
        scale = np.abs(expected[name]).max()
        error = np.abs(found[name] - expected[name]).max() / scale
        assert 0 < error < 0.02, name  # not the same numbers, but near them
    np.testing.assert_allclose(found['motion'], expected['motion'], atol=0.2)
    np.testing.assert_allclose(found['validity'], expected['validity'], atol=0.05)
    if 'labels' in expected:
        assert (found['labels'] == expected['labels']).mean() >= 0.97


def test_a_key_feature_is_never_written_to_again(light_bundle):
    clip = moving_clip(SIZE, 6, (3, 1))
    with closing(device_backend(light_bundle)) as backend:
        key = backend.extract(clip[0])
        first = backend.propagate(clip[1], key)
        kept = [key.feature.feature, *key.context.inputs.values(), *first.feature.light.values()]
        before = [tensor.numpy().copy() for tensor in kept]
        validity = first.validity_hw.copy()
        for image in clip[1:]:
            backend.propagate(image, backend.extract(image))
        for tensor, expected in zip(kept, before, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), expected)
        np.testing.assert_array_equal(first.validity_hw, validity)
        addresses = {tensor.value.data_ptr() for tensor in kept}
        assert len(addresses) == len({id(tensor) for tensor in kept})


def test_features_outlive_the_sessions_that_made_them(dis_bundle, monkeypatch):
    monkeypatch.setattr(onnx_device, 'MAX_SIZES', 1)
    with closing(device_backend(dis_bundle)) as backend:
        key = backend.extract(texture(SIZE))
        before = key.feature.feature.numpy().copy()
        backend.extract(texture(OTHER_SIZE))
        assert [len(kept) for kept in backend._runner._sessions.values()] == [1, 0, 0]
        np.testing.assert_array_equal(key.feature.feature.numpy(), before)
    np.testing.assert_array_equal(key.feature.feature.numpy(), before)


def test_only_what_no_graph_takes_is_made_on_the_host(light_bundle, detection_bundle):
    for bundle in (light_bundle, detection_bundle):
        taken = {name for graph in bundle.graphs.values() for name in graph.inputs}
        handed_on = {'propagated', 'warped', 'corrected', 'flow', 'normalised'}  # under other names
        made = {name for graph in bundle.graphs.values() for name in graph.outputs}
        assert not HOST_OUTPUTS & (taken | handed_on)
        assert made - HOST_OUTPUTS <= taken | handed_on
        assert made - HOST_OUTPUTS - {'flow', 'normalised'} <= HALF_TENSORS


def test_what_does_not_fit_on_a_host_goes_to_the_device(dis_bundle, monkeypatch):
    places = []
    make = onnxruntime.OrtValue.ortvalue_from_numpy

    def noting(array, where, device):
        places.append((array.shape, where))
        return make(array, 'cpu', 0)

    provider = Provider('cpu', 'fp32', memory='elsewhere')
    monkeypatch.setattr(onnx_device, 'probe', lambda provider: None)
    runner = DeviceRunner(dis_bundle, ['extract'], provider)
    monkeypatch.setattr(onnxruntime.OrtValue, 'ortvalue_from_numpy', noting)
    runner.tensor(np.zeros((8, 9, 3), np.uint8))
    runner.tensor(np.array([0.5], np.float32))
    assert places == [((8, 9, 3), 'elsewhere'), ((1,), 'cpu')]


def test_key_features_pass_between_runners(light_bundle):
    with closing(device_backend(light_bundle)) as worker, closing(device_backend(light_bundle)) as backend:
        clip = moving_clip(SIZE, 2, (3, 1))
        key = backend.adopt(clip[0], worker.extract(clip[0]))
        assert isinstance(key, KeyFeature)
        found = np.asarray(backend.propagate(clip[1], key).feature)
        expected = np.asarray(backend.propagate(clip[1], backend.extract(clip[0])).feature)
        np.testing.assert_array_equal(found, expected)
