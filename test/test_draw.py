# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Overlays and panels, by pixel value."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.draw import Caption, Panel, blend, colourise, mark_key, shown_at, write_png
from dff_ros.errors import DffError, ShapeError
from dff_ros.model_spec import ModelSpec
from dff_ros.overlay import Overlay

COLOURS = np.array([(10, 20, 30), (200, 100, 0)], np.uint8)
LABELS = np.array([[0, 1], [255, 1]], np.uint8)
SPEC = ModelSpec(
    class_names=CAMVID_CLASSES, class_colours=tuple(tuple(colour) for colour in CAMVID_COLOURS.tolist())
)
AMBER = (255, 176, 32)


def caption(**changes):
    return Caption(**{'number': 5, 'is_key': False, 'age_frames': 2, 'latency_ms': 12.0} | changes)


def test_colourise_takes_the_class_colour_and_black_for_none():
    expected = [[(10, 20, 30), (200, 100, 0)], [(0, 0, 0), (200, 100, 0)]]
    np.testing.assert_array_equal(colourise(LABELS, COLOURS), expected)


def test_colourise_knows_all_256_ids():
    colours = np.random.default_rng(0).integers(0, 255, (255, 3), np.uint8)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(colourise(labels, colours).reshape(256, 3)[:255], colours)


def test_a_label_map_of_another_size_is_shown_by_the_nearest_centre():
    labels = np.array([[1, 2, 3], [4, 5, 255]], np.uint8)
    np.testing.assert_array_equal(shown_at(labels, (4, 6)), labels.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(shown_at(labels.repeat(3, 0).repeat(3, 1), (2, 3)), labels)
    np.testing.assert_array_equal(shown_at(labels, (1, 2)), [[4, 255]])
    assert shown_at(labels, (2, 3)) is labels


@pytest.mark.parametrize(
    'alpha, expected', [(0.0, (100, 100, 100)), (0.25, (125, 100, 75)), (1.0, (200, 100, 0))]
)
def test_blend_weighs_colour_and_image(alpha, expected):
    image = np.full((2, 2, 3), 100, np.uint8)
    mixed = blend(image, LABELS, COLOURS, alpha)
    assert tuple(mixed[0, 1]) == expected
    assert tuple(mixed[1, 0]) == (100, 100, 100)  # no class: the image as it is
    assert image.min() == image.max() == 100  # the input is not changed


@pytest.mark.parametrize(
    'image, labels',
    [(np.zeros((2, 3, 3), np.uint8), LABELS), (np.zeros((2, 2, 3), np.uint8), LABELS.astype(np.int32))],
)
def test_shapes_and_types_must_fit(image, labels):
    with pytest.raises(ShapeError):
        blend(image, labels, COLOURS, 0.5)


def test_mark_key_frames_the_picture_only_at_its_edge():
    picture = np.zeros((90, 120, 3), np.uint8)
    mark_key(picture)
    for row, column in ((0, 60), (89, 60), (45, 0), (45, 119)):
        assert tuple(picture[row, column]) == AMBER
    assert not picture[10:-10, 10:-10].any()


@pytest.fixture
def scene():
    rng = np.random.default_rng(1)
    return rng.integers(0, 255, (120, 160, 3), np.uint8), rng.integers(0, 11, (120, 160), np.uint8)


def find(panel: np.ndarray, picture: np.ndarray) -> tuple[int, int]:
    """Where a picture lies in the panel, as (top, left); fails where it does not."""
    height, width = picture.shape[:2]
    for top in range(panel.shape[0] - height + 1):
        for left in range(panel.shape[1] - width + 1):
            if np.array_equal(panel[top, left : left + 8], picture[0, :8]) and np.array_equal(
                panel[top : top + height, left : left + width], picture
            ):
                return top, left
    raise AssertionError('the picture is not in the panel')


def test_panel_shows_image_and_overlay_untouched_side_by_side(scene):
    image, labels = scene
    panel = Panel((120, 160), Overlay(SPEC, 0.5), interval=5)
    picture = panel.draw(image, labels, caption())
    image_at = find(picture, image)
    overlay_at = find(picture, blend(image, labels, CAMVID_COLOURS, 0.5))
    assert image_at[0] == overlay_at[0]
    assert overlay_at[1] >= image_at[1] + 160
    assert picture.shape == panel.shape and picture.shape[0] % 2 == picture.shape[1] % 2 == 0


def test_key_frames_have_an_amber_border_and_others_not(scene):
    panel = Panel((120, 160), Overlay(SPEC))
    key, other = (panel.draw(*scene, caption(is_key=is_key)) for is_key in (True, False))
    top, left = find(key, scene[0])
    for row, column in ((top + 60, left - 1), (top - 1, left + 80), (top + 120, left + 80)):
        assert tuple(key[row, column]) == AMBER
        assert tuple(other[row, column]) != AMBER
    np.testing.assert_array_equal(
        key[top : top + 120, left : left + 160], other[top : top + 120, left : left + 160]
    )


def test_header_tells_number_age_and_latency_apart(scene):
    panel = Panel((120, 160), Overlay(SPEC), interval=5)
    base = panel.draw(*scene, caption())
    np.testing.assert_array_equal(base, panel.draw(*scene, caption()))
    for changes in ({'number': 6}, {'age_frames': 3}, {'latency_ms': 40.0}, {'latency_ms': None}):
        changed = panel.draw(*scene, caption(**changes))
        rows = np.unique(np.nonzero((changed != base).any(axis=2))[0])
        assert rows.size and rows.max() < find(base, scene[0])[0], changes


def test_legend_has_a_swatch_of_every_class_below_the_pictures(scene):
    picture = Panel((120, 160), Overlay(SPEC)).draw(*scene, caption())
    legend = picture[find(picture, scene[0])[0] + 120 :].reshape(-1, 3)
    for name, colour in zip(CAMVID_CLASSES, CAMVID_COLOURS, strict=True):
        assert (legend == colour).all(axis=1).sum() >= 36, name


def test_an_image_of_another_size_is_scaled_into_the_same_panel():
    panel = Panel((120, 160), Overlay(SPEC))
    picture = panel.draw(np.full((60, 40, 3), 77, np.uint8), np.zeros((60, 40), np.uint8), caption())
    assert picture.shape == panel.shape
    assert ((picture == 77).all(axis=2).sum()) == 120 * 80


def test_png_keeps_class_ids(tmp_path):
    write_png(tmp_path / 'new' / 'a.png', LABELS)
    with Image.open(tmp_path / 'new' / 'a.png') as image:
        np.testing.assert_array_equal(np.asarray(image), LABELS)


def test_png_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(DffError, match=r'cannot write .*a\.png'):
        write_png(tmp_path / 'file' / 'a.png', LABELS)
