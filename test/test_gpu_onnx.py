# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""ONNX Runtime's providers CUDA and TensorRT on a real GPU, against the CPU."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
import onnxruntime
from tiny_models import moving_clip

from dff_ros.backends import onnx_device
from dff_ros.backends.base import open_backend
from dff_ros.backends.gpu_facts import find_gpu, load_tensorrt
from dff_ros.backends.onnx_providers import NAMES, gpu_provider
from dff_ros.config import DffConfig, KeyframeConfig
from dff_ros.engine_building import build_engines
from dff_ros.errors import BackendUnavailableError
from dff_ros.opening import open_engine
from dff_ros.types import Frame


def lack(provider: str) -> str:
    """Why a provider cannot be had here; empty where it can."""
    try:
        if NAMES[provider] not in onnxruntime.get_available_providers():
            return f'onnxruntime is built without {provider}'
        find_gpu()
        if provider == 'tensorrt':
            load_tensorrt()
    except BackendUnavailableError as error:
        return str(error)
    return ''


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(lack('cuda')), reason=lack('cuda'))]
needs_tensorrt = pytest.mark.skipif(bool(lack('tensorrt')), reason=lack('tensorrt'))

BUNDLES = ('dis_bundle', 'flow_bundle', 'light_bundle', 'detection_bundle')
SIZES = [(96, 128), (131, 90)]
CPU = DffConfig(backend='onnx', device='cpu')


@pytest.fixture(params=BUNDLES)
def bundle(request):
    return request.getfixturevalue(request.param)


