# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""config/fastdds_shm.xml is accepted by Fast DDS and does what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROFILE = Path(__file__).parents[1] / 'config' / 'fastdds_shm.xml'
SEGMENT_BYTES = 33554432

# Prints the largest mapping of a Fast DDS segment and the number of UDP sockets of a process with one node.
SCRIPT = """
import os
import rclpy
from rclpy.node import Node
rclpy.init()
node = Node('probe')
largest = 0
for line in open('/proc/self/maps'):
    if '/dev/shm/fastrtps_' in line:
        start, end = line.split()[0].split('-')
        largest = max(largest, int(end, 16) - int(start, 16))
inodes = set()
for table in ('udp', 'udp6'):
    inodes |= {line.split()[9] for line in open(f'/proc/self/net/{table}').readlines()[1:]}
with os.scandir('/proc/self/fd') as entries:
    links = [os.readlink(entry.path) for entry in entries]
print(largest, sum(link[len('socket:['):-1] in inodes for link in links if link.startswith('socket:')))
node.destroy_node()
rclpy.shutdown()
"""


def probe(profile: Path | None) -> tuple[int, int]:
    """The largest shared segment in bytes and the number of UDP sockets of a node with this profile."""
    # LOCALHOST makes the middleware add a UDP transport of its own.
    ours = {'FASTRTPS_DEFAULT_PROFILES_FILE', 'ROS_AUTOMATIC_DISCOVERY_RANGE'}
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    if profile:
        environ['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(profile)
    command = [sys.executable, '-c', SCRIPT]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 'XMLPARSER' not in done.stderr
    largest, num_sockets = map(int, done.stdout.split())
    return largest, num_sockets


def test_profile_gives_a_large_segment_and_keeps_udp():
    pytest.importorskip('rclpy')
    if 'fastrtps' not in os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'):
        pytest.skip('needs Fast DDS')
    default_bytes, default_sockets = probe(None)
    assert default_bytes < SEGMENT_BYTES
    profile_bytes, profile_sockets = probe(PROFILE)
    assert SEGMENT_BYTES <= profile_bytes < 1.1 * SEGMENT_BYTES
    assert profile_sockets == default_sockets > 0
