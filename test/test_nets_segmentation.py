# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Segmentation head: scores, upsampling by matrices, loss and decoding, by value."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dff_ros.errors import ConfigError
from dff_ros.geometry import grid_size, upsample_matrix
from dff_ros.nets.segmentation import SegmentationHead, upsample_scores


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matrices(size, network, stride=16):
    rows, cols = (torch.tensor(upsample_matrix(size[i], network[i], stride)) for i in (0, 1))
    return rows, cols.T.contiguous()


def test_scores_are_a_linear_map_of_each_cell():
    head = SegmentationHead(5, 3)
    assert head.task == 'segmentation'
    head.score.bias.data = torch.tensor([1.0, -2.0, 3.0])
    feature = random(2, 5, 4, 6)
    expected = torch.einsum('kc,bchw->bkhw', head.score.weight[:, :, 0, 0], feature)
    expected = expected + torch.tensor([1.0, -2.0, 3.0])[:, None, None]
    torch.testing.assert_close(head(feature), expected)


def test_start_values_are_small():
    torch.manual_seed(0)
    head = SegmentationHead(1024, 11)
    assert head.score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.score.bias.abs().max().item() == 0


@pytest.mark.parametrize(
    'size, network', [((20, 40), (20, 40)), ((31, 50), (33, 47)), ((5, 9), (64, 48))], ids=str
)
def test_upsampling_samples_the_cells_bilinearly(size, network):
    # A slow loop over the convention: half-pixel centres to the network image, cell i on network pixel 16 i.
    height, width = grid_size(network, 16)
    scores = random(2, 3, height, width)
    found = upsample_scores(scores, *matrices(size, network))
    assert found.shape == (2, 3, *size)
    for y, x in ((0, 0), (size[0] // 2, size[1] // 3), (size[0] - 1, size[1] - 1)):
        cell = []
        for at, out, net, num in ((y, size[0], network[0], height), (x, size[1], network[1], width)):
            position = min(max(((at + 0.5) * net / out - 0.5) / 16, 0), num - 1)
            low = min(math.floor(position), max(num - 2, 0))
            cell.append((low, min(low + 1, num - 1), position - low))
        (y0, y1, fy), (x0, x1, fx) = cell
        top = (1 - fx) * scores[:, :, y0, x0] + fx * scores[:, :, y0, x1]
        bottom = (1 - fx) * scores[:, :, y1, x0] + fx * scores[:, :, y1, x1]
        torch.testing.assert_close(found[:, :, y, x], (1 - fy) * top + fy * bottom, rtol=1e-4, atol=1e-5)


def test_upsampling_keeps_constants_and_the_scores_at_cell_centres():
    rows, cols = matrices((65, 97), (65, 97))
    constant = upsample_scores(torch.full((1, 1, 5, 7), 3.0), rows, cols)
    torch.testing.assert_close(constant, torch.full((1, 1, 65, 97), 3.0))
    scores = random(1, 2, 5, 7)
    torch.testing.assert_close(upsample_scores(scores, rows, cols)[:, :, ::16, ::16], scores)


def test_loss_is_the_mean_negative_log_probability_of_labelled_pixels():
    head = SegmentationHead(2, 3)
    scores = random(2, 3, 4, 5)
    target = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    target[0, :2] = 255
    total, weighted, weights, count = 0.0, 0.0, 0.0, 0
    class_weight = torch.tensor([1.0, 4.0, 0.5])
    for b, y, x in np.ndindex(2, 4, 5):
        label = int(target[b, y, x])
        if label == 255:
            continue
        cost = math.log(sum(math.exp(s) for s in scores[b, :, y, x].tolist())) - scores[b, label, y, x].item()
        total, count = total + cost, count + 1
        weighted += class_weight[label].item() * cost
        weights += class_weight[label].item()
    assert head.loss(scores, target).item() == pytest.approx(total / count, rel=1e-5)
    assert head.loss(scores, target, class_weight).item() == pytest.approx(weighted / weights, rel=1e-5)
    # and the same as torch's own mean, where that is defined
    expected = F.cross_entropy(scores, target.long(), class_weight, ignore_index=255)
    torch.testing.assert_close(head.loss(scores, target, class_weight), expected)


@pytest.mark.parametrize('class_weight', [None, torch.tensor([1.0, 0.0, 2.0])])
def test_a_batch_without_labels_costs_nothing_and_has_no_gradient(class_weight):
    scores = random(1, 3, 2, 2).requires_grad_()
    loss = SegmentationHead(2, 3).loss(scores, torch.full((1, 2, 2), 255), class_weight)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_loss_of_half_precision_scores_does_not_overflow():
    # 90,000 pixels that cost 1.1 each: their sum is beyond float16.
    scores = torch.zeros(1, 3, 300, 300, dtype=torch.float16)
    loss = SegmentationHead(2, 3).loss(scores, torch.zeros(1, 300, 300, dtype=torch.uint8))
    assert loss.item() == pytest.approx(math.log(3), rel=1e-3)


def test_decode_gives_the_best_class_and_its_probability():
    scores = torch.tensor([[[[0.0, 9.0, -1000.0]], [[0.0, 0.0, 1000.0]], [[math.log(2), 0.0, 0.0]]]])
    labels, confidence = SegmentationHead.decode(SegmentationHead.bounded(scores[0]).unbind(0))
    assert (labels.dtype, confidence.dtype) == (torch.uint8, torch.uint8)
    assert labels.tolist() == [[2, 0, 1]]
    # 2/4 is 127.5: either neighbour is right
    assert confidence[0, 0].item() in (127, 128)
    assert confidence[0, 1:].tolist() == [round(255 / (1 + 2 * math.exp(-9))), 255]


def test_decode_equals_softmax():
    scores = 3 * random(2, 11, 9, 13)
    labels, confidence = SegmentationHead(2, 11).decode(scores.unbind(1))
    probability, best = scores.softmax(1).max(1)
    assert torch.equal(labels.long(), best)
    assert (confidence.float() - 255 * probability).abs().max() <= 0.501


@pytest.mark.parametrize('factor', [1.0, 10.0, 1000.0])
def test_bounded_scores_have_the_same_softmax_between_the_cells(factor):
    scores, sides = factor * random(11, 3, 4), matrices((48, 64), (48, 64))
    bounded = upsample_scores(SegmentationHead.bounded(scores), *sides)
    labels, confidence = SegmentationHead.decode(bounded.unbind(0))
    probability, best = upsample_scores(scores, *sides).softmax(0).max(0)
    if factor < 100:  # further down they are cut off
        assert torch.equal(labels.long(), best)
        assert (confidence.float() - 255 * probability).abs().max() <= 0.51
    cells = slice(None, None, 16)
    assert torch.equal(labels.long()[cells, cells], scores.argmax(0))
    assert confidence.min() >= 255 // 11 - 1  # the best of eleven has at least its share everywhere


class _Answer(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = SegmentationHead(4, 5)
        self.head.score.weight.data = random(5, 4, 1, 1, seed=2)

    def forward(self, feature, rows, cols):
        scores = self.head.bounded(self.head(feature)[0])
        return self.head.decode(upsample_scores(scores, rows, cols).unbind(0))


def test_onnx_gives_the_same_labels_at_any_output_size(tmp_path):
    model = _Answer().eval()
    dims = {name: torch.export.Dim(name, min=1, max=4096) for name in ('h', 'w', 'height', 'width')}
    program = torch.onnx.export(
        model,
        (random(1, 4, 3, 5), *matrices((40, 70), (48, 80))),
        dynamo=True,
        opset_version=18,
        dynamic_shapes=(
            {2: dims['h'], 3: dims['w']},
            {0: dims['height'], 1: dims['h']},
            {0: dims['w'], 1: dims['width']},
        ),
        input_names=['feature', 'rows', 'cols'],
        verbose=False,
    )
    program.save(tmp_path / 'predict.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'predict.onnx', providers=['CPUExecutionProvider'])
    for size, network in (((40, 70), (48, 80)), ((123, 77), (123, 77)), ((16, 16), (33, 65))):
        inputs = (random(1, 4, *grid_size(network, 16), seed=3), *matrices(size, network))
        with torch.no_grad():
            labels, confidence = model(*inputs)
        names = ('feature', 'rows', 'cols')
        found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
        assert found[0].dtype == np.uint8 and found[0].shape == size
        assert np.mean(found[0] == labels.numpy()) >= 0.999
        assert np.abs(found[1].astype(int) - confidence.numpy().astype(int)).max() <= 1


@pytest.mark.parametrize('channels, num_classes', [(0, 11), (8, 1), (8, 256)])
def test_bad_sizes_are_refused(channels, num_classes):
    with pytest.raises(ConfigError, match=f'not {channels} channels and {num_classes} classes'):
        SegmentationHead(channels, num_classes)
