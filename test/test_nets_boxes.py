# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes against hand-made values, and suppression against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch')
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dff_ros.nets.boxes import anchor_shapes, area, clip, decode, encode, iou, is_inside, suppress

STD = (0.1, 0.1, 0.4, 0.4)


def boxes_of(seed: int, num: int, span: float = 60.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(num, 2, generator=generator) * span
    return torch.cat((first, first + torch.rand(num, 2, generator=generator) * 40 + 0.5), 1)


def overlap(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def greedy(boxes, scores, threshold, lowest, max_kept):
    kept: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda number: (-scores[number], number)):
        if len(kept) == max_kept or not scores[number] > lowest:
            break
        if all(overlap(boxes[number], boxes[other]) <= threshold for other in kept):
            kept.append(number)
    return kept


def kept_by(boxes, scores, threshold, lowest, max_kept):
    limits = torch.tensor([threshold]), torch.tensor([lowest])
    return suppress(boxes, scores, *limits, max_kept)


def test_overlap_by_hand():
    first = torch.tensor([[0.0, 0, 4, 4], [10, 10, 20, 12], [3, 3, 3, 9]])
    second = torch.tensor([[2.0, 1, 6, 3], [0, 0, 4, 4], [15, 11, 25, 13], [3, 3, 3, 9], [5, 5, 4, 4]])
    expected = [[4 / 20, 1, 0, 0, 0], [0, 0, 5 / 35, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(iou(first, second), expected, rtol=1e-6)
    np.testing.assert_array_equal(area(second), [8, 16, 20, 0, 0])


def test_clipping_and_inside():
    size = torch.tensor([10.0, 20.0])
    boxes = torch.tensor([[-3.0, 2, 5, 12], [0, 0, 20, 10], [25, -4, 30, -1], [1, 1, 20.5, 9]])
    np.testing.assert_array_equal(
        clip(boxes, size), [[0, 2, 5, 10], [0, 0, 20, 10], [20, 0, 20, 0], [1, 1, 20, 9]]
    )
    np.testing.assert_array_equal(is_inside(boxes, size), [False, True, False, False])


def test_encoding_by_hand():
    anchor, box = torch.tensor([10.0, 10, 30, 50]), torch.tensor([15.0, 8, 25, 88])
    expected = [0.0, (48 - 30) / 40 / 0.1, np.log(0.5) / 0.4, np.log(2) / 0.4]
    np.testing.assert_allclose(encode(anchor, box, STD), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(encode(anchor, anchor, STD), np.zeros(4))


@pytest.mark.parametrize('seed', range(3))
def test_decoding_undoes_encoding(seed):
    anchors, boxes = boxes_of(seed, 50), boxes_of(seed + 10, 50)
    np.testing.assert_allclose(decode(anchors, encode(anchors, boxes, STD), STD), boxes, atol=1e-3)


def test_growth_is_limited_and_shrinking_is_not():
    anchor = torch.tensor([0.0, 0, 16, 16])
    grown = decode(anchor, torch.tensor([0.0, 0, 1e30, -1e30]), STD)
    np.testing.assert_allclose(grown, [8 - 500, 8, 8 + 500, 8], rtol=1e-3)


def test_anchor_shapes_of_the_paper():
    expected = [(184, 96), (368, 192), (736, 384), (128, 128), (256, 256), (512, 512)]
    expected += [(88, 176), (176, 352), (352, 704)]
    np.testing.assert_array_equal(anchor_shapes((0.5, 1, 2), (8, 16, 32)), expected)
    np.testing.assert_array_equal(anchor_shapes((3,), (0.5, 1.25)), [(4.5, 13.5), (11.25, 33.75)])


@given(
    seed=st.integers(0, 10_000),
    num=st.sampled_from([0, 1, 2, 7, 40, 150]),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    max_kept=st.sampled_from([1, 5, 1000]),
    levels=st.sampled_from([2, 5, 1000]),
)
@settings(max_examples=60)
def test_suppression_equals_a_plain_loop(seed, num, threshold, max_kept, levels):
    boxes = boxes_of(seed, num)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels, (2, num), generator=generator) / levels  # equal ones among them
    found = kept_by(boxes[None], scores[None], threshold, 0.125, max_kept)
    assert found.shape == (1, 2, num)
    for number in range(2):
        expected = greedy(boxes.tolist(), scores[number].tolist(), threshold, 0.125, max_kept)
        assert found[0, number].nonzero()[:, 0].tolist() == sorted(expected)


def test_suppression_of_more_boxes_than_are_compared_at_once():
    boxes = boxes_of(3, 1300, span=300)
    scores = torch.rand(1300, generator=torch.Generator().manual_seed(3))
    for max_kept in (100, 1300):
        expected = greedy(boxes.tolist(), scores.tolist(), 0.4, -1.0, max_kept)
        found = kept_by(boxes[None], scores[None, None], 0.4, -1.0, max_kept)[0, 0]
        assert found.nonzero()[:, 0].tolist() == sorted(expected)
    assert len(expected) > 512  # else one chunk would do


def test_images_and_classes_do_not_suppress_each_other():
    box = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8]])
    scores = torch.tensor([[[0.9, 0.8], [0.7, 0.8]], [[0.1, 0.8], [-np.inf, -np.inf]]])
    found = kept_by(box.expand(2, 2, 4), scores, 0.5, 0.5, 10)
    np.testing.assert_array_equal(found, [[[True, False], [False, True]], [[False, True], [False, False]]])
