# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff run` over made videos and data sets: every frame once, figures by hand, nothing lost at the end."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
from fake_backend import FakeBackend
from PIL import Image

from dff_ros import cli, opening, runner
from dff_ros.config import DffConfig
from dff_ros.data.classes import CAMVID_CLASSES, CAMVID_COLOURS
from dff_ros.errors import DffError
from dff_ros.model_spec import ModelSpec
from dff_ros.sources import open_source
from dff_ros.video import VideoReader, VideoWriter

SPEC = ModelSpec(
    class_names=CAMVID_CLASSES,
    class_colours=tuple(tuple(colour) for colour in CAMVID_COLOURS.tolist()),
    nominal_size=(32, 48),
)


@pytest.fixture
def backend(monkeypatch):
    """Every bundle is this one: the label map is filled with the red value of the key image."""
    fake = FakeBackend()
    monkeypatch.setattr(
        runner,
        'open_bundle',
        lambda name: types.SimpleNamespace(spec=SPEC, name=name, stride=16, confidence=None),
    )

    def open_backend(bundle, config, *, is_background=False):
        return FakeBackend() if is_background else fake

    monkeypatch.setattr(opening, 'open_backend', open_backend)
    return fake


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'in.mp4'
    with VideoWriter(path, 10) as writer:
        for index in range(12):
            writer.write(np.full((32, 48, 3), index, np.uint8))
    return path


@pytest.fixture
def camvid(tmp_path):
    """Six frames of value 0..5; the label is the value, but class 9 on the lower half of frames 2 and 3."""
    root = tmp_path / 'camvid'
    names = [f'0016E5_{7959 + 2 * value:05d}' for value in range(6)]
    for folder in ('images/val', 'labels/val', 'splits'):
        (root / folder).mkdir(parents=True)
    for value, name in enumerate(names):
        labels = np.full((32, 48), value, np.uint8)
        labels[16:] = 9 if value in (2, 3) else value
        Image.fromarray(np.full((32, 48, 3), value, np.uint8)).save(
            root / f'images/val/{name}.jpg', quality=95
        )
        Image.fromarray(labels).save(root / f'labels/val/{name}.png')
    (root / 'splits' / 'val.txt').write_text('\n'.join(names))
    return root


def run(*argv) -> int:
    return cli.main(['run', *(str(arg) for arg in argv)])


