# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff calibrate`: writes numbers into the manifest and nothing else, measures them, refuses other data."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('onnxruntime')
from eval_helpers import Clip
from tiny_models import CLASS_NAMES, moving_clip

from dff_ros import cli, sources
from dff_ros.backends.base import open_backend
from dff_ros.bundle import open_bundle
from dff_ros.config import DffConfig

SIZE = (96, 128)


@pytest.fixture
def folder(light_bundle, tmp_path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(light_bundle.path, tmp_path / 'bundle'))


@pytest.fixture
def clip(light_bundle, monkeypatch) -> Clip:
    """Labels that the per-frame answer gets right more often than it says; any --data opens it."""
    images = moving_clip(SIZE, 5, (5, 2))
    random = np.random.default_rng(0)
    with closing(open_backend(light_bundle, DffConfig(backend='onnx', num_threads=1))) as backend:
        found = [backend.predict(backend.extract(image).feature, SIZE, SIZE) for image in images]
    labels = []
    for one in found:
        p = np.clip(one.confidence_HW / 255, 0.001, 0.999)
        is_wrong = random.random(SIZE) > 1 / (1 + np.exp(-0.5 * np.log(p / (1 - p)) - 1.5))
        labels.append(np.where(is_wrong, (one.label_map_HW + 1) % 5, one.label_map_HW))
    for one in labels:
        one[:4] = 255
    made = Clip(images, labels, CLASS_NAMES)
    monkeypatch.setattr(sources, 'open_source', lambda text, **settings: made)
    return made


def calibrate(folder: Path, *words: str) -> int:
    return cli.main(['calibrate', str(folder), '--data', 'clip', '--num_threads', '1', *words])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_numbers_come_into_the_manifest_and_make_confidence_true(folder, clip, capsys, tmp_path):
    before = contents(folder)
    assert calibrate(folder, '--json') == 0
    report = json.loads(capsys.readouterr().out)
    after = contents(folder)
    bundle = open_bundle(folder)
    assert bundle.confidence.to_dict() == report['confidence']
    assert report['confidence']['known_age_s'] == 0.27  # 4 frames at 15 Hz
    assert (report['num_frames'], report['num_labelled'], report['complete']) == (5, 5, True)
    assert {name for name in after if after[name] != before.get(name)} == {'manifest.json'}
    assert set(after) == set(before)
    old, new = (json.loads(found['manifest.json']) for found in (before, after))
    assert {**new, 'version': 4} == {**old, 'version': 4, 'confidence': report['confidence']}
    out, picture = tmp_path / 'found.json', tmp_path / 'found.png'
    assert (
        calibrate(folder, '--measure', '--intervals', '1,3', '--out', str(out), '--plot', str(picture)) == 0
    )
    assert contents(folder) == after
    measured = json.loads(out.read_text())
    assert measured['confidence'] == report['confidence']
    direct, interval = measured['rows']
    assert (direct['interval'], interval['interval'], len(measured['offsets'])) == (1, 3, 3)
    assert (bundle.confidence.gain, bundle.confidence.offset) == pytest.approx((0.5, 1.5), abs=0.1)
    assert direct['head']['accuracy'] == pytest.approx(direct['calibrated']['mean'], abs=0.001)
    assert direct['calibrated']['error'] < 0.02 < 0.1 < direct['head']['error']
    assert direct['uncalibrated'] == direct['head']
    assert interval['head']['accuracy'] < direct['head']['accuracy']
    assert sum(share for _, _, share in direct['calibrated']['bins']) == pytest.approx(1, abs=1e-4)
    assert picture.read_bytes().startswith(b'\x89PNG')
    assert 'calibration error, calibrated' in capsys.readouterr().out
    assert cli.main(['info', str(folder)]) == 0
    assert f'gain {bundle.confidence.gain:g}' in capsys.readouterr().out


def test_pixels_without_an_answer_count_as_missed_in_one_of_the_figures(folder, clip, capsys):
    assert calibrate(folder, '--measure', '--intervals', '1,5', '--json', '--flow', 'dis') == 0
    direct, interval = json.loads(capsys.readouterr().out)['rows']
    assert (direct['unknown_share'], direct['unknown_accuracy']) == (0, None)
    assert direct['miou'] == direct['miou_with_unknown']
    assert 0 < interval['unknown_share'] < 0.2
    assert 0 < interval['unknown_accuracy'] < 1
    assert interval['miou_with_unknown'] != interval['miou']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'class_names': ()}, 'clip has no labels, and confidence is measured against labels'),
        ({'class_names': CLASS_NAMES[::-1]}, 'its classes are not the bundle'),
        ({'stamps_s': [0, 5, 10, 15, 20]}, 'no frame follows another one soon enough'),
        ({'maps': [np.full(SIZE, 255, np.uint8)] * 5}, '0 pixels are right per frame and 0 wrong'),
        (
            {'maps': [np.zeros((48, 64), np.uint8)] * 5},
            r'0: the image is \(96, 128\) and its labels \(48, 64\)',
        ),
    ],
)
def test_data_that_cannot_be_used_are_refused_and_nothing_is_written(folder, clip, capsys, change, message):
    before = contents(folder)
    for name, value in change.items():
        setattr(clip, name, value)
    assert calibrate(folder) == 2
    assert re.search(message, capsys.readouterr().err)
    assert contents(folder) == before


def test_ctrl_c_leaves_the_bundle_as_it_is(folder, clip, monkeypatch):
    before = contents(folder)

    def interrupted(self):
        for index in range(2):
            yield sources.SourceFrame(self.images[index], index * 66_000_000, self.maps[index], str(index))
        raise KeyboardInterrupt

    monkeypatch.setattr(Clip, '__iter__', interrupted)
    assert calibrate(folder) == 130
    assert contents(folder) == before


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--plot', 'a.png'), '--plot and --intervals are for --measure'),
        (('--intervals', '3'), '--plot and --intervals are for --measure'),
        (('--out', 'a.txt'), 'must end in one of .json'),
    ],
)
def test_flags_that_do_not_fit_are_refused(folder, clip, capsys, words, message):
    assert calibrate(folder, *words) == 2
    assert message in capsys.readouterr().err


def test_an_age_out_of_range_is_refused(folder, clip):
    with pytest.raises(SystemExit):
        calibrate(folder, '--max-age', '0')


@pytest.mark.data
def test_the_shipped_model_is_surer_of_itself_than_it_should_be_only_without_its_calibration(
    shared_data, capsys
):
    data = ['--data', f'camvid:{shared_data / "camvid"}', '--split', 'val']
    words = ['--measure', '--intervals', '1,4', '--json', '--num_threads', '2']
    assert cli.main(['calibrate', 'road-r18', *data, *words]) == 0
    for row in json.loads(capsys.readouterr().out)['rows']:
        assert row['head']['mean'] > row['head']['accuracy'] + 0.005
        assert row['calibrated']['error'] < 0.007 < 0.012 < row['head']['error']
