# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The metadata of a recording, and the settings that it was made with, which stand in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from dff_ros.bag_input import METADATA

INFORMATION = 'rosbag2_bagfile_information'
SETTINGS = 'dff_bag'
"""Key of the settings in the metadata's custom_data."""


def finished_settings(out: Path) -> dict[str, object] | None:
    """The settings that a finished bag was made with; None of any other."""
    try:
        told = yaml.safe_load((out / METADATA).read_text(encoding='utf-8'))[INFORMATION]['custom_data'][
            SETTINGS
        ]
        return cast(dict[str, object], json.loads(told))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """The settings that differ, in words."""
    # As JSON has them: a tuple comes back as a list.
    now = json.loads(json.dumps(now))
    return [
        f'{name} was {before.get(name)}, is {now.get(name)}'
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def merged(parts: Sequence[Mapping[str, Any]], custom: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of a split recording from those of its files."""
    filled = [part for part in parts if part['message_count']] or list(parts)
    starts = [part['starting_time']['nanoseconds_since_epoch'] for part in filled]
    ends = [start + part['duration']['nanoseconds'] for start, part in zip(starts, filled, strict=True)]
    topics = [dict(topic) for topic in parts[0]['topics_with_message_count']]
    for index, topic in enumerate(topics):
        topic['message_count'] = sum(
            part['topics_with_message_count'][index]['message_count'] for part in parts
        )
    return {
        **parts[0],
        'relative_file_paths': [path for part in parts for path in part['relative_file_paths']],
        'starting_time': {'nanoseconds_since_epoch': min(starts)},
        'duration': {'nanoseconds': max(ends) - min(starts)},
        'message_count': sum(part['message_count'] for part in parts),
        'topics_with_message_count': topics,
        'files': [file for part in parts for file in part['files']],
        'custom_data': dict(custom),
    }