def answers(backend, clip) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features of a key frame and all propagated from it, and label maps or boxes."""
    size = clip[0].shape[:2]
    key = backend.extract(clip[0])
    features = [key.feature] + [backend.propagate(image, key).feature for image in clip[1:]]
    found = []
    for feature in features:
        if 'segmentation' in backend._spec.tasks:
            found.append(backend.predict(feature, size, size).label_map_HW)
        if 'detection' in backend._spec.tasks:
            backend.detect(feature, size, 0.5, 0.05)
    return [np.asarray(feature, np.float32) for feature in features], found


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('precision', 'error', 'agreement'), [('fp32', 1e-3, 0.999), ('fp16', 0.02, 0.97)])
def test_cuda_gives_what_the_cpu_gives(bundle, size, precision, error, agreement):
    clip = moving_clip(size, 4, (2, 1))
    config = DffConfig(provider='cuda', precision=precision)
    with closing(open_backend(bundle, CPU)) as cpu, closing(open_backend(bundle, config)) as gpu:
        assert (gpu.info.provider, gpu.info.precision, gpu.info.fallback) == ('cuda', precision, '')
        assert gpu.info.device == f'cuda ({find_gpu().name})'
        (expected, labels), (found, others) = answers(cpu, clip), answers(gpu, clip)
    for first, second in zip(expected, found, strict=True):
        assert np.abs(first - second).max() <= error * np.abs(first).max()
    if labels:
        assert (np.stack(labels) == np.stack(others)).mean() >= agreement
        assert len(np.unique(others)) > 1


def test_features_stay_on_the_device_and_are_never_written_to_again(light_bundle):
    clip = moving_clip(SIZES[0], 4, (3, 1))
    with closing(open_backend(light_bundle, DffConfig(provider='cuda'))) as gpu:
        key = gpu.extract(clip[0])
        kept = [key.feature.feature, *key.feature.light.values(), *key.context.inputs.values()]
        assert {tensor.value.device_name() for tensor in kept} == {'cuda'}
        before = [tensor.numpy().copy() for tensor in kept]
        for image in clip[1:]:
            gpu.propagate(image, gpu.extract(image))
        for tensor, values in zip(kept, before, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), values)


def test_nothing_is_brought_to_the_host_and_back_within_a_graph(bundle, monkeypatch, tmp_path):
    copies: dict[str, Counter[str]] = {}
    sessions = []
    make = onnxruntime.InferenceSession

    def profiled(content, options, **others):
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / f'run{len(sessions)}')
        sessions.append(make(content, options, **others))
        return sessions[-1]

    monkeypatch.setattr(onnxruntime, 'InferenceSession', profiled)
    graphs = ['of the probe']
    opened = onnx_device.open_session
    monkeypatch.setattr(
        onnx_device, 'open_session', lambda graph, *others: (graphs.append(graph), opened(graph, *others))[1]
    )
    with closing(open_backend(bundle, DffConfig(provider='cuda'))) as gpu:
        gpu.warm_up(SIZES[0])
    for graph, session in zip(graphs, sessions, strict=True):
        events = json.loads(Path(session.end_profiling()).read_text())
        nodes = [event['args'] for event in events if event.get('cat') == 'Node']
        copies[graph] = Counter(node['op_name'] for node in nodes if 'Memcpy' in node.get('op_name', ''))
        on_cpu = {node['op_name'] for node in nodes if node.get('provider') == NAMES['cpu']}
        assert graph == 'detect' or not on_cpu, f'{graph}: {on_cpu}'
    assert {graph: count for graph, count in copies.items() if count and graph != 'detect'} == {}


def test_key_frames_of_a_worker_are_those_of_inline(light_bundle):
    clip = moving_clip(SIZES[0], 12, (2, 1))
    labels = {}
    for refresh in ('inline', 'worker'):
        config = DffConfig(provider='cuda', refresh=refresh, keyframe=KeyframeConfig(interval=2))
        with closing(open_engine(light_bundle, config)) as engine:
            engine.warm_up(SIZES[0])
            results = []
            for index, image in enumerate(clip):
                results.append(engine.step(Frame(image_HW3=image, stamp_ns=(1 + index) * 10**8)))
                if engine.worker is not None:
                    engine.worker.wait()
            labels[refresh] = [result.segmentation.label_map_HW for result in results]
    for index in range(1, 12, 2):  # the even ones are key frames inline
        assert (labels['inline'][index] == labels['worker'][index]).mean() >= 0.999


@needs_tensorrt
@pytest.mark.parametrize(('precision', 'error', 'agreement'), [('fp32', 1e-2, 0.99), ('fp16', 0.03, 0.95)])
def test_tensorrt_runs_the_engines_that_were_built_and_builds_none(
    bundle, precision, error, agreement, tmp_path
):
    config = DffConfig(provider='tensorrt', precision=precision, engines=str(tmp_path))
    with pytest.raises(BackendUnavailableError, match='dff export'):
        open_backend(bundle, config)
    [built] = build_engines(bundle, config, SIZES[:1])
    engines = {path: path.read_bytes() for path in built.folder.glob('*/*.engine')}
    assert any(path.parent.name.startswith('extract-') for path in engines)
    clip = moving_clip(SIZES[0], 4, (2, 1))
    with closing(open_backend(bundle, CPU)) as cpu, closing(open_backend(bundle, config)) as gpu:
        gpu.warm_up(SIZES[1])  # there are engines for one size only: that one
        (expected, labels), (found, others) = answers(cpu, clip), answers(gpu, clip)
        with pytest.raises(BackendUnavailableError, match='there is no TensorRT engine of graph extract'):
            gpu.extract(np.zeros((*SIZES[1], 3), np.uint8))
    assert {path: path.read_bytes() for path in built.folder.glob('*/*.engine')} == engines
    for first, second in zip(expected, found, strict=True):
        assert np.abs(first - second).max() <= error * np.abs(first).max()
    if labels:
        assert (np.stack(labels) == np.stack(others)).mean() >= agreement


@needs_tensorrt
def test_the_versions_in_use_are_told(dis_bundle):
    provider = gpu_provider('tensorrt', 'fp16')
    major, *rest = (int(part) for part in provider.version.split('.'))
    assert major == 10 and len(rest) == 2
