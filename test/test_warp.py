# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Equations (1) to (3) by value: identity, shifts, borders, a slow reference, gradients, ONNX."""

import itertools
import math

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dff_ros.nets.warp import coverage, propagate, warp

SIZES = [*itertools.product(range(1, 10), range(1, 10)), (23, 30), (63, 48)]


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def constant_flow(batch, height, width, dx, dy, dtype=torch.float32):
    flow = torch.empty(batch, 2, height, width, dtype=dtype)
    flow[:, 0], flow[:, 1] = dx, dy
    return flow


def warp_and_coverage(feature, flow):
    return warp(feature, flow), coverage(flow)


def slow_warp(feature, flow):
    """Equation (1) as it is written: the sum over all q of G(q, p + flow(p)) f(q), and that of G alone."""
    num_batch, num_channels, height, width = feature.shape
    warped, inside = np.zeros(feature.shape), np.zeros((num_batch, 1, height, width))
    for b, y, x in itertools.product(range(num_batch), range(height), range(width)):
        position_x, position_y = x + flow[b, 0, y, x], y + flow[b, 1, y, x]
        for q_y, q_x in itertools.product(range(height), range(width)):
            g = max(0, 1 - abs(q_x - position_x)) * max(0, 1 - abs(q_y - position_y))
            warped[b, :, y, x] += g * feature[b, :, q_y, q_x]
            inside[b, 0, y, x] += g
    return warped, inside


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_zero_flow_is_the_identity(size):
    check_zero_flow(size, seed=0)


@settings(max_examples=60)
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)), seed=st.integers(0, 99))
def test_zero_flow_is_the_identity_at_any_size(size, seed):
    check_zero_flow(size, seed)


def check_zero_flow(size, seed):
    feature = random(2, 3, *size, seed=seed)
    warped, validity = warp_and_coverage(feature, torch.zeros(2, 2, *size))
    # Positions pass through one float32 normalisation: an error of some 1e-7 of the grid's width.
    torch.testing.assert_close(warped, feature, rtol=0, atol=5e-5)
    assert torch.equal(validity, torch.ones(2, 1, *size))


@pytest.mark.parametrize('size', [(1, 1), (1, 6), (5, 1), (4, 7), (23, 30), (63, 48)], ids=str)
@pytest.mark.parametrize('dx, dy', [(1, 0), (-1, 0), (0, 1), (0, -1), (2, -3), (-4, 3), (100, -100)])
def test_an_integer_flow_is_a_shift_with_zeros_outside(size, dx, dy):
    check_shift(size, dx, dy, seed=0)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dx=st.integers(-45, 45),
    dy=st.integers(-45, 45),
    seed=st.integers(0, 99),
)
def test_an_integer_flow_is_a_shift_at_any_size(size, dx, dy, seed):
    check_shift(size, dx, dy, seed)


def check_shift(size, dx, dy, seed):
    height, width = size
    feature = random(1, 2, height, width, seed=seed)
    padded = np.zeros((1, 2, height + 2 * abs(dy), width + 2 * abs(dx)), np.float32)
    padded[:, :, abs(dy) : abs(dy) + height, abs(dx) : abs(dx) + width] = feature
    y, x = abs(dy) + dy, abs(dx) + dx
    inside = np.zeros((height, width), bool)
    inside[max(0, -dy) : max(0, height - dy), max(0, -dx) : max(0, width - dx)] = True

    warped, validity = warp_and_coverage(feature, constant_flow(1, height, width, dx, dy))

    np.testing.assert_allclose(warped.numpy(), padded[:, :, y : y + height, x : x + width], rtol=0, atol=5e-5)
    assert np.array_equal(validity[0, 0].numpy(), inside.astype(np.float32))


