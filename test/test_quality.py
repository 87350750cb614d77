# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The quality net: its values by hand, its place in propagation, both runtimes, every flow and setting."""

from contextlib import closing

import numpy as np
import pytest
import torch
from tiny_models import LIGHT, QUALITY, moving_clip, tiny_model, tiny_spec

from dff_ros.backends.base import open_backend
from dff_ros.backends.dis import DisFlow
from dff_ros.config import DffConfig
from dff_ros.errors import ConfigError
from dff_ros.nets.dff import load_model
from dff_ros.nets.light import LightFeatures
from dff_ros.nets.quality import QualityNet
from dff_ros.nets.warp import coverage, warp

SIZE = (96, 128)


def inputs(generator):
    feature, middle, key_middle = (torch.randn(2, n, 5, 7, generator=generator) for n in (16, 32, 32))
    return feature, 2 * torch.randn(2, 2, 5, 7, generator=generator), middle, key_middle


def test_it_is_what_its_description_says():
    generator = torch.Generator().manual_seed(0)
    net = QualityNet(16, (24, 32, 64), 6)
    torch.nn.init.normal_(net.answer.weight, generator=generator)
    feature, flow, middle, key_middle = inputs(generator)
    gate = torch.rand(2, 1, 5, 7, generator=generator)

    def leaky(x):
        return torch.where(x > 0, x, 0.1 * x)

    def conv(layer, x):
        return torch.einsum('oi,bihw->bohw', layer.weight[:, :, 0, 0], x) + layer.bias[:, None, None]

    here = conv(net.compare, middle)
    difference = (here - warp(conv(net.compare, key_middle), flow)).abs()
    seen = torch.cat(
        (leaky(here), difference, leaky(conv(net.reduce, feature)), flow, coverage(flow), gate), dim=1
    )
    expected = conv(net.answer, net.block(leaky(conv(net.join, seen))))
    found = net(feature, flow, middle, key_middle, gate)
    torch.testing.assert_close(found, expected)
    none = net(feature, flow, middle, key_middle)
    torch.testing.assert_close(none, net(feature, flow, middle, key_middle, torch.zeros_like(gate)))
    assert (found - none).abs().max() > 1e-3


def test_before_training_it_says_the_same_everywhere():
    generator = torch.Generator().manual_seed(1)
    net = QualityNet(16, (24, 32, 64), 6)
    torch.testing.assert_close(torch.sigmoid(net(*inputs(generator))), torch.full((2, 1, 5, 7), 0.1))


@pytest.mark.parametrize('changes', [QUALITY, {**QUALITY, 'correction_channels': 0}])
@pytest.mark.parametrize('correct', [True, False])
def test_propagation_judges_its_own_answer(changes, correct):
    model = tiny_model('correlation', **changes)
    with torch.no_grad():
        key_image, image = (
            model.normalise(torch.from_numpy(x).permute(2, 0, 1)[None]) for x in moving_clip(SIZE, 2, (7, -4))
        )
        current, key = model.look(image), model.look(key_image)
        made = model.propagate(current, key, model.feature_net(key_image), correct=correct)
        gate = made.gate
        logit = model.quality(made.feature, made.flow, current.light.middle, key.light.middle, gate)
    assert (gate is not None) == (correct and model.correction is not None)
    torch.testing.assert_close(made.disagreement, torch.sigmoid(logit))
    assert made.disagreement.shape == (1, 1, 6, 8) and made.disagreement.std() > 0.01


def test_a_model_without_it_says_nothing():
    model = tiny_model('correlation', **LIGHT)
    light = LightFeatures(*(torch.zeros(1, n, s, s) for n, s in ((24, 4), (32, 2), (64, 1))))
    look = model.look(torch.zeros(1, 3, 32, 32))._replace(light=light)
    made = model.propagate(look, look, torch.zeros(1, 16, 2, 2))
    assert made.disagreement is None


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'quality_channels': 8}, 'quality_channels needs the light net'),
        ({'light_channels': 16, 'quality_channels': -1}, 'quality_channels: got -1'),
        (
            {'light_channels': 16, 'quality_channels': 8, 'class_names': (), 'class_colours': ()}
            | {'box_class_names': ('car',)},
            'it needs class_names',
        ),
    ],
)
def test_specs_that_cannot_have_one(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_spec('dis', **changes)


def test_it_needs_the_middle_features_of_both_frames():
    assert tiny_spec('dis', light_channels=16, quality_channels=8).light_outputs == ('middle',)


def expected_map(bundle, images, correct, flow_2hw=None):
    model = load_model(bundle.spec, bundle.weights_path)
    key_image, image = (model.normalise(torch.from_numpy(x).permute(2, 0, 1)[None]) for x in images)
    current, key = model.look(image), model.look(key_image)
    flow = None if flow_2hw is None else torch.from_numpy(flow_2hw)[None]
    made = model.propagate(current, key, model.feature_net(key_image), flow, correct)
    return made.disagreement[0, 0].numpy()


@pytest.mark.parametrize('name', ['torch', 'onnx'])
@pytest.mark.parametrize('correction', [True, False])
@pytest.mark.parametrize('flow', ['bundle', 'dis', 'zero'])
def test_both_runtimes_say_what_the_model_says(light_bundle, name, correction, flow):
    key_image, image = images = moving_clip(SIZE, 2, (7, -4))
    config = DffConfig(backend=name, device='cpu', num_threads=1, flow=flow, correction=correction)
    with closing(open_backend(light_bundle, config)) as backend:
        found = backend.propagate(image, backend.extract(key_image))
    flow_2hw = None
    if flow == 'zero':
        flow_2hw = np.zeros((2, 6, 8), np.float32)
    elif flow == 'dis':
        dis = DisFlow(16, 1)
        flow_2hw = dis.flow(dis.prepare(image, SIZE), dis.prepare(key_image, SIZE), SIZE)
    expected = expected_map(light_bundle, images, correction, flow_2hw)
    np.testing.assert_allclose(found.disagreement_hw, expected, atol=1e-4)
    assert found.disagreement == pytest.approx(float(expected.mean()), abs=1e-4)
    assert found.disagreement_hw.std() > 0.01 and found.disagreement_hw.dtype == np.float32


def test_a_key_frame_of_another_setting_can_be_adopted(light_bundle):
    key_image, image = moving_clip(SIZE, 2, (7, -4))
    still, own = (
        DffConfig(backend='onnx', num_threads=1, flow=flow, correction=False) for flow in ('zero', 'bundle')
    )
    with (
        closing(open_backend(light_bundle, still)) as other,
        closing(open_backend(light_bundle, own)) as backend,
    ):
        key = backend.adopt(key_image, other.extract(key_image))
        found = backend.propagate(image, key)
        expected = backend.propagate(image, backend.extract(key_image))
    np.testing.assert_allclose(found.disagreement_hw, expected.disagreement_hw, atol=1e-5)


def test_a_bundle_without_it_has_no_disagreement(dis_bundle):
    key_image, image = moving_clip(SIZE, 2, (7, -4))
    with closing(open_backend(dis_bundle, DffConfig(backend='onnx', num_threads=1))) as backend:
        found = backend.propagate(image, backend.extract(key_image))
    assert found.disagreement is None and found.disagreement_hw is None
