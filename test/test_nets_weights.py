# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Start weights: any mix of folded and unfolded file and network gives the same; bad files are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_nets_resnet import image, randomised
from torch.nn import functional as F

from dff_ros.errors import DataError
from dff_ros.nets.resnet import ResNetFeature, fold_batch_norm, make_feature_net
from dff_ros.nets.weights import START_WEIGHTS, load_start_weights

SHARED_WEIGHTS = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'weights'


def trunk_arrays(net: ResNetFeature) -> dict[str, np.ndarray]:
    return {
        key: value.numpy().copy()
        for key, value in net.state_dict().items()
        if not key.startswith('reduce') and not key.endswith('num_batches_tracked')
    }


@pytest.fixture(scope='module')
def source() -> ResNetFeature:
    return randomised(ResNetFeature(18, 4, last_stage=4)).eval()


@pytest.fixture(scope='module', params=['folded', 'batch_norm'])
def archive(request, source, tmp_path_factory) -> Path:
    net = fold_batch_norm(source) if request.param == 'folded' else source
    path = tmp_path_factory.mktemp('weights') / f'{request.param}.npz'
    np.savez(path, **trunk_arrays(net))
    return path


@pytest.mark.parametrize('batch_norm', [True, False])
def test_any_file_into_any_network_gives_the_same_trunk(source, archive, batch_norm):
    net = ResNetFeature(18, 4, last_stage=4, batch_norm=batch_norm).eval()
    left = load_start_weights(net, archive)
    assert left == ['reduce.weight', 'reduce.bias']
    x = image(49, 64)
    expected = source.trunk(x)
    torch.testing.assert_close(net.trunk(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_a_trunk_with_stage_5_keeps_its_own_start_there(archive):
    net = ResNetFeature(18, 4, batch_norm=False)
    before = net.layer4[0].conv1.weight.clone()
    left = load_start_weights(net, archive)
    assert {key.split('.')[0] for key in left} == {'layer4', 'reduce'}
    assert torch.equal(net.layer4[0].conv1.weight, before)


def test_bgr_weights_are_turned_to_rgb(source, tmp_path):
    arrays = trunk_arrays(source)
    arrays['conv1.weight'] = arrays['conv1.weight'][:, ::-1]
    path = tmp_path / 'bgr.npz'
    np.savez(path, **arrays)
    net = ResNetFeature(18, 4, last_stage=4).eval()
    load_start_weights(net, path, 'bgr')
    x = image(32, 32)
    torch.testing.assert_close(net.trunk(x), source.trunk(x))


def without(arrays, key):
    return {k: v for k, v in arrays.items() if k != key}


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda a: without(a, 'layer2.1.conv1.weight'),
            r'bad\.npz lack layer2\.1\.conv1\.weight, of shape \(128, 128, 3, 3\)',
        ),
        (lambda a: without(a, 'layer1.0.bn1.running_var'), r'bad\.npz lack layer1\.0\.bn1\.running_var'),
        (lambda a: without(a, 'conv1.weight'), r'bad\.npz lack conv1\.weight'),
        (
            lambda a: {**a, 'layer4.0.conv1.weight': np.zeros((1, 1, 1, 1), np.float32)},
            r'no place for layer4\.0\.conv1\.weight',
        ),
        (lambda a: {**a, 'reduce.bias': np.zeros(4, np.float32)}, r'no place for reduce\.bias'),
        (
            lambda a: {**a, 'conv1.weight': np.zeros((64, 3, 5, 5), np.float32)},
            r'conv1\.weight is \(64, 3, 5, 5\), the network takes \(64, 3, 7, 7\)',
        ),
        (lambda a: {**a, 'bn1.bias': np.full(64, np.nan, np.float32)}, r'bad\.npz: bn1\.bias must be finite'),
        (
            lambda a: {**a, 'bn1.bias': np.zeros(64, np.int64)},
            r'bn1\.bias must be finite floats, it is int64',
        ),
    ],
)
def test_a_wrong_archive_is_refused_by_file_and_key_and_changes_nothing(source, tmp_path, change, message):
    path = tmp_path / 'bad.npz'
    np.savez(path, **change(trunk_arrays(source)))
    net = ResNetFeature(18, 4, last_stage=4)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(DataError, match=message):
        load_start_weights(net, path)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_folding_on_load_names_a_missing_statistic(source, tmp_path):
    path = tmp_path / 'bad.npz'
    np.savez(path, **without(trunk_arrays(source), 'layer2.0.downsample.1.running_mean'))
    with pytest.raises(DataError, match=r'bad\.npz lack layer2\.0\.downsample\.1\.running_mean'):
        load_start_weights(ResNetFeature(18, 4, last_stage=4, batch_norm=False), path)


@pytest.mark.parametrize('content', [b'', b'not an archive', b'PK\x03\x04 cut off'])
def test_an_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / 'broken.npz'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r'broken\.npz cannot be read'):
        load_start_weights(ResNetFeature(18, 4, last_stage=4), path)
    with pytest.raises(DataError, match=r'gone\.npz do not exist'):
        load_start_weights(ResNetFeature(18, 4, last_stage=4), tmp_path / 'gone.npz')


@pytest.mark.data
@pytest.mark.skipif(not SHARED_WEIGHTS.is_dir(), reason='needs ../shared/data/weights')
@pytest.mark.parametrize('name', sorted(START_WEIGHTS))
def test_published_start_weights_load_into_what_they_say(name):
    start = START_WEIGHTS[name]
    net = make_feature_net(start.feature_net, 8, last_stage=4, **start.options, **start.spec).eval()
    load_start_weights(net, SHARED_WEIGHTS / start.file, start.channel_order, start.batch_norm_eps)
    with np.load(SHARED_WEIGHTS / start.file) as archive:
        arrays = {
            key: torch.from_numpy(archive[key]) for key in archive if key.split('.')[0] in ('conv1', 'bn1')
        }
    # One normalised grey image through the first conv: the weights arrived, in RGB order, norm folded in.
    mean, std = (torch.tensor(value)[:, None, None] for value in (start.mean, start.std))
    grey = ((128.0 / 255 - mean) / std).expand(1, 3, 21, 21)
    flipped = grey.flip(1) if start.channel_order == 'bgr' else grey
    expected = F.conv2d(flipped, arrays['conv1.weight'], arrays.get('conv1.bias'))
    if 'bn1.weight' in arrays:
        norm = [arrays[f'bn1.{key}'] for key in ('running_mean', 'running_var', 'weight', 'bias')]
        expected = F.batch_norm(expected, *norm, eps=start.batch_norm_eps)
    found = F.conv2d(grey, net.conv1.weight, net.conv1.bias)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert torch.isfinite(net.trunk(grey)).all()