def test_every_frame_is_answered_written_and_counted(backend, video, tmp_path, capsys):
    out, report_path, labels = tmp_path / 'o' / 'out.mp4', tmp_path / 'o' / 'r.json', tmp_path / 'labels'
    assert run(video, '--interval', 5, '--out', out, '--report', report_path, '--labels-out', labels) == 0
    report = json.loads(report_path.read_text())
    assert (report['processed'], report['key_frames'], report['interval']) == (12, 3, 5)
    assert report['age_frames_mean'] == pytest.approx((10 + 10 + 1) / 12, abs=1e-3)
    assert report['miou'] is None and report['iou_per_class'] is None
    assert (report['source'], report['backend'], report['size']) == (str(video), 'fake', [32, 48])
    assert report['latency_ms']['p50'] <= report['latency_ms']['p99']
    assert set(report['stages_ms']) == {'extract', 'propagate', 'predict', 'predict_segmentation'}
    assert report['fps'] > 0 and report['reset_causes'] == {}
    with VideoReader(out) as reader:
        stamps = [stamp_ns // 10**6 for _, stamp_ns in reader]
    assert stamps == [100 * index for index in range(12)]
    assert sorted(path.name for path in labels.iterdir()) == [f'{index:06d}.png' for index in range(12)]
    with Image.open(labels / '000005.png') as image:
        key_value = round(float(np.asarray(image).mean()))
    assert 4 <= key_value <= 6  # the key image's value, after lossy coding
    assert [call.split()[0] for call in backend.calls[1:-1]].count('extract') == 3
    assert backend.calls[-1] == 'close'
    text = capsys.readouterr().out
    assert '3 (25.0 %), interval 5' in text and f'wrote {out}' in text


def test_accuracy_against_labels(backend, camvid, tmp_path):
    assert run(camvid, '--interval', 1, '--report', tmp_path / 'r.json') == 0
    report = json.loads((tmp_path / 'r.json').read_text())
    expected = dict.fromkeys(CAMVID_CLASSES) | {
        'sky': 100.0, 'building': 100.0, 'pole': 50.0, 'road': 50.0, 'pavement': 100.0, 'tree': 100.0,
        'pedestrian': 0.0,
    }  # fmt: skip
    assert report['iou_per_class'] == expected
    assert report['miou'] == pytest.approx(500 / 7, abs=0.01)


def test_label_maps_of_another_size_are_written_as_they_are_drawn_and_not_scored(backend, camvid, tmp_path):
    labels, out, report = tmp_path / 'labels', tmp_path / 'o.mp4', tmp_path / 'r.json'
    size = ('--segmentation.output_size', '24x20')
    assert run(camvid, *size, '--labels-out', labels, '--out', out, '--report', report) == 0
    with Image.open(labels / '000003.png') as image:
        assert image.size == (24, 20)
    assert json.loads(report.read_text())['miou'] is None
    with VideoReader(out) as reader:
        assert len(list(reader)) == 6


@pytest.mark.parametrize('size', ['0x10', '24', '24x20x3', '5000x10'])
def test_a_size_that_is_none_is_refused(backend, video, capsys, size):
    assert run(video, '--segmentation.output_size', size) == 2
    error = capsys.readouterr().err
    assert f"segmentation.output_size: got '{size}', allowed is source, network or WIDTHxHEIGHT" in error


def test_key_frames_of_a_worker_are_counted_and_frames_go_on_without_them(backend, video, capsys):
    code = run(video, '--interval', 5, '--refresh', 'worker', '--json')
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (report['processed'], report['refresh'], report['refresh_threads']) == (12, 'worker', 1)
    assert [call for call in backend.calls if call.startswith('extract')] == [backend.calls[1]]
    assert 1 <= report['key_frames'] <= 3  # how many more are ready in time depends on the machine


def test_num_frames_stops_early(backend, video, tmp_path):
    assert run(video, '--num-frames', 4, '--report', tmp_path / 'r.json') == 0
    assert json.loads((tmp_path / 'r.json').read_text())['processed'] == 4


def test_a_frame_of_another_size_resets_the_key(backend, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for index, size in enumerate([(32, 48), (32, 48), (48, 32), (48, 32)]):
        Image.fromarray(np.full((*size, 3), index, np.uint8)).save(folder / f'{index}.png')
    assert run(folder, '--report', tmp_path / 'r.json', '--out', tmp_path / 'o.mp4') == 0
    report = json.loads((tmp_path / 'r.json').read_text())
    assert (report['processed'], report['key_frames'], report['reset_causes']) == (4, 2, {'size': 1})


def test_a_damaged_frame_ends_the_run_but_keeps_what_was_done(backend, tmp_path, capsys):
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.full((32, 48, 3), index, np.uint8)).save(folder / f'{index}.png')
    (folder / '2.png').write_bytes((folder / '2.png').read_bytes()[:40])
    assert run(folder, '--report', tmp_path / 'r.json', '--out', tmp_path / 'o.mp4') == 2
    assert '2.png cannot be decoded as an image' in capsys.readouterr().err
    assert json.loads((tmp_path / 'r.json').read_text())['processed'] == 2
    with VideoReader(tmp_path / 'o.mp4') as reader:
        assert len(list(reader)) == 2


def test_ctrl_c_keeps_what_was_done(backend, video, tmp_path, monkeypatch):
    extract = backend.extract

    def interrupted(image_HW3):
        if image_HW3[0, 0, 0] >= 8:
            raise KeyboardInterrupt
        return extract(image_HW3)

    monkeypatch.setattr(backend, 'extract', interrupted)
    assert run(video, '--interval', 1, '--report', tmp_path / 'r.json', '--out', tmp_path / 'o.mp4') == 130
    num_done = json.loads((tmp_path / 'r.json').read_text())['processed']
    assert 7 <= num_done <= 9  # lossy coding may move the value by one
    with VideoReader(tmp_path / 'o.mp4') as reader:
        assert len(list(reader)) == num_done
    assert backend.calls[-1] == 'close'


@pytest.mark.parametrize(
    'argv, message',
    [
        (['nowhere.mp4'], "there is no source 'nowhere.mp4'"),
        (['street', '--bundle', 'nowhere'], "there is no bundle 'nowhere'"),
        (['street', '--config', 'nowhere.yaml'], 'cannot read nowhere.yaml'),
    ],
)
def test_what_is_missing_is_one_line(argv, message, capsys):
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error
    assert error.count('\n') == 1


def test_json_is_all_that_is_printed(backend, video, tmp_path, capsys):
    report_path, out = tmp_path / 'r.json', tmp_path / 'o.mp4'
    assert run(video, '--interval', 5, '--json', '--report', report_path, '--out', out) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed['processed'], printed['key_frames']) == (12, 3)
    assert printed == json.loads(report_path.read_text())


