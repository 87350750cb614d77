# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""OpenCV that is missing, or built for another NumPy, costs the node the overlay and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from ros_helpers import image_message


@pytest.mark.parametrize('module', ['node', 'mask', 'launch_files'])
def test_what_a_robot_starts_is_imported_without_it(module):
    script = f'import sys; sys.modules["cv2"] = None; import dff_ros.ros.{module}; print("there")'
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('there\n', '')


def test_images_are_answered_and_the_log_says_once_why_there_is_no_overlay(graph, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer(overlay=True)
    states = [peer.ask(image_message(number))['state'] for number in range(2)]
    assert states == ['key', 'propagated']
    assert (len(peer.label_maps), peer.overlays) == (2, [])
    assert node._mailbox.counts().dropped == {}
    (line,) = [line for line in capfd.readouterr().err.splitlines() if 'OpenCV' in line]
    assert 'dff/overlay stays empty, it needs OpenCV (' in line
    assert 'install python3-opencv, or by pip opencv-python-headless' in line
