# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The tables of the benchmark page, from the figures of the node and its peers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / 'benchmarks'
SETUP = {
    'bundle': 'road-r18',
    'size': [1280, 720],
    'encoding': 'rgb8',
    'interval': 10,
    'refresh': 'inline',
    'num_threads': 4,
    'cores': 4,
}
LATENCY = {'p50': 20.04, 'p90': 30.06, 'p99': 40.0, 'max': None}
NODE = {
    'node_overhead_ms': 3.21,
    'missed': 0,
    'peak_fps': 41.2,
    'node': {
        **SETUP,
        'tasks': 'all',
        'overhead': {
            'frames': 90,
            'engine_ms': 25.0,
            'convert_ms': 0.1,
            'inside_ms': 1.0,
            'transport_ms': 2.1,
        },
        'idle_cpu_percent': 0.5,
        'start_s': 2.5,
        'rates': {'30': {'missed': 1, 'sent': 150, 'latency_ms': LATENCY, 'cpu_ms_per_image': 80.0}},
    },
}
PEERS = {
    **SETUP,
    'rows': [
        {'name': name, 'fps': fps, 'latency_ms': {**LATENCY, 'max': 50.0}, 'cpu_ms_per_image': 9.0}
        for name, fps in (('plain node', 9.0), ('dff node', 27.0), ('plain onnx', 10.0), ('dff engine', 31.0))
    ],
    'dff_node_over_plain_node': 3.0,
    'dff_engine_over_plain_onnx': 3.1,
    'plain_node_adds_ms': 11.11,
    'dff_node_adds_ms': 4.78,
}


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import node_tables

    return node_tables


def test_the_node_as_a_table(tables):
    text = tables.section(node=NODE)
    assert 'road-r18, 1280x720 rgb8, key frame every 10 (inline), tasks all, 4 threads on 4 cores:' in text
    assert '| 30 Hz | 1 of 150 | 20.0 | 30.1 | 40.0 | - | 80.0 |' in text
    assert 'at most 5 % missed: 41.2 frames/s' in text
    assert '3.2 ms (median of 90) beside 25.0 ms in the engine' in text


def test_a_long_run_by_its_tenths(tables):
    part = {'latency_ms': LATENCY, 'overhead': {'engine_ms': 25.0}, 'cpu_ms_per_image': 80.0, 'rss_mb': 512.0}
    node = {**NODE, 'node': {**NODE['node'], 'steady': [part, {**part, 'rss_mb': 513.26}]}}
    assert '| 2 | 20.0 | 40.0 | 25.0 | 80.0 | 513.3 |' in tables.section(node=node)
    assert 'without a break' not in tables.section(node=NODE)


def test_the_peers_and_switches_as_tables(tables):
    row = {'name': '+ overlay', 'answer_ms': 40.0, 'engine_ms': 30.0, 'segmentation_ms': 5.0}
    row |= {'detection_ms': None, 'cpu_ms_per_image': 99.5}
    text = tables.section(switches={'switches': [row], 'node': SETUP}, peers=PEERS)
    assert '| + overlay | 40.0 | 30.0 | 5.0 | - | 99.5 |' in text
    assert '| dff node | 27.0 | 20.0 | 30.1 | 40.0 | 50.0 | 9.0 |' in text
    assert 'answers 3.0 times as many frames as the plain node' in text
    assert 'add 4.78 ms to a frame in the node and 11.11 ms in the plain one' in text


def test_files_to_tables_and_a_plot(tables, tmp_path, capsys):
    pytest.importorskip('matplotlib')
    (tmp_path / 'peers.json').write_text(json.dumps(PEERS))
    picture = tmp_path / 'peers.png'
    assert tables.main(['--peers', str(tmp_path / 'peers.json'), '--plot', str(picture)]) == 0
    assert '| plain onnx | 10.0 |' in capsys.readouterr().out
    assert picture.read_bytes().startswith(b'\x89PNG')
    with pytest.raises(SystemExit):
        tables.main(['--plot', str(picture)])
    assert 'give --peers' in capsys.readouterr().err
