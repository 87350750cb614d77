# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The demo from outside: real processes over real DDS on the fake backend; accounts, results, no one left."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from ros_helpers import Peer, image_message
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from dff_ros.errors import ConfigError, DffError
from dff_ros.messages import stamp_to_ns
from dff_ros.ros import demo, qos
from dff_ros.ros.accounts import Accounts
from dff_ros.ros.children import set_environment
from dff_ros.ros.conversions import diagnostic_values, to_diagnostics
from dff_ros.ros.launching import PROFILES_VARIABLE
from dff_ros.ros.monitor import Monitor
from dff_ros.video import VideoReader

KEYS = {
    'published', 'processed', 'dropped', 'key_frames', 'fps', 'latency_ms', 'age_frames_mean', 'miou',
    'iou_per_class', 'interval', 'source', 'bundle', 'backend', 'cores',
}  # fmt: skip
"""What scripts rely on in demo.json."""

NUM_FRAMES = 20
TIMEOUT_S = 60


@pytest.fixture
def camvid(tmp_path):
    """Frame i holds the value i % 11, which the fake node answers; every second label is void."""
    root = tmp_path / 'camvid'
    names = [f'0016E5_{7959 + 2 * index:05d}' for index in range(NUM_FRAMES)]
    for folder in ('images/val', 'labels/val', 'splits'):
        (root / folder).mkdir(parents=True)
    for index, name in enumerate(names):
        value = index % 11
        label = (value if value != 4 else 5) if index % 2 == 0 else 11
        Image.fromarray(np.full((32, 48, 3), value, np.uint8)).save(
            root / f'images/val/{name}.jpg', quality=95
        )
        Image.fromarray(np.full((32, 48), label, np.uint8)).save(root / f'labels/val/{name}.png')
    (root / 'splits' / 'val.txt').write_text('\n'.join(names))
    return root


