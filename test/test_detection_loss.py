# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Targets and loss of the detection head."""

import dataclasses

import numpy as np
import pytest
import torch
from test_dff_training import awake, config_of, pair
from tiny_models import texture, tiny_spec
from torch.nn import functional as F

from dff_ros.data.boxes import boxes_of
from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.nets.boxes import decode
from dff_ros.nets.dff import DffModel
from dff_ros.nets.rfcn import BOX_STD, RPN_STD, DetectionHead, RawDetection
from dff_ros.training.box_targets import Truth, anchor_targets, is_within, roi_targets
from dff_ros.training.detection_loss import NAMES, detection_terms
from dff_ros.training.dff_pairs import _truth
from dff_ros.training.dff_trainer import DffTrainer
from dff_ros.training.pair_batch import stack_pairs
from dff_ros.training.start import start_model

NONE = torch.zeros(0, 4)


def truth(boxes, class_ids, ignored=NONE, known=(True, True, True)):
    return Truth(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(class_ids, dtype=torch.long),
        torch.as_tensor(ignored, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(known),
    )


ANCHORS = torch.tensor(
    [
        [0.0, 0, 10, 10],  # the first object itself
        [2, 0, 12, 10],  # overlaps it by 2/3: neither
        [8, 0, 18, 10],  # hardly
        [40, 40, 60, 60],  # best of the second object, by 1/4 only
        [40, 40, 90, 90],
        [70, 0, 80, 10],  # far from everything
        [0, 0, 10, 10],  # outside
    ]
)
INSIDE = torch.tensor([True] * 6 + [False])


def test_anchors_by_hand():
    found = anchor_targets(ANCHORS, INSIDE, truth([[0, 0, 10, 10], [40, 40, 50, 50]], [0, 1]))
    assert found.is_object.tolist() == [True, False, False, True, False, False, False]
    assert found.is_background.tolist() == [False, False, True, False, True, True, False]
    moved = decode(ANCHORS, found.deltas, RPN_STD)
    torch.testing.assert_close(moved[0], torch.tensor([0.0, 0, 10, 10]))
    torch.testing.assert_close(moved[3], torch.tensor([40.0, 40, 50, 50]))


def test_what_is_ignored_is_no_background():
    there = truth([[0, 0, 10, 10]], [0], [[68, 0, 90, 30]])
    found = anchor_targets(ANCHORS, INSIDE, there)
    assert not found.is_background[5] and found.is_background[2]
    empty = anchor_targets(ANCHORS, INSIDE, truth([], []))
    assert not empty.is_object.any() and empty.is_background.tolist() == INSIDE.tolist()
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10.5], [5, 5, 5, 5]])
    assert is_within(half, torch.tensor([[4.9, 0, 30, 10.2]])).tolist() == [True, False, False]


def test_proposals_by_hand():
    rois = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 19], [0, 0, 10, 21], [50, 50, 60, 60], [1, 1, 2, 2]])
    is_valid = torch.tensor([True, True, True, True, False])
    there = truth([[0, 0, 10, 10]], [2], [[45, 45, 70, 70]])
    found = roi_targets(rois, is_valid, there)
    assert found.labels.tolist() == [3, 3, 0, 0, 0]
    assert found.counts.tolist() == [True, True, True, False, False]
    torch.testing.assert_close(
        decode(rois, found.deltas, BOX_STD)[:2], torch.tensor([[0.0, 0, 10, 10]] * 2), atol=1e-4, rtol=0
    )


def test_boxes_of_a_batch_become_a_truth():
    boxes = boxes_of([[1, 2, 3, 4], [5, 6, 7, 8]], [1, 0], [False, True])
    found = _truth(boxes, np.array([True, True, False]), torch.from_numpy)
    assert found.boxes.tolist() == [[1, 2, 3, 4]] and found.class_ids.tolist() == [1]
    assert found.ignored.tolist() == [[5, 6, 7, 8]] and found.is_known.tolist() == [True, True, False]
    assert _truth(None, np.zeros(3, bool), torch.from_numpy) is None


SIZE = (64, 96)


def model_of(**changes) -> DffModel:
    torch.manual_seed(3)
    settings = {
        'box_class_names': ('a', 'b', 'c'), 'class_names': (), 'class_colours': (), 'box_bins': 3,
        'anchor_scales': (1.0, 2.0), 'anchor_ratios': (1.0,), 'detection_channels': 32,
        'box_pooling': 'smooth', 'proposals_before_nms': 60, 'num_proposals': 20, 'max_boxes': 20,
    }  # fmt: skip
    return DffModel(tiny_spec(**{**settings, **changes}), batch_norm=False)


