# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A minute of `make soak` on a fake backend: the accounts are exact, whatever faults come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('cv2')

HERE = Path(__file__).parent
SECONDS, RATE = 60, 30


def test_a_minute_of_faults_loses_no_image_and_no_memory(tmp_path):
    """Latency is no matter here: other tests share the cores."""
    out = tmp_path / 'soak.json'
    done = subprocess.run(
        [sys.executable, 'benchmarks/soak.py', '--seconds', str(SECONDS), '--rate', str(RATE), '--seed', '7',
         '--source', 'noise', '--node-module', 'fake_node', '--out', str(out)],
        cwd=HERE.parent,
        env={**os.environ, 'PYTHONPATH': f'{HERE.parent}{os.pathsep}{HERE}'},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    assert out.is_file(), done.stdout + done.stderr
    found = json.loads(out.read_text())
    balance, checks = found['balance'], found['checks']
    assert balance['unaccounted'] == balance['pending'] == 0, found
    assert balance['sent'] == balance['processed'] + balance['dropped'] + balance['lost']
    assert balance['dropped'] == sum(found['dropped'].values())
    assert balance['sent'] > 0.5 * SECONDS * RATE
    assert found['failures'] == []
    assert checks['faults_without_an_answer_after']['is_good'], found
    assert sum(kind['times'] for kind in found['recovery_ms'].values()) >= 5
    assert checks['memory_growth']['is_good'], found
