# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The torch backend on a CUDA device, against the CPU: precision, captured graphs, streams, memory, waits."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

pytest.importorskip('torch')
import torch
from tiny_models import moving_clip

from dff_ros.backends.base import open_backend
from dff_ros.config import DffConfig, KeyframeConfig
from dff_ros.opening import open_engine
from dff_ros.types import Frame

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device'),
]

SIZES = [(96, 128), (131, 90)]
BUNDLES = ['dis_bundle', 'flow_bundle', 'light_bundle', 'detection_bundle']
LEAST = {'fp32': 0.999, 'fp16': 0.99, 'bf16': 0.95}
"""Share of pixels with the label of the CPU in single precision."""


@pytest.fixture(autouse=True)
def _full_single_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def open_torch(bundle, device='cuda', **changes):
    return closing(open_backend(bundle, DffConfig(backend='torch', device=device, **changes)))


def label_maps(backend, clip):
    size = clip[0].shape[:2]
    key = backend.extract(clip[0])
    features = [key.feature] + [backend.propagate(image, key).feature for image in clip[1:]]
    return np.stack([backend.predict(feature, size, size).label_map_HW for feature in features])


@pytest.mark.parametrize('precision', LEAST)
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', BUNDLES)
def test_labels_of_the_gpu_are_those_of_the_cpu(request, kind, size, precision):
    bundle, clip = request.getfixturevalue(kind), moving_clip(size, 30, (2, 1))
    with open_torch(bundle, 'cpu') as cpu, open_torch(bundle, precision=precision) as gpu:
        assert (gpu.info.device.split(' ')[0], gpu.info.precision) == ('cuda', precision)
        expected, found = label_maps(cpu, clip), label_maps(gpu, clip)
    assert (found == expected).mean() >= LEAST[precision]
    assert len(np.unique(found)) > 1  # a constant map would prove nothing


@pytest.mark.parametrize('kind', BUNDLES)
def test_figures_of_a_propagation_are_those_of_the_cpu(request, kind):
    bundle, clip = request.getfixturevalue(kind), moving_clip(SIZES[1], 4, (2, 1))
    with open_torch(bundle, 'cpu') as cpu, open_torch(bundle, precision='fp32') as gpu:
        for image in clip[1:]:
            one, two = (backend.propagate(image, backend.extract(clip[0])) for backend in (cpu, gpu))
            np.testing.assert_allclose(two.validity_hw, one.validity_hw, atol=1e-3)
            assert two.motion_px == pytest.approx(one.motion_px, abs=0.02)
            assert two.residual == pytest.approx(one.residual, abs=0.05)
            assert (two.disagreement is None) == (one.disagreement is None)
            if one.disagreement is not None:
                assert two.disagreement == pytest.approx(one.disagreement, abs=1e-3)


@pytest.mark.parametrize('kind', BUNDLES)
def test_captured_graphs_answer_as_those_run_step_by_step(request, kind):
    bundle, clip = request.getfixturevalue(kind), moving_clip(SIZES[0], 8, (2, 1))
    with open_torch(bundle) as plain, open_torch(bundle) as captured:
        plain._runner._recordings = None
        captured.warm_up(SIZES[0])
        expected, found = label_maps(plain, clip), label_maps(captured, clip)
        assert captured._runner._recordings.names() >= set(captured._use.graphs) - {'detect', 'look'}
    assert (found == expected).mean() >= 0.995  # cuDNN may have chosen other convolutions


def test_a_size_that_was_not_warmed_up_is_captured_with_its_second_frame(flow_bundle):
    with open_torch(flow_bundle) as backend:
        backend.warm_up(SIZES[0])
        before = len(backend._runner._recordings._known)
        labels = label_maps(backend, [moving_clip(SIZES[1], 2, (0, 0))[0]] * 5)
        known = backend._runner._recordings._known
        assert len(known) == before + 3  # extract, propagate, predict
        assert sum(recording is not None for recording in known.values()) == before + 2  # one key frame
    for labels_HW in labels[2:]:
        assert (labels_HW == labels[1]).mean() >= 0.999  # sums in another order


