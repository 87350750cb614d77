# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Settings: one definition, checked on every way in."""

from __future__ import annotations

import pytest

from dff_ros import config as cfg
from dff_ros.config import DffConfig, KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.image_limits import ImageLimits


def test_walk_lists_every_setting_with_dotted_name_default_and_range():
    parameters = {p.name: p for p in cfg.walk(DffConfig)}
    interval = parameters['keyframe.interval']
    assert (interval.kind, interval.default, interval.minimum, interval.maximum) == (int, 5, 1, 1000)
    assert interval.runtime
    assert not parameters['bundle'].runtime
    assert parameters['backend'].choices == ('auto', 'onnx', 'torch')
    assert all(p.description for p in parameters.values())


def test_walk_of_an_instance_gives_its_values():
    config = DffConfig(keyframe=KeyframeConfig(interval=7))
    assert cfg.to_flat(config)['keyframe.interval'] == 7
    assert cfg.to_flat(config)['bundle'] == 'road-r18'


def test_replace_changes_nested_values_and_leaves_the_original():
    before = DffConfig()
    after = cfg.replace(before, {'keyframe.interval': 9, 'backend': 'torch', 'keyframe.max_gap_s': 1})
    assert (after.keyframe.interval, after.backend, after.keyframe.max_gap_s) == (9, 'torch', 1.0)
    assert isinstance(after.keyframe.max_gap_s, float)
    assert before == DffConfig()


def test_flatten_is_the_inverse_of_nesting():
    tree = {'bundle': 'x', 'keyframe': {'interval': 3, 'max_age_s': 1.0}}
    assert cfg.flatten(tree) == {'bundle': 'x', 'keyframe.interval': 3, 'keyframe.max_age_s': 1.0}
    assert cfg.replace(DffConfig(), cfg.flatten(tree)).keyframe.interval == 3


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'keyframe.interval': 0}, r'keyframe\.interval: got 0, allowed is from 1 to 1000 frames'),
        ({'keyframe.interval': 1001}, 'got 1001'),
        ({'keyframe.interval': 2.5}, 'expected int'),
        ({'keyframe.interval': True}, 'expected int'),
        ({'keyframe.max_gap_s': float('nan')}, 'got nan'),
        ({'overlay.alpha': float('inf')}, 'got inf'),
        ({'backend': 'tensorrt'}, 'one of auto, onnx, torch'),
        ({'bundle': 3}, 'expected str'),
        ({'keyframe.intervall': 3}, 'did you mean keyframe.interval'),
        ({'zzz': 3}, 'known are bundle'),
    ],
)
def test_bad_value_names_parameter_and_range(changes, message):
    with pytest.raises(ConfigError, match=message):
        cfg.replace(DffConfig(), changes)


def test_constructor_checks_too():
    with pytest.raises(ConfigError, match='interval: got -1'):
        KeyframeConfig(interval=-1)


def test_black_level_is_below_white_level():
    config = cfg.replace(DffConfig(), {'black_level': 27000, 'white_level': 33000})
    assert config.image_limits == ImageLimits(black_level=27000, white_level=33000)
    with pytest.raises(
        ConfigError, match=r'black_level: got 27000, .* \(27000\); raise white_level or lower'
    ):
        cfg.replace(config, {'white_level': 27000})
    assert DffConfig().image_limits == ImageLimits()
