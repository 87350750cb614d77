# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Flags made from DffConfig, and the files that may set the same values."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from dff_ros.config import DffConfig, KeyframeConfig, walk
from dff_ros.errors import ConfigError
from dff_ros.flags import add_config_flags, config_from_flags

PACKAGE_FILE = Path(__file__).parent.parent / 'config' / 'dff.yaml'


def parse(*argv: str) -> DffConfig:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_config_flags(parser)
    return config_from_flags(parser.parse_args(argv))


def test_no_flag_gives_the_defaults():
    assert parse() == DffConfig()


@pytest.mark.parametrize('flag', ['--interval', '--keyframe.interval'])
def test_flag_and_short_alias_set_the_same_value(flag):
    assert parse(flag, '7') == DffConfig(keyframe=KeyframeConfig(interval=7))


def test_every_setting_has_a_flag_whose_help_states_range_and_default():
    parser = argparse.ArgumentParser()
    add_config_flags(parser)
    actions = {option: action for action in parser._actions for option in action.option_strings}
    for parameter in walk(DffConfig):
        help_text = actions[f'--{parameter.name}'].help
        assert parameter.description.replace('%', '%%') in help_text
        assert f'(default: {parameter.default})' in help_text
    assert 'from 1 to 1000 frames' in actions['--interval'].help


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--interval', '0'], 'got 0, allowed is from 1 to 1000 frames'),
        (['--interval', 'often'], "got 'often', expected int"),
        (['--backend', 'tpu'], 'allowed is one of auto, onnx, torch'),
        (['--overlay.alpha', 'nan'], 'allowed is from 0 to 1'),
    ],
)
def test_bad_value_says_what_is_allowed(argv, message):
    with pytest.raises(argparse.ArgumentError) as error:
        parse(*argv)
    assert message in str(error.value)
    assert argv[0] in str(error.value)


def write(folder: Path, text: str) -> str:
    path = folder / 'settings.yaml'
    path.write_text(text)
    return str(path)


def test_flags_win_over_the_file(tmp_path):
    file = write(tmp_path, 'backend: torch\nkeyframe:\n  interval: 9\n  max_age_s: 1.5\n')
    config = parse('--config', file, '--interval', '3')
    assert config.backend == 'torch'
    assert config.keyframe == KeyframeConfig(interval=3, max_age_s=1.5)


def test_ros_parameter_file_specific_node_wins_over_the_wildcard(tmp_path):
    file = write(
        tmp_path,
        'dff_node:\n  ros__parameters:\n    keyframe: {interval: 4}\n    use_sim_time: true\n'
        '/**:\n  ros__parameters:\n    keyframe.interval: 8\n    backend: onnx\n',
    )
    config = parse('--config', file)
    assert (config.keyframe.interval, config.backend) == (4, 'onnx')


def test_the_packages_own_parameter_file_gives_the_defaults():
    assert parse('--config', str(PACKAGE_FILE)) == DffConfig()


def test_empty_file_changes_nothing(tmp_path):
    assert parse('--config', write(tmp_path, '')) == DffConfig()


@pytest.mark.parametrize(
    'text, message',
    [
        ('keyframe:\n  intervall: 3\n', 'did you mean keyframe.interval'),
        ('keyframe:\n  interval: 2.5\n', 'keyframe.interval: got 2.5, expected int'),
        ('- 1\n- 2\n', 'must hold a mapping'),
        ('a: [1,\n', 'is not valid YAML'),
    ],
)
def test_bad_file_is_explained(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        parse('--config', write(tmp_path, text))
    assert message in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r'nowhere\.yaml: No such file'):
        parse('--config', str(tmp_path / 'nowhere.yaml'))