@pytest.mark.parametrize('kind', ['flow_bundle', 'light_bundle'])
def test_a_key_feature_on_the_gpu_outlives_later_calls(request, kind):
    clip = moving_clip(SIZES[0], 5, (3, 0))
    with open_torch(request.getfixturevalue(kind)) as gpu:
        gpu.warm_up(SIZES[0])
        keys = [gpu.extract(image) for image in clip[:2]]
        moved = gpu.propagate(clip[2], keys[0])
        features = [keys[0].feature, keys[1].feature, moved.feature]
        held = [feature.feature.clone() for feature in features]
        before = [gpu.predict(feature, SIZES[0], SIZES[0]).label_map_HW for feature in features]
        kept = [labels_HW.copy() for labels_HW in before]
        for image in clip:
            key = gpu.extract(image)
            for other in clip:
                gpu.predict(gpu.propagate(other, key).feature, SIZES[0], SIZES[0])
        for feature, value, labels_HW, copy_HW in zip(features, held, before, kept, strict=True):
            assert torch.equal(feature.feature, value)
            np.testing.assert_array_equal(labels_HW, copy_HW)
            np.testing.assert_array_equal(gpu.predict(feature, SIZES[0], SIZES[0]).label_map_HW, copy_HW)


@pytest.mark.parametrize('kind', ['flow_bundle', 'light_bundle'])
def test_an_answer_waits_once(request, kind, monkeypatch):
    clip = moving_clip(SIZES[0], 4, (2, 1))
    with open_torch(request.getfixturevalue(kind)) as backend:
        backend.warm_up(SIZES[0])
        waits, wait = [], backend._runner.wait

        def counted():
            waits.append(1)
            torch.cuda.set_sync_debug_mode('default')
            wait()
            torch.cuda.set_sync_debug_mode('error')

        monkeypatch.setattr(backend._runner, 'wait', counted)
        torch.cuda.set_sync_debug_mode('error')  # at every other wait
        try:
            counts = []
            key = backend.extract(clip[0])
            counts.append(len(waits))
            for image in clip[1:]:
                moved = backend.propagate(image, key)
                counts.append(len(waits))
                backend.predict(moved.feature, SIZES[0], SIZES[0])
                counts.append(len(waits))
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert counts == list(range(1, 8))


def test_memory_on_the_gpu_does_not_grow_with_frames(flow_bundle):
    clip = moving_clip(SIZES[0], 12, (2, 1))
    with open_torch(flow_bundle) as backend:
        backend.warm_up(SIZES[0])
        used = []
        for _ in range(6):
            label_maps(backend, clip)
            used.append(torch.cuda.memory_allocated())
        assert used[-1] == used[1]


def test_fused_kernels_are_in_use(flow_bundle):
    pytest.importorskip('triton')
    with open_torch(flow_bundle) as backend:
        graphs = backend._runner._graphs
        assert graphs['propagate'].kernels is not None
        assert graphs['propagate'].resample.kernels is not None
        assert graphs['predict'].kernels is not None


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_key_frames_of_a_worker_on_its_own_stream_are_those_of_inline(flow_bundle, precision):
    clip = moving_clip(SIZES[0], 12, (2, 1))
    labels = {}
    for refresh in ('inline', 'worker'):
        keyframe = KeyframeConfig(interval=2)
        config = DffConfig(
            backend='torch', device='cuda', refresh=refresh, keyframe=keyframe, precision=precision
        )
        with closing(open_engine(flow_bundle, config)) as engine:
            engine.warm_up(SIZES[0])
            results = []
            for index, image in enumerate(clip):
                results.append(engine.step(Frame(image_HW3=image, stamp_ns=(1 + index) * 10**8)))
                if engine.worker is not None:
                    engine.worker._executor.submit(int).result()  # the key frame before it is made
            labels[refresh] = [result.segmentation.label_map_HW for result in results]
    propagated = range(1, 12, 2)  # the even ones are key frames inline
    for index in propagated:
        assert (labels['inline'][index] == labels['worker'][index]).mean() >= 0.995


def test_capture_beside_a_running_worker(flow_bundle):
    """Both threads meet a new size while the other computes; each has its own graphs and answers right."""
    keyframe = KeyframeConfig(interval=2)
    config = DffConfig(backend='torch', device='cuda', refresh='worker', keyframe=keyframe)
    with closing(open_engine(flow_bundle, config)) as engine:
        for size in SIZES * 3:
            clip = moving_clip(size, 8, (2, 1))
            for index, image in enumerate(clip):
                result = engine.step(Frame(image_HW3=image, stamp_ns=(1 + index) * 10**8))
                assert result.segmentation.label_map_HW.shape == size
            engine.reset()
        assert engine.backend._runner._recordings._refused == set()
        assert engine.worker._backend._runner._recordings._refused == set()


def test_the_warp_is_near_the_bandwidth_of_a_copy():
    from dff_ros.backends.cuda.bandwidth import warp_bandwidth

    found = warp_bandwidth(torch.device('cuda'))
    assert found.fused_fraction is not None
    assert found.fused_fraction >= 0.6
    assert found.fused_fraction >= found.grid_sample_fraction
