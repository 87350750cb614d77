# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Stage reuse: what is fresh, what is the key frame's, what it costs; the backend against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import moving_clip, tiny_model, tiny_spec

from dff_ros.backends.base import open_backend
from dff_ros.backends.clockwork import ClockworkBackend
from dff_ros.config import DffConfig
from dff_ros.errors import ConfigError, ShapeError
from dff_ros.nets.clockwork import Clockwork, clockwork_gmac
from dff_ros.nets.complexity import stage_gmac
from dff_ros.nets.resnet import make_feature_net

SIZE = (96, 128)


@pytest.fixture(scope='module')
def net():
    return tiny_model().folded().feature_net


@pytest.fixture(scope='module')
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, 1, 3, 65, 97), generator=generator)


@torch.no_grad()
@pytest.mark.parametrize('fresh_stages', [1, 2, 3, 4])
def test_from_itself_a_frame_is_as_per_frame(net, images, fresh_stages):
    clockwork = Clockwork(net, fresh_stages)
    feature, residuals = clockwork.extract(images[0])
    torch.testing.assert_close(feature, net(images[0]), rtol=0, atol=0)
    torch.testing.assert_close(clockwork(images[0], residuals), feature, rtol=0, atol=0)
    assert len(residuals) == 2 * (4 - fresh_stages)  # two blocks in each stage of ResNet-18


@torch.no_grad()
def test_with_all_stages_fresh_every_frame_is_as_per_frame(net, images):
    clockwork = Clockwork(net, 4)
    _, residuals = clockwork.extract(images[0])
    torch.testing.assert_close(clockwork(images[1], residuals), net(images[1]), rtol=0, atol=0)


@torch.no_grad()
def test_deep_blocks_add_what_they_added_in_the_key_frame(net, images):
    clockwork = Clockwork(net, 3)
    _, residuals = clockwork.extract(images[0])
    key, x = (net.layer2(net.layer1(net.stem(image))) for image in images)
    for block in net.layer3:  # by hand
        added = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(key)))))
        key = torch.relu(added + (key if block.downsample is None else block.downsample(key)))
        x = torch.relu(added + (x if block.downsample is None else block.downsample(x)))
    expected = torch.relu(net.reduce(x))
    torch.testing.assert_close(clockwork(images[1], residuals), expected)
    assert not torch.allclose(expected, net(images[1]), rtol=0.1)
    assert not torch.allclose(expected, net(images[0]), rtol=0.1)


@torch.no_grad()
def test_bottlenecks_too(images):
    net = make_feature_net('resnet50', 8, last_stage=4).eval()
    clockwork = Clockwork(net)
    feature, residuals = clockwork.extract(images[0])
    torch.testing.assert_close(clockwork(images[0], residuals), net(images[0]), rtol=0, atol=0)
    assert [tuple(residual.shape[1:]) for residual in residuals] == [(1024, 5, 7)] * 6
    assert feature.shape == (1, 8, 5, 7)


@pytest.mark.parametrize('fresh_stages', [0, 5])
def test_stages_that_are_not_there_are_refused(net, fresh_stages):
    with pytest.raises(ConfigError, match=f'fresh_stages is {fresh_stages}; allowed is from 1 to 4'):
        Clockwork(net, fresh_stages)


def test_multiply_adds_are_those_of_the_layers_that_run():
    spec = tiny_spec(last_stage=5)
    whole, found = stage_gmac(spec, SIZE), clockwork_gmac(spec, SIZE)
    assert (found.extract, found.predict) == pytest.approx((whole.extract, whole.predict))
    cells = (96 // 16) * (128 // 16)
    saved = (
        cells * 9 * (128 * 256 + 256 * 256 * 3 + 256 * 512 + 512 * 512 * 3)
    )  # the 3x3 convs of stages 4, 5
    assert found.propagate == pytest.approx(whole.extract - saved / 1e9)
    assert clockwork_gmac(spec, SIZE, 5).propagate == pytest.approx(whole.extract)
    detailed = clockwork_gmac(tiny_spec(last_stage=5, light_channels=8, detail=True), SIZE)
    light = detailed.extract - found.extract
    assert light > 0 and detailed.propagate - found.propagate == pytest.approx(light)
    assert detailed.predict > found.predict


@pytest.mark.parametrize('kind', ['dis_bundle', 'light_bundle'])
def test_the_backend_answers_as_the_torch_backend_does(kind, request):
    bundle = request.getfixturevalue(kind)
    key_image, image = moving_clip(SIZE, 2, (5, 2))
    config = DffConfig(bundle=str(bundle.path), backend='torch', device='cpu', num_threads=2)
    torch_backend = open_backend(bundle, config)
    backend = ClockworkBackend(bundle, 2, 'cpu')
    backend.warm_up(SIZE)
    key = backend.extract(key_image)
    expected = torch_backend.predict(torch_backend.extract(key_image).feature, SIZE, (50, 70))
    for feature in (key.feature, backend.propagate(key_image, key).feature):
        found = backend.predict(feature, SIZE, (50, 70))
        np.testing.assert_array_equal(found.label_map_HW, expected.label_map_HW)
        np.testing.assert_allclose(found.confidence_HW.astype(int), expected.confidence_HW, atol=1)
    propagation = backend.propagate(image, key)
    assert (propagation.motion_px, propagation.coverage, propagation.validity_hw.min()) == (0.0, 1.0, 1.0)
    propagated = backend.predict(propagation.feature, SIZE, SIZE).label_map_HW
    direct = torch_backend.predict(torch_backend.extract(image).feature, SIZE, SIZE).label_map_HW
    assert 0.2 < (propagated == direct).mean() < 1.0
    everything = ClockworkBackend(bundle, 2, 'cpu', fresh_stages=4)
    found = everything.predict(everything.propagate(image, everything.extract(key_image)).feature, SIZE, SIZE)
    np.testing.assert_array_equal(found.label_map_HW, direct)
    assert backend.adopt(key_image, key) is key
    assert backend.info.runtime == f'torch {torch.__version__}'


def test_wrong_sizes_are_refused(dis_bundle):
    backend = ClockworkBackend(dis_bundle, 2)
    key = backend.extract(np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(ShapeError, match=r'the current image is \(64, 64\), its key image \(96, 128\)'):
        backend.propagate(np.zeros((64, 64, 3), np.uint8), key)
    with pytest.raises(ShapeError, match=r'the feature has \(6, 8\) cells'):
        backend.predict(key.feature, (96, 64), SIZE)
    with pytest.raises(ShapeError, match='a backend takes a uint8 image'):
        backend.extract(np.zeros(SIZE, np.uint8))
