# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""benchmarks/peers: what a user would run instead gives the same label maps, and the comparison adds up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.backends.base import open_backend
from dff_ros.config import DffConfig, replace
from dff_ros.ros.conversions import fill_image
from dff_ros.ros.prepared import ENCODERS

HERE = Path(__file__).parent
PEERS = HERE.parent / 'benchmarks' / 'peers'
RGB = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture
def on_path(monkeypatch):
    """The scripts import each other as scripts do: from their own folder."""
    monkeypatch.syspath_prepend(str(PEERS))


def test_the_plain_network_is_the_one_of_key_frames(on_path, light_bundle):
    from plain_onnx import PlainNetwork

    network = PlainNetwork(str(light_bundle.path), 1)
    backend = open_backend(light_bundle, replace(DffConfig(), {'backend': 'onnx', 'num_threads': 1}))
    for image in (RGB, RGB[:40, :56].copy()):
        size = image.shape[:2]
        expected = backend.predict(backend.extract(image).feature, size, size).label_map_HW
        np.testing.assert_array_equal(network.label_map(image), expected)
        assert len(np.unique(expected)) > 1
    backend.close()


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8'])
def test_the_plain_node_converts_as_cv_bridge_does(on_path, encoding):
    from plain_node import to_message, to_rgb

    pixels = np.ascontiguousarray(ENCODERS[encoding](RGB))
    message = fill_image(Image(), Header(), pixels.reshape(48, -1))
    message.encoding, message.width = encoding, 64
    expected = np.repeat(RGB[..., 1:2], 3, axis=2) if encoding == 'mono8' else RGB
    found = to_rgb(message)
    np.testing.assert_array_equal(found, expected)
    assert found.base is None or not np.shares_memory(found, np.frombuffer(message.data, np.uint8))
    labels = RGB[..., 0].copy()
    answer = to_message(labels)
    assert (answer.encoding, answer.height, answer.width, answer.step) == ('mono8', 48, 64, 64)
    np.testing.assert_array_equal(np.frombuffer(answer.data, np.uint8).reshape(48, 64), labels)


def test_the_four_are_compared_in_turns(light_bundle, tmp_path):
    out = tmp_path / 'peers.json'
    done = subprocess.run(
        [sys.executable, str(PEERS / 'run.py'), '--bundle', str(light_bundle.path), '--size', '96x72',
         '--turns', '2', '--images', '8', '--interval', '4', '--num_threads', '1', '--out', str(out)],
        cwd=HERE.parent,
        env={**os.environ, 'PYTHONPATH': str(HERE.parent)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found == json.loads(done.stdout)
    rows = {row['name']: row for row in found['rows']}
    assert list(rows) == ['plain node', 'dff node', 'plain onnx', 'dff engine']
    for row in rows.values():
        assert row['images'] == 16
        latency = row['latency_ms']
        assert 0.0 < latency['p50'] <= latency['p90'] <= latency['p99'] <= latency['max']
    assert [row['rss_mb'] is None for row in rows.values()] == [False, False, True, True]
    ratio = rows['dff node']['fps'] / rows['plain node']['fps']
    assert found['dff_node_over_plain_node'] == pytest.approx(ratio, abs=0.01)
    adds_ms = 1e3 / rows['plain node']['fps'] - 1e3 / rows['plain onnx']['fps']
    assert found['plain_node_adds_ms'] == pytest.approx(adds_ms, abs=0.01)
    assert (found['interval'], found['num_threads'], found['size']) == (4, 1, [96, 72])
    assert found['command'].startswith('python benchmarks/peers/run.py --bundle')
