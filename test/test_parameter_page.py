# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""docs/parameters.md is what the definitions of the parameters say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from dff_ros.config import DffConfig, walk
from dff_ros.ros.camera import CameraConfig
from dff_ros.ros.parameter_page import to_markdown
from dff_ros.ros.parameters import NODE_PARAMETERS
from dff_ros.ros.publishers import Publishers

PAGE = Path(__file__).parent.parent / 'docs' / 'parameters.md'
AGAIN = 'run: python -m dff_ros.ros.parameter_page > docs/parameters.md'


def rows() -> dict[str, list[str]]:
    cells = [
        re.split(r' *(?<!\\)\| *', line)[1:-1]
        for line in to_markdown().splitlines()
        if line.startswith('| `')
    ]
    return {row[0].strip('`'): row[1:] for row in cells}


def test_the_committed_page_is_the_generated_one():
    assert PAGE.read_text() == to_markdown(), AGAIN


def test_every_parameter_and_topic_has_a_row():
    parameters = [*NODE_PARAMETERS, *walk(DffConfig), *walk(CameraConfig)]
    named = [parameter.name for parameter in parameters] + ['image', *Publishers.PROFILES]
    assert set(named) <= set(rows())
    for parameter in parameters:
        assert rows()[parameter.name][5] == parameter.description


def test_a_row_tells_type_default_range_unit_and_time_of_change():
    found = rows()
    assert found['keyframe.interval'][:5] == ['integer', '5', '1 to 1000', 'frames', 'running']
    assert found['correction'][:5] == ['bool', 'true', '', '', 'unconfigured']
    assert found['refresh'][:5] == ['string', 'inline', 'inline, worker', '', 'unconfigured']
    assert found['autostart'][:5] == ['bool', 'true', '', '', 'start']
    assert found['detection.classes'][:2] == ['string', 'empty']
    assert found['image'] == ['subscription', 'best effort', '1', 'volatile']
    assert found['dff/label_info'] == ['publisher', 'reliable', '1', 'transient local']