class Demo:
    """The demo on the fake node as a process; `token` marks everything it starts."""

    def __init__(self, out: Path, *argv: object, node: str = 'fake_node') -> None:
        self.out = out
        temporary = out.parent / 'tmp'
        temporary.mkdir(exist_ok=True)
        self.token = f'DFF_TEST_TOKEN={uuid.uuid4()}'
        name, value = self.token.split('=')
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get('PYTHONPATH')])]
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).parent / 'demo_on_fake_node.py'),
                '--out',
                str(out),
                *map(str, argv),
            ],
            env=os.environ
            | {
                name: value,
                'PYTHONPATH': os.pathsep.join(paths),
                'PYTHONUNBUFFERED': '1',
                'TMPDIR': str(temporary),
                'DFF_TEST_NODE': node,
            },
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for_line(self, start: str) -> str:
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise AssertionError(f'the demo ended before it wrote {start!r}')

    def namespace(self) -> str:
        return self.wait_for_line('ROS_DOMAIN_ID').split()[-1]

    def finish(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, output

    def report(self) -> dict:
        return json.loads((self.out / 'demo.json').read_text())

    def pids(self, module: str = '') -> list[int]:
        """Live processes of this demo whose command line holds `module`."""
        found = []
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                is_ours = self.token.encode() in (folder / 'environ').read_bytes()
                if is_ours and module.encode() in (folder / 'cmdline').read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended meanwhile, or is another user's
        return found


@pytest.fixture
def start(tmp_path):
    demos = []

    def make(*argv: object, out: str = 'out', node: str = 'fake_node') -> Demo:
        demos.append(Demo(tmp_path / out, *argv, node=node))
        return demos[-1]

    yield make
    for item in demos:
        item.process.kill()
        item.process.wait()
        item.process.stdout.close()


def check_accounts(report: dict) -> None:
    assert report.keys() >= KEYS
    assert report['published'] == report['processed'] + sum(report['dropped'].values())
    assert min(report['dropped'].values(), default=0) >= 0


def num_video_frames(path: Path) -> int:
    with VideoReader(path) as reader:
        return len(list(reader))


def test_lock_step_answers_every_frame_of_the_source(start, camvid):
    run = start('--source', camvid, '--rate', 0, '--interval', 1)
    code, output = run.finish()
    assert code == 0, output
    report = run.report()
    check_accounts(report)
    assert (report['published'], report['processed'], report['dropped']) == (NUM_FRAMES, NUM_FRAMES, {})
    assert (report['key_frames'], report['interval'], report['age_frames_mean']) == (NUM_FRAMES, 1, 0.0)
    assert (report['backend'], report['source'], report['rate']) == ('fake', f'{camvid}:val', 0.0)
    assert report['flow'] == 'dis'
    assert report['camera_fps'] > 0
    # Labelled are the even frames, of values 0 2 4 6 8 10 1 3 5 7; value 4 is labelled 5, as value 5 is.
    iou = report['iou_per_class']
    assert (iou['tree'], iou['pavement'], iou['pedestrian']) == (50.0, None, None)
    assert [
        iou[name] for name in ('sky', 'building', 'pole', 'road', 'sign', 'fence', 'car', 'bicyclist')
    ] == [100.0] * 8
    assert report['miou'] == pytest.approx(850 / 9, abs=0.01)
    assert num_video_frames(run.out / 'demo.mp4') == NUM_FRAMES
    with Image.open(run.out / 'demo.png') as still:
        assert still.size[0] > 2 * 48
    assert f'wrote {run.out / "demo.json"}' in output
    assert run.pids() == []


def test_interval_makes_every_third_frame_a_key(start, camvid):
    run = start('--source', camvid / 'images' / 'val', '--rate', 0, '--interval', 3)
    code, output = run.finish()
    assert code == 0, output
    report = run.report()
    assert report['key_frames'] == 7
    assert report['age_frames_mean'] == pytest.approx((6 * 3 + 1) / 20, abs=1e-3)
    assert report['miou'] is None  # a plain folder has no ground truth


class Observer(Node):
    """Counts for itself what a demo's camera and node tell; both tell it to late subscribers too."""

    def __init__(self, context, namespace: str) -> None:
        super().__init__('observer', context=context, namespace=namespace)
        self.sent: dict[str, int] = {}
        self.answered: set[tuple[int, int]] = set()
        self.last: dict[str, str] = {}
        self.create_subscription(DiagnosticArray, 'dff_camera/status', self._on_camera, qos.history_output())
        self.create_subscription(DiagnosticArray, 'dff/status', self._on_node, qos.status_output())

    def _on_camera(self, message: DiagnosticArray) -> None:
        facts = diagnostic_values(message)
        if facts['state'] == 'published':
            self.sent[facts['index']] = stamp_to_ns(message.header.stamp)

    def _on_node(self, message: DiagnosticArray) -> None:
        self.last = diagnostic_values(message)
        if self.last['state'] != 'dropped':
            self.answered.add((message.header.stamp.sec, message.header.stamp.nanosec))


def test_a_camera_faster_than_the_node_loses_no_account(start, camvid, graph):
    # Sending takes a second, in which the observer finds the camera on a busy machine too.
    run = start('--source', camvid / 'images' / 'val', '--rate', 20, node='slow_fake_node')
    observer = Observer(graph.context, run.namespace())
    graph.spin(observer)
    code, output = run.finish()
    assert code == 0, output
    report = run.report()
    check_accounts(report)
    assert report['dropped']['superseded'] > 0
    # Camera, node and answers counted by someone else.
    assert report['published'] == len(observer.sent) == NUM_FRAMES
    assert report['processed'] == len(observer.answered) == int(observer.last['processed'])
    assert report['dropped']['superseded'] == int(observer.last['dropped.superseded'])
    assert NUM_FRAMES - int(observer.last['received']) == report['dropped'].get('transport', 0)
    spent_ns = max(observer.sent.values()) - min(observer.sent.values())
    assert report['camera_fps'] == pytest.approx((NUM_FRAMES - 1) * 1e9 / spent_ns, abs=0.01)
    assert ('warning: the camera reached' in output) == (report['camera_fps'] < 18)


def test_counts_that_contradict_each_other_are_an_error_with_the_counts():
    counts = {'published': 9, 'received': 8, 'answered': 5, 'node_drops': {'superseded': 2}, 'pending': 1}
    accounts = Accounts(**counts, seen=4)
    assert accounts.drops() == {'superseded': 2, 'transport': 1, 'pending': 1, 'answer_transport': 1}
    for wrong in ({'published': 7}, {'seen': 6}, {'answered': 6}, {'received': 9}):
        contradiction = dataclasses.replace(accounts, **wrong)
        with pytest.raises(DffError, match=rf'published {contradiction.published} images.*saw') as caught:
            contradiction.drops()
        assert f'received {contradiction.received}, answered {contradiction.answered}' in str(caught.value)


def test_the_monitor_finds_another_camera_on_its_topics(ros_context):
    monitor = Monitor(lambda answer: None, is_live=False, context=ros_context)
    camera = {'state': 'finished', 'published': 3, 'error': ''}
    node = {'state': 'dropped', 'received': 5, 'processed': 0, 'pending': 0, 'dropped.superseded': 5}
    monitor._on_camera(to_diagnostics(Header(), 'dff_camera', 'finished', False, camera))
    monitor._on_status(to_diagnostics(Header(), 'dff_node', 'dropped', True, node))
    with pytest.raises(DffError, match='camera published 3 images; the node received 5'):
        monitor.accounts().drops()
    monitor._on_image(ImageMessage(encoding='rgb8'))
    assert monitor.num_unreadable == 1
    monitor.destroy_node()


def test_others_in_the_domain_change_nothing(start, camvid, graph):
    """A camera on `/image`, a node on `/dff/...`, and a second demo."""
    other = Peer(graph.context)
    graph.spin(other)
    labels = other.create_publisher(ImageMessage, 'dff/segmentation', 10)
    statuses = other.create_publisher(DiagnosticArray, 'dff/status', qos.status_output())
    cameras = other.create_publisher(DiagnosticArray, 'dff_camera/status', qos.history_output())
    facts = {'state': 'key', 'is_key': True, 'received': 999, 'processed': 999, 'pending': 0}
    numbers, stop = [], threading.Event()

    def disturb() -> None:
        while not stop.wait(0.005):
            image = image_message(len(numbers) % 11)
            other.camera.publish(image)
            labels.publish(image)
            statuses.publish(to_diagnostics(image.header, 'dff', 'key', False, facts))
            end = {'state': 'finished', 'published': 7, 'error': ''}
            cameras.publish(to_diagnostics(Header(), 'dff_camera', 'finished', False, end))
            numbers.append(len(numbers))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        runs = [start('--source', camvid, '--rate', 0, '--interval', 1, out=f'out{i}') for i in range(2)]
        ends = [run.finish() for run in runs]
    finally:
        stop.set()
        thread.join()
    assert len(numbers) > NUM_FRAMES
    for run, (code, output) in zip(runs, ends, strict=True):
        assert code == 0, output
        report = run.report()
        check_accounts(report)
        assert (report['published'], report['processed'], report['dropped']) == (NUM_FRAMES, NUM_FRAMES, {})
        assert report['key_frames'] == NUM_FRAMES
        assert report['miou'] == pytest.approx(850 / 9, abs=0.01)


def test_bad_pictures_cost_no_more_than_themselves(start, camvid):
    """One that is too small is a drop; a damaged one ends the run with the results so far."""
    pictures = sorted((camvid / 'images' / 'val').iterdir())
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(pictures[1], quality=95)
    pictures[4].write_bytes(b'no image')
    run = start('--source', pictures[0].parent, '--rate', 0, '--interval', 1)
    code, output = run.finish()
    assert code == 2, output
    assert re.search(rf'^error: .*{pictures[4].name} cannot be decoded', output, re.MULTILINE)
    report = run.report()
    check_accounts(report)
    assert (report['published'], report['processed'], report['dropped']) == (4, 3, {'conversion': 1})
    assert num_video_frames(run.out / 'demo.mp4') == 3
    assert run.pids() == []


def test_a_signal_ends_it_soon_where_the_camera_is_stuck(start, camvid):
    run = start('--source', camvid / 'images' / 'val', '--rate', 2)
    run.wait_for_line('published')
    (camera,) = run.pids('-m\0dff_ros.ros.camera\0')
    os.kill(camera, signal.SIGSTOP)
    run.process.send_signal(signal.SIGINT)
    code, output = run.finish()
    assert code == 130, output
    check_accounts(run.report())
    assert run.pids() == []


def test_a_signal_while_the_node_starts_is_told_in_the_exit_code(start, camvid):
    run = start('--source', camvid, '--rate', 2)
    run.namespace()
    run.process.send_signal(signal.SIGTERM)
    code, output = run.finish()
    assert code == 143, output
    assert run.pids() == []


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_leaves_no_process(start, camvid, number):
    run = start('--source', camvid / 'images' / 'val', '--rate', 2)
    run.wait_for_line('published')
    assert len(run.pids()) == 3
    run.process.send_signal(number)
    run.process.send_signal(number)  # as from a terminal and from `make`: one and the same
    code, output = run.finish()
    assert code == 128 + number, output
    report = run.report()
    check_accounts(report)
    assert 1 <= report['processed'] < NUM_FRAMES
    assert num_video_frames(run.out / 'demo.mp4') == report['processed']
    assert run.pids() == []


def test_a_node_that_dies_is_an_error_and_leaves_no_process(start, camvid):
    run = start('--source', camvid / 'images' / 'val', '--rate', 2)
    run.wait_for_line('published')
    (node,) = run.pids('-m\0fake_node\0')
    os.kill(node, signal.SIGKILL)
    code, output = run.finish()
    assert code == 2, output
    assert 'error: the dff_node was ended by SIGKILL' in output
    assert 'Traceback' not in output
    assert not (run.out / 'demo.json').exists()
    assert run.pids() == []


def test_the_children_of_a_killed_demo_end_too(start, camvid):
    run = start('--source', camvid / 'images' / 'val', '--rate', 2)
    run.wait_for_line('published')
    run.process.kill()
    run.process.communicate()
    deadline_s = time.monotonic() + TIMEOUT_S
    while run.pids() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert run.pids() == []


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--rate', '-1'], '--rate: got -1, allowed is 0'),
        (['--duration', '0'], '--duration: got 0, must be above 0 seconds'),
        (['--seed', '-1'], '--seed: got -1, allowed is 0 to 2147483647'),
        (['--seed', '2147483648'], '--seed: got 2147483648, allowed is 0 to'),
        (['--source', 'nowhere'], "there is no source 'nowhere'"),
        (['--bundle', 'nowhere'], "there is no bundle 'nowhere'"),
        (['--tasks', 'lanes'], "tasks: got 'lanes', but the bundle has segmentation"),
    ],
)
def test_wrong_arguments_are_one_line_before_anything_starts(argv, message, capsys):
    assert demo.main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error


