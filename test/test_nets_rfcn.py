# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The detection head: layout of its outputs, proposals and boxes against slow computations, bad numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch')
import torch
from test_nets_boxes import greedy
from test_nets_psroi import slow_pool
from tiny_models import tiny_spec

from dff_ros.errors import ConfigError
from dff_ros.nets.boxes import clip, decode, encode, is_inside
from dff_ros.nets.rfcn import BOX_STD, RPN_STD, DetectionHead, RawDetection

SIZE = (96, 128)
GRID = (6, 8)
SMALL = {
    'box_class_names': ('car', 'person'),
    'anchor_scales': (1.0, 2.0),
    'anchor_ratios': (1.0, 2.0),
    'box_bins': 3,
    'proposals_before_nms': 60,
    'num_proposals': 20,
    'max_boxes': 15,
}


def head_of(**changes) -> DetectionHead:
    return DetectionHead(tiny_spec(**{**SMALL, **changes})).eval()


def raw_of(head, grid=GRID, seed=0, batch=1, spread=2.0) -> RawDetection:
    generator = torch.Generator().manual_seed(seed)
    layers = head.rpn_scores, head.rpn_deltas, head.class_maps, head.box_maps
    return RawDetection(
        *(torch.randn(batch, layer.out_channels, *grid, generator=generator) * spread for layer in layers)
    )


def size_of(size=SIZE):
    return torch.tensor(size, dtype=torch.float32)


def detected(head, raw, size=SIZE, scale=(1.0, 1.0), nms_iou=0.3, score_threshold=0.05):
    limits = torch.tensor([nms_iou]), torch.tensor([score_threshold])
    rows, number = head.decode(raw, size_of(size), torch.tensor(scale), *limits)
    assert rows.shape == (head.spec.max_boxes, 6) and rows.dtype == torch.float32
    assert number.shape == (1,) and number.dtype == torch.int64
    assert not rows[int(number) :].any()
    return rows[: int(number)]


def test_anchors_of_the_paper_by_hand():
    head = head_of(anchor_scales=(8, 16, 32), anchor_ratios=(0.5, 1, 2), cell_centre=8.0)
    anchors = head.anchors((2, 3)).reshape(9, 2, 3, 4)
    # The release's first cell, whose last pixel is part of the box; our edge lies behind it.
    np.testing.assert_array_equal(anchors[0, 0, 0], [-84, -40, 99 + 1, 55 + 1])
    np.testing.assert_array_equal(anchors[4, 0, 0], [-120, -120, 135 + 1, 135 + 1])
    np.testing.assert_array_equal(anchors[8, 0, 0], [-168, -344, 183 + 1, 359 + 1])
    np.testing.assert_array_equal(anchors[8, 1, 2] - anchors[8, 0, 0], [32, 16, 32, 16])
    ours = head_of(anchor_scales=(8,), anchor_ratios=(0.5,)).anchors((2, 3))[5]
    np.testing.assert_array_equal(ours, [32.5 - 92, 16.5 - 48, 32.5 + 92, 16.5 + 48])


def test_anchors_inside_of_the_image_by_hand():
    is_in = is_inside(head_of().anchors(GRID), size_of()).view(4, *GRID)
    # Sides 16x16, 32x32, 11x22, 22x44; centres 0.5, 16.5 ... in 96x128.
    assert is_in.sum((1, 2)).tolist() == [5 * 7, 4 * 6, 5 * 7, 3 * 7]
    assert is_in[1, 1:5, 1:7].all()