def random_raw(head: DetectionHead, num_images: int = 1) -> RawDetection:
    generator = torch.Generator().manual_seed(1)
    feature = torch.randn(num_images, 16, 4, 6, generator=generator)
    raw = head(feature)
    return RawDetection(*(4 * torch.randn(x.shape, generator=generator) for x in raw))


def test_the_proposal_terms_are_the_mean_over_draws():
    head = model_of().heads['detection']
    raw = random_raw(head)
    there = truth([[30, 20, 62, 52]], [1])
    found = detection_terms(head, raw, [there], SIZE)
    anchors = head.anchors((4, 6))
    inside = (anchors >= 0).all(1) & (anchors[:, 2] <= 96) & (anchors[:, 3] <= 64)
    targets = anchor_targets(anchors, inside, there)
    assert 0 < targets.is_object.sum() < targets.is_background.sum() < 256  # so few that all are drawn
    logits = head.objectness(raw)[0]
    pair = torch.stack((torch.zeros_like(logits), logits), 1)
    cost = F.cross_entropy(pair, targets.is_object.long(), reduction='none')
    expected = cost[targets.is_object | targets.is_background].mean()
    torch.testing.assert_close(found['proposal'], expected)
    difference = (head.anchor_deltas(raw)[0] - targets.deltas)[targets.is_object].abs()
    edges = torch.where(difference < 1 / 9, 4.5 * difference**2, difference - 0.5 / 9).sum()
    torch.testing.assert_close(found['proposal_box'], edges / 256)


def test_the_box_terms_by_hand():
    head = model_of().heads['detection']
    raw = random_raw(head)
    there = truth([[30, 20, 62, 52]], [1])
    found = detection_terms(head, raw, [there], SIZE)
    proposals = head.proposals(raw, torch.tensor(SIZE, dtype=torch.float32))
    rois = torch.cat((proposals.boxes[0][proposals.is_valid[0]], there.boxes))
    scores, deltas = (x[0] for x in head.pool(raw, rois[None]))
    targets = roi_targets(rois, torch.ones(len(rois), dtype=torch.bool), there)
    assert targets.labels[-1] == 2 and not targets.labels.all()
    cost = F.cross_entropy(scores, targets.labels, reduction='none')  # fewer than 128: all of them
    torch.testing.assert_close(found['box_class'], cost.mean())
    edges = F.smooth_l1_loss(deltas, targets.deltas, reduction='none').sum(1) * (targets.labels > 0)
    torch.testing.assert_close(found['box'], edges.mean())


def test_the_hardest_proposals_count():
    head = model_of(proposals_before_nms=200, num_proposals=200).heads['detection']
    spec = dataclasses.replace(head.spec, anchor_scales=(1.0, 2.0, 1.5, 0.5, 0.7, 1.2, 1.7, 0.9))
    torch.manual_seed(0)
    head = DetectionHead(spec)
    raw = random_raw(head)
    empty = truth([], [])
    found = detection_terms(head, raw, [empty], SIZE)
    proposals = head.proposals(raw, torch.tensor(SIZE, dtype=torch.float32))
    rois = proposals.boxes[0][proposals.is_valid[0]]
    scores = head.pool(raw, rois[None])[0][0]
    cost = F.cross_entropy(scores, torch.zeros(len(rois), dtype=torch.long), reduction='none')
    assert len(rois) > 128
    torch.testing.assert_close(found['box_class'], cost.sort(descending=True).values[:128].mean())
    assert found['box'] == 0 and found['proposal_box'] == 0


def test_images_add_up():
    head = model_of().heads['detection']
    raw = random_raw(head, 2)
    truths = [truth([[30, 20, 62, 52]], [1]), truth([], [])]
    both = detection_terms(head, raw, truths, SIZE)
    singles = [
        detection_terms(head, RawDetection(*(x[i : i + 1] for x in raw)), [truths[i]], SIZE) for i in (0, 1)
    ]
    for name in NAMES:
        torch.testing.assert_close(both[name], singles[0][name] + singles[1][name])


def test_classes_that_nobody_looked_for_are_neither_learnt_nor_background():
    head = model_of().heads['detection']
    raw = random_raw(head)
    maps = raw.class_maps.clone().requires_grad_()
    there = truth([], [], known=(False, True, True))
    found = detection_terms(head, raw._replace(class_maps=maps), [there], SIZE)
    (gradient,) = torch.autograd.grad(found['box_class'], maps)
    by_class = gradient.unflatten(1, (4, -1)).abs().sum((0, 2, 3, 4))
    assert by_class[1] == 0 and (by_class[[0, 2, 3]] > 0).all()
    # Everything looks like an object of that class: nothing is background then.
    sure = raw.class_maps.clone().unflatten(1, (4, -1))
    sure[:, 1] += 100
    unsure = detection_terms(head, raw._replace(class_maps=sure.flatten(1, 2)), [there], SIZE)
    assert unsure['box_class'] == 0
    assert unsure['proposal'] < found['proposal']


