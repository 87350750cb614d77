# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`python -m dff_ros.ros.bench` on the fake node: a process of its own over real DDS. No times are judged."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from dff_ros.benchmark.node import measure_node, node_arguments
from dff_ros.config import DffConfig, replace, to_flat
from dff_ros.draw import write_png
from dff_ros.errors import ConfigError, DffError
from dff_ros.messages import to_frame
from dff_ros.model_spec import ModelSpec
from dff_ros.ros import bench, node_bench
from dff_ros.ros.launching import PROFILES_VARIABLE
from dff_ros.ros.node_bench import NodeBench, Plan
from dff_ros.ros.prepared import ENCODERS, serialized
from dff_ros.ros.rig import Rig
from dff_ros.ros.shots import BOXES, CONFIDENCE, LABELS, OVERLAY, Shot
from dff_ros.ros.switches import Switch, run_switches, switches_of

HERE = Path(__file__).parent


@pytest.fixture
def fake_node(monkeypatch, tmp_path_factory):
    """The child process finds test/fake_node.py. Without the profile for large images a killed one leaves
    little in shared memory.
    """
    monkeypatch.setenv('PYTHONPATH', f'{HERE.parent}{os.pathsep}{HERE}')
    profile = tmp_path_factory.mktemp('profile') / 'fastdds.xml'
    profile.write_text('<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"></profiles>')
    monkeypatch.setenv(PROFILES_VARIABLE, str(profile))
    return 'fake_node'


@pytest.fixture
def numbered_images(tmp_path):
    """A folder of images whose numbers the fake backend can propagate."""
    for number in range(1, 6):
        write_png(tmp_path / f'{number}.png', np.full((72, 96, 3), number, np.uint8))
    return str(tmp_path)


def test_the_figures_of_a_run_add_up(fake_node, numbered_images):
    settings = {'tasks': 'segmentation', 'keyframe.interval': 4, 'pause_unread': False}
    arguments = node_arguments(settings, source=numbered_images, seconds=0.2)
    report = measure_node([*arguments, '--node_module', fake_node, '--rates', '200,20'])
    node = report['node']
    assert set(report) == {'command', 'node_overhead_ms', 'missed', 'peak_fps', 'node'}
    assert report['command'].startswith('python -m dff_ros.ros.bench --json --tasks=segmentation')
    assert list(node['rates']) == ['20', '200']
    assert report['missed'] == node['rates']['20']['missed']  # 20 Hz is nearer to 30 than 200 is
    assert node['missed_at_hz'] == 20.0
    for rate, row in node['rates'].items():
        assert row['sent'] == max(20, 0.2 * float(rate)) == row['answered'] + row['idle'] + row['missed']
        assert sum(row['dropped'].values()) <= row['missed']
        assert row['answered'] <= row['received'] <= row['sent']
        ranks = [row['latency_ms'][name] for name in ('p50', 'p90', 'p99', 'max')]
        assert all(lower <= higher for lower, higher in pairwise(ranks))
        assert row['rss_mb'] > 10.0
    overhead = node['overhead']
    # One at a time the node is free for every image, and each fourth is a key frame.
    assert node['one_at_a_time']['images'] >= 60
    assert overhead['frames'] == pytest.approx(0.75 * node['one_at_a_time']['images'], abs=1)
    assert report['node_overhead_ms'] == overhead['overhead_ms'] > 0.0
    assert overhead['transport_ms'] > 0.0
    assert report['peak_fps'] > 0.0
    assert node['peak'] == node['probes'][-1]
    assert node['peak']['is_held']
    assert node['steady'] == []
    assert (node['size'], node['encoding'], node['outputs']) == ([96, 72], 'rgb8', [LABELS])
    assert (node['interval'], node['backend'], node['tasks']) == (4, 'fake', 'segmentation')


