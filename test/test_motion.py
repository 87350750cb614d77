# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Made pairs: a pure function of seed and index, magnitudes as configured, exact flow, mirroring."""

import math

import numpy as np
import pytest
from made_layers import smooth_texture, warped_key

from dff_ros.config import replace
from dff_ros.data.layers import Texture
from dff_ros.data.motion import LayeredPairs, draw_layers, draw_outline
from dff_ros.data.motion_config import STILL, MotionConfig, PairColourConfig
from dff_ros.errors import ConfigError, DataError

SIZE = (72, 96)
UNCHANGED = PairColourConfig(
    brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, gamma=0.0, blur=0.0, noise=0.0
)


def pairs_of(
    motion: MotionConfig, colours: PairColourConfig = UNCHANGED, seed: int = 4, stream: int = 0
) -> LayeredPairs:
    textures = [Texture(smooth_texture(k)) for k in range(4)]
    return LayeredPairs(textures, SIZE, motion, colours, seed, stream)


def test_a_pair_depends_on_seed_stream_and_index_only():
    first, second = pairs_of(MotionConfig(), PairColourConfig()), pairs_of(MotionConfig(), PairColourConfig())
    second[0]
    for name in ('current_HW3', 'key_HW3', 'flow_2HW', 'is_visible_HW'):
        np.testing.assert_array_equal(getattr(first[7], name), getattr(second[7], name))
    others = (
        first[8],
        pairs_of(MotionConfig(), PairColourConfig(), seed=5)[7],
        pairs_of(MotionConfig(), PairColourConfig(), stream=1)[7],
    )
    for other in others:
        assert not np.array_equal(first[7].flow_2HW, other.flow_2HW)


def test_settings_of_zero_mean_no_motion():
    pairs = pairs_of(STILL)
    for index in range(5):
        pair = pairs[index]
        assert np.abs(pair.flow_2HW).max() < 1e-4
        np.testing.assert_array_equal(pair.current_HW3, pair.key_HW3)
    assert (
        np.abs(pairs_of(replace(MotionConfig(), {'still': 1.0, 'patch_still': 1.0}))[3].flow_2HW).max() < 1e-4
    )


def test_colours_of_the_two_images_change_apart():
    pair = pairs_of(STILL, PairColourConfig(brightness=0.3))[0]
    assert np.abs(pair.current_HW3.astype(float) - pair.key_HW3).mean() > 2


def test_shifts_stay_below_their_limit_and_reach_far():
    pairs = pairs_of(replace(STILL, {'shift': 20.0, 'patches': 0}))
    flows = np.array([pairs[index].flow_2HW.reshape(2, -1) for index in range(60)])
    assert np.ptp(flows, axis=-1).max() < 1e-4  # a shift is the same everywhere
    lengths = np.hypot(*flows[..., 0].T)
    assert lengths.max() <= 20.0
    assert lengths.max() > 10.0
    assert 3.0 < lengths.mean() < 8.0  # 20 times the mean of the product of two numbers of 0..1, which is 5


def test_a_zoom_is_around_a_point_in_the_middle():
    pairs = pairs_of(replace(STILL, {'zoom': 0.5, 'patches': 0, 'still': 0.0}))
    for index in range(5):
        flow = pairs[index].flow_2HW
        rate = flow[0, 0, 1] - flow[0, 0, 0]
        assert abs(math.log1p(rate)) <= 0.5
        assert 0.25 * 96 - 1 <= -flow[0, 0, 0] / rate <= 0.75 * 96 + 1


def test_patches_move_with_the_background_and_on_their_own():
    rng = np.random.default_rng(0)
    config = replace(STILL, {'shift': 10.0, 'still': 0.0, 'patch_shift': 5.0, 'patches': 8})
    relative = []
    for _ in range(40):
        layers = draw_layers(config, rng, [Texture(smooth_texture(0))], SIZE)
        ground = layers[0].motion.homography[:2, 2]
        relative += [np.linalg.norm(layer.motion.homography[:2, 2] - ground) for layer in layers[1:]]
    assert max(relative) <= 5.0
    assert 0.15 < np.mean(np.array(relative) < 1e-9) < 0.45  # patch_still is 0.3


def test_made_pairs_explain_themselves():
    pairs = pairs_of(replace(MotionConfig(), {'shift': 8.0, 'patch_shift': 8.0}))
    for index in range(8):
        pair = pairs[index]
        error = np.abs(warped_key(pair) - pair.current_HW3)[pair.is_visible_HW]
        assert error.mean() < 1.0
        assert np.quantile(error, 0.999) < 8.0
        assert pair.is_visible_HW.mean() > 0.4


def test_outlines_are_within_reach_and_of_both_kinds():
    rng = np.random.default_rng(1)
    outlines = [draw_outline(rng, SIZE) for _ in range(100)]
    corners = [len(outline) for outline in outlines]
    assert {64} < set(corners)
    assert min(corners) >= 3
    for outline in outlines:
        assert np.ptp(outline, axis=0).max() <= 2 * 0.3 * 96 * 5**0.5 * 1.5
        assert np.ptp(outline, axis=0).max() > 1


def test_a_mirrored_pair_has_mirrored_flow():
    pair = pairs_of(MotionConfig())[2]
    mirrored = pair.flipped()
    np.testing.assert_array_equal(mirrored.flow_2HW[0], -pair.flow_2HW[0][:, ::-1])
    np.testing.assert_array_equal(mirrored.flow_2HW[1], pair.flow_2HW[1][:, ::-1])
    np.testing.assert_array_equal(mirrored.current_HW3, pair.current_HW3[:, ::-1])
    np.testing.assert_array_equal(mirrored.is_visible_HW, pair.is_visible_HW[:, ::-1])


def test_errors():
    with pytest.raises(DataError, match='at least one image'):
        LayeredPairs([], SIZE, MotionConfig(), UNCHANGED, 0)
    with pytest.raises(ConfigError, match='perspective: got 0.5, allowed is from 0 to 0.3'):
        MotionConfig(perspective=0.5)
