# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The loss of flow nets: targets on the cells and the multi-scale end-point error, by hand."""

import numpy as np
import pytest
import torch

from dff_ros.errors import ShapeError
from dff_ros.nets.flownet import RAW_FLOW_PX, FlowNet, make_flow_net
from dff_ros.training.flow_loss import (
    cell_flow,
    cell_matrix,
    end_point_error,
    multi_scale_loss,
)


def test_a_cell_takes_the_pixels_around_its_centre():
    np.testing.assert_array_equal(
        cell_matrix(9, 4),
        [[1, 1, 0.5, 0, 0, 0, 0, 0, 0], [0, 0, 0.5, 1, 1, 1, 0.5, 0, 0], [0, 0, 0, 0, 0, 0, 0.5, 1, 1]],
    )


@pytest.mark.parametrize('stride', [16, 32])
def test_targets_of_a_linear_flow_are_its_values_at_the_centres(stride: int):
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(160.0), indexing='ij')
    flow = torch.stack((0.1 * x - 0.05 * y, 3 + 0.02 * y))[None]
    target, share = cell_flow(flow, torch.ones(1, 96, 160, dtype=torch.bool), stride)
    torch.testing.assert_close(share, torch.ones_like(share))
    inner = target[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(
        inner,
        flow[:, :, stride:-1:stride, stride:-1:stride][..., : inner.shape[2], : inner.shape[3]],
        rtol=1e-4,
        atol=1e-4,
    )


def test_targets_leave_invalid_pixels_out():
    flow = torch.zeros(1, 2, 32, 32)
    flow[:, 0] = 8.0
    flow[:, 0, :, 20:] = 100.0
    is_valid = torch.ones(1, 32, 32, dtype=torch.bool)
    is_valid[:, :, 20:] = False
    target, share = cell_flow(flow, is_valid, 16)
    torch.testing.assert_close(target[0, 0], torch.full((2, 2), 8.0))
    # Of cell 1's 7.5 columns left of column 16, itself and 7.5 to the right of it within a 32 px image, 8 end
    # at the border: 0.5 + 12 + ... -> columns 8 (half), 9..19 valid, 20..23 and half of 24 not.
    assert float(share[0, 0, 0, 1]) == pytest.approx((0.5 + 11) / 16)
    target, share = cell_flow(flow, torch.zeros_like(is_valid), 16)
    assert (float(target.abs().max()), float(share.max())) == (0.0, 0.0)


def test_end_point_error_by_hand():
    flow = torch.zeros(1, 2, 1, 2)
    target = torch.tensor([[[[3.0, 0.0]], [[4.0, 1.0]]]])
    weight = torch.tensor([[[[1.0, 3.0]]]])
    assert float(end_point_error(flow, target, weight)) == pytest.approx((5 + 3 * 1) / 4)
    assert float(end_point_error(flow, target, 0 * weight)) == 0.0


def test_the_loss_of_a_tiny_pyramid_by_hand():
    """32 x 32 pixels: one cell at strides 128, 64 and 32, four at 16; true flow (40, 0), one raw unit."""
    flow = torch.zeros(1, 2, 32, 32)
    flow[:, 0] = RAW_FLOW_PX
    is_valid = torch.ones(1, 32, 32, dtype=torch.bool)
    sides = (1, 1, 1, 2, 2)
    exact = [torch.cat((torch.ones(1, 1, s, s), torch.zeros(1, 1, s, s)), 1) for s in sides]
    assert float(multi_scale_loss(tuple(exact), FlowNet.scales, flow, is_valid)) == pytest.approx(
        0.0, abs=1e-6
    )
    zero = tuple(torch.zeros(1, 2, s, s) for s in sides)
    assert float(multi_scale_loss(zero, FlowNet.scales, flow, is_valid)) == pytest.approx(
        0.25 + 0.25 + 0.25 + 0.5 + 1.0
    )
    one_off = [prediction.clone() for prediction in exact]
    one_off[1][0, 1] = 0.5  # stride 64: half a unit off, weight 0.25
    one_off[4][0, 0, 1, 1] = 4.0  # one of four cells three units off, weight 1
    sizes = [float(cell_flow(flow, is_valid, 16)[1].sum()), 4.0]
    assert sizes[0] == sizes[1]  # every cell counts in full
    assert float(multi_scale_loss(tuple(one_off), FlowNet.scales, flow, is_valid)) == pytest.approx(
        0.25 * 0.5 + 3 / 4
    )


def test_gradients_are_finite_where_the_prediction_is_exact():
    flow, is_valid = torch.zeros(1, 2, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
    raw_flows = tuple(torch.zeros(1, 2, s, s, requires_grad=True) for s in (1, 1, 1, 2, 2))
    multi_scale_loss(raw_flows, FlowNet.scales, flow, is_valid).backward()
    assert all(bool(torch.isfinite(raw_flow.grad).all()) for raw_flow in raw_flows)


@pytest.mark.parametrize('name', ['flownet_half', 'flownet_inception'])
def test_the_pyramids_of_the_nets_fit(name: str):
    net = make_flow_net(name, 8)
    height, width = 90, 131
    raw_flows = net.pyramid(torch.zeros(1, 3, height, width), torch.zeros(1, 3, height, width)).raw_flows
    flow = torch.full((1, 2, height, width), RAW_FLOW_PX * 0.5**0.5)
    loss = multi_scale_loss(raw_flows, net.scales, flow, torch.ones(1, height, width, dtype=torch.bool))
    # Untrained nets predict almost nothing: at each scale an error of one unit.
    assert float(loss.detach()) == pytest.approx(sum(weight for _, weight in net.scales), rel=0.05)


def test_predictions_of_another_size_are_named():
    wrong = tuple(torch.zeros(1, 2, 1, 1) for _ in range(5))
    with pytest.raises(ShapeError, match=r'the loss of 32x32 pixels takes .*\(2, 2\)'):
        multi_scale_loss(
            wrong, FlowNet.scales, torch.zeros(1, 2, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
        )