class FixedPlayer:
    """Answers each image in so many milliseconds but those of `missed`, by their numbers in a run."""

    def __init__(self, answer_ms: float, missed: Callable[[float], range] = lambda rate_hz: range(0)) -> None:
        self.answer_ms, self.missed = answer_ms, missed
        self.runs: list[tuple[float, int]] = []

    def greet(self, check: Callable[[], None]) -> None:
        check()

    def ask(self, num_images: int, check: Callable[[], None]) -> list[Shot]:
        return self._run(1e3 / self.answer_ms, num_images, range(0))

    def play(self, rate_hz: float, num_images: int, check: Callable[[], None], settle_s: float) -> list[Shot]:
        self.runs.append((rate_hz, num_images))
        return self._run(rate_hz, num_images, self.missed(rate_hz))

    def _run(self, rate_hz: float, num_images: int, missed: range) -> list[Shot]:
        shots = []
        for number in range(num_images):
            sent_s = number / rate_hz
            shot = Shot(number, sent_s, sent_s, is_alone=True, outputs=(LABELS,))
            if number not in missed:
                shot.answers_s = {LABELS: sent_s + self.answer_ms / 1e3}
                state = 'propagated' if number % 10 else 'key'
                times = {'total_ms': '20.0', 'convert_ms': '1.0', 'latency_ms': '23.0'}
                shot.facts = {'state': state, 'tasks': 'segmentation', 'received': str(number), **times}
            shots.append(shot)
        return shots


def fixed_rig(player: FixedPlayer) -> SimpleNamespace:
    """The process of a node that takes nothing: this one."""
    child = SimpleNamespace(pid=os.getpid(), check=lambda: None)
    return SimpleNamespace(player=player, child=child, start_s=1.25)


def test_the_figures_of_a_node_that_is_known(monkeypatch):
    monkeypatch.setattr(node_bench, '_IDLE_S', 0.01)
    player = FixedPlayer(25.0, lambda rate_hz: range(0, 100, 2) if rate_hz > 38.0 else range(3, 4))
    report = NodeBench(fixed_rig(player)).run(Plan((10.0, 30.0, 60.0), 2.0, steady_s=20.0))
    assert report['node_overhead_ms'] == 5.0
    assert report['missed'] == 1  # at 30 Hz
    node = report['node']
    parts = {'convert_ms': 1.0, 'inside_ms': 2.0, 'transport_ms': 2.0}
    assert node['overhead'] == {'frames': 72, 'overhead_ms': 5.0, **parts, 'engine_ms': 20.0}
    assert node['one_at_a_time'] == {'images': 80, 'fps': 40.0}
    assert [(row['sent'], row['missed']) for row in node['rates'].values()] == [(20, 1), (60, 1), (120, 50)]
    assert node['rates']['30']['latency_ms'] == {'p50': 25.0, 'p90': 25.0, 'p99': 25.0, 'max': 25.0}
    assert 38.0 / 1.03 <= node['peak']['rate_hz'] <= 38.0
    assert report['peak_fps'] == pytest.approx(
        node['peak']['rate_hz'] * (1 - 1 / node['peak']['sent']), abs=0.1
    )
    # Last, 30 Hz for a tenth of 20 s, ten times.
    assert player.runs[-10:] == [(30.0, 60)] * 10
    assert [part['answered'] for part in node['steady']] == [59] * 10
    assert node['start_s'] == 1.25


def test_a_node_whose_engine_fails_is_no_figure(fake_node, tmp_path, monkeypatch, capsys):
    """The fake backend cannot propagate bright images."""
    monkeypatch.setattr(node_bench, '_IDLE_S', 0.1)
    write_png(tmp_path / 'bright.png', np.full((72, 96, 3), 250, np.uint8))
    arguments = ['--node_module', fake_node, '--data', str(tmp_path), '--tasks', 'segmentation']
    assert bench.main(arguments) == 2
    assert 'the node dropped an image (engine_error): OverflowError' in capsys.readouterr().err


def test_stdout_is_for_the_figures_whatever_libraries_print(monkeypatch, capfd):
    monkeypatch.setattr(bench, 'run', lambda args: os.write(1, b'[a library says so]\n') and {'missed': 0})
    assert bench.main(['--json']) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out) == {'command': 'python -m dff_ros.ros.bench --json', 'missed': 0}
    assert printed.err == '[a library says so]\n'


def test_what_keeps_the_node_from_being_measured_is_told():
    with pytest.raises(DffError, match='^the node was not measured: .*no_such_bundle'):
        measure_node(node_arguments({'bundle': 'no_such_bundle'}))
    with pytest.raises(DffError, match='not measured: argument --size: got .-8x72., expected WIDTHxHEIGHT'):
        measure_node(node_arguments({}, size=(72, -8)))


