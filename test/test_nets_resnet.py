# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Feature nets: grid, structure, options and batch-norm folding, by value."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.resnet import FEATURE_NETS, ResNetFeature, fold_batch_norm, make_feature_net


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """The net with every parameter and statistic away from its start value, so that nothing cancels."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if name.endswith('running_var'):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.ndim == 4:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.2)
    return net


def image(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('pool_padding', ['both', 'end'])
@pytest.mark.parametrize(
    'size, grid', [((32, 48), (2, 3)), ((33, 49), (3, 4)), ((47, 17), (3, 2)), ((65, 66), (5, 5))]
)
def test_grid_is_size_over_stride_rounded_up(size, grid, pool_padding):
    net = ResNetFeature(18, 4, last_stage=4, pool_padding=pool_padding).eval()
    assert net.stride == 16
    assert net(image(*size)).shape == (1, 4, *grid)


@pytest.mark.parametrize('pool_padding, shift_px', [('both', 0), ('end', 2)])
def test_a_cell_is_centred_on_its_pixel(pool_padding, shift_px):
    # Positive weights keep every ReLU alive, and on a hill around the cell's centre the max-pool chooses
    # symmetrically, so what influences cell (9, 9) is symmetric about that centre: pixel 16 * 9 in the
    # project's convention, 2 px further with the pooling windows of Caffe.
    net = ResNetFeature(18, 1, last_stage=4, batch_norm=False, pool_padding=pool_padding).double()
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    position = torch.arange(300, dtype=torch.float64)
    offset = position - (16 * 9 + shift_px)
    hill = (1e6 - offset[:, None] ** 2 - offset[None] ** 2).expand(1, 3, 300, 300).clone().requires_grad_()
    net.trunk(hill)[0, 0, 9, 9].backward()
    influence = hill.grad[0].sum(0)
    for axis in (0, 1):
        centre = (influence.sum(axis) * position).sum() / influence.sum()
        assert centre.item() == pytest.approx(16 * 9 + shift_px, abs=1e-6)


def test_torchvision_names_of_the_trunk():
    keys = set(ResNetFeature(50, 8).state_dict())
    assert {
        'conv1.weight',
        'bn1.running_var',
        'layer1.0.downsample.0.weight',
        'layer1.0.downsample.1.weight',
    } <= keys
    assert {'layer3.5.conv3.weight', 'layer4.2.bn3.bias', 'layer4.0.downsample.1.running_mean'} <= keys
    assert keys - {
        k for k in keys if k.split('.')[0] in ('conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4')
    } == {
        'reduce.weight',
        'reduce.bias',
    }
    assert 'layer3.23.conv1.weight' not in ResNetFeature(101, 8).state_dict()
    assert 'layer3.22.conv1.weight' in ResNetFeature(101, 8).state_dict()


@pytest.mark.parametrize(
    'depth, trunk_parameters',
    # torchvision's published counts (11,689,512, 25,557,032, 44,549,160) without the 1000-class layer.
    [(18, 11_176_512), (50, 23_508_032), (101, 42_500_160)],
)
def test_parameter_count_is_that_of_the_published_networks(depth, trunk_parameters):
    with torch.device('meta'):
        net = ResNetFeature(depth, 1024)
    count = sum(p.numel() for name, p in net.named_parameters() if not name.startswith('reduce'))
    assert count == trunk_parameters
    assert net.reduce.weight.shape == (1024, 512 if depth == 18 else 2048, 3, 3)


@pytest.mark.parametrize('stride_in_1x1, strides', [(False, (1, 2)), (True, (2, 1))])
def test_where_the_stride_sits(stride_in_1x1, strides):
    net = ResNetFeature(50, 8, stride_in_1x1=stride_in_1x1)
    for stage in (net.layer2, net.layer3):
        assert (stage[0].conv1.stride[0], stage[0].conv2.stride[0]) == strides
        assert stage[0].downsample[0].stride == (2, 2)


@pytest.mark.parametrize('depth', [18, 50])
def test_stage_5_is_dilated_at_stride_1(depth):
    net = ResNetFeature(depth, 8)
    for conv in (m for m in net.layer4.modules() if isinstance(m, nn.Conv2d)):
        assert conv.stride == (1, 1)
        assert conv.dilation == ((2, 2) if conv.kernel_size == (3, 3) else (1, 1))
    assert (net.reduce.dilation, net.reduce.padding) == ((6, 6), (6, 6))


def test_a_bottleneck_computes_its_formula():
    net = randomised(ResNetFeature(50, 8)).eval()
    block = net.layer4[0]
    x = torch.rand(1, 1024, 5, 6)

    def conv_bn(conv, bn, x):
        y = F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation)
        scale = bn.weight / (bn.running_var + 1e-5).sqrt()
        return y * scale[:, None, None] + (bn.bias - bn.running_mean * scale)[:, None, None]

    y = conv_bn(block.conv1, block.bn1, x).relu()
    y = conv_bn(block.conv2, block.bn2, y).relu()
    y = conv_bn(block.conv3, block.bn3, y) + conv_bn(block.downsample[0], block.downsample[1], x)
    torch.testing.assert_close(block(x), y.relu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('size', [(16, 22), (32, 32)])
def test_pool_padding_end_is_caffes_rounded_up_pool(size):
    net = randomised(ResNetFeature(18, 4, last_stage=4, pool_padding='end')).eval()
    x = image(2 * size[0], 2 * size[1])
    stem = net.bn1(net.conv1(x)).relu()
    expected = net.layer3(net.layer2(net.layer1(F.max_pool2d(stem, 3, 2, 0, ceil_mode=True))))
    torch.testing.assert_close(net.trunk(x), expected)


def test_new_layers_start_small():
    torch.manual_seed(0)
    net = ResNetFeature(18, 256, last_stage=4)
    assert net.reduce.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert net.reduce.bias.abs().max().item() == 0
    # Without batch norm a random stage 5 passes on the scale of its input: the branches start at zero.
    plain = ResNetFeature(18, 8, batch_norm=False)
    block = plain.layer4[1]
    x = torch.rand(1, 512, 3, 3)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize('freeze', [True, False])
def test_a_random_stage_5_learns_whichever_way_it_starts(freeze):
    net = ResNetFeature(18, 8, freeze_batch_norm=freeze).train()
    net(image(64, 64, 2)).square().sum().backward()
    last = net.layer4[1].conv2.weight.grad if freeze else net.layer4[1].bn2.weight.grad
    assert last.abs().max() > 0


def test_frozen_batch_norm_keeps_statistics_and_affine():
    net = randomised(ResNetFeature(18, 8)).train()
    before = net.bn1.running_mean.clone()
    net(image(64, 64, 2)).sum().backward()
    assert torch.equal(net.bn1.running_mean, before)
    assert net.bn1.weight.grad is None and net.layer2[0].conv1.weight.grad is not None
    assert net.training and not net.bn1.training

    live = randomised(ResNetFeature(18, 8, freeze_batch_norm=False)).train()
    before = live.bn1.running_mean.clone()
    live(image(64, 64, 2)).sum().backward()
    assert not torch.equal(live.bn1.running_mean, before)
    assert live.bn1.weight.grad is not None


@pytest.mark.parametrize(
    'stages, frozen',
    [
        (0, set()),
        (1, {'conv1', 'bn1'}),
        (2, {'conv1', 'bn1', 'layer1'}),
        (3, {'conv1', 'bn1', 'layer1', 'layer2'}),
    ],
)
def test_frozen_stages_do_not_learn(stages, frozen):
    net = ResNetFeature(18, 8, frozen_stages=stages, freeze_batch_norm=False).train()
    before = net.bn1.running_mean.clone()
    net(image(64, 64, 2)).sum().backward()
    assert {name.split('.')[0] for name, p in net.named_parameters() if p.grad is None} == frozen
    assert torch.equal(net.bn1.running_mean, before) == (stages > 0)


@pytest.mark.parametrize(
    'options', [{'depth': 18}, {'depth': 50, 'stride_in_1x1': True}, {'depth': 18, 'last_stage': 4}]
)
def test_folding_batch_norm_keeps_the_function(options):
    depth = options.pop('depth')
    net = randomised(ResNetFeature(depth, 16, **options)).eval()
    folded = fold_batch_norm(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = image(49, 64)
    expected = net(x)
    assert expected.std() > 0
    torch.testing.assert_close(folded(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    # and it is the state dict of the network without batch norm
    plain = ResNetFeature(depth, 16, batch_norm=False, **options).eval()
    plain.load_state_dict(folded.state_dict())
    torch.testing.assert_close(plain(x), folded(x))


def test_folding_leaves_the_original_and_refuses_a_lone_batch_norm():
    net = ResNetFeature(18, 4, last_stage=4)
    fold_batch_norm(net)
    assert isinstance(net.bn1, nn.BatchNorm2d) and net.conv1.bias is None
    with pytest.raises(ConfigError, match=r'without a conv before it: 1$'):
        fold_batch_norm(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))


@pytest.mark.parametrize(
    'options, message',
    [
        ({'depth': 34}, 'depth is 34; known are 18, 50, 101'),
        ({'depth': 18, 'channels': 0}, 'at least 1'),
        ({'depth': 18, 'stride_in_1x1': True}, 'bottleneck'),
        ({'depth': 18, 'last_stage': 3}, 'allowed are 4 and 5'),
        ({'depth': 18, 'last_stage': 4, 'frozen_stages': 5}, 'from 0 to last_stage'),
        ({'depth': 18, 'pool_padding': 'same'}, "'both' and 'end'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        ResNetFeature(**options)


def test_registry_builds_by_name_and_lists_the_known():
    assert sorted(FEATURE_NETS) == ['resnet101', 'resnet18', 'resnet50']
    net = make_feature_net('resnet18', 64, last_stage=4)
    assert (net.depth, net.channels, net.last_stage) == (18, 64, 4)
    with pytest.raises(
        ConfigError, match="unknown feature net 'vgg'; known are resnet18, resnet50, resnet101"
    ):
        make_feature_net('vgg')
