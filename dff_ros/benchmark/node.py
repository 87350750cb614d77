# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node's figures for `dff bench --node`: `python -m dff_ros.ros.bench` as a process, for nothing outside
of `dff_ros.ros` imports ROS.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from dff_ros.errors import DffError

MODULE = 'dff_ros.ros.bench'

_TAIL_LINES = 12


def node_arguments(
    settings: Mapping[str, object],
    size: tuple[int, int] | None = None,
    source: str | None = None,
    split: str | None = None,
    seed: int | None = None,
    seconds: float | None = None,
) -> list[str]:
    """Arguments of the module: settings by dotted name, and what is not None; `size` is (height, width)."""
    values = {
        **{
            name: str(value).lower() if isinstance(value, bool) else value for name, value in settings.items()
        },
        'size': None if size is None else f'{size[1]}x{size[0]}',
        'data': source,
        'split': split,
        'seed': seed,
        'seconds': seconds,
    }
    return [f'--{name}={value}' for name, value in values.items() if value is not None]


def measure_node(arguments: Sequence[str]) -> dict[str, object]:
    """`node_overhead_ms`, `missed`, `peak_fps` and `node`, which holds all else. DffError says why not: ROS
    is missing, a setting is wrong, the node fails.
    """
    done = subprocess.run(
        [sys.executable, '-m', MODULE, '--json', *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        found = [number for number, line in enumerate(lines) if 'error: ' in line]
        told = lines[found[-1] :] if found else lines[-_TAIL_LINES:]
        text = '\n'.join(told).partition('error: ')[2] or '\n'.join(told)
        raise DffError(f'the node was not measured: {text or f"exit code {done.returncode}"}')
    report: dict[str, object] = json.loads(done.stdout)
    return report
