# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Flow nets: the layer table, the forward pass against one written out, start values, units, ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.nets.flownet import (
    FLOW_NETS,
    RAW_FLOW_PX,
    FlowNetInception,
    FlowNetS,
    InceptionBlock,
    make_flow_net,
)

LAYERS = {  # name: (in, out, kernel, stride), from the published tables
    'flow_conv1': (6, 64, 7, 2),
    'conv2': (64, 128, 5, 2),
    'conv3': (128, 256, 5, 2),
    'conv3_1': (256, 256, 3, 1),
    'conv4': (256, 512, 3, 2),
    'conv4_1': (512, 512, 3, 1),
    'conv5': (512, 512, 3, 2),
    'conv5_1': (512, 512, 3, 1),
    'conv6': (512, 1024, 3, 2),
    'conv6_1': (1024, 1024, 3, 1),
    'Convolution1': (1024, 2, 3, 1),
    'Convolution2': (1026, 2, 3, 1),
    'Convolution3': (770, 2, 3, 1),
    'Convolution4': (386, 2, 3, 1),
    'Convolution5': (194, 2, 3, 1),
    'deconv5': (1024, 512, 4, 2),
    'deconv4': (1026, 256, 4, 2),
    'deconv3': (770, 128, 4, 2),
    'deconv2': (386, 64, 4, 2),
    'upsample_flow6to5': (2, 2, 4, 2),
    'upsample_flow5to4': (2, 2, 4, 2),
    'upsample_flow4to3': (2, 2, 4, 2),
    'upsample_flow3to2': (2, 2, 4, 2),
    'Convolution5_scale': (194, 1024, 1, 1),
}


def images(height, width, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, batch, 3, height, width, generator=generator) - 0.5


def randomised(net):
    """Weights away from their start, so that flow and scale map are far from 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        std = 1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1
        parameter.data = torch.randn(parameter.shape, generator=generator) * std
    return net.eval()


def small(name):
    """A narrow net of the same structure: it runs and exports in no time."""
    return FlowNetInception(8) if name == 'flownet_inception' else FlowNetS(8, divisor=16)


def test_flownet_s_has_the_published_layers():
    with torch.device('meta'):
        net = make_flow_net('flownet_s', 1024)
    found = {}
    for name, layer in net.named_children():
        found[name] = (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        assert layer.bias is not None
    assert found == LAYERS


def test_flownet_half_halves_every_width():
    with torch.device('meta'):
        net = make_flow_net('flownet_half', 1024)
    for name, layer in net.named_children():
        _, num_out, kernel, stride = LAYERS[name]
        fixed = name.startswith(('Convolution', 'upsample'))
        assert layer.out_channels == (num_out if fixed else num_out // 2), name
        assert (layer.kernel_size[0], layer.stride[0]) == (kernel, stride)


def mean_of_covered(x):
    """2x2 average pool with sizes rounded up: each cell the mean of what it covers."""
    height, width = x.shape[2:]
    out = torch.empty(*x.shape[:2], (height + 1) // 2, (width + 1) // 2)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
    return out


def forward_written_out(net, current, key):
    """FlowNet-S in the release's terms: unpadded deconvs, cropped to the skip from offset (1, 1)."""

    def conv(name, x):
        layer = getattr(net, name)
        x = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.kernel_size[0] // 2)
        return x if name.startswith('Convolution') else F.leaky_relu(x, 0.1)

    def deconv(name, x, like):
        layer = getattr(net, name)
        x = F.conv_transpose2d(x, layer.weight, layer.bias, 2)
        return x[:, :, 1 : 1 + like.shape[2], 1 : 1 + like.shape[3]]

    x = conv('flow_conv1', mean_of_covered(torch.cat((current, key), 1)))
    skips = {2: conv('conv2', x)}
    for level in (3, 4, 5, 6):
        skips[level] = conv(f'conv{level}_1', conv(f'conv{level}', skips[level - 1]))
    x, raw_flows = skips[6], []
    for index, level in enumerate((5, 4, 3, 2)):
        raw_flows.append(conv(f'Convolution{index + 1}', x))
        up = F.leaky_relu(deconv(f'deconv{level}', x, skips[level]), 0.1)
        up_flow = deconv(f'upsample_flow{level + 1}to{level}', raw_flows[-1], skips[level])
        x = torch.cat((skips[level], up, up_flow), 1)
    x = mean_of_covered(x)
    raw_flows.append(conv('Convolution5', x))
    return raw_flows, conv('Convolution5_scale', x)


@pytest.mark.parametrize('size', [(64, 128), (97, 130), (16, 16), (33, 47)], ids=str)
def test_flownet_s_computes_the_published_network(size):
    net = randomised(small('flownet_s'))
    current, key = images(*size)
    with torch.no_grad():
        raw_flows, scale_map = forward_written_out(net, current, key)
        pyramid = net.pyramid(current, key)
        flow, scale = net(current, key)
    for found, expected in zip(pyramid.raw_flows, raw_flows, strict=True):
        assert expected.std() > 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scale, scale_map, rtol=1e-4, atol=1e-5)
    # flow / 20 in pixels of the half-size image, and 8 of those are a feature cell
    torch.testing.assert_close(flow, 2.5 * raw_flows[-1], rtol=1e-4, atol=1e-5)
    assert net.stride * 2.5 == RAW_FLOW_PX


