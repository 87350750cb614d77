# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Paired transforms: after them, the key warped by the flow is still the current frame; labels stay on it."""

from __future__ import annotations

import numpy as np
import pytest

from dff_ros.config import replace
from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.paired_transforms import augment_pair, place_flow, place_pair
from dff_ros.data.pairs import PairSample
from dff_ros.data.samples import Sample
from dff_ros.data.transforms import Placement, augment

STILL = AugmentConfig(
    scale_min=1.0, scale_max=1.0, flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, gamma=0.0,
    blur=0.0, noise=0.0,
)  # fmt: skip
GEOMETRY = replace(STILL, {'scale_min': 0.5, 'scale_max': 2.0, 'flip': 0.5})
HEIGHT, WIDTH = 90, 120


def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture, defined at every position: (H, W, 3)."""
    waves = [np.sin(0.11 * x + 0.05 * y), np.sin(0.13 * y - 0.04 * x), np.sin(0.07 * (x + y) + 1.0)]
    return np.stack([127 + 100 * wave for wave in waves], axis=-1)


def exact_pair(matrix: tuple[float, float, float, float], shift: tuple[float, float]) -> PairSample:
    """Key = texture; current(p) = texture(p + flow(p)) for an affine flow. Red x 0.1 is the label."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    a, b, c, d = matrix
    flow = np.stack([a * x + b * y + shift[0], c * x + d * y + shift[1]])
    key, current = texture(x, y), texture(x + flow[0], y + flow[1])
    key_x, key_y = x + flow[0], y + flow[1]
    is_visible = (key_x >= 0) & (key_x <= WIDTH - 1) & (key_y >= 0) & (key_y <= HEIGHT - 1)
    current_u8 = np.rint(current).astype(np.uint8)
    return PairSample(
        'exact',
        current_u8,
        np.rint(key).astype(np.uint8),
        current_u8[..., 0] // 10,
        flow.astype(np.float32),
        is_visible,
    )


PAIR = exact_pair((0.04, -0.03, 0.03, 0.02), (9.0, -6.0))


def warped_key(pair: PairSample) -> np.ndarray:
    """The project's own warp of the key by the flow, (H, W, 3)."""
    torch = pytest.importorskip('torch')
    from dff_ros.nets.warp import warp

    key = torch.from_numpy(pair.key_HW3.astype(np.float32)).permute(2, 0, 1)[None]
    return warp(key, torch.from_numpy(pair.flow_2HW)[None])[0].permute(1, 2, 0).numpy()


def error_of(pair: PairSample) -> np.ndarray:
    """Grey levels by which the warped key misses the current frame where the flow says it is visible, and
    where the source covers both (there is no padding).
    """
    assert pair.is_visible_HW is not None and pair.labels_HW is not None
    difference = np.abs(warped_key(pair) - pair.current_HW3).max(axis=-1)
    return difference[pair.is_visible_HW & (pair.labels_HW != 255)]


def test_the_made_pair_is_exact():
    error = error_of(PAIR)
    assert error.size > 0.7 * HEIGHT * WIDTH
    assert error.max() < 2.5
    assert np.abs(PAIR.current_HW3.astype(int) - PAIR.key_HW3).mean() > 30  # the flow matters


@pytest.mark.parametrize('is_flipped', [False, True])
@pytest.mark.parametrize(
    ('scale', 'offset', 'crop'),
    [
        (1.0, (0.0, 0.0), (HEIGHT, WIDTH)),
        (1.0, (13.0, 7.0), (60, 80)),
        (2.0, (40.0, 30.0), (100, 130)),
        (0.5, (0.0, 0.0), (45, 60)),
        (1.37, (20.0, 11.0), (71, 83)),
        (0.8, (-6.0, -9.0), (90, 110)),
    ],
)
def test_the_transformed_key_warped_by_the_transformed_flow_is_the_transformed_current(
    scale: float, offset: tuple[float, float], crop: tuple[int, int], is_flipped: bool
):
    placed = place_pair(PAIR, Placement(scale, offset, is_flipped), crop)
    error = error_of(placed)
    assert error.size > 0.3 * crop[0] * crop[1]
    assert error.max() < 3.0  # both frames are rounded twice
    assert np.median(error) < 1.0


@pytest.mark.parametrize('wrong', ['not flipped', 'not scaled', 'swapped'])
def test_a_wrong_flow_would_be_noticed(wrong: str):
    placed = place_pair(PAIR, Placement(1.5, (20.0, 20.0), True), (90, 120))
    assert placed.flow_2HW is not None
    flow = {
        'not flipped': placed.flow_2HW * np.float32([[[-1]], [[1]]]),
        'not scaled': placed.flow_2HW / np.float32(1.5),
        'swapped': placed.flow_2HW[::-1].copy(),
    }[wrong]
    spoilt = PairSample('w', placed.current_HW3, placed.key_HW3, placed.labels_HW, flow, placed.is_visible_HW)
    assert np.median(error_of(placed)) < 1.0
    assert np.median(error_of(spoilt)) > 10.0