@pytest.mark.parametrize(
    'rate, source, expected',
    [
        ('0', 'camvid', None),  # accuracy counts on every frame
        ('15', 'camvid', 20.0),
        ('0', 'street', 20.0),  # endless
    ],
)
def test_default_duration(rate, source, expected, camvid, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, 'read_spec', lambda bundle: None)
    text = str(camvid) if source == 'camvid' else source
    settings = demo.read_settings(demo.make_parser().parse_args(['--rate', rate, '--source', text]))
    assert settings.duration_s == expected
    assert settings.rate_hz == float(rate)


def test_the_street_moves_at_the_cameras_rate(monkeypatch):
    monkeypatch.setattr(demo, 'read_spec', lambda bundle: None)
    settings = demo.read_settings(demo.make_parser().parse_args(['--rate', '12']))
    assert settings.source.fps == settings.request.fps == 12.0
    with pytest.raises(ConfigError):
        demo.read_settings(demo.make_parser().parse_args(['--rate', '1001']))


def test_the_demo_stays_on_this_machine_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv(PROFILES_VARIABLE, 'own.xml')
    names = ('ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_DOMAIN_ID')
    for name, value in zip(names, ('SUBNET', '7'), strict=True):
        monkeypatch.setenv(name, value)
    set_environment()
    assert [os.environ[name] for name in names] == ['SUBNET', '7']
    assert os.environ[PROFILES_VARIABLE] == 'own.xml'
    for name in names:
        monkeypatch.delenv(name)
    set_environment()
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert 1 <= int(os.environ['ROS_DOMAIN_ID']) <= 101