def test_a_fractional_flow_mixes_the_four_neighbours():
    feature = torch.tensor([[[[0.0, 10.0], [100.0, 110.0]]]])
    warped, validity = warp_and_coverage(feature, constant_flow(1, 2, 2, 0.25, 0.5))
    # At cell (0, 0): 0.25 to the right, half-way down. The other cells reach over the border: zeros there.
    expected = torch.tensor([[[[52.5, 0.75 * 60], [0.5 * 102.5, 0.5 * 0.75 * 110]]]])
    torch.testing.assert_close(warped, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(validity, torch.tensor([[[[1, 0.75], [0.5, 0.375]]]]), rtol=1e-6, atol=1e-6)


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    reach=st.sampled_from([0.0, 0.3, 3.0, 20.0]),
    value=st.floats(-10, 10, width=32),
    seed=st.integers(0, 99),
)
def test_a_constant_map_stays_constant_inside_and_its_warp_is_the_coverage(size, reach, value, seed):
    flow = reach * random(2, 2, *size, seed=seed)
    warped, validity = warp_and_coverage(torch.full((2, 1, *size), value), flow)
    torch.testing.assert_close(warped, value * validity, rtol=0, atol=1e-4)
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing='ij')
    at_x, at_y = x + flow[:, 0], y + flow[:, 1]
    margin = 1e-3  # of positions on the border, rounding decides
    is_inside = (
        (at_x > margin) & (at_x < size[1] - 1 - margin) & (at_y > margin) & (at_y < size[0] - 1 - margin)
    )
    torch.testing.assert_close(
        warped[:, 0][is_inside], torch.full_like(at_x[is_inside], value), rtol=0, atol=1e-4
    )


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    num_batch=st.integers(1, 2),
    reach=st.sampled_from([0.3, 2.0, 8.0]),
    seed=st.integers(0, 2**31 - 1),
)
def test_equals_equation_1_written_out(size, num_batch, reach, seed):
    feature = random(num_batch, 2, *size, seed=seed, dtype=torch.float64)
    flow = reach * random(num_batch, 2, *size, seed=seed + 1, dtype=torch.float64)
    warped, validity = warp_and_coverage(feature, flow)
    expected, inside = slow_warp(feature.numpy(), flow.numpy())
    np.testing.assert_allclose(warped.numpy(), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(validity.numpy(), inside, rtol=0, atol=1e-12)


def test_each_image_of_a_batch_has_its_own_flow():
    feature, flow = random(3, 2, 5, 7), 2 * random(3, 2, 5, 7, seed=1)
    together = warp(feature, flow)
    for index in range(3):
        one = warp(feature[index : index + 1], flow[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], one)


def test_propagate_multiplies_the_warped_feature_by_the_scale_map():
    feature, flow, scale = random(2, 3, 4, 6), random(2, 2, 4, 6, seed=1), random(2, 3, 4, 6, seed=2)
    warped, _ = slow_warp(feature.numpy(), flow.numpy())
    np.testing.assert_allclose(
        propagate(feature, flow, scale).numpy(), warped * scale.numpy(), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(propagate(feature, flow, torch.ones_like(feature)), warp(feature, flow))


def test_gradients_reach_feature_flow_and_scale_map():
    # Equation (4). Fractions away from 0 and 1: bilinear interpolation has a kink on the cells.
    flow = random(1, 2, 4, 5, seed=3, dtype=torch.float64).mul(2).floor() + 0.3
    flow += 0.4 * torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    inputs = (random(1, 2, 4, 5, dtype=torch.float64), flow, random(1, 2, 4, 5, seed=2, dtype=torch.float64))
    for value in inputs:
        value.requires_grad_()
    assert torch.autograd.gradcheck(propagate, inputs)
    assert torch.autograd.gradcheck(coverage, inputs[1:2])
    grads = torch.autograd.grad(propagate(*inputs).square().sum(), inputs)
    assert all(grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_features_are_sampled_at_exact_positions(dtype):
    # On 200 cells a half-precision grid coordinate would be off by up to a tenth of a cell and more.
    feature = random(1, 1, 3, 200).to(dtype)
    warped = warp(feature, constant_flow(1, 3, 200, 1, 0, dtype=dtype))
    assert warped.dtype == dtype
    torch.testing.assert_close(warped[..., :-1], feature[..., 1:], rtol=1e-3, atol=1e-3)


class _Propagate(nn.Module):
    def forward(self, feature, flow, scale_map):
        warped, validity = warp_and_coverage(feature, flow)
        return warped * scale_map, validity


@pytest.fixture(scope='module')
def onnx_session(tmp_path_factory):
    height, width = torch.export.Dim('h', min=1, max=512), torch.export.Dim('w', min=1, max=512)
    inputs = (random(1, 3, 6, 7), random(1, 2, 6, 7), random(1, 3, 6, 7))
    program = torch.onnx.export(
        _Propagate().eval(),
        inputs,
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({2: height, 3: width},) * 3,
        input_names=['feature', 'flow', 'scale_map'],
        verbose=False,
    )
    path = tmp_path_factory.mktemp('onnx') / 'propagate.onnx'
    program.save(path)
    return onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (5, 1), (6, 7), (23, 30), (63, 48), (64, 64)], ids=str)
def test_onnx_computes_the_same_at_any_size(onnx_session, size):
    inputs = {
        'feature': random(1, 3, *size),
        'flow': 4 * random(1, 2, *size, seed=1),
        'scale_map': random(1, 3, *size, seed=2),
    }
    expected = _Propagate()(*inputs.values())
    outputs = onnx_session.run(None, {name: value.numpy() for name, value in inputs.items()})
    for output, value in zip(outputs, expected, strict=True):
        assert math.isfinite(output.sum())
        np.testing.assert_allclose(output, value.numpy(), rtol=0, atol=1e-4)