def test_the_halves_of_the_feature_serve_proposals_and_scores():
    head = head_of()
    feature = torch.randn(1, 16, *GRID, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw = head(feature)
        other = head(torch.cat((feature[:, :8], feature[:, 8:] + 1), 1))
    weight = head.rpn_scores.weight.detach()[:, :, 0, 0]
    expected = torch.einsum('oc,chw->ohw', weight, feature[0, :8])
    np.testing.assert_allclose(raw.rpn_scores[0], expected, atol=1e-5)
    np.testing.assert_array_equal(raw.rpn_deltas, other.rpn_deltas)
    assert (raw.class_maps - other.class_maps).abs().max() > 1e-3
    assert (raw.box_maps - other.box_maps).abs().max() > 1e-3
    assert [part.shape[1] for part in raw] == [8, 16, 27, 36]


def test_the_stem_sees_the_current_frame_and_neighbouring_cells():
    head = DetectionHead(tiny_spec(**SMALL, detection_channels=12), 5).eval()
    generator = torch.Generator().manual_seed(0)
    feature, middle = (torch.randn(1, num, *GRID, generator=generator) for num in (16, 5))
    with torch.no_grad():
        raw = head(feature, middle)
        changed = middle.clone()
        changed[0, 0, 2, 3] += 10
        difference = (head(feature, changed).class_maps - raw.class_maps).abs().amax((0, 1))
    expected = np.zeros(GRID, bool)
    expected[1:4, 2:5] = True
    np.testing.assert_array_equal(difference > 1e-6, expected)


def test_logits_and_deltas_are_in_the_order_of_the_anchors():
    head, grid = head_of(), (2, 3)
    raw = raw_of(head, grid, batch=2)
    logits, deltas, anchors = head.objectness(raw), head.anchor_deltas(raw), head.anchors(grid)
    for shape in range(4):
        for y in range(2):
            for x in range(3):
                row = (shape * 2 + y) * 3 + x
                assert float(anchors[row, :2].sum() + anchors[row, 2:].sum()) == 2 * (16 * x + 16 * y + 1)
                scores = raw.rpn_scores[1, :, y, x]
                assert float(logits[1, row]) == pytest.approx(float(scores[4 + shape] - scores[shape]))
                np.testing.assert_array_equal(
                    deltas[1, row], raw.rpn_deltas[1, 4 * shape : 4 * shape + 4, y, x]
                )


def slow_proposals(head, raw, image, size):
    logits, deltas = head.objectness(raw)[image], head.anchor_deltas(raw)[image]
    order = logits.argsort(descending=True)[: head.spec.proposals_before_nms]
    grid = raw.rpn_scores.shape[2:]
    boxes = clip(decode(head.anchors(grid)[order], deltas[order], RPN_STD), size_of(size))
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    order, boxes = order[has_area], boxes[has_area]
    kept = greedy(boxes.tolist(), logits[order].tolist(), 0.7, -np.inf, head.spec.num_proposals)
    return boxes[kept], logits[order][kept]


@pytest.mark.parametrize('grid', [(6, 8), (3, 5), (1, 1)])
def test_proposals_equal_a_slow_selection(grid):
    head, size = head_of(), (grid[0] * 16 - 3, grid[1] * 16 - 7)
    raw = raw_of(head, grid, batch=2)
    found = head.proposals(raw, size_of(size))
    assert found.boxes.shape == (2, 20, 4)
    for image in range(2):
        boxes, logits = slow_proposals(head, raw, image, size)
        is_valid = found.is_valid[image]
        assert int(is_valid.sum()) == len(boxes) and not is_valid[len(boxes) :].any()
        np.testing.assert_allclose(found.boxes[image, : len(boxes)], boxes, atol=1e-4)
        np.testing.assert_allclose(found.logits[image, : len(boxes)], logits, atol=1e-6)
        assert not found.boxes[image, len(boxes) :].any()


@pytest.mark.parametrize('pooling', ['cells', 'smooth'])
def test_boxes_equal_a_slow_computation(pooling):
    head = head_of(box_pooling=pooling)
    raw = raw_of(head, spread=3.0)
    proposals = head.proposals(raw, size_of())
    rois = proposals.boxes[0][proposals.is_valid[0]]
    if pooling == 'cells':
        edges = (rois - 0.5) / 16 + 0.5
        logits = torch.tensor(np.array([slow_pool(raw.class_maps[0], box, 3) for box in edges])).float()
        deltas = torch.tensor(np.array([slow_pool(raw.box_maps[0], box, 3) for box in edges])).float()
    else:
        logits, deltas = (part[0] for part in head.pool(raw, rois[None]))
    boxes = clip(decode(rois, deltas, BOX_STD), size_of())
    probability = logits.softmax(1)
    expected = []
    for number in range(2):
        scores = probability[:, number + 1].tolist()
        kept = greedy(boxes.tolist(), scores, 0.3, 0.05, 15)
        expected += [[*boxes[row].tolist(), scores[row], number] for row in kept]
    expected = sorted(expected, key=lambda row: -row[4])[:15]
    assert len(expected) == 15 and {row[5] for row in expected} == {0, 1}
    np.testing.assert_allclose(detected(head, raw), expected, atol=1e-3)
    scaled = detected(head, raw, scale=(2.0, 3.0))
    np.testing.assert_allclose(scaled[:, :4], np.array(expected)[:, :4] * [3, 2, 3, 2], atol=3e-3)


def test_a_made_object_is_found_where_it_is():
    head = head_of()
    raw = RawDetection(*(torch.zeros_like(part) for part in raw_of(head)))
    truth = torch.tensor([30.0, 20.0, 62.0, 51.0])
    anchor = 1 * 48 + 2 * 8 + 3  # the second shape, 32x32, at cell (2, 3)
    raw.rpn_scores[0, 4:] = -torch.inf
    raw.rpn_scores[0, 4 + 1, 2, 3] = 5.0
    raw.rpn_deltas[0, 4:8, 2, 3] = encode(head.anchors(GRID)[anchor], truth, RPN_STD)
    raw.class_maps[0, 2 * 9 : 3 * 9] = 4.0
    wanted = torch.tensor([28.0, 18.0, 70.0, 50.0])
    raw.box_maps[0] = encode(truth, wanted, BOX_STD).repeat_interleave(9)[:, None, None]
    first, second = detected(head, raw, score_threshold=0.01)
    assert int(second[5]) == 0
    np.testing.assert_allclose(first[:4], wanted, atol=1e-3)
    assert int(first[5]) == 1
    assert float(first[4]) == pytest.approx(np.exp(4) / (np.exp(4) + 2), abs=1e-5)


@pytest.mark.parametrize('pooling', ['cells', 'smooth'])
def test_a_shift_by_one_cell_shifts_the_boxes_by_16_pixels(pooling):
    grid, size = (9, 12), (144, 192)
    head = head_of(box_pooling=pooling, num_proposals=8)
    raw = raw_of(head, grid, seed=4)
    raw.rpn_deltas.mul_(0.3)
    raw.box_maps.mul_(0.3)
    inside = torch.zeros(grid, dtype=torch.bool)
    inside[3:5, 3:7] = True
    raw.rpn_scores[:, 4:][..., ~inside] = -torch.inf  # proposals in the middle only, far from all borders
    moved = RawDetection(*(part.roll((1, 2), (2, 3)) for part in raw))
    found, shifted = detected(head, raw, size), detected(head, moved, size)
    assert len(found) >= 5 and float(found[:, :4].min()) > 0
    np.testing.assert_allclose(shifted[:, :4], found[:, :4] + torch.tensor([32, 16, 32, 16]), atol=1e-3)
    np.testing.assert_allclose(shifted[:, 4:], found[:, 4:], atol=1e-5)


def test_settings_choose_among_the_boxes():
    head, raw = head_of(), raw_of(head_of(), spread=3.0)
    low, high = detected(head, raw, score_threshold=0.05), detected(head, raw, score_threshold=0.6)
    assert 0 < len(high) < len(low)
    np.testing.assert_array_equal(high, low[low[:, 4] > 0.6])
    assert len(detected(head, raw, score_threshold=1.0)) == 0
    loose = detected(head_of(max_boxes=40), raw, nms_iou=1.0, score_threshold=0.3)
    assert len(loose) > len(detected(head_of(max_boxes=40), raw, nms_iou=0.1, score_threshold=0.3))
    assert (low[1:, 4] <= low[:-1, 4]).all()


def test_no_proposal_gives_no_box():
    head = head_of()
    raw = raw_of(head)
    raw.rpn_scores.fill_(-torch.inf)
    assert not head.proposals(raw, size_of()).is_valid.any()
    assert len(detected(head, raw)) == 0


def test_identical_proposals_are_one():
    head = head_of()
    raw = RawDetection(*(torch.zeros_like(part) for part in raw_of(head)))
    everything = torch.tensor([-500.0, -500, 500, 500])
    raw.rpn_deltas[0] = (
        encode(head.anchors(GRID), everything, RPN_STD).view(4, *GRID, 4).movedim(3, 1).flatten(0, 1)
    )
    found = head.proposals(raw, size_of())
    assert found.is_valid[0].tolist() == [True] + [False] * 19
    np.testing.assert_array_equal(found.boxes[0, 0], [0, 0, 128, 96])
    boxes = detected(head, raw)
    assert boxes[:, 5].tolist() == [0, 1]
    np.testing.assert_allclose(boxes[:, 4], [1 / 3, 1 / 3], atol=1e-6)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize('part', range(4))
@pytest.mark.parametrize('where', ['one', 'all'])
def test_bad_numbers_give_no_box_and_nothing_that_is_not_finite(bad, part, where):
    head = head_of()
    raw = raw_of(head)
    if where == 'all':
        raw[part].fill_(bad)
    else:
        raw[part][0, 0, 2, 3] = bad
    found = detected(head, raw)
    assert torch.isfinite(found).all()
    assert (found[:, 2:4] > found[:, :2]).all()
    if where == 'all' and not np.isfinite(bad):
        assert len(found) == 0 or (part == 0 and bad < 0)
    if where == 'one' and part < 2:
        assert len(found) > 5


def test_proposals_have_no_gradient_and_pooled_boxes_have():
    head = head_of()
    feature = torch.randn(1, 16, *GRID, generator=torch.Generator().manual_seed(0), requires_grad=True)
    raw = head(feature)
    proposals = head.proposals(raw, size_of())
    assert not proposals.boxes.requires_grad
    scores, deltas = head.pool(raw, proposals.boxes)
    (scores.square().sum() + deltas.square().sum()).backward()
    assert float(head.class_maps.weight.grad.abs().max()) > 0
    assert float(head.box_maps.weight.grad.abs().max()) > 0
    assert head.rpn_scores.weight.grad is None
    assert not feature.grad[:, :8].any() and feature.grad[:, 8:].any()


def test_a_head_without_classes_is_refused():
    with pytest.raises(ConfigError, match='no box_class_names'):
        DetectionHead(tiny_spec())