@pytest.mark.parametrize(
    'flag, name, message',
    [
        ('--out', 'a.xyz', 'the file name must end in one of .mp4, .m4v, .mkv, .mov, .avi'),
        ('--report', 'a.txt', 'the file name must end in one of .json'),
        ('--out', 'folder.mp4', 'is a folder: give a file name'),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_the_work(
    backend, video, tmp_path, capsys, flag, name, message
):
    (tmp_path / 'folder.mp4').mkdir()
    assert run(video, flag, tmp_path / name) == 2
    said = capsys.readouterr()
    assert said.out == '' and f'{tmp_path / name}' in said.err and message in said.err
    assert backend.calls == []


@pytest.mark.parametrize('link', ['none', 'symbolic', 'hard', 'of the input'])
def test_the_input_is_never_overwritten(backend, video, tmp_path, capsys, link):
    before = video.read_bytes()
    source, out = video, tmp_path / 'out.mp4'
    if link == 'none':
        out = video
    elif link == 'symbolic':
        out.symlink_to(video)
    elif link == 'hard':
        out.hardlink_to(video)
    else:
        source, out = tmp_path / 'link.mp4', video
        source.symlink_to(video)
    assert run(source, '--out', out) == 2
    said = capsys.readouterr()
    assert f'--out {out} would overwrite the input {source}' in said.err and said.out == ''
    assert video.read_bytes() == before and backend.calls == []


def test_files_of_an_input_folder_are_never_overwritten(backend, camvid, tmp_path, capsys):
    labels = camvid / 'labels/val'
    before = {path.name: path.read_bytes() for path in labels.iterdir()}
    assert run(f'camvid:{camvid}', '--labels-out', labels) == 2
    assert f'--labels-out {labels} exists inside the input folder {camvid}' in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in labels.iterdir()} == before
    assert run(camvid, '--interval', 1, '--labels-out', camvid / 'new') == 0
    assert len(list((camvid / 'new').iterdir())) == 6
    assert f'wrote {camvid / "new"}' in capsys.readouterr().out


def test_only_what_was_written_is_named(backend, video, tmp_path, monkeypatch, capsys):
    def broken(self):
        raise DffError('cannot write the video: no space left')

    monkeypatch.setattr(VideoWriter, 'close', broken)
    (tmp_path / 'old.mp4').write_bytes(b'of another run')
    report, labels = tmp_path / 'r.json', tmp_path / 'labels'
    assert run(video, '--out', tmp_path / 'old.mp4', '--report', report, '--labels-out', labels) == 2
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith('wrote')] == [
        f'wrote {labels}', f'wrote {report}',
    ]  # fmt: skip
    assert 'error: cannot write the video: no space left\n' in said.err
    assert json.loads(report.read_text())['processed'] == 12
    assert backend.calls[-1] == 'close'


@pytest.mark.parametrize('error', [RuntimeError('a broken graph'), KeyboardInterrupt()])
def test_the_backend_is_freed_where_its_warm_up_fails(backend, video, monkeypatch, error):
    def failing(size):
        raise error

    monkeypatch.setattr(backend, 'warm_up', failing)
    with pytest.raises(type(error)):
        runner.Runner(DffConfig(), open_source(str(video)), video=None, labels_folder=None)
    assert backend.calls == ['close']


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--num-frames', 'abc'], "argument --num-frames: got 'abc', expected a whole number of at least 1"),
        (['--num-frames', '0'], "got '0', expected a whole number of at least 1"),
        (['--seed', '-1'], "argument --seed: got '-1', expected a whole number from 0 to 2147483647"),
        (['--seed', '2147483648'], "got '2147483648', expected a whole number from 0 to 2147483647"),
    ],
)
def test_bad_numbers_are_named_with_the_range(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        run('street', *argv)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
