# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The torch backend and training on a CUDA device, against the CPU."""

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


@pytest.fixture(params=['dis_bundle', 'flow_bundle'])
def backends(request, monkeypatch):
    """The same bundle on the CPU and on the GPU, both in full single precision."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    bundle = request.getfixturevalue(request.param)
    pair = [open_backend(bundle, DffConfig(backend='torch', device=device)) for device in ('cpu', 'cuda')]
    yield pair
    for backend in pair:
        backend.close()


@pytest.mark.parametrize('size', SIZES)
def test_labels_of_the_gpu_are_those_of_the_cpu(backends, size):
    clip = moving_clip(size, 30, (2, 1))
    labels = []
    for backend in backends:
        key = backend.extract(clip[0])
        features = [key.feature] + [backend.propagate(image, key).feature for image in clip[1:]]
        labels.append(np.stack([backend.predict(f, size, size).label_map_HW for f in features]))
    assert (labels[0] == labels[1]).mean() >= 0.999
    assert len(np.unique(labels[1])) > 1  # a constant map would prove nothing


def test_a_key_feature_on_the_gpu_outlives_later_calls(backends):
    gpu = backends[1]
    clip = moving_clip(SIZES[0], 3, (3, 0))
    key = gpu.extract(clip[0])
    before = gpu.predict(key.feature, SIZES[0], SIZES[0]).label_map_HW.copy()
    for image in clip[1:]:
        gpu.propagate(image, gpu.extract(image))
    np.testing.assert_array_equal(gpu.predict(key.feature, SIZES[0], SIZES[0]).label_map_HW, before)


def test_the_device_in_use_is_told(backends):
    assert [backend.info.device.split(' ')[0] for backend in backends] == ['cpu', 'cuda']


def test_key_frames_of_a_worker_on_its_own_stream_are_those_of_inline(flow_bundle):
    clip = moving_clip(SIZES[0], 12, (2, 1))
    labels = {}
    for refresh in ('inline', 'worker'):
        keyframe = KeyframeConfig(interval=2)
        config = DffConfig(backend='torch', device='cuda', refresh=refresh, keyframe=keyframe)
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
        assert (labels['inline'][index] == labels['worker'][index]).mean() >= 0.999
