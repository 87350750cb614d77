# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Segments of killed processes are removed, those of living ones are not."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys

import pytest

from dff_ros.ros.segments import FOLDER, remove_abandoned

NODE = """
import os, sys, rclpy
rclpy.init(args=[])
node = rclpy.create_node('holder')
print('ready', flush=True)
sys.stdin.read()
"""


def test_only_what_nobody_holds_is_removed(tmp_path):
    names = ('fastrtps_00000000000000aa', 'fastrtps_00000000000000bb', 'another', 'fastrtps_port7400')
    for name in names:
        (tmp_path / name).write_bytes(b'1')
        (tmp_path / f'{name}_el').touch()
    with (tmp_path / f'{names[1]}_el').open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert remove_abandoned(tmp_path) == 1
        left = {path.name for path in tmp_path.iterdir()}
    assert left == {name + end for name in names[1:] for end in ('', '_el')}
    assert remove_abandoned(tmp_path / 'none') == 0


@pytest.mark.skipif(not FOLDER.is_dir(), reason='no shared memory here')
def test_the_segment_of_a_killed_node_is_given_back():
    pytest.importorskip('rclpy')
    before = set(os.listdir(FOLDER))
    with subprocess.Popen(
        [sys.executable, '-c', NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdout is not None
        while node.stdout.readline() not in ('ready\n', ''):  # the middleware may print there too
            pass
        made = {name for name in os.listdir(FOLDER) if 'port' not in name and name.endswith('_el')} - before
        held = [name for name in made if _is_of(name, node.pid)]
        if not held:
            node.kill()
            pytest.skip('this middleware makes no segments')
        remove_abandoned()
        assert set(held) <= set(os.listdir(FOLDER))
        node.send_signal(signal.SIGKILL)
    remove_abandoned()
    left = os.listdir(FOLDER)
    assert not [name for name in held if name in left or name.removesuffix('_el') in left]


def _is_of(lock: str, pid: int) -> bool:
    with open(f'/proc/{pid}/maps', encoding='utf-8') as maps:
        return any(lock.removesuffix('_el') in line for line in maps)
