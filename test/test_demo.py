"""The demo from outside: real processes over real DDS on the fake backend; accounts, results, no one left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('rclpy')

from dff_ros.errors import ConfigError
from dff_ros.ros import demo
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

    def __init__(self, out: Path, *argv: object) -> None:
        self.out = out
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
            env=os.environ | {name: value, 'PYTHONPATH': os.pathsep.join(paths), 'PYTHONUNBUFFERED': '1'},
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for_line(self, start: str) -> None:
        for line in self.process.stdout:
            if line.startswith(start):
                return
        raise AssertionError(f'the demo ended before it wrote {start!r}')

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

    def make(*argv: object) -> Demo:
        demos.append(Demo(tmp_path / 'out', *argv))
        return demos[-1]

    yield make
    for item in demos:
        item.process.kill()
        item.process.wait()
        item.process.stdout.close()


def check_accounts(report: dict) -> None:
    assert report.keys() >= KEYS
    assert report['published'] == report['processed'] + sum(report['dropped'].values())


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


def test_a_camera_faster_than_the_node_loses_no_account(start, camvid):
    run = start('--source', camvid / 'images' / 'val', '--rate', 1000)
    code, output = run.finish()
    assert code == 0, output
    report = run.report()
    check_accounts(report)
    assert report['published'] == NUM_FRAMES
    assert report['processed'] >= 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_leaves_no_process(start, camvid, number):
    run = start('--source', camvid / 'images' / 'val', '--rate', 2)
    run.wait_for_line('published')
    assert len(run.pids()) == 3
    run.process.send_signal(number)
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
        (['--source', 'nowhere'], "there is no source 'nowhere'"),
        (['--bundle', 'nowhere'], "there is no bundle 'nowhere'"),
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