BOXED = {
    'detection.channels': 16, 'detection.scales': '1,2', 'detection.ratios': '1', 'detection.bins': 3,
    'detection.proposals_before_nms': 40, 'detection.num_proposals': 10,
}  # fmt: skip


def boxed_batch():
    """Of pairs that move and pairs that do not, some with boxes, one searched for one class only."""
    pairs = [pair(0, 0), pair(1, 2), pair(2, 4, exact=False), pair(3, 1, labelled=False)]
    boxes = boxes_of([[20, 10, 50, 40], [60, 30, 90, 60]], [0, 1], [False, True])
    names = ('b', 'c')
    pairs[0] = dataclasses.replace(pairs[0], boxes=boxes, box_classes=names)
    pairs[2] = dataclasses.replace(pairs[2], boxes=boxes, box_classes=names)
    one = boxes_of([[10, 20, 40, 50]], [0])
    pairs[3] = dataclasses.replace(pairs[3], boxes=one, box_classes=('b',))
    return stack_pairs(pairs, names)


def boxed_trainer(**changes):
    config = config_of(**{name.replace('.', '__'): value for name, value in {**BOXED, **changes}.items()})
    started = awake(start_model(config, CAMVID_CLASSES, (), ('b', 'c')))
    return DffTrainer(config, started, np.ones(11, np.float32))


@pytest.mark.parametrize('num_parts', [2, 4])
def test_parts_of_a_batch_with_boxes_give_its_loss_and_gradient(num_parts):
    results = []
    for accumulate in (1, num_parts):
        trainer = boxed_trainer(accumulate=accumulate)
        figures = trainer.backward(boxed_batch())
        results.append((figures, {n: p.grad for n, p in trainer.model.named_parameters()}))
    (whole, gradient), (parts, other) = results
    assert whole.keys() == parts.keys()
    assert {'per_frame_boxes', 'propagated_boxes', 'warped_propagated_boxes'} < whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert any(name.startswith('heads.detection.stem.middle') for name in gradient)
    for name, value in gradient.items():
        if value is not None:
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_boxes_count_in_both_outputs_as_their_weight_says():
    batch, found = boxed_batch(), {}
    for weight in (0.0, 1.0, 2.0):
        found[weight] = boxed_trainer(loss__boxes=weight).backward(batch)
    assert not any('boxes' in name for name in found[0.0])
    boxes = found[1.0]['per_frame_boxes'] + found[1.0]['propagated_boxes']
    # With a correction, half of it for what the warped and the new feature give by themselves.
    boxes = boxes + 0.5 * (found[1.0]['warped_propagated_boxes'] + found[1.0]['new_propagated_boxes'])
    torch.testing.assert_close(found[1.0]['loss'] - found[0.0]['loss'], boxes)
    torch.testing.assert_close(found[2.0]['loss'] - found[1.0]['loss'], boxes)


def test_two_images_are_learnt_by_heart():
    model = model_of(light_channels=16)
    images = torch.from_numpy(np.stack([texture(SIZE, seed) for seed in (0, 1)])).permute(0, 3, 1, 2)
    images = (images * 0.3).to(torch.uint8)
    images[0, :, 16:48, 8:40] = torch.tensor([250, 20, 20], dtype=torch.uint8)[:, None, None]
    images[1, :, 20:40, 50:70] = torch.tensor([20, 20, 250], dtype=torch.uint8)[:, None, None]
    truths = [truth([[8, 16, 40, 48]], [0]), truth([[50, 20, 70, 40]], [2])]
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    head = model.heads['detection']
    x = model.normalise(images)
    losses = []
    for step in range(80):
        optimiser.param_groups[0]['lr'] = 2e-3 * (1 - step / 80)
        raw = model.detect(model.feature_net(x), model.look(x))
        loss = torch.stack([*detection_terms(head, raw, truths, SIZE).values()]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]
    limits = torch.tensor(SIZE, dtype=torch.float32), torch.ones(2), torch.tensor([0.3]), torch.tensor([0.3])
    with torch.no_grad():
        for image, there in enumerate(truths):
            one = x[image : image + 1]
            raw = model.detect(model.feature_net(one), model.look(one))
            boxes, number = head.decode(raw, *limits)
            assert number.item() >= 1
            assert boxes[0, :4].tolist() == pytest.approx(there.boxes[0].tolist(), abs=3)
            assert boxes[0, 5] == there.class_ids[0]