@pytest.mark.parametrize('seed', range(8))
def test_drawn_geometry_keeps_flow_and_labels_on_the_frames(seed: int):
    placed = augment_pair(GEOMETRY, np.random.default_rng(seed), PAIR, (64, 80))
    assert error_of(placed).max() < 3.0
    assert placed.labels_HW is not None
    covered = placed.labels_HW != 255
    red = placed.current_HW3[..., 0].astype(float)
    assert np.abs(red - (10.0 * placed.labels_HW + 4.5))[covered].mean() < 4.0


def test_values_of_flow_under_scale_and_flip():
    flow = np.zeros((2, 10, 12), np.float32)
    flow[0], flow[1] = 3.0, -2.0
    visible = np.ones((10, 12), bool)
    doubled, _ = place_flow(flow, visible, Placement(2.0, (0.0, 0.0), False), (20, 24))
    np.testing.assert_allclose(doubled[:, 5, 5], (6.0, -4.0))
    mirrored, seen = place_flow(flow, visible, Placement(1.0, (0.0, 0.0), True), (10, 12))
    np.testing.assert_allclose(mirrored[:, 5, 5], (-3.0, -2.0))
    # Column x comes from x - 3 and row y from y - 2: the first 3 and 2 come from outside.
    expected = np.ones((10, 12), bool)
    expected[:, :3] = expected[:2] = False
    np.testing.assert_array_equal(seen, expected)


def test_flows_of_different_surfaces_are_not_mixed():
    flow = np.zeros((2, 16, 16), np.float32)
    flow[0, :, 8:] = 40.0
    placed, _ = place_flow(flow, np.ones((16, 16), bool), Placement(1.7, (0.0, 0.0), False), (27, 27))
    assert {round(float(value), 3) for value in np.unique(placed[0])} == {0.0, 68.0}


def test_hidden_pixels_stay_hidden():
    visible = np.ones((20, 20), bool)
    visible[5:10, 6:12] = False
    _, placed = place_flow(
        np.zeros((2, 20, 20), np.float32), visible, Placement(1.0, (2.0, 3.0), True), (15, 14)
    )
    np.testing.assert_array_equal(placed, visible[3:18, 2:16][:, ::-1])


def test_no_change_is_the_identity():
    same = augment_pair(STILL, np.random.default_rng(0), PAIR, (HEIGHT, WIDTH))
    for name in ('current_HW3', 'key_HW3', 'labels_HW', 'flow_2HW', 'is_visible_HW'):
        np.testing.assert_array_equal(getattr(same, name), getattr(PAIR, name), name)


def test_a_pair_without_labels_or_flow():
    bare = PairSample('b', PAIR.current_HW3, PAIR.key_HW3, None)
    placed = augment_pair(GEOMETRY, np.random.default_rng(3), bare, (40, 50))
    assert placed.labels_HW is not None and set(np.unique(placed.labels_HW)) == {255}
    assert placed.flow_2HW is None and placed.is_visible_HW is None


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation', 'hue', 'gamma'])
def test_colours_are_changed_alike_or_independently(name: str):
    config = replace(STILL, {name: 20.0 if name == 'hue' else 0.5})
    still = PairSample('s', PAIR.current_HW3, PAIR.current_HW3, PAIR.labels_HW)
    alike = augment_pair(config, np.random.default_rng(2), still, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(alike.current_HW3, alike.key_HW3)
    assert np.abs(alike.current_HW3.astype(int) - still.current_HW3).max() > 3
    apart = augment_pair(config, np.random.default_rng(2), still, (HEIGHT, WIDTH), independent_colour=True)
    assert np.abs(apart.current_HW3.astype(int) - apart.key_HW3).max() > 3
    np.testing.assert_array_equal(apart.labels_HW, still.labels_HW)


def test_the_grain_of_both_frames_is_their_own():
    still = PairSample('s', PAIR.current_HW3, PAIR.current_HW3, PAIR.labels_HW)
    noisy = augment_pair(replace(STILL, {'noise': 1.0}), np.random.default_rng(2), still, (HEIGHT, WIDTH))
    grains = [
        noisy.current_HW3.astype(float) - still.current_HW3,
        noisy.key_HW3.astype(float) - still.key_HW3,
    ]
    assert min(grain.std() for grain in grains) > 1.5
    assert abs(np.corrcoef(grains[0].ravel(), grains[1].ravel())[0, 1]) < 0.05


def test_the_current_frame_is_changed_as_a_single_one_is():
    config = replace(AugmentConfig(), {'noise': 0.0})
    assert PAIR.labels_HW is not None
    single = augment(
        config, np.random.default_rng(9), Sample('s', PAIR.current_HW3, PAIR.labels_HW), (50, 60)
    )
    paired = augment_pair(config, np.random.default_rng(9), PAIR, (50, 60))
    np.testing.assert_array_equal(paired.current_HW3, single[0])
    np.testing.assert_array_equal(paired.labels_HW, single[1])


def test_what_the_frames_do_not_cover_is_outside():
    placed = place_pair(PAIR, Placement(0.5, (-10.0, -5.0), False), (60, 80))
    # 120x90 at half size is 60x45, from column 10 and row 5 on.
    expected = np.zeros((60, 80), bool)
    expected[5:50, 10:70] = True
    assert placed.is_inside_HW is not None
    np.testing.assert_array_equal(placed.is_inside_HW, expected)
    assert not (~expected & placed.is_visible_HW).any()
    np.testing.assert_array_equal(placed.flipped().is_inside_HW, expected[:, ::-1])
