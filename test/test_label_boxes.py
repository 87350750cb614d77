# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes of label maps: drawn things are found to the pixel; what touches, pieces and specks are ignored."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dff_ros.data.classes import BICYCLIST, CAMVID_CLASSES, CAR, OBJECT_CLASSES, PEDESTRIAN, ROAD
from dff_ros.data.label_boxes import SHAPES, label_boxes, verdict

SIZE = (360, 480)
HORIZON = 180


def street() -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[HORIZON:] = ROAD
    return labels


def draw_car(labels: np.ndarray, x: int, bottom: int, width_m: float = 1.8) -> tuple[int, int, int, int]:
    """A car that stands on a row: cabin, body, and wheels with a gap between them; its box."""
    metre = (bottom - HORIZON) / 1.3
    width, height = round(width_m * metre), round(1.45 * metre)
    top, inset = bottom - height, round(0.1 * width)
    labels[top : bottom - height // 2, x + inset : x + width - inset] = CAR
    labels[bottom - height // 2 : bottom - height // 8, x : x + width] = CAR
    labels[bottom - height // 8 : bottom, x : x + width // 5] = CAR
    labels[bottom - height // 8 : bottom, x + width - width // 5 : x + width] = CAR
    return x, top, x + width, bottom


def draw_person(
    labels: np.ndarray, x: int, bottom: int, class_id: int = PEDESTRIAN, height: int | None = None
) -> tuple[int, int, int, int]:
    """Head, trunk, two legs; its box."""
    height = height or round(1.7 * (bottom - HORIZON) / 1.3)
    width = round(0.4 * height)
    top, middle = bottom - height, x + width // 2
    head = height // 7
    labels[top : top + head + 2, middle - head // 2 : middle + head // 2 + 1] = class_id
    labels[top + head : bottom - height // 2, x : x + width] = class_id
    labels[bottom - height // 2 : bottom, x : x + width // 3] = class_id
    labels[bottom - height // 2 : bottom, x + width - width // 3 : x + width] = class_id
    return x, top, x + width, bottom


def found(labels: np.ndarray) -> dict[tuple[str, tuple[int, ...]], bool]:
    """(class, box) -> whether it is ignored."""
    boxes = label_boxes(labels, CAMVID_CLASSES, OBJECT_CLASSES)
    assert (boxes.visibility_N == 1).all()
    return {
        (OBJECT_CLASSES[number], tuple(map(int, edges))): bool(is_ignored)
        for number, edges, is_ignored in zip(
            boxes.class_ids_N, boxes.boxes_xyxy, boxes.is_ignored_N, strict=True
        )
    }


def test_single_things_are_found_to_the_pixel():
    labels = street()
    expected = {
        ('car', draw_car(labels, 10, 240)): False,
        ('car', draw_car(labels, 200, 300)): False,
        ('car', draw_car(labels, 130, 205)): False,
        ('pedestrian', draw_person(labels, 400, 240)): False,
        ('pedestrian', draw_person(labels, 170, 215)): False,
    }
    assert found(labels) == expected
    labels = street()
    expected = {
        ('car', draw_car(labels, 100, 230, width_m=3.8)): False,
        ('bicyclist', draw_person(labels, 300, 270, BICYCLIST)): False,
    }
    assert found(labels) == expected


def test_things_that_touch_are_one_box_that_is_ignored():
    labels = street()
    left, right = draw_car(labels, 100, 240), draw_car(labels, 100 + 83, 240)
    assert left[2] == right[0]
    assert found(labels) == {('car', (100, left[1], right[2], 240)): True}
    labels = street()
    one, two = draw_person(labels, 200, 260), draw_person(labels, 200 + 42, 260)
    assert one[2] == two[0]
    assert found(labels) == {('pedestrian', (200, one[1], two[2], 260)): True}


def test_a_row_of_parked_cars_is_ignored_however_its_box_is_shaped():
    labels = street()
    x, boxes = 0, []
    for bottom in (330, 290, 260, 240):
        boxes.append(draw_car(labels, x, bottom, width_m=1.2))
        x = boxes[-1][2] - 6
    ((_, box),) = found(labels)
    assert box == (0, min(b[1] for b in boxes), boxes[-1][2], 330)
    assert 0.5 < (box[2] - box[0]) / (box[3] - box[1]) < 2.8
    assert found(labels) == {('car', box): True}


def test_two_persons_one_behind_the_other_have_two_heads():
    labels = street()
    near = draw_person(labels, 200, 260)
    far = draw_person(labels, 224, 245)
    width, height = max(near[2], far[2]) - 200, 260 - near[1]
    assert width / height < 0.56
    assert set(found(labels).values()) == {True}


@pytest.mark.parametrize(
    ('box', 'class_id', 'shape', 'reason'),
    [
        ((100, 200, 106, 206), CAR, 'car', 'tiny'),
        ((100, 200, 200, 203), CAR, 'car', 'tiny'),
        ((100, 200, 300, 230), CAR, 'car', 'wide'),
        ((100, 150, 110, 190), CAR, 'car', 'thin'),
        ((0, 150, 10, 190), CAR, 'car', ''),
        ((100, 280, 140, 300), CAR, 'car', 'piece'),
        ((100, 190, 300, 290), CAR, 'car', ''),
        ((50, 80, 450, 240), CAR, 'car', 'long'),
        ((100, 190, 120, 260), PEDESTRIAN, 'pedestrian', ''),
        ((100, 245, 115, 275), PEDESTRIAN, 'pedestrian', 'piece'),
        ((100, 190, 140, 260), PEDESTRIAN, 'pedestrian', 'wide'),
        ((100, 190, 170, 260), BICYCLIST, 'bicyclist', ''),
    ],
)
def test_why_a_rectangle_is_no_thing(box: tuple[int, int, int, int], class_id: int, shape: str, reason: str):
    x1, y1, x2, y2 = box
    assert verdict(np.ones((y2 - y1, x2 - x1), bool), (x1, y1), SIZE, SHAPES[shape]) == reason
    labels = street()
    labels[y1:y2, x1:x2] = class_id
    assert found(labels) == {(shape, box): bool(reason)}


def test_outlines_that_are_no_single_thing():
    triangle = np.tri(80, dtype=bool)  # fills its hull
    assert verdict(triangle, (100, 150), SIZE, SHAPES['car']) == ''
    corner = np.zeros((80, 100), bool)
    corner[:20] = corner[:, :20] = True
    assert verdict(corner, (100, 150), SIZE, SHAPES['car']) == 'ragged'
    roofs = np.ones((80, 100), bool)
    roofs[:18, 40:60] = False
    assert verdict(roofs, (100, 150), SIZE, SHAPES['car']) == ''
    roofs[:21, 40:60] = False
    assert verdict(roofs, (100, 150), SIZE, SHAPES['car']) == 'two peaks'
    assert verdict(roofs[::-1], (100, 150), SIZE, SHAPES['car']) in ('two feet', 'long')


def test_the_image_may_have_another_size():
    labels = street()
    box = draw_car(labels, 150, 240)
    draw_car(labels, 300, 190)  # 7 rows high
    double = cv2.resize(labels, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    boxes = label_boxes(double, CAMVID_CLASSES, OBJECT_CLASSES)
    np.testing.assert_array_equal(boxes.boxes_xyxy[0], 2 * np.array(box))
    np.testing.assert_array_equal(
        boxes.is_ignored_N, label_boxes(labels, CAMVID_CLASSES, OBJECT_CLASSES).is_ignored_N
    )


def test_classes_have_the_numbers_asked_for():
    labels = street()
    draw_person(labels, 110, 240)
    boxes = label_boxes(labels, CAMVID_CLASSES, ('bicyclist', 'pedestrian'))
    np.testing.assert_array_equal(boxes.class_ids_N, [1])
    assert len(label_boxes(street(), CAMVID_CLASSES, OBJECT_CLASSES).boxes_xyxy) == 0