def test_switches_are_set_on_the_running_node_in_turns(fake_node):
    config = replace(DffConfig(), {'tasks': 'segmentation', 'keyframe.interval': 3})
    rows = [
        Switch('labels', {'keyframe.interval': 2}, (LABELS,)),
        Switch('labels and confidence', {'keyframe.interval': 6}, (LABELS, CONFIDENCE)),
    ]
    images = [serialized(np.full((48, 64, 3), number, np.uint8), 'rgb8') for number in range(4)]
    with ExitStack() as stack:
        rig = Rig(stack, to_flat(config), images, module=fake_node, outputs=(LABELS,))
        found = run_switches(rig, rows, 12)
        assert [row['name'] for row in found] == ['labels', 'labels and confidence']
        assert [row['outputs'] for row in found] == [[LABELS], [LABELS, CONFIDENCE]]
        assert [row['images'] for row in found] == [60, 60]
        assert all(row['answer_ms'] > row['engine_ms'] >= 0.0 for row in found)
        facts = [shot.facts for shot in rig.player.shots]
        assert {one['interval'] for one in facts} == {'6'}
        assert sum(one['state'] == 'key' for one in facts) == 2
        assert all(set(shot.answers_s) == {LABELS, CONFIDENCE} for shot in rig.player.shots)
        stamps = [shot.stamp_ns for shot in rig.player.shots]
        assert stamps == sorted(set(stamps))
        with pytest.raises(ConfigError, match='detection'):
            rig.set({'tasks': 'detection'})
        # Confidence is not due, for nobody asked for it; boxes are not, for their task does not run.
        rig.player.listen((LABELS, BOXES))
        rig.player.greet(rig.child.check)
        assert rig.player.shots[-1].due == (LABELS,)
        os.kill(rig.child.pid, signal.SIGSTOP)  # else it may answer in whatever time it is given
        with pytest.raises(TimeoutError, match='not answered in 0.05 s'):
            rig.player.ask(1, rig.child.check, timeout_s=0.05)
        os.kill(rig.child.pid, signal.SIGKILL)
        with pytest.raises(DffError, match='the dff_node was ended by SIGKILL'):
            rig.player.ask(1, rig.child.check)


def test_the_switches_of_a_bundle_are_those_of_its_tasks():
    labels = ModelSpec(class_names=('road',), class_colours=((1, 2, 3),))
    rows = {row.name: row for row in switches_of(labels)}
    assert list(rows)[:3] == ['segmentation alone', '+ confidence', '+ overlay']
    assert rows['+ overlay'].outputs == (LABELS, CONFIDENCE, OVERLAY)
    both = switches_of(dataclasses.replace(labels, box_class_names=('car',)))
    assert [row.name for row in both if BOXES in row.outputs] == [
        '+ detections', '+ overlay', 'detections alone',
    ]  # fmt: skip
    for row in both:
        replace(DffConfig(), row.parameters)  # raises for what is no setting, or no value of one
    with pytest.raises(ConfigError, match='the bundle has detection'):
        switches_of(ModelSpec(class_names=(), class_colours=(), box_class_names=('car',)))


@pytest.mark.parametrize('encoding', ENCODERS)
def test_prepared_images_are_what_the_node_reads_back(encoding):
    grey = {'mono8'}
    image_HW3 = np.random.default_rng(0).integers(0, 256, (18, 24, 3), np.uint8)
    if encoding.startswith('bayer'):
        image_HW3[:] = (10, 200, 90)  # an even colour is the one that a mosaic keeps
    message = deserialize_message(serialized(image_HW3, encoding), Image)
    assert (message.encoding, message.height, message.width) == (encoding, 18, 24)
    expected = np.repeat(image_HW3[..., 1:2], 3, axis=2) if encoding in grey else image_HW3
    np.testing.assert_array_equal(to_frame(message).image_HW3, expected)


def test_without_ros_it_says_what_is_missing():
    script = (
        "import sys; sys.modules['rclpy'] = None; from dff_ros.ros import bench; sys.exit(bench.main([]))"
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, cwd=HERE.parent)
    assert done.returncode == 2
    assert done.stderr.startswith('error: the node needs ROS 2, and rclpy cannot be imported')
    assert 'source the setup file' in done.stderr
    assert done.stdout == ''


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--bundle', 'no_such_bundle'], 'no_such_bundle'),
        (['--cores', '4096'], '--cores: got 4096'),
        (['--tasks', 'dreaming'], 'dreaming'),
    ],
)
def test_what_is_wrong_is_named_before_a_process_is_started(arguments, complaint, capsys):
    assert bench.main(arguments) == 2
    assert complaint in capsys.readouterr().err


def test_a_node_that_fails_to_start_is_told_with_its_last_lines(fake_node, numbered_images, capsys):
    assert bench.main(['--node_module', 'no_such_module', '--data', numbered_images]) == 2
    error = capsys.readouterr().err
    assert 'the dff_node ended with exit code 1' in error
    assert 'no_such_module' in error