@pytest.mark.parametrize('name', sorted(FLOW_NETS))
@pytest.mark.parametrize('size', [(128, 192), (97, 130), (17, 31)], ids=str)
def test_outputs_lie_on_the_grids_of_their_strides(name, size):
    net = small(name).eval()
    assert net.stride == 16
    with torch.no_grad():
        pyramid = net.pyramid(*images(*size, batch=2))
    for stride, raw_flow in zip((128, 64, 32, 16, 16), pyramid.raw_flows, strict=True):
        assert raw_flow.shape == (2, 2, -(-size[0] // stride), -(-size[1] // stride))
    assert pyramid.scale_map.shape == (2, 8, -(-size[0] // 16), -(-size[1] // 16))


@pytest.mark.parametrize('name', sorted(FLOW_NETS))
def test_start_values(name):
    torch.manual_seed(0)
    net = small(name)
    with torch.no_grad():
        flow, scale_map = net(*images(96, 128))
    assert torch.equal(scale_map, torch.ones_like(scale_map))
    assert 0 < flow.abs().max() < 0.5
    # The bias of the scale map is frozen; everything else learns.
    frozen = [key for key, parameter in net.named_parameters() if not parameter.requires_grad]
    assert frozen == ['Convolution5_scale.bias']


@pytest.mark.parametrize('name', sorted(FLOW_NETS))
def test_every_layer_learns(name):
    net = randomised(small(name))
    pyramid = net.pyramid(*images(96, 128))
    loss = pyramid.scale_map.square().sum() + sum(raw_flow.square().sum() for raw_flow in pyramid.raw_flows)
    loss.backward()
    for key, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


def test_flow_upsampling_starts_bilinear():
    layer = small('flownet_s').upsample_flow6to5
    ramp = torch.arange(6.0).expand(1, 2, 5, 6).clone()
    ramp[:, 1] = 7
    up = layer(ramp)
    # Inside the border a constant stays and a ramp of 1 per cell becomes one of 1/2.
    torch.testing.assert_close(up[0, 1, 1:-1, 1:-1], torch.full((8, 10), 7.0))
    torch.testing.assert_close(up[0, 0, 1:-1, 1:-1], ((torch.arange(10.0) + 0.5) / 2).expand(8, 10))


def test_swapping_the_images_changes_the_flow():
    net = randomised(small('flownet_s'))
    current, key = images(64, 64)
    with torch.no_grad():
        assert (net(current, key)[0] - net(key, current)[0]).abs().max() > 1e-3


@pytest.mark.parametrize('stride', [1, 2])
def test_an_inception_block_computes_its_branches(stride):
    block = randomised(InceptionBlock(16, 32, stride))
    x = torch.randn(1, 16, 7, 10, generator=torch.Generator().manual_seed(0))

    def conv(layer, x, stride=1):
        return F.conv2d(x, layer.weight, layer.bias, stride, layer.kernel_size[0] // 2)

    branches = [conv(block.point, x)] if stride == 1 else []
    branches.append(conv(block.conv3, F.leaky_relu(conv(block.reduce3, x), 0.1), stride))
    double = F.leaky_relu(conv(block.conv5a, F.leaky_relu(conv(block.reduce5, x), 0.1)), 0.1)
    branches.append(conv(block.conv5b, double, stride))
    branches.append(conv(block.pool, F.max_pool2d(x, 3, stride, 1)))
    expected = F.leaky_relu(torch.cat(branches, 1), 0.1)
    assert expected.shape == (1, 32, -(-7 // stride), -(-10 // stride))
    torch.testing.assert_close(block(x), expected)


INCEPTION = pytest.param('flownet_inception', marks=pytest.mark.slow)  # its export alone takes 13 s


@pytest.mark.parametrize('name', ['flownet_s', INCEPTION])
def test_onnx_computes_the_same_at_odd_and_even_sizes(name, tmp_path):
    net = randomised(small(name))
    height, width = torch.export.Dim('h', min=16, max=4096), torch.export.Dim('w', min=16, max=4096)
    program = torch.onnx.export(
        net,
        tuple(images(97, 130)),
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({2: height, 3: width},) * 2,
        input_names=['current', 'key'],
        verbose=False,
    )
    program.save(tmp_path / 'flow.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'flow.onnx', providers=['CPUExecutionProvider'])
    for size in ((97, 130), (64, 64), (65, 63), (128, 131)):
        current, key = images(*size, seed=1)
        with torch.no_grad():
            expected = net(current, key)
        outputs = session.run(None, {'current': current.numpy(), 'key': key.numpy()})
        for output, value in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, value.numpy(), rtol=1e-3, atol=1e-4)


def test_registry_builds_by_name_and_lists_the_known():
    assert sorted(FLOW_NETS) == ['flownet_half', 'flownet_inception', 'flownet_s']
    net = make_flow_net('flownet_half', 16)
    assert isinstance(net, nn.Module) and (net.channels, net.flow_conv1.out_channels) == (16, 32)
    message = "unknown flow net 'raft'; known are flownet_s, flownet_half, flownet_inception"
    with pytest.raises(ConfigError, match=message):
        make_flow_net('raft')
    with pytest.raises(ConfigError, match='scale map channels is 0'):
        make_flow_net('flownet_s', 0)
