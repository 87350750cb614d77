# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Overlays with boxes, by pixel value."""

from __future__ import annotations

import numpy as np
import pytest
from test_draw import caption

from dff_ros.draw import Panel, blend
from dff_ros.model_spec import ModelSpec
from dff_ros.overlay import Overlay, box_colours, draw_boxes
from dff_ros.types import Detections

SPEC = ModelSpec(
    class_names=('road', 'car'),
    class_colours=((10, 20, 30), (200, 100, 0)),
    box_class_names=('car', 'dog', 'cat'),
)
CAR = (200, 100, 0)
SIZE = (120, 160)


def boxes(*rows: tuple[float, float, float, float, int, float]) -> Detections:
    """Detections of x1, y1, x2, y2, class id, score."""
    values = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        values[:, :4].astype(np.float32), values[:, 4].astype(np.int64), values[:, 5].astype(np.float32)
    )


def drawn(*rows: tuple[float, float, float, float, int, float]) -> np.ndarray:
    picture = np.full((*SIZE, 3), 99, np.uint8)
    draw_boxes(picture, boxes(*rows), SPEC.box_class_names, box_colours(SPEC))
    return picture


def rows_and_columns(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row, first and last column that hold a true pixel."""
    rows, columns = np.nonzero(mask)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def test_a_box_class_has_the_colour_of_the_class_of_its_name_or_one_of_its_own():
    car, dog, cat = (tuple(colour) for colour in box_colours(SPEC).tolist())
    assert car == CAR
    assert len({car, dog, cat, (10, 20, 30)}) == 4
    assert box_colours(ModelSpec(class_names=('a',), class_colours=((1, 2, 3),))).shape == (0, 3)


def test_line_runs_along_the_first_and_last_pixels_of_the_box():
    picture = drawn((40, 50, 90, 100, 0, 0.5))  # pixels 40..89 and 50..99
    is_car = (picture == CAR).all(axis=2)
    line = is_car.copy()
    line[:50] = False  # the label, above the box
    assert rows_and_columns(line) == (50, 99, 40, 89)
    assert (
        line[50, 40:90].all() and line[99, 40:90].all() and line[50:100, 40].all() and line[50:100, 89].all()
    )
    assert not line[52:98, 42:88].any()  # the inside stays free
    assert tuple(picture[75, 65]) == (99, 99, 99)
    assert tuple(picture[75, 39]) == (0, 0, 0) and tuple(picture[75, 41]) == (255, 255, 255)


@pytest.mark.parametrize(
    ('box', 'where'),
    [
        ((40, 50, 90, 100), lambda is_label: is_label[:50].any() and not is_label[51:99, 45:85].any()),
        ((40, 3, 90, 100), lambda is_label: is_label[3:16].sum() > 150),  # no room above: inside
    ],
)
def test_label_is_above_the_box_or_inside_where_there_is_no_room(box, where):
    assert where((drawn((*box, 0, 0.5)) == CAR).all(axis=2))


def test_label_stays_within_the_picture():
    picture = drawn((150, 60, 160, 100, 0, 0.5))
    label = (picture[:60] == CAR).all(axis=2)
    assert rows_and_columns(label)[2] < 130  # moved to the left, the whole text is there
    assert label.sum() > 150


def test_name_and_score_are_written():
    pictures = [
        drawn((40, 50, 90, 100, class_id, score)) for class_id, score in ((1, 0.5), (2, 0.5), (1, 0.75))
    ]
    for other in pictures[1:]:
        assert (pictures[0][:50] != other[:50]).any()


def test_the_best_box_is_on_top():
    best, second = (40, 50, 90, 100, 0, 0.9), (40, 50, 90, 100, 1, 0.4)
    np.testing.assert_array_equal(drawn(best, second)[75, 40], CAR)


@pytest.mark.parametrize(
    'box', [(0, 0, 160, 120), (-5, -5, 400, 400), (10.2, 10.2, 10.4, 10.4), (159, 119, 160, 120)]
)
def test_any_box_can_be_drawn(box):
    assert ((drawn((*box, 0, 0.5)) == CAR).all(axis=2)).any()


def test_overlay_shows_what_ran():
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 255, (*SIZE, 3), np.uint8), rng.integers(0, 2, SIZE, np.uint8)
    found, overlay = boxes((40, 50, 90, 100, 0, 0.5)), Overlay(SPEC, 0.25)
    before = image.copy()
    blended = blend(image, labels, np.array(SPEC.class_colours, np.uint8), 0.25)
    np.testing.assert_array_equal(overlay.draw(image, labels), blended)
    np.testing.assert_array_equal(overlay.draw(image, labels, boxes()), blended)
    np.testing.assert_array_equal(overlay.draw(image, None), image)
    for labels_or_none, ground in ((labels, blended), (None, image)):
        picture = overlay.draw(image, labels_or_none, found)
        assert tuple(picture[50, 60]) == CAR
        np.testing.assert_array_equal(picture[102:], ground[102:])
    np.testing.assert_array_equal(image, before)


def test_panel_draws_the_boxes_into_the_overlay_and_names_their_classes():
    image, found = np.full((*SIZE, 3), 99, np.uint8), boxes((40, 50, 90, 100, 0, 0.5))
    panel = Panel(SIZE, Overlay(SPEC))
    plain, with_boxes = (panel.draw(image, None, caption(), f) for f in (None, found))
    changed = rows_and_columns((plain != with_boxes).any(axis=2))
    assert changed[2] > SIZE[1]  # only in the right half
    names, colours = Overlay(SPEC).legend()
    assert names == ('road', 'car', 'dog', 'cat')
    for colour in colours:
        assert (plain == colour).all(axis=2).sum() >= 36
