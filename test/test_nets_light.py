# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Operators of the light net's users against their definitions, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch')
import torch

from dff_ros.errors import ConfigError, DataError
from dff_ros.nets.correlation import CorrelationFlow, correlate
from dff_ros.nets.light import JoiningConv, LightNet, double
from dff_ros.nets.weights import load_start_weights


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    'size, like', [((4, 5), (8, 10)), ((4, 5), (7, 9)), ((1, 3), (1, 6)), ((1, 1), (2, 2))]
)
def test_doubling_interpolates_between_the_cells(size, like):
    x = randn(2, 3, *size)
    doubled = double(x, torch.zeros(2, 1, *like)).numpy()
    assert doubled.shape == (2, 3, *like)
    for row in range(like[0]):
        for column in range(like[1]):
            rows = {min(row // 2, size[0] - 1), min(-(-row // 2), size[0] - 1)}
            columns = {min(column // 2, size[1] - 1), min(-(-column // 2), size[1] - 1)}
            expected = x[..., sorted(rows), :][..., sorted(columns)].mean((2, 3))
            np.testing.assert_allclose(doubled[..., row, column], expected, atol=1e-6)


def test_doubling_passes_the_gradient_of_a_mean():
    x = randn(1, 1, 3, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: double(x, torch.zeros(1, 1, 6, 7)), x)


@pytest.mark.parametrize('radius', [1, 3])
@pytest.mark.parametrize('size', [(4, 6), (5, 3), (1, 2)])
def test_correlation_by_hand(size, radius):
    current, key = randn(2, 4, *size), randn(2, 4, *size, seed=1)
    found = correlate(current, key, radius)
    side = 2 * radius + 1
    assert found.shape == (2, side**2, *size)
    expected = np.zeros(found.shape, np.float32)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            for y in range(max(0, -dy), min(size[0], size[0] - dy)):
                for x in range(max(0, -dx), min(size[1], size[1] - dx)):
                    product = (current[..., y, x] * key[..., y + dy, x + dx]).sum(1)
                    expected[:, (dy + radius) * side + dx + radius, y, x] = product
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_correlation_passes_gradients_to_both():
    inputs = [randn(1, 2, 3, 4, seed=seed).double().requires_grad_() for seed in (0, 1)]
    assert torch.autograd.gradcheck(lambda a, b: correlate(a, b, 1), inputs)


def test_the_first_flow_is_the_mean_shift_of_what_is_alike():
    level = CorrelationFlow(4, (8, 8, 8)).fine.requires_grad_(False)
    here, there = randn(1, 6, 9, 11), randn(1, 6, 9, 11, seed=1)
    likeness, found = level._compare(here, there)
    share = torch.softmax(likeness * level.sharpness, dim=1)
    side = 2 * level.radius + 1
    shifts = [(index % side - level.radius, index // side - level.radius) for index in range(side**2)]
    expected = torch.einsum('bshw,sc->bchw', share, torch.tensor(shifts, dtype=torch.float32))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert float(found.abs().max()) > 0.5
    moved = torch.roll(here, (2, -1), (2, 3))  # what is at (x, y) here is at (x - 1, y + 2) there
    level.sharpness.fill_(100)
    _, found = level._compare(here, moved)
    torch.testing.assert_close(found[0, :, 4, 5], torch.tensor([-1.0, 2.0]), atol=0.1, rtol=0)


def test_cells_of_the_light_net_lie_on_multiples_of_the_stride():
    torch.manual_seed(0)
    net = LightNet(8).eval()
    image = randn(1, 3, 640, 640)
    moved = torch.zeros_like(image)
    moved[..., 32:, 64:] = image[..., :-32, :-64]
    with torch.no_grad():
        before, after = net(image), net(moved)
    for stride, still, shifted in zip((8, 16, 32), before, after, strict=True):
        rows, columns = 32 // stride, 64 // stride
        middle = 320 // stride  # further from the border than the net sees
        found = shifted[..., middle + rows, middle + columns]
        np.testing.assert_allclose(found, still[..., middle, middle], atol=1e-5)


def test_half_the_image_is_every_second_pixel_blurred():
    ramp = torch.arange(12.0).expand(1, 3, 10, 12).clone()
    half = LightNet(8)._half(ramp)
    np.testing.assert_allclose(half[0, 0, 2], [0.25, 2, 4, 6, 8, 10])  # the first one sees its padding


def test_the_light_net_starts_as_a_resnet_18(tmp_path):
    from dff_ros.nets.resnet import ResNetFeature

    trunk = ResNetFeature(18, 8, last_stage=4, batch_norm=False)
    arrays = {
        name: value.numpy() for name, value in trunk.state_dict().items() if not name.startswith('reduce')
    }
    np.savez(tmp_path / 'weights.npz', **arrays)
    net = LightNet(64)
    left = load_start_weights(net, tmp_path / 'weights.npz')
    assert {name.split('.')[0] for name in left} == {'sharp1', 'sharp2', 'sharp3'}
    image = randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = trunk.trunk(net._half(image))
        np.testing.assert_allclose(net(image).coarse, expected, atol=1e-4)
    with pytest.raises(DataError, match='conv1.weight is'):
        load_start_weights(LightNet(32), tmp_path / 'weights.npz')


def test_widths_that_do_not_divide_are_named():
    with pytest.raises(ConfigError, match='light_channels is 12; it takes a positive multiple of 8'):
        LightNet(12)


@pytest.mark.parametrize(('channels', 'exported'), [((100, 33), 144), ((100, 28), 128)])
def test_what_is_exported_joins_in_whole_blocks(channels: tuple[int, int], exported: int) -> None:
    conv = JoiningConv(sum(channels), 16, 3, padding=1)
    parts = [randn(1, num, 5, 7, seed=num) for num in channels]
    program = torch.export.export(conv, (parts,))
    (node,) = (node for node in program.graph.nodes if 'conv2d' in str(node.target))
    assert [arg.meta['val'].shape[1] for arg in node.args[:2]] == [exported, exported]
    expected = torch.nn.functional.conv2d(torch.cat(parts, 1), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(program.module()(parts), expected)
